//! Objects as a child saw them, and what has become of them since.

use pyo3_ffi::{self as ffi, PyObject};

use crate::collect::list::{FLAGS, HEADER_BYTES, HeaderPtr};
use crate::{frames, hosts};

/// An object that was tracked when a child looked.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    pub address: usize,
    /// The address of its type.
    pub kind: usize,
}

impl Sighting {
    /// # Safety
    /// A live object.
    pub unsafe fn of(object: *mut PyObject) -> Sighting {
        // SAFETY: by the caller's word.
        Sighting { address: object.addr(), kind: unsafe { ffi::Py_TYPE(object) }.addr() }
    }

    /// Its header, if an object of that type is there now that stands in a list. Since it was seen its memory may have been
    /// freed, given back, and used again for anything.
    ///
    /// **Sound:** whose type is the one that was seen, whose count is above 0, and whose two neighbours name it, is an object
    /// in a list. A freed object's count is 0. Its words in between may be anybody's, who would have to keep a list of his own of
    /// the same shape, with that very type at the same place. What is read lies in blocks of the interpreter's heap, or is a
    /// list's head, or else is read through the kernel.
    ///
    /// # Safety
    /// The GIL is held, the lists are canonical, and no other interpreter uses the same heap.
    pub unsafe fn header(self, heads: &[HeaderPtr]) -> Option<HeaderPtr> {
        let range = hosts::range()?;
        // SAFETY: there is a heap, and the GIL is held.
        let heap = unsafe { hosts::main() }.number();
        let in_block = |header: HeaderPtr| {
            let location = range.locate(header.0.cast()).filter(|location| location.heap == heap);
            location.is_some_and(|location| {
                // At the start, or behind one word pair more (3.11+, `_PyType_PreHeaderSize`).
                let offset = header.0.addr() - location.start;
                (offset == 0 || offset == HEADER_BYTES) && offset + 2 * HEADER_BYTES <= location.block_bytes
            })
        };
        let header = HeaderPtr(range.start().with_addr(self.address.checked_sub(HEADER_BYTES)?).cast());
        if !in_block(header) {
            return None;
        }
        // SAFETY: a header and two words of an object, all within a block; a neighbour's are within one as well, or a head's.
        unsafe {
            let object = header.object();
            if ffi::Py_TYPE(object).addr() != self.kind || ffi::Py_REFCNT(object) <= 0 {
                return None;
            }
            let (next, prev) = (header.next(), header.prev());
            let leads_back = |neighbour: HeaderPtr, read: unsafe fn(HeaderPtr) -> HeaderPtr, offset_bytes: u32| {
                if heads.contains(&neighbour) || in_block(neighbour) {
                    return read(neighbour) == header;
                }
                let word = frames::unknown_word(neighbour.0.cast(), offset_bytes);
                word.is_some_and(|word| word & !FLAGS == header.0.addr())
            };
            let word_bytes = size_of::<usize>() as u32;
            (leads_back(prev, |prev| prev.next(), 0) && leads_back(next, |next| next.prev(), word_bytes))
                .then_some(header)
        }
    }
}
