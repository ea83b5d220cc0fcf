//! Allocate a node and drop it, one at a time: nothing else is alive.

use std::hint::black_box;
use std::ops::Range;

use crate::measure::Repetition;
use crate::objects::{Objects, Rival, Roots, Work, turns};

pub fn run<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    let sum = repetition.phase("all", objects, || {
        let sum = turns(objects).fold(0, |sum, turn| {
            let sum = sum + rival.turn(AllocDrop(turn));
            rival.pace();
            sum
        });
        rival.collect();
        sum
    });
    repetition.check(sum);
}

struct AllocDrop(Range<u64>);

impl Work for AllocDrop {
    type Output = u64;

    #[inline]
    fn run<O: Objects>(self, objects: &O, _: &mut Roots<O>) -> u64 {
        self.0.fold(0, |sum, i| {
            let node = objects.node([i, i, i], None);
            // Seen by somebody, so that no compiler leaves the allocation out.
            sum + O::words(black_box(&node))[0]
        })
    }
}
