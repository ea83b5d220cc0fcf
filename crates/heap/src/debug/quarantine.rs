//! The quarantine: freed blocks, oldest first, up to a number of blocks and of bytes. A ring in the debug heap itself,
//! not a list through the blocks: those are what programs with faults write to.

use core::ptr;

use super::block::DebugBlock;

/// Blocks in quarantine, at most: 1024.
const MAX_BLOCKS: usize = 1024;

pub(super) struct Quarantine {
    ring: [DebugBlock; MAX_BLOCKS],
    /// Place of the oldest block in the ring.
    first: usize,
    blocks: usize,
    bytes: usize,
    pub max_bytes: usize,
}

// SAFETY: the blocks belong to the debug heap whose part this is, and go where it goes.
unsafe impl Send for Quarantine {}

impl Quarantine {
    pub const fn new(max_bytes: usize) -> Quarantine {
        let none = DebugBlock { start: ptr::null_mut(), whole_bytes: 0 };
        Quarantine { ring: [none; MAX_BLOCKS], first: 0, blocks: 0, bytes: 0, max_bytes }
    }

    /// Take a block in. `pop_excess` is called until it finds nothing before the next one comes.
    pub fn push(&mut self, block: DebugBlock) {
        debug_assert!(self.blocks < MAX_BLOCKS);
        self.ring[(self.first + self.blocks) % MAX_BLOCKS] = block;
        self.blocks += 1;
        self.bytes += block.whole_bytes;
    }

    /// The oldest block, if there are more, or more bytes, than may be. One place stays free for the next.
    pub fn pop_excess(&mut self) -> Option<DebugBlock> {
        if self.bytes > self.max_bytes || self.blocks == MAX_BLOCKS { self.pop() } else { None }
    }

    /// The oldest block.
    pub fn pop(&mut self) -> Option<DebugBlock> {
        if self.blocks == 0 {
            return None;
        }
        let block = self.ring[self.first];
        self.first = (self.first + 1) % MAX_BLOCKS;
        self.blocks -= 1;
        self.bytes -= block.whole_bytes;
        Some(block)
    }
}
