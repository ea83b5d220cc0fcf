//! The collector's state in an interpreter, where the headers say it is.

use std::ffi::c_int;

use pyo3_ffi::{self as ffi, PyObject};

use crate::collect::graph::is_immortal;
use crate::collect::list::{Header, HeaderPtr};
use crate::layout::Layout;

pub const GENERATIONS: usize = 3;
pub const YOUNGEST: usize = 0;
pub const MIDDLE: usize = 1;
pub const OLD: usize = 2;

/// An interpreter's collector state. Used under that interpreter's GIL, with the layout checked by
/// `collect/seat.rs`; both hold for each method.
#[derive(Debug, Clone, Copy)]
pub struct CollectorState {
    interpreter: *mut u8,
}

impl CollectorState {
    /// The state of the interpreter whose GIL is held.
    pub fn current() -> CollectorState {
        // SAFETY: the GIL is held.
        CollectorState { interpreter: unsafe { ffi::PyInterpreterState_Get() }.cast() }
    }

    pub fn interpreter(self) -> *mut ffi::PyInterpreterState {
        self.interpreter.cast()
    }

    fn field<T>(self, offset_bytes: u32) -> *mut T {
        self.interpreter.wrapping_add(offset_bytes as usize).cast()
    }

    fn in_generation<T>(self, generation: usize, offset_bytes: u32) -> *mut T {
        let layout = Layout::get();
        self.field::<u8>(layout.gc_generations)
            .wrapping_add(generation * layout.gc_generation_bytes as usize + offset_bytes as usize)
            .cast()
    }

    /// The head of a generation's list.
    pub fn head(self, generation: usize) -> HeaderPtr {
        HeaderPtr(self.in_generation::<Header>(generation, 0))
    }

    /// The head of the frozen objects' list.
    pub fn permanent(self) -> HeaderPtr {
        HeaderPtr(self.field::<Header>(Layout::get().gc_permanent))
    }

    /// Put an immortal object into the permanent generation, as CPython's own collector does where it meets one (3.12 and 3.13,
    /// `update_refs`). Whether it was one.
    ///
    /// # Safety
    /// The header is a live object's, in a list that is canonical.
    #[inline(always)]
    pub unsafe fn set_aside_if_immortal(self, header: HeaderPtr) -> bool {
        // SAFETY: by the caller's word.
        unsafe {
            let is_immortal = is_immortal(header.object());
            if is_immortal {
                header.unlink();
                self.permanent().append(header);
            }
            is_immortal
        }
    }

    /// About how many objects are tracked, from the collector's own counts: where it was off or tuned, what the young
    /// generations hold is a guess.
    pub fn tracked_estimate(self) -> usize {
        let old = self.long_lived_total().saturating_add(self.long_lived_pending());
        old.saturating_add(self.young_estimate())
    }

    pub fn threshold(self, generation: usize) -> c_int {
        // SAFETY: see the struct.
        unsafe { self.in_generation::<c_int>(generation, Layout::get().gc_threshold).read() }
    }

    /// What is compared with the threshold: allocations less frees, or collections of the generation before.
    pub fn count(self, generation: usize) -> c_int {
        // SAFETY: see the struct.
        unsafe { self.in_generation::<c_int>(generation, Layout::get().gc_count).read() }
    }

    /// Whether CPython would collect all generations by itself now: the test of its own trigger (`gc_collect_generations` or
    /// `gc_select_generation`, Modules/gcmodule.c or Python/gc.c, 3.10 to 3.13). Since 3.12 a collection begins some time after
    /// the youngest generation exceeded its threshold, and does not look at that again.
    pub fn is_full_due(self) -> bool {
        let exceeds = |generation| self.count(generation) > self.threshold(generation);
        let is_set_off = cfg!(Py_3_12) || exceeds(0);
        self.is_enabled() && is_set_off && exceeds(OLD) && self.pending_suffices()
    }

    /// About how many objects are in the younger generations.
    pub fn young_estimate(self) -> usize {
        let youngest = self.count(0).max(0) as usize;
        let young = (self.count(1).max(0) as usize).saturating_mul(self.threshold(0).max(0) as usize);
        youngest.saturating_add(young)
    }

