//! Allocate many nodes and keep them, then drop all. Says what a live node of 32 bytes costs.

use std::ops::Range;

use crate::measure::Repetition;
use crate::memory;
use crate::objects::{Objects, Rival, Roots, Work, turns};

pub fn run<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    rival.turn(Reserve(objects as usize));
    let before = memory::resident_bytes();
    repetition.phase("allocate", objects, || {
        for turn in turns(objects) {
            rival.turn(Keep(turn));
            rival.pace();
        }
    });
    let grown = memory::resident_bytes().saturating_sub(before);
    // The place of the handle itself is not the crate's.
    repetition.bytes_per_object = Some(grown as f64 / objects as f64 - size_of::<usize>() as f64);
    let sum = rival.turn(Sum);
    repetition.check(sum);
    repetition.phase("drop", objects, || {
        rival.turn(Drop);
        rival.collect();
    });
    rival.turn(Release);
}

/// Address space for the handles, in one piece and not yet touched.
struct Reserve(usize);

impl Work for Reserve {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.nodes.reserve_exact(self.0);
    }
}

struct Keep(Range<u64>);

impl Work for Keep {
    type Output = ();

    #[inline]
    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) {
        for i in self.0 {
            roots.nodes.push(Some(objects.node([i, i, i], None)));
        }
    }
}

struct Sum;

impl Work for Sum {
    type Output = u64;

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) -> u64 {
        roots.nodes.iter().flatten().map(|node| O::words(node)[2]).sum()
    }
}

struct Drop;

impl Work for Drop {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.nodes.clear();
    }
}

struct Release;

impl Work for Release {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.nodes = Vec::new();
    }
}
