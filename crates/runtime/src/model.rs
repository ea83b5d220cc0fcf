//! The object world as the collector sees it: see [`ObjectModel`] for the order of its calls.
//!
//! The model is a copy of the pointer to the state, not a borrow of it: the program code that runs inside a collection
//! comes back to the state by its handles.

use std::sync::OnceLock;
use std::time::Instant;

use heapkeeper_gc::{Collector, Generation, Graph, ObjectModel, Outcome, Trash, Visitor};
use heapkeeper_heap::Heap as Blocks;

use crate::control::Phase;
use crate::destroy;
use crate::era::{Era, OLD};
use crate::header::{
    DEAD, FROZEN, HAS_WEAK, Header, IMMORTAL, INTERNED, ObjectPtr, SUSPECT, TO_FINALIZE, UNTRACKED, Word,
};
use crate::inner::{Inner, freed_slow, settle_slow};
use crate::panics::guard;
use crate::poison;
use crate::suspects::Suspects;
use crate::trace::{EMPTY, Tracer};
use crate::weak;

pub(crate) struct Model(*mut Inner);

impl Model {
    /// # Safety
    /// The state is alive as long as the model.
    pub(crate) unsafe fn new(inner: *mut Inner) -> Model {
        Model(inner)
    }
}

/// Nanoseconds since the first call.
fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

unsafe fn flush<V: Visitor<ObjectPtr>>(visitor: *mut (), children: &[ObjectPtr]) {
    // SAFETY: `trace` below made the context from a visitor of this type, which it does not use meanwhile.
    let visitor = unsafe { &mut *visitor.cast::<V>() };
    visitor.visit_all(children);
}

// SAFETY: handles count themselves; a trace visits what its value owns, by the contract of `Trace`, and a handle of another
// heap leads outside this one's range. Whoever frees or untracks calls `forget` (`destroy::untrack`). Program code runs
// under `panics::guard`. The collector has its place in the state, which is pinned while it collects.
unsafe impl Graph for Model {
    type Ref = ObjectPtr;

    #[inline(always)]
    fn address(object: ObjectPtr) -> *mut u8 {
        object.address()
    }

    #[inline(always)]
    unsafe fn at(address: *mut u8) -> ObjectPtr {
        // SAFETY: by the caller's word.
        unsafe { ObjectPtr::new(address.cast::<Header>()) }
    }

    #[inline(always)]
    fn refcount(&self, object: ObjectPtr) -> usize {
        object.refcount()
    }

    #[inline(always)]
    fn trace(&self, object: ObjectPtr, visitor: &mut impl Visitor<ObjectPtr>) {
        trace_all(&[object], visitor);
    }

    /// Nothing is fetched: what a value reads elsewhere is known to its type alone.
    #[inline(always)]
    fn trace_all(&self, objects: &[ObjectPtr], _next: &[ObjectPtr], visitor: &mut impl Visitor<ObjectPtr>) {
        trace_all(objects, visitor);
    }
}

// SAFETY: as above.
unsafe impl ObjectModel for Model {
    #[inline(always)]
    fn heap(&self) -> &Blocks {
        // SAFETY: the state is alive; nothing allocates while the collector looks at the heap.
        unsafe { &(*self.0).blocks }
    }

    #[inline(always)]
    fn collector(&self) -> &Collector {
        // SAFETY: the state is alive; the collector borrows itself for one step at a time, and runs no program code in it.
        unsafe { &(*self.0).collector }
    }

    #[inline(always)]
    fn collector_mut(&mut self) -> &mut Collector {
        // SAFETY: as above.
        unsafe { &mut (*self.0).collector }
    }

    fn now_ns(&self) -> u64 {
        now_ns()
    }

    #[inline(always)]
    fn object(&self, block: *mut u8) -> Option<ObjectPtr> {
        // SAFETY: live blocks of these heaps start with a header.
        let object = unsafe { ObjectPtr::new(block.cast::<Header>()) };
        object.is_tracked().then_some(object)
    }

