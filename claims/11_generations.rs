//! Where survivors go, and which generation is examined most.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace};
use serde_json::{Value, json};

#[derive(Trace, Default)]
struct Node {
    itself: RefCell<Option<Gc<Node>>>,
}

const GENERATIONS: [Generation; 3] = [Generation::Young, Generation::Middle, Generation::Old];

/// The youngest generation whose collection frees a cycle that has survived so many collections, each of one more.
fn generation_after(heap: &Heap, collections: usize) -> Option<usize> {
    let node = heap.alloc(Node::default());
    *node.itself.borrow_mut() = Some(node.clone());
    for generation in &GENERATIONS[..collections] {
        heap.collect(*generation);
    }
    let reference = Gc::downgrade(&node);
    drop(node);
    GENERATIONS.iter().position(|generation| {
        heap.collect(*generation);
        reference.is_empty()
    })
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let after = [0, 1, 2].map(|collections| generation_after(&heap, collections));
    let collections = || heap.stats().collections.generations.map(|generation| generation.collections);
    let before = collections();
    let kept = (0..30 * heap.thresholds()[0]).map(|_| heap.alloc(Node::default())).collect::<Vec<_>>();
    let now = collections();
    drop(kept);
    let examined = [0, 1, 2].map(|generation| now[generation] - before[generation]);
    let young_most = examined[0] > examined[1] && examined[1] > examined[2];
    let moves_up = after == [Some(0), Some(1), Some(2)];
    json!({
        "generation_after_0_1_2_collections": after,
        "young_examined_most": young_most,
        "verdict": if moves_up && young_most { "true" } else { "false" },
    })
}
