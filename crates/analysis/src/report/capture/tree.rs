//! The call tree by bytes, from what the program started with to the lines that allocated. Ways of less than a hundredth are
//! added up.
//!
//! A chain of calls stays in its column; only where ways part does the tree move to the right. So it stays narrow, however
//! deep the program went.

use std::cmp::Reverse;

use heapkeeper_record::Frame;

use super::super::Page;
use super::super::path::{Owner, owner};
use super::super::quantity::{GLUE, bytes, count, counted, percent, ratio};
use super::super::table::function;
use super::super::text::{Line, Role, right};
use super::{Asked, when};
use crate::capture::{Caller, Moment};

/// Ways of a smaller share are added up.
const LEAST_SHARE: f64 = 0.01;

/// Weights by stack.
struct Tree<'a> {
    asked: &'a Asked<'a>,
    /// Of each stack, with those that it calls.
    with_calls: Vec<u64>,
    /// Of each stack by itself.
    own: Vec<u64>,
    callees: Vec<Vec<u32>>,
    all: u64,
}

/// Adds the tree.
pub(super) fn report(page: &mut Page, asked: &Asked<'_>, moment: Moment) {
    let profile = asked.profile;
    let nodes = profile.nodes.len();
    let mut tree =
        Tree { asked, with_calls: vec![0; nodes], own: vec![0; nodes], callees: vec![Vec::new(); nodes], all: 0 };
    let [mut nowhere, mut blocks] = [0u64; 2];
    for (site, figures) in profile.sites.iter().zip(profile.figures(moment)) {
        if !profile.is_of(site, asked.thread) {
            continue;
        }
        tree.all = tree.all.saturating_add(figures.live.bytes);
        blocks = blocks.saturating_add(figures.live.blocks);
        let own = match site.stack {
            Caller::Node(node) => &mut tree.own[node as usize],
            Caller::Empty | Caller::Truncated => &mut nowhere,
        };
        *own = own.saturating_add(figures.live.bytes);
    }
    let [mut roots, mut cut_roots] = [Vec::new(), Vec::new()];
    // Callers have lower numbers than what they call.
    for (number, node) in profile.nodes.iter().enumerate().rev() {
        let bytes = tree.with_calls[number].saturating_add(tree.own[number]);
        tree.with_calls[number] = bytes;
        if bytes == 0 {
            continue;
        }
        match node.caller {
            Caller::Empty => roots.push(number as u32),
            Caller::Truncated => cut_roots.push(number as u32),
            Caller::Node(caller) => {
                tree.callees[caller as usize].push(number as u32);
                let sum = &mut tree.with_calls[caller as usize];
                *sum = sum.saturating_add(bytes);
            }
        }
    }

    page.gap();
    let heading = format!("Live {}", when(moment, asked.end()));
    let note =
        format!("  {} in {}, by call; ways of less than 1{GLUE}% added up", bytes(tree.all), counted(blocks, "block"));
    page.line(Line::new().strong(heading).dim(note));
    if tree.all == 0 {
        page.wrap(Line::new().plain("Nothing was live then."), 0);
        return;
    }
    tree.branches(page, roots, "");
    if !cut_roots.is_empty() {
        let sum = tree.sum(&cut_roots);
        tree.note(page, sum, "", "… outer callers were not kept");
        tree.branches(page, cut_roots, "  ");
    }
    if nowhere > 0 {
        tree.note(page, nowhere, "", "(no Python frame)");
    }
}

