//! Random graphs: of 1,000 vertices with three edges each to any of them, dropped as soon as they are made. Nearly all of
//! a graph is one tangle of cycles.

use crate::measure::Repetition;
use crate::objects::{Objects, Rival, Roots, Work, turns};
use crate::random::Random;

pub const EDGES_MADE: usize = 3;

pub fn run<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    let mut random = Random::new();
    let sum = repetition.phase("all", objects, || {
        let mut sum = 0;
        for vertices in turns(objects) {
            sum += rival.turn(Graph { vertices: vertices.end - vertices.start, random: &mut random });
            rival.pace();
        }
        rival.collect();
        sum
    });
    repetition.check(sum);
}

struct Graph<'a> {
    vertices: u64,
    random: &'a mut Random,
}

impl Work for Graph<'_> {
    type Output = u64;

    fn run<O: Objects>(self, objects: &O, _: &mut Roots<O>) -> u64 {
        let vertices: Vec<O::Vertex> = (0..self.vertices).map(|word| objects.vertex(word)).collect();
        wire(objects, &vertices, self.random);
        // A walk along first edges.
        let mut at = vertices[0].clone();
        (0..self.vertices).fold(0, |sum, _| {
            at = O::edge(&at, 0).expect("every vertex has edges");
            sum + O::vertex_word(&at)
        })
    }
}

/// Give each vertex edges to random ones among them.
pub fn wire<O: Objects>(objects: &O, vertices: &[O::Vertex], random: &mut Random) {
    for vertex in vertices {
        for place in 0..EDGES_MADE {
            objects.set_edge(vertex, place, vertices[random.below(vertices.len())].clone());
        }
    }
}
