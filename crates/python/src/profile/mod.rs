//! The profiler, sampling or exact: which Python code holds the memory.
//!
//! ```text
//! observer.rs   what a heap calls for a sample and for its free. Runs inside hooks.
//! exact.rs      what hooks call for every block, when every block is counted
//! walker.rs     the way from the frames that run to a site, for every block. Runs inside hooks.
//! identity.rs   what tells one code object from another in a report
//! resolve.rs    names, lines and threads for a report. Runs Python code.
//! ```
//!
//! Sampling, estimates and tables are `heapkeeper-profile`'s. Here are the lock around them, the observers of the heaps,
//! and the way from a frame to a line of source.
//!
//! Invariants:
//! - `LOCK` is innermost: while it is held nothing waits for the GIL, calls the interpreter or asks a heap for memory. So a
//!   report copies under the lock and resolves afterwards, when the interpreter may allocate, and so call us, again.
//! - Every code object in the tables has one reference that is ours, taken with the GIL held by a thread of the main
//!   interpreter or of one that shares its allocator. It is never given back: reports may name it until the end.

pub mod exact;
mod identity;
pub mod names;
mod observer;
mod resolve;
mod walker;

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use heapkeeper_heap::{Heap, Lock, monotonic_ms};
use heapkeeper_profile::{Code, Entry, Estimate, Full, Gaps, SiteCount, SiteId, Tables, ThreadId};
use heapkeeper_record::{ProfileStatus, Site};

use crate::{frames, hosts, interpreter};
use observer::Sampler;
use resolve::CountedSite;
pub use resolve::Lines;

/// The largest mean distance between samples, 1 TiB: beyond it, sums of weights would leave 64 bits.
const MAX_SAMPLE_BYTES: u64 = 1 << 40;

/// Names of threads are learned so often, and sooner where a new thread allocates.
const NAMES_EVERY_MS: u64 = 1000;

static ON: AtomicBool = AtomicBool::new(false);
static SEED: AtomicU64 = AtomicU64::new(0);
static STREAMS: AtomicU64 = AtomicU64::new(0);
static LOCK: Lock = Lock::new();
static STATE: Shared = Shared(UnsafeCell::new(None));

/// What `LOCK` protects.
struct State {
    tables: Tables,
    /// When names of threads are to be learned again.
    names_due_ms: u64,
    /// Names of threads seen by a report or by [`note_threads`].
    thread_names: HashMap<usize, String>,
    /// The thread that the process began with, if sampling was started in it.
    main_thread: Option<usize>,
    /// The working folder at the start: relative names of source files begin there.
    folder: Option<PathBuf>,
}

impl State {
    /// A thread allocates: if its name is not known, the next collection of cycles should ask for it.
    fn saw(&mut self, thread: ThreadId) {
        if !self.thread_names.contains_key(&thread.0) {
            self.names_due_ms = 0;
        }
    }
}

struct Shared(UnsafeCell<Option<State>>);

// SAFETY: used under `LOCK` only.
unsafe impl Sync for Shared {}

/// Whose allocations a heap serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The mem and object domains of the main interpreter and of all that share its allocator.
    Main,
    /// The raw domain: with or without the GIL.
    Raw,
    /// The mem and object domains of an interpreter with an allocator of its own.
    Interpreter,
}

/// Run `work` on the state, if the profiler is on. `work` obeys the first invariant of this module.
#[inline]
fn with_state<R>(work: impl FnOnce(&mut State) -> R) -> Option<R> {
    // SAFETY: exclusive by the lock.
    LOCK.with(|| unsafe { (*STATE.0.get()).as_mut() }.map(work))
}

/// Switch the profiler on, with `sample_bytes` between samples on average and 0 for off. A `seed` of 0 stands for a random
/// one. The second call and later ones change nothing. Without memory for the first tables it stays off.
pub fn start(sample_bytes: u64, seed: u64) {
    if sample_bytes == 0 || is_on() || make_tables_for(sample_bytes.min(MAX_SAMPLE_BYTES)).is_err() {
        return;
    }
    SEED.store(if seed == 0 { random_seed() } else { seed }, Relaxed);
    ON.store(true, Relaxed);
}

/// See to it that there are tables, with sampling or without.
fn make_tables() -> Result<(), Full> {
    make_tables_for(MAX_SAMPLE_BYTES)
}

