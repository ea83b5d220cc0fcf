//! Draws the flame graph of stacks in JSON from standard input: of one record, or of what changed where the JSON is a list
//! of two.
//!
//! `cargo run -p heapkeeper-analysis --example flame < stacks.json > flame.html`
//!
//! docs/pictures/make.sh and tests/flame use it.

use std::io::Read;

use heapkeeper_analysis::flame;
use heapkeeper_analysis::stacks::Stacks;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let page = match serde_json::from_str::<[Stacks; 2]>(&json) {
        Ok([before, after]) => flame::difference_page(&before, &after),
        Err(_) => flame::page(&serde_json::from_str(&json)?),
    };
    print!("{page}");
    Ok(())
}