    #[inline(always)]
    fn candidate(&self, block: *mut u8) -> Option<ObjectPtr> {
        // SAFETY: as above.
        let object = unsafe { ObjectPtr::new(block.cast::<Header>()) };
        (!object.has(UNTRACKED | FROZEN)).then_some(object)
    }

    #[inline(always)]
    fn generation(&self, object: ObjectPtr) -> Option<Generation> {
        object.generation()
    }

    fn visit_suspects(&self, oldest: Generation, mut visit: impl FnMut(ObjectPtr)) {
        // SAFETY: the state is alive, and `visit` does not come back to its suspects; a set bit stands for a tracked object.
        unsafe {
            (*self.0).suspects.visit(oldest.index(), |address| visit(ObjectPtr::new(address.cast::<Header>())));
        }
    }

    /// In the whole heap, if there ever was a suspect since the marks were cleared.
    fn may_find_trash(&self, oldest: Generation) -> bool {
        // SAFETY: the state is alive.
        unsafe { (*self.0).suspected && (oldest == Generation::Old || (*self.0).suspects.any(oldest.index())) }
    }

    fn promote(&mut self, oldest: Generation) {
        // SAFETY: the state is alive; borrowed for one expression each.
        unsafe {
            (*self.0).suspects.promote(oldest);
            if (*self.0).era.is_last() {
                begin_anew(self.0);
            }
            (*self.0).era.promote(oldest);
            (*self.0).fresh = (*self.0).fresh.born_in((*self.0).era.now());
        }
    }

    fn set_generation(&mut self, object: ObjectPtr, generation: Generation) {
        let word = object.word();
        // SAFETY: the state is alive.
        unsafe {
            let before = (*self.0).era.generation(word);
            if word.has(SUSPECT) && Suspects::has(before) {
                (*self.0).suspects.remove(object.address(), before);
            }
        }
        debug_assert!(generation >= Generation::Old, "only collections promote the young");
        let frozen = if generation == Generation::Permanent { FROZEN } else { 0 };
        object.set_word(word.without(FROZEN).with(frozen).born_in(OLD));
    }

    #[inline]
    fn incref(&mut self, object: ObjectPtr) {
        object.incref();
    }

    #[inline]
    fn decref(&mut self, object: ObjectPtr) {
        // SAFETY: the collector takes away what it added.
        unsafe { destroy::release_any(object) };
    }

    fn started(&mut self, oldest: Generation) {
        // SAFETY: the state is alive and pinned.
        unsafe {
            (*self.0).found_trash = false;
            (*self.0).plainly_gone = Word::NONE;
        }
        // SAFETY: as above.
        unsafe { crate::control::call_callbacks(self.0, Phase::Start, oldest, Outcome::default()) };
    }

    fn clear_weakrefs(&mut self, trash: Trash<'_, Model>) {
        // SAFETY: the state is alive; no program code ran since the trash was found.
        unsafe {
            (*self.0).found_trash = true;
            if !(*self.0).weak.is_empty() {
                weak::clear_trash(self.0, trash);
            }
            if !(*self.0).interners.is_empty() {
                forget_interned(self.0, trash);
            }
        }
    }

    fn call_callbacks(&mut self) -> bool {
        // SAFETY: the state is alive and pinned.
        unsafe { weak::call_due(self.0) }
    }

    #[inline]
    fn has_finalizer(&self, object: ObjectPtr) -> bool {
        object.has(TO_FINALIZE)
    }

    fn has_finalizers(&self) -> bool {
        // SAFETY: the state is alive.
        unsafe { (*self.0).has_finalizers }
    }

    fn finalize(&mut self, object: ObjectPtr) {
        // SAFETY: the collector holds a reference; the state is alive and pinned.
        unsafe { destroy::finalize(self.0, object) };
    }

    fn clear_late_weakrefs(&mut self, trash: Trash<'_, Model>) {
        // SAFETY: the state is alive.
        unsafe {
            trash.iter().filter(|object| object.has(HAS_WEAK)).for_each(|object| weak::clear(self.0, object));
        }
    }

