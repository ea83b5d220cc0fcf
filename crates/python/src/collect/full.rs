//! A full collection, up to the point where CPython takes over: who is trash.
//!
//! ```text
//! walk       the lists of all generations              sets a bit for each object; immortal ones are set aside
//! roots      sys.modules, locals of all frames         marked first: what they reach needs no count
//! count      what these do not reach                   refcount − references from each other
//! mark       what of that is held from elsewhere
//! untrack    plain tuples and dicts that are alive
//! order      the lists, if they are out of order       for the next walk, and for CPython's own collector
//! ```
//! Afterwards the survivors stand in [`Survivors`], out of CPython's sight, and the trash alone in the oldest generation, in
//! the order in which CPython would have found it. CPython then collects that: it finds for itself that the trash is
//! unreachable, and disposes of it in its own way. At the end of the collection the survivors come back.
//!
//! **Sound:** an object is kept if a root leads to it, or if it has references that no candidate accounts for, as in CPython's
//! own search (`deduce_unreachable`, Modules/gcmodule.c or Python/gc.c). The roots are alive by themselves. A local variable
//! of a frame that is just being left may hold the address of an object that is gone: it is looked at only if it is the
//! address of a candidate, and the worst is that garbage stays for one collection more.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::{RefCell, UnsafeCell};
use std::ptr;
use std::time::{Duration, Instant};

use heapkeeper_gc::{Outside, Search, Tables};
use heapkeeper_heap::Lock;
use heapkeeper_profile::{Estimate, SiteId};
use pyo3_ffi::{self as ffi, PyObject};

use crate::child::Child;
use crate::collect::graph::{ObjectPtr, Objects, untrack_if_plain};
use crate::collect::list::{Header, HeaderPtr};
use crate::collect::milestones::{self, Milestones};
use crate::collect::order;
use crate::collect::state::{CollectorState, OLD};
use crate::collect::survivors::Survivors;
use crate::layout;
use crate::{frames, hosts, profile};

/// The order in which a full collection joins the lists: CPython puts younger ones behind the oldest.
const JOINED: [usize; 3] = [OLD, 0, 1];

/// Seconds by phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    pub walk: Duration,
    pub roots: Duration,
    pub count: Duration,
    pub mark: Duration,
    pub untrack: Duration,
    pub order: Duration,
}

impl Phases {
    pub fn add(&mut self, other: &Phases) {
        self.walk += other.walk;
        self.roots += other.roots;
        self.count += other.count;
        self.mark += other.mark;
        self.untrack += other.untrack;
        self.order += other.order;
    }

    pub fn total(&self) -> Duration {
        self.walk + self.roots + self.count + self.mark + self.untrack + self.order
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// Objects looked at.
    pub candidates: usize,
    /// Those kept from CPython.
    pub survivors: usize,
    /// Those left to it: trash, if they were counted.
    pub suspects: usize,
    /// Those that no root led to.
    pub unrooted: usize,
    pub is_counted: bool,
    pub phases: Phases,
    /// Memory that the search took, at most.
    pub scratch_bytes: usize,
    /// The suspects by type, as far as there was room.
    pub types: Vec<SuspectType>,
}

/// Suspects of one type.
#[derive(Debug, Clone)]
pub struct SuspectType {
    pub kind: *mut ffi::PyTypeObject,
    /// How many.
    pub objects: usize,
    /// Whether that is an estimate, as where there are a great many suspects.
    pub is_estimate: bool,
    /// What was sampled of them.
    pub samples: Vec<(SiteId, Estimate)>,
}

/// The tables of the search, shared by all interpreters: one searches at a time, and runs no Python code meanwhile.
struct SharedTables(UnsafeCell<Option<Tables>>);

// SAFETY: used under `LOCK` only.
unsafe impl Sync for SharedTables {}

static TABLES: SharedTables = SharedTables(UnsafeCell::new(None));
static LOCK: Lock = Lock::new();

/// Before a fork: nobody searches.
pub fn before_fork() {
    LOCK.acquire();
}

pub fn after_fork_in_parent() {
    LOCK.release();
}

pub fn after_fork_in_child() {
    LOCK.reset();
}

/// Run `work` on a search over all that the interpreter tracks, done as far as to know the trash. `after_roots` sees it when
/// what no root leads to is unreached, and says whether to count that. `None` if there is no memory for its tables.
fn with_search<R>(
    state: CollectorState,
    milestones: &Milestones,
    found: &mut Found,
    after_roots: impl FnOnce(&Search<'_>) -> bool,
    work: impl FnOnce(&mut Search<'_>, Walked, &mut Found) -> R,
) -> Option<R> {
    let objects_of = ObjectsOf::interpreter(state, milestones);
    with_tables(|tables, held_bytes| {
        // For objects elsewhere; longer-lived than the search.
        let mut memory = Box::default();
        let mut search = tables.search(held_bytes, Outside::NONE);
        let result = search_with(&objects_of, &mut search, &mut memory, found, after_roots, work);
        let (has_counted, deepest) = search.used();
        tables.end_search(has_counted, deepest);
        result
    })?
}

/// Run `work` on the tables, for a heap that holds so many bytes. `None` if there is no address space for them.
fn with_tables<R>(work: impl FnOnce(&mut Tables, usize) -> R) -> Option<R> {
    let range = hosts::range()?;
    LOCK.with(|| {
        // SAFETY: under the lock.
        let tables = unsafe { &mut *TABLES.0.get() };
        if tables.is_none() {
            *tables = Tables::reserve(range);
        }
        Some(work(tables.as_mut()?, range.stats().held_bytes))
    })
}

/// Whose objects are searched.
struct ObjectsOf<'a> {
    state: CollectorState,
    milestones: &'a Milestones,
    /// `sys.modules`, borrowed from the interpreter; null if there is none. Asking for it allocates.
    modules: *mut PyObject,
}

impl ObjectsOf<'_> {
    fn interpreter(state: CollectorState, milestones: &Milestones) -> ObjectsOf<'_> {
        ObjectsOf { state, milestones, modules: modules() }
    }
}

