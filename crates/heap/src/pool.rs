//! Pools: runs of slots whose blocks have one size class. Their descriptors lie in a table beside the range, not in the
//! pools: dense, so that freeing a block far away costs one cache line of a small table instead of one at the same
//! offset of every 16 KiB, which is what headers inside pools do to caches and TLBs.
//!
//! Each slot has a descriptor. The first slot of a pool or span carries the truth, the others say how far back it is.
//!
//! Invariants of a pool, checked by `check.rs`:
//! - `used + |free list| + (capacity - carved) = capacity`
//! - `Listed` ⇔ it is in its class's list; `Full` ⇒ `used = capacity`
//! - `slow_below = ALWAYS_SLOW` if `Full` or `marks > 0`; else 1, or 0 for a pool of one slot that is alone in its list: it stays
//!   when it is empty, and may be so every time

use core::mem::{align_of, size_of};

/// A free block: the first word links it into its pool's free list.
#[repr(C)]
pub(crate) struct Block {
    pub next: *mut Block,
}

/// What a slot is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SlotKind {
    /// Nothing: all-zero descriptors mean this, so a fresh table needs no initialization.
    Free = 0,
    /// First slot of a pool that is in its class's list.
    Listed,
    /// First slot of a pool with no free block, in no list.
    Full,
    /// First slot of a span.
    Span,
    /// A further slot of a pool or span.
    Interior,
}

/// The descriptor of a slot.
///
/// ```text
///  0 free ───────────────── 8 next ─── 12 prev ─── 16 used  18 slow_below  20 carved  22 capacity
/// 24 owner  26 marks  28 class  29 kind  30 slots  31 back ─── 32
/// ```
#[repr(C, align(32))]
pub(crate) struct Pool {
    /// Head of the free list; null when there is none.
    pub free: *mut Block,
    /// Neighbours in the class's list, by slot index; `NO_SLOT` at the ends.
    pub next: u32,
    pub prev: u32,
    /// Live blocks.
    pub used: u16,
    /// A free that leaves `used < slow_below` takes the slow path.
    pub slow_below: u16,
    /// Blocks ever linked or handed out; those beyond are untouched.
    pub carved: u16,
    /// Blocks in all.
    pub capacity: u16,
    /// The heap it belongs to; 0 for none, and for interior slots and spans, so that a free of one takes the slow path.
    pub owner: u16,
    /// Marked blocks: frees go through the observer while there are any. At most `capacity`.
    pub marks: u16,
    /// Size class, for pools.
    pub class: u8,
    pub kind: SlotKind,
    /// Slots of the pool or span, first slot only.
    pub slots: u8,
    /// Slots back to the first one, 0 for the first.
    pub back: u8,
}

const _: () = assert!(size_of::<Pool>() == 32 && align_of::<Pool>() == 32);

impl Pool {
    /// A block less is live; how many are.
    ///
    /// Two bytes are read, whatever the compiler thinks: it would read four, and the processor would then wait until the two
    /// that the last allocation has just written are in its cache (failed store-to-load forwarding).
    ///
    /// # Safety
    /// `pool` is a valid descriptor of the caller's heap with a live block.
    #[inline(always)]
    pub(crate) unsafe fn one_less(pool: PoolPtr) -> u16 {
        // SAFETY: by the caller's word.
        unsafe {
            let used = (&raw const (*pool).used).read_volatile() - 1;
            (*pool).used = used;
            used
        }
    }

    /// Whether a listed pool is the only one of its class in the list.
    #[inline(always)]
    pub(crate) fn is_alone(&self) -> bool {
        self.prev & self.next == NO_SLOT
    }
}

/// No slot: ends a list.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// `slow_below` of a pool whose every free must be looked at: larger than any `used`.
pub(crate) const ALWAYS_SLOW: u16 = u16::MAX;

/// The role of a pointer to the descriptor of a slot.
pub(crate) type PoolPtr = *mut Pool;

/// What `Heap::current` holds for a class without a listed pool: never has a free block, never is written to.
#[repr(transparent)]
pub(crate) struct NoPool(Pool);

// SAFETY: never written, see `NO_POOL`.
unsafe impl Sync for NoPool {}

static NO_POOL: NoPool = NoPool(Pool {
    free: core::ptr::null_mut(),
    next: NO_SLOT,
    prev: NO_SLOT,
    used: 0,
    slow_below: 0,
    carved: 0,
    capacity: 0,
    owner: 0,
    marks: 0,
    class: 0,
    kind: SlotKind::Free,
    slots: 0,
    back: 0,
});

/// The pool that is none.
#[inline]
pub(crate) fn no_pool() -> PoolPtr {
    (&raw const NO_POOL.0).cast_mut()
}
