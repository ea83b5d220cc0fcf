//! Young collections are CPython's. Where the objects lie far apart, it is spared waiting for them.
//!
//! CPython goes over a list five times, one object after the other, and reads whatever each refers to, twice. That is the fastest
//! way where the objects are neighbours, fresh from the allocator. In a service whose heap is renewed a little everywhere they lie
//! all over it, and each step waits for memory.
//!
//! Objects of the **youngest** generation are asked for before CPython looks, each as soon as something refers to it.
//!
//! Of the **middle** one, which is ten times as many, the survivors are promoted before CPython looks:
//!
//! ```text
//! walk       the lists of both young generations, in many places at once
//! search     who of them is unreachable                     crates/gc/src/sparse.rs
//! untrack    plain tuples that are alive
//! promote    the others to the end of the oldest generation's list
//! ```
//! CPython then collects what is left, which is the trash: it finds for itself that it is unreachable, and disposes of it as
//! ever. Survivors are where CPython would have put them before it runs any code of the program, and counted as it counts them.

use std::cell::Cell;
use std::ffi::c_int;
use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};

use heapkeeper_gc::{Candidate, Graph, SparseSearch, Visitor, prefetch};
use pyo3_ffi::{self as ffi, PyObject};

use crate::collect::full::zeroed;
use crate::collect::graph::{ObjectPtr, Objects, untrack_if_plain};
use crate::collect::list::{Header, HeaderPtr};
use crate::collect::milestones::{MIDDLE_WAYS, Milestones};
use crate::collect::state::{CollectorState, MIDDLE, OLD, YOUNGEST};

/// The order in which a collection of the middle generation joins the lists: CPython puts the youngest one behind.
const JOINED: [usize; 2] = [MIDDLE, YOUNGEST];

/// Ways through both lists.
const WAYS: usize = JOINED.len() * MIDDLE_WAYS;
/// What is noted of a candidate: whether it is a tuple, and on which way it was met.
const TUPLE: u32 = 1;
const WAY_SHIFT: u32 = 1;
/// Candidates that there is room for at first.
const LEAST_ROOM: usize = 4096;

/// At most one in so many objects is young: then the memory that the search takes, 33 bytes for each at most, is little beside
/// the heap.
const YOUNG_SHARE: usize = 8;
/// A heap of fewer objects stays in the processor's caches.
const LEAST_OLD: usize = 100_000;

/// As many of the youngest objects are not all in the processor's nearer caches any more.
const MANY_YOUNGEST: c_int = 1024;
/// Steps by which it is told whether objects lie apart: through the one list, and through each stretch of the other.
const YOUNGEST_STEPS: usize = 32;
const MIDDLE_STEPS: usize = 6;

static ALWAYS: AtomicBool = AtomicBool::new(false);

/// From now on promote survivors whatever it costs, and however little there is to gain: for tests, whose heaps are small.
pub fn promote_always() {
    ALWAYS.store(true, Ordering::Relaxed);
}

/// What it took to promote survivors.
pub struct Promoted {
    /// Objects looked at.
    pub examined: usize,
    /// Memory beside the heap.
    pub scratch_bytes: usize,
}

/// What collections of the middle generation found so far.
#[derive(Default)]
pub struct Young {
    /// Whether most of it was trash the last time: then CPython had better search alone, as it is going to look at that anyway.
    was_trash: Cell<bool>,
    /// Objects that had come to the oldest generation when the collection began.
    pending: Cell<usize>,
}

impl Young {
    /// A collection of the middle generation begins, and CPython has not looked yet. `None` if it is left with all objects.
    pub fn begin_middle(&self, state: CollectorState, milestones: &Milestones) -> Option<Promoted> {
        self.pending.set(state.long_lived_pending());
        if ALWAYS.load(Ordering::Relaxed) {
            return promote(state, milestones, usize::MAX);
        }
        let old = state.long_lived_total() + state.long_lived_pending();
        let limit = old / YOUNG_SHARE;
        // SAFETY: the GIL is held.
        let is_scattered =
            || unsafe { state.head(MIDDLE).is_scattered(milestones.placed_in_middle(state), MIDDLE_STEPS) };
        let is_worth_it =
            !self.was_trash.get() && old >= LEAST_OLD && state.young_estimate() <= limit && is_scattered();
        if is_worth_it { promote(state, milestones, limit) } else { None }
    }

    /// It is over, and CPython says how many objects were trash.
    pub fn end_middle(&self, state: CollectorState, trash: u64) {
        let survivors = state.long_lived_pending().saturating_sub(self.pending.get());
        self.was_trash.set(trash > survivors as u64);
    }
}

