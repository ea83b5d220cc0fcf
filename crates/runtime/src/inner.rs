//! The state behind a heap, and how long it lasts.
//!
//! Program code (finalizers, `Drop`, callbacks) runs in the middle of almost everything and may come back here by any handle.
//! So the state is reached through a raw pointer, and borrowed one field at a time, never across program code.
//!
//! ```text
//! handles > 0                 a Heap is held somewhere
//! handles = 0, objects left   ORPHAN: objects go on as before, until the last one is freed
//! handles = 0, none left      the state goes
//! ```
//!
//! Invariants:
//! - `HEAPS[id]` leads to the state as long as an object or a `Heap` of it exists
//! - `depth` = objects of this heap that are being freed right now, in this collection if one is running; `pins` = code that
//!   will use the state after program code that it runs. The state goes only when both are 0
//! - `notes` ≠ 0 ⇔ something waits for the end of the outermost free: see the constants

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::rc::Rc;
use std::sync::Mutex;

use heapkeeper_gc::{Collector, Generation};
use heapkeeper_heap::{Heap as Blocks, Range};

use crate::control::Callbacks;
use crate::era::Era;
use crate::error::BuildError;
use crate::header::{FREED, Header, ObjectPtr, Word};
use crate::intern::Interned;
use crate::panics::Panics;
use crate::place::Place;
use crate::poison;
use crate::spares::Spares;
use crate::suspects::Suspects;
use crate::weak::{CellPtr, WeakTable};

/// A heap's number, below 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct HeapId(pub(crate) u16);

pub(crate) const MAX_HEAPS: usize = 4096;

static HEAPS: [AtomicPtr<Inner>; MAX_HEAPS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_HEAPS];

/// Numbers in use; 0 always is.
static USED: Mutex<[u64; MAX_HEAPS / 64]> = Mutex::new([0; MAX_HEAPS / 64]);

impl HeapId {
    fn take() -> Option<HeapId> {
        let mut used = USED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        used[0] |= 1;
        let word = used.iter().position(|word| *word != u64::MAX)?;
        let bit = used[word].trailing_ones() as usize;
        used[word] |= 1 << bit;
        Some(HeapId((word * 64 + bit) as u16))
    }

    fn give_back(self) {
        HEAPS[usize::from(self.0)].store(ptr::null_mut(), Relaxed);
        let mut used = USED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        used[usize::from(self.0) / 64] &= !(1 << (self.0 % 64));
    }

    /// The state of the heap with this number.
    #[inline(always)]
    pub(crate) fn inner(self) -> *mut Inner {
        // The thread that made the heap is the one that asks: handles and heaps stay on it.
        HEAPS[usize::from(self.0)].load(Relaxed)
    }
}

/// Objects wait to be freed: the stack was deep enough.
pub(crate) const PENDING: u32 = 1;
/// Program code panicked.
pub(crate) const PANICKED: u32 = 2;
/// No `Heap` is left.
pub(crate) const ORPHAN: u32 = 4;
/// No `Heap` is left, and the last collection is still to come.
pub(crate) const LAST_RITES: u32 = 8;

/// The hot fields stand together, first.
#[repr(C)]
pub(crate) struct Inner {
    pub(crate) notes: u32,
    pub(crate) depth: u32,
    /// The word of a new object.
    pub(crate) fresh: Word,
    /// The word of an object of generation 0 whose last handle is gone, and that is nothing special. During a collection, which
    /// has to be told of each that goes, no object's.
    pub(crate) plainly_gone: Word,
    pub(crate) era: Era,
    pub(crate) spares: Spares,
    pub(crate) blocks: Blocks,
    pub(crate) collector: Collector,
    /// Since the last full collection that found nothing, an object became a suspect, or may be one without saying so.
    pub(crate) suspected: bool,
    pub(crate) suspects: Suspects,
    /// Objects with a finalizer were made.
    pub(crate) has_finalizers: bool,

    // --- slow paths only ---
    pub(crate) id: HeapId,
    /// The running collection, or else the last one, found trash: then code of the program may have run since it looked.
    pub(crate) found_trash: bool,
    /// Objects that full collections took as reachable, when marks were last to be cleared.
    pub(crate) assumed_reachable: u64,
    pub(crate) pins: u32,
    pub(crate) handles: usize,
    /// Objects left, of an orphan.
    left: usize,
    /// Objects with count 0 whose values are still whole; not tracked.
    pub(crate) pending: Vec<ObjectPtr>,
    pub(crate) weak: WeakTable,
    /// Weak references whose callbacks the running collection is about to call.
    pub(crate) callbacks_due: Vec<CellPtr>,
    pub(crate) callbacks: Callbacks,
    pub(crate) interners: Vec<Rc<dyn Interned>>,
    pub(crate) panics: Panics,
    /// `paused()` guards alive.
    pub(crate) pauses: usize,
    range: &'static Range,
    usual_place: bool,
}

impl Inner {
    pub(crate) fn build(limit_bytes: Option<usize>) -> Result<*mut Inner, BuildError> {
        let id = HeapId::take().ok_or(BuildError::TooManyHeaps)?;
        match Place::take(limit_bytes) {
            Ok(place) => Inner::settle_in(id, place),
            Err(error) => {
                id.give_back();
                Err(error)
            }
        }
    }

