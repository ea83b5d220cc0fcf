//! What happens when a pool runs out of blocks, or gets its first free one back, or its last: the slow paths of blocks.
//!
//! Invariants: a class's list holds its pools that have, or may have, a free block; the first may be exhausted and is
//! unlinked when that is noticed. An arena of this heap lies in `bins[number of its free slots]`.

use core::ptr;

use crate::arena::{ALL_SLOTS, ArenaKind, NO_ARENA, find_run, slot_mask};
use crate::heap::Heap;
use crate::pool::{ALWAYS_SLOW, Block, NO_SLOT, Pool, PoolPtr, SlotKind, no_pool};
use crate::size::{MEDIUM_MAX_BYTES, SLOT_BYTES, SLOTS_PER_ARENA, SMALL_MAX_BYTES, SizeClass};

/// A pool links this many bytes of fresh blocks at a time: an OS page, so that no page is touched before it is needed.
const CARVE_BYTES: usize = 4096;

/// Slots taken from an arena.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    /// The first one.
    pub slot: usize,
    /// Their memory reads as zeros.
    pub clean: bool,
}

/// How often the limit's handler may say "try again" for one request.
const LIMIT_TRIES: usize = 8;

/// How many arenas with the same number of free slots to look at for a run of several. Those with more free slots always get
/// their turn: the emptiest has the room, and a new arena is taken only when none does.
const RUN_TRIES: usize = 4;

impl Heap {
    /// What [`Heap::alloc`] does when there is no block at hand: medium and large requests, an empty pool, an observer
    /// whose turn it is. `bytes` were taken from the budget already.
    #[inline(never)]
    pub(crate) fn alloc_slow(&mut self, bytes: usize) -> *mut u8 {
        if bytes > isize::MAX as usize {
            self.budget = self.budget.wrapping_add_unsigned(bytes);
            return ptr::null_mut();
        }
        let block = self.alloc_unobserved(bytes);
        self.settle(block, bytes);
        block
    }

    /// After a request that took `bytes` from the budget: a refused one gives them back, for nothing was allocated; the
    /// one that used the budget up is shown to the observer.
    #[inline]
    pub(crate) fn settle(&mut self, block: *mut u8, bytes: usize) {
        if block.is_null() {
            self.budget = self.budget.wrapping_add_unsigned(bytes);
        } else if self.budget < 0 {
            self.observe_alloc(block, bytes);
        }
    }

    /// Allocate without a look at the budget.
    pub(crate) fn alloc_unobserved(&mut self, bytes: usize) -> *mut u8 {
        match SizeClass::of(bytes) {
            Some(class) => self.alloc_in_class(class),
            None => self.alloc_span(bytes),
        }
    }

    pub(crate) fn alloc_in_class(&mut self, class: SizeClass) -> *mut u8 {
        loop {
            let pool = self.current[class.index()];
            // SAFETY: `current` holds valid descriptors.
            unsafe {
                let block = (*pool).free;
                if !block.is_null() {
                    (*pool).free = (*block).next;
                    (*pool).used += 1;
                    return block.cast();
                }
            }
            if !self.refill(class) {
                return ptr::null_mut();
            }
        }
    }

    /// See to it that `current[class]` may have a free block. False if there is no memory.
    fn refill(&mut self, class: SizeClass) -> bool {
        let pool = self.current[class.index()];
        if pool == no_pool() {
            return self.new_pool(class);
        }
        // SAFETY: a listed pool of this heap.
        unsafe {
            if (*pool).carved < (*pool).capacity {
                self.carve(pool, class);
            } else {
                self.unlink(pool);
                (*pool).kind = SlotKind::Full;
                (*pool).slow_below = ALWAYS_SLOW;
            }
        }
        true
    }

    /// Link the next fresh blocks of a pool whose free list is empty.
    ///
    /// # Safety
    /// `pool` is a listed pool of this heap and class with blocks not yet carved.
    unsafe fn carve(&mut self, pool: PoolPtr, class: SizeClass) {
        let block_bytes = class.block_bytes();
        let start = self.range.slot_start(self.range.slot_of_pool(pool));
        // SAFETY: blocks `carved..capacity` lie inside the pool's slots and are nobody's.
        unsafe {
            let from = usize::from((*pool).carved);
            let to = usize::from((*pool).capacity).min(from + (CARVE_BYTES / block_bytes).max(1));
            let mut next = ptr::null_mut();
            for i in (from..to).rev() {
                let block = start.add(i * block_bytes).cast::<Block>();
                (*block).next = next;
                next = block;
            }
            (*pool).free = next;
            (*pool).carved = to as u16;
        }
    }