fn search_with<'a, R>(
    objects_of: &ObjectsOf<'_>,
    search: &mut Search<'a>,
    memory: &'a mut Box<[u64]>,
    found: &mut Found,
    after_roots: impl FnOnce(&Search<'_>) -> bool,
    work: impl FnOnce(&mut Search<'a>, Walked, &mut Found) -> R,
) -> Option<R> {
    let mut clock = Clock::start();
    let ObjectsOf { state, milestones, modules } = *objects_of;
    let mut walked = walk(state, milestones, search)?;
    let chunks = chunks_of(&walked.elsewhere);
    *memory = zeroed(Outside::words_for(chunks.len()))?;
    let memory_bytes = size_of_val(&**memory);
    search.add_elsewhere(Outside::new(&chunks, memory), &walked.elsewhere);
    search.added();
    walked.elsewhere = Vec::new();
    clock.lap(&mut found.phases.walk);

    let objects = Objects::noting_plain();
    search.mark_known(&objects, |mark| visit_roots(state, modules, mark));
    clock.lap(&mut found.phases.roots);
    found.unrooted = search.unreached();
    // Few are counted in no time, and then known for certain.
    found.is_counted = after_roots(search) || found.unrooted < search.candidates() / COUNTED_SHARE;
    if found.unrooted > 0 && found.is_counted {
        search.rank();
        search.count(&objects);
        clock.lap(&mut found.phases.count);
        search.mark(&objects);
        clock.lap(&mut found.phases.mark);
    }
    walked.plain = objects.into_plain();
    found.candidates = search.candidates();
    found.scratch_bytes = search.scratch_bytes() + memory_bytes;
    Some(work(search, walked, found))
}

/// Zeroed memory that is taken from the system where it is touched; `None` if there is none.
pub fn zeroed(words: usize) -> Option<Box<[u64]>> {
    if words == 0 {
        return Some(Box::default());
    }
    let layout = Layout::array::<u64>(words).ok()?;
    // SAFETY: the layout is not empty; zeros are integers; the box frees what was allocated by the same layout.
    unsafe {
        let start = alloc_zeroed(layout).cast::<u64>();
        (!start.is_null()).then(|| Box::from_raw(ptr::slice_from_raw_parts_mut(start, words)))
    }
}

/// As many dicts are looked at a second time; they take 128 KiB meanwhile.
const MAX_YOUNG_DICTS: usize = 16 << 10;

/// What the walk saw besides candidates.
struct Walked {
    /// Candidates outside our heap.
    elsewhere: Vec<*mut u8>,
    /// Neighbours in a list of which the second has the lower address.
    descents: usize,
    plain: Vec<*mut PyObject>,
    /// Dicts of the younger generations, as far as there was room.
    young_dicts: Vec<*mut PyObject>,
}

/// Make every tracked object a candidate but immortal ones, which are set aside. `None` if some have no place: then this
/// collection is CPython's.
fn walk(state: CollectorState, milestones: &Milestones, search: &mut Search<'_>) -> Option<Walked> {
    let mut walked = Walked { elsewhere: Vec::new(), descents: 0, plain: Vec::new(), young_dicts: Vec::new() };
    let (mut is_whole, mut all_addresses) = (true, 0);
    for generation in JOINED {
        // The even ways go up, the odd ones down.
        let mut last: [usize; milestones::WAYS] = std::array::from_fn(|i| if i % 2 == 0 { 0 } else { usize::MAX });
        let posts = milestones.placed().filter(|_| generation == OLD);
        // SAFETY: the GIL is held, and the lists are canonical.
        unsafe {
            state.head(generation).for_each_between(posts, |header, way| {
                if state.set_aside_if_immortal(header) {
                    return;
                }
                let object = header.object();
                if generation != OLD
                    && ffi::PyDict_CheckExact(object) != 0
                    && walked.young_dicts.len() < MAX_YOUNG_DICTS
                    && walked.young_dicts.try_reserve(1).is_ok()
                {
                    walked.young_dicts.push(object);
                }
                let address: *mut u8 = object.cast();
                all_addresses |= address.addr();
                let before = &mut last[way];
                let is_descent = if way % 2 == 0 { address.addr() < *before } else { address.addr() > *before };
                *before = address.addr();
                walked.descents += usize::from(is_descent);
                if !search.add(address) {
                    if walked.elsewhere.try_reserve(1).is_ok() {
                        walked.elsewhere.push(address);
                    } else {
                        is_whole = false;
                    }
                }
            });
        }
    }
    // Whoever makes objects at odd addresses has an allocator of his own; the tables have no place for them.
    (is_whole && all_addresses.is_multiple_of(16)).then_some(walked)
}

/// The numbers of the chunks that these addresses lie in, each once.
fn chunks_of(addresses: &[*mut u8]) -> Vec<usize> {
    let mut chunks = Vec::new();
    let mut last = usize::MAX;
    for address in addresses {
        let chunk = Outside::chunk_of(*address);
        if chunk != last {
            chunks.push(chunk);
            last = chunk;
        }
    }
    chunks.sort_unstable();
    chunks.dedup();
    chunks
}

/// See [`ObjectsOf`].
fn modules() -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe { ffi::PySys_GetObject(c"modules".as_ptr()) }
}

