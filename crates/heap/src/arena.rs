//! Arenas: 2 MiB of the range each, aligned to a huge page, of 128 slots. Their descriptors lie in a table beside the range.
//!
//! Invariants, checked by `check.rs`:
//! - a slot's bit in `free` is set ⇔ its descriptor says `Free`
//! - a slot in use is dirty: `!free & !dirty = 0` for arenas of pools
//! - memory behind a slot that is neither dirty nor in use reads as zeros, once the arena is mapped

use core::mem::size_of;

/// What an arena is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ArenaKind {
    /// Never used: all-zero descriptors mean this.
    #[expect(dead_code, reason = "only ever comes from zeroed memory")]
    Untouched = 0,
    /// In a free run of the range.
    Free,
    /// Holds pools and small spans of one heap.
    Pools,
    /// First arena of a span of whole arenas.
    Span,
    /// A further arena of such a span.
    SpanInterior,
}

/// The descriptor of an arena.
#[repr(C, align(64))]
pub(crate) struct Arena {
    /// Bit i: slot i is free.
    pub free: u128,
    /// Bit i: slot i may be resident and may hold anything but zeros.
    pub dirty: u128,
    /// Bytes of a span of arenas, rounded up to OS pages; first arena only.
    pub span_bytes: usize,
    /// Neighbours in a list: a heap's bin of arenas, or a bin of free runs (first arena of a run). `NO_ARENA` at the ends.
    pub next: u32,
    pub prev: u32,
    /// Arenas of a free run (first and last arena) or of a span (first); arenas back to the first (span interior).
    pub run: u32,
    /// The heap it belongs to, 0 for none.
    pub owner: u16,
    pub kind: ArenaKind,
    /// A free run: true if any of its arenas may be dirty. Runs are dirty or clean as a whole.
    pub dirty_run: bool,
    /// May be read and written.
    pub writable: bool,
    /// Huge pages were asked for.
    pub huge: bool,
    /// A span of arenas holds a marked block.
    pub marked: bool,
    /// Its addresses went back to the system as well. Only arenas of clean runs, which are not writable then.
    pub unmapped: bool,
}

const _: () = assert!(size_of::<Arena>() == 64);

/// No arena: ends a list.
pub(crate) const NO_ARENA: u32 = u32::MAX;

/// All slots.
pub(crate) const ALL_SLOTS: u128 = u128::MAX;

/// The mask of `count` slots from `first`.
#[inline]
pub(crate) const fn slot_mask(first: usize, count: usize) -> u128 {
    debug_assert!(count >= 1 && first + count <= 128);
    (ALL_SLOTS >> (128 - count)) << first
}

/// The lowest position at which `set` has `count` ones in a row.
#[inline]
pub(crate) const fn find_run(set: u128, count: usize) -> Option<usize> {
    // After folding, bit i of `runs` says that bits i .. i + have of `set` are all ones.
    let mut runs = set;
    let mut have = 1;
    while have < count && runs != 0 {
        let step = if have < count - have { have } else { count - have };
        runs &= runs >> step;
        have += step;
    }
    if runs == 0 { None } else { Some(runs.trailing_zeros() as usize) }
}
