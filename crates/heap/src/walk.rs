//! The walker: every live block and span of a heap, in address order.

use crate::arena::ArenaKind;
use crate::heap::Heap;
use crate::pool::{Block, PoolPtr, SlotKind};
use crate::size::{SLOT_BYTES, SLOTS_PER_ARENA, SizeClass};

/// A live block or span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveBlock {
    /// Its first byte.
    pub address: *mut u8,
    /// Bytes that it can hold.
    pub block_bytes: usize,
    /// Its size class; `None` for a span.
    pub class: Option<SizeClass>,
}

/// Blocks of the largest pool: 16 KiB of 16 bytes each.
const MAX_BLOCKS: usize = 1024;

/// One bit a block of a pool.
pub(crate) type BlockSet = [u64; MAX_BLOCKS / 64];

impl Heap {
    /// Call `visit` with every live block and span, in address order. Allocates nothing.
    pub fn visit_live(&self, mut visit: impl FnMut(LiveBlock)) {
        self.for_each_arena(|index, kind| match kind {
            ArenaKind::Pools => {
                for slot in index * SLOTS_PER_ARENA..(index + 1) * SLOTS_PER_ARENA {
                    self.visit_slot(slot, &mut visit);
                }
            }
            ArenaKind::Span => visit(LiveBlock {
                address: self.range.arena_start(index),
                // SAFETY: the arena is this heap's.
                block_bytes: unsafe { (*self.range.arena(index)).span_bytes },
                class: None,
            }),
            _ => {}
        });
    }

    fn visit_slot(&self, slot: usize, visit: &mut impl FnMut(LiveBlock)) {
        let pool = self.range.pool(slot);
        // SAFETY: a descriptor of this heap's arena.
        let (kind, slots, carved, class) =
            unsafe { ((*pool).kind, (*pool).slots, usize::from((*pool).carved), (*pool).class) };
        let start = self.range.slot_start(slot);
        match kind {
            SlotKind::Span => {
                visit(LiveBlock { address: start, block_bytes: usize::from(slots) * SLOT_BYTES, class: None })
            }
            SlotKind::Listed | SlotKind::Full => {
                let class = SizeClass(class);
                let (free, _) = self.free_blocks(pool);
                for i in (0..carved).filter(|i| free[i / 64] >> (i % 64) & 1 == 0) {
                    visit(LiveBlock {
                        // SAFETY: carved blocks lie inside the pool.
                        address: unsafe { start.add(i * class.block_bytes()) },
                        block_bytes: class.block_bytes(),
                        class: Some(class),
                    });
                }
            }
            SlotKind::Free | SlotKind::Interior => {}
        }
    }

    /// The blocks on a pool's free list, and how many there are. A list that leaves the pool, or runs in a circle, ends
    /// there, with a number that `check.rs` finds wrong.
    pub(crate) fn free_blocks(&self, pool: PoolPtr) -> (BlockSet, usize) {
        let mut set: BlockSet = [0; MAX_BLOCKS / 64];
        let mut count = 0;
        // SAFETY: free blocks of this heap's pool hold a link, which is followed only inside the pool.
        unsafe {
            let start = self.range.slot_start(self.range.slot_of_pool(pool)).addr();
            let block_bytes = SizeClass((*pool).class).block_bytes();
            let carved = usize::from((*pool).carved);
            let mut block: *mut Block = (*pool).free;
            while !block.is_null() && count <= carved {
                let offset = block.addr().wrapping_sub(start);
                if !offset.is_multiple_of(block_bytes) || offset / block_bytes >= carved {
                    return (set, usize::MAX);
                }
                let i = offset / block_bytes;
                set[i / 64] |= 1 << (i % 64);
                count += 1;
                block = (*block).next;
            }
        }
        (set, count)
    }
}
