//! What happens to the trash, in CPython's order (`Modules/gcmodule.c`, `gc_collect_main`, 3.10 to 3.13; the clearing of
//! late weak references came to these branches in 2026).
//!
//! Program code runs between the steps and frees objects of the trash as it likes: breaking a cycle in a finalizer frees it
//! there and then. So the list of trash is read with a grain of salt: an entry counts only while its counter says so, and
//! [`Collector::forget`](crate::Collector::forget) sets that to 0. A new object in the same place has the counter 0 too.
//!
//! ```text
//! counter   0          not in the trash, or no longer
//!           LISTED     trash
//!           ELSEWHERE  uncollectable, or within its reach: in the list behind the trash
//! ```

use core::marker::PhantomData;

use crate::collector::keep_trash;
use crate::count::{ELSEWHERE, LISTED, count_list};
use crate::mark::mark_list;
use crate::model::{ObjectModel, Outcome};
use crate::scratch::Scratch;

/// The unreachable objects of a collection that is running.
pub struct Trash<'a, M> {
    scratch: Scratch,
    length: usize,
    model: PhantomData<&'a M>,
}

impl<M> Clone for Trash<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Trash<'_, M> {}

impl<M> core::fmt::Debug for Trash<'_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Trash").field("found", &self.length).finish_non_exhaustive()
    }
}

impl<M: ObjectModel> Trash<'_, M> {
    /// Whether the object is trash. Constant time.
    pub fn contains(&self, object: M::Ref) -> bool {
        self.scratch.counters.of(M::address(object)) == LISTED
    }

    /// The objects, in address order. Those that die meanwhile are left out.
    pub fn iter(&self) -> impl Iterator<Item = M::Ref> {
        // SAFETY: what the counter says is trash is alive.
        (0..self.length).filter_map(|i| is_trash(&self.scratch, i).map(|address| unsafe { M::at(address) }))
    }
}

/// The entry `i` of the list, if it is (still) trash.
fn is_trash(scratch: &Scratch, i: usize) -> Option<*mut u8> {
    let address = scratch.list.get(i);
    (scratch.counters.of(address) == LISTED).then_some(address)
}

/// Dispose of the first `found` objects of the list. Afterwards all counters are 0.
pub(crate) fn dispose<M: ObjectModel>(model: &mut M, found: usize) -> Outcome {
    if found == 0 {
        return Outcome::default();
    }
    let scratch = model.collector().scratch;
    let trash = set_aside_uncollectable(model, &scratch, found);
    model.clear_weakrefs(Trash { scratch, length: trash, model: PhantomData });
    let called = model.call_callbacks();
    let finalized = model.has_finalizers() && finalize(model, &scratch, trash);
    let (mut left, mut resurrected) = (trash, 0);
    // Callbacks have no reference to trash, but a world may let them enumerate objects.
    if called || finalized {
        left = scratch.list.retain(trash, |address| scratch.counters.of(address) == LISTED);
        let before = left;
        count_list(model, &scratch, left);
        mark_list(model, &scratch, scratch.stack_for(model.heap().held_bytes()), left);
        left = keep_trash(&scratch, left);
        resurrected = before - left;
        model.clear_late_weakrefs(Trash { scratch, length: left, model: PhantomData });
    }
    clear(model, &scratch, left);
    let uncollectable = list_uncollectable(model, &scratch, trash..found);
    Outcome { collected: left, uncollectable, resurrected }
}

/// Take objects that must not be cleared out of the trash, with all that they reach: these come last in the list. Returns
/// how many are left.
fn set_aside_uncollectable<M: ObjectModel>(model: &M, scratch: &Scratch, found: usize) -> usize {
    let (list, counters) = (scratch.list, scratch.counters);
    let mut any = false;
    for i in 0..found {
        // SAFETY: no program code ran since the list was made.
        if model.is_uncollectable(unsafe { M::at(list.get(i)) }) {
            counters.put(list.get(i), LISTED + 1);
            any = true;
        }
    }
    if !any {
        return found;
    }
    mark_list(model, scratch, scratch.stack_for(model.heap().held_bytes()), found);
    // In place; the first part keeps its order.
    let mut trash = 0;
    for i in 0..found {
        let address = list.get(i);
        if counters.of(address) == LISTED {
            list.set(i, list.get(trash));
            list.set(trash, address);
            trash += 1;
        } else {
            counters.put(address, ELSEWHERE);
        }
    }
    list.sort(trash..found);
    trash
}

/// Run the finalizers of the first `length` objects, once each. Whether any ran.
fn finalize<M: ObjectModel>(model: &mut M, scratch: &Scratch, length: usize) -> bool {
    let mut any = false;
    for i in 0..length {
        let Some(address) = is_trash(scratch, i) else { continue };
        // SAFETY: what the counter says is trash is alive, and stays so while we hold a reference.
        let object = unsafe { M::at(address) };
        if model.has_finalizer(object) {
            any = true;
            model.incref(object);
            model.finalize(object);
            model.decref(object);
        }
    }
    any
}

/// Clear the first `length` objects. What is alive afterwards is held by something that was not cleared.
fn clear<M: ObjectModel>(model: &mut M, scratch: &Scratch, length: usize) {
    for i in 0..length {
        let Some(address) = is_trash(scratch, i) else { continue };
        // SAFETY: as in `finalize`.
        let object = unsafe { M::at(address) };
        model.clear_and_release(object);
        if is_trash(scratch, i).is_some() {
            scratch.counters.put(address, 0);
        }
    }
}

/// Name what was set aside, as far as it is alive. Returns how many there are.
fn list_uncollectable<M: ObjectModel>(model: &mut M, scratch: &Scratch, part: core::ops::Range<usize>) -> usize {
    let mut found = 0;
    for i in part {
        let address = scratch.list.get(i);
        if scratch.counters.of(address) == ELSEWHERE {
            scratch.counters.put(address, 0);
            // SAFETY: as in `finalize`.
            let object = unsafe { M::at(address) };
            if model.is_uncollectable(object) {
                model.uncollectable(object);
            }
            found += 1;
        }
    }
    found
}
