//! A tiered private heap: OS memory ⊃ arenas ⊃ pools ⊃ blocks.
//!
//! ```text
//! Range   one reservation of address space, with a table beside it for each tier
//! └ Arena 2 MiB, belongs to one Heap; 128 slots of 16 KiB
//!   ├ Pool  one slot (several for medium classes): blocks of one size class
//!   │ └ Block  what a caller gets; no header, 16-byte aligned
//!   └ Span  a run of slots, or of whole arenas: one large block
//! ```
//!
//! Where to look: [`Heap::alloc`] and [`Heap::free`] in `heap.rs` are the hot path. `refill.rs` is what happens when a
//! pool runs out or over, `span.rs` serves large blocks, `range.rs` owns address space and gives memory back.
//!
//! The crate knows no object, collector, call site or sample. It offers an [`Observer`], marks, a [walker](Heap::visit_live),
//! [`SideTable`]s and [`Tags`]; others fill them.
//!
//! `no_std`; the one seam to the operating system is `os.rs`. One mutator: a [`Heap`] is used by one thread at a time,
//! several heaps may share one [`Range`] concurrently.
#![no_std]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("heapkeeper-heap knows 64-bit Linux so far: os.rs is the seam to extend");

mod arena;
mod check;
mod claim;
mod debug;
mod heap;
mod locate;
mod lock;
mod observe;
mod os;
mod policy;
mod pool;
mod range;
mod refill;
mod runs;
mod side;
mod size;
mod span;
mod stats;
mod tags;
mod trim;
mod walk;

pub use check::Inconsistency;
pub use debug::{DEAD, DebugHeap, FRESH, Fault, FaultKind, Leak, REDZONE};
pub use heap::Heap;
pub use locate::{Location, Tier};
pub use lock::Lock;
pub use observe::{Observer, UNOBSERVED};
pub use os::monotonic_ms;
pub use range::{HugePages, LimitHandler, Range, RangeStats, ReserveError};
pub use side::SideTable;
pub use size::{ARENA_BYTES, CLASSES, MEDIUM_MAX_BYTES, SLOT_BYTES, SLOTS_PER_ARENA, SMALL_MAX_BYTES, SizeClass};
pub use stats::{ClassStats, HeapStats};
pub use tags::{MAX_TAG, Tagged, Tags};
pub use walk::{LiveBlock, Run};

#[cfg(test)]
mod tests;