    #[cold]
    fn new_pool(&mut self, class: SizeClass) -> bool {
        let slots = class.pool_slots();
        let Some(Taken { slot, .. }) = self.take_slots(slots, class.block_bytes() <= SMALL_MAX_BYTES) else {
            return false;
        };
        self.describe_slots(
            slot,
            slots,
            Pool {
                free: ptr::null_mut(),
                next: NO_SLOT,
                prev: NO_SLOT,
                used: 0,
                slow_below: 1,
                carved: 0,
                capacity: class.capacity_blocks() as u16,
                owner: self.id,
                marks: 0,
                class: class.0,
                kind: SlotKind::Listed,
                slots: slots as u8,
                back: 0,
            },
        );
        self.link(self.range.pool(slot));
        true
    }

    /// Put a pool at the front of its class's list.
    fn link(&mut self, pool: PoolPtr) {
        // SAFETY: `pool` is a pool of this heap that is in no list; `current` holds valid descriptors.
        unsafe {
            let class = usize::from((*pool).class);
            let slot = self.range.slot_of_pool(pool) as u32;
            let head = self.current[class];
            (*pool).prev = NO_SLOT;
            if head == no_pool() {
                (*pool).next = NO_SLOT;
            } else {
                (*pool).next = self.range.slot_of_pool(head) as u32;
                (*head).prev = slot;
                (*head).slow_below = (*head).slow_below.max(1);
            }
            self.current[class] = pool;
        }
    }

    /// Take a pool out of its class's list.
    fn unlink(&mut self, pool: PoolPtr) {
        // SAFETY: a listed pool's neighbours are listed pools of this heap.
        unsafe {
            let (next, prev) = ((*pool).next, (*pool).prev);
            let after = if next == NO_SLOT { no_pool() } else { self.range.pool(next as usize) };
            if next != NO_SLOT {
                (*after).prev = prev;
            }
            if prev == NO_SLOT {
                self.current[usize::from((*pool).class)] = after;
            } else {
                (*self.range.pool(prev as usize)).next = next;
            }
        }
    }

    /// What [`Heap::free`] does for addresses beyond what was mapped when this heap last looked.
    ///
    /// # Safety
    /// As for [`Heap::free`].
    #[cold]
    pub(crate) unsafe fn free_beyond_slow(&mut self, block: *mut u8) -> bool {
        self.slots = self.range.slots();
        // SAFETY: as for this function.
        self.range.contains(block) && unsafe { self.free(block) }
    }

    /// What [`Heap::free`] does for addresses that are not in the first slot of one of this heap's pools.
    ///
    /// # Safety
    /// As for [`Heap::free`]; `block` lies in the range.
    #[inline(never)]
    pub(crate) unsafe fn free_slow(&mut self, block: *mut u8) -> bool {
        let slot = self.range.slot_of(block);
        let pool = self.range.pool(slot);
        // SAFETY: descriptors exist for every slot; the first slot's is this heap's if the owner says so.
        unsafe {
            match (*pool).kind {
                SlotKind::Interior => {
                    let first = self.range.pool(slot - usize::from((*pool).back));
                    if (*first).kind == SlotKind::Span || (*first).owner != self.id {
                        return false; // spans are freed by their first byte
                    }
                    let block = block.cast::<Block>();
                    (*block).next = (*first).free;
                    (*first).free = block;
                    (*first).used -= 1;
                    if (*first).used < (*first).slow_below {
                        self.freed_slow(first, block);
                    }
                    true
                }
                SlotKind::Span | SlotKind::Free => self.free_span(block, slot),
                SlotKind::Listed | SlotKind::Full => false, // another heap's
            }
        }
    }

    /// After a block went onto its pool's free list: what the fast path leaves to do.
    ///
    /// # Safety
    /// `pool` is a pool of this heap, `block` was just freed in it.
    #[inline(never)]
    pub(crate) unsafe fn freed_slow(&mut self, pool: PoolPtr, block: *mut Block) {
        // SAFETY: the pool is this heap's.
        unsafe {
            if (*pool).marks > 0 && self.observer.is_some_and(|observer| observer.show_freed(block.cast())) {
                (*pool).marks -= 1;
            }
            if (*pool).kind == SlotKind::Full {
                (*pool).kind = SlotKind::Listed;
                self.link(pool);
            }
            let stays = (*pool).slots == 1 && (*pool).is_alone();
            (*pool).slow_below = if (*pool).marks > 0 { ALWAYS_SLOW } else { u16::from(!stays) };
            if (*pool).used == 0 {
                self.pool_emptied(pool);
            }
        }
    }

