//! What an interpreter does to its heap: calls with a frame each, lists of arguments that are mapped and summed, closures,
//! and module variables that outlive them. Most objects die within the call; some are cyclic, through a closure that its own
//! frame names (`letrec`) or through a mutable place.

use std::ops::Range;

use crate::measure::Repetition;
use crate::objects::{Objects, Rival, Roots, Work};
use crate::random::Random;

/// Module variables.
const VARIABLES: usize = 4096;
/// Calls in a turn: some 1,000 objects.
const CALLS: u64 = 100;

pub fn run<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    let mut random = Random::new();
    rival.turn(Begin);
    let mut sum = 0;
    repetition.counted_phase("all", || {
        let (mut made, mut call) = (0, 0);
        while made < objects {
            let done = rival.turn(Calls { calls: call..call + CALLS, random: &mut random });
            (made, sum, call) = (made + done.0, sum + done.1, call + CALLS);
            rival.pace();
        }
        rival.turn(End);
        rival.collect();
        made
    });
    repetition.check(sum);
}

struct Begin;

impl Work for Begin {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.values = (0..VARIABLES).map(|_| O::nil()).collect();
    }
}

struct End;

impl Work for End {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.values = Vec::new();
    }
}

struct Calls<'a> {
    calls: Range<u64>,
    random: &'a mut Random,
}

impl Work for Calls<'_> {
    /// How many objects were made, and the sum of what the calls computed.
    type Output = (u64, u64);

    #[inline]
    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) -> (u64, u64) {
        let (mut made, mut sum) = (0, 0);
        for call in self.calls {
            let (objects_made, result) = one_call(objects, roots, call, self.random);
            (made, sum) = (made + objects_made, sum + result);
        }
        (made, sum)
    }
}

fn one_call<O: Objects>(objects: &O, roots: &mut Roots<O>, call: u64, random: &mut Random) -> (u64, u64) {
    // A definition at the top of the module has no frame around it; a call has the one that the called closure captured.
    let defines = call % 64 == 0;
    let around = if defines { None } else { O::captured(&roots.values[random.below(VARIABLES)]) };
    let depth = u64::from(around.is_some());

    let length = 1 + random.below(8) as u64;
    let arguments = (0..length).fold(O::nil(), |list, n| objects.pair(O::number(call ^ n), list));
    let frame = objects.frame([arguments, O::nil()], around);
    let mapped = reversed_twice_as_much(objects, &O::variable(&frame, 0));
    objects.set_variable(&frame, 0, mapped);
    let mut made = 1 + 2 * length;
    let outer = O::around(&frame).map_or(0, |outer| sum_of::<O>(&O::variable(&outer, 0)));
    let result = sum_of::<O>(&O::variable(&frame, 0)) + outer + depth;

    match call % 16 {
        // letrec: the frame names the closure that captured it.
        0 => {
            let closure = objects.closure(frame.clone(), call);
            objects.set_variable(&frame, 1, closure.clone());
            if defines {
                roots.values[random.below(VARIABLES)] = closure;
            }
            made += 1;
        }
        // A closure that dies with the call.
        1 | 5 | 9 => {
            let closure = objects.closure(frame.clone(), call);
            let captured = O::captured(&closure).expect("a closure");
            objects.set_variable(&captured, 1, O::number(call));
            made += 1;
        }
        // A mutable place that comes to hold itself.
        2 | 10 => {
            let place = objects.place(O::nil());
            objects.set_place(&place, objects.pair(place.clone(), O::variable(&frame, 0)));
            made += 2;
        }
        // A list that a module variable keeps.
        3 => roots.values[random.below(VARIABLES)] = O::variable(&frame, 0),
        _ => {}
    }
    (made, result)
}

/// A new list of doubled numbers, the other way round.
fn reversed_twice_as_much<O: Objects>(objects: &O, list: &O::Value) -> O::Value {
    let (mut at, mut mapped) = (list, O::nil());
    while let Some((head, tail)) = O::parts(at) {
        mapped = objects.pair(O::number(O::as_number(head) * 2), mapped);
        at = tail;
    }
    mapped
}

fn sum_of<O: Objects>(list: &O::Value) -> u64 {
    let (mut at, mut sum) = (list, 0);
    while let Some((head, tail)) = O::parts(at) {
        sum += O::as_number(head);
        at = tail;
    }
    sum
}
