//! Which heap serves whom.
//!
//! | caller | heap | exclusive by |
//! |---|---|---|
//! | mem and object domains of the main interpreter, and of all that share its allocator | `MAIN` | the GIL |
//! | raw domain, any thread; callers without a thread state | `RAW` | `RAW_LOCK` |
//! | mem and object domains of an interpreter with an allocator of its own (3.12+) | its own | its GIL |
//!
//! The hot path asks one question: is there anything but the first row, or anybody who counts? Only then does it look further.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

use heapkeeper_heap::{Heap, HeapStats, Lock, Range};
use pyo3_ffi as ffi;

use crate::{imports, interpreter, profile};

/// Address space to ask for: 1 TiB.
const RANGE_BYTES: usize = 1 << 40;

/// A heap at a fixed address, created once.
pub struct Host(UnsafeCell<MaybeUninit<Heap>>);

// SAFETY: who may touch which heap when is the table in the module's head.
unsafe impl Sync for Host {}

static MAIN: Host = Host(UnsafeCell::new(MaybeUninit::uninit()));
static RAW: Host = Host(UnsafeCell::new(MaybeUninit::uninit()));
static RAW_LOCK: Lock = Lock::new();
static RANGE: OnceLock<&'static Range> = OnceLock::new();

/// What hooks must look at: the two bits below.
static WATCH: AtomicU8 = AtomicU8::new(0);
/// There may be interpreters with heaps of their own.
const WATCH_SEPARATE: u8 = 1;
/// Every allocation is counted.
const WATCH_EXACT: u8 = 2;
/// Whether the state of one of them may lie outside our range.
static SEPARATE_FOREIGN: AtomicBool = AtomicBool::new(false);
static SEPARATE_LOCK: Lock = Lock::new();
static SEPARATE: SeparateCell = SeparateCell(UnsafeCell::new(Separate { hosts: Vec::new(), retired: Vec::new() }));
/// Blocks of one interpreter freed by another: they are left alone and counted.
pub static STRAY_FREES: AtomicUsize = AtomicUsize::new(0);

struct SeparateCell(UnsafeCell<Separate>);

// SAFETY: used under `SEPARATE_LOCK` only.
unsafe impl Sync for SeparateCell {}

/// Interpreters with heaps of their own.
struct Separate {
    /// Blocks that may be interpreters, and the heaps of those that turned out to be.
    hosts: Vec<SeparateHost>,
    /// Heaps of interpreters that are gone, for the next ones. See [`interpreter_may_be_gone`]. There is room for each that
    /// there is: whoever frees an interpreter's state does not allocate.
    retired: Vec<&'static mut Heap>,
}

/// A raw block large enough to be an interpreter's state, and its heap if it is one.
struct SeparateHost {
    /// Null if the block is older than our hooks, or CPython's default allocator was in for the moment (imports.rs): then it
    /// is the one that `interpreter` lies at the start of.
    block: *mut u8,
    interpreter: *mut ffi::PyInterpreterState,
    heap: Option<&'static mut Heap>,
}

/// Raw blocks of at least this size may be an interpreter: `sizeof(PyInterpreterState)` is above 100 KiB since 3.12, and
/// differs between patch levels, so that the size itself is no test.
pub const INTERPRETER_MIN_BYTES: usize = 64 << 10;

/// The state begins so near the start of its block: CPython aligns it by hand where it must (3.13).
const INTERPRETER_WITHIN_BYTES: usize = 128;

impl SeparateHost {
    /// Whether the block at `block` is, or was, this interpreter's.
    fn is_in(&self, block: *mut u8) -> bool {
        if !self.block.is_null() {
            return self.block == block;
        }
        // A small block of libc's may lie just below.
        // SAFETY: somebody frees it, so it is live; and it is libc's, as what lies beside it is.
        begins(block, self.interpreter) && unsafe { libc::malloc_usable_size(block.cast()) } >= INTERPRETER_MIN_BYTES
    }

    /// Whether the block is another allocator's.
    fn is_foreign(&self) -> bool {
        let state = if self.block.is_null() { self.interpreter.cast() } else { self.block };
        range().is_some_and(|range| !range.contains(state))
    }

    /// Whether `interpreter` is this one's.
    fn is(&self, interpreter: *mut ffi::PyInterpreterState) -> bool {
        self.interpreter == interpreter || (self.interpreter.is_null() && begins(self.block, interpreter))
    }
}

/// Whether an interpreter's state may be what a block was asked for.
fn begins(block: *mut u8, interpreter: *mut ffi::PyInterpreterState) -> bool {
    interpreter.addr().wrapping_sub(block.addr()) < INTERPRETER_WITHIN_BYTES
}