fn make_tables_for(mean_bytes: u64) -> Result<(), Full> {
    if with_state(|_| ()).is_some() {
        return Ok(());
    }
    let tables = Tables::new(mean_bytes)?;
    // SAFETY: these getters have no conditions.
    let (is_main, thread) = unsafe { (libc::getpid() == libc::gettid(), libc::pthread_self() as usize) };
    let state = State {
        tables,
        names_due_ms: 0,
        thread_names: HashMap::new(),
        main_thread: is_main.then_some(thread),
        folder: std::env::current_dir().ok(),
    };
    // SAFETY: exclusive by the lock.
    LOCK.with(|| unsafe { *STATE.0.get() = Some(state) });
    Ok(())
}

/// Whether the sampling profiler is on.
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

/// Sample the allocations of `heap` from now on, if the profiler is on. The heap is never dropped, nor is its sampler.
pub fn observe(heap: &mut Heap, domain: Domain) {
    let stream = STREAMS.fetch_add(1, Relaxed);
    let caller = match domain {
        Domain::Raw => frames::Domain::Raw,
        Domain::Main | Domain::Interpreter => frames::Domain::Object,
    };
    let range = heap.range();
    let sampler = with_state(|state| {
        let gaps = Gaps::new(state.tables.mean_bytes(), SEED.load(Relaxed), stream);
        Box::leak(Box::new(Sampler::new(gaps, caller, range)))
    });
    if let Some(sampler) = sampler {
        let (observer, first_gap_bytes) = sampler.observer();
        heap.observe(Some(observer), first_gap_bytes);
    }
}

/// Remember the names of all threads that Python knows now, for a report after they have ended. The GIL is held; runs
/// Python code.
pub fn note_threads() {
    if !is_on() && !exact::is_on() {
        return;
    }
    let names = resolve::thread_names();
    with_state(|state| state.thread_names.extend(names));
}

/// What the profiler knows, with the `top` largest sites; all zero while it is off. `seconds_since_install` makes a time of
/// [`monotonic_ms`] one of the report. The GIL is held and no exception is set; runs Python code.
pub fn status(top: usize, seconds_since_install: fn(u64) -> f64) -> ProfileStatus {
    note_threads();
    let copied = with_state(|state| {
        let threads = resolve::Threads { names: state.thread_names.clone(), main: state.main_thread };
        state.tables.settle_peak(monotonic_ms());
        (state.tables.snapshot(resolve::candidates(top)), threads, state.folder.clone())
    });
    let Some((snapshot, threads, folder)) = copied else {
        return ProfileStatus::default();
    };
    if exact::is_on() {
        let mut status = resolve::exact_status(counted_sites(), exact::usage(), top, folder);
        status.lost_samples = exact::others().total_blocks;
        status.peak_at_s = seconds_since_install(exact::peak_at_ms());
        return status;
    }
    let mut status = resolve::status(&snapshot, top, &threads, folder);
    status.peak_at_s = seconds_since_install(snapshot.peak_at_ms);
    status
}

/// Visit every sampled block that is live: its address, what the sample stands for, and who allocated it. `visit` neither
/// calls the interpreter nor asks a heap for memory.
pub fn visit_samples(mut visit: impl FnMut(usize, Estimate, SiteId)) {
    with_state(|state| {
        let mean_bytes = state.tables.mean_bytes();
        state.tables.visit_samples(|block, bytes, site| visit(block, Estimate::of_sample(bytes, mean_bytes), site));
    });
}

/// The call site behind most of these estimates. The GIL is held and no exception is set; runs Python code.
pub fn largest_site(estimates: &HashMap<SiteId, Estimate>) -> Option<Site> {
    let mut total = Estimate::default();
    estimates.values().for_each(|estimate| total.add(estimate));
    let (sites, threads, folder, mean_bytes) = with_state(|state| {
        let threads = resolve::Threads { names: state.thread_names.clone(), main: state.main_thread };
        let sites: Vec<_> = estimates.iter().map(|(site, of)| state.tables.site_snapshot(*site, *of)).collect();
        (sites, threads, state.folder.clone(), state.tables.mean_bytes())
    })?;
    resolve::largest_site(&sites, &total, mean_bytes, &threads, folder)
}

/// Mean distance between samples, in bytes.
pub fn sample_bytes() -> u64 {
    with_tables(Tables::mean_bytes).unwrap_or(0)
}

/// Look at the tables, under their lock: `work` neither calls the interpreter nor asks a heap for memory. `None` if there
/// are none.
pub fn with_tables<R>(work: impl FnOnce(&Tables) -> R) -> Option<R> {
    with_state(|state| work(&state.tables))
}

/// Names of threads seen so far, by identifier.
pub fn thread_names() -> Vec<(usize, String)> {
    with_state(|state| {
        let main = state.main_thread.filter(|main| !state.thread_names.contains_key(main));
        let named = state.thread_names.iter().map(|(thread, name)| (*thread, name.clone()));
        named.chain(main.map(|main| (main, "MainThread".to_owned()))).collect()
    })
    .unwrap_or_default()
}

