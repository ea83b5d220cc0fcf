//! Watches the heap for one who wants to know its state where memory runs out: `at-heap=SIZE` and `on-limit=capture`.
//!
//! ```text
//! thread:  every 100 ms  held bytes past the size?  ─┐
//! hook:    no memory ─ flag, wake, wait ≤ 1 s ───────┴→ thread: a mark and a tick in the capture, or a new capture ─ flag
//! ```
//! The hook allocates nothing and waits for no lock: it changes one word, wakes the thread and waits on the word. To wait there is
//! safe, as nobody who writes captures needs what the hook may hold: the GIL, the raw domain's lock, that of an interpreter's own
//! counts. Were it otherwise, the wait would end after a second.
//!
//! Invariant of `STATE`: the hook alone goes from READY to one of the refusals, the thread alone back, by way of TOLD, once the
//! heap holds an eighth more or less than when it was refused. So a program that runs into its limit again and again waits once.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heapkeeper_analysis::report::size;
use heapkeeper_heap::{LimitHandler, Range, RangeStats};

use crate::{capture, collect, hosts, standard_error};

/// How often the thread looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a capture needs that begins where the system has no memory left: a thread's stack, and buffers.
const ROOM_BYTES: usize = 16 << 20;

/// How long a hook waits for the state to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Nobody watches for refusals.
const OFF: u32 = 0;
const READY: u32 = 1;
/// Our limit has been reached, and the state is to be written.
const LIMIT: u32 = 2;
/// The system has no memory left, and the state is to be written.
const SYSTEM: u32 = 3;
/// It has been written.
const TOLD: u32 = 4;

static STATE: AtomicU32 = AtomicU32::new(OFF);

/// Counts what the thread is woken for.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// The thread. Used with the GIL held, so that it is free in the child of a fork.
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// The thread is to end.
static ENDS: AtomicBool = AtomicBool::new(false);

/// Begin to watch: for `at_heap_bytes` held, 0 for never, and for refusals if `on_limit`.
///
/// # Errors
/// Why that cannot be, in one line.
pub fn start(at_heap_bytes: usize, on_limit: bool) -> Result<(), String> {
    if hosts::range().is_none() {
        return Err("only our heap can be watched, and this process runs on CPython's allocator".to_owned());
    }
    let mut place = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if place.is_some() {
        return Ok(());
    }
    let room = if on_limit { Room::take() } else { None };
    let watcher = Watcher { at_heap_bytes, is_above: false, told_at_bytes: 0, room };
    let thread = std::thread::Builder::new().name("heapkeeper".to_owned());
    ENDS.store(false, SeqCst);
    let thread = capture::without_signals(|| thread.spawn(move || watcher.run())).map_err(|error| error.to_string())?;
    *place = Some(thread);
    STATE.store(if on_limit { READY } else { OFF }, SeqCst);
    Ok(())
}

/// Watch no more: when this returns, no capture begins by itself. The GIL is held.
pub fn stop() {
    let Some(thread) = THREAD.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    ENDS.store(true, SeqCst);
    call();
    // A thread that panicked has ended as well.
    let _ = thread.join();
    STATE.store(OFF, SeqCst);
}

/// Wake the thread.
fn call() {
    CALLS.fetch_add(1, SeqCst);
    wake(&CALLS);
}

/// Wait while `word` is `value`, until somebody wakes, so long at most. False after that time.
fn wait(word: &AtomicU32, value: u32, at_most: Option<Duration>) -> bool {
    let time = at_most.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos() as libc::c_long,
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the time live as long as the call; errno is this thread's.
    unsafe {
        let what = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, word.as_ptr(), what, value, time) == 0
            || *libc::__errno_location() != libc::ETIMEDOUT
    }
}

/// Wake all who wait on a word.
fn wake(word: &AtomicU32) {
    // SAFETY: the word is there.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX) };
}

