//! What captures say: sites by line, and their figures at any moment.
//!
//! A [`Profile`] is made from one capture or several, which then add up: a fleet of workers reads as one program. Sites are
//! merged where a reader could not tell them apart, by equal lines and thread. A capture holds figures of sites that changed,
//! each since the beginning; so the state at a moment is the last figure of each site up to it.

mod line_table;
mod process;
mod read;
mod source;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;

use heapkeeper_record::Frame;
use heapkeeper_record::capture::{Amount, Mark, Value};
use serde::Deserialize;

use crate::stacks::{Stack, Stacks};

pub use process::{End, Point, Process};
pub(crate) use source::Sources;

/// One or several captures as one program.
#[derive(Default)]
pub struct Profile {
    /// Each capture's process, in the order in which they were added.
    pub processes: Vec<Process>,
    /// Frames that differ to a reader.
    pub(crate) frames: Vec<Frame>,
    /// Of each frame, the folder that a relative name of its file begins in.
    pub(crate) folders: Vec<String>,
    /// Stacks: a frame inside another stack. A stack's caller has a lower number.
    pub(crate) nodes: Vec<Node>,
    /// Stacks in threads.
    pub(crate) sites: Vec<Site>,
    /// Names of threads; with the process where there are several.
    pub(crate) threads: Vec<String>,
    known: read::Known,
    sources: Sources,
}

/// A stack's caller: none, none that was kept, or the number of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Caller {
    Empty,
    Truncated,
    Node(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) caller: Caller,
    /// Number of a frame.
    pub(crate) frame: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    pub(crate) stack: Caller,
    /// Number of a thread.
    pub(crate) thread: u32,
}

/// When a report is of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Moment {
    /// When most was live; of several processes, each one's own peak.
    #[default]
    Peak,
    /// The last tick.
    End,
    /// So many seconds after the first process began.
    Seconds(f64),
}

/// What of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// What was live at that moment.
    #[default]
    Live,
    /// All that had been allocated until then.
    Total,
    /// All that had been allocated and freed again until then.
    Temporary,
}

/// The figures of one site at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Live then.
    pub live: Amount,
    /// Allocated until then.
    pub total: Amount,
    /// Of the freed blocks: those that no collection of cycles saw.
    pub freed_soon: u64,
    /// Of the freed blocks: those that a young collection saw, but no full one.
    pub freed_young: u64,
    /// Of the freed blocks: those that a full collection saw.
    pub freed_old: u64,
}

/// Where a span of time begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A mark of the program: the first one of that name.
    Mark(String),
    /// So many seconds after the first process began.
    Seconds(f64),
}

/// A span of time in one process, as numbers of ticks.
pub(crate) struct Span {
    pub(crate) ticks: [usize; 2],
    /// What the ends are called.
    pub(crate) names: [String; 2],
    pub(crate) seconds: f64,
}

impl Profile {
    /// Bytes between samples, the coarsest where several captures differ; 0 where every allocation was counted.
    pub fn sample_bytes(&self) -> u64 {
        self.processes.iter().map(|process| process.header.sample_bytes).max().unwrap_or(0)
    }

    /// Seconds from the beginning of the first process to the last tick of any.
    pub fn seconds(&self) -> f64 {
        let ends = self.processes.iter().map(|process| process.seconds_at(process.last().at_ms));
        ends.fold(0.0, f64::max)
    }

    /// Names of the threads that allocated, without those of processes.
    pub fn threads(&self) -> &[String] {
        &self.threads
    }

    /// Whether anything in it is of a thread of this name, with or without its process.
    pub fn has_thread(&self, name: &str) -> bool {
        self.threads.iter().any(|thread| is_thread(thread, name))
    }

    /// The figures of each site at a moment.
    pub(crate) fn figures(&self, moment: Moment) -> Vec<Figures> {
        let mut sum = vec![Figures::default(); self.sites.len()];
        for process in &self.processes {
            let add = |sum: &mut Vec<Figures>, site: usize, figures: &Figures| {
                if let Some(sum) = process.sites.get(site).and_then(|&site| sum.get_mut(site as usize)) {
                    sum.add(figures);
                }
            };
            let is_peak = moment == Moment::Peak;
            for (site, value) in process.state(process.ticks(moment)).iter().enumerate() {
                let live = if is_peak { Amount::default() } else { value.live };
                add(&mut sum, site, &Figures { live, ..Figures::of(value) });
            }
            if is_peak {
                // What was live then is known to the last tick, wherever between two ticks the peak was.
                for (site, value) in process.state(process.series.len()).iter().enumerate() {
                    add(&mut sum, site, &Figures { live: value.peak, ..Figures::default() });
                }
            }
        }
        sum
    }

