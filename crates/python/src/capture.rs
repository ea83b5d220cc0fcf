//! Captures: a thread of ours writes what the profiler knows to a file, about once a second.
//!
//! ```text
//! start ─ file, header ─ thread: tick, tick, tick … ─ stop: the last tick
//!                          └ new codes, stacks and sites from the tables, under their lock
//!                          └ figures of the sites that changed
//! ```
//! The thread never holds the GIL and never calls the interpreter: it reads names and line tables out of code objects, which
//! the tables keep alive and which do not change. So a program that holds the GIL for a minute is captured as well, and so is
//! one that is killed: up to a second before.
//!
//! Nothing here ends the program. A file that cannot be written any more costs one line on standard error, and the capture
//! ends with the tick before.

use std::collections::HashMap;
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::descriptor::{Descriptor, OurFile};
use crate::layout::Layout;
use crate::profile::{self, exact, names};
use crate::{hosts, process, status};
use heapkeeper_heap::monotonic_ms;
use heapkeeper_profile::{Known, SiteId};
use heapkeeper_record::capture::{Amount, Code, Collection, Header, Mark, Node, Site, Thread, Tick, Value, Writer};

/// How often the thread writes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Collections of the oldest generation that a tick names one by one; the rest are summed up.
const MAX_COLLECTIONS: usize = 60;

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
struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

/// What the program leaves for the next tick.
#[derive(Default)]
struct Inbox {
    ends: bool,
    /// Write a tick now, for the state at a mark.
    hurries: bool,
    marks: Vec<Mark>,
    /// Collections since the last tick; the summed ones first, by generation.
    collections: Vec<Collection>,
}

/// Started and stopped with the GIL held.
static SESSION: Mutex<Option<Session>> = Mutex::new(None);

/// Whether collections and marks are wanted.
static ON: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Begin to write a capture of this process to a new file. The GIL is held.
///
/// # Errors
/// Why there is none, in one line.
pub fn start(path: &Path, program: String) -> Result<(), String> {
    let mut session = lock(&SESSION);
    if session.is_some() {
        return Err("a capture is being written already".to_owned());
    }
    if hosts::range().is_none() {
        return Err("a capture needs our heap, and this process runs on CPython's allocator".to_owned());
    }
    if !profile::is_on() && !exact::is_on() {
        return Err("a capture needs a profile, and this process has none".to_owned());
    }
    let refused = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = OurFile::create(path).map_err(refused)?;
    let descriptor = file.descriptor();
    let header = header(program);
    let writer = Writer::new(file, &header).map_err(refused)?;
    profile::note_threads();
    let shared = Arc::new(Shared { inbox: Mutex::new(Inbox::default()), wake: Condvar::new() });
    let ticker = Ticker {
        writer,
        path: path.to_owned(),
        stderr: Descriptor::of(libc::STDERR_FILENO),
        start_ms: monotonic_ms(),
        shared: shared.clone(),
        known: Known::default(),
        values: Vec::new(),
        names: HashMap::new(),
    };
    let thread =
        without_signals(|| std::thread::Builder::new().name("heapkeeper".to_owned()).spawn(move || ticker.run()))
            .map_err(refused)?;
    *session = Some(Session { pid: std::process::id(), path: path.to_owned(), file: descriptor, shared, thread });
    ON.store(true, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}

/// Write the last tick and end the capture; nothing if there is none. The GIL is held.
pub fn stop() {
    let Some(session) = take_session() else {
        return;
    };
    if session.pid != std::process::id() {
        leave(session);
        return;
    }
    profile::note_threads();
    lock(&session.shared.inbox).ends = true;
    session.shared.wake.notify_all();
    if let Ok(Some(mut ticker)) = session.thread.join() {
        ticker.tick(true);
        // The mark of the stream's end; a capture without it is one as well.
        let _ = ticker.writer.finish();
    }
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
    lock(&SESSION).as_ref().filter(|session| session.pid == std::process::id()).map(|session| session.path.clone())
}

/// Name this moment, in the capture that is being written, and have its state written. Says whether there is one.
pub fn mark(name: String) -> bool {
    let session = lock(&SESSION);
    let Some(session) = session.as_ref().filter(|session| session.pid == std::process::id()) else {
        return false;
    };
    {
        let mut inbox = lock(&session.shared.inbox);
        inbox.marks.push(Mark { at_ms: monotonic_ms(), name });
        inbox.hurries = true;
    }
    session.shared.wake.notify_all();
    true
}

/// A collection of cycles is over. The GIL is held; short, and without a look at anything while nothing is captured.
#[inline]
pub fn collected(generation: usize, pause: Duration, counts: impl FnOnce() -> (u64, u64)) {
    if !ON.load(std::sync::atomic::Ordering::Relaxed) {
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

fn with_inbox<R>(work: impl FnOnce(&mut Inbox) -> R) -> Option<R> {
    let session = lock(&SESSION);
    let session = session.as_ref().filter(|session| session.pid == std::process::id())?;
    Some(work(&mut lock(&session.shared.inbox)))
}

fn take_session() -> Option<Session> {
    ON.store(false, std::sync::atomic::Ordering::Relaxed);
    lock(&SESSION).take()
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
fn without_signals<R>(work: impl FnOnce() -> R) -> R {
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

fn header(program: String) -> Header {
    let command = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let command = command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut command: Vec<String> = command.collect();
    command.pop_if(|last| last.is_empty());
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let version = Layout::get().version_hex;
    Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        python: status::python_version(),
        python_version: ((version >> 24) as u8, (version >> 16) as u8),
        program,
        command,
        pid: std::process::id(),
        parent_pid: std::os::unix::process::parent_id(),
        started_unix_us: started.as_micros() as i64,
        sample_bytes: if exact::is_on() { 0 } else { profile::sample_bytes() },
        folder: std::env::current_dir().map_or(String::new(), |folder| folder.to_string_lossy().into_owned()),
        host: host(),
    }
}

fn host() -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: fills the structure in; all-zero is one of empty texts.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    let text = |field: &[libc::c_char]| -> String {
        field.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte as u8)).collect()
    };
    facts.push(("system".to_owned(), format!("{} {}", text(&name.sysname), text(&name.release))));
    facts.push(("machine".to_owned(), text(&name.machine)));
    if let Ok(processors) = std::thread::available_parallelism() {
        facts.push(("processors".to_owned(), processors.to_string()));
    }
    // SAFETY: has no conditions.
    let (pages, page_bytes) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGE_SIZE)) };
    if pages > 0 && page_bytes > 0 {
        facts.push(("memory_bytes".to_owned(), (pages as u64 * page_bytes as u64).to_string()));
    }
    facts
}

