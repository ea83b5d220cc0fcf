//! A bounded cache under churn: keys twice as many as places, looked up at random. A hit is read; a miss replaces what has
//! the key's place by a chain of one to four nodes.

use crate::measure::Repetition;
use crate::objects::{Objects, Rival, Roots, TURN, Work};
use crate::random::Random;

pub fn run<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    let mut random = Random::new();
    // Some 64 Ki places in a run of full size; a place keeps 2.5 objects.
    let places = (objects as usize / 32).next_power_of_two();
    rival.turn(Begin(places));
    let (mut made, mut sum) = (0, 0);
    // Twice as many objects as places fill most of them; from then on as many die as are made.
    while made < 2 * places as u64 {
        let done = rival.turn(LookUps { places, random: &mut random });
        (made, sum) = (made + done.0, sum + done.1);
        rival.pace();
    }
    repetition.counted_phase("all", || {
        let began = made;
        while made < began + objects {
            let done = rival.turn(LookUps { places, random: &mut random });
            (made, sum) = (made + done.0, sum + done.1);
            rival.pace();
        }
        made - began
    });
    repetition.check(sum);
    rival.turn(End);
    rival.collect();
}

struct Begin(usize);

impl Work for Begin {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.nodes = (0..self.0).map(|_| None).collect();
    }
}

struct LookUps<'a> {
    places: usize,
    random: &'a mut Random,
}

impl Work for LookUps<'_> {
    /// How many objects were made, and the sum of what hits found.
    type Output = (u64, u64);

    #[inline]
    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) -> (u64, u64) {
        let (mut made, mut sum) = (0, 0);
        while made < TURN {
            let key = self.random.below(2 * self.places);
            let place = &mut roots.nodes[key % self.places];
            if let Some(entry) = place.as_ref().filter(|entry| O::words(entry)[0] == key as u64) {
                // As a caller of the cache holds it while it reads.
                let entry = entry.clone();
                sum += O::next(&entry).map_or(1, |part| O::words(part)[1]);
            } else {
                let parts = self.random.below(4) as u64;
                let chain = (0..parts).fold(None, |next, i| Some(objects.node([key as u64, i, 0], next)));
                *place = Some(objects.node([key as u64, parts, 0], chain));
                made += 1 + parts;
            }
        }
        (made, sum)
    }
}

struct End;

impl Work for End {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.nodes = Vec::new();
    }
}