    /// The live figures of each site at this many evenly spread moments of a span in each process, its ends included.
    pub(crate) fn course(&self, spans: &[Span], moments: usize) -> Vec<Vec<Amount>> {
        let steps = moments.saturating_sub(1).max(1);
        let mut spans = spans.iter();
        self.live(moments, |_| {
            let [from, to] = spans.next().map_or([0, 0], |span| span.ticks);
            (0..moments).map(|n| from + to.saturating_sub(from) * n / steps).collect()
        })
    }

    /// The live figures of each site at the end of each of this many equal steps of time.
    pub(crate) fn history(&self, steps: usize) -> Vec<Vec<Amount>> {
        let step_s = self.seconds() / steps.max(1) as f64;
        self.live(steps, |process| {
            let ended_s = process.seconds_at(process.last().at_ms);
            // What a process held when it ended, nobody holds.
            let ticks =
                |n: usize| if step_s * n as f64 > ended_s { 0 } else { process.ticks_at(step_s * (n + 1) as f64) };
            (0..steps).map(ticks).collect()
        })
    }

    /// The live figures of each site after each of as many numbers of ticks, which `ticks` gives for a process.
    fn live(&self, moments: usize, mut ticks: impl FnMut(&Process) -> Vec<usize>) -> Vec<Vec<Amount>> {
        let mut sums = vec![vec![Amount::default(); self.sites.len()]; moments];
        for process in &self.processes {
            for (sum, state) in sums.iter_mut().zip(process.states(&ticks(process))) {
                for (site, value) in state.iter().enumerate() {
                    add(&mut sum[process.sites[site] as usize], &value.live);
                }
            }
        }
        sums
    }

    /// The span between two bounds in each process. Without bounds: from its first mark to its last one, or to the end where
    /// it has one, or from the end of its first third where it has none.
    pub(crate) fn spans(&self, bounds: [Option<&Bound>; 2]) -> Vec<Span> {
        self.processes.iter().map(|process| process.span(bounds)).collect()
    }

    /// Seconds from the beginning of the first process to the last tick of any up to that moment: what is known of it.
    pub(crate) fn known_at(&self, seconds: f64) -> f64 {
        let known = self.processes.iter().map(|process| process.tick_seconds(process.ticks_at(seconds)));
        known.fold(0.0, f64::max)
    }

    /// Whether some process has a mark of this name.
    pub fn has_mark(&self, name: &str) -> bool {
        self.processes.iter().any(|process| process.marks.iter().any(|mark| mark.name == name))
    }

    /// Stacks with their weights at a moment; of one thread where one is named.
    pub fn stacks(&self, moment: Moment, measure: Measure, thread: Option<&str>) -> Stacks {
        let figures = self.figures(moment);
        let mut entries: Vec<Stack> = Vec::new();
        for (site, figures) in self.sites.iter().zip(&figures) {
            let amount = figures.amount(measure);
            if (amount.bytes == 0 && amount.blocks == 0) || !self.is_of(site, thread) {
                continue;
            }
            let (frames, truncated) = self.frames_of(site.stack);
            entries.push(Stack {
                frames: frames.into_iter().cloned().collect(),
                truncated,
                thread: self.threads[site.thread as usize].clone(),
                bytes: amount.bytes,
                blocks: amount.blocks,
            });
        }
        Stacks { title: self.title(moment, measure), entries }
    }

    /// `app.py · live at the peak`.
    fn title(&self, moment: Moment, measure: Measure) -> String {
        let when = match moment {
            Moment::Peak => "at the peak".to_owned(),
            Moment::End => "at the end".to_owned(),
            Moment::Seconds(seconds) => format!("at {seconds} s"),
        };
        match measure {
            Measure::Live => format!("{} · live {when}", self.program()),
            Measure::Total => format!("{} · allocated in all {when}", self.program()),
            Measure::Temporary => format!("{} · allocated and freed {when}", self.program()),
        }
    }

