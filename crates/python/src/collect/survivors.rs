//! What is hidden from CPython while it collects: objects that are alive, or not looked at this time.

use std::cell::{Cell, UnsafeCell};

use crate::collect::list::{Header, HeaderPtr};
use crate::collect::state::{CollectorState, OLD};

/// The list of survivors while CPython disposes of the trash. At a fixed address; empty at all other times.
pub struct Survivors {
    list: UnsafeCell<Header>,
    /// How many of them are missing in what CPython counts as long-lived.
    pub uncounted: Cell<usize>,
    /// How many there were when they were last put in order.
    pub ordered: Cell<usize>,
}

impl Survivors {
    pub const fn new() -> Survivors {
        Survivors { list: UnsafeCell::new(Header::new()), uncounted: Cell::new(0), ordered: Cell::new(0) }
    }

    /// The list's head.
    pub fn head(&self) -> HeaderPtr {
        HeaderPtr(self.list.get())
    }

    /// Make the list usable, once it has its place.
    pub fn clear(&self) {
        // SAFETY: nothing is linked to it yet.
        unsafe { self.head().clear() };
    }

    /// Add them to what CPython counts as long-lived, once. It sets that number after its search, before any code of the program
    /// runs, from what we left it with; from then on the next full collection's date depends on it.
    pub fn count(&self, state: CollectorState) {
        state.add_long_lived(self.uncounted.take());
    }

    /// Put the survivors back where they belong, in the oldest generation and before what is there. CPython only ever appends
    /// to that list while it disposes.
    pub fn come_back(&self, state: CollectorState) {
        // SAFETY: the GIL is held.
        unsafe { state.head(OLD).take_all_before(self.head()) };
    }

    /// Leave CPython the young generations alone.
    pub fn hide_old(&self, state: CollectorState) {
        // SAFETY: the GIL is held; two different lists.
        unsafe { self.head().take_all(state.head(OLD)) };
        self.uncounted.set(state.long_lived_total() + state.long_lived_pending());
    }
}
