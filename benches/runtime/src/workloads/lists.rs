//! Singly linked lists: one that is long enough to overflow the stack of whoever drops or marks it by recursion, and many
//! that everybody survives.

use std::ops::Range;

use crate::measure::Repetition;
use crate::objects::{Objects, Rival, Roots, Work, turns};

const SHORT: u64 = 1000;

/// One list of all objects: built from its end, walked, dropped.
pub fn one<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    rival.turn(Begin);
    repetition.phase("build", objects, || {
        for turn in turns(objects) {
            rival.turn(Prepend(turn));
            rival.pace();
        }
    });
    let sum = repetition.phase("walk", objects, || rival.turn(Walk));
    repetition.check(sum);
    repetition.phase("drop", objects, || {
        rival.turn(Begin);
        rival.collect();
    });
}

/// The same with lists of 1,000, one after the other.
pub fn short<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    let sum = repetition.phase("all", objects, || {
        let mut sum = 0;
        for first in (0..objects).step_by(SHORT as usize) {
            rival.turn(Begin);
            rival.turn(Prepend(first..objects.min(first + SHORT)));
            sum += rival.turn(Walk);
            rival.pace();
        }
        rival.turn(Begin);
        rival.collect();
        sum
    });
    repetition.check(sum);
}

/// An empty list, in place of the one before.
struct Begin;

impl Work for Begin {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.nodes.clear();
        roots.nodes.push(None);
    }
}

struct Prepend(Range<u64>);

impl Work for Prepend {
    type Output = ();

    #[inline]
    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) {
        for i in self.0 {
            let rest = roots.nodes[0].take();
            roots.nodes[0] = Some(objects.node([i, i, i], rest));
        }
    }
}

struct Walk;

impl Work for Walk {
    type Output = u64;

    #[inline]
    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) -> u64 {
        let (mut at, mut sum) = (roots.nodes[0].as_ref(), 0);
        while let Some(node) = at {
            sum += O::words(node)[1];
            at = O::next(node);
        }
        sum
    }
}
