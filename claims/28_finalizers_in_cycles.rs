//! What becomes of objects with finalizers in a cycle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use heapkeeper::{Finalize, Gc, Generation, Heap, Trace};
use serde_json::{Value, json};

#[derive(Trace)]
#[trace(finalize)]
struct Node {
    other: RefCell<Option<Gc<Node>>>,
    #[trace(skip)]
    finalized: Rc<Cell<u32>>,
}

impl Finalize for Node {
    fn finalize(this: &Gc<Node>) {
        this.finalized.set(this.finalized.get() + 1);
    }
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let finalized: Rc<Cell<u32>> = Rc::default();
    let node = || heap.alloc(Node { other: RefCell::default(), finalized: Rc::clone(&finalized) });
    let (first, second) = (node(), node());
    *first.other.borrow_mut() = Some(second.clone());
    *second.other.borrow_mut() = Some(first.clone());
    let references = [Gc::downgrade(&first), Gc::downgrade(&second)];
    drop((first, second));
    let uncollectable = heap.collect(Generation::Old).uncollectable;
    let alive = references.iter().filter(|reference| !reference.is_empty()).count();
    json!({
        "finalizers_run": finalized.get(),
        "objects_left": alive,
        "in_gc_garbage": uncollectable,
        "verdict": if alive > 0 { "true" } else { "false" },
    })
}
