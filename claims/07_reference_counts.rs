//! By how much a count moves with 1000 more handles, and how far it comes back without them.

use heapkeeper::{Gc, Heap};
use serde_json::{Value, json};

pub fn measure() -> Value {
    let heap = Heap::new();
    let thing = heap.alloc(());
    let before = Gc::refcount(&thing) as i64;
    let references = vec![thing.clone(); 1000];
    let during = Gc::refcount(&thing) as i64;
    drop(references);
    let after = Gc::refcount(&thing) as i64;
    let (rise, fall) = (during - before, after - during);
    let verdict = if (rise, fall) == (1000, -1000) { "true" } else { "false" };
    json!({ "rise": rise, "fall": fall, "verdict": verdict })
}