/// A collection of cycles is over. The GIL is held, and Python code may run: now and then the moment is used to learn the names
/// of threads, which a report could not ask for any more once they have ended.
pub fn collected(is_full: bool) {
    if !is_on() && !exact::is_on() {
        return;
    }
    let now_ms = monotonic_ms();
    let is_due = with_state(|state| {
        state.tables.collected(is_full);
        let is_due = now_ms >= state.names_due_ms;
        if is_due {
            state.names_due_ms = now_ms + NAMES_EVERY_MS;
        }
        is_due
    });
    if is_due == Some(true) && interpreter::may_use_main() {
        note_threads();
    }
}

/// All sites that have counted anything, merged by lines, with their counts; empty while exact mode is off. The GIL is held
/// and no exception is set; runs Python code.
pub fn counted_sites() -> Vec<(Lines, SiteCount)> {
    if !exact::is_on() {
        return Vec::new();
    }
    note_threads();
    let mut sites = Vec::new();
    let threads = with_state(|state| {
        state.tables.visit_sites(|site, mut frames, truncated, thread| {
            let count = exact::count_of(site);
            frames.pop_if(|(code, _)| *code == Code::Outer);
            if count.total_blocks > 0 {
                sites.push(CountedSite { frames, truncated, thread, count });
            }
        });
        resolve::Threads { names: state.thread_names.clone(), main: state.main_thread }
    });
    let Some(threads) = threads else {
        return Vec::new();
    };
    let others = exact::others();
    if others.total_blocks > 0 {
        let frames = vec![(Code::Omitted, -1)];
        sites.push(CountedSite { frames, truncated: false, thread: ThreadId(0), count: others });
    }
    resolve::counted(sites, &threads)
}

/// A stack whose code objects are still addresses, which the tables keep alive.
pub struct TraceStack {
    /// Code and offset in bytes of each frame, innermost first.
    pub frames: Vec<(Code, i32)>,
    /// Frames of the whole stack; `None` where nobody counted them.
    pub total: Option<usize>,
}

/// Every counted block that is live: its bytes and its entry; and the stacks of these entries. The GIL is held.
pub fn traces() -> (Vec<(usize, Entry)>, HashMap<Entry, TraceStack>) {
    let mut blocks = Vec::new();
    exact::visit(|_, bytes, entry| blocks.push((bytes, entry)));
    let entries: HashSet<Entry> = blocks.iter().map(|(_, entry)| *entry).collect();
    let stacks = with_state(|state| entries.iter().map(|entry| (*entry, trace_stack(state, *entry))).collect());
    (blocks, stacks.unwrap_or_default())
}

/// The stack that allocated the block in which `object` lies, if it was counted. The GIL is held, `object` is alive.
pub fn trace_of(object: *const u8) -> Option<TraceStack> {
    let place = hosts::range()?.locate(object)?;
    if !interpreter::may_use_main() {
        return None;
    }
    // SAFETY: the block of a live object.
    let (entry, _) = unsafe { exact::tag_of(core::ptr::with_exposed_provenance(place.start)) }?;
    with_state(|state| trace_stack(state, entry))
}

fn trace_stack(state: &State, entry: Entry) -> TraceStack {
    let Some(site) = entry.site() else {
        return TraceStack { frames: vec![(Code::Omitted, -1)], total: None };
    };
    let (mut frames, truncated) = state.tables.stack(site);
    let total = match frames.pop_if(|(code, _)| *code == Code::Outer) {
        Some((_, total)) => usize::try_from(total).ok(),
        None => (!truncated).then_some(frames.len()),
    };
    TraceStack { frames, total }
}

/// Before a fork: take the lock, so that the child finds the tables whole. From `pthread_atfork` and after the locks of the
/// heaps: nothing may allocate until one of the two functions below.
pub fn before_fork() {
    exact::before_fork();
    LOCK.acquire();
}

/// After a fork, in the parent.
pub fn after_fork_in_parent() {
    LOCK.release();
    exact::after_fork_in_parent();
}

/// After a fork, in the child: waiting threads did not come along.
pub fn after_fork_in_child() {
    LOCK.reset();
    exact::after_fork_in_child();
}

fn random_seed() -> u64 {
    let mut seed = [0u8; 8];
    // SAFETY: fills `seed`, or leaves it where the kernel has no randomness to give.
    let filled = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), libc::GRND_NONBLOCK) };
    match filled == seed.len() as isize {
        true => u64::from_ne_bytes(seed),
        // SAFETY: has no conditions.
        false => monotonic_ms() ^ (unsafe { libc::getpid() } as u64) << 32,
    }
}
