//! Collections by hand and by pace, and what can be known of them: the functions of CPython's `gc` module.

use core::cell::RefCell;
use core::fmt;
use std::rc::Rc;

use heapkeeper_gc::{Collector, Generation, Outcome, Telemetry};

use crate::heap::Heap;
use crate::inner::{Inner, settle_slow};
use crate::model::Model;
use crate::panics::guard;

/// When a collection callback is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before anything is looked at.
    Start,
    /// After everything is freed.
    Stop,
}

/// What a collection callback is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectionInfo {
    /// Before or after.
    pub phase: Phase,
    /// The oldest generation that is collected.
    pub generation: Generation,
    /// What was found; zeros at the start.
    pub outcome: Outcome,
}

type Callback = Rc<RefCell<dyn FnMut(&CollectionInfo)>>;

/// Names a callback, to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

#[derive(Default)]
pub(crate) struct Callbacks {
    known: Vec<(CallbackId, Callback)>,
    next: u64,
}

/// What a heap holds, and what its collections did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Objects alive.
    pub objects: usize,
    /// Of those, the tracked ones by generation: 0, 1, 2, frozen.
    pub tracked: [usize; 4],
    /// Bytes of their blocks.
    pub live_bytes: usize,
    /// Bytes of pools and large blocks in use.
    pub held_bytes: usize,
    /// The limit on these; `usize::MAX` for none.
    pub limit_bytes: usize,
    /// What the thresholds are compared with.
    pub counts: [u32; 3],
    /// Collections, objects collected, pauses.
    pub collections: Telemetry,
    /// Panics of program code that the heap ran.
    pub panics: u64,
}

/// Keeps automatic collections away until it is dropped.
#[must_use = "collections start again when this is dropped"]
pub struct Paused(Heap);

impl Heap {
    /// Collect the generations up to `oldest`, now, whether collections are enabled or not. Inside a collection it does
    /// nothing.
    ///
    /// The program's code that it runs, in this order: collection callbacks, callbacks of weak references to what was found,
    /// finalizers, `Drop`s, collection callbacks. All may allocate, free, and ask for a collection, which does nothing. An
    /// object with a cell that is mutably borrowed survives with all that the cell leads to.
    ///
    /// # Panics
    /// With the first panic of that code, when the collection is over, unless there is a
    /// [panic hook](crate::HeapBuilder::panic_hook), the thread panics already, or the call comes from code that the heap
    /// itself runs: then the panic goes on from the outermost call.
    pub fn collect(&self, oldest: Generation) -> Outcome {
        // SAFETY: the state is alive as long as a `Heap`.
        unsafe { collect(self.inner(), oldest) }
    }

    /// Let collections start by themselves.
    pub fn enable(&self) {
        // SAFETY: as above; borrowed for one expression.
        unsafe { (*self.inner()).collector.pace_mut().set_enabled(true) };
    }

    /// Collect by [`Heap::collect`] only, and when memory runs out.
    pub fn disable(&self) {
        // SAFETY: as above.
        unsafe { (*self.inner()).collector.pace_mut().set_enabled(false) };
    }

