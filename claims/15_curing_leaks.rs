//! Which leaks a collection cures.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace, Weak};
use serde_json::{Value, json};

#[derive(Trace, Default)]
struct Session {
    itself: RefCell<Option<Gc<Session>>>,
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let freed = |watched: Vec<Weak<Session>>| {
        heap.collect(Generation::Old);
        watched.iter().filter(|session| session.is_empty()).count()
    };
    let session = || heap.alloc(Session::default());
    let in_cycles = freed(
        (0..100)
            .map(|_| {
                let session = session();
                *session.itself.borrow_mut() = Some(session.clone());
                Gc::downgrade(&session)
            })
            .collect(),
    );
    let mut history = Vec::new();
    let in_a_list = freed(
        (0..100)
            .map(|_| {
                history.push(session());
                Gc::downgrade(&history[history.len() - 1])
            })
            .collect(),
    );
    let verdict = match (in_cycles == 100, in_a_list == 100) {
        (true, true) => "true",
        (false, false) => "false",
        _ => "partly",
    };
    json!({ "freed_of_100_in_cycles": in_cycles, "freed_of_100_in_a_list": in_a_list, "verdict": verdict })
}
