//! Of each size, the block that was freed last: the next object of that size gets it. So objects that come and go one after
//! the other pass by the heap's lists, whose every step waits for the one before.
//!
//! Invariant: a spare block is allocated in the heap, and its header's word is [`Word::SPARE`].

use heapkeeper_gc::MIN_OBJECT_BYTES;
use heapkeeper_heap::{Heap as Blocks, SMALL_MAX_BYTES};

use crate::header::{Object, ObjectPtr, Word};
use crate::poison;

/// Sizes that are told apart: steps of 16 bytes.
const STEP_BYTES: usize = 16;
const SIZES: usize = SMALL_MAX_BYTES / STEP_BYTES;

pub(crate) struct Spares([*mut u8; SIZES]);

/// The size of objects with such a value; `SIZES` for large ones, which have no spares.
const fn size_of_object<T>() -> usize {
    let bytes = size_of::<Object<T>>();
    let bytes = if bytes < MIN_OBJECT_BYTES { MIN_OBJECT_BYTES } else { bytes };
    if bytes > SMALL_MAX_BYTES || poison::QUARANTINE { SIZES } else { (bytes - 1) / STEP_BYTES }
}

impl Spares {
    pub(crate) const NONE: Spares = Spares([core::ptr::null_mut(); SIZES]);

    /// A block for an object with such a value. Null if there is none to spare.
    #[inline(always)]
    pub(crate) fn take<T>(&mut self) -> *mut u8 {
        match self.0.get_mut(const { size_of_object::<T>() }) {
            Some(spare) => core::mem::replace(spare, core::ptr::null_mut()),
            None => core::ptr::null_mut(),
        }
    }

    /// Keep the block of an object with such a value, if there is none so far. Whether it is kept.
    ///
    /// # Safety
    /// As for [`poison::free`].
    #[inline(always)]
    pub(crate) unsafe fn keep<T>(&mut self, object: ObjectPtr) -> bool {
        match self.0.get_mut(const { size_of_object::<T>() }) {
            Some(spare) if spare.is_null() => {
                // SAFETY: by the caller's word.
                unsafe { poison::fill(object) };
                object.set_word(Word::SPARE);
                *spare = object.address();
                true
            }
            _ => false,
        }
    }

    /// Free them.
    pub(crate) fn give_back(&mut self, blocks: &mut Blocks) {
        for spare in &mut self.0 {
            let block = core::mem::replace(spare, core::ptr::null_mut());
            if !block.is_null() {
                // SAFETY: a block of this heap that nothing refers to.
                unsafe { blocks.free_small(block) };
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().filter(|spare| !spare.is_null()).count()
    }

    /// Bytes of their blocks.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |(i, spare): (usize, &*mut u8)| if spare.is_null() { 0 } else { (i + 1) * STEP_BYTES };
        self.0.iter().enumerate().map(bytes).sum()
    }
}