    /// Whether collections start by themselves, pauses apart.
    pub fn is_enabled(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.inner()).collector.pace().is_enabled() }
    }

    /// No collection starts by itself before the guard is dropped.
    pub fn paused(&self) -> Paused {
        // SAFETY: as above.
        unsafe { (*self.inner()).pauses += 1 };
        Paused(self.clone())
    }

    /// When collections start, as CPython's: of generation 0, when more than so many tracked objects were made than freed
    /// since the last; of generation 1 and 2, when the one before was collected more often than that since. 0 in the first
    /// place: never.
    pub fn set_thresholds(&self, thresholds: [u32; 3]) {
        // SAFETY: as above.
        unsafe { (*self.inner()).collector.pace_mut().set_thresholds(thresholds) };
    }

    /// See [`Heap::set_thresholds`]. **700, 10, 10.**
    pub fn thresholds(&self) -> [u32; 3] {
        // SAFETY: as above.
        unsafe { (*self.inner()).collector.pace().thresholds() }
    }

    /// Take every tracked object out of collections' sight, for good or until [`Heap::unfreeze`]: for what a program made at
    /// its start and keeps. Frozen objects are freed when their count falls to zero, as all are. False, and nothing done,
    /// inside a collection.
    pub fn freeze(&self) -> bool {
        // SAFETY: as above.
        unsafe { Collector::freeze(&mut Model::new(self.inner())) }
    }

    /// Move frozen objects to generation 2. False, and nothing done, inside a collection.
    pub fn unfreeze(&self) -> bool {
        // SAFETY: as above.
        unsafe { unfreeze(self.inner()) }
    }

    /// Whether a collection is running: true in code that one calls.
    pub fn is_collecting(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.inner()).collector.is_collecting() }
    }

    /// Call `callback` before and after every collection. It is not called again while it runs. It must not own a `Heap` of
    /// this heap: the heap would keep itself alive.
    pub fn on_collection(&self, callback: impl FnMut(&CollectionInfo) + 'static) -> CallbackId {
        // SAFETY: as above.
        let callbacks = unsafe { &mut (*self.inner()).callbacks };
        let id = CallbackId(callbacks.next);
        callbacks.next += 1;
        callbacks.known.push((id, Rc::new(RefCell::new(callback))));
        id
    }

    /// Call it no more. Whether it was there.
    pub fn remove_callback(&self, id: CallbackId) -> bool {
        // SAFETY: as above; what is removed is dropped after the borrow.
        let removed = unsafe {
            let known = &mut (*self.inner()).callbacks.known;
            known.iter().position(|(known, _)| *known == id).map(|place| known.remove(place))
        };
        removed.is_some()
    }

    /// What the heap holds. Takes time in proportion to its objects.
    pub fn stats(&self) -> Stats {
        // SAFETY: as above; no program code runs.
        let inner = unsafe { &*self.inner() };
        let (mut objects, mut tracked) = (0, [0; 4]);
        inner.visit_objects(|object| {
            objects += 1;
            if let Some(generation) = object.generation() {
                tracked[generation.index()] += 1;
            }
        });
        let blocks = inner.blocks.stats();
        Stats {
            objects,
            tracked,
            live_bytes: blocks.live_bytes - inner.spares.bytes(),
            held_bytes: blocks.held_bytes,
            limit_bytes: inner.range().stats().limit_bytes,
            counts: inner.collector.pace().counts(),
            collections: *inner.collector.telemetry(),
            panics: inner.panics.count,
        }
    }

    /// Give free memory back to the system, at once. Returns the bytes given back.
    pub fn trim(&self) -> usize {
        // SAFETY: as above.
        unsafe {
            (*self.inner()).give_spares_back();
            (*self.inner()).blocks.trim()
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // SAFETY: the guard holds a `Heap`.
        unsafe { (*self.0.inner()).pauses -= 1 };
    }
}

impl fmt::Debug for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paused").finish_non_exhaustive()
    }
}

/// Move frozen objects to generation 2.
///
/// # Safety
/// `inner` is alive.
pub(crate) unsafe fn unfreeze(inner: *mut Inner) -> bool {
    // SAFETY: by the caller's word; borrowed for one expression each.
    unsafe {
        // While they were frozen, what they hold was found in order although they may be garbage.
        (*inner).suspected = true;
        Collector::unfreeze(&mut Model::new(inner))
    }
}

/// Collect, unless a collection is running.
///
/// # Safety
/// `inner` is alive, and stays so by a handle or a pin of the caller's.
pub(crate) unsafe fn collect(inner: *mut Inner, oldest: Generation) -> Outcome {
    // SAFETY: by the caller's word; borrowed for one expression each.
    unsafe { within_collection(inner, |model| Collector::collect(model, oldest)).unwrap_or_default() }
}

/// A tracked object too many was made: collect what is due.
///
/// # Safety
/// As for [`collect`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn collect_if_due_slow(inner: *mut Inner) {
    // SAFETY: by the caller's word; borrowed for one expression each.
    unsafe {
        if (*inner).pauses == 0 && (*inner).collector.pace().is_enabled() {
            within_collection(inner, Collector::collect_if_due);
        }
    }
}

/// Run `work` as the outermost of this heap's business, and see to what waited for its end.
///
/// # Safety
/// As for [`collect`].
unsafe fn within_collection<R>(inner: *mut Inner, work: impl FnOnce(&mut Model) -> R) -> Option<R> {
    // SAFETY: by the caller's word; borrowed for one expression each.
    unsafe {
        if (*inner).collector.is_collecting() {
            return None;
        }
        (*inner).pins += 1;
        // What a collection frees is freed within it, however deep in frees of its own the program asked for one.
        let depth = core::mem::take(&mut (*inner).depth);
        let result = work(&mut Model::new(inner));
        (*inner).depth = depth;
        (*inner).pins -= 1;
        if (*inner).notes != 0 {
            settle_slow(inner);
        }
        Some(result)
    }
}

/// Call the program's collection callbacks.
///
/// # Safety
/// `inner` is alive and stays so.
pub(crate) unsafe fn call_callbacks(inner: *mut Inner, phase: Phase, generation: Generation, outcome: Outcome) {
    // SAFETY: by the caller's word; borrowed for one expression each.
    unsafe {
        if (*inner).callbacks.known.is_empty() {
            return;
        }
        let info = CollectionInfo { phase, generation, outcome };
        // They may add and remove some, also themselves.
        let known: Vec<Callback> = (*inner).callbacks.known.iter().map(|(_, callback)| callback.clone()).collect();
        for callback in known {
            guard(inner, move || {
                if let Ok(mut callback) = callback.try_borrow_mut() {
                    callback(&info);
                }
            });
        }
    }
}