    /// An empty pool goes back to its arena, unless it is the last of its class and small: then the next block of
    /// the class is likely to come soon.
    fn pool_emptied(&mut self, pool: PoolPtr) {
        // SAFETY: a listed pool of this heap.
        let (slots, alone) = unsafe { ((*pool).slots, (*pool).is_alone()) };
        if slots > 1 || !alone {
            self.release_pool(pool);
        }
    }

    /// Give an empty, listed pool back to its arena.
    pub(crate) fn release_pool(&mut self, pool: PoolPtr) {
        self.unlink(pool);
        // SAFETY: a pool of this heap; its slots are nobody's once no block is live.
        let slots = usize::from(unsafe { (*pool).slots });
        self.put_slots(self.range.slot_of_pool(pool), slots);
    }

    /// The budget is used up: let the observer look at `block`.
    pub(crate) fn observe_alloc(&mut self, block: *mut u8, bytes: usize) {
        let Some(observer) = self.observer else {
            self.set_budget(crate::observe::UNOBSERVED);
            return;
        };
        let (mark, budget) = observer.show_allocated(block, bytes);
        if mark {
            self.mark(block);
        }
        self.set_budget(budget);
    }

    /// Mark the pool or span of a live block.
    fn mark(&mut self, block: *mut u8) {
        let slot = self.range.slot_of(block);
        let pool = self.range.pool(slot);
        // SAFETY: the block is live and this heap's, so these descriptors are too.
        unsafe {
            let first = self.range.pool(slot - usize::from((*pool).back));
            if (*first).kind == SlotKind::Free {
                (*self.range.arena(slot / SLOTS_PER_ARENA)).marked = true;
            } else {
                (*first).marks += 1;
                (*first).slow_below = ALWAYS_SLOW;
            }
        }
    }

    // --- slots ---

    /// Take `count` slots in a row from an arena of this heap, or from a new arena. `small` requests may use the grace
    /// beyond the limit.
    pub(crate) fn take_slots(&mut self, count: usize, small: bool) -> Option<Taken> {
        let bytes = count * SLOT_BYTES;
        self.charge(bytes, small)?;
        let taken = self.find_memory(count);
        match taken {
            Some(_) => self.range.note_peak(),
            None => self.uncharge(bytes),
        }
        taken
    }

    /// Memory that is there already comes first: free slots of this heap's arenas, then arenas that the range kept. A fresh
    /// huge page comes next, as it beats fresh small pages between used ones.
    fn find_memory(&mut self, count: usize) -> Option<Taken> {
        let huge = self.range.wants_huge();
        if (huge || self.retained_slots >= count)
            && let Some(taken) = self.find_slots(count, false)
        {
            return Some(taken);
        }
        if !huge
            && !self.range.keeps_any()
            && let Some(taken) = self.find_slots(count, true)
        {
            return Some(taken);
        }
        self.new_arena_slots(count).or_else(|| self.find_slots(count, true))
    }

    fn new_arena_slots(&mut self, count: usize) -> Option<Taken> {
        let arena = self.range.take_arenas(1, self.id, ArenaKind::Pools, 1)?;
        // SAFETY: the arena is this heap's now.
        self.retained_slots += unsafe { (*self.range.arena(arena)).dirty.count_ones() as usize };
        self.bin_insert(arena);
        self.slots_from(arena, count, true)
    }

    /// The fullest arena that has the room: emptier ones get their chance to become empty. With `fresh` false, only slots
    /// whose memory is there already, or will be a huge page.
    fn find_slots(&mut self, count: usize, fresh: bool) -> Option<Taken> {
        let mut mask = self.bin_mask & (ALL_SLOTS << count.min(127));
        while mask != 0 {
            let bin = mask.trailing_zeros() as usize;
            let mut tries = RUN_TRIES;
            let mut at = self.bins[bin];
            while at != NO_ARENA && tries > 0 {
                // SAFETY: binned arenas are this heap's.
                let (next, huge) =
                    unsafe { ((*self.range.arena(at as usize)).next, (*self.range.arena(at as usize)).huge) };
                if let Some(taken) = self.slots_from(at as usize, count, fresh || huge) {
                    return Some(taken);
                }
                at = next;
                tries -= 1;
            }
            mask &= mask - 1;
        }
        None
    }

