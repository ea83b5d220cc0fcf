//! Full collections whose search runs beside the program, in a child that only looks (`--gc background`).
//!
//! ```text
//! CPython:  a full collection is due ── collects ─┐            ┌─ is due once more ── collects
//! program:  ──────────────────────────│ stands │──────────────────────────────────────│ stands │─────
//! ours:       hides what is old ──────┘        └─ child: search ─┘   hides all but what the child found
//! ```
//! - When a full collection is due by itself, CPython collects the young generations, as what is old is hidden. Then a child
//!   starts, whose memory is the program's at that moment, and searches that.
//! - What was unreachable then is unreachable now, but for weak references and those who ask for all objects. So when the
//!   child is done, and found trash, a full collection is made due again, and CPython is left with that trash. It finds for
//!   itself that it is unreachable: what came back to life stays, whatever the child said.
//! - A search is given up where the program asks for a collection, or where the next one is due before it is done. That one is
//!   then done at once, as without a child: so what can be garbage and not known to be is bounded by what CPython lets
//!   pending objects grow to, a quarter of the heap, twice.
//!
//! Small heaps are searched faster than a child starts; and where starting one takes long, for the sake of memory that
//! is not ours, nothing would be gained.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3_ffi::{self as ffi, PyObject};

use crate::child::{Child, Shared};
use crate::collect::full::{self, Clock, Found};
use crate::collect::graph::untrack_if_plain;
use crate::collect::methods;
use crate::collect::milestones::Milestones;
use crate::collect::sighting::Sighting;
use crate::collect::state::{CollectorState, OLD};
use crate::collect::survivors::Survivors;
use crate::{hosts, interpreter};

/// Heaps of fewer objects are searched at once: it takes some milliseconds.
const LEAST_OBJECTS: usize = 100_000;
/// CPython searches the young generations itself: no more of them than one object in so many.
const YOUNG_SHARE: usize = 8;
/// What a search takes for an object, and what starting a child takes for a GiB of memory in small pages, roughly.
const SEARCH_AN_OBJECT: Duration = Duration::from_nanos(40);
const START_A_GIB: Duration = Duration::from_millis(30);
/// So many times shorter must the start be.
const WORTH: u32 = 4;
/// So many starts in a row that took longer are enough, for as many collections as follow: it may be the machine's fault.
const MOST_SLOW_STARTS: u32 = 2;
const MOST_DOUBTS: u32 = 8;
/// So many children in a row that end without a word are enough.
const MOST_FAILURES: u32 = 3;
/// As many objects are untracked after one search.
const MOST_PLAIN: usize = 16 << 10;

/// What a full collection that begins now does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// All of it, at once.
    Whole,
    /// The young generations; then a child is to start.
    Young,
    /// What a child found.
    Found,
}

/// The background searches of one interpreter, used under its GIL.
#[derive(Default)]
pub struct Background {
    stage: RefCell<Stage>,
    /// Children that are done with, until they have ended.
    leaving: RefCell<Vec<Child>>,
    /// Starts in a row that took too long.
    slow_starts: Cell<u32>,
    /// Collections since then that were done at once because of them.
    doubts: Cell<u32>,
    /// Children in a row that ended without a word.
    failures: Cell<u32>,
    /// The next search is not for a child: the last one failed, or has left something.
    is_next_whole: Cell<bool>,
    /// The system allows no children, or they come to nothing.
    is_refused: Cell<bool>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Searching(Child, Report),
    Found(Trash),
}

/// What is to be collected, and what the counts will have to say then.
struct Trash {
    report: Report,
    /// What [`CollectorState::make_full_due`] added.
    added: usize,
}

/// What a child found, for the record.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    pub candidates: usize,
    pub scratch_bytes: usize,
    /// From start to end.
    pub search: Duration,
}

/// What a child writes and its parent reads: figures, then the trash, then objects that need not be tracked.
struct Report {
    memory: Shared,
    /// How much trash there is room for.
    room: usize,
    started: Instant,
    /// The oldest generation's, at that time.
    threshold: i32,
}

#[repr(C, align(64))]
struct Figures {
    is_done: AtomicBool,
    candidates: usize,
    survivors: usize,
    unrooted: usize,
    trash: usize,
    plain: usize,
    /// Trash that lies outside our heap, or that there was no room for.
    left_out: usize,
    scratch_bytes: usize,
    search: Duration,
}

impl Report {
    fn new(room: usize, threshold: i32) -> Option<Report> {
        let memory = Shared::new(size_of::<Figures>() + (room + MOST_PLAIN) * size_of::<Sighting>())?;
        Some(Report { memory, room, started: Instant::now(), threshold })
    }

    fn figures(&self) -> *mut Figures {
        self.memory.start().cast()
    }

    /// The place of a sighting.
    fn place(&self, i: usize) -> *mut Sighting {
        self.memory.start().wrapping_add(size_of::<Figures>()).cast::<Sighting>().wrapping_add(i)
    }

    /// The figures, if they are complete. The rest is complete then as well.
    fn read(&self) -> Option<&Figures> {
        // SAFETY: zeros are figures that are not done; once they are, nobody writes any more.
        unsafe { (*self.figures()).is_done.load(Ordering::Acquire).then(|| &*self.figures()) }
    }

