//! Where an address lies: arena, pool, block, in constant time. Any address will do, interior ones and strangers' too.

use crate::arena::ArenaKind;
use crate::pool::SlotKind;
use crate::range::Range;
use crate::size::{SLOT_BYTES, SLOTS_PER_ARENA, SizeClass};

/// The tier that serves an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tier {
    /// A block of a pool.
    Block {
        /// Its size class.
        class: SizeClass,
        /// First slot of its pool, counted from the start of the range.
        pool: usize,
        /// Its place in the pool.
        index: usize,
    },
    /// A span of slots in an arena.
    Span,
    /// A span of whole arenas.
    ArenaSpan,
}

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The heap's number, unique among those alive in the range.
    pub heap: u16,
    /// The arena, counted from the start of the range.
    pub arena: usize,
    /// Address of the first byte of the block or span.
    pub start: usize,
    /// Bytes that the block or span can hold.
    pub block_bytes: usize,
    /// Block or span.
    pub tier: Tier,
}

impl Range {
    /// The first byte of the first arena. Every block of the range is reached from here.
    #[inline]
    pub fn start(&self) -> *mut u8 {
        self.base()
    }

    /// Where `address` lies, or `None` if no pool or span contains it. Says nothing of whether the block is live.
    ///
    /// The answer is reliable for memory that stays allocated meanwhile.
    pub fn locate(&self, address: *const u8) -> Option<Location> {
        if !self.contains(address) {
            return None;
        }
        let slot = self.slot_of(address);
        let index = slot / SLOTS_PER_ARENA;
        // SAFETY: both tables have entries for every address of the range; descriptors of live memory do not change.
        unsafe {
            let arena = self.arena(index);
            match (*arena).kind {
                ArenaKind::Pools => {
                    let first = slot - usize::from((*self.pool(slot)).back);
                    let pool = &*self.pool(first);
                    let start = self.slot_start(first).addr();
                    match pool.kind {
                        SlotKind::Listed | SlotKind::Full => {
                            let class = SizeClass(pool.class);
                            let block_bytes = class.block_bytes();
                            let index_in_pool = (address.addr() - start) / block_bytes;
                            if index_in_pool >= usize::from(pool.capacity) {
                                return None; // the pool's unused tail
                            }
                            Some(Location {
                                heap: (*arena).owner,
                                arena: index,
                                start: start + index_in_pool * block_bytes,
                                block_bytes,
                                tier: Tier::Block { class, pool: first, index: index_in_pool },
                            })
                        }
                        SlotKind::Span => Some(Location {
                            heap: (*arena).owner,
                            arena: index,
                            start,
                            block_bytes: usize::from(pool.slots) * SLOT_BYTES,
                            tier: Tier::Span,
                        }),
                        SlotKind::Free | SlotKind::Interior => None,
                    }
                }
                kind @ (ArenaKind::Span | ArenaKind::SpanInterior) => {
                    // Another thread's span may be in the making: then its arenas do not lead to a first one yet.
                    let back = if kind == ArenaKind::Span { 0 } else { (*arena).run as usize };
                    let first = index.checked_sub(back)?;
                    let start = self.arena_start(first).addr();
                    let block_bytes = (*self.arena(first)).span_bytes;
                    if (*self.arena(first)).kind != ArenaKind::Span || address.addr() - start >= block_bytes {
                        return None;
                    }
                    Some(Location { heap: (*arena).owner, arena: first, start, block_bytes, tier: Tier::ArenaSpan })
                }
                ArenaKind::Untouched | ArenaKind::Free => None,
            }
        }
    }

    /// The heap that owns the arena of `address`; 0 for none. Constant time, any address.
    #[inline]
    pub fn owner_of(&self, address: *const u8) -> u16 {
        if !self.contains(address) {
            return 0;
        }
        let arena = self.arena(self.slot_of(address) / SLOTS_PER_ARENA);
        // SAFETY: the table has an entry for every address of the range.
        unsafe {
            match (*arena).kind {
                ArenaKind::Untouched | ArenaKind::Free => 0,
                _ => (*arena).owner,
            }
        }
    }
}
