//! Counted, cycle-collected objects on a private heap.
#![warn(missing_docs)]

// The derive names this crate.
extern crate self as heapkeeper;

mod any;
mod control;
mod destroy;
mod error;
mod finalize;
mod gc;
mod header;
mod heap;
mod impls;
mod inner;
mod inspect;
mod intern;
mod model;
mod panics;
mod place;
mod poison;
mod recent;
mod small_ints;
mod trace;
mod verify;
mod weak;

pub use any::AnyGc;
pub use control::{CallbackId, CollectionInfo, Paused, Phase, Stats};
pub use error::{BuildError, OutOfMemory, WrongHeap};
pub use finalize::Finalize;
pub use gc::Gc;
pub use heap::{Heap, HeapBuilder};
pub use heapkeeper_derive::Trace;
pub use heapkeeper_gc::{Generation, GenerationStats, Outcome, Pauses, PhaseTimes, Telemetry};
pub use inspect::Place;
pub use intern::{InternStats, Interner};
pub use small_ints::SmallInts;
pub use trace::{Trace, Tracer};
pub use verify::Mistake;
pub use weak::Weak;

#[cfg(test)]
mod tests;

/// What the derive's code needs.
#[doc(hidden)]
pub mod derive {
    pub use crate::trace::Depth;
}