    /// Take `count` slots of one arena: resident ones if it has such a run, others only if they may be `fresh`.
    fn slots_from(&mut self, index: usize, count: usize, fresh: bool) -> Option<Taken> {
        let arena = self.range.arena(index);
        // SAFETY: the arena is this heap's.
        unsafe {
            let resident = find_run((*arena).free & (*arena).dirty, count);
            let first = resident.or_else(|| if fresh { find_run((*arena).free, count) } else { None })?;
            self.bin_remove(index);
            let mask = slot_mask(first, count);
            let dirty = ((*arena).dirty & mask).count_ones() as usize;
            self.retained_slots -= dirty;
            (*arena).free &= !mask;
            (*arena).dirty |= mask;
            self.bin_insert(index);
            Some(Taken { slot: index * SLOTS_PER_ARENA + first, clean: dirty == 0 })
        }
    }

    /// Give slots back to their arena, and an empty arena back to the range.
    pub(crate) fn put_slots(&mut self, slot: usize, count: usize) {
        let (index, first) = (slot / SLOTS_PER_ARENA, slot % SLOTS_PER_ARENA);
        let arena = self.range.arena(index);
        // SAFETY: slots and arena are this heap's; zeroed descriptors are free slots.
        unsafe {
            ptr::write_bytes(self.range.pool(slot), 0, count);
            self.bin_remove(index);
            (*arena).free |= slot_mask(first, count);
            self.retained_slots += count;
            self.uncharge(count * SLOT_BYTES);
            if (*arena).free == ALL_SLOTS {
                self.retained_slots -= (*arena).dirty.count_ones() as usize;
                self.range.put_arenas(index, 1);
            } else {
                self.bin_insert(index);
                self.trim_if_due();
            }
        }
    }

    /// Write the descriptors of a run of slots: `first` for the first, interior ones for the others.
    pub(crate) fn describe_slots(&mut self, slot: usize, count: usize, first: Pool) {
        // SAFETY: the slots were just taken and are this heap's.
        unsafe {
            self.range.pool(slot).write(first);
            for i in 1..count {
                self.range.pool(slot + i).write(Pool {
                    free: ptr::null_mut(),
                    next: NO_SLOT,
                    prev: NO_SLOT,
                    used: 0,
                    slow_below: 0,
                    carved: 0,
                    capacity: 0,
                    owner: 0,
                    marks: 0,
                    class: 0,
                    kind: SlotKind::Interior,
                    slots: 0,
                    back: i as u8,
                });
            }
        }
    }

    /// Count bytes as held. At the limit: give back what is kept for reuse, ask the handler, or give up.
    pub(crate) fn charge(&mut self, bytes: usize, small: bool) -> Option<()> {
        if self.range.near_limit(self.retained_slots * SLOT_BYTES, bytes) {
            self.trim();
        }
        let mut tries = LIMIT_TRIES;
        while !self.range.charge(bytes, small) {
            if tries == 0 || !self.range.may_retry(bytes) {
                return None;
            }
            tries -= 1;
        }
        self.held_bytes += bytes;
        Some(())
    }

    pub(crate) fn uncharge(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
        self.range.uncharge(bytes);
    }

    // --- bins of arenas, by free slots ---

    pub(crate) fn bin_insert(&mut self, index: usize) {
        let arena = self.range.arena(index);
        // SAFETY: the arena is this heap's and in no list; bins hold arenas of this heap.
        unsafe {
            let bin = (*arena).free.count_ones() as usize;
            let head = self.bins[bin];
            (*arena).prev = NO_ARENA;
            (*arena).next = head;
            if head != NO_ARENA {
                (*self.range.arena(head as usize)).prev = index as u32;
            }
            self.bins[bin] = index as u32;
            if bin < 128 {
                self.bin_mask |= 1 << bin;
            }
        }
    }

    pub(crate) fn bin_remove(&mut self, index: usize) {
        let arena = self.range.arena(index);
        // SAFETY: the arena is in the bin that its number of free slots names.
        unsafe {
            let bin = (*arena).free.count_ones() as usize;
            let (prev, next) = ((*arena).prev, (*arena).next);
            if next != NO_ARENA {
                (*self.range.arena(next as usize)).prev = prev;
            }
            if prev != NO_ARENA {
                (*self.range.arena(prev as usize)).next = next;
            } else {
                self.bins[bin] = next;
                if next == NO_ARENA && bin < 128 {
                    self.bin_mask &= !(1 << bin);
                }
            }
        }
    }
}

const _: () = assert!(MEDIUM_MAX_BYTES / SLOT_BYTES < SLOTS_PER_ARENA);
