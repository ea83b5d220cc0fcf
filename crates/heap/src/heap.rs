//! The heap: what one mutator allocates from. **The hot path is [`Heap::alloc`] and [`Heap::free`], right below.**
//!
//! ```text
//! alloc(n): class ← n;  pool ← current[class];  pop pool.free           else refill.rs, span.rs
//! free(p):  pool ← table[(p − base) >> 14];     push on pool.free       else freed_slow (refill.rs)
//! ```
//!
//! A block just freed is the next one handed out, while it is in the cache. A pool that was full comes first in its
//! class's list when it gets a free block, for the same reason.
//!
//! Invariants: `current[c]` is the first pool of class c's list, or [`no_pool`]; every listed pool belongs to this heap.

use core::ptr;

use crate::arena::NO_ARENA;
use crate::observe::{Observer, UNOBSERVED};
use crate::pool::{Block, Pool, PoolPtr, no_pool};
use crate::range::Range;
use crate::size::{CLASSES, SLOT_SHIFT, SLOTS_PER_ARENA, SMALL_MAX_BYTES};

/// A private heap: one mutator at a time, no atomics, no header on a block.
///
/// Allocation returns null when memory or the limit is used up, as C's does. Blocks are 16-byte aligned.
/// Dropping a heap gives everything it holds back, live blocks too.
///
/// Laid out so that the hot path touches one cache line and its class's entry of `current`.
#[repr(C, align(64))]
pub struct Heap {
    /// Bytes that may still be requested before the observer is called.
    pub(crate) budget: isize,
    /// First slot's address, and the table of descriptors: copies of the range's, a load less on the hot path.
    pub(crate) base: usize,
    /// Slots that were mapped when this heap last looked.
    pub(crate) slots: usize,
    pub(crate) pools: PoolPtr,
    pub(crate) id: u16,
    /// First pool of each class's list.
    pub(crate) current: [PoolPtr; CLASSES],

    // --- slow paths only ---
    pub(crate) range: &'static Range,
    pub(crate) observer: Option<Observer>,
    /// What `budget` was when it was last set, and the bytes requested before that.
    pub(crate) budget_set: isize,
    pub(crate) requested_before: u64,
    /// Arenas with k free slots, `bins[k]`; `bin_mask` bit k says that there is one (k < 128).
    pub(crate) bins: [u32; SLOTS_PER_ARENA + 1],
    pub(crate) bin_mask: u128,
    /// Free slots of this heap's arenas that are dirty.
    pub(crate) retained_slots: usize,
    pub(crate) held_bytes: usize,
    pub(crate) spans: usize,
    pub(crate) span_bytes: usize,
}

// SAFETY: a heap is used by one thread at a time (`&mut self`); nothing in it is bound to the thread that made it.
unsafe impl Send for Heap {}

impl Heap {
    /// A heap that takes its arenas from `range`. `None` if 4095 heaps live there already.
    pub fn new(range: &'static Range) -> Option<Heap> {
        Some(Heap {
            budget: UNOBSERVED,
            base: range.base().addr(),
            slots: range.slots(),
            pools: range.pool_table(),
            id: range.register_heap()?,
            current: [no_pool(); CLASSES],
            range,
            observer: None,
            budget_set: UNOBSERVED,
            requested_before: 0,
            bins: [NO_ARENA; SLOTS_PER_ARENA + 1],
            bin_mask: 0,
            retained_slots: 0,
            held_bytes: 0,
            spans: 0,
            span_bytes: 0,
        })
    }

    /// A block of at least `bytes` bytes, or null. A request of 0 gets a block of its own as well.
    #[inline(always)]
    pub fn alloc(&mut self, bytes: usize) -> *mut u8 {
        self.budget = self.budget.wrapping_sub_unsigned(bytes);
        if bytes.wrapping_sub(1) < SMALL_MAX_BYTES && self.budget >= 0 {
            // SAFETY: the index is below CLASSES, and `current` holds valid descriptors of this heap's pools, or the
            // read-only empty one. A block on a free list is ours and nobody else's.
            unsafe {
                let pool = *self.current.get_unchecked((bytes - 1) >> 4);
                let block = (*pool).free;
                if !block.is_null() {
                    (*pool).free = (*block).next;
                    (*pool).used += 1;
                    return block.cast();
                }
            }
        }
        self.alloc_slow(bytes)
    }

