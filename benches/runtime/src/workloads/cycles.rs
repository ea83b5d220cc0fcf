//! Pairs of objects that refer to each other, dropped at once: garbage that counts do not free.

use std::ops::Range;

use crate::measure::Repetition;
use crate::objects::{Objects, Rival, Roots, Work, turns};

/// All are made while nothing collects; then one collection, timed apart.
pub fn held_back<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    rival.pause();
    let sum = repetition.phase("make", objects, || turns(objects).map(|turn| rival.turn(Pairs(turn))).sum());
    repetition.phase("collect", objects, || rival.collect());
    rival.resume();
    repetition.check(sum);
}

/// Made and collected at the crate's own pace.
pub fn paced<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    let sum = repetition.phase("all", objects, || {
        let mut sum = 0;
        for turn in turns(objects) {
            sum += rival.turn(Pairs(turn));
            rival.pace();
        }
        rival.collect();
        sum
    });
    repetition.check(sum);
}

struct Pairs(Range<u64>);

impl Work for Pairs {
    type Output = u64;

    #[inline]
    fn run<O: Objects>(self, objects: &O, _: &mut Roots<O>) -> u64 {
        self.0.step_by(2).fold(0, |sum, i| {
            let (a, b) = (objects.link([i, 0]), objects.link([i + 1, 0]));
            objects.set_target(&a, Some(b.clone()));
            objects.set_target(&b, Some(a.clone()));
            sum + O::link_word(&a) + O::link_word(&b)
        })
    }
}
