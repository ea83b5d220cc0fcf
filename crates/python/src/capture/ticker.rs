//! The ticks of a capture: what the profiler knows, as records, and the thread's loop that writes them.
//!
//! Nothing here holds the GIL. The tables keep code objects alive; their lock is held while they are copied.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use heapkeeper_heap::monotonic_ms;
use heapkeeper_profile::{Known, SiteId};
use heapkeeper_record::capture::{Amount, Code, Header, Mark, Node, Site, Thread, Tick, Value, Writer};

use super::{Beginning, End, ON, Shared, lock};
use crate::descriptor::OurFile;
use crate::layout::Layout;
use crate::profile::{self, exact, names};
use crate::{hosts, process, standard_error, status};

/// How often the thread writes.
const INTERVAL: Duration = Duration::from_secs(1);

/// A tick with nothing new in it is written this often.
const IDLE_INTERVAL_MS: u64 = 10_000;

/// Room that must be left in the address space for a tick, at least. Without it the program needs what there is more than we do:
/// our own request could end the process.
const TICK_ROOM_BYTES: usize = 4 << 20;

/// Writes the ticks of one capture.
pub(super) struct Ticker {
    pub writer: Writer<OurFile>,
    path: PathBuf,
    pub shared: Arc<Shared>,
    figures: Figures,
    /// The moment and the RSS of the last tick written.
    last: (u64, u64),
}