    fn trash(&self) -> impl Iterator<Item = Sighting> {
        self.sightings(0, self.read().map_or(0, |figures| figures.trash))
    }

    fn plain(&self) -> impl Iterator<Item = Sighting> {
        self.sightings(self.room, self.read().map_or(0, |figures| figures.plain))
    }

    fn sightings(&self, first: usize, count: usize) -> impl Iterator<Item = Sighting> {
        // SAFETY: the child wrote so many.
        (0..count).map(move |i| unsafe { self.place(first + i).read() })
    }

    /// Start a child that fills it in.
    fn begin(&self, state: CollectorState, milestones: &Milestones) -> io::Result<Child> {
        let range = hosts::range().ok_or(io::ErrorKind::Unsupported)?;
        let figures = self.figures();
        // SAFETY: only the child calls these, with objects that are alive, and it alone writes. Both lists have the room
        // that is asked for first.
        unsafe {
            let put = |count: *mut usize, first: usize, room: usize, object: *mut PyObject| {
                let is_put = *count < room && range.contains(object.cast());
                if is_put {
                    self.place(first + *count).write(Sighting::of(object));
                    *count += 1;
                }
                is_put
            };
            full::search_in_child(
                state,
                milestones,
                |object| {
                    let is_put = put(&raw mut (*figures).trash, 0, self.room, object);
                    (*figures).left_out += usize::from(!is_put);
                },
                |object| {
                    put(&raw mut (*figures).plain, self.room, MOST_PLAIN, object);
                },
                |found| {
                    (*figures).candidates = found.candidates;
                    (*figures).survivors = found.survivors;
                    (*figures).unrooted = found.unrooted;
                    (*figures).scratch_bytes = found.scratch_bytes;
                    (*figures).search = self.started.elapsed();
                    (*figures).is_done.store(true, Ordering::Release);
                },
            )
        }
    }
}

impl Background {
    /// A full collection begins; what it does. `is_due` says that nobody asked for it.
    pub fn plan(&self, state: CollectorState, is_due: bool) -> Plan {
        let may_go_on = is_due
            && !interpreter::are_several()
            && !interpreter::is_ending()
            && state.young_estimate() <= state.tracked_estimate() / YOUNG_SHARE;
        if may_go_on && matches!(*self.stage.borrow(), Stage::Found(_)) {
            return Plan::Found;
        }
        let is_idle = matches!(*self.stage.borrow(), Stage::Idle);
        if may_go_on && is_idle && !self.is_next_whole.take() && self.is_worth(state) {
            return Plan::Young;
        }
        self.give_up();
        Plan::Whole
    }

    /// Whether a child would make the pause shorter.
    fn is_worth(&self, state: CollectorState) -> bool {
        let objects = state.tracked_estimate();
        if objects < LEAST_OBJECTS || self.is_refused.get() || !methods::all_replaced() {
            return false;
        }
        if self.slow_starts.get() >= MOST_SLOW_STARTS {
            self.doubts.set(self.doubts.get() + 1);
            if self.doubts.get() < MOST_DOUBTS {
                return false;
            }
            self.doubts.set(0);
            self.slow_starts.set(MOST_SLOW_STARTS - 1);
        }
        // Ours are huge pages mostly, which take next to nothing.
        let ours = hosts::range().map_or(0, |range| range.stats().held_bytes as u64);
        let elsewhere_gib = resident_bytes().saturating_sub(ours) as f64 / (1u64 << 30) as f64;
        START_A_GIB.mul_f64(elsewhere_gib) <= longest_start(objects)
    }

    /// The young generations were collected: start a child. How long that took.
    pub fn begin(&self, state: CollectorState, milestones: &Milestones) -> Duration {
        let started = Instant::now();
        let objects = state.tracked_estimate();
        let room = objects * 2 + LEAST_OBJECTS;
        let begun = Report::new(room, state.threshold(OLD))
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
            .and_then(|report| Ok((report.begin(state, milestones)?, report)));
        let took = started.elapsed();
        match begun {
            Ok((child, report)) => {
                let is_slow = took > longest_start(objects);
                self.slow_starts.set(if is_slow { self.slow_starts.get() + 1 } else { 0 });
                self.stage.replace(Stage::Searching(child, report));
            }
            Err(error) => {
                let may_do_later = [io::ErrorKind::OutOfMemory, io::ErrorKind::WouldBlock].contains(&error.kind());
                self.is_refused.set(!may_do_later);
                self.is_next_whole.set(true);
                state.make_full_due();
            }
        }
        took
    }

    /// See whether the child is done, between two collections; called often. What it did, the first time.
    #[inline]
    pub fn look_in(&self, state: CollectorState) -> Option<Finished> {
        if matches!(*self.stage.borrow(), Stage::Idle) && self.leaving.borrow().is_empty() {
            return None;
        }
        self.look_closely(state)
    }

