//! What a profiler of an allocator needs, sampling or exact, without the allocator and without the interpreter.
//!
//! ```text
//! Gaps       how many bytes to let pass until the next sample        gaps.rs
//! Estimate   what samples say of all bytes, and how surely           estimate.rs
//! Tracked    an estimate now, and as it was at the peak              peak.rs
//! Tables     stacks, sites and live samples                          tables.rs
//! Counts     every allocation of every site, to the byte             counts.rs
//! Pages      memory of the tables: the OS's, never a heap we watch   pages.rs
//! ```
//!
//! An allocation hook calls [`Tables::insert`] and [`Tables::remove`]; a report calls [`Tables::snapshot`]. The caller
//! brings the lock: a [`Tables`] is plain data that one thread uses at a time.
//!
//! Invariant: nothing here calls an allocator other than [`Pages`] between [`Tables::code_at`] and [`Tables::remove`], so
//! all of it may run inside an allocation hook. Only [`Tables::snapshot`] uses Rust's global allocator.
#![warn(missing_docs)]

mod counts;
mod estimate;
mod gaps;
mod pages;
mod peak;
mod tables;

pub use counts::{Counts, Entry, Level, MAX_COUNTED_SITES, SiteCount, Totals};
pub use estimate::Estimate;
pub use gaps::Gaps;
pub use pages::Pages;
pub use peak::Tracked;
pub use tables::export::{Known, NodeEntry, SiteEntry};
pub use tables::snapshot::{SiteSnapshot, Snapshot};
pub use tables::{
    Code, CodeId, Freed, Full, Interned, MAX_CODES, MAX_DEPTH, MAX_RECURSION, NodeId, SiteId, Tables, ThreadId,
};
