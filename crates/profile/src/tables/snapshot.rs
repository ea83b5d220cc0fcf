//! A copy of what the tables say, to be read without their lock.
//!
//! Code objects are still addresses here: names and lines need the interpreter, which may call allocation hooks, which
//! need the lock.

use super::{Code, NodeId, Site, SiteId, Tables, ThreadId};
use crate::Estimate;

/// What the tables say at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Mean distance between samples.
    pub mean_bytes: u64,
    /// Samples taken so far.
    pub taken: u64,
    /// Samples that found no room.
    pub lost: u64,
    /// Everything live now.
    pub live: Estimate,
    /// Everything live at the peak.
    pub at_peak: Estimate,
    /// When the peak was, by the clock of [`Tables::insert`]; 0 before the first sample.
    pub peak_at_ms: u64,
    /// Sites seen so far.
    pub sites: usize,
    /// The sites with most bytes at the peak, largest first.
    pub top_at_peak: Vec<SiteSnapshot>,
    /// The sites with most bytes now, largest first.
    pub top_live: Vec<SiteSnapshot>,
}

/// One site.
#[derive(Debug, Clone)]
pub struct SiteSnapshot {
    /// What it holds, at the moment asked for.
    pub estimate: Estimate,
    /// The thread that allocated.
    pub thread: ThreadId,
    /// Code and offset in bytes of each frame, innermost first.
    pub frames: Vec<(Code, i32)>,
    /// Outer frames were left out.
    pub truncated: bool,
}

impl Tables {
    /// Copy the totals and the `top` largest sites. Allocates through Rust's global allocator.
    pub fn snapshot(&self, top: usize) -> Snapshot {
        Snapshot {
            mean_bytes: self.mean_bytes,
            taken: self.taken,
            lost: self.lost,
            live: self.total.live,
            at_peak: self.total.at_peak(self.epoch),
            peak_at_ms: self.peak_at_ms,
            sites: self.sites.len(),
            top_at_peak: self.largest(top, |site| site.bytes.at_peak(self.epoch)),
            top_live: self.largest(top, |site| site.bytes.live),
        }
    }

    fn largest(&self, top: usize, estimate: impl Fn(&Site) -> Estimate) -> Vec<SiteSnapshot> {
        let mut sites: Vec<(Estimate, &Site)> =
            self.sites.iter().map(|site| (estimate(site), site)).filter(|(estimate, _)| estimate.samples > 0).collect();
        // Stable: of equals, the site seen first stays first.
        sites.sort_by_key(|(estimate, _)| core::cmp::Reverse(estimate.bytes));
        sites.truncate(top);
        sites.into_iter().map(|(estimate, site)| self.copy(site, estimate)).collect()
    }

    /// Copy one site, with an estimate that somebody else made of it. Allocates through Rust's global allocator.
    pub fn site_snapshot(&self, site: SiteId, estimate: Estimate) -> SiteSnapshot {
        self.copy(&self.sites[site.0 as usize], estimate)
    }

    /// Visit all sites with where they allocate: code and offset in bytes of each frame, innermost first; whether outer ones
    /// were left out; and the thread. Allocates through Rust's global allocator.
    pub fn visit_sites(&self, mut visit: impl FnMut(SiteId, Vec<(Code, i32)>, bool, ThreadId)) {
        for (number, site) in self.sites.iter().enumerate() {
            let (frames, truncated) = self.frames(site.node);
            visit(SiteId(number as u32), frames, truncated, site.thread);
        }
    }

    /// Where a site allocates: code and offset in bytes of each frame, innermost first; and whether outer ones were left out.
    /// Allocates through Rust's global allocator.
    pub fn stack(&self, site: SiteId) -> (Vec<(Code, i32)>, bool) {
        self.frames(self.sites[site.0 as usize].node)
    }

    fn copy(&self, site: &Site, estimate: Estimate) -> SiteSnapshot {
        let (frames, truncated) = self.frames(site.node);
        SiteSnapshot { estimate, thread: site.thread, frames, truncated }
    }

    fn frames(&self, innermost: NodeId) -> (Vec<(Code, i32)>, bool) {
        let mut frames = Vec::new();
        let mut at = innermost;
        while at != NodeId::EMPTY && at != NodeId::TRUNCATED {
            let node = &self.nodes[at.0 as usize];
            frames.push((self.codes[node.code.0 as usize], node.offset_bytes));
            at = node.parent;
        }
        (frames, at == NodeId::TRUNCATED)
    }
}
