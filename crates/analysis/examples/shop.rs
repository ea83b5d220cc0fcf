//! Writes the capture that the tests of reports are about to standard output.
//!
//! `cargo run -p heapkeeper-analysis --example shop > tests/captures/shop.hk`

use std::io::Write;

#[path = "../fixtures/shop_capture.rs"]
mod shop;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(&shop::capture(&shop::header(), &shop::ticks()))
}
