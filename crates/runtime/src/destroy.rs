//! What happens when a count falls to zero, in CPython's order (`Objects/typeobject.c`, `subtype_dealloc`):
//!
//! ```text
//! 1 finalizer, once      the object is whole, counted once, reachable by weak references; a handle that stays resurrects it
//! 2 untracked            no collection looks at it any more
//! 3 weak references      cleared, interners' too; then their callbacks called
//! 4 value dropped        which may free others: deeper than DEPTH they wait for the outermost, so that no list is too long
//! 5 block freed          or kept for the next object of its size
//! ```
//! Most objects have neither finalizer nor weak references: [`release`] does the rest on one screen.
//!
//! **Suspects.** A cycle becomes garbage when the count of one of its objects falls for the last time, and not to 0 (Bacon,
//! Rajan: Concurrent cycle collection in reference counted systems, ECOOP 2001): a handle can be moved into a cycle only by
//! way of another that is outside. So a collection whose candidates hold no suspect has nothing to find, and programs that
//! build and move, but share little, pay for no passes. Every other one need look at no more than suspects lead to. The mark
//! goes when a full collection finds nothing.
//!
//! Invariants: an object in `pending` has count 0, is not tracked, and its value is whole.

use heapkeeper_heap::SMALL_MAX_BYTES;

use crate::header::{
    DEAD, FROZEN, HAS_WEAK, IMMORTAL, INTERNED, Object, ObjectPtr, SUSPECT, TO_FINALIZE, UNTRACKED, Word,
};
use crate::inner::{Inner, PENDING, freed_slow, settle_slow};
use crate::panics::guard;
use crate::poison;
use crate::suspects::Suspects;

/// Values dropped inside each other, before the next one waits: 50, as CPython's trashcan has it.
const DEPTH: u32 = 50;

/// A handle to an object with a value of type `T` is gone.
///
/// # Safety
/// The handle was counted; `object` is not used through it afterwards.
#[inline(always)]
pub(crate) unsafe fn release<T>(object: ObjectPtr) {
    let word = object.word().less_one();
    object.set_word(word);
    // SAFETY: by the caller's word; the word says whether it was the last.
    unsafe {
        if !word.is_held() {
            at_zero::<T>(object, word);
        } else if !word.has(SUSPECT) {
            suspect_slow(object);
        }
    }
}

/// # Safety
/// The count is 0, or the object immortal; `word` is its header's.
#[inline]
unsafe fn at_zero<T>(object: ObjectPtr, word: Word) {
    let inner = word.heap().inner();
    // SAFETY: the heap's state is alive as long as its objects; fields are borrowed for one expression each. The value is
    // whole and nobody's, since no handle is left and the object is not dead.
    unsafe {
        if core::mem::needs_drop::<T>() && (*inner).depth >= DEPTH {
            return at_zero_slow(object);
        }
        if word == (*inner).plainly_gone {
            if core::mem::needs_drop::<T>() {
                object.set_word(word.with(UNTRACKED));
            }
            (*inner).collector.forget_young();
        } else if !word.is_plainly_gone() {
            return at_zero_slow(object);
        } else if word.is_tracked() {
            leave(inner, object, word);
        }
        if core::mem::needs_drop::<T>() {
            let depth = (*inner).depth;
            (*inner).depth = depth + 1;
            guard(inner, || core::ptr::drop_in_place(object.value::<T>()));
            // What ran meanwhile left it as it was; not to read it is faster.
            debug_assert_eq!((*inner).depth, depth + 1);
            (*inner).depth = depth;
        }
        if !(*inner).spares.keep::<T>(object) {
            poison::free(&mut (*inner).blocks, object, size_of::<Object<T>>() <= SMALL_MAX_BYTES);
        }
        if (*inner).notes != 0 {
            freed_slow(inner);
        }
    }
}

/// The count of an object fell, but not to 0, for the first time since a collection found all in order.
///
/// # Safety
/// The object is alive.
#[cold]
#[inline(never)]
pub(crate) unsafe fn suspect_slow(object: ObjectPtr) {
    object.set(SUSPECT);
    let Some(generation) = object.generation() else { return };
    // SAFETY: its heap's state is alive.
    unsafe {
        (*object.inner()).suspected = true;
        if Suspects::has(generation) {
            (*object.inner()).suspects.insert(object.address(), generation);
        }
    }
}

/// A handle to an object of whatever type is gone.
///
/// # Safety
/// As for [`release`].
#[inline]
pub(crate) unsafe fn release_any(object: ObjectPtr) {
    let word = object.word().less_one();
    object.set_word(word);
    // SAFETY: by the caller's word.
    unsafe {
        if !word.is_held() {
            at_zero_slow(object);
        } else if !word.has(SUSPECT) {
            suspect_slow(object);
        }
    }
}