    #[cold]
    fn look_closely(&self, state: CollectorState) -> Option<Finished> {
        self.leaving.borrow_mut().retain(|child| !child.has_ended());
        let (child, report) = match self.stage.take() {
            Stage::Searching(child, report) => (child, report),
            other => {
                self.stage.replace(other);
                return None;
            }
        };
        // In this order: its last word comes before its end.
        let has_ended = child.has_ended();
        let Some(figures) = report.read() else {
            if has_ended {
                self.is_next_whole.set(true);
                self.failures.set(self.failures.get() + 1);
                self.is_refused.set(self.failures.get() >= MOST_FAILURES);
            } else {
                self.stage.replace(Stage::Searching(child, report));
            }
            return None;
        };
        if !has_ended {
            self.leaving.borrow_mut().push(child);
        }
        self.failures.set(0);
        let finished =
            Finished { candidates: figures.candidates, scratch_bytes: figures.scratch_bytes, search: figures.search };
        untrack_found(state, report.plain());
        state.set_long_lived(figures.survivors, state.long_lived_pending());
        let (trash, left_out) = (figures.trash, figures.left_out);
        self.is_next_whole.set(left_out > 0);
        if trash + left_out > 0 {
            // Whoever has put full collections off meanwhile has done so for this one, too.
            let is_put_off = state.threshold(OLD) > report.threshold;
            let added = if is_put_off { 0 } else { state.make_full_due() };
            if left_out == 0 {
                self.stage.replace(Stage::Found(Trash { report, added }));
            }
        }
        Some(finished)
    }

    /// Leave CPython what the child found.
    pub fn hide_all_but_found(&self, state: CollectorState, survivors: &Survivors) -> Option<Found> {
        let Stage::Found(Trash { report, added }) = self.stage.take() else { return None };
        let figures = report.read()?;
        let arrived = state.long_lived_pending().saturating_sub(added);
        let (found, gone) = hide_all_but(state, survivors, figures.survivors + arrived, report.trash());
        self.is_next_whole.set(gone > 0);
        Some(Found { unrooted: figures.unrooted, ..found })
    }

    /// Forget what is under way or was found.
    pub fn give_up(&self) {
        if let Stage::Searching(child, _) = self.stage.take() {
            self.leaving.borrow_mut().extend(child.kill());
        }
    }

    /// The same, and wait until no child is left.
    pub fn end(&self) {
        self.give_up();
        self.leaving.take().into_iter().for_each(Child::wait_for_end);
    }

    /// In the child of a fork: what is under way is the parent's.
    pub fn forget(&self) {
        self.stage.take();
        self.leaving.take();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

/// Leave CPython the trash alone that a child found, and hide all else from it, which are so many objects. Returns what the
/// collection is about, and how many of the trash are no tracked objects any more.
fn hide_all_but(
    state: CollectorState,
    survivors: &Survivors,
    count: usize,
    trash: impl Iterator<Item = Sighting>,
) -> (Found, usize) {
    let mut found = Found { is_counted: true, ..Found::default() };
    let mut clock = Clock::start();
    let (hidden, old) = (survivors.head(), state.head(OLD));
    let (mut left, mut gone) = (Vec::new(), 0);
    // SAFETY: the GIL is held; all heads are different lists.
    unsafe {
        hidden.take_all(old);
        survivors.uncounted.set(count);
        let heads = [hidden, old, state.head(0), state.head(1)];
        for sighting in trash {
            match sighting.header(&heads) {
                Some(header) => {
                    header.unlink();
                    old.append(header);
                    found.suspects += 1;
                    // Without memory, their call sites are not told.
                    if left.try_reserve(1).is_ok() {
                        left.push(sighting.address);
                    }
                }
                None => gone += 1,
            }
        }
        left.sort_unstable();
        let visit_suspects = |visit: &mut dyn FnMut(*mut u8)| old.for_each(|header| visit(header.object().cast()));
        let is_suspect = |address: *const u8| left.binary_search(&address.addr()).is_ok();
        full::note_types(found.suspects, visit_suspects, is_suspect, &mut found.types);
    }
    clock.lap(&mut found.phases.order);
    (found, gone)
}

/// Stop tracking what a child found to need no tracking, as far as that is still so.
fn untrack_found(state: CollectorState, plain: impl Iterator<Item = Sighting>) {
    let heads = [state.head(OLD), state.head(0), state.head(1)];
    let kinds = [(&raw const ffi::PyTuple_Type).addr(), (&raw const ffi::PyDict_Type).addr()];
    for sighting in plain.filter(|sighting| kinds.contains(&sighting.kind)) {
        // SAFETY: the GIL is held. An object that is tracked is alive.
        unsafe {
            if let Some(header) = sighting.header(&heads) {
                untrack_if_plain(header.object());
            }
        }
    }
}

/// How long the start of a child may take, to be worth it for so many objects.
fn longest_start(objects: usize) -> Duration {
    SEARCH_AN_OBJECT.saturating_mul(u32::try_from(objects).unwrap_or(u32::MAX)) / WORTH
}

/// Resident memory of the process; 0 where nobody tells.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let pages = || fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok();
    pages().unwrap_or(0) * PAGE_BYTES
}
