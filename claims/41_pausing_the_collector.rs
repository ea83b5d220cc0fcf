//! Whether collections start by themselves while the collector is paused.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace};
use serde_json::{Value, json};

#[derive(Trace, Default)]
struct Node {
    itself: RefCell<Option<Gc<Node>>>,
}

/// Whether a cycle that nobody needs goes while the program makes a million objects.
fn collected_meanwhile(heap: &Heap) -> bool {
    let node = heap.alloc(Node::default());
    *node.itself.borrow_mut() = Some(node.clone());
    heap.collect(Generation::Old);
    let reference = Gc::downgrade(&node);
    drop(node);
    let mut kept = Vec::new();
    while !reference.is_empty() && kept.len() < 1_000_000 {
        kept.push(heap.alloc(Node::default()));
    }
    reference.is_empty()
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let paused = {
        let _pause = heap.paused();
        collected_meanwhile(&heap)
    };
    let running = collected_meanwhile(&heap);
    json!({
        "collected_while_running": running,
        "collected_while_paused": paused,
        "verdict": if running && !paused { "true" } else { "false" },
    })
}
