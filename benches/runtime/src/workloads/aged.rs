//! One full collection of a large heap that is all alive and has aged: each object was replaced three times on average, in
//! random order, so that neighbours in a graph lie anywhere in memory. Graphs of 1,000 objects, each held at one of them.
//!
//! Where a crate collects only what may have become garbage, that is every object here: each lost a handle since.

use crate::measure::Repetition;
use crate::memory;
use crate::objects::{Objects, Rival, Roots, TURN, Work, turns};
use crate::random::Random;
use crate::workloads::graphs;

const AGES: usize = 3;

pub fn run<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    let mut random = Random::new();
    let before = memory::resident_bytes();
    rival.pause();
    for turn in turns(objects) {
        rival.turn(Make(turn.end - turn.start));
    }
    for _ in 0..AGES {
        let mut gone: Vec<usize> = (0..objects).map(|_| random.below(objects as usize)).collect();
        gone.sort_unstable();
        gone.dedup();
        random.shuffle(&mut gone);
        // Who dies makes room; a crate that only a collection frees with gets one.
        for some in gone.chunks(TURN as usize) {
            rival.turn(Drop(some));
        }
        rival.collect();
        random.shuffle(&mut gone);
        for some in gone.chunks(TURN as usize) {
            rival.turn(Refill(some));
        }
    }
    let graphs = turns(objects).map(|graph| rival.turn(Wire { graph, random: &mut random })).count();
    rival.turn(Let);
    let live_bytes = memory::resident_bytes().saturating_sub(before);
    repetition.phase_with_scratch("collect", objects, live_bytes, || rival.collect());
    rival.resume();
    repetition.check(rival.turn(Walk) + graphs as u64);
    rival.turn(End);
    rival.collect();
}

struct Make(u64);

impl Work for Make {
    type Output = ();

    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) {
        for _ in 0..self.0 {
            let word = roots.vertices.len() as u64;
            roots.vertices.push(Some(objects.vertex(word)));
        }
    }
}

struct Drop<'a>(&'a [usize]);

impl Work for Drop<'_> {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        self.0.iter().for_each(|place| roots.vertices[*place] = None);
    }
}

struct Refill<'a>(&'a [usize]);

impl Work for Refill<'_> {
    type Output = ();

    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) {
        self.0.iter().for_each(|place| roots.vertices[*place] = Some(objects.vertex(*place as u64)));
    }
}

/// Wire a graph.
struct Wire<'a> {
    graph: std::ops::Range<u64>,
    random: &'a mut Random,
}

impl Work for Wire<'_> {
    type Output = ();

    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) {
        let places = self.graph.start as usize..self.graph.end as usize;
        let vertices: Vec<O::Vertex> = roots.vertices[places].iter().flatten().cloned().collect();
        graphs::wire(objects, &vertices, self.random);
        // A ring over all, so that the one handle that stays holds every object.
        for (i, vertex) in vertices.iter().enumerate() {
            objects.set_edge(vertex, graphs::EDGES_MADE, vertices[(i + 1) % vertices.len()].clone());
        }
    }
}

/// Let go of all handles but one a graph.
struct Let;

impl Work for Let {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.vertices = roots.vertices.drain(..).step_by(TURN as usize).collect();
    }
}

struct Walk;

impl Work for Walk {
    type Output = u64;

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) -> u64 {
        roots.vertices.iter().flatten().fold(0, |sum, root| {
            let mut at = root.clone();
            (0..TURN).fold(sum, |sum, _| {
                at = O::edge(&at, graphs::EDGES_MADE).expect("a ring");
                sum + O::vertex_word(&at)
            })
        })
    }
}

struct End;

impl Work for End {
    type Output = ();

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) {
        roots.vertices = Vec::new();
    }
}
