//! What a capture takes from the tables: what is new since the last look, by number.

use super::{Code, Freed, NodeId, SiteId, Tables};
use crate::Estimate;

/// How many entries of each table somebody has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// Code objects.
    pub codes: usize,
    /// Stacks, the empty ones not counted.
    pub nodes: usize,
    /// Sites.
    pub sites: usize,
}

/// A stack, by numbers. `None` for an empty one; the numbers of others start at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEntry {
    /// The stack of the caller.
    pub parent: Option<u32>,
    /// Of an empty parent: it had outer frames that nobody kept.
    pub truncated: bool,
    /// The code's number.
    pub code: u32,
    /// Bytes into its instructions.
    pub offset_bytes: i32,
}

/// A site, by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteEntry {
    /// The stack, as in [`NodeEntry::parent`].
    pub node: Option<u32>,
    /// Of an empty stack: it had frames that nobody kept.
    pub truncated: bool,
    /// The thread.
    pub thread: usize,
}

/// The two empty stacks come first in the table.
const EMPTY_NODES: usize = 2;

fn number(node: NodeId) -> (Option<u32>, bool) {
    (node.0.checked_sub(EMPTY_NODES as u32), node == NodeId::TRUNCATED)
}

impl Tables {
    /// How many entries there are.
    pub fn known(&self) -> Known {
        Known { codes: self.codes.len(), nodes: self.nodes.len() - EMPTY_NODES, sites: self.sites.len() }
    }

    /// Visit the entries beyond those known.
    pub fn visit_new(
        &self,
        known: Known,
        codes: impl FnMut(Code),
        mut nodes: impl FnMut(NodeEntry),
        mut sites: impl FnMut(SiteEntry),
    ) {
        self.codes.iter().skip(known.codes).copied().for_each(codes);
        for node in self.nodes.iter().skip(known.nodes + EMPTY_NODES) {
            let (parent, truncated) = number(node.parent);
            nodes(NodeEntry { parent, truncated, code: node.code.0, offset_bytes: node.offset_bytes });
        }
        for site in self.sites.iter().skip(known.sites) {
            let (node, truncated) = number(site.node);
            sites(SiteEntry { node, truncated, thread: site.thread.0 });
        }
    }

    /// Visit what all sites have sampled: live, at the peak, in all, and what was freed.
    pub fn visit_sampled(&self, mut visit: impl FnMut(SiteId, &Estimate, &Estimate, &Estimate, Freed)) {
        for (number, site) in self.sites.iter().enumerate() {
            let at_peak = site.bytes.at_peak(self.epoch);
            visit(SiteId(number as u32), &site.bytes.live, &at_peak, &site.total, site.freed);
        }
    }

    /// What all sites have sampled together: live, at the peak, and when that was.
    pub fn sampled(&self) -> (Estimate, Estimate, u64) {
        (self.total.live, self.total.at_peak(self.epoch), self.peak_at_ms)
    }

    /// Samples that found no room.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl SiteId {
    /// The site of this number.
    pub fn from_number(number: u32) -> SiteId {
        SiteId(number)
    }

    /// The number of this site.
    pub fn number(self) -> u32 {
        self.0
    }
}
