//! Observers: how a profiler sees a share of the allocations without a look at the others.
//!
//! The heap lowers a byte budget by each request. When it falls below zero the observer is called with the block, answers
//! with the next budget, and may ask for a mark. Frees in a pool with marks are shown to the observer, others are not.
//!
//! Invariant: an observer never allocates from, frees to, or looks into the heap that calls it.

use core::ffi::c_void;

use crate::os::KeepErrno;

/// The budget of a heap that nobody observes: never used up by real requests.
pub const UNOBSERVED: isize = isize::MAX;

/// Functions that a heap calls, and the context they get.
#[derive(Debug, Clone, Copy)]
pub struct Observer {
    /// Handed to both functions.
    pub context: *mut c_void,
    /// Called with a new block and the bytes requested when the budget is used up. Stores the next budget in bytes
    /// through its last argument; returns whether to mark the block, so that `freed` sees it go.
    pub allocated: unsafe fn(context: *mut c_void, block: *mut u8, bytes: usize, budget: &mut isize) -> bool,
    /// Called with each block freed in a pool that holds a mark. Returns whether this block was marked.
    pub freed: unsafe fn(context: *mut c_void, block: *mut u8) -> bool,
}

impl Observer {
    /// Show a new block, when the budget is used up. Whether to mark it, and the next budget.
    pub(crate) fn show_allocated(&self, block: *mut u8, bytes: usize) -> (bool, isize) {
        let _errno = KeepErrno::new();
        let mut budget = UNOBSERVED;
        // SAFETY: the function was set together with its context.
        let mark = unsafe { (self.allocated)(self.context, block, bytes, &mut budget) };
        (mark, budget.max(0))
    }

    /// Show a block that goes. Whether it was marked.
    pub(crate) fn show_freed(&self, block: *mut u8) -> bool {
        let _errno = KeepErrno::new();
        // SAFETY: as above.
        unsafe { (self.freed)(self.context, block) }
    }
}