impl Tree<'_> {
    fn is_large(&self, bytes: u64) -> bool {
        ratio(bytes, self.all) >= LEAST_SHARE
    }

    fn sum(&self, nodes: &[u32]) -> u64 {
        nodes.iter().fold(0u64, |sum, &node| sum.saturating_add(self.with_calls[node as usize]))
    }

    /// Stacks side by side, and what is too small to show.
    fn branches(&self, page: &mut Page, mut nodes: Vec<u32>, indent: &str) {
        nodes.sort_by_key(|&node| (Reverse(self.with_calls[node as usize]), node));
        let shown = nodes.partition_point(|&node| self.is_large(self.with_calls[node as usize]));
        let small = nodes.split_off(shown);
        let rest = self.sum(&small);
        for (index, &node) in nodes.iter().enumerate() {
            let is_last = index + 1 == nodes.len() && rest == 0;
            let (first, next) = match (indent.is_empty(), is_last) {
                (true, _) => (String::new(), String::new()),
                (false, false) => (format!("{indent}├ "), format!("{indent}│ ")),
                (false, true) => (format!("{indent}└ "), format!("{indent}  ")),
            };
            self.chain(page, node, &first, &next);
        }
        if rest > 0 {
            let text = format!("… {}", counted(small.len() as u64, "smaller way"));
            let indent = if indent.is_empty() { String::new() } else { format!("{indent}└ ") };
            self.note(page, rest, &indent, &text);
        }
    }

    /// A stack and, as long as there is one way only, what it calls; then the ways that part.
    fn chain(&self, page: &mut Page, first: u32, first_indent: &str, indent: &str) {
        let mut chain = vec![first];
        let parting = loop {
            let last = chain[chain.len() - 1] as usize;
            match self.callees[last].as_slice() {
                [only] if !self.is_large(self.own[last]) => chain.push(*only),
                // What is lost on the way is smaller than anything shown.
                several => {
                    let own = self.own[last];
                    let mut large = several.iter().filter(|&&node| self.is_large(self.with_calls[node as usize]));
                    match (large.next(), large.next()) {
                        (Some(only), None)
                            if !self.is_large(self.with_calls[last] - self.with_calls[*only as usize]) =>
                        {
                            chain.push(*only);
                        }
                        _ => break (last, own, several),
                    }
                }
            }
        };
        let mut at = 0;
        while at < chain.len() {
            let indent = if at == 0 { first_indent } else { indent };
            at += self.step(page, &chain[at..], indent);
        }
        let (_, own, callees) = parting;
        if callees.iter().any(|&node| self.is_large(self.with_calls[node as usize])) {
            let below = format!("{indent} ");
            if self.is_large(own) {
                self.note(page, own, &format!("{below}├ "), "by itself");
            }
            self.branches(page, callees.to_vec(), &below);
        }
    }

    /// The first of a chain of stacks, with those after it that one row can stand for. Returns how many that are.
    fn step(&self, page: &mut Page, chain: &[u32], indent: &str) -> usize {
        let frame = |node: u32| &self.asked.profile.frames[self.asked.profile.nodes[node as usize].frame as usize];
        let first = frame(chain[0]);
        let bytes = self.with_calls[chain[0] as usize];
        // The last of a chain is what allocated, or where ways part: it has a row of its own.
        let inner = &chain[..chain.len() - 1];
        let foreign = |frame: &Frame| owner(&frame.file) != Owner::Program;
        let libraries = inner.iter().take_while(|&&node| foreign(frame(node))).count();
        if libraries > 2 {
            self.note(page, bytes, indent, &format!("… {libraries} library frames"));
            return libraries;
        }
        let same = |other: &Frame| other.function == first.function && other.file == first.file;
        let times = chain.iter().take_while(|&&node| same(frame(node))).count();
        let mut line = self.figures(bytes, false).dim(indent);
        let role = if foreign(first) { Role::Dim } else { Role::Strong };
        line = line.with(role, function(first));
        if times > 1 {
            line = line.plain(format!(" ×{}", count(times as u64)));
        }
        let shown = frame(chain[times - 1]);
        line =
            line.plain("  ").with(if foreign(first) { Role::Dim } else { Role::Place }, self.asked.names.place(shown));
        if let Some(source) = &shown.source {
            line = line.plain("  ").dim(source);
        }
        page.line(line);
        times
    }

    fn note(&self, page: &mut Page, bytes: u64, indent: &str, text: &str) {
        page.line(self.figures(bytes, true).dim(indent).dim(text));
    }

    fn figures(&self, size: u64, dim: bool) -> Line {
        let share = ratio(size, self.all);
        let heat = match share {
            _ if dim => Role::Dim,
            share if share < 0.15 => Role::Low,
            share if share < 0.4 => Role::Middle,
            _ => Role::High,
        };
        let line = Line::new().with(if dim { Role::Dim } else { Role::Strong }, right(&bytes(size), 10));
        line.with(heat, right(&percent(share), 6)).plain("  ")
    }
}