impl Ticker {
    pub fn begin(file: OurFile, path: &Path, program: String, beginning: Beginning) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        lock(&shared.inbox).marks.extend(beginning.mark.map(|name| Mark { at_ms: monotonic_ms(), name }));
        let figures = Figures::new(beginning.from_here);
        let writer = Writer::new(file, &header(program))?;
        Ok(Ticker { writer, path: path.to_owned(), shared, figures, last: (0, 0) })
    }

    /// Write a tick a second until told to end, or until that fails. Seconds in which nothing happens are left out, but for one
    /// in ten.
    pub fn run(mut self) -> Option<Ticker> {
        let mut is_wanted = true;
        loop {
            if !self.tick(None, is_wanted) {
                return None;
            }
            let due = Instant::now() + INTERVAL;
            let shared = self.shared.clone();
            let mut inbox = lock(&shared.inbox);
            while !inbox.ends && !inbox.hurries {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                inbox = match shared.wake.wait_timeout(inbox, left) {
                    Ok((inbox, _)) => inbox,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
            is_wanted = std::mem::take(&mut inbox.hurries);
            if inbox.ends {
                return Some(self);
            }
        }
    }

    /// Write a tick, if there is memory for it, and anything to say or somebody who wants it; the last one where the capture
    /// comes to its end. False if the capture ends here.
    pub fn tick(&mut self, end: Option<End>, is_wanted: bool) -> bool {
        if !self.figures.have_room() {
            return true;
        }
        let mut tick = self.figures.next(&self.shared);
        tick.last = end == Some(End::Exit);
        tick.stopped = end == Some(End::Stop);
        if end.is_none() && !is_wanted && self.is_idle(&tick) {
            return true;
        }
        self.last = (tick.at_ms, tick.rss_bytes);
        let written = self.writer.write(&tick).and_then(|()| {
            let file = self.writer.sink_mut();
            match file.links()? {
                0 => Err(std::io::Error::other("the file was deleted")),
                _ => file.bytes(),
            }
        });
        if let Err(error) = &written {
            standard_error::say(&format!("the capture {} ends here: {error}", self.path.display()));
            ON.store(false, Relaxed);
        }
        let mut inbox = lock(&self.shared.inbox);
        inbox.failed = written.is_err();
        if let Ok(bytes) = written {
            inbox.ticks += 1;
            inbox.bytes = bytes;
        }
        self.shared.written.notify_all();
        !inbox.failed
    }
}

impl Ticker {
    /// Whether a tick says what the last one said.
    fn is_idle(&self, tick: &Tick) -> bool {
        let (at_ms, rss_bytes) = self.last;
        let Tick { codes, nodes, sites, threads, values, marks, collections, .. } = tick;
        let is_new = !codes.is_empty() || !nodes.is_empty() || !sites.is_empty() || !threads.is_empty();
        let has_changed = !values.is_empty() || !marks.is_empty() || !collections.is_empty();
        let is_due = tick.at_ms >= at_ms + IDLE_INTERVAL_MS;
        !is_new && !has_changed && !is_due && tick.rss_bytes.abs_diff(rss_bytes) <= rss_bytes / 64
    }
}

/// What the profiler knows, as ticks.
pub(super) struct Figures {
    start_ms: u64,
    /// What of the tables has been written.
    known: Known,
    /// The figures of each site as they were last written.
    values: Vec<Value>,
    /// Names of threads that were written.
    names: HashMap<usize, String>,
    /// What the figures were when counting began: it is left out.
    before: Option<Before>,
    /// The peak as it was last written.
    peak_bytes: u64,
    peak_at_ms: u64,
}

/// What the figures were at a moment.
struct Before {
    lost: u64,
    values: HashMap<u32, Value>,
}

impl Figures {
    pub fn new(from_here: bool) -> Figures {
        let mut figures = Figures {
            start_ms: monotonic_ms(),
            known: Known::default(),
            values: Vec::new(),
            names: HashMap::new(),
            before: None,
            peak_bytes: 0,
            peak_at_ms: 0,
        };
        if from_here {
            let now = figures.next(&Shared::default());
            let values = now.values.into_iter().map(|value| (value.site, value)).collect();
            let before = Before { lost: now.lost, values };
            figures = Figures { before: Some(before), ..Figures::new(false) };
        }
        figures
    }

    /// Whether a tick would find memory: what the standard library cannot have, it ends the process for.
    fn have_room(&self) -> bool {
        let bytes = TICK_ROOM_BYTES.max(8 * self.values.len() * size_of::<Value>());
        Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
    }

    pub fn next(&mut self, shared: &Shared) -> Tick {
        let since = |at_ms: u64| at_ms.saturating_sub(self.start_ms);
        let mut tick = Tick { at_ms: since(monotonic_ms()), ..Tick::default() };
        let resident = process::resident();
        (tick.rss_bytes, tick.peak_rss_bytes) = (resident.rss_bytes, resident.peak_rss_bytes);
        if let Some(range) = hosts::range() {
            let stats = range.stats();
            tick.heap_bytes = stats.held_bytes as u64;
            let start = range.bounds().start;
            let ours = process::resident_pages_in(start..start + stats.reserved_bytes);
            tick.outside_bytes = tick.rss_bytes.saturating_sub(ours.unwrap_or(tick.heap_bytes));
        }
        {
            let mut inbox = lock(&shared.inbox);
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
        if let Some(before) = &self.before {
            before.leave_out(&mut tick, &mut values);
        }
        self.settle_peak(&mut tick, &mut values);
        for value in values {
            let written = &mut self.values;
            let index = value.site as usize;
            if written.len() <= index {
                written.resize_with(index + 1, Value::default);
            }
            written[index].site = value.site;
            if written[index] != value {
                written[index] = value;
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

    /// The peak is the highest of the one last written, the profiler's, and what is live now. The profiler's may be lower than
    /// both: when it samples, its peak is the moment with most bytes held, and whoever measures a piece of the program lets
    /// it start again. Where equal, it is the one that counts: sites may have come in while the last tick looked at them.
    fn settle_peak(&mut self, tick: &mut Tick, values: &mut [Value]) {
        let profilers_bytes = tick.peak_bytes;
        if profilers_bytes < self.peak_bytes && tick.live_bytes <= self.peak_bytes {
            (tick.peak_bytes, tick.peak_at_ms) = (self.peak_bytes, self.peak_at_ms);
            for value in values {
                value.peak = self.values.get(value.site as usize).map_or(Amount::default(), |written| written.peak);
            }
        } else if profilers_bytes < tick.live_bytes {
            (tick.peak_bytes, tick.peak_at_ms) = (tick.live_bytes, tick.at_ms);
            values.iter_mut().for_each(|value| value.peak = value.live);
        }
        (self.peak_bytes, self.peak_at_ms) = (tick.peak_bytes, tick.peak_at_ms);
    }
}

impl Before {
    /// Take what was there before out of the figures of later. Of the peak: what was live before, as long as it was live then.
    fn leave_out(&self, tick: &mut Tick, values: &mut [Value]) {
        tick.lost = tick.lost.saturating_sub(self.lost);
        let less = |from: &mut Amount, what: &Amount| {
            from.bytes = from.bytes.saturating_sub(what.bytes);
            from.blocks = from.blocks.saturating_sub(what.blocks);
        };
        for value in values.iter_mut() {
            let Some(before) = self.values.get(&value.site) else {
                continue;
            };
            less(&mut value.live, &before.live);
            less(&mut value.peak, &before.live);
            less(&mut value.total, &before.total);
            value.freed_soon = value.freed_soon.saturating_sub(before.freed_soon);
            value.freed_young = value.freed_young.saturating_sub(before.freed_young);
            value.freed_old = value.freed_old.saturating_sub(before.freed_old);
        }
        // A block of before that is freed now makes no room in these.
        tick.live_bytes = values.iter().map(|value| value.live.bytes).sum();
        tick.peak_bytes = values.iter().map(|value| value.peak.bytes).sum();
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

/// Who writes.
pub(super) fn header(program: String) -> Header {
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