/// Objects that are alive whatever refers to them: the loaded modules, and what running code has in its local variables.
fn visit_roots(state: CollectorState, modules: *mut PyObject, mark: &mut dyn FnMut(ObjectPtr)) {
    // SAFETY: the GIL is held; thread states of this interpreter stay while it is; `modules` is `sys.modules`.
    unsafe {
        if !modules.is_null() && ffi::PyDict_CheckExact(modules) != 0 {
            mark(ObjectPtr(modules));
        }
        let mut thread = ffi::PyInterpreterState_ThreadHead(state.interpreter());
        while !thread.is_null() {
            frames::visit_locals(layout::Layout::get(), thread, |object| {
                if !object.is_null() {
                    mark(ObjectPtr(object));
                }
            });
            thread = ffi::PyThreadState_Next(thread);
        }
    }
}

/// If fewer than one in so many objects are left after the roots, they are always counted.
const COUNTED_SHARE: usize = 16;

/// Find the trash, and hide the survivors from CPython's own collector: see the head of this file. `None`, and nothing is
/// changed but for immortal objects, if there is no memory for the search.
///
/// With `expects_trash`, what no root leads to is not counted but left to CPython as it is.
pub fn hide_survivors(
    state: CollectorState,
    milestones: &Milestones,
    survivors: &Survivors,
    expects_trash: bool,
) -> Option<Found> {
    let mut found = Found::default();
    with_search(
        state,
        milestones,
        &mut found,
        |_| !expects_trash,
        |search, walked, found| {
            let mut clock = Clock::start();
            let untracked = untrack_plain(search, &walked, |_| {});
            clock.lap(&mut found.phases.untrack);
            let mut trash = Header::new();
            let trash = HeaderPtr(&raw mut trash);
            // SAFETY: a fresh head, used within this function.
            unsafe { trash.clear() };
            let hidden = survivors.head();
            let joined = state.head(OLD);
            // SAFETY: the GIL is held; all heads are different lists.
            unsafe {
                JOINED[1..].iter().for_each(|generation| joined.take_all(state.head(*generation)));
                found.suspects = search.unreached();
                found.survivors = search.candidates() - untracked - found.suspects;
                let visit_suspects = |visit: &mut dyn FnMut(*mut u8)| search.for_each_unreached(visit);
                note_types(found.suspects, visit_suspects, |address| search.is_unreached(address), &mut found.types);
                if found.survivors < found.suspects {
                    milestones.take_up();
                    take_survivors(search, hidden);
                    trash.take_all(joined);
                } else {
                    // From the end, where young objects are: most trash is young, and the search for it ends with the last.
                    let is_trash = |header: HeaderPtr| search.is_unreached(header.object().cast());
                    joined.take_last(milestones.placed(), found.suspects, is_trash, trash);
                    hidden.take_all(joined);
                }
                if order::is_due(walked.descents, found.survivors, survivors.ordered.get()) {
                    let roots = |mark: &mut dyn FnMut(ObjectPtr)| visit_roots(state, modules(), mark);
                    order::put_in_order(search, hidden, found.survivors, milestones, roots);
                    survivors.ordered.set(found.survivors);
                }
                state.head(OLD).take_all(trash);
                survivors.uncounted.set(found.survivors);
                milestones.after_full(found.survivors);
            }
            clock.lap(&mut found.phases.order);
        },
    )?;
    Some(found)
}

