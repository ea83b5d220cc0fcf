//! When to collect: counts and thresholds as CPython's, and a bound on memory that waits for a full collection.
//!
//! ```text
//! count[0]  tracked objects made − freed, since the last collection      due above threshold[0] = 700; never below 0
//! count[1]  collections of generation 0 since one of generation 1        due above threshold[1] = 10
//! count[2]  collections of generation 1 since one of generation 2        due above threshold[2] = 10
//! ```
//! A due full collection is put off while survivors that it has not seen are fewer than a quarter of those it has seen
//! (`pending < total / 4`): the work of full collections then stays proportional to the objects made.
//!
//! That rule counts objects, and few of them can hold much. So a full collection is also due when the heap has grown by
//! `growth_percent` since the last, **100** by default, and by at least [`GROWTH_LEAST_BYTES`].
//!
//! **Bound on floating garbage.** With H the bytes held after the last full collection, g the growth and A the bytes
//! allocated while count[0] rises to its threshold, a heap with collection enabled holds, between operations of the program,
//!
//! ```text
//! held ≤ H + max(g·H, 8 MiB) + A
//! ```
//! because nothing but allocation raises `held`, and each time count[0] passes its threshold the rule is looked at. Garbage is
//! part of what is held; whatever was garbage at the last full collection is not in H. So at most
//! max(g·H, 8 MiB) + A of it is younger than that collection, and at most H was alive then and died since. The price:
//! one full collection for each g·H bytes, thus work in proportion to bytes allocated. `held` counts pools and
//! spans in use, not resident memory: what the allocator keeps for reuse does not start a collection.

use crate::model::Generation;

/// Heaps that grew by less are not collected for their growth: 8 MiB.
pub const GROWTH_LEAST_BYTES: usize = 8 << 20;

/// CPython's thresholds (3.10 to 3.12, `Modules/gcmodule.c`, `_PyGC_InitState`).
const THRESHOLDS: [u32; 3] = [700, 10, 10];

/// Counts, thresholds, and what the last full collection left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Collections start by themselves. **True.**
    pub enabled: bool,
    /// Of each generation; 0 for generation 0 switches automatic collection off. **700, 10, 10.**
    pub thresholds: [u32; 3],
    /// By how much the heap may grow between full collections; `None` for whatever the counts allow. **100.**
    pub growth_percent: Option<u32>,
    /// Tracked objects alive, by generation.
    alive: [usize; 4],
    /// Objects of later generations freed since the last collection, as far as they lower count 0: that is `alive[0]` less
    /// these, and so in `0..=alive[0]`.
    freed_later: usize,
    /// Collections of generation 0 and 1 that count 1 and 2.
    collections: [u32; 2],
    /// Survivors of the last full collection.
    long_lived_total: usize,
    /// Objects that came to generation 2 since.
    long_lived_pending: usize,
    /// Bytes held after the last full collection.
    held_bytes: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            enabled: true,
            thresholds: THRESHOLDS,
            growth_percent: Some(100),
            alive: [0; 4],
            freed_later: 0,
            collections: [0; 2],
            long_lived_total: 0,
            long_lived_pending: 0,
            held_bytes: 0,
        }
    }
}

impl Pace {
    /// The counts that the thresholds are compared with.
    pub fn counts(&self) -> [u32; 3] {
        let young = u32::try_from(self.alive[0] - self.freed_later).unwrap_or(u32::MAX);
        [young, self.collections[0], self.collections[1]]
    }

    /// Tracked objects alive, by generation.
    pub fn alive(&self) -> [usize; 4] {
        self.alive
    }

    /// Objects that survived the last full collection, and those that came to generation 2 since.
    pub fn long_lived(&self) -> (usize, usize) {
        (self.long_lived_total, self.long_lived_pending)
    }

    /// The generation whose collection is due, if one is, in a heap that holds so many bytes now.
    pub fn due(&self, held_bytes: usize) -> Option<Generation> {
        let counts = self.counts();
        let over = |g: Generation| counts[g.index()] > self.thresholds[g.index()];
        if !self.enabled || self.thresholds[0] == 0 || !over(Generation::Young) {
            return None;
        }
        if self.has_grown(held_bytes) || over(Generation::Old) && self.long_lived_pending >= self.long_lived_total / 4 {
            return Some(Generation::Old);
        }
        Some(if over(Generation::Middle) { Generation::Middle } else { Generation::Young })
    }

    fn has_grown(&self, held_bytes: usize) -> bool {
        self.growth_percent.is_some_and(|percent| {
            let growth = self.held_bytes as u128 * u128::from(percent) / 100;
            held_bytes.saturating_sub(self.held_bytes) as u128 > growth.max(GROWTH_LEAST_BYTES as u128)
        })
    }

    /// A tracked object was made. Whether a count has passed its threshold: the time to ask [`due`](Pace::due).
    #[inline(always)]
    pub(crate) fn made(&mut self) -> bool {
        let alive = self.alive[0] + 1;
        self.alive[0] = alive;
        alive - self.freed_later > self.thresholds[0] as usize
    }

    /// A tracked object of this generation was freed or untracked.
    #[inline(always)]
    pub(crate) fn freed(&mut self, generation: Generation) {
        if generation == Generation::Young {
            let alive = self.alive[0] - 1;
            self.alive[0] = alive;
            if self.freed_later > alive {
                self.freed_later = alive;
            }
        } else {
            self.alive[generation.index()] -= 1;
            self.freed_later += usize::from(self.freed_later < self.alive[0]);
        }
    }

    /// A collection of generations up to `oldest` begins.
    pub(crate) fn begin(&mut self, oldest: Generation) {
        if let Some(count) = self.collections.get_mut(oldest.index()) {
            *count = count.saturating_add(1);
        }
        self.freed_later = self.alive[0];
        self.collections[..oldest.index()].fill(0);
    }

    /// Its passes are through and found so much trash; all candidates are in the next generation now.
    pub(crate) fn promoted(&mut self, oldest: Generation, trash: usize) {
        self.freed_later = 0;
        let young = core::mem::take(&mut self.alive[0]);
        if oldest == Generation::Young {
            self.alive[1] += young;
            return;
        }
        let came = young + core::mem::take(&mut self.alive[1]);
        self.alive[2] += came;
        if oldest == Generation::Middle {
            self.long_lived_pending += came - trash;
        } else {
            (self.long_lived_total, self.long_lived_pending) = (self.alive[2] - trash, 0);
        }
    }

    /// A full collection is over, and the heap holds so many bytes.
    pub(crate) fn fully_collected(&mut self, held_bytes: usize) {
        self.held_bytes = held_bytes;
    }

    /// All objects were frozen.
    pub(crate) fn frozen(&mut self) {
        let others: usize = self.alive[..3].iter().sum();
        self.alive = [0, 0, 0, self.alive[3] + others];
        (self.freed_later, self.collections) = (0, [0; 2]);
    }

    /// All frozen objects are in generation 2.
    pub(crate) fn unfrozen(&mut self) {
        self.alive[2] += core::mem::take(&mut self.alive[3]);
    }
}