    /// Free a block of this heap. False, and nothing done, if the address is not in one of this heap's arenas.
    ///
    /// # Safety
    /// `block` was allocated here and is not used afterwards, or lies outside this heap.
    #[inline(always)]
    pub unsafe fn free(&mut self, block: *mut u8) -> bool {
        let slot = block.addr().wrapping_sub(self.base) >> SLOT_SHIFT;
        if slot >= self.slots {
            // SAFETY: as for this function.
            return unsafe { self.free_beyond_slow(block) };
        }
        // SAFETY: the table has an entry for every mapped slot. `owner == id` on the first slot of a pool only, and
        // such a descriptor is this heap's to change; the caller vouches that `block` is a live block.
        unsafe {
            let pool = self.pools.add(slot);
            if (*pool).owner != self.id {
                return self.free_slow(block);
            }
            let block = block.cast::<Block>();
            (*block).next = (*pool).free;
            (*pool).free = block;
            let used = Pool::one_less(pool);
            if used < (*pool).slow_below {
                self.freed_slow(pool, block);
            }
        }
        true
    }

    /// As [`Heap::free`], for a block that was surely allocated here, for at most [`SMALL_MAX_BYTES`] bytes: what else `free`
    /// tells apart need not be asked.
    ///
    /// # Safety
    /// `block` was allocated here for at most that many bytes, and is not used afterwards.
    #[inline(always)]
    pub unsafe fn free_small(&mut self, block: *mut u8) {
        let slot = block.addr().wrapping_sub(self.base) >> SLOT_SHIFT;
        // SAFETY: pools of small blocks are one slot each, so that its descriptor is the pool's, which is this heap's to
        // change; the caller vouches that `block` is a live block.
        unsafe {
            let pool = self.pools.add(slot);
            debug_assert!((*pool).owner == self.id && (*pool).slots == 1);
            let block = block.cast::<Block>();
            (*block).next = (*pool).free;
            (*pool).free = block;
            let used = Pool::one_less(pool);
            if used < (*pool).slow_below {
                self.freed_slow(pool, block);
            }
        }
    }

    /// As [`Heap::alloc`], with the first `bytes` bytes zero.
    #[inline]
    pub fn alloc_zeroed(&mut self, bytes: usize) -> *mut u8 {
        if bytes > crate::size::MEDIUM_MAX_BYTES {
            return self.alloc_span_zeroed(bytes);
        }
        let block = self.alloc(bytes);
        if !block.is_null() {
            // SAFETY: the block has at least `bytes` bytes.
            unsafe { ptr::write_bytes(block, 0, bytes) };
        }
        block
    }

    /// This heap's number, unique among those alive in the range.
    pub fn number(&self) -> u16 {
        self.id
    }

    /// The range that this heap takes its arenas from.
    pub fn range(&self) -> &'static Range {
        self.range
    }

    /// Whether this heap owns the block at `address`. Constant time, any address, interior ones too.
    #[inline]
    pub fn owns(&self, address: *const u8) -> bool {
        self.range.owner_of(address) == self.id
    }

    /// Let `observer` see an allocation each time `budget` bytes have been requested; `None` ends it. Marks of an earlier
    /// observer must be gone.
    pub fn observe(&mut self, observer: Option<Observer>, budget: isize) {
        self.observer = observer;
        self.set_budget(if observer.is_some() { budget } else { UNOBSERVED });
    }

    pub(crate) fn set_budget(&mut self, budget: isize) {
        self.requested_before = self.requested_bytes();
        self.budget_set = budget;
        self.budget = budget;
    }

    /// Bytes requested so far, all blocks together, as the callers asked for them.
    pub fn requested_bytes(&self) -> u64 {
        self.requested_before + self.budget_set.wrapping_sub(self.budget) as u64
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        self.release_all();
    }
}
