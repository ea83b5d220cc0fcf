//! gc (rust-gc): marks and sweeps by itself as the bytes that it allocated grow; drops free nothing.
//!
//! Its derives define implementations inside constants, which the compiler has come to warn about.

#![allow(non_local_definitions)]

use gc::{Finalize, Gc, GcCell, Trace};

use crate::handles::{Collecting, handle_objects};

pub struct Thread {
    threshold: usize,
}

handle_objects! {
    context: Thread, handle: Gc, cell: GcCell, derive: [Trace, Finalize],
    new: |_thread, value| Gc::new(value),
}

impl Collecting for Thread {
    fn start() -> Self {
        Thread { threshold: 0 }
    }

    fn pause(&mut self) {
        gc::configure(|config| self.threshold = std::mem::replace(&mut config.threshold, usize::MAX));
    }

    fn resume(&mut self) {
        gc::configure(|config| config.threshold = self.threshold);
    }

    fn collect(&mut self) {
        gc::force_collect();
    }
}