    /// The program, or the programs where captures of several were added.
    pub fn program(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for process in &self.processes {
            let name = match process.header.program.as_str() {
                "" => "interactive session",
                name => name,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.as_slice() {
            [first, second, _, ..] => format!("{first}, {second} and {} more", names.len() - 2),
            _ => names.join(" and "),
        }
    }

    pub(crate) fn is_of(&self, site: &Site, thread: Option<&str>) -> bool {
        thread.is_none_or(|name| is_thread(&self.threads[site.thread as usize], name))
    }

    /// The frames of a stack, innermost first, and whether outer ones were left out.
    pub(crate) fn frames_of(&self, mut stack: Caller) -> (Vec<&Frame>, bool) {
        let mut frames = Vec::new();
        while let Caller::Node(node) = stack {
            let node = &self.nodes[node as usize];
            frames.push(&self.frames[node.frame as usize]);
            stack = node.caller;
        }
        (frames, stack == Caller::Truncated)
    }
}

impl Process {
    /// The ticks up to a moment, counted.
    fn ticks(&self, moment: Moment) -> usize {
        match moment {
            Moment::Peak => self.ticks_through(self.peak_at_ms),
            Moment::End => self.series.len(),
            Moment::Seconds(seconds) => self.ticks_at(seconds),
        }
    }

    /// The ticks up to so many seconds after the first process of the profile began.
    fn ticks_at(&self, seconds: f64) -> usize {
        // A time before the first process began becomes 0, and NaN as well.
        let at_ms = (seconds * 1000.0).round() as u64;
        at_ms.checked_sub(self.offset_ms).map_or(0, |at_ms| self.ticks_until(at_ms))
    }

    /// When the last of so many ticks was, in seconds from the beginning of the first process of the profile; 0 for no tick.
    fn tick_seconds(&self, ticks: usize) -> f64 {
        ticks.checked_sub(1).and_then(|n| self.series.get(n)).map_or(0.0, |point| self.seconds_at(point.at_ms))
    }

    fn span(&self, [from, to]: [Option<&Bound>; 2]) -> Span {
        let end = self.series.len();
        // What is known of a moment is what the tick before it said: that is named.
        let named = |ticks: usize| match ticks {
            0 | 1 => (ticks, "the start".to_owned()),
            _ => (ticks, crate::report::quantity::seconds(self.tick_seconds(ticks))),
        };
        let mark = |mark: &Mark| (self.ticks_through(mark.at_ms), format!("mark \u{201c}{}\u{201d}", mark.name));
        let of = |bound: &Bound| match bound {
            Bound::Seconds(seconds) => named(self.ticks_at(*seconds)),
            Bound::Mark(name) => match self.marks.iter().find(|mark| mark.name == *name) {
                Some(found) => mark(found),
                // A process without that mark has nothing to say of this span.
                None => (end, format!("mark \u{201c}{name}\u{201d}")),
            },
        };
        let until_end = || (end, self.end.name().to_owned());
        let third = || match self.ticks_until(self.last().at_ms / 3) {
            ticks @ (0 | 1) => named(ticks),
            ticks => (ticks, "the first third".to_owned()),
        };
        let (from, to) = match (from, to, self.marks.as_slice()) {
            (Some(from), Some(to), _) => (of(from), of(to)),
            (Some(from), None, _) => (of(from), until_end()),
            (None, Some(to), _) => ((0, "the start".to_owned()), of(to)),
            (None, None, [first, .., last]) => (mark(first), mark(last)),
            (None, None, [only]) => (mark(only), until_end()),
            (None, None, []) => (third(), until_end()),
        };
        let at_ms = |ticks: usize| ticks.checked_sub(1).and_then(|n| self.series.get(n)).map_or(0, |point| point.at_ms);
        let seconds = at_ms(to.0).saturating_sub(at_ms(from.0)) as f64 / 1000.0;
        Span { ticks: [from.0, to.0.max(from.0)], names: [from.1, to.1], seconds }
    }
}

impl Figures {
    fn of(value: &Value) -> Figures {
        Figures {
            live: value.live,
            total: value.total,
            freed_soon: value.freed_soon,
            freed_young: value.freed_young,
            freed_old: value.freed_old,
        }
    }

    fn add(&mut self, other: &Figures) {
        add(&mut self.live, &other.live);
        add(&mut self.total, &other.total);
        self.freed_soon = self.freed_soon.saturating_add(other.freed_soon);
        self.freed_young = self.freed_young.saturating_add(other.freed_young);
        self.freed_old = self.freed_old.saturating_add(other.freed_old);
    }

    /// What a measure is of these.
    pub fn amount(&self, measure: Measure) -> Amount {
        match measure {
            Measure::Live => self.live,
            Measure::Total => self.total,
            Measure::Temporary => Amount {
                bytes: self.total.bytes.saturating_sub(self.live.bytes),
                blocks: self.total.blocks.saturating_sub(self.live.blocks),
                variance: (self.total.variance - self.live.variance).max(0.0),
            },
        }
    }
}

/// Adds one amount to another.
pub(crate) fn add(sum: &mut Amount, other: &Amount) {
    sum.bytes = sum.bytes.saturating_add(other.bytes);
    sum.blocks = sum.blocks.saturating_add(other.blocks);
    sum.variance += other.variance;
}

/// `worker-1` and `worker-1 (pid 7)` are both names of the thread `worker-1 (pid 7)`.
fn is_thread(thread: &str, name: &str) -> bool {
    thread == name || thread.strip_prefix(name).is_some_and(|rest| rest.starts_with(PROCESS_MARK))
}

/// What stands between a thread's name and its process.
const PROCESS_MARK: &str = " (pid ";

/// Numbers given to what was not there before.
fn number<T: std::hash::Hash + Eq + Clone>(numbers: &mut HashMap<T, u32>, all: &mut Vec<T>, item: T) -> u32 {
    *numbers.entry(item).or_insert_with_key(|item| {
        all.push(item.clone());
        (all.len() - 1) as u32
    })
}
