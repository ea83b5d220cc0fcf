//! Full collections of CPython's cycles, by our own search (`--gc heapkeeper`) or checked against it (`--gc verify`).
//!
//! ```text
//! CPython:   trigger ─ start callbacks ─ search ─ weak references, finalizers, clearing ─ stop callbacks
//!                      └ ours: full.rs   └ finds what we left it                          └ ours: survivors back
//! ```
//! Young collections, all triggers and all disposal stay CPython's. What it calls before and after a collection is a list of
//! ours ([`seat`]), whose one entry passes everything on to `gc.callbacks`; so programs see their own list, and nobody
//! removes us from it. Before a full collection, whoever asked for it, the entry searches (`full.rs`) and leaves CPython
//! the trash alone. Thus counts, statistics, return values, `gc.garbage` and the order of events are CPython's own. Before a
//! young one it spares CPython some waiting (`young.rs`).
//!
//! ```text
//! seat.rs        takes the place of the callbacks, after checking that everything is where we look for it
//! methods.rs     functions of the interpreter's that come past us
//! full.rs        the search over an interpreter's objects
//! young.rs       before young collections
//! background.rs  the same in a child, beside the program; sighting.rs: objects as the child saw them
//! survivors.rs   what is hidden from CPython while it collects
//! order.rs       in which order the survivors' list is left
//! graph.rs       objects, counts, children
//! list.rs        CPython's linked lists; milestones.rs has objects of ours in them, to enter by
//! state.rs       CPython's collector state
//! verify.rs      what CPython's own search finds, compared
//! traverse.rs    types that say something wrong of their references
//! history.rs     what collections did, for reports
//! ```
//! In the mode `background` a child searches instead, and CPython is left with what it found the next time (`background.rs`).
//!
//! With any `gc.DEBUG_*` flag set, CPython searches for itself: its messages speak of its own lists. So it does at its end where
//! there are few objects.

mod background;
mod full;
mod graph;
mod history;
mod list;
mod methods;
mod milestones;
mod order;
mod seat;
mod sighting;
mod state;
mod survivors;
mod traverse;
mod verify;
mod young;

use std::cell::{Cell, RefCell};
use std::time::Instant;

use pyo3_ffi::{self as ffi, PyObject};

use crate::{capture, interpreter, profile};
use background::{Background, Plan};
use history::History;
use milestones::Milestones;
use state::{CollectorState, MIDDLE, OLD, YOUNGEST};
use survivors::Survivors;
use verify::Verification;
use young::Young;

pub use full::{after_fork_in_parent, before_fork};
pub use seat::{is_collecting, status, take};
pub use young::promote_always;

/// Who finds the trash of full collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// CPython's search alone.
    Cpython,
    /// Our search.
    Heapkeeper,
    /// Our search, in a child where that is worth it.
    Background,
    /// CPython's, compared with ours.
    Verify,
}

/// When CPython ends it collects several times, what is left between them being mostly trash. So few objects it searches as
/// fast as we do, and short programs need not pay for tables of ours.
const FEW_OBJECTS: usize = 16 << 10;

/// Our collector in one interpreter. At a fixed address, used under the interpreter's GIL. Code of the program that runs inside
/// its calls may come back to it: nothing is borrowed meanwhile.
pub struct Seat {
    state: CollectorState,
    mode: Cell<Mode>,
    /// What the program knows as `gc.callbacks`; the reference is ours.
    callbacks: *mut PyObject,
    survivors: Survivors,
    young: Young,
    milestones: Milestones,
    verification: RefCell<Verification>,
    background: Background,
    /// What the full collection that runs now does.
    plan: Cell<Plan>,
    /// Threads that ask for a collection now.
    asking: RefCell<Vec<libc::pthread_t>>,
    history: RefCell<History>,
    /// The collections that run. One may begin while another disposes: see [`Began`].
    running: RefCell<Vec<Began>>,
    /// Whether ours is the only entry of the list that CPython calls: see `seat.rs`.
    is_alone: Cell<bool>,
}

