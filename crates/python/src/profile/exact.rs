//! Exact mode: every block of every heap has the number of its site beside it, and every site its counts.
//!
//! ```text
//! hook ─ heap.alloc ─ Walker: whose stack is this? ─ Tags::set ─ Counts::allocated
//! hook ─ Tags::take: whose block was this? ─ Counts::freed ─ heap.free
//! ```
//! There is a keeper for each kind of caller, used as the heaps are: the main one by whoever holds the GIL, the raw one under
//! the raw domain's lock, one for all interpreters with a GIL of their own under a lock of ours. A site's figures are the sum
//! over keepers.
//!
//! **Runs inside allocation hooks**, see the invariants of [`super`].

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::OnceLock;

use heapkeeper_heap::{Lock, MAX_TAG, Tagged, Tags, monotonic_ms};
use heapkeeper_profile::{Counts, Entry, Level, MAX_COUNTED_SITES, SiteCount, SiteId};

pub use super::walker::Depth;
use super::walker::Walker;
use super::with_state;
use crate::{hosts, interpreter};

const _: () = assert!(MAX_COUNTED_SITES <= MAX_TAG as usize);

static ON: AtomicBool = AtomicBool::new(false);
/// NumPy's buffers are in other records, which are added to ours.
static BUFFERS_ELSEWHERE: AtomicBool = AtomicBool::new(false);
static LEVEL: Level = Level::new();
static TAGS: OnceLock<Tags> = OnceLock::new();
static MAIN: Place = Place(UnsafeCell::new(None));
static RAW: Place = Place(UnsafeCell::new(None));
static OWN: Place = Place(UnsafeCell::new(None));
/// Protects `OWN`. Nests inside the locks of the heaps, outside that of the tables.
static OWN_LOCK: Lock = Lock::new();

struct Place(UnsafeCell<Option<Keeper>>);

// SAFETY: who may use which keeper when is said in the module's head.
unsafe impl Sync for Place {}

/// Which keeper counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The mem and object domains of the main interpreter and of all that share its allocator: the GIL is held.
    Main,
    /// The raw domain, under its lock.
    Raw,
    /// The mem and object domains of an interpreter with an allocator of its own.
    Own,
}

/// A book, and whose allocations go into it.
struct Keeper {
    /// What is allocated now is our own work.
    is_quiet: bool,
    /// The block that was counted last, until an object was created.
    last: *mut u8,
    counts: Counts,
    walker: Walker,
    tags: &'static Tags,
}

impl Keeper {
    /// # Safety
    /// `block` is a new block of the calling heap.
    #[inline(always)]
    unsafe fn allocated(&mut self, caller: Caller, block: *mut u8, bytes: usize) {
        if self.is_quiet {
            return;
        }
        self.last = block;
        // SAFETY: this is the thread that runs the hook; the layout was checked before any hook was in.
        let entry = unsafe { self.walker.entry(caller) };
        // SAFETY: by the caller's word.
        if unsafe { self.tags.set(block, bytes, entry.tag()) } {
            self.counts.allocated(entry, bytes as u64, monotonic_ms);
        }
    }

    /// An object was created in a block that was handed out earlier, and kept in one of CPython's free lists meanwhile: the block
    /// is its creator's from now on.
    ///
    /// # Safety
    /// `object` is a new object in the calling heap, or in no heap of ours.
    #[cfg(Py_3_13)]
    #[inline]
    unsafe fn created(&mut self, caller: Caller, object: *mut u8) {
        if self.is_quiet {
            return;
        }
        // SAFETY: by the caller's word.
        unsafe {
            let Some(block) = self.tags.small_block(object) else {
                return;
            };
            // The first object in a new block comes right after it.
            if block == core::mem::replace(&mut self.last, core::ptr::null_mut()) {
                return;
            }
            if let Some(tagged) = self.tags.take(block) {
                self.freed(tagged);
                self.allocated(caller, block, tagged.bytes);
                // This was the block's creation: the next one in it is another.
                self.last = core::ptr::null_mut();
            }
        }
    }

    #[inline(always)]
    fn freed(&self, tagged: Tagged) {
        self.counts.freed(Entry::from_tag(tagged.tag), tagged.bytes as u64);
    }
}

/// Whether every allocation is counted.
#[inline(always)]
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

