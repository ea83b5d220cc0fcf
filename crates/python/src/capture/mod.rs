//! Captures: a thread of ours writes what the profiler knows to a file, about once a second.
//!
//! ```text
//! start ─ file, header ─ thread: tick, tick, tick … ─ stop: the last tick
//!                          └ new codes, stacks and sites from the tables, under their lock
//!                          └ figures of the sites that changed
//! ```
//! The thread never holds the GIL and never calls the interpreter: it reads names and line tables out of code objects, which
//! the tables keep alive and which do not change. So a program that holds the GIL for a minute is captured as well, and so is
//! one that is killed: up to a second before. Nothing here needs the GIL; who has it may call `profile::note_threads` first.
//!
//! Invariant: `LOCK` protects `SESSION`. It is outermost of our locks, nothing waits for the GIL or asks a heap of ours for
//! memory under it, and whoever forks takes it first: the child finds it free and the session whole.
//!
//! Nothing here ends the program. A file that cannot be written any more costs one line on standard error, and the capture
//! ends with the tick before.

mod ticker;

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heapkeeper_heap::{Lock, monotonic_ms};
use heapkeeper_record::capture::{Collection, Mark, Writer};

use crate::descriptor::{Descriptor, OurFile};
use crate::profile::{self, exact};
use crate::{file_names, hosts};
use ticker::{Figures, Ticker, header};

/// Collections of the oldest generation that a tick names one by one; the rest are summed up.
const MAX_COLLECTIONS: usize = 60;

/// How long anybody waits for a tick that is to be written at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// A capture that is being written.
struct Session {
    /// Whose process it is: after a fork it is another's.
    pid: u32,
    path: PathBuf,
    file: Descriptor,
    shared: Arc<Shared>,
    thread: JoinHandle<Option<Ticker>>,
}

/// What the thread and the program share.
#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    /// Tells of each tick.
    written: Condvar,
}

/// What the program leaves for the next tick.
#[derive(Default)]
struct Inbox {
    ends: bool,
    /// The file cannot be written any more.
    failed: bool,
    /// Ticks written, and the bytes of the file that they end at.
    ticks: u64,
    bytes: u64,
    /// Write a tick now, for the state at a mark.
    hurries: bool,
    marks: Vec<Mark>,
    /// Collections since the last tick; the summed ones first, by generation.
    collections: Vec<Collection>,
}

/// What `LOCK` protects.
struct Place(UnsafeCell<Option<Session>>);

// SAFETY: used under `LOCK` only.
unsafe impl Sync for Place {}

static LOCK: Lock = Lock::new();
static SESSION: Place = Place(UnsafeCell::new(None));

/// Whether collections and marks are wanted.
static ON: AtomicBool = AtomicBool::new(false);

/// Where a capture goes that begins without a word on that, and what the program is called. Set once.
static DEFAULTS: OnceLock<(PathBuf, String)> = OnceLock::new();

/// What a capture begins with.
#[derive(Debug, Clone, Default)]
pub struct Beginning {
    /// Count from here: what was allocated before is left out.
    pub from_here: bool,
    /// The name of this moment.
    pub mark: Option<String>,
}

/// Why a capture ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its process does.
    Exit,
    /// Somebody wants no more of it; the process goes on.
    Stop,
}

/// Say where captures go that begin in the middle of a run, and what the program is called. The first call counts.
pub fn set_defaults(output: PathBuf, program: String) {
    let _ = DEFAULTS.set((output, program));
}

/// Begin to write a capture of this process to a new file.
///
/// # Errors
/// Why there is none, in one line.
pub fn start(path: &Path, program: String, beginning: Beginning) -> Result<(), String> {
    with_session(|session| {
        if session.as_ref().is_some_and(Session::is_going) {
            return Err("a capture is being written already".to_owned());
        }
        check()?;
        let refused = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = OurFile::create(path).map_err(refused)?;
        let descriptor = file.descriptor();
        let begun = Ticker::begin(file, path, program, beginning).and_then(|ticker| {
            let shared = ticker.shared.clone();
            let work = move || ticker.run();
            let thread = without_signals(|| std::thread::Builder::new().name("heapkeeper".to_owned()).spawn(work))?;
            Ok(Session { pid: std::process::id(), path: path.to_owned(), file: descriptor, shared, thread })
        });
        match begun {
            Ok(begun) => *session = Some(begun),
            Err(error) => {
                // It is new, and holds nothing.
                let _ = std::fs::remove_file(path);
                return Err(refused(error));
            }
        }
        ON.store(true, Relaxed);
        Ok(())
    })
}