/// Visit all candidates, what our search calls trash among them, and what is alive though no root leads to it, without changing
/// anything but for immortal objects. Whether there was memory for the search.
pub fn visit_trash(
    state: CollectorState,
    mut candidate: impl FnMut(*mut PyObject),
    mut trash: impl FnMut(*mut PyObject),
    mut unrooted: impl FnMut(*mut PyObject),
) -> bool {
    let left = RefCell::new(Vec::new());
    let after_roots = |search: &Search<'_>| {
        search.for_each_unreached(|address| left.borrow_mut().push(address));
        true
    };
    // They were taken up: CPython is going to search.
    let milestones = Milestones::none();
    with_search(state, &milestones, &mut Found::default(), after_roots, |search, _, _| {
        search.for_each_reached(|address| candidate(address.cast()));
        let left = left.borrow();
        left.iter().filter(|address| !search.is_unreached(**address)).for_each(|address| unrooted(address.cast()));
        search.for_each_unreached(|address| {
            candidate(address.cast());
            trash(address.cast());
        });
    })
    .is_some()
}

/// Start a child that searches the heap as it is now. It visits what need not be tracked, then the trash in the order in which
/// CPython would meet it, and last of all hands over what it found; if anything is in its way, it does not come to that.
pub fn search_in_child(
    state: CollectorState,
    milestones: &Milestones,
    mut trash: impl FnMut(*mut PyObject),
    plain: impl FnMut(*mut PyObject),
    done: impl FnOnce(&Found),
) -> std::io::Result<Child> {
    let started = with_tables(|tables, held_bytes| {
        let objects_of = ObjectsOf::interpreter(state, milestones);
        let search_alone = || {
            let mut found = Found::default();
            let mut memory = Box::default();
            let mut search = tables.search(held_bytes, Outside::NONE);
            search_with(
                &objects_of,
                &mut search,
                &mut memory,
                &mut found,
                |_| true,
                |search, walked, found| {
                    found.suspects = search.unreached();
                    let untracked = untrack_plain(search, &walked, plain);
                    found.survivors = search.candidates() - untracked - found.suspects;
                    let mut ordered = Header::new();
                    let ordered = HeaderPtr(&raw mut ordered);
                    let joined = state.head(OLD);
                    // SAFETY: the lists were canonical at the moment that the child began, and the GIL was held. They are
                    // its own copies.
                    unsafe {
                        ordered.clear();
                        JOINED[1..].iter().for_each(|generation| joined.take_all(state.head(*generation)));
                        let is_trash = |header: HeaderPtr| search.is_unreached(header.object().cast());
                        joined.take_last(milestones.placed(), found.suspects, is_trash, ordered);
                        ordered.for_each(|header| trash(header.object()));
                    }
                    done(found);
                },
            );
        };
        // SAFETY: the search takes no lock; what `tp_traverse` functions do is theirs to say, and they have no more to do
        // than to name references. The tables are ready, their lock is held by this thread.
        unsafe { Child::start(search_alone) }
    });
    started.unwrap_or_else(|| Err(std::io::ErrorKind::OutOfMemory.into()))
}

