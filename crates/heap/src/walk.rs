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

const NONE: BlockSet = [0; MAX_BLOCKS / 64];

/// Blocks of a pool, one after the other, or a span.
#[derive(Debug)]
pub struct Run {
    start: *mut u8,
    block_bytes: usize,
    class: Option<SizeClass>,
    blocks: usize,
    /// Those that are not live.
    free: BlockSet,
}

impl Run {
    /// Bytes that each block can hold.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Call `visit` with the first byte of every live block, in address order.
    #[inline(always)]
    pub fn visit_live(&self, mut visit: impl FnMut(*mut u8)) {
        for (i, free) in self.free.iter().enumerate().take(self.blocks.div_ceil(64)) {
            let mut live = !free & (!0 >> (64 - (self.blocks - i * 64).min(64)));
            while live != 0 {
                let block = i * 64 + live.trailing_zeros() as usize;
                live &= live - 1;
                // SAFETY: there are so many blocks.
                visit(unsafe { self.start.add(block * self.block_bytes) });
            }
        }
    }
}

impl Heap {
    /// Call `visit` with every live block and span, in address order. Allocates nothing.
    pub fn visit_live(&self, mut visit: impl FnMut(LiveBlock)) {
        self.visit_runs(|run| {
            let (block_bytes, class) = (run.block_bytes, run.class);
            run.visit_live(|address| visit(LiveBlock { address, block_bytes, class }));
        });
    }

    /// Call `visit` with all runs of blocks, in address order. Allocates nothing.
    pub fn visit_runs(&self, mut visit: impl FnMut(&Run)) {
        let span = |start, block_bytes| Run { start, block_bytes, class: None, blocks: 1, free: NONE };
        self.for_each_arena(|index, kind| match kind {
            ArenaKind::Pools => {
                for slot in index * SLOTS_PER_ARENA..(index + 1) * SLOTS_PER_ARENA {
                    let pool = self.range.pool(slot);
                    // SAFETY: a descriptor of this heap's arena.
                    let (kind, slots, carved, class) =
                        unsafe { ((*pool).kind, (*pool).slots, usize::from((*pool).carved), (*pool).class) };
                    let start = self.range.slot_start(slot);
                    match kind {
                        SlotKind::Span => visit(&span(start, usize::from(slots) * SLOT_BYTES)),
                        SlotKind::Listed | SlotKind::Full => {
                            let class = SizeClass(class);
                            let (free, _) = self.free_blocks(pool);
                            let block_bytes = class.block_bytes();
                            visit(&Run { start, block_bytes, class: Some(class), blocks: carved, free });
                        }
                        SlotKind::Free | SlotKind::Interior => {}
                    }
                }
            }
            ArenaKind::Span => {
                // SAFETY: the arena is this heap's.
                let bytes = unsafe { (*self.range.arena(index)).span_bytes };
                visit(&span(self.range.arena_start(index), bytes));
            }
            _ => {}
        });
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
