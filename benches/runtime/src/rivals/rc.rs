//! `std::rc::Rc`: counts, and nothing that finds cycles.

use std::cell::RefCell;
use std::rc::Rc;

use crate::handles::{Collecting, handle_objects};

pub struct Thread;

handle_objects! {
    context: Thread, handle: Rc, cell: RefCell, derive: [],
    new: |_thread, value| Rc::new(value),
}

impl Collecting for Thread {
    fn start() -> Self {
        Thread
    }

    fn pause(&mut self) {}

    fn resume(&mut self) {}

    fn collect(&mut self) {}
}
