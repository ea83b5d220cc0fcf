//! heapkeeper: counts, on a heap of its own; collects by itself, generation by generation.

use std::cell::RefCell;

use heapkeeper::{Gc, Generation, Heap, Trace};

use crate::handles::{Collecting, handle_objects};

handle_objects! {
    context: Heap, handle: Gc, cell: RefCell, derive: [Trace],
    new: |heap, value| heap.alloc(value),
}

impl Collecting for Heap {
    fn start() -> Self {
        Heap::new()
    }

    fn pause(&mut self) {
        self.disable();
    }

    fn resume(&mut self) {
        self.enable();
    }

    fn collect(&mut self) {
        Heap::collect(self, Generation::Old);
    }

    fn own_bytes(&self) -> u64 {
        self.stats().live_bytes as u64
    }
}