/// Who counts NumPy's buffers, if anybody does.
#[inline(always)]
pub fn buffers() -> Option<Caller> {
    (is_on() && !BUFFERS_ELSEWHERE.load(Relaxed)).then_some(Caller::Raw)
}

/// # Safety
/// Exact mode is on, and the caller is who it says it is.
#[inline(always)]
unsafe fn with_keeper<R>(caller: Caller, work: impl FnOnce(&mut Keeper) -> R) -> Option<R> {
    let place = match caller {
        Caller::Main => &MAIN,
        Caller::Raw => &RAW,
        Caller::Own => return with_own(work),
    };
    // SAFETY: exclusive by the GIL or by the raw domain's lock.
    unsafe { (*place.0.get()).as_mut() }.map(work)
}

#[cold]
fn with_own<R>(work: impl FnOnce(&mut Keeper) -> R) -> Option<R> {
    // SAFETY: exclusive by the lock.
    OWN_LOCK.with(|| unsafe { (*OWN.0.get()).as_mut() }.filter(|_| is_on()).map(work))
}

/// A heap has handed out `block` for a request of `bytes`.
///
/// # Safety
/// `block` is a new block of the heap that serves the caller, or null.
#[inline(always)]
pub unsafe fn allocated(caller: Caller, block: *mut u8, bytes: usize) {
    if is_on() && !block.is_null() {
        // SAFETY: by the caller's word.
        unsafe { with_keeper(caller, |keeper| keeper.allocated(caller, block, bytes)) };
    }
}

/// `block` is about to be freed.
///
/// # Safety
/// It is a block of the heap that serves the caller, or of no heap of ours.
#[inline(always)]
pub unsafe fn freed(caller: Caller, block: *mut u8) {
    if is_on() {
        // SAFETY: by the caller's word.
        unsafe {
            with_keeper(caller, |keeper| {
                if let Some(tagged) = keeper.tags.take(block) {
                    keeper.freed(tagged);
                }
            })
        };
    }
}

/// Resize `block` by `resize`: to the counts a free and an allocation, unless it fails.
///
/// # Safety
/// `block` is a live block of the heap that serves the caller, and `resize` gives its new place or null.
#[inline]
pub unsafe fn resized(caller: Caller, block: *mut u8, bytes: usize, resize: impl FnOnce() -> *mut u8) -> *mut u8 {
    if !is_on() {
        return resize();
    }
    // SAFETY: by the caller's word.
    unsafe {
        let tagged = with_keeper(caller, |keeper| keeper.tags.take(block)).flatten();
        let moved = resize();
        with_keeper(caller, |keeper| match (tagged, moved.is_null()) {
            (Some(tagged), true) => {
                keeper.tags.set(block, tagged.bytes, tagged.tag);
            }
            (None, true) => {}
            (tagged, false) => {
                if let Some(tagged) = tagged {
                    keeper.freed(tagged);
                }
                keeper.allocated(caller, moved, bytes);
            }
        });
        moved
    }
}

/// Begin to count every allocation, with stacks of this depth. What is live already stays uncounted. The
/// GIL is held. Where it is on already nothing changes.
///
/// # Errors
/// Why it cannot be, in one line.
pub fn start(depth: Depth) -> Result<(), String> {
    if is_on() {
        return Ok(());
    }
    let range = hosts::range().ok_or("exact counts need our heap, and this process runs on CPython's allocator")?;
    let no_memory = || "no memory for exact counts".to_owned();
    super::make_tables().map_err(|_| no_memory())?;
    if TAGS.get().is_none() {
        let tags = Tags::reserve(range).ok_or_else(no_memory)?;
        // Under the GIL nobody else has come in between.
        let _ = TAGS.set(tags);
    }
    let tags = TAGS.get().ok_or_else(no_memory)?;
    creations::listen();
    exclusively(|| {
        for (place, is_first) in [(&MAIN, true), (&RAW, false), (&OWN, false)] {
            // SAFETY: exclusive.
            let keeper = unsafe { &mut *place.0.get() };
            match keeper {
                Some(keeper) => keeper.walker.restart(depth),
                None => {
                    let counts = Counts::new(&LEVEL, is_first).map_err(|_| no_memory())?;
                    *keeper = Some(Keeper {
                        is_quiet: false,
                        last: core::ptr::null_mut(),
                        counts,
                        walker: Walker::new(depth),
                        tags,
                    });
                }
            }
        }
        LEVEL.reset_peak(monotonic_ms());
        ON.store(true, Relaxed);
        hosts::count_exactly(true);
        Ok(())
    })
}