/// Create the main and the raw heap. Called once, before the hooks are in.
///
/// # Errors
/// A line that says why there can be no heap.
pub fn create() -> Result<(), String> {
    let range = Range::reserve(RANGE_BYTES).map_err(|error| error.to_string())?;
    let heaps = Heap::new(range).zip(Heap::new(range));
    let (main, raw) = heaps.ok_or("no heap to be had in a fresh range")?;
    // SAFETY: nobody uses the hosts before `RANGE` is set and the hooks are in.
    unsafe {
        (*MAIN.0.get()).write(main);
        (*RAW.0.get()).write(raw);
    }
    if interpreter::MAY_HAVE_ALLOCATORS && interpreter::are_several() {
        watch(WATCH_SEPARATE, true);
    }
    RANGE.set(range).map_err(|_| "the heap exists already".to_owned())
}

/// The range of all heaps, once there is one.
pub fn range() -> Option<&'static Range> {
    RANGE.get().copied()
}

/// Whether there is a hard limit over all heaps.
pub fn is_limited() -> bool {
    range().is_some_and(|range| range.stats().limit_bytes != usize::MAX)
}

/// The main interpreter's heap.
///
/// # Safety
/// The heap exists, and the caller holds the GIL of the main interpreter or of one that shares its allocator.
#[inline(always)]
pub unsafe fn main() -> &'static mut Heap {
    // SAFETY: exclusive by the GIL, and no reference outlives a hook.
    unsafe { (*MAIN.0.get()).assume_init_mut() }
}

/// Run `work` on the heap of the raw domain.
///
/// # Safety
/// The heap exists, and `work` does not come back here.
#[inline]
pub unsafe fn with_raw<R>(work: impl FnOnce(&mut Heap) -> R) -> R {
    // SAFETY: exclusive by the lock.
    RAW_LOCK.with(|| work(unsafe { (*RAW.0.get()).assume_init_mut() }))
}

/// Whether every caller of the mem and object domains is served by [`main`].
#[inline(always)]
pub fn only_main() -> bool {
    WATCH.load(Relaxed) & WATCH_SEPARATE == 0
}

/// Whether the mem and object domains have nothing to do but to ask [`main`]: the one question of the hot path.
#[inline(always)]
pub fn is_plain() -> bool {
    WATCH.load(Relaxed) == 0
}

/// Say whether every allocation is counted.
pub fn count_exactly(on: bool) {
    watch(WATCH_EXACT, on);
}

fn watch(what: u8, on: bool) {
    match on {
        true => WATCH.fetch_or(what, Relaxed),
        false => WATCH.fetch_and(!what, Relaxed),
    };
}

/// A heap that the calling thread may use now.
pub enum Served {
    /// By the main interpreter's.
    Main,
    /// By that of its own interpreter.
    Own(*mut Heap),
    /// By the raw domain's, under its lock: the thread has no thread state.
    Raw,
}

/// Who serves the calling thread.
pub fn served() -> Served {
    if only_main() { Served::Main } else { served_among_several() }
}

#[cold]
fn served_among_several() -> Served {
    let Some(interpreter) = interpreter::separate() else {
        return Served::Main;
    };
    if interpreter.is_null() {
        return Served::Raw;
    }
    thread_local! {
        /// The last interpreter seen on this thread, the generation of the table it was found in, and its heap.
        static LAST: std::cell::Cell<(*mut ffi::PyInterpreterState, usize, *mut Heap)> =
            const { std::cell::Cell::new((std::ptr::null_mut(), 0, std::ptr::null_mut())) };
    }
    let generation = GENERATION.load(Relaxed);
    let (last, seen_in, heap) = LAST.get();
    if last == interpreter && seen_in == generation {
        return Served::Own(heap);
    }
    match own_heap(interpreter) {
        Some(heap) => {
            LAST.set((interpreter, generation, heap));
            Served::Own(heap)
        }
        None => Served::Raw,
    }
}

/// Counts the ends of interpreters: a new one may have the address of an old one.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

fn own_heap(interpreter: *mut ffi::PyInterpreterState) -> Option<*mut Heap> {
    let range = range()?;
    with_separate(|separate| {
        let found = separate.hosts.iter().position(|host| host.is(interpreter)).unwrap_or_else(|| {
            separate.add(SeparateHost { block: std::ptr::null_mut(), interpreter, heap: None });
            separate.hosts.len() - 1
        });
        let host = &mut separate.hosts[found];
        host.interpreter = interpreter;
        if host.heap.is_none() {
            host.heap = separate.retired.pop();
        }
        if host.heap.is_none() {
            let heap = Box::leak(Box::new(Heap::new(range)?));
            profile::observe(heap, profile::Domain::Interpreter);
            host.heap = Some(heap);
            separate.retired.reserve(separate.hosts.len());
        }
        separate.hosts[found].heap.as_deref_mut().map(|heap| &raw mut *heap)
    })
}

fn with_separate<R>(work: impl FnOnce(&mut Separate) -> R) -> R {
    // SAFETY: under the lock.
    SEPARATE_LOCK.with(|| work(unsafe { &mut *SEPARATE.0.get() }))
}

