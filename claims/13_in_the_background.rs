//! When an unreachable cycle goes, and in which thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use heapkeeper::{Gc, Generation, Heap, Trace};
use serde_json::{Value, json};

#[derive(Trace, Default)]
struct Node {
    itself: RefCell<Option<Gc<Node>>>,
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let node = heap.alloc(Node::default());
    *node.itself.borrow_mut() = Some(node.clone());
    heap.collect(Generation::Old);
    let threads: Rc<RefCell<Vec<ThreadId>>> = Rc::default();
    let seen = Rc::clone(&threads);
    let reference = Gc::downgrade_with(&node, move |_| seen.borrow_mut().push(thread::current().id()));
    drop(node);

    thread::sleep(Duration::from_millis(200));
    let while_waiting = threads.borrow().len();
    let mut kept = Vec::new();
    while threads.borrow().is_empty() && kept.len() < 3_000_000 {
        kept.push(heap.alloc(Node::default()));
    }
    let in_this_thread = *threads.borrow() == [thread::current().id()];
    let while_allocating = threads.borrow().len() > while_waiting && reference.is_empty();
    json!({
        "while_the_program_waited": while_waiting > 0,
        "while_it_allocated": while_allocating,
        "in_the_thread_that_allocated": in_this_thread,
        "verdict": if while_waiting > 0 || !in_this_thread { "true" } else { "false" },
    })
}