    fn settle_in(id: HeapId, place: Place) -> Result<*mut Inner, BuildError> {
        let Some(blocks) = Blocks::new(place.range) else {
            place.give_back();
            id.give_back();
            return Err(BuildError::TooManyHeaps);
        };
        let Place { range, collector, suspects, usual: usual_place } = place;
        let era = Era::FIRST;
        let inner = Box::into_raw(Box::new(Inner {
            spares: Spares::NONE,
            blocks,
            notes: 0,
            depth: 0,
            id,
            fresh: Word::new(id, era.now()),
            plainly_gone: Word::new(id, era.now()).less_one(),
            era,
            suspected: false,
            has_finalizers: false,
            suspects,
            collector,
            found_trash: false,
            assumed_reachable: 0,
            pins: 0,
            handles: 1,
            left: 0,
            pending: Vec::new(),
            weak: WeakTable::default(),
            callbacks_due: Vec::new(),
            callbacks: Callbacks::default(),
            interners: Vec::new(),
            panics: Panics::default(),
            pauses: 0,
            range,
            usual_place,
        }));
        HEAPS[usize::from(id.0)].store(inner, Relaxed);
        Ok(inner)
    }

    pub(crate) fn range(&self) -> &'static Range {
        self.range
    }

    /// Call `visit` with every object, tracked or not, in address order; also with those that are being freed.
    pub(crate) fn visit_objects(&self, mut visit: impl FnMut(ObjectPtr)) {
        self.blocks.visit_live(|block| {
            // SAFETY: live blocks of these heaps start with a header.
            let object = unsafe { ObjectPtr::new(block.address.cast::<Header>()) };
            if !object.has(FREED) {
                visit(object);
            }
        });
    }

    /// Free the blocks that are kept for the next objects.
    pub(crate) fn give_spares_back(&mut self) {
        self.spares.give_back(&mut self.blocks);
    }

    /// Objects alive.
    pub(crate) fn objects(&self) -> usize {
        if !poison::QUARANTINE {
            return self.blocks.live_blocks() - self.spares.count();
        }
        let mut found = 0;
        self.visit_objects(|_| found += 1);
        found
    }
}

/// An object's block was freed while something is noted.
///
/// # Safety
/// As for [`settle_slow`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn freed_slow(inner: *mut Inner) {
    // SAFETY: by the caller's word.
    unsafe {
        if (*inner).notes & (ORPHAN | LAST_RITES) == ORPHAN {
            (*inner).left -= 1;
        }
        settle_slow(inner);
    }
}

/// The end of what may have been the outermost free: see to what waited for it.
///
/// # Safety
/// `inner` is alive; the caller does not use it afterwards unless it holds a pin or a depth.
#[cold]
#[inline(never)]
pub(crate) unsafe fn settle_slow(inner: *mut Inner) {
    // SAFETY: alive, by the caller's word, and as long as depth or pins are above 0; borrowed for one expression each.
    unsafe {
        if (*inner).depth > 0 {
            return;
        }
        while let Some(object) = (*inner).pending.pop() {
            (*inner).depth = 1;
            crate::destroy::destroy(object);
            (*inner).depth = 0;
        }
        (*inner).notes &= !PENDING;
        if (*inner).pins > 0 {
            return;
        }
        if (*inner).notes & LAST_RITES != 0 {
            last_rites(inner);
        }
        let raised = if (*inner).notes & PANICKED != 0 {
            (*inner).notes &= !PANICKED;
            Some((*inner).panics.take())
        } else {
            None
        };
        if (*inner).notes & ORPHAN != 0 && (*inner).left == 0 {
            release(inner);
        }
        if let Some(raised) = raised {
            raised.raise();
        }
    }
}

/// The last `Heap` is gone: collect once more.
///
/// # Safety
/// `inner` is alive, depth and pins are 0.
unsafe fn last_rites(inner: *mut Inner) {
    /// Finalizers may make new garbage; at some point that is their own affair.
    const ROUNDS: usize = 16;
    // SAFETY: alive while pinned; borrowed for one expression each.
    unsafe {
        (*inner).pins += 1;
        let callbacks = core::mem::take(&mut (*inner).callbacks);
        crate::panics::guard(inner, || drop(callbacks));
        for _ in 0..ROUNDS {
            // Frozen objects too.
            crate::control::unfreeze(inner);
            if crate::control::collect(inner, Generation::Old).unreachable() == 0 {
                break;
            }
        }
        (*inner).pins -= 1;
        // Somebody may have asked an object for its heap meanwhile.
        if (*inner).handles == 0 {
            (*inner).left = (*inner).objects();
            (*inner).notes &= !LAST_RITES;
        }
    }
}

/// One more `Heap`.
///
/// # Safety
/// `inner` is alive.
pub(crate) unsafe fn add_handle(inner: *mut Inner) {
    // SAFETY: by the caller's word.
    unsafe {
        (*inner).handles += 1;
        (*inner).notes &= !(ORPHAN | LAST_RITES);
    }
}

/// One `Heap` less.
///
/// # Safety
/// `inner` is alive, and the caller does not use it afterwards.
pub(crate) unsafe fn remove_handle(inner: *mut Inner) {
    // SAFETY: by the caller's word.
    unsafe {
        (*inner).handles -= 1;
        if (*inner).handles == 0 {
            (*inner).notes |= ORPHAN | LAST_RITES;
            settle_slow(inner);
        }
    }
}

/// # Safety
/// No object is left, no `Heap`, and nobody uses the state.
unsafe fn release(inner: *mut Inner) {
    // SAFETY: made by `Box::new`; nobody else leads here any more.
    let inner = unsafe { Box::from_raw(inner) };
    debug_assert!(inner.pending.is_empty() && inner.weak.is_empty() && inner.callbacks_due.is_empty());
    inner.id.give_back();
    let Inner { blocks, collector, suspects, range, usual_place: usual, .. } = *inner;
    poison::clear(&blocks);
    drop(blocks);
    Place { range, collector, suspects, usual }.give_back();
}
