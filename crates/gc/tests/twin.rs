//! Generated programs on the collector and on a naive twin that works on sets: see `support/sets.rs`. Both logs must agree,
//! event by event: what is collected, cleared, called, finalized, resurrected, freed and listed, in which order, and after
//! each step every object's generation, count and references.
//!
//! `HEAPKEEPER_PROGRAMS` sets how many are generated, **3000** by default.

mod support;

use proptest::array::uniform4;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use support::program::{Coverage, run};

fn programs() -> u32 {
    std::env::var("HEAPKEEPER_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000)
}

proptest! {
    #![proptest_config(Config { cases: programs(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn programs_agree_with_the_twin(
        program in vec(uniform4(any::<u8>()), 1..120),
        // Blocks of 32 bytes, 64 and 128 at least.
        least_room in prop_oneof![2 => Just(1usize), 1 => Just(5), 1 => Just(13)],
    ) {
        run(&program, least_room);
    }
}

/// The programs do reach every kind of event; otherwise agreement would mean little.
#[test]
fn programs_reach_every_event() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut all = Coverage::default();
    for _ in 0..200 {
        let program = vec(uniform4(any::<u8>()), 100..200).new_tree(&mut runner).unwrap().current();
        let seen = run(&program, 1);
        all.collected += seen.collected;
        all.uncollectable += seen.uncollectable;
        all.resurrected += seen.resurrected;
        all.called += seen.called;
        all.finalized += seen.finalized;
        for (sum, n) in all.by_generation.iter_mut().zip(seen.by_generation) {
            *sum += n;
        }
    }
    let least = all.collected.min(all.uncollectable).min(all.resurrected).min(all.called).min(all.finalized);
    assert!(least >= 100 && all.by_generation.iter().all(|n| *n >= 100), "{all:?}");
}