/// Begin a capture in `output`, where %p is the pid; a process that finds that name taken puts its pid in it, and then a number.
/// Returns the file's name.
///
/// # Errors
/// Why there is none, in one line.
pub fn begin(output: &Path, program: &str, is_child: bool, beginning: &Beginning) -> Result<PathBuf, String> {
    let mut reason = String::new();
    for name in file_names::candidates(output, is_child) {
        match start(&name, program.to_owned(), beginning.clone()) {
            Ok(()) => return Ok(name),
            Err(error) if path().is_some() || name.symlink_metadata().is_err() => return Err(error),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// Begin a capture in the middle of a run: in `output`, or where those go that nobody gave a place.
///
/// # Errors
/// Why there is none, in one line.
pub fn begin_now(output: Option<&Path>, mark: Option<String>) -> Result<PathBuf, String> {
    let (default, program) = DEFAULTS.get().ok_or("nobody said where captures go")?;
    let beginning = Beginning { from_here: false, mark };
    match output {
        Some(path) => start(path, program.clone(), beginning).map(|()| path.to_owned()),
        None => begin(default, program, false, &beginning),
    }
}

/// Whether there can be a capture.
fn check() -> Result<(), String> {
    if hosts::range().is_none() {
        return Err("a capture needs our heap, and this process runs on CPython's allocator".to_owned());
    }
    if !profile::is_on() && !exact::is_on() {
        return Err("a capture needs a profile, and this process has none".to_owned());
    }
    Ok(())
}

/// Write the last tick and end the capture. The file's name, or `None` if there is no capture that could still be written.
pub fn stop(end: End) -> Option<PathBuf> {
    let session = take_session()?;
    if session.pid != std::process::id() {
        leave(session);
        return None;
    }
    lock(&session.shared.inbox).ends = true;
    session.shared.wake.notify_all();
    let mut ticker = session.thread.join().ok().flatten()?;
    ticker.tick(Some(end), true);
    // The mark of the stream's end; a capture without it is one as well.
    let _ = ticker.writer.finish();
    Some(session.path)
}

/// The child of a fork: the thread did not come along, the file is the parent's. Says whether there was a capture.
pub fn forget() -> bool {
    match take_session() {
        Some(session) => {
            leave(session);
            true
        }
        None => false,
    }
}

/// The file of the capture that is being written in this process.
pub fn path() -> Option<PathBuf> {
    with_session(|session| session.as_ref().filter(|session| session.is_going()).map(|session| session.path.clone()))
}

/// Name this moment, in the capture that is being written, and have its state written. Says whether there is one.
pub fn mark(name: String) -> bool {
    write_now(Some(name))
}

/// Have the state of this moment written, with a mark if there is a name, and wait until it is, a second at most. Says whether
/// there is a capture. Not for hooks.
pub fn write_now(name: Option<String>) -> bool {
    hurry(name).is_some_and(|(shared, ticks)| {
        wait_for(&shared, ticks + 1);
        true
    })
}

/// Wake the thread. What it shares, and how many ticks there were when it was woken.
fn hurry(name: Option<String>) -> Option<(Arc<Shared>, u64)> {
    with_session(|session| {
        let session = session.as_ref().filter(|session| session.is_going())?;
        let mut inbox = lock(&session.shared.inbox);
        inbox.marks.extend(name.map(|name| Mark { at_ms: monotonic_ms(), name }));
        inbox.hurries = true;
        session.shared.wake.notify_all();
        Some((session.shared.clone(), inbox.ticks))
    })
}

/// Wait for the tick of this number, a second at most.
fn wait_for(shared: &Shared, ticks: u64) {
    let waits = |inbox: &mut Inbox| inbox.ticks < ticks && !inbox.failed && !inbox.ends;
    drop(shared.written.wait_timeout_while(lock(&shared.inbox), PATIENCE, waits));
}

/// The capture that is being written, with the state of this moment; or one of this moment alone, if none is.
///
/// # Errors
/// Why there is none, in one line.
pub fn bytes_now() -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    write_now(None);
    let written = with_session(|session| {
        let session = session.as_ref().filter(|session| session.is_going())?;
        let bytes = lock(&session.shared.inbox).bytes;
        Some(session.file.file().and_then(|file| file.try_clone()).map(|file| (file, bytes)))
    });
    if let Some(written) = written {
        let (file, bytes) = written.map_err(text)?;
        let mut content = vec![0; bytes as usize];
        file.read_exact_at(&mut content, 0).map_err(text)?;
        return Ok(content);
    }
    check()?;
    let program = DEFAULTS.get().map_or(String::new(), |(_, program)| program.clone());
    let mut writer = Writer::new(Vec::new(), &header(program)).map_err(text)?;
    writer.write(&Figures::new(false).next(&Shared::default())).map_err(text)?;
    writer.finish().map_err(text)
}

/// A collection of cycles is over. The GIL is held; short, and without a look at anything while nothing is captured.
#[inline]
pub fn collected(generation: usize, pause: Duration, counts: impl FnOnce() -> (u64, u64)) {
    if !ON.load(Relaxed) {
        return;
    }
    let (collected, uncollectable) = counts();
    let generation = generation.min(2) as u8;
    let one = Collection {
        at_ms: monotonic_ms(),
        generation,
        count: 1,
        pause_us: pause.as_micros() as u64,
        longest_us: pause.as_micros() as u64,
        collected,
        uncollectable,
    };
    with_inbox(|inbox| {
        let singles = inbox.collections.iter().filter(|known| known.generation == 2).count();
        let summed = inbox.collections.iter_mut().find(|known| known.generation == generation);
        match summed {
            Some(known) if generation < 2 || singles >= MAX_COLLECTIONS => {
                known.count += 1;
                known.pause_us += one.pause_us;
                known.longest_us = known.longest_us.max(one.longest_us);
                known.collected += one.collected;
                known.uncollectable += one.uncollectable;
            }
            _ => inbox.collections.push(one),
        }
    });
}

fn with_inbox(work: impl FnOnce(&mut Inbox)) {
    with_session(|session| {
        if let Some(session) = session.as_ref().filter(|session| session.is_going()) {
            work(&mut lock(&session.shared.inbox));
        }
    });
}

fn with_session<R>(work: impl FnOnce(&mut Option<Session>) -> R) -> R {
    // SAFETY: exclusive by the lock.
    LOCK.with(|| work(unsafe { &mut *SESSION.0.get() }))
}

fn take_session() -> Option<Session> {
    with_session(|session| {
        ON.store(false, Relaxed);
        session.take()
    })
}

impl Session {
    /// Whether it is of this process, and its file can still be written.
    fn is_going(&self) -> bool {
        self.pid == std::process::id() && !lock(&self.shared.inbox).failed
    }
}

/// Before a fork, as the first of our locks.
pub fn before_fork() {
    LOCK.acquire();
}

/// After a fork, in the parent.
pub fn after_fork_in_parent() {
    LOCK.release();
}

/// After a fork, in the child.
pub fn after_fork_in_child() {
    LOCK.reset();
}

/// Let go of another process's session without touching what its thread may have held.
fn leave(session: Session) {
    let Session { file, shared, thread, .. } = session;
    file.close();
    std::mem::forget((shared, thread));
}

/// A mutex whose holder panicked protects nothing that could be half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Run `work` with all signals blocked: a thread made meanwhile gets none, they are the program's.
pub fn without_signals<R>(work: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the sets are filled before they are used.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let result = work();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        result
    }
}
