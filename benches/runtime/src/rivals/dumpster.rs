//! dumpster, the unsynchronised half: counts; collects by itself once more references were dropped than there are.

use std::cell::RefCell;

use dumpster::Trace;
use dumpster::unsync::{self, Gc};

use crate::handles::{Collecting, handle_objects};

pub struct Thread;

handle_objects! {
    context: Thread, handle: Gc, cell: RefCell, derive: [Trace],
    new: |_thread, value| Gc::new(value),
}

impl Collecting for Thread {
    fn start() -> Self {
        Thread
    }

    fn pause(&mut self) {
        unsync::set_collect_condition(|_| false);
    }

    fn resume(&mut self) {
        unsync::set_collect_condition(unsync::default_collect_condition);
    }

    fn collect(&mut self) {
        unsync::collect();
    }
}