    /// The whole value is dropped here, not only its references: nobody but values that are dropped in the same collection
    /// can reach it, and those find it dead.
    #[inline]
    fn clear(&mut self, object: ObjectPtr) {
        let inner = self.0;
        // SAFETY: the state is alive and pinned. The value is whole: the collector clears what is trash, once, and trash is
        // tracked. No reference to it is left: see `Gc::try_get`.
        unsafe {
            if object.has(HAS_WEAK) {
                // Made by a `Drop` in this trash.
                weak::clear(inner, object);
            }
            destroy::leave_if_tracked(inner, object);
            object.set(DEAD);
            (*inner).depth += 1;
            guard(inner, || (object.vtable().drop_value)(object));
            (*inner).depth -= 1;
            if (*inner).notes != 0 {
                settle_slow(inner);
            }
        }
    }

    /// The outermost free of this heap, so that it need not wait.
    #[inline]
    fn clear_and_release(&mut self, object: ObjectPtr) {
        let inner = self.0;
        object.incref();
        self.clear(object);
        let word = object.word().less_one();
        object.set_word(word);
        // SAFETY: the reference was ours; the state is alive and pinned.
        unsafe {
            if word.count() != 0 {
                if object.is_immortal() {
                    object.set_count(IMMORTAL);
                }
                return;
            }
            poison::free(&mut (*inner).blocks, object, false);
            if (*inner).notes != 0 {
                freed_slow(inner);
            }
        }
    }

    fn finished(&mut self, oldest: Generation, outcome: Outcome) {
        // SAFETY: the state is alive and pinned.
        unsafe {
            (*self.0).plainly_gone = (*self.0).fresh.less_one();
            if oldest == Generation::Old && !(*self.0).found_trash {
                clear_suspects(self.0);
            }
            crate::control::call_callbacks(self.0, Phase::Stop, oldest, outcome);
        }
    }
}

/// Eras are used up: number those that objects are told apart by anew.
///
/// # Safety
/// `inner` is alive.
unsafe fn begin_anew(inner: *mut Inner) {
    // SAFETY: by the caller's word.
    unsafe {
        let (before, after) = ((*inner).era, Era::AGAIN);
        (*inner).visit_objects(|object| {
            let word = object.word();
            if word.is_tracked() {
                object.set_word(word.born_in(after.of(before.generation(word))));
            }
        });
        (*inner).era = after;
    }
}

/// A full collection found nothing: no code of the program ran since it looked, and what was suspected was in order.
///
/// # Safety
/// `inner` is alive.
unsafe fn clear_suspects(inner: *mut Inner) {
    // SAFETY: by the caller's word; borrowed for one expression each.
    unsafe {
        let assumed = (*inner).collector.telemetry().of(Generation::Old).assumed_reachable;
        // Those that were not counted for want of room were taken as reachable.
        if (*inner).suspected && assumed == core::mem::replace(&mut (*inner).assumed_reachable, assumed) {
            (*inner).suspected = false;
            (*inner).visit_objects(|object| {
                if object.has(SUSPECT) && object.generation() == Some(Generation::Old) {
                    object.unset(SUSPECT);
                }
            });
        }
    }
}

/// No interner answers trash any more.
///
/// # Safety
/// `inner` is alive.
unsafe fn forget_interned(inner: *mut Inner, trash: Trash<'_, Model>) {
    let mut any = false;
    trash.iter().filter(|object| object.has(INTERNED)).for_each(|object| {
        object.unset(INTERNED);
        any = true;
    });
    if any {
        // SAFETY: by the caller's word.
        unsafe { crate::intern::forget_all(inner, |object| trash.contains(object)) };
    }
}

#[inline(always)]
fn trace_all<V: Visitor<ObjectPtr>>(objects: &[ObjectPtr], visitor: &mut V) {
    let visitor: *mut V = visitor;
    let mut buffer = EMPTY;
    let mut tracer = Tracer::buffered(&mut buffer, flush::<V>, visitor.cast());
    // SAFETY: who is traced is tracked, hence whole; `flush` gets the visitor that it is made for.
    unsafe {
        objects.iter().for_each(|object| (object.vtable().trace)(*object, &mut tracer));
        flush::<V>(visitor.cast(), tracer.buffer());
    }
}
