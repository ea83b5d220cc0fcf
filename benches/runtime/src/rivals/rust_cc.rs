//! rust-cc with its default features: counts; collects by itself as the bytes that it allocated grow.

use std::cell::RefCell;

use rust_cc::config::config;
use rust_cc::{Cc, Finalize, Trace};

use crate::handles::{Collecting, handle_objects};

pub struct Thread;

handle_objects! {
    context: Thread, handle: Cc, cell: RefCell, derive: [Trace, Finalize],
    new: |_thread, value| Cc::new(value),
}

fn collect_by_itself(yes: bool) {
    config(|config| config.set_auto_collect(yes)).expect("nothing else reads the configuration");
}

impl Collecting for Thread {
    fn start() -> Self {
        Thread
    }

    fn pause(&mut self) {
        collect_by_itself(false);
    }

    fn resume(&mut self) {
        collect_by_itself(true);
    }

    fn collect(&mut self) {
        rust_cc::collect_cycles();
    }
}