/// Writes the ticks of one capture.
struct Ticker {
    writer: Writer<OurFile>,
    path: PathBuf,
    /// Standard error as it was at the start.
    stderr: Option<Descriptor>,
    start_ms: u64,
    shared: Arc<Shared>,
    /// What of the tables has been written.
    known: Known,
    /// The figures of each site as they were last written.
    values: Vec<Value>,
    /// Names of threads that were written.
    names: HashMap<usize, String>,
}

impl Ticker {
    /// Write a tick a second until told to end, or until that fails.
    fn run(mut self) -> Option<Ticker> {
        loop {
            if !self.tick(false) {
                return None;
            }
            let due = Instant::now() + INTERVAL;
            let shared = self.shared.clone();
            let mut inbox = lock(&shared.inbox);
            while !inbox.ends && !std::mem::take(&mut inbox.hurries) {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                inbox = match shared.wake.wait_timeout(inbox, left) {
                    Ok((inbox, _)) => inbox,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
            if inbox.ends {
                return Some(self);
            }
        }
    }

    /// Write a tick. False if the capture ends here.
    fn tick(&mut self, last: bool) -> bool {
        let tick = self.next(last);
        let written = self.writer.write(&tick).and_then(|()| match self.writer.sink().links()? {
            0 => Err(std::io::Error::other("the file was deleted")),
            _ => Ok(()),
        });
        if let Err(error) = written {
            let line = format!("heapkeeper: the capture {} ends here: {error}\n", self.path.display());
            // Standard error may be gone, or the program's: then there is nobody to tell.
            if let Some(mut stderr) = self.stderr.and_then(|stderr| stderr.file().ok()) {
                let _ = stderr.write_all(line.as_bytes());
            }
            ON.store(false, std::sync::atomic::Ordering::Relaxed);
            return false;
        }
        true
    }

    fn next(&mut self, last: bool) -> Tick {
        let since = |at_ms: u64| at_ms.saturating_sub(self.start_ms);
        let mut tick = Tick { at_ms: since(monotonic_ms()), last, ..Tick::default() };
        let resident = process::resident();
        (tick.rss_bytes, tick.peak_rss_bytes) = (resident.rss_bytes, resident.peak_rss_bytes);
        if let Some(range) = hosts::range() {
            let stats = range.stats();
            tick.heap_bytes = stats.held_bytes as u64;
            // What our heap holds is resident, but for what nobody has touched yet.
            tick.outside_bytes = tick.rss_bytes.saturating_sub((stats.held_bytes + stats.retained_bytes) as u64);
        }
        {
            let mut inbox = lock(&self.shared.inbox);
            tick.marks = std::mem::take(&mut inbox.marks);
            tick.collections = std::mem::take(&mut inbox.collections);
        }
        tick.marks.iter_mut().for_each(|mark| mark.at_ms = since(mark.at_ms));
        tick.collections.iter_mut().for_each(|collection| collection.at_ms = since(collection.at_ms));
        let mut codes = Vec::new();
        let mut values = Vec::new();
        let known = self.known;
        let exact = exact::is_on();
        let seen = profile::with_tables(|tables| {
            tables.visit_new(
                known,
                |code| codes.push(code),
                |node| {
                    tick.nodes.push(Node {
                        parent: stack(node.parent, node.truncated),
                        code: node.code,
                        offset_bytes: node.offset_bytes,
                    });
                },
                |site| {
                    tick.sites.push(Site { node: stack(site.node, site.truncated), thread: site.thread as u64 });
                },
            );
            tables.visit_sampled(|site, live, at_peak, total, freed| {
                let amount = |of: &heapkeeper_profile::Estimate| Amount {
                    bytes: of.bytes,
                    blocks: of.blocks(),
                    variance: of.variance(),
                };
                let mut value = Value {
                    site: site.number(),
                    freed_soon: freed.soon,
                    freed_young: freed.young,
                    freed_old: freed.old,
                    ..Value::default()
                };
                if !exact {
                    value.live = amount(live);
                    value.peak = amount(at_peak);
                    value.total = amount(total);
                }
                values.push(value);
            });
            let (live, at_peak, peak_at_ms) = tables.sampled();
            tick.live_bytes = live.bytes;
            tick.peak_bytes = at_peak.bytes;
            tick.peak_at_ms = since(peak_at_ms);
            tick.lost = tables.lost();
            tables.known()
        });
        self.known = seen.unwrap_or(known);
        if exact {
            let usage = exact::usage();
            tick.live_bytes = usage.live_bytes;
            tick.peak_bytes = usage.peak_bytes;
            tick.peak_at_ms = since(exact::peak_at_ms());
            tick.lost += exact::others().total_blocks;
            for value in &mut values {
                let count = exact::count_of(SiteId::from_number(value.site));
                let amount = |bytes, blocks| Amount { bytes, blocks, variance: 0.0 };
                value.live = amount(count.live_bytes, count.live_blocks);
                value.peak = amount(count.peak_bytes, count.peak_blocks);
                value.total = amount(count.total_bytes, count.total_blocks);
            }
        }
        tick.codes = codes.into_iter().map(code).collect();
        for value in values {
            let before = &mut self.values;
            let index = value.site as usize;
            if before.len() <= index {
                before.resize_with(index + 1, Value::default);
                before[index].site = value.site;
            }
            if before[index] != value {
                before[index] = value;
                tick.values.push(value);
            }
        }
        for (thread, name) in profile::thread_names() {
            if self.names.get(&thread) != Some(&name) {
                tick.threads.push(Thread { thread: thread as u64, name: name.clone() });
                self.names.insert(thread, name);
            }
        }
        tick
    }
}

fn stack(node: Option<u32>, truncated: bool) -> u32 {
    match node {
        Some(number) => number,
        None if truncated => Node::TRUNCATED,
        None => Node::EMPTY,
    }
}

fn code(code: heapkeeper_profile::Code) -> Code {
    match code {
        // SAFETY: the tables keep the code object alive.
        heapkeeper_profile::Code::Object(address) => unsafe {
            names::of_code(std::ptr::with_exposed_provenance_mut(address))
        },
        other => Code { function: names::of_no_code(other), first_line: -1, ..Code::default() },
    }
}
