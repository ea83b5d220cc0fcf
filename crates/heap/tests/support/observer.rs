//! An observer that writes down what the heap shows it, for the model to compare with what it must have been shown.

use std::collections::HashSet;
use std::ffi::c_void;

use heapkeeper_heap::Observer;

/// What one heap's observer saw. Lives in a box: the heap holds its address.
#[derive(Default)]
pub struct Seen {
    /// Addresses of marked blocks that live.
    pub marked: HashSet<usize>,
    /// Block and bytes of the allocations shown since the model last looked.
    pub allocated: Vec<(usize, usize)>,
    /// Marked blocks whose frees were shown since then.
    pub freed: Vec<usize>,
    /// What the heap gets as its next budget.
    pub budget: isize,
    calls: usize,
}

impl Seen {
    /// The observer that a heap is given.
    pub fn observer(&mut self) -> Observer {
        Observer { context: (&raw mut *self).cast(), allocated, freed }
    }
}

/// # Safety
/// `context` is a live `Seen`.
unsafe fn allocated(context: *mut c_void, block: *mut u8, bytes: usize, budget: &mut isize) -> bool {
    // SAFETY: by contract.
    let seen = unsafe { &mut *context.cast::<Seen>() };
    seen.allocated.push((block.addr(), bytes));
    seen.calls += 1;
    // Every budget is another one, and two of three blocks are marked.
    seen.budget = (seen.budget * 7 + 13) % 9973;
    *budget = seen.budget;
    let mark = seen.calls % 3 != 0;
    if mark {
        assert!(seen.marked.insert(block.addr()), "a block that is marked already was handed out again");
    }
    mark
}

/// # Safety
/// `context` is a live `Seen`.
unsafe fn freed(context: *mut c_void, block: *mut u8) -> bool {
    // SAFETY: by contract.
    let seen = unsafe { &mut *context.cast::<Seen>() };
    let marked = seen.marked.remove(&block.addr());
    if marked {
        seen.freed.push(block.addr());
    }
    marked
}
