//! CPython's lists of tracked objects: circular, doubly linked, through two words before each object.
//!
//! ```text
//! object − 16   next    address of the next header; 0 for an object that is not tracked
//! object − 8    prev    address of the previous header; bit 0: finalized, bit 1: in use by a running collection
//! object
//! ```
//! Source: `PyGC_Head`, Include/internal/pycore_gc.h, 3.10 to 3.13; `versions/layout.h` asserts size and shift.
//! Invariant outside a function of this file: `next(prev(h)) = prev(next(h)) = h` for each header h of a list, and flags stay
//! with their object.

use std::ptr;

use pyo3_ffi as ffi;

/// What `prev` holds besides an address.
const FLAGS: usize = 3;
const HEADER_BYTES: usize = 16;

/// The words before a tracked object, or the head of a list of such objects.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    next: *mut Header,
    prev: usize,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// A header in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderPtr(pub *mut Header);

impl Header {
    /// A head that was not linked yet; see [`HeaderPtr::clear`].
    pub const fn new() -> Header {
        Header { next: ptr::null_mut(), prev: 0 }
    }
}

/// All methods: the header is one of a live list, or the head of one; the GIL of its interpreter is held.
impl HeaderPtr {
    /// The header of an object.
    ///
    /// # Safety
    /// `object` is a live object of a type with the GC flag.
    #[inline(always)]
    pub unsafe fn of(object: *mut ffi::PyObject) -> HeaderPtr {
        HeaderPtr(object.wrapping_byte_sub(HEADER_BYTES).cast())
    }

    /// The object behind the header, which is no head.
    #[inline(always)]
    pub fn object(self) -> *mut ffi::PyObject {
        self.0.wrapping_byte_add(HEADER_BYTES).cast()
    }

    /// # Safety
    /// See the impl.
    #[inline(always)]
    pub unsafe fn next(self) -> HeaderPtr {
        // SAFETY: by the caller's word.
        HeaderPtr(unsafe { (*self.0).next })
    }

    /// # Safety
    /// See the impl.
    #[inline(always)]
    pub unsafe fn prev(self) -> HeaderPtr {
        // SAFETY: by the caller's word.
        HeaderPtr(self.0.with_addr(unsafe { (*self.0).prev } & !FLAGS))
    }

    /// Lay a link from `self` to `next`; both keep their flags.
    ///
    /// # Safety
    /// See the impl.
    #[inline(always)]
    pub unsafe fn link(self, next: HeaderPtr) {
        // SAFETY: by the caller's word.
        unsafe {
            (*self.0).next = next.0;
            (*next.0).prev = (*next.0).prev & FLAGS | self.0.addr();
        }
    }

    /// Make this the head of an empty list.
    ///
    /// # Safety
    /// See the impl; what was in the list is linked elsewhere by now.
    pub unsafe fn clear(self) {
        // SAFETY: by the caller's word.
        unsafe { *self.0 = Header { next: self.0, prev: self.0.addr() } };
    }

    /// Whether the list of this head is empty.
    ///
    /// # Safety
    /// See the impl.
    pub unsafe fn is_empty(self) -> bool {
        // SAFETY: by the caller's word.
        unsafe { self.next() == self }
    }

    /// Take the header out of its list. Its own words are as they were.
    ///
    /// # Safety
    /// See the impl.
    #[inline(always)]
    pub unsafe fn unlink(self) {
        // SAFETY: by the caller's word.
        unsafe { self.prev().link(self.next()) };
    }

    /// Put a header that is in no list at the end of this head's.
    ///
    /// # Safety
    /// See the impl.
    #[inline(always)]
    pub unsafe fn append(self, header: HeaderPtr) {
        // SAFETY: by the caller's word.
        unsafe {
            self.prev().link(header);
            header.link(self);
        }
    }

    /// Put a header that is in no list at the start of this head's.
    ///
    /// # Safety
    /// See the impl.
    #[inline(always)]
    pub unsafe fn prepend(self, header: HeaderPtr) {
        // SAFETY: by the caller's word.
        unsafe {
            header.link(self.next());
            self.link(header);
        }
    }

    /// Put all of the list `from` behind this head's own; `from` is empty then.
    ///
    /// # Safety
    /// Both are heads of different lists.
    pub unsafe fn take_all(self, from: HeaderPtr) {
        // SAFETY: by the caller's word.
        unsafe {
            if !from.is_empty() {
                self.prev().link(from.next());
                from.prev().link(self);
                from.clear();
            }
        }
    }

    /// Put all of the list `from` before this head's own; `from` is empty then.
    ///
    /// # Safety
    /// Both are heads of different lists.
    pub unsafe fn take_all_before(self, from: HeaderPtr) {
        // SAFETY: by the caller's word.
        unsafe {
            if !from.is_empty() {
                let first = self.next();
                from.prev().link(first);
                self.link(from.next());
                from.clear();
            }
        }
    }

    /// Visit each header of this head's list, in its order. `visit` may unlink the one it is given.
    ///
    /// # Safety
    /// `self` is a head.
    pub unsafe fn for_each(self, mut visit: impl FnMut(HeaderPtr)) {
        // SAFETY: by the caller's word.
        unsafe {
            let mut header = self.next();
            while header != self {
                let next = header.next();
                visit(header);
                header = next;
            }
        }
    }

    /// Visit each header of this head's list, from both ends towards the middle: each end waits for memory on its own.
    /// `visit` may unlink the one it is given.
    ///
    /// # Safety
    /// `self` is a head.
    #[inline(always)]
    pub unsafe fn for_each_from_both_ends(self, mut visit: impl FnMut(HeaderPtr, End)) {
        // SAFETY: by the caller's word. `first` and `last` are in the list until they are visited, and the neighbours that
        // they go on to are read before.
        unsafe {
            if self.is_empty() {
                return;
            }
            let (mut first, mut last) = (self.next(), self.prev());
            while first != last {
                let (next, prev) = (first.next(), last.prev());
                visit(first, End::First);
                visit(last, End::Last);
                if next == last {
                    return; // They were neighbours.
                }
                (first, last) = (next, prev);
            }
            visit(first, End::First);
        }
    }
}

/// From which end a header was come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By following `next`.
    First,
    /// By following `prev`.
    Last,
}
