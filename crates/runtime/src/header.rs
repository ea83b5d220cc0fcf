//! What stands before every value, and the one pointer type that leads there.
//!
//! ```text
//! block   0 vtable ─────────────────────────────────── 8 word ─── 16 value …
//! word    bits 0 count ─── 32 heap ─── 44 flags ─── 52 born ─── 64
//! ```
//! One word, so that freeing an object reads all that there is to know of it at once. It is read and written as a whole: a
//! narrower store would make the processor wait with the next wide load.
//!
//! Invariants:
//! - a live block of a heap of this crate starts with a header, from the moment that [`Heap::alloc`](crate::Heap) returns
//! - `count` = the handles that refer to the object, or [`IMMORTAL`] for good once that would not fit
//! - not `UNTRACKED` ⇒ the object is tracked and its value whole; then `born` and `FROZEN` say its generation: see era.rs
//! - `DEAD` ⇒ `UNTRACKED`, and the value is gone, or going
//! - since the last full collection that found nothing, a tracked object's count fell, but not to 0 ⇒ `SUSPECT`
//!
//! Called by everything; the layout is this file's business alone.

use core::any::TypeId;
use core::mem::{align_of, offset_of, size_of};

use heapkeeper_gc::{Generation, MIN_OBJECT_BYTES};

use crate::gc::Gc;
use crate::inner::{HeapId, Inner, MAX_HEAPS};
use crate::trace::{Start, Trace, Tracer};

/// What is the same for all objects of a type.
pub(crate) struct VTable {
    /// Drops the value in place.
    pub(crate) drop_value: unsafe fn(ObjectPtr),
    pub(crate) trace: unsafe fn(ObjectPtr, &mut Tracer<'_>),
    pub(crate) finalize: unsafe fn(ObjectPtr),
    /// Whether objects of the type are not tracked.
    pub(crate) is_leaf: fn() -> bool,
    pub(crate) type_name: fn() -> &'static str,
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) value_bytes: usize,
    /// Whether dropping the value does anything.
    pub(crate) needs_drop: bool,
}

/// The head of an object.
#[repr(C, align(16))]
pub(crate) struct Header {
    pub(crate) vtable: &'static VTable,
    pub(crate) word: Word,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES && align_of::<Header>() == 16);
const _: () = assert!(offset_of!(Header, word) == 8);

/// Bytes before the value: 16.
pub(crate) const HEADER_BYTES: usize = 16;

const COUNT: u64 = 0xffff_ffff;
const HEAP_SHIFT: u32 = 32;
const FLAGS_SHIFT: u32 = 44;
const BORN_SHIFT: u32 = 52;
const _: () = assert!(MAX_HEAPS <= 1 << (FLAGS_SHIFT - HEAP_SHIFT));

/// The value was dropped while handles were left.
pub(crate) const DEAD: u8 = 1;
/// There is a finalizer, and it was not run yet.
pub(crate) const TO_FINALIZE: u8 = 2;
/// The heap's table of weak references has an entry.
pub(crate) const HAS_WEAK: u8 = 4;
/// The block was freed. It is kept for the next object, or this is a debug build, which looks for it.
pub(crate) const FREED: u8 = 8;
/// An interner's table has the object.
pub(crate) const INTERNED: u8 = 16;
/// The count fell, but not to 0: the object may be part of a cycle that nothing else holds any more.
pub(crate) const SUSPECT: u8 = 32;
/// Collections do not consider the object.
pub(crate) const UNTRACKED: u8 = 64;
/// The object is in the permanent generation.
pub(crate) const FROZEN: u8 = 128;

/// What makes freeing an object more than dropping its value.
const RARE: u8 = DEAD | TO_FINALIZE | HAS_WEAK | INTERNED;

/// The count of an object that had 2³¹ handles once: it is never freed. Counts from 2³¹ on read as this one.
pub(crate) const IMMORTAL: u32 = 0xc000_0000;

/// The word of a header, taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Word(u64);

impl Word {
    /// Of a new object: counted once, born in this era.
    #[inline(always)]
    pub(crate) const fn new(heap: HeapId, born: u16) -> Word {
        Word(1 | (heap.0 as u64) << HEAP_SHIFT | (born as u64) << BORN_SHIFT)
    }

    /// Of no object.
    pub(crate) const NONE: Word = Word(!0);

    /// Of a block that is kept for the next object.
    pub(crate) const SPARE: Word = Word(0).with(FREED | UNTRACKED);

    #[inline(always)]
    pub(crate) const fn with(self, flags: u8) -> Word {
        Word(self.0 | (flags as u64) << FLAGS_SHIFT)
    }

    #[inline(always)]
    pub(crate) const fn without(self, flags: u8) -> Word {
        Word(self.0 & !((flags as u64) << FLAGS_SHIFT))
    }

    #[inline(always)]
    pub(crate) const fn born_in(self, era: u16) -> Word {
        Word(self.0 & !(!0 << BORN_SHIFT) | (era as u64) << BORN_SHIFT)
    }

    #[inline(always)]
    pub(crate) const fn count(self) -> u32 {
        self.0 as u32
    }

    /// One handle less.
    #[inline(always)]
    pub(crate) const fn less_one(self) -> Word {
        Word(self.0.wrapping_sub(1))
    }

    /// Whether handles are left, and the object is not immortal.
    #[inline(always)]
    pub(crate) const fn is_held(self) -> bool {
        self.0 as i32 > 0
    }

    /// Whether the last handle is gone, and nothing is to do but to drop the value.
    #[inline(always)]
    pub(crate) const fn is_plainly_gone(self) -> bool {
        self.0 & (COUNT | (RARE as u64) << FLAGS_SHIFT) == 0
    }

