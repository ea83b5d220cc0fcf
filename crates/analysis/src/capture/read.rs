//! From captures to a profile: lines are looked up, sites that read alike are merged.

use std::collections::HashMap;
use std::io::Read;

use heapkeeper_record::Frame;
use heapkeeper_record::capture::{self, Code, Damage, Reader, Tick};

use super::line_table::LineTable;
use super::{Caller, End, Node, PROCESS_MARK, Point, Process, Profile, Site, number};

/// Figures of one process that are kept: 400 MiB of them. Of a capture with more, ticks are merged.
const MOST_VALUES: usize = 4 << 20;

/// The numbers of everything in the profile so far.
#[derive(Default)]
pub(super) struct Known {
    frames: HashMap<Frame, u32>,
    nodes: HashMap<Node, u32>,
    sites: HashMap<Site, u32>,
    threads: HashMap<String, u32>,
}

/// A capture while it is read.
#[derive(Default)]
struct Raw {
    codes: Vec<Code>,
    nodes: Vec<capture::Node>,
    sites: Vec<capture::Site>,
    names: HashMap<u64, String>,
}

impl Profile {
    /// The profile of these captures. `after_each` is called with the bytes read of the captures so far, now and then.
    ///
    /// # Errors
    ///
    /// Never for damage: what could be read counts, and the damage of each capture is in what is returned.
    pub fn read<R: Read>(readers: Vec<Reader<R>>, mut progress: impl FnMut(u64)) -> (Profile, Vec<Option<Damage>>) {
        let mut profile = Profile::default();
        let several = readers.len() > 1;
        let mut before = 0;
        let damages = readers.into_iter().map(|mut reader| {
            let damage = profile.add(&mut reader, several, |bytes| progress(before + bytes));
            before += reader.bytes();
            damage
        });
        let damages = damages.collect();
        profile.align();
        (profile, damages)
    }

    /// Adds a capture. `named` puts the process's number behind the names of its threads.
    fn add<R: Read>(&mut self, reader: &mut Reader<R>, named: bool, mut progress: impl FnMut(u64)) -> Option<Damage> {
        let mut raw = Raw::default();
        let mut process = Process { header: reader.header().clone(), ..Process::default() };
        let mut damage = None;
        let mut most = MOST_VALUES;
        while let Some(tick) = reader.next() {
            match tick {
                Ok(tick) => {
                    take(&mut process, &mut raw, tick);
                    if process.values.len() > most {
                        process.coarsen();
                        // Where each tick has other sites than the one before, there is nothing to gain.
                        most = most.max(process.values.len().saturating_mul(2));
                    }
                }
                Err(found) => damage = Some(found),
            }
            progress(reader.bytes());
        }
        self.resolve(&mut process, &raw, named);
        self.processes.push(process);
        damage
    }

    /// Gives the capture's stacks and sites the profile's numbers.
    fn resolve(&mut self, process: &mut Process, raw: &Raw, named: bool) {
        let header = &process.header;
        let tables: Vec<LineTable> = raw
            .codes
            .iter()
            .map(|code| LineTable::read(header.python_version, code.first_line, &code.line_table))
            .collect();
        let mut frames: HashMap<(u32, i32), u32> = HashMap::new();
        let mut nodes: Vec<u32> = Vec::with_capacity(raw.nodes.len());
        // The reader has checked every number.
        let caller = |nodes: &[u32], node: u32| match node {
            capture::Node::EMPTY => Caller::Empty,
            capture::Node::TRUNCATED => Caller::Truncated,
            node => Caller::Node(nodes[node as usize]),
        };
        for node in &raw.nodes {
            let frame = *frames.entry((node.code, node.offset_bytes)).or_insert_with(|| {
                let code = &raw.codes[node.code as usize];
                let line = tables[node.code as usize].line(node.offset_bytes);
                let source = self.sources.line(&header.folder, &code.file, line);
                let frame = Frame { function: code.function.clone(), file: code.file.clone(), line, source };
                let number = number(&mut self.known.frames, &mut self.frames, frame);
                if self.folders.len() < self.frames.len() {
                    self.folders.push(header.folder.clone());
                }
                number
            });
            let node = Node { caller: caller(&nodes, node.parent), frame };
            nodes.push(number(&mut self.known.nodes, &mut self.nodes, node));
        }
        let suffix = if named { format!("{PROCESS_MARK}{})", header.pid) } else { String::new() };
        process.sites = raw
            .sites
            .iter()
            .map(|site| {
                let name = raw.names.get(&site.thread).filter(|name| !name.is_empty());
                let name = name.map_or_else(|| format!("thread {}", site.thread), String::clone);
                let thread = number(&mut self.known.threads, &mut self.threads, name + &suffix);
                let site = Site { stack: caller(&nodes, site.node), thread };
                number(&mut self.known.sites, &mut self.sites, site)
            })
            .collect();
    }

    /// Puts the processes on one clock, that of the first to begin.
    fn align(&mut self) {
        let first_us = self.processes.iter().map(|process| process.header.started_unix_us).min().unwrap_or(0);
        for process in &mut self.processes {
            process.offset_ms = process.header.started_unix_us.abs_diff(first_us) / 1000;
        }
    }
}

/// Adds a tick to a process.
fn take(process: &mut Process, raw: &mut Raw, tick: Tick) {
    process.end = End::of(&tick);
    raw.codes.extend(tick.codes);
    raw.nodes.extend(tick.nodes);
    raw.sites.extend(tick.sites);
    raw.names.extend(tick.threads.into_iter().map(|thread| (thread.thread, thread.name)));
    process.values.extend(tick.values);
    process.marks.extend(tick.marks);
    process.collections.extend(tick.collections);
    process.peak_bytes = tick.peak_bytes;
    process.peak_at_ms = tick.peak_at_ms;
    process.peak_rss_bytes = process.peak_rss_bytes.max(tick.peak_rss_bytes).max(tick.rss_bytes);
    process.lost = tick.lost;
    // A clock that was set back does not make time run backwards.
    let at_ms = tick.at_ms.max(process.last().at_ms);
    process.series.push(Point {
        at_ms,
        rss_bytes: tick.rss_bytes,
        heap_bytes: tick.heap_bytes,
        outside_bytes: tick.outside_bytes,
        live_bytes: tick.live_bytes,
        values_end: process.values.len(),
    });
}