/// Hear of objects that CPython makes from its free lists: since 3.13 it tells one listener of each that is created.
#[cfg(Py_3_13)]
mod creations {
    use core::ffi::{c_int, c_void};

    use pyo3_ffi as ffi;

    use super::{Caller, is_on, with_keeper};
    use crate::hosts::{self, Served};
    use crate::interpreter;

    type Listener = unsafe extern "C" fn(*mut ffi::PyObject, c_int, *mut c_void) -> c_int;

    unsafe extern "C" {
        fn PyRefTracer_SetTracer(listener: Option<Listener>, data: *mut c_void) -> c_int;
        fn PyRefTracer_GetTracer(data: *mut *mut c_void) -> Option<Listener>;
    }

    const CREATED: c_int = 0;

    unsafe extern "C" fn heard(object: *mut ffi::PyObject, event: c_int, _: *mut c_void) -> c_int {
        if event == CREATED && is_on() && matches!(hosts::served(), Served::Main) {
            // SAFETY: the GIL of the main heap is held, and the object is new.
            unsafe { with_keeper(Caller::Main, |keeper| keeper.created(Caller::Main, object.cast())) };
        }
        0
    }

    /// Who listens now.
    fn listener() -> Option<Listener> {
        let mut data = core::ptr::null_mut();
        // SAFETY: the GIL is held.
        unsafe { PyRefTracer_GetTracer(&raw mut data) }
    }

    /// Listen, unless somebody does already. The GIL is held.
    pub(super) fn listen() {
        if listener().is_none() {
            // SAFETY: the GIL is held.
            unsafe { PyRefTracer_SetTracer(Some(heard), core::ptr::null_mut()) };
        }
    }

    /// Listen in the place of CPython's own tracemalloc, which has nothing to hear where ours is in its place. The GIL is held.
    pub(super) fn listen_for_tracemalloc() {
        if listener().is_none_or(|listener| interpreter::in_image(listener as *const c_void)) {
            // SAFETY: the GIL is held.
            unsafe { PyRefTracer_SetTracer(Some(heard), core::ptr::null_mut()) };
        }
    }

    /// Listen no more, unless it is somebody else who does. The GIL is held.
    pub(super) fn leave() {
        if listener().is_some_and(|listener| core::ptr::fn_addr_eq(listener, heard as Listener)) {
            // SAFETY: the GIL is held.
            unsafe { PyRefTracer_SetTracer(None, core::ptr::null_mut()) };
        }
    }
}

#[cfg(not(Py_3_13))]
mod creations {
    pub(super) fn listen() {}

    pub(super) fn listen_for_tracemalloc() {}

    pub(super) fn leave() {}
}

/// Stop counting, and forget everything counted. The GIL is held.
pub fn stop() {
    if is_on() {
        creations::leave();
    }
    clear(false);
}

/// Forget everything counted so far, and go on; heapkeeper.tracemalloc counts from here, with CPython's own records of what
/// extensions report to it, NumPy's buffers among them. The GIL is held.
pub fn restart() {
    if is_on() {
        creations::listen_for_tracemalloc();
    }
    clear(true);
}

fn clear(go_on: bool) {
    if !is_on() {
        return;
    }
    let sites = with_state(|state| state.tables.site_count()).unwrap_or(0);
    exclusively(|| {
        hosts::count_exactly(go_on);
        BUFFERS_ELSEWHERE.store(go_on, Relaxed);
        ON.store(go_on, Relaxed);
        for place in [&MAIN, &RAW, &OWN] {
            // SAFETY: exclusive.
            if let Some(keeper) = unsafe { (*place.0.get()).as_mut() } {
                keeper.counts.clear(sites);
            }
        }
        if let Some(tags) = TAGS.get() {
            // SAFETY: exclusive.
            unsafe { tags.clear() };
        }
        LEVEL.clear(monotonic_ms());
    });
}

/// Run `work` while no hook counts: the GIL is held, and the locks keep all others out. `work` does not come back here.
fn exclusively<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: a heap exists, and nothing in here asks it for memory.
    unsafe { hosts::with_raw(|_| OWN_LOCK.with(work)) }
}

