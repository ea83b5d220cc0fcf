//! When to collect: counts and thresholds as CPython's, and a bound on memory that waits for a full collection.
//!
//! ```text
//! count[0]  tracked objects made − freed, since the last collection      due above threshold[0] = 700
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
    counts: [u32; 3],
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
            counts: [0; 3],
            long_lived_total: 0,
            long_lived_pending: 0,
            held_bytes: 0,
        }
    }
}

impl Pace {
    /// The counts that the thresholds are compared with.
    pub fn counts(&self) -> [u32; 3] {
        self.counts
    }

    /// Objects that survived the last full collection, and those that came to generation 2 since.
    pub fn long_lived(&self) -> (usize, usize) {
        (self.long_lived_total, self.long_lived_pending)
    }

    /// The generation whose collection is due, if one is, in a heap that holds so many bytes now.
    pub fn due(&self, held_bytes: usize) -> Option<Generation> {
        if !self.enabled || self.thresholds[0] == 0 || self.counts[0] <= self.thresholds[0] {
            return None;
        }
        let over = |g: Generation| self.counts[g.index()] > self.thresholds[g.index()];
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
    #[inline]
    pub(crate) fn made(&mut self) -> bool {
        self.counts[0] = self.counts[0].saturating_add(1);
        self.counts[0] > self.thresholds[0]
    }

    #[inline]
    pub(crate) fn freed(&mut self) {
        self.counts[0] = self.counts[0].saturating_sub(1);
    }

    /// A collection of generations up to `oldest` begins.
    pub(crate) fn begin(&mut self, oldest: Generation) {
        if let Some(count) = self.counts.get_mut(oldest.index() + 1) {
            *count = count.saturating_add(1);
        }
        self.counts[..=oldest.index()].fill(0);
    }

    /// Its passes are through, and so many candidates are reachable.
    pub(crate) fn survived(&mut self, oldest: Generation, survivors: usize) {
        match oldest {
            Generation::Middle => self.long_lived_pending += survivors,
            Generation::Old => (self.long_lived_total, self.long_lived_pending) = (survivors, 0),
            Generation::Young | Generation::Permanent => {}
        }
    }

    /// A full collection is over, and the heap holds so many bytes.
    pub(crate) fn fully_collected(&mut self, held_bytes: usize) {
        self.held_bytes = held_bytes;
    }

    /// All objects were frozen.
    pub(crate) fn frozen(&mut self) {
        self.counts = [0; 3];
    }
}
