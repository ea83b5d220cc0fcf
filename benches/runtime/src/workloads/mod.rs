//! The workloads, a file each. Every one is written once, for all crates.

mod aged;
mod alloc_drop;
mod cache;
mod cycles;
mod graphs;
mod interpreter;
mod keep;
mod lists;
mod trees;

use crate::measure::Repetition;
use crate::objects::Rival;

/// A workload on the crate `R`.
pub struct Workload<R> {
    pub name: &'static str,
    /// How many objects a repetition makes, or keeps alive, unless told otherwise.
    pub objects: u64,
    /// Repetitions in one process; at least two, for a leak shows in what the second adds.
    pub repetitions: usize,
    pub run: fn(&mut R, u64, &mut Repetition),
}

/// All of them, in the order of the page.
pub fn all<R: Rival>() -> [Workload<R>; 11] {
    let workload = |name, objects, repetitions, run| Workload { name, objects, repetitions, run };
    [
        workload("alloc_drop", 5_000_000, 5, alloc_drop::run),
        workload("keep", 1_000_000, 5, keep::run),
        workload("list", 1_000_000, 5, lists::one),
        workload("short_lists", 2_000_000, 5, lists::short),
        workload("trees", 2_000_000, 5, trees::run),
        workload("cycles", 1_000_000, 5, cycles::held_back),
        workload("cycles_paced", 1_000_000, 5, cycles::paced),
        workload("graphs", 1_000_000, 5, graphs::run),
        workload("cache", 2_000_000, 5, cache::run),
        workload("interpreter", 3_000_000, 5, interpreter::run),
        workload("aged", 10_000_000, 2, aged::run),
    ]
}