/// A collection that runs: when it began, and in which thread.
///
/// 3.12's `_Py_RunGC` (Modules/gcmodule.c, 3.12.1) begins one that is due without asking whether another runs, and ends by
/// saying that none does. So a finalizer, a callback, or another thread meanwhile, may come to more of them, full ones too.
#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    thread: libc::pthread_t,
    /// Whether CPython is at it, between the callbacks: what it takes for trash stands in lists on this thread's stack then.
    is_at_work: bool,
}

impl Began {
    fn now() -> Began {
        // SAFETY: reads the calling thread's own number.
        Began { at: Instant::now(), thread: unsafe { libc::pthread_self() }, is_at_work: false }
    }

    /// Whether it began in the calling thread.
    fn is_here(&self) -> bool {
        is_here(self.thread)
    }
}

/// Whether this is the calling thread.
fn is_here(thread: libc::pthread_t) -> bool {
    // SAFETY: compares numbers.
    unsafe { libc::pthread_equal(thread, libc::pthread_self()) != 0 }
}

/// The phases that CPython tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Stop,
}

impl Seat {
    /// CPython's call before and after each collection, with its two arguments. Young collections are short: nothing here
    /// may be slow.
    ///
    /// # Safety
    /// The GIL is held; the arguments are those of a callback.
    unsafe fn called(&self, phase: Phase, arguments: *const *mut PyObject) {
        // SAFETY: by the caller's word.
        let generation = unsafe { generation(*arguments.add(1)) };
        let is_full = generation == OLD;
        match phase {
            Phase::Start => {
                self.survivors.count(self.state);
                // The program's callbacks may change it.
                let is_due =
                    is_full && !self.is_asking() && self.running.borrow().is_empty() && self.state.is_full_due();
                self.running.borrow_mut().push(Began::now());
                // SAFETY: by the caller's word.
                unsafe { self.forward(arguments) };
                if self.state.debug() != 0 {
                    self.milestones.take_up(); // CPython is going to say how many objects there are.
                }
                match generation {
                    OLD => self.before_full(is_due),
                    MIDDLE => self.before_middle(),
                    YOUNGEST if self.is_ours() => young::begin_youngest(self.state),
                    _ => {}
                }
                self.set_at_work(true);
            }
            Phase::Stop => {
                self.set_at_work(false);
                match generation {
                    OLD => self.after_full(),
                    // SAFETY: by the caller's word.
                    MIDDLE => self.after_middle(|| unsafe { counts(*arguments.add(1)) }.0),
                    _ if self.places_milestones() => self.milestones.after_youngest(self.state),
                    _ => {}
                }
                if self.mode.get() == Mode::Background
                    && self.running.borrow().len() == 1
                    && let Some(finished) = self.background.look_in(self.state)
                {
                    self.history.borrow_mut().finished(finished);
                }
                if let Some(began) = self.last_begun_here().map(|i| self.running.borrow()[i]) {
                    let pause = began.at.elapsed();
                    self.history.borrow_mut().note(generation, pause);
                    profile::collected(is_full);
                    // SAFETY: by the caller's word.
                    capture::collected(generation, pause, || unsafe { counts(*arguments.add(1)) });
                }
                // SAFETY: by the caller's word.
                unsafe { self.forward(arguments) };
                if let Some(i) = self.last_begun_here() {
                    self.running.borrow_mut().remove(i);
                }
            }
        }
    }

    /// Whether our search decides.
    fn is_ours(&self) -> bool {
        matches!(self.mode.get(), Mode::Heapkeeper | Mode::Background)
    }

    /// Whether a collection leaves milestones. CPython counts whatever stands in its lists where a debug flag is set.
    fn places_milestones(&self) -> bool {
        self.is_ours() && self.state.debug() == 0
    }

    /// CPython begins to search and dispose in the collection that the calling thread is in, or has ended that.
    fn set_at_work(&self, is_at_work: bool) {
        if let Some(i) = self.last_begun_here() {
            self.running.borrow_mut()[i].is_at_work = is_at_work;
        }
    }

    /// Which of the collections that run is the innermost of the calling thread.
    fn last_begun_here(&self) -> Option<usize> {
        self.running.borrow().iter().rposition(Began::is_here)
    }

