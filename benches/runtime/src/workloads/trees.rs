//! Binary trees, as the Computer Language Benchmarks Game has them: many small ones that are built, counted and dropped,
//! beside a large one that stays.

use crate::measure::Repetition;
use crate::objects::{Objects, Rival, Roots, Work};

const DEPTHS: [u32; 4] = [4, 8, 12, 16];

pub fn run<R: Rival>(rival: &mut R, objects: u64, repetition: &mut Repetition) {
    // An equal share of the objects for each depth that fits into its share, and for the tree that stays.
    let depths: Vec<u32> = DEPTHS.into_iter().filter(|depth| nodes(*depth) <= objects / 5).collect();
    let deepest = depths.last().copied().unwrap_or(1);
    let counts: Vec<(u32, u64)> = depths.iter().map(|depth| (*depth, objects / 5 / nodes(*depth))).collect();
    let made = nodes(deepest) + counts.iter().map(|(depth, trees)| nodes(*depth) * trees).sum::<u64>();
    let sum = repetition.phase("all", made, || {
        rival.turn(Plant(deepest));
        rival.pace();
        let mut sum = 0;
        for (depth, trees) in counts {
            for _ in 0..trees {
                sum += rival.turn(Count(depth));
                rival.pace();
            }
        }
        sum += rival.turn(Fell);
        rival.collect();
        sum
    });
    repetition.check(sum);
}

fn nodes(depth: u32) -> u64 {
    (2 << depth) - 1
}

fn tree<O: Objects>(objects: &O, depth: u32) -> O::Tree {
    let children = (depth > 0).then(|| (tree(objects, depth - 1), tree(objects, depth - 1)));
    objects.tree(children)
}

fn count<O: Objects>(tree: &O::Tree) -> u64 {
    1 + O::children(tree).map_or(0, |(left, right)| count::<O>(left) + count::<O>(right))
}

/// A tree that stays.
struct Plant(u32);

impl Work for Plant {
    type Output = ();

    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) {
        roots.trees.push(tree(objects, self.0));
    }
}

/// A tree that does not.
struct Count(u32);

impl Work for Count {
    type Output = u64;

    fn run<O: Objects>(self, objects: &O, _: &mut Roots<O>) -> u64 {
        count::<O>(&tree(objects, self.0))
    }
}

struct Fell;

impl Work for Fell {
    type Output = u64;

    fn run<O: Objects>(self, _: &O, roots: &mut Roots<O>) -> u64 {
        roots.trees.drain(..).map(|tree| count::<O>(&tree)).sum()
    }
}
