//! In which order the last handle goes, the finalizer runs, and the program goes on.

use std::cell::RefCell;
use std::rc::Rc;

use heapkeeper::{Finalize, Gc, Heap, Trace};
use serde_json::{Value, json};

#[derive(Trace)]
#[trace(finalize)]
struct Watched {
    #[trace(skip)]
    events: Rc<RefCell<Vec<&'static str>>>,
}

impl Finalize for Watched {
    fn finalize(this: &Gc<Watched>) {
        this.events.borrow_mut().push("finalized");
    }
}

pub fn measure() -> Value {
    let heap = Heap::new();
    let events = Rc::new(RefCell::new(Vec::new()));
    let watched = heap.alloc(Watched { events: Rc::clone(&events) });
    events.borrow_mut().push("last reference goes");
    drop(watched);
    events.borrow_mut().push("next line");
    let events = events.take();
    let at_once = events == ["last reference goes", "finalized", "next line"];
    json!({ "events": events, "verdict": if at_once { "true" } else { "false" } })
}