/// Run `work`, which makes a report of what was counted, without counting what it allocates. The GIL is held.
pub fn uncounted<R>(work: impl FnOnce() -> R) -> R {
    let set = |quiet: bool| {
        if interpreter::may_use_main() {
            // SAFETY: the GIL of the main heap is held.
            unsafe { with_keeper(Caller::Main, |keeper| keeper.is_quiet = quiet) };
        }
    };
    set(true);
    let result = work();
    set(false);
    result
}

/// What has been counted altogether.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub live_bytes: u64,
    pub peak_bytes: u64,
    pub live_blocks: u64,
    pub total_bytes: u64,
    pub total_blocks: u64,
}

/// What has been counted altogether, in constant time; all zero while exact mode is off. The GIL is held.
pub fn usage() -> Usage {
    let mut usage = Usage { live_bytes: LEVEL.live_bytes(), peak_bytes: LEVEL.peak_bytes(), ..Usage::default() };
    for_each_book(|counts| {
        let totals = counts.totals();
        usage.live_blocks = usage.live_blocks.wrapping_add(totals.live_blocks);
        usage.total_bytes += totals.total_bytes;
        usage.total_blocks += totals.total_blocks;
    });
    usage
}

/// Bytes that counting takes; 0 while exact mode is off. The GIL is held.
pub fn memory_bytes() -> usize {
    if !is_on() {
        return 0;
    }
    let tags = TAGS.get().map_or(0, Tags::memory_bytes);
    let (tables, sites) =
        with_state(|state| (state.tables.memory_bytes(), state.tables.site_count())).unwrap_or_default();
    let mut books = 0;
    for_each_book(|counts| books += counts.memory_bytes(sites));
    tags + tables + books
}

/// Let the peak start again from what is live now.
pub fn reset_peak() {
    LEVEL.reset_peak(monotonic_ms());
}

/// When the state at the peak was kept, by the clock of [`monotonic_ms`].
pub fn peak_at_ms() -> u64 {
    LEVEL.peak_at_ms()
}

/// The counts of a site, which has its own entry or none.
pub fn count_of(site: SiteId) -> SiteCount {
    match Entry::of(site) {
        Entry::OTHERS => SiteCount::default(),
        entry => count(entry),
    }
}

/// The counts of all sites that found no room.
pub fn others() -> SiteCount {
    count(Entry::OTHERS)
}

/// The counts of one entry.
fn count(entry: Entry) -> SiteCount {
    let mut sum = SiteCount::default();
    for_each_book(|counts| sum = sum.plus(counts.get(entry)));
    sum
}

fn for_each_book(mut work: impl FnMut(&Counts)) {
    for place in [&MAIN, &RAW, &OWN] {
        // SAFETY: keepers are made before exact mode is on, and never taken away; a book may be read by anybody.
        if let Some(keeper) = unsafe { (*place.0.get()).as_ref() } {
            work(&keeper.counts);
        }
    }
}

/// The tag of a live block that the caller may use.
///
/// # Safety
/// The GIL is held, and `block` is a live block of the main heap, or of no heap of ours.
pub unsafe fn tag_of(block: *const u8) -> Option<(Entry, usize)> {
    let tags = TAGS.get().filter(|_| is_on())?;
    // SAFETY: by the caller's word.
    let tagged = unsafe { tags.get(block) }?;
    Some((Entry::from_tag(tagged.tag), tagged.bytes))
}

/// Visit every counted block that is live: its address, bytes and entry. `visit` asks no heap for memory. The GIL is held.
pub fn visit(mut visit: impl FnMut(usize, usize, Entry)) {
    if let Some(tags) = TAGS.get().filter(|_| is_on()) {
        exclusively(|| tags.visit(|address, tagged| visit(address, tagged.bytes, Entry::from_tag(tagged.tag))));
    }
}

/// Before a fork, after the locks of the heaps and before that of the tables.
pub fn before_fork() {
    OWN_LOCK.acquire();
    if let Some(tags) = TAGS.get() {
        tags.before_fork();
    }
}

/// After a fork, in the parent.
pub fn after_fork_in_parent() {
    if let Some(tags) = TAGS.get() {
        tags.after_fork_in_parent();
    }
    OWN_LOCK.release();
}

/// After a fork, in the child.
pub fn after_fork_in_child() {
    if let Some(tags) = TAGS.get() {
        tags.after_fork_in_child();
    }
    OWN_LOCK.reset();
}