    /// Who searches in a full collection that begins now.
    fn searcher(&self) -> Mode {
        let is_end_of_few = || interpreter::is_ending() && self.state.tracked_estimate() <= FEW_OBJECTS;
        match self.mode.get() {
            _ if self.state.debug() != 0 => Mode::Cpython,
            Mode::Heapkeeper | Mode::Background if is_end_of_few() => Mode::Cpython,
            mode => mode,
        }
    }

    fn before_middle(&self) {
        match self.searcher() {
            Mode::Heapkeeper | Mode::Background => {
                if let Some(promoted) = self.young.begin_middle(self.state, &self.milestones) {
                    self.history.borrow_mut().promoted(promoted);
                }
            }
            Mode::Verify => {
                self.milestones.take_up_middle();
                self.state.uncounted(|| self.verification.borrow_mut().begin(self.state, MIDDLE));
            }
            Mode::Cpython => {}
        }
        self.milestones.take_up_middle();
    }

    fn after_middle(&self, collected: impl FnOnce() -> u64) {
        if self.is_ours() {
            self.young.end_middle(self.state, collected());
        }
        if self.places_milestones() {
            self.milestones.after_middle(self.state);
        }
        self.after_compared();
    }

    fn before_full(&self, is_due: bool) {
        self.milestones.take_up_middle();
        // Those of a collection that runs are candidates of this one.
        self.disposed();
        let searcher = self.searcher();
        let plan = match searcher {
            Mode::Background => self.background.plan(self.state, is_due),
            _ => {
                self.background.give_up();
                Plan::Whole
            }
        };
        self.plan.set(plan);
        let found = match (searcher, plan) {
            (Mode::Cpython, _) => {
                self.milestones.take_up();
                None
            }
            (Mode::Verify, _) => {
                self.milestones.take_up();
                self.state.uncounted(|| self.verification.borrow_mut().begin(self.state, OLD));
                None
            }
            (_, Plan::Whole) => {
                let expects_trash = self.history.borrow().expects_trash();
                full::hide_survivors(self.state, &self.milestones, &self.survivors, expects_trash)
            }
            (_, Plan::Young) => {
                self.survivors.hide_old(self.state);
                None
            }
            (_, Plan::Found) => self.background.hide_all_but_found(self.state, &self.survivors),
        };
        if let Some(found) = found {
            self.history.borrow_mut().searched(found);
        }
    }

    /// CPython has disposed of what a search of ours left it with, or has come as far as to collect anew.
    fn disposed(&self) {
        let state = self.state;
        // SAFETY: the GIL is held; visiting runs no Python code.
        let visit_left = |visit: &mut dyn FnMut(*mut PyObject)| unsafe {
            state.head(OLD).for_each(|header| visit(header.object()));
        };
        self.history.borrow_mut().disposed(visit_left);
        self.survivors.count(state);
        self.survivors.come_back(state);
    }

    fn after_full(&self) {
        self.disposed();
        if self.plan.replace(Plan::Whole) == Plan::Young && self.mode.get() == Mode::Background {
            self.milestones.take_up_middle();
            let start = self.background.begin(self.state, &self.milestones);
            self.history.borrow_mut().begun(start);
        }
        self.after_compared();
    }

    /// What CPython found is known, if it was to be compared.
    fn after_compared(&self) {
        if self.mode.get() == Mode::Verify {
            let (compared, difference) = self.state.uncounted(|| self.verification.borrow_mut().end());
            self.history.borrow_mut().compared += u64::from(compared);
            if let Some(difference) = difference {
                self.history.borrow_mut().differences += 1;
                verify::report(&difference);
                // From here on CPython's own collector is alone.
                self.verification.borrow_mut().stop();
            }
        }
    }

