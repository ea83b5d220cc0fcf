//! bacon_rajan_cc: counts; collects when told to. It has no derive, so its traces are written here.

use std::cell::RefCell;

use bacon_rajan_cc::{Cc, Trace, Tracer, collect_cycles, number_of_roots_buffered};

use crate::handles::{Collecting, handle_objects};

/// How many possible roots may wait. Its documentation names no number; this keeps both their memory and the share of
/// collections that look at nothing new small.
const WAITING: usize = 10_000;

pub struct Thread {
    paused: bool,
}

handle_objects! {
    context: Thread, handle: Cc, cell: RefCell, derive: [],
    new: |_thread, value| Cc::new(value),
}

impl Collecting for Thread {
    fn start() -> Self {
        Thread { paused: false }
    }

    #[inline]
    fn pace(&mut self) {
        if !self.paused && number_of_roots_buffered() >= WAITING {
            collect_cycles();
        }
    }

    fn pause(&mut self) {
        self.paused = true;
    }

    fn resume(&mut self) {
        self.paused = false;
    }

    fn collect(&mut self) {
        collect_cycles();
    }
}

impl Trace for Node {
    fn trace(&self, tracer: &mut Tracer) {
        self.next.trace(tracer);
    }
}

impl Trace for Link {
    fn trace(&self, tracer: &mut Tracer) {
        self.target.trace(tracer);
    }
}

impl Trace for Tree {
    fn trace(&self, tracer: &mut Tracer) {
        self.children.trace(tracer);
    }
}

impl Trace for Vertex {
    fn trace(&self, tracer: &mut Tracer) {
        self.edges.borrow().iter().for_each(|edge| edge.trace(tracer));
    }
}

impl Trace for Value {
    fn trace(&self, tracer: &mut Tracer) {
        match self {
            Value::Nil | Value::Number(_) => {}
            Value::Pair(pair) => pair.trace(tracer),
            Value::Closure(closure) => closure.trace(tracer),
            Value::Place(place) => place.trace(tracer),
        }
    }
}

impl Trace for Pair {
    fn trace(&self, tracer: &mut Tracer) {
        self.head.trace(tracer);
        self.tail.trace(tracer);
    }
}

impl Trace for Closure {
    fn trace(&self, tracer: &mut Tracer) {
        self.frame.trace(tracer);
    }
}

impl Trace for Place {
    fn trace(&self, tracer: &mut Tracer) {
        self.value.trace(tracer);
    }
}

impl Trace for Frame {
    fn trace(&self, tracer: &mut Tracer) {
        self.variables.borrow().iter().for_each(|variable| variable.trace(tracer));
        self.around.trace(tracer);
    }
}
