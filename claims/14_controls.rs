//! Running, switching off and tuning the collector.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace};
use serde_json::{Value, json};

#[derive(Trace, Default)]
struct Node {
    itself: RefCell<Option<Gc<Node>>>,
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let defaults = heap.thresholds();
    let leak = || {
        let node = heap.alloc(Node::default());
        *node.itself.borrow_mut() = Some(node.clone());
    };
    leak();
    let collect = heap.collect(Generation::Old).collected == 1;
    heap.disable();
    (0..10_000).for_each(|_| leak());
    let disable = heap.stats().objects == 10_000;
    heap.collect(Generation::Old);
    heap.enable();
    heap.set_thresholds([5000, 20, 20]);
    (0..4_000).for_each(|_| leak());
    let set_threshold = heap.stats().objects == 4_000 && heap.thresholds() == [5000, 20, 20];
    let verdict = match [collect, disable, set_threshold] {
        [true, true, true] => "true",
        [false, false, false] => "false",
        _ => "partly",
    };
    json!({
        "collect": collect,
        "disable": disable,
        "set_threshold": set_threshold,
        "default_thresholds": defaults,
        "verdict": verdict,
    })
}
