//! Of each size, the block that was freed last: the next object of that size gets it. So objects that come and go one after
//! the other pass by the heap's lists, whose every step waits for the one before.
//!
//! Invariant: a spare block is allocated in the heap, and its header's word is [`Word::SPARE`].

use heapkeeper_gc::MIN_OBJECT_BYTES;
use heapkeeper_heap::{Heap as Blocks, SMALL_MAX_BYTES, SizeClass};

use crate::header::{Object, ObjectPtr, Word};
use crate::poison;

/// The small size classes. Larger ones have no spares.
const CLASSES: usize = SizeClass::of(SMALL_MAX_BYTES).unwrap().index() + 1;

/// By size class; null where there is none.
pub(crate) struct Spares([*mut u8; CLASSES]);

/// The index of the size class of objects with such a value; beyond the table for those that have no spares.
const fn class_of<T>() -> usize {
    let bytes = size_of::<Object<T>>();
    match SizeClass::of(if bytes < MIN_OBJECT_BYTES { MIN_OBJECT_BYTES } else { bytes }) {
        Some(class) if !poison::QUARANTINE => class.index(),
        _ => CLASSES,
    }
}

impl Spares {
    pub(crate) const NONE: Spares = Spares([core::ptr::null_mut(); CLASSES]);

    /// A block for an object with such a value. Null if there is none to spare.
    #[inline(always)]
    pub(crate) fn take<T>(&mut self) -> *mut u8 {
        match self.0.get_mut(const { class_of::<T>() }) {
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
        match self.0.get_mut(const { class_of::<T>() }) {
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
        let classes = (0..CLASSES).filter(|class| !self.0[*class].is_null());
        classes.filter_map(SizeClass::from_index).map(SizeClass::block_bytes).sum()
    }
}