/// The same if the lock can be had at once.
fn try_with_separate<R>(work: impl FnOnce(&mut Separate) -> R) -> Option<R> {
    SEPARATE_LOCK.try_acquire().then(|| {
        // SAFETY: under the lock.
        let result = work(unsafe { &mut *SEPARATE.0.get() });
        SEPARATE_LOCK.release();
        result
    })
}

impl Separate {
    fn add(&mut self, host: SeparateHost) {
        self.hosts.push(host);
        self.note_foreign();
    }

    fn note_foreign(&self) {
        SEPARATE_FOREIGN.store(self.hosts.iter().any(SeparateHost::is_foreign), Relaxed);
    }

    /// If an interpreter is in `block`, take it out of the table. Returns its heap.
    ///
    /// The last one to go ends the looking at thread states, if no interpreter can be there that we have not heard of. One
    /// whose state libc handed out while CPython's default allocator was in is in CPython's list: to enter it, to leave it and
    /// to allocate its state is done under one lock of CPython's (Python/pystate.c, HEAD_LOCK), the moments of the default
    /// allocator lie between the entry and the exit of whoever makes them, and the interpreter that goes now has left.
    fn take(&mut self, block: *mut u8) -> Option<&'static mut Heap> {
        let found = self.hosts.iter().position(|host| host.is_in(block))?;
        let gone = self.hosts.swap_remove(found);
        self.note_foreign();
        GENERATION.fetch_add(1, Relaxed);
        if self.hosts.is_empty() && !interpreter::are_several() && !imports::default_is_in() {
            watch(WATCH_SEPARATE, false);
        }
        gone.heap
    }
}

/// The raw domain handed out a zeroed block that may become an interpreter's state: from now on look at thread states.
#[cold]
pub fn may_be_interpreter(block: *mut u8) {
    if !interpreter::MAY_HAVE_ALLOCATORS {
        return;
    }
    with_separate(|separate| {
        let interpreter = std::ptr::null_mut();
        match separate.hosts.iter_mut().find(|host| host.block == block) {
            // What was there before has gone without a word, as `realloc` moves blocks.
            Some(host) => host.interpreter = interpreter,
            None => separate.add(SeparateHost { block, interpreter, heap: None }),
        }
        watch(WATCH_SEPARATE, true);
    });
}

/// The raw domain is about to free a block: if it was an interpreter, that interpreter is gone, and its heap waits for the
/// next one. Its state is the last thing that CPython frees of it (3.12–3.13, Python/pystate.c, free_interpreter).
///
/// Free memory of that heap goes back; the thousands of blocks that the interpreter left behind stay. Others may still use
/// them: the static parsers of extension modules (`_PyArg_Parser`) keep in 3.12.1 the names that the first interpreter to
/// call them made, and the main one reads those afterwards. CPython leaves such memory alone as well.
#[cold]
pub fn interpreter_may_be_gone(block: *mut u8) {
    if let Some(heap) = with_separate(|separate| separate.take(block)) {
        heap.release_free();
        with_separate(|separate| separate.retired.push(heap));
    }
}

/// As [`interpreter_may_be_gone`], for a block that libc is about to free on behalf of anybody, whatever locks they hold.
/// Where ours is among those, or busy, an entry stays that no longer stands for anything: the next interpreter at that
/// address takes its heap over. Or the heap is nobody's any more.
#[inline]
pub fn foreign_interpreter_may_be_gone(block: *mut u8) {
    if SEPARATE_FOREIGN.load(Relaxed)
        && let Some(heap) = try_with_separate(|separate| separate.take(block)).flatten()
    {
        heap.release_free();
        try_with_separate(|separate| separate.retired.push(heap));
    }
}

/// Interpreters that have a heap of their own now, the main one included.
pub fn interpreters() -> usize {
    1 + with_separate(|separate| separate.hosts.iter().filter(|host| host.heap.is_some()).count())
}

/// What the heaps hold that may be looked at: the main one, that of the raw domain, and those of interpreters that are gone.
///
/// # Safety
/// The heap exists, and the caller holds the GIL. From an interpreter with a heap of its own the main heap is somebody else's:
/// then its figures may be those of a moment that never was, as its tables are read while they change.
pub unsafe fn stats() -> Vec<HeapStats> {
    // SAFETY: by the caller's word.
    let ours = unsafe { [main().stats(), with_raw(|raw| raw.stats())] };
    let retired = with_separate(|separate| separate.retired.iter().map(|heap| heap.stats()).collect::<Vec<_>>());
    ours.into_iter().chain(retired).collect()
}

/// Take every lock, so that the child of a fork finds the heaps whole. The order is that of nesting.
pub fn before_fork() {
    SEPARATE_LOCK.acquire();
    RAW_LOCK.acquire();
}

/// In the parent.
pub fn after_fork_in_parent() {
    RAW_LOCK.release();
    SEPARATE_LOCK.release();
}

/// In the child.
pub fn after_fork_in_child() {
    RAW_LOCK.reset();
    SEPARATE_LOCK.reset();
}