/// Stop tracking what need not be tracked: tuples first, as CPython does, then dicts, which may hold such tuples. `note` is told
/// of each. Returns how many these were.
///
/// A tuple of tuples may take one collection more or less than under CPython, which depends on the order of its list; so may
/// an old dict of new tuples, and one of a great many new dicts.
fn untrack_plain(search: &mut Search<'_>, walked: &Walked, mut note: impl FnMut(*mut PyObject)) -> usize {
    // SAFETY: the GIL is held; whatever is asked is alive, for no Python code has run since the search.
    let is_dict = |object: &&*mut PyObject| unsafe { ffi::PyDict_CheckExact(**object) != 0 };
    let tuples = untrack_each(search, walked.plain.iter().filter(|object| !is_dict(object)), &mut note);
    let mut dicts = untrack_each(search, walked.plain.iter().filter(is_dict), &mut note);
    if tuples > 0 {
        // Dicts that were made together with them.
        dicts += untrack_each(search, walked.young_dicts.iter(), &mut note);
    }
    tuples + dicts
}

fn untrack_each<'a>(
    search: &mut Search<'_>,
    objects: impl Iterator<Item = &'a *mut PyObject>,
    note: &mut impl FnMut(*mut PyObject),
) -> usize {
    let mut untracked = 0;
    for object in objects {
        let address: *mut u8 = object.cast();
        // A repeated sweep notes objects twice; trash stays as it is.
        let is_survivor = search.is_candidate(address) && !search.is_unreached(address);
        // SAFETY: as above.
        if is_survivor && unsafe { untrack_if_plain(*object) } {
            search.remove(address);
            note(*object);
            untracked += 1;
        }
    }
    untracked
}

/// Move the reached objects to the list `hidden`, by address.
///
/// # Safety
/// The GIL is held; all candidates are in one list.
unsafe fn take_survivors(search: &Search<'_>, hidden: HeaderPtr) {
    search.for_each_reached(|address| {
        // SAFETY: by the caller's word.
        unsafe {
            let header = HeaderPtr::of(address.cast());
            header.unlink();
            hidden.append(header);
        }
    });
}

/// Types that are told apart in one collection.
const MAX_TYPES: usize = 64;

/// Of more suspects than this, the type of one in so many is looked at and stands for all of these.
const LOOKED_AT: usize = 1 << 16;

/// One in how many of so many suspects is looked at. Objects made together lie in patterns of few kinds, whose length has
/// small factors; this has none.
fn stride_over(suspects: usize) -> usize {
    let least = suspects.div_ceil(LOOKED_AT).max(1);
    (least..).find(|stride| [2, 3, 5, 7].iter().all(|factor| stride % factor != 0)).unwrap_or(least)
}

/// What CPython is left with, so many objects, by type, and who allocated what was sampled of it.
pub fn note_types(
    suspects: usize,
    visit_suspects: impl FnOnce(&mut dyn FnMut(*mut u8)),
    is_suspect: impl Fn(*const u8) -> bool,
    types: &mut Vec<SuspectType>,
) {
    let stride = stride_over(suspects);
    let (mut passed, mut next) = (0, 0);
    visit_suspects(&mut |address| {
        passed += 1;
        if passed <= next {
            return;
        }
        let objects = stride.min(suspects.saturating_sub(next)).max(1);
        next += stride;
        // SAFETY: alive.
        let kind = unsafe { ffi::Py_TYPE(address.cast()) };
        match types.iter_mut().position(|known| known.kind == kind) {
            Some(i) => types[i].objects += objects,
            None if types.len() < MAX_TYPES => {
                types.push(SuspectType { kind, objects, is_estimate: stride > 1, samples: Vec::new() })
            }
            None => {}
        }
    });
    if types.is_empty() {
        return;
    }
    profile::visit_samples(|block, estimate, site| {
        // An object begins behind one header, or behind two (3.11+, `_PyType_PreHeaderSize`).
        let found = [16, 32]
            .into_iter()
            .map(|header_bytes| block + header_bytes)
            .find(|object| is_suspect(ptr::without_provenance(*object)));
        let Some(object) = found else { return };
        // SAFETY: the address of a candidate, which is alive.
        let kind = unsafe { ffi::Py_TYPE(ptr::with_exposed_provenance_mut(object)) };
        if let Some(known) = types.iter_mut().find(|known| known.kind == kind) {
            known.samples.push((site, estimate));
        }
    });
}

/// Time by laps.
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    pub fn lap(&mut self, phase: &mut Duration) {
        let now = Instant::now();
        *phase += now - self.0;
        self.0 = now;
    }
}