/// The child of a fork: the thread did not come along.
pub fn after_fork_in_child() {
    STATE.store(OFF, SeqCst);
    if let Ok(mut thread) = THREAD.try_lock() {
        std::mem::forget(thread.take());
    }
}

/// Whom the range asks before a request fails at its limit.
pub fn limit_handler() -> LimitHandler {
    /// # Safety
    /// None.
    unsafe fn at_limit(_: *mut c_void, _: usize) -> bool {
        // CPython only prints what goes wrong in a collection, such as our callback's arguments not being made: no code of
        // the program's would see the refusal.
        if collect::is_collecting() && hosts::range().is_some_and(Range::open_grace) {
            return true;
        }
        refused(LIMIT);
        false
    }
    LimitHandler { context: ptr::null_mut(), at_limit }
}

/// The system refused memory. Called by hooks.
#[cold]
pub fn refused_by_system() {
    refused(SYSTEM);
}

/// See the module's head.
fn refused(by: u32) {
    if STATE.compare_exchange(READY, by, SeqCst, SeqCst).is_err() {
        return;
    }
    call();
    while STATE.load(SeqCst) == by && wait(&STATE, by, Some(PATIENCE)) {}
}

/// What the thread remembers.
struct Watcher {
    at_heap_bytes: usize,
    /// Held bytes are past the size, and that has been told.
    is_above: bool,
    /// Held bytes when the last refusal was told.
    told_at_bytes: usize,
    room: Option<Room>,
}

impl Watcher {
    fn run(mut self) {
        loop {
            let calls = CALLS.load(SeqCst);
            if ENDS.load(SeqCst) {
                return;
            }
            if let Some(range) = hosts::range() {
                self.look(&range.stats());
            }
            let looks_often = self.at_heap_bytes > 0 || STATE.load(SeqCst) == TOLD;
            wait(&CALLS, calls, looks_often.then_some(INTERVAL));
        }
    }

    fn look(&mut self, stats: &RangeStats) {
        let held = stats.held_bytes;
        let by = STATE.load(SeqCst);
        if by == LIMIT || by == SYSTEM {
            self.told_at_bytes = held;
            self.room = None;
            tell(match by {
                LIMIT => format!("limit of {} reached", size(stats.limit_bytes as u64)),
                _ => "no more memory from the system".to_owned(),
            });
            STATE.store(TOLD, SeqCst);
            wake(&STATE);
        } else if by == TOLD && held.abs_diff(self.told_at_bytes) > self.told_at_bytes / 8 {
            self.room = self.room.take().or_else(Room::take);
            STATE.store(READY, SeqCst);
        }
        if self.at_heap_bytes == 0 {
            return;
        }
        if !self.is_above && held >= self.at_heap_bytes {
            self.is_above = true;
            tell(format!("heap at {}", size(self.at_heap_bytes as u64)));
        } else if held < self.at_heap_bytes / 8 * 7 {
            self.is_above = false;
        }
    }
}

/// Addresses that count against the process's limits, for the moment in which there are none left. They are never touched.
struct Room(NonNull<c_void>);

// SAFETY: a mapping is the process's, whichever thread unmaps it.
unsafe impl Send for Room {}

impl Room {
    fn take() -> Option<Room> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous private mapping that replaces none touches nothing that exists.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), ROOM_BYTES, access, flags | libc::MAP_NORESERVE, -1, 0) };
        if mapped == libc::MAP_FAILED { None } else { NonNull::new(mapped).map(Room) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: mapped in `take`, and nobody's but ours.
        unsafe { libc::munmap(self.0.as_ptr(), ROOM_BYTES) };
    }
}

/// Have the state written, in the capture of this process or in a new one.
fn tell(mark: String) {
    if capture::write_now(Some(mark.clone())) {
        return;
    }
    match capture::begin_now(None, Some(mark.clone())) {
        Ok(path) => {
            capture::write_now(None);
            standard_error::say(&format!("{mark}: a capture is being written to {}", path.display()));
        }
        Err(reason) => standard_error::say(&format!("{mark}: no capture: {reason}")),
    }
}
