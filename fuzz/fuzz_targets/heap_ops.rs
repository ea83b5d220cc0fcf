//! Bytes → operations → a heap and the model it must agree with. The model is that of the generated programs in
//! `crates/heap/tests`; the first byte chooses between a roomy range and one that large requests overfill.
//!
//! `cargo +nightly fuzz run heap_ops` in the repository's root.
#![no_main]

#[path = "../../crates/heap/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

use support::model::{Model, Surroundings};
use support::program::{OP_BYTES, Op};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let program = rest.chunks_exact(OP_BYTES).map(|op| Op::decode(op.try_into().unwrap()));
    if first % 2 == 0 {
        Model::run(1 << 30, Surroundings::ROOMY, program);
    } else {
        Model::run(0, Surroundings::TIGHT, program);
    }
});