    #[inline(always)]
    pub(crate) const fn has(self, flags: u8) -> bool {
        self.0 & (flags as u64) << FLAGS_SHIFT != 0
    }

    #[inline(always)]
    pub(crate) const fn heap(self) -> HeapId {
        HeapId((self.0 >> HEAP_SHIFT) as u16 % MAX_HEAPS as u16)
    }

    #[inline(always)]
    pub(crate) const fn born(self) -> u16 {
        (self.0 >> BORN_SHIFT) as u16
    }

    #[inline(always)]
    pub(crate) const fn is_tracked(self) -> bool {
        !self.has(UNTRACKED)
    }
}

/// A header with its value.
#[repr(C)]
pub(crate) struct Object<T> {
    pub(crate) header: Header,
    pub(crate) value: T,
}

impl<T: Trace + 'static> Object<T> {
    pub(crate) const VTABLE: &'static VTable = &VTable {
        // SAFETY: called with objects of this type whose value is whole, once.
        drop_value: |object| unsafe { core::ptr::drop_in_place(object.value::<T>()) },
        // SAFETY: called with objects of this type whose value is whole.
        trace: |object, tracer| unsafe { (*object.value::<T>()).trace(tracer) },
        finalize: |object| {
            if let Some(finalize) = T::finalizer() {
                // SAFETY: the caller holds a reference to this object of this type; the handle here is not dropped.
                let this = core::mem::ManuallyDrop::new(unsafe { Gc::<T>::from_object(object) });
                finalize(&this);
            }
        },
        is_leaf: T::is_leaf::<Start>,
        type_name: core::any::type_name::<T>,
        type_id: TypeId::of::<T>,
        value_bytes: size_of::<T>(),
        needs_drop: core::mem::needs_drop::<T>(),
    };

    /// Bytes to ask the heap for.
    pub(crate) const BYTES: usize = {
        assert!(
            align_of::<T>() <= 16,
            "heapkeeper's blocks are aligned to 16 bytes: a value with a larger alignment goes in a Box, and the Box on the heap"
        );
        assert!(offset_of!(Object<T>, value) == HEADER_BYTES);
        if size_of::<Object<T>>() < MIN_OBJECT_BYTES { MIN_OBJECT_BYTES } else { size_of::<Object<T>>() }
    };
}

/// A pointer to an object's header, for as long as its block is allocated.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct ObjectPtr(*mut Header);

impl ObjectPtr {
    /// # Safety
    /// A header stands there, of a block that stays allocated as long as the pointer is used; no reference to the header
    /// exists, ever.
    #[inline(always)]
    pub(crate) const unsafe fn new(header: *mut Header) -> ObjectPtr {
        ObjectPtr(header)
    }

    #[inline(always)]
    pub(crate) fn header(self) -> *mut Header {
        self.0
    }

    #[inline(always)]
    pub(crate) fn address(self) -> *mut u8 {
        self.0.cast()
    }

    /// Where the value stands.
    #[inline(always)]
    pub(crate) fn value<T>(self) -> *mut T {
        // SAFETY: the value follows the header in the same block.
        unsafe { self.0.cast::<u8>().add(HEADER_BYTES).cast() }
    }

    #[inline(always)]
    pub(crate) fn vtable(self) -> &'static VTable {
        // SAFETY: a header stands there.
        unsafe { (*self.0).vtable }
    }

    #[inline(always)]
    pub(crate) fn word(self) -> Word {
        // SAFETY: as above.
        unsafe { (*self.0).word }
    }

    #[inline(always)]
    pub(crate) fn set_word(self, word: Word) {
        // SAFETY: as above; nobody has a reference to the header.
        unsafe { (*self.0).word = word };
    }

    #[inline(always)]
    pub(crate) fn count(self) -> u32 {
        self.word().count()
    }

    #[inline(always)]
    pub(crate) fn set_count(self, count: u32) {
        self.set_word(Word(self.word().0 & !COUNT | u64::from(count)));
    }

    /// Whether one of `flags` is set.
    #[inline(always)]
    pub(crate) fn has(self, flags: u8) -> bool {
        self.word().has(flags)
    }

    #[inline(always)]
    pub(crate) fn set(self, flags: u8) {
        self.set_word(self.word().with(flags));
    }

    #[inline(always)]
    pub(crate) fn unset(self, flags: u8) {
        self.set_word(self.word().without(flags));
    }

    /// Null for what is not tracked.
    #[inline(always)]
    pub(crate) fn generation(self) -> Option<Generation> {
        let word = self.word();
        // SAFETY: the heap's state is alive as long as its objects.
        word.is_tracked().then(|| unsafe { (*self.inner()).era.generation(word) })
    }

    #[inline(always)]
    pub(crate) fn is_tracked(self) -> bool {
        self.word().is_tracked()
    }

    /// The state of the object's heap.
    #[inline(always)]
    pub(crate) fn inner(self) -> *mut Inner {
        self.word().heap().inner()
    }

    /// One more handle.
    #[inline(always)]
    pub(crate) fn incref(self) {
        debug_assert!(!self.has(FREED), "a handle to freed memory");
        // Counts stay below 2³², so that nothing is carried into the heap's number.
        let word = Word(self.word().0.wrapping_add(1));
        self.set_word(word);
        if (word.0 as i32) < 0 {
            self.set_count(IMMORTAL);
        }
    }

    pub(crate) fn is_immortal(self) -> bool {
        (self.count() as i32) < 0
    }

    /// The count for those who ask.
    pub(crate) fn refcount(self) -> usize {
        if self.is_immortal() { usize::MAX >> 1 } else { self.count() as usize }
    }
}
