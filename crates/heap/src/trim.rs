//! Giving memory back: free slots of arenas that are still in use, by policy and at once, and everything at the end.
//!
//! Arenas that become empty go back to the range, which keeps a bounded share for reuse (`runs.rs`). What is left here
//! are free slots between used ones. They are kept while they are few beside what the heap holds, below
//! `held / 8 + 256 KiB`, or while the policy for a large heap allows (`policy.rs`); beyond that they go back to the OS,
//! emptiest arenas first. An arena on a huge page is left whole
//! unless it is nearly empty, for giving back a part would split it.

use core::ptr;

use crate::arena::{ArenaKind, NO_ARENA};
use crate::heap::Heap;
use crate::pool::{NO_SLOT, PoolPtr, no_pool};
use crate::size::{SLOT_BYTES, SLOTS_PER_ARENA};

/// Free slots that a heap always may keep: 256 KiB.
const RETAIN_MIN_SLOTS: usize = 16;

/// A huge arena with at least this many free slots may be split to give them back.
const SPLIT_HUGE_FROM: usize = 112;

impl Heap {
    /// Give memory of free slots back if there is more than the policy keeps.
    #[inline]
    pub(crate) fn trim_if_due(&mut self) {
        let held_slots = self.held_bytes / SLOT_BYTES;
        if self.retained_slots > held_slots / 8 + RETAIN_MIN_SLOTS {
            self.trim_if_due_slow(held_slots / 8 + RETAIN_MIN_SLOTS);
        }
    }

    /// Free arenas go first: theirs is the memory that is given back and taken again with least trouble.
    #[cold]
    fn trim_if_due_slow(&mut self, keep_slots: usize) {
        let keep_slots = keep_slots.max(self.range.settle() / SLOT_BYTES);
        if self.retained_slots > keep_slots {
            self.give_back_slots(keep_slots / 4 * 3, false);
        }
    }

    /// Give everything free back to the OS, at once: empty pools, free slots, and the range's free arenas. Returns the
    /// bytes given back.
    pub fn trim(&mut self) -> usize {
        self.release_empty_pools();
        self.give_back_slots(0, true) + self.range.trim()
    }

    /// Give this heap's free slots back to the OS, but for those of huge pages in use, and its free arenas to the range, which
    /// may keep some for whoever asks next.
    pub fn release_free(&mut self) {
        self.release_empty_pools();
        self.give_back_slots(0, false);
    }

    fn release_empty_pools(&mut self) {
        for class in 0..self.current.len() {
            let mut pool: PoolPtr = self.current[class];
            while pool != no_pool() {
                // SAFETY: listed pools are this heap's.
                let (next, used) = unsafe { ((*pool).next, (*pool).used) };
                if used == 0 {
                    self.release_pool(pool);
                }
                pool = if next == NO_SLOT { no_pool() } else { self.range.pool(next as usize) };
            }
        }
    }

    /// Give dirty free slots back, emptiest arenas first, until `keep` are left. Returns the bytes given back.
    pub(crate) fn give_back_slots(&mut self, keep: usize, split_huge: bool) -> usize {
        let before = self.retained_slots;
        for bin in (1..SLOTS_PER_ARENA).rev() {
            let mut at = self.bins[bin];
            while at != NO_ARENA && self.retained_slots > keep {
                let index = at as usize;
                // SAFETY: binned arenas are this heap's.
                let (free, dirty, huge) = unsafe {
                    let arena = &*self.range.arena(index);
                    at = arena.next;
                    (arena.free, arena.dirty, arena.huge)
                };
                if huge && !split_huge && bin < SPLIT_HUGE_FROM {
                    continue;
                }
                // A huge page is resident as a whole, used or not.
                let mut mask = if huge { free } else { free & dirty };
                while mask != 0 {
                    let first = mask.trailing_zeros() as usize;
                    let count = (mask >> first).trailing_ones() as usize;
                    let run = crate::arena::slot_mask(first, count);
                    // SAFETY: the slots are free, the arena is this heap's.
                    unsafe { self.range.clean_slots(index, first, count) };
                    self.retained_slots -= (run & dirty).count_ones() as usize;
                    mask &= !run;
                }
            }
        }
        (before - self.retained_slots) * SLOT_BYTES
    }

    /// Give back all that this heap holds, live blocks too. For `drop` only: the number of this heap is free for another one.
    pub(crate) fn release_all(&mut self) {
        let arenas = self.range.with_state(|state| state.frontier as usize);
        let mut index = 0;
        while index < arenas {
            // SAFETY: an arena whose owner is this heap does not change behind its back; others are only read.
            let (kind, owner, run) = unsafe {
                let arena = &*self.range.arena(index);
                (arena.kind, arena.owner, arena.run as usize)
            };
            let count = match kind {
                ArenaKind::Pools if owner == self.id => {
                    // SAFETY: the slots are this heap's; zeroed descriptors are free slots.
                    unsafe {
                        ptr::write_bytes(self.range.pool(index * SLOTS_PER_ARENA), 0, SLOTS_PER_ARENA);
                    }
                    1
                }
                ArenaKind::Span if owner == self.id => run,
                _ => {
                    index += 1;
                    continue;
                }
            };
            self.range.put_arenas(index, count);
            index += count;
        }
        self.range.uncharge(self.held_bytes);
        self.range.unregister_heap(self.id);
        self.current.fill(no_pool());
        self.bins.fill(NO_ARENA);
        self.bin_mask = 0;
        self.retained_slots = 0;
        self.held_bytes = 0;
        self.spans = 0;
        self.span_bytes = 0;
    }
}
