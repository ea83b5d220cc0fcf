//! CPython's lists of tracked objects: circular, doubly linked, through two words before each object.
//!
//! ```text
//! object − 16   next    address of the next header; 0 for an object that is not tracked
//! object − 8    prev    address of the previous header; bit 0: finalized, bit 1: in use by a running collection
//! object
//! ```
//! Source: `PyGC_Head`, Include/internal/pycore_gc.h, 3.10 to 3.13; `versions/layout.h` asserts size and shift.
//! A header's address in `prev` is a number, from which a pointer is made again: of the memory that it was exposed for.
//! Invariant outside a function of this file: `next(prev(h)) = prev(next(h)) = h` for each header h of a list, and flags stay
//! with their object.

use std::ptr;

use heapkeeper_gc::prefetch;
use pyo3_ffi as ffi;

/// What `prev` holds besides an address.
pub const FLAGS: usize = 3;
pub const HEADER_BYTES: usize = 16;

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
        HeaderPtr(ptr::with_exposed_provenance_mut(unsafe { (*self.0).prev } & !FLAGS))
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
            (*next.0).prev = (*next.0).prev & FLAGS | self.0.expose_provenance();
        }
    }

    /// Make this the head of an empty list.
    ///
    /// # Safety
    /// See the impl; what was in the list is linked elsewhere by now.
    pub unsafe fn clear(self) {
        // SAFETY: by the caller's word.
        unsafe { *self.0 = Header { next: self.0, prev: self.0.expose_provenance() } };
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

    /// Whether more than one step in five goes far in this head's list, by so many from the start of each stretch between the
    /// `posts`. Where the next object is a neighbour, the processor asks for it by itself.
    ///
    /// # Safety
    /// `self` is a head; the `posts` stand in its list in their order.
    pub unsafe fn is_scattered(self, posts: impl Iterator<Item = HeaderPtr>, steps: usize) -> bool {
        const FAR_BYTES: usize = 256;
        let (mut far, mut near) = (0, 0);
        // SAFETY: by the caller's word.
        for Stretch { mut first, last } in unsafe { self.stretches(posts) } {
            for _ in 0..steps {
                if first == last {
                    break;
                }
                // SAFETY: by the caller's word; `last` is in the list.
                let next = unsafe { first.next() };
                let apart = next.0.addr().abs_diff(first.0.addr()) > FAR_BYTES;
                *(if apart { &mut far } else { &mut near }) += 1;
                first = next;
            }
        }
        far > near / 4
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

    /// Visit each header of this head's list, in many places at once: from both ends of each stretch between the `posts`,
    /// which stand in the list in their order and are not visited. `visit` is told on which way it has come there: 2 k goes up
    /// the k-th stretch, 2 k + 1 down, from its end. It may unlink the header it is given.
    ///
    /// # Safety
    /// `self` is a head; the `posts` stand in its list in their order.
    #[inline(always)]
    pub unsafe fn for_each_between(
        self,
        posts: impl Iterator<Item = HeaderPtr>,
        mut visit: impl FnMut(HeaderPtr, usize),
    ) {
        // SAFETY: by the caller's word. `first` and `last` are in the list until they are visited, and the neighbours that
        // they go on to are read before.
        unsafe {
            let mut stretches = self.stretches(posts).enumerate();
            let mut walked = [(0, Stretch { first: self, last: self }); WALKERS / 2];
            let mut count = 0;
            for (place, stretch) in walked.iter_mut().zip(stretches.by_ref()) {
                *place = stretch;
                count += 1;
            }
            while count > 0 {
                let mut i = 0;
                while i < count {
                    let (k, Stretch { first, last }) = walked[i];
                    let (next, prev) = (first.next(), last.prev());
                    visit(first, 2 * k);
                    if first != last {
                        visit(last, 2 * k + 1);
                    }
                    if first != last && next != last {
                        walked[i].1 = Stretch::asked_for(next, prev);
                    } else if let Some(stretch) = stretches.next() {
                        walked[i] = stretch;
                    } else {
                        count -= 1;
                        walked[i] = walked[count];
                        continue;
                    }
                    i += 1;
                }
            }
        }
    }

    /// Move the headers that `is_wanted`, of which there are `left`, from this head's list to the list `into`, in their order.
    /// The end of the list is looked at first, again in many places at once.
    ///
    /// # Safety
    /// Both are heads; the `posts` stand in this list in their order.
    pub unsafe fn take_last(
        self,
        posts: impl Iterator<Item = HeaderPtr>,
        mut left: usize,
        mut is_wanted: impl FnMut(HeaderPtr) -> bool,
        into: HeaderPtr,
    ) {
        // SAFETY: by the caller's word; a header's neighbour is read before it is moved.
        unsafe {
            let mut stretches: Vec<Stretch> = self.stretches(posts).collect();
            while left > 0 && !stretches.is_empty() {
                let mut group = stretches.split_off(stretches.len().saturating_sub(WALKERS));
                let mut found = [const { Header::new() }; WALKERS];
                let found: [HeaderPtr; WALKERS] = found.each_mut().map(|head| HeaderPtr(head));
                found.iter().for_each(|head| head.clear());
                let mut at_work = group.len();
                let mut is_done = [false; WALKERS];
                while at_work > 0 && left > 0 {
                    for (i, stretch) in group.iter_mut().enumerate() {
                        if is_done[i] {
                            continue;
                        }
                        let (header, prev) = (stretch.last, stretch.last.prev());
                        is_done[i] = header == stretch.first;
                        at_work -= usize::from(is_done[i]);
                        stretch.last = prev;
                        prefetch(prev.0);
                        if is_wanted(header) {
                            header.unlink();
                            found[i].prepend(header);
                            left -= 1;
                        }
                    }
                }
                found.iter().rev().for_each(|found| into.take_all_before(*found));
            }
        }
    }

    /// # Safety
    /// `self` is a head; the `posts` stand in its list in their order.
    unsafe fn stretches(self, posts: impl Iterator<Item = HeaderPtr>) -> impl Iterator<Item = Stretch> {
        let mut start = self;
        posts.chain([self]).filter_map(move |end| {
            let begin = std::mem::replace(&mut start, end);
            // SAFETY: by the caller's word.
            unsafe { (begin.next() != end).then(|| Stretch { first: begin.next(), last: end.prev() }) }
        })
    }
}

/// Places at which a list is followed at once: there are not many more requests for memory that a core keeps in flight.
const WALKERS: usize = 16;

/// Neighbours in a list, from the first to the last.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: HeaderPtr,
    last: HeaderPtr,
}

impl Stretch {
    /// Its two ends will be looked at soon.
    #[inline(always)]
    fn asked_for(first: HeaderPtr, last: HeaderPtr) -> Stretch {
        prefetch(first.0);
        prefetch(last.0);
        Stretch { first, last }
    }
}
