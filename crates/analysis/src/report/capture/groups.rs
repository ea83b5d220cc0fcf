//! Sites that a reader would name alike: by the line, or the function, of the program's own code that they allocated for.

use std::collections::HashMap;

use heapkeeper_record::capture::Amount;
use heapkeeper_record::{Frame, Site};

use super::super::path::{Owner, owner};
use super::{Asked, By, error_bytes, samples};
use crate::capture::{Caller, add};

/// Sites with one headline: see [`super::super::sites`].
pub(super) struct Group<'a> {
    /// The line, or one of the function's; absent where no Python code was running.
    pub(super) headline: Option<&'a Frame>,
    /// Their numbers.
    pub(super) sites: Vec<usize>,
}

impl Group<'_> {
    /// The sum of these sites' amounts.
    pub(super) fn sum(&self, amounts: &[Amount]) -> Amount {
        self.sites.iter().fold(Amount::default(), |mut sum, &site| {
            add(&mut sum, &amounts[site]);
            sum
        })
    }
}

impl<'a> Asked<'a> {
    /// All sites that are asked for, by headline.
    pub(super) fn groups(&self, by: By) -> Vec<Group<'a>> {
        let owners: Vec<Owner> = self.profile.frames.iter().map(|frame| owner(&frame.file)).collect();
        let mut of_stack: HashMap<Caller, Option<u32>> = HashMap::new();
        let mut numbers: HashMap<Option<(u32, &str, &str)>, usize> = HashMap::new();
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (number, site) in self.profile.sites.iter().enumerate() {
            if !self.profile.is_of(site, self.thread) {
                continue;
            }
            let headline = *of_stack.entry(site.stack).or_insert_with(|| self.headline(site.stack, &owners));
            let headline = headline.map(|frame| &self.profile.frames[frame as usize]);
            let line = |frame: &Frame| if by == By::Line { frame.line } else { 0 };
            let key = headline.map(|frame| (line(frame), frame.file.as_str(), frame.function.as_str()));
            let group = *numbers.entry(key).or_insert_with(|| {
                groups.push(Group { headline, sites: Vec::new() });
                groups.len() - 1
            });
            groups[group].sites.push(number);
        }
        groups
    }

    /// The frame that a reader would name: the innermost of the program's own, else of an installed package, else the
    /// innermost.
    fn headline(&self, mut stack: Caller, owners: &[Owner]) -> Option<u32> {
        let mut best: Option<u32> = None;
        while let Caller::Node(node) = stack {
            let node = &self.profile.nodes[node as usize];
            if best.is_none_or(|best| owners[node.frame as usize] < owners[best as usize]) {
                best = Some(node.frame);
            }
            if owners[node.frame as usize] == Owner::Program {
                break;
            }
            stack = node.caller;
        }
        best
    }

    /// A site with its stack, as the report at exit knows sites.
    pub(super) fn site(&self, number: usize, amount: &Amount, share: f64) -> Site {
        let site = &self.profile.sites[number];
        let (frames, truncated) = self.profile.frames_of(site.stack);
        let distance = self.profile.sample_bytes();
        Site {
            bytes: amount.bytes,
            error_bytes: error_bytes(amount, distance),
            blocks: amount.blocks,
            // A block that is always sampled adds nothing to the variance: count it as one sample all together.
            samples: (samples(amount, distance).round() as u64).max(1),
            share,
            thread: self.profile.threads[site.thread as usize].clone(),
            frames: frames.into_iter().cloned().collect(),
            truncated,
        }
    }

    /// The site of a group that has most of this.
    pub(super) fn largest(&self, group: &Group<'_>, amounts: &[Amount]) -> Option<Site> {
        let largest = group.sites.iter().copied().max_by_key(|&site| amounts[site].bytes)?;
        Some(self.site(largest, &amounts[largest], 0.0))
    }
}
