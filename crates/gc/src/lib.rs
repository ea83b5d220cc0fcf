//! The collector of cycles: what reference counts cannot free, for any object world that keeps its objects in one
//! [`Heap`](heapkeeper_heap::Heap) and its counts itself.
//!
//! ```text
//! Collector::collect(model, oldest)
//!   search.rs    the passes of a full collection, over all candidates; space.rs has their tables, grain.rs what
//!                these go by
//!   count.rs     external(o) = refcount(o) − references to o from candidates       reads objects, writes scratch
//!   mark.rs      reachable = what candidates with external > 0 lead to             reads objects, writes scratch
//!   dispose.rs   weak references, callbacks, finalizers, what they resurrected, clearing     runs the program's code
//! ```
//!
//! A world that disposes of its trash itself, as a running CPython does, needs a [`Graph`] and a [`Search`] alone, or a
//! [`SparseSearch`] where candidates are few in a large heap (`sparse.rs`).
//!
//! Where to look: [`ObjectModel`] is what an object world has to say and what its programs may observe; `collector.rs`
//! puts the passes together; `pace.rs` says when; `scratch.rs` is all memory that the passes write.
//!
//! The passes allocate nothing, take no lock, and write nothing to objects: a forked child may run them on its copy of
//! the heap, and nothing of that copy becomes its own.
//!
//! `no_std`, without `alloc`. One mutator, as for the heap.
#![no_std]
#![warn(missing_docs)]

mod collector;
mod count;
mod dispose;
mod grain;
mod mark;
mod model;
mod pace;
mod scratch;
mod search;
mod space;
mod sparse;
mod telemetry;

pub use collector::Collector;
pub use dispose::Trash;
pub use model::{Generation, Graph, MIN_OBJECT_BYTES, ObjectModel, Outcome, Visitor};
pub use pace::Pace;
pub use scratch::Tables;
pub use search::Search;
pub use space::{Outside, prefetch};
pub use sparse::{Candidate, SparseSearch};
pub use telemetry::{GenerationStats, Pauses, PhaseTimes, Telemetry};

#[cfg(test)]
mod tests;