/// # Safety
/// The count is 0, or the object immortal.
#[cold]
#[inline(never)]
unsafe fn at_zero_slow(object: ObjectPtr) {
    if object.is_immortal() {
        object.set_count(IMMORTAL);
    } else {
        // SAFETY: by the caller's word.
        unsafe { destroy(object) };
    }
}

/// Free an object that no handle is left to.
///
/// # Safety
/// The count is 0, and the object is not being freed already.
pub(crate) unsafe fn destroy(object: ObjectPtr) {
    let inner = object.inner();
    // SAFETY: the state is alive as long as its objects, and while depth is above 0; borrowed for one expression each.
    unsafe {
        if (*inner).depth >= DEPTH {
            leave_if_tracked(inner, object);
            (*inner).pending.push(object);
            (*inner).notes |= PENDING;
            return;
        }
        (*inner).depth += 1;
        let gone = dispose(inner, object);
        (*inner).depth -= 1;
        if (*inner).notes != 0 {
            if gone { freed_slow(inner) } else { settle_slow(inner) }
        }
    }
}

/// The steps. Whether the object is gone: not if it was resurrected.
///
/// # Safety
/// As for [`destroy`]; depth is above 0.
unsafe fn dispose(inner: *mut Inner, object: ObjectPtr) -> bool {
    // SAFETY: as there; the value is whole until it is dropped, and nobody's without handles.
    unsafe {
        if !object.has(DEAD) {
            if object.has(TO_FINALIZE) {
                finalize_at_zero(inner, object);
                if object.count() != 0 {
                    return false;
                }
            }
            leave_if_tracked(inner, object);
            if object.has(INTERNED) {
                crate::intern::forget(inner, object);
            }
            if object.has(HAS_WEAK) {
                crate::weak::clear_and_call(inner, object);
            }
            if object.vtable().needs_drop {
                guard(inner, || (object.vtable().drop_value)(object));
            }
        }
        debug_assert!(object.count() == 0 && !object.is_tracked());
        poison::free(&mut (*inner).blocks, object, false);
        true
    }
}

/// Run the finalizer of an object whose count is 0. It is 0 again afterwards, unless the finalizer kept a handle.
///
/// # Safety
/// As for [`dispose`].
unsafe fn finalize_at_zero(inner: *mut Inner, object: ObjectPtr) {
    // SAFETY: as there.
    unsafe {
        if !object.is_tracked() && !(object.vtable().is_leaf)() {
            // It waited in `pending`; what resurrects it must find it as a young object, also if it was frozen.
            object.set_word(object.word().without(UNTRACKED | FROZEN).born_in((*inner).era.now()));
            // A collection that is due by it waits for the next.
            let _ = (*inner).collector.made();
            suspect_slow(object);
        }
        object.set_count(1);
        finalize(inner, object);
        if object.is_immortal() {
            object.set_count(IMMORTAL);
        } else {
            object.set_count(object.count() - 1);
            if object.count() != 0 {
                // What holds it now may be itself.
                suspect_slow(object);
            }
        }
    }
}

/// Run the finalizer, noting first that it was run.
///
/// # Safety
/// The caller holds a reference to the object, whose value is whole; the state is alive and stays so.
pub(crate) unsafe fn finalize(inner: *mut Inner, object: ObjectPtr) {
    object.unset(TO_FINALIZE);
    // SAFETY: by the caller's word.
    unsafe { guard(inner, || (object.vtable().finalize)(object)) };
}

/// From now on no collection considers the object.
///
/// # Safety
/// The object lives on this heap, and is tracked; `word` is its header's.
#[inline(always)]
pub(crate) unsafe fn leave(inner: *mut Inner, object: ObjectPtr, word: Word) {
    object.set_word(word.with(UNTRACKED));
    // SAFETY: by the caller's word.
    unsafe {
        let generation = (*inner).era.generation(word);
        if word.has(SUSPECT) && Suspects::has(generation) {
            (*inner).suspects.remove(object.address(), generation);
        }
        (*inner).collector.forget(object.address(), generation);
    }
}

/// # Safety
/// The object lives on this heap.
pub(crate) unsafe fn leave_if_tracked(inner: *mut Inner, object: ObjectPtr) {
    let word = object.word();
    if word.is_tracked() {
        // SAFETY: by the caller's word, and just asked.
        unsafe { leave(inner, object, word) };
    }
}