    fn pending_suffices(self) -> bool {
        self.long_lived_pending() >= self.long_lived_total() / 4
    }

    /// Have CPython collect all generations the next time that it collects by itself. Returns how many objects it now takes to
    /// have come to the oldest generation that have not.
    pub fn make_full_due(self) -> usize {
        let count: *mut c_int = self.in_generation(OLD, Layout::get().gc_count);
        // SAFETY: see the struct.
        unsafe { count.write(self.count(OLD).max(self.threshold(OLD).saturating_add(1))) };
        let (total, pending) = (self.long_lived_total(), self.long_lived_pending());
        let enough = pending.max(total / 4);
        self.set_long_lived(total, enough);
        enough - pending
    }

    /// What `work` allocates and frees does not count.
    pub fn uncounted<R>(self, work: impl FnOnce() -> R) -> R {
        let count: *mut c_int = self.in_generation(0, Layout::get().gc_count);
        // SAFETY: see the struct.
        unsafe {
            let before = count.read();
            let result = work();
            count.write(before);
            result
        }
    }

    pub fn is_enabled(self) -> bool {
        // SAFETY: see the struct.
        unsafe { self.field::<c_int>(Layout::get().gc_enabled).read() != 0 }
    }

    /// The `gc.DEBUG_*` flags.
    pub fn debug(self) -> c_int {
        // SAFETY: see the struct.
        unsafe { self.field::<c_int>(Layout::get().gc_debug).read() }
    }

    pub fn is_collecting(self) -> bool {
        // SAFETY: see the struct.
        unsafe { self.field::<c_int>(Layout::get().gc_collecting).read() != 0 }
    }

    /// No collection is running: for the child of a fork, whose collecting thread is gone.
    pub fn end_collecting(self) {
        // SAFETY: see the struct.
        unsafe { self.field::<c_int>(Layout::get().gc_collecting).write(0) };
    }

    /// The list that CPython calls. Its reference is the interpreter's.
    pub fn callbacks(self) -> *mut PyObject {
        // SAFETY: see the struct.
        unsafe { self.field::<*mut PyObject>(Layout::get().gc_callbacks).read() }
    }

    /// Give the interpreter another list, with a reference that becomes its own. Returns the old one, with its reference.
    pub fn replace_callbacks(self, list: *mut PyObject) -> *mut PyObject {
        // SAFETY: see the struct.
        unsafe { self.field::<*mut PyObject>(Layout::get().gc_callbacks).replace(list) }
    }

    /// Survivors of the last full collection, and objects that came to the oldest generation since.
    pub fn set_long_lived(self, total: usize, pending: usize) {
        let layout = Layout::get();
        // SAFETY: see the struct.
        unsafe {
            self.field::<isize>(layout.gc_long_lived_total).write(total as isize);
            self.field::<isize>(layout.gc_long_lived_pending).write(pending as isize);
        }
    }

    /// More survivors of the last full collection than CPython knows of.
    pub fn add_long_lived(self, survivors: usize) {
        let total: *mut isize = self.field(Layout::get().gc_long_lived_total);
        // SAFETY: see the struct.
        unsafe { total.write(total.read() + survivors as isize) };
    }

    /// More of these than CPython knows of.
    pub fn add_pending(self, survivors: usize) {
        let pending: *mut isize = self.field(Layout::get().gc_long_lived_pending);
        // SAFETY: see the struct.
        unsafe { pending.write(pending.read() + survivors as isize) };
    }

    /// Objects that came to the oldest generation since the last full collection.
    pub fn long_lived_pending(self) -> usize {
        // SAFETY: see the struct.
        unsafe { self.field::<isize>(Layout::get().gc_long_lived_pending).read().max(0) as usize }
    }

    /// Survivors of the last full collection.
    pub fn long_lived_total(self) -> usize {
        // SAFETY: see the struct.
        unsafe { self.field::<isize>(Layout::get().gc_long_lived_total).read() as usize }
    }
}