/// A collection of the youngest generation begins: ask for what CPython is going to read, if it is much and lies far apart.
pub fn begin_youngest(state: CollectorState) {
    if state.count(YOUNGEST) < MANY_YOUNGEST {
        return;
    }
    let head = state.head(YOUNGEST);
    let objects = Objects::new();
    // SAFETY: the GIL is held, the list is canonical, and no code of the program runs.
    unsafe {
        if head.is_scattered(iter::empty(), YOUNGEST_STEPS) {
            head.for_each(|header| objects.trace(ObjectPtr(header.object()), &mut Ask));
        }
    }
}

/// Asks for what an object refers to. Most of what the youngest do was made just after them, and comes soon in their list.
struct Ask;

impl Visitor<ObjectPtr> for Ask {
    #[inline(always)]
    fn visit(&mut self, child: ObjectPtr) {
        prefetch(child.0);
    }
}

/// Promote the survivors of both young generations. `None`, and nothing is changed but for immortal objects, if there are more
/// objects than `limit` or no memory for the search.
fn promote(state: CollectorState, milestones: &Milestones, limit: usize) -> Option<Promoted> {
    let young = walk(state, milestones, limit)?;
    let tables_bytes = search(&young)?;
    milestones.take_up_middle();
    let mut survivors = 0;
    // By the way on which the walk has met it, in the order of the list.
    let mut trash = [const { Header::new() }; WAYS];
    let trash: [HeaderPtr; WAYS] = trash.each_mut().map(|head| HeaderPtr(head));
    // SAFETY: the GIL is held; all heads are different lists, some of them fresh ones that are used here alone; candidates are
    // tracked, and alive.
    unsafe {
        trash.iter().for_each(|head| head.clear());
        for candidate in &young {
            let (object, way) = (candidate.address().cast(), (candidate.note() >> WAY_SHIFT) as usize);
            if candidate.is_unreached() {
                let header = HeaderPtr::of(object);
                header.unlink();
                if way % 2 == 0 { trash[way].append(header) } else { trash[way].prepend(header) }
            } else if candidate.note() & TUPLE == 0 || !untrack_if_plain(object) {
                survivors += 1;
            }
        }
        JOINED.iter().for_each(|generation| state.head(OLD).take_all(state.head(*generation)));
        trash.iter().for_each(|found| state.head(MIDDLE).take_all(*found));
    }
    state.add_pending(survivors);
    let scratch_bytes = young.capacity() * size_of::<Candidate>() + tables_bytes;
    Some(Promoted { examined: young.len(), scratch_bytes })
}

/// Find out who is unreachable. Returns the bytes of the tables that it took; `None` if there is no memory for them.
fn search(young: &[Candidate]) -> Option<usize> {
    let mut memory = zeroed(SparseSearch::words_for(young.len()))?;
    SparseSearch::new(young, &mut memory).search(&Objects::new());
    Some(size_of_val(&*memory))
}

/// Visit the candidates of a collection of the middle generation, and what our search calls trash, without changing anything but
/// for immortal objects. Whether there was memory for the search.
pub fn visit_trash(
    state: CollectorState,
    mut candidate: impl FnMut(*mut PyObject),
    mut trash: impl FnMut(*mut PyObject),
) -> bool {
    let found = walk(state, &Milestones::none(), usize::MAX).and_then(|young| {
        search(&young)?;
        for object in &young {
            candidate(object.address().cast());
            if object.is_unreached() {
                trash(object.address().cast());
            }
        }
        Some(())
    });
    found.is_some()
}

/// The objects of both young generations but immortal ones, which are set aside. `None` if there are more than `limit`, or no
/// memory for them.
fn walk(state: CollectorState, milestones: &Milestones, limit: usize) -> Option<Vec<Candidate>> {
    let mut young = Vec::new();
    let limit = limit.min(SparseSearch::MAX_CANDIDATES);
    let mut is_whole = true;
    for (joined, generation) in JOINED.into_iter().enumerate() {
        let posts = milestones.placed_in_middle(state).filter(|_| generation == MIDDLE);
        // SAFETY: the GIL is held, and the lists are canonical.
        unsafe {
            state.head(generation).for_each_between(posts, |header, way| {
                if state.set_aside_if_immortal(header) {
                    return;
                }
                if young.len() == young.capacity() {
                    let more = young.len().max(LEAST_ROOM);
                    is_whole = is_whole && young.len() < limit && young.try_reserve_exact(more).is_ok();
                    if !is_whole {
                        return;
                    }
                }
                let object = header.object();
                let note = ((joined * MIDDLE_WAYS + way) as u32) << WAY_SHIFT;
                let is_tuple = ffi::PyTuple_CheckExact(object) != 0;
                young.push(Candidate::new(object.cast(), if is_tuple { note | TUPLE } else { note }));
            });
        }
    }
    (is_whole && young.len() <= limit).then_some(young)
}
