//! Figures of one heap. Everything here is derived by walking the tables: the hot path counts nothing for it.

use crate::arena::ArenaKind;
use crate::heap::Heap;
use crate::pool::SlotKind;
use crate::size::{CLASSES, SLOT_BYTES, SLOTS_PER_ARENA, SizeClass};

/// What a heap holds in one size class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Pools in use.
    pub pools: usize,
    /// Live blocks.
    pub live_blocks: usize,
    /// Blocks that these pools can hold.
    pub capacity_blocks: usize,
}

/// What a heap holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// By class index.
    pub classes: [ClassStats; CLASSES],
    /// Arenas in use.
    pub arenas: usize,
    /// Of these, the ones that asked for huge pages.
    pub huge_arenas: usize,
    /// Pools in use.
    pub pools: usize,
    /// Spans in use.
    pub spans: usize,
    /// Bytes of spans in use.
    pub span_bytes: usize,
    /// Bytes of pools and spans in use.
    pub held_bytes: usize,
    /// Live blocks and spans.
    pub live_blocks: usize,
    /// Bytes of live blocks and spans, rounded up to their class.
    pub live_bytes: usize,
    /// Resident free slots between used ones, kept for reuse.
    pub retained_bytes: usize,
    /// Bytes requested so far, all blocks together.
    pub requested_bytes: u64,
}

impl HeapStats {
    /// The share of held bytes that lies free inside pools, 0 to 1.
    pub fn fragmentation(&self) -> f64 {
        if self.held_bytes == 0 {
            return 0.0;
        }
        1.0 - self.live_bytes as f64 / self.held_bytes as f64
    }

    /// Bytes of the smallest live blocks that have at least so many. `None` if there are none, spans apart.
    pub fn smallest_live_block(&self, at_least: usize) -> Option<usize> {
        (0..CLASSES)
            .map(|i| (SizeClass(i as u8).block_bytes(), self.classes[i].live_blocks))
            .find_map(|(bytes, live)| (bytes >= at_least && live > 0).then_some(bytes))
    }
}

impl Heap {
    /// The figures now. Takes time in proportion to the arenas ever used (about 1 µs each).
    pub fn stats(&self) -> HeapStats {
        let mut stats = HeapStats {
            classes: [ClassStats::default(); CLASSES],
            arenas: 0,
            huge_arenas: 0,
            pools: 0,
            spans: self.spans,
            span_bytes: self.span_bytes,
            held_bytes: self.held_bytes,
            live_blocks: self.spans,
            live_bytes: self.span_bytes,
            retained_bytes: self.retained_slots * SLOT_BYTES,
            requested_bytes: self.requested_bytes(),
        };
        self.for_each_arena(|index, kind| {
            // SAFETY: the arena is this heap's.
            stats.huge_arenas += usize::from(unsafe { (*self.range.arena(index)).huge });
            stats.arenas += 1;
            if kind == ArenaKind::Pools {
                self.add_pools(index, &mut stats);
            }
        });
        stats
    }

    fn add_pools(&self, arena: usize, stats: &mut HeapStats) {
        for slot in arena * SLOTS_PER_ARENA..(arena + 1) * SLOTS_PER_ARENA {
            // SAFETY: descriptors of this heap's arena.
            let pool = unsafe { &*self.range.pool(slot) };
            if matches!(pool.kind, SlotKind::Listed | SlotKind::Full) {
                let class = &mut stats.classes[usize::from(pool.class)];
                class.pools += 1;
                class.live_blocks += usize::from(pool.used);
                class.capacity_blocks += usize::from(pool.capacity);
                stats.pools += 1;
                stats.live_blocks += usize::from(pool.used);
                stats.live_bytes += usize::from(pool.used) * SizeClass(pool.class).block_bytes();
            }
        }
    }

    /// Live blocks and spans.
    pub fn live_blocks(&self) -> usize {
        self.stats().live_blocks
    }

    /// Bytes of pools and spans in use. Constant time.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Call `visit` with each arena of this heap and what it is used for, in address order.
    pub(crate) fn for_each_arena(&self, mut visit: impl FnMut(usize, ArenaKind)) {
        let frontier = self.range.with_state(|state| state.frontier as usize);
        for index in 0..frontier {
            // SAFETY: arenas of other heaps are only read, and skipped.
            let (kind, owner) = unsafe {
                let arena = &*self.range.arena(index);
                (arena.kind, arena.owner)
            };
            if owner == self.id && !matches!(kind, ArenaKind::Untouched | ArenaKind::Free) {
                visit(index, kind);
            }
        }
    }
}
