//! From call stacks to the lines a reader looks for.
//!
//! Sites are distinct stacks; a reader thinks in lines. [`entries`] adds up the sites that share a
//! *headline*: the innermost frame of the program's own code. [`story`] then picks the few frames of the
//! largest such stack that explain how the program came there.

use heapkeeper_record::{Frame, Site};

use super::path::{Owner, ShortNames, owner};

/// All sites that share a headline.
pub(super) struct Entry<'a> {
    /// The line to name; absent where no Python code was running.
    pub(super) headline: Option<&'a Frame>,
    /// The largest of the sites.
    pub(super) largest: &'a Site,
    /// Stacks added up here.
    pub(super) stacks: usize,
    /// Estimated live bytes of all of them.
    pub(super) bytes: u64,
    /// Half-width of their 95 % confidence interval.
    pub(super) error_bytes: u64,
    /// Samples behind that.
    samples: u64,
    /// Their share of all live bytes, 0 to 1.
    pub(super) share: f64,
}

impl Entry<'_> {
    /// Fewer samples than this may have hit any line.
    const LEAST_SAMPLES: u64 = 3;

    /// Whether its size is known well enough to be put into a sentence.
    pub(super) fn is_sure(&self) -> bool {
        self.error_bytes <= self.bytes
    }

    /// Whether it is known well enough for a row: by a few samples, or by a block so large that it is always sampled.
    pub(super) fn is_seen(&self) -> bool {
        self.is_sure() || self.samples >= Self::LEAST_SAMPLES
    }
}

/// Groups sites by headline, largest first. `sample_bytes` is the mean distance between their samples.
pub(super) fn entries(sites: &[Site], sample_bytes: u64) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for site in sites {
        let headline = headline(&site.frames).map(|index| &site.frames[index]);
        let same = |entry: &&mut Entry<'_>| same_line(entry.headline, headline);
        let Some(entry) = entries.iter_mut().find(same) else {
            entries.push(Entry {
                headline,
                largest: site,
                stacks: 1,
                bytes: site.bytes,
                error_bytes: site.error_bytes,
                samples: site.samples,
                share: site.share,
            });
            continue;
        };
        if site.bytes > entry.largest.bytes {
            entry.largest = site;
        }
        entry.stacks += 1;
        entry.bytes = entry.bytes.saturating_add(site.bytes);
        entry.error_bytes = joint_error(entry.error_bytes, site.error_bytes, sample_bytes);
        entry.samples = entry.samples.saturating_add(site.samples);
        entry.share += site.share;
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    entries
}

/// The half-width of the interval of a sum, from those of two independent estimates.
///
/// Each is that of a Poisson count of `k` samples as the profiler computes it, up to 4 % `R (2 √(k+1) + 1.9)`, where `R`
/// is the mean distance (after F. Garwood, 1936: the upper limit at 95 %). Counts add, half-widths do not: sixteen sites of one sample each know as much
/// as one site of sixteen.
fn joint_error(one: u64, other: u64, sample_bytes: u64) -> u64 {
    const OFFSET: f64 = 1.9;
    let distance = sample_bytes.max(1) as f64;
    let count = |error: u64| (((error as f64 / distance - OFFSET).max(2.0) / 2.0).powi(2) - 1.0).max(0.0);
    let joint = distance * (2.0 * (count(one) + count(other) + 1.0).sqrt() + OFFSET);
    // Blocks that are always sampled have no error to speak of, and the sum of both is a bound in any case.
    joint.min(one as f64 + other as f64) as u64
}

/// Whether two headlines are the same line of the same function.
pub(super) fn same_line(one: Option<&Frame>, other: Option<&Frame>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => (one.line, &one.file, &one.function) == (other.line, &other.file, &other.function),
        _ => false,
    }
}

/// The frame that a reader would name: the innermost of the program's own, else of an installed
/// package, else the innermost.
pub(super) fn headline(frames: &[Frame]) -> Option<usize> {
    (0..frames.len()).min_by_key(|&index| owner(&frames[index].file))
}

/// `app.py:80`, the place that a reader would name; nothing where no Python code was running.
pub(super) fn place_of(site: &Site, names: &ShortNames<'_>) -> Option<String> {
    headline(&site.frames).map(|index| names.place(&site.frames[index]))
}

/// One line below a headline.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The headline's line called into a library, which allocated here.
    Inside(&'a Frame),
    /// A caller; `times` above 1 where it recursed.
    By { frame: &'a Frame, times: usize },
    /// Consecutive callers that are not the program's own.
    Library(usize),
    /// Callers left out; `deeper` where the profiler itself kept no more of them.
    More { callers: usize, deeper: bool },
}

/// The frames to show below the headline, at most `limit` of them and one line on what was left out.
pub(super) fn story<'a>(site: &'a Site, limit: usize) -> Vec<Step<'a>> {
    let frames = &site.frames;
    let Some(at) = headline(frames) else { return Vec::new() };
    let mut steps = Vec::new();
    if at > 0 {
        steps.push(Step::Inside(&frames[0]));
    }
    // What starts a program or a thread (runpy, threading, a launcher) says nothing about it.
    let foreign = |frame: &Frame| owner(&frame.file) != Owner::Program;
    let callers = &frames[at + 1..];
    let end = callers.iter().rposition(|frame| !foreign(frame)).map_or(0, |last| last + 1);
    let callers = if owner(&frames[at].file) == Owner::Program { &callers[..end] } else { callers };
    let hide_libraries = owner(&frames[at].file) == Owner::Program;

    let mut next = 0;
    while next < callers.len() {
        if steps.len() >= limit {
            steps.push(Step::More { callers: callers.len() - next, deeper: site.truncated });
            return steps;
        }
        let run = |same: &dyn Fn(&Frame) -> bool| callers[next..].iter().take_while(|f| same(f)).count();
        let frame = &callers[next];
        let libraries = if hide_libraries { run(&foreign) } else { 0 };
        if libraries > 1 {
            steps.push(Step::Library(libraries));
            next += libraries;
        } else {
            let times = run(&|other| other.function == frame.function && other.file == frame.file);
            steps.push(Step::By { frame, times });
            next += times;
        }
    }
    if site.truncated {
        steps.push(Step::More { callers: 0, deeper: true });
    }
    steps
}
