//! What counts free, and what only a collection does.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace, Weak};
use serde_json::{Value, json};

#[derive(Trace, Default)]
struct Node {
    other: RefCell<Option<Gc<Node>>>,
}

/// Two objects, the first referring to the second, and back if closed; only weak references to them stay.
fn drop_two(heap: &Heap, closed: bool) -> [Weak<Node>; 2] {
    let (first, second) = (heap.alloc(Node::default()), heap.alloc(Node::default()));
    *first.other.borrow_mut() = Some(second.clone());
    if closed {
        *second.other.borrow_mut() = Some(first.clone());
    }
    [Gc::downgrade(&first), Gc::downgrade(&second)]
}

fn alive(references: &[Weak<Node>]) -> usize {
    references.iter().filter(|reference| !reference.is_empty()).count()
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let (chain, cycle) = (drop_two(&heap, false), drop_two(&heap, true));
    let (chain_alive, cycle_alive) = (alive(&chain), alive(&cycle));
    heap.collect(Generation::Old);
    let after = alive(&cycle);
    json!({
        "chain_alive": chain_alive,
        "cycle_alive": cycle_alive,
        "cycle_alive_after_collection": after,
        "verdict": if (chain_alive, cycle_alive, after) == (0, 2, 0) { "true" } else { "false" },
    })
}