    /// Call the program's callbacks, as CPython does: the list may change meanwhile, and an exception ends one call only
    /// (`invoke_gc_callback`, Modules/gcmodule.c or Python/gc.c, 3.10 to 3.13).
    ///
    /// # Safety
    /// The GIL is held; the arguments are those of a callback.
    unsafe fn forward(&self, arguments: *const *mut PyObject) {
        // SAFETY: by the caller's word; the list is a list, and ours to keep.
        unsafe {
            let mut i = 0;
            while i < ffi::PyList_GET_SIZE(self.callbacks) {
                let callback = ffi::Py_NewRef(ffi::PyList_GET_ITEM(self.callbacks, i));
                let result = ffi::PyObject_Vectorcall(callback, arguments, 2, std::ptr::null_mut());
                if result.is_null() {
                    ffi::PyErr_WriteUnraisable(callback);
                } else {
                    ffi::Py_DECREF(result);
                }
                ffi::Py_DECREF(callback);
                i += 1;
            }
        }
    }

    /// From the next collection on.
    fn set_mode(&self, mode: Mode) {
        if mode != Mode::Background {
            self.background.give_up();
        }
        self.mode.set(mode);
    }

    /// Whether the calling thread asks for a collection.
    fn is_asking(&self) -> bool {
        self.asking.borrow().iter().any(|thread| is_here(*thread))
    }

    /// The calling thread asks for a collection, with `work`.
    fn asked<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: reads the calling thread's own number.
        self.asking.borrow_mut().push(unsafe { libc::pthread_self() });
        let result = work();
        let mut asking = self.asking.borrow_mut();
        if let Some(i) = asking.iter().rposition(|thread| is_here(*thread)) {
            asking.remove(i);
        }
        result
    }

    /// Code of the program that runs in the middle of a collection wants to see all objects.
    fn show_survivors(&self) {
        self.survivors.come_back(self.state);
    }

    /// The same for code that moves them: none of ours may be among them.
    fn show_survivors_alone(&self) {
        self.show_survivors();
        self.background.give_up();
        self.milestones.take_up();
    }

    /// The child of a fork: if the thread that collected is not the one that lives on, its collection never ends.
    ///
    /// Where CPython was at it, it stays so, and none begins any more, as under plain CPython. What it took for trash is marked
    /// as being collected, and an object that a finalizer kept would be damaged if another collection met it with that mark.
    fn after_fork(&self) {
        self.background.forget();
        self.asking.borrow_mut().retain(|thread| is_here(*thread));
        let mut running = self.running.borrow_mut();
        let before = running.len();
        let is_amid_work = running.iter().any(|began| began.is_at_work && !began.is_here());
        running.retain(Began::is_here);
        if running.len() < before {
            self.survivors.count(self.state);
            self.survivors.come_back(self.state);
            if running.is_empty() && !is_amid_work {
                self.state.end_collecting();
            }
        }
    }
}

/// The generation that a callback's dict names. It comes first there (`invoke_gc_callback`, 3.10 to 3.13); if something else
/// does, the answer is none that exists, and CPython collects alone.
///
/// # Safety
/// The GIL is held; `info` is a dict.
unsafe fn generation(info: *mut PyObject) -> usize {
    let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: by the caller's word; key and value are borrowed.
    unsafe {
        if ffi::PyDict_Next(info, &mut position, &mut key, &mut value) == 0
            || ffi::PyUnicode_CompareWithASCIIString(key, c"generation".as_ptr()) != 0
        {
            return usize::MAX;
        }
        ffi::PyLong_AsLong(value) as usize
    }
}

/// Objects that a collection found and those that it could not free, as a callback's dict says.
///
/// # Safety
/// The GIL is held; `info` is a dict.
unsafe fn counts(info: *mut PyObject) -> (u64, u64) {
    // SAFETY: by the caller's word; what is found is borrowed. A look-up that fails clears its error.
    let number = |key: &std::ffi::CStr| unsafe {
        let key = ffi::PyUnicode_InternFromString(key.as_ptr());
        let value = if key.is_null() { std::ptr::null_mut() } else { ffi::PyDict_GetItem(info, key) };
        ffi::Py_XDECREF(key);
        let number = if value.is_null() { 0 } else { ffi::PyLong_AsLongLong(value) };
        if !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
        }
        u64::try_from(number).unwrap_or(0)
    };
    (number(c"collected"), number(c"uncollectable"))
}

/// In the child of a fork.
pub fn after_fork_in_child() {
    full::after_fork_in_child();
    seat::after_fork();
}
