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
    /// Tracked objects that can be made before count 0 passes its threshold; far from 0 if collections do not start by
    /// themselves. Count 0 is `most` less this.
    room: isize,
    /// `room` when count 0 is 0.
    most: isize,
    enabled: bool,
    thresholds: [u32; 3],
    /// By how much the heap may grow between full collections; `None` for whatever the counts allow. **100.**
    pub growth_percent: Option<u32>,
    /// Tracked objects of generations 1 and up that are alive.
    alive_later: [usize; 3],
    /// Objects of later generations freed since the last collection, as far as they lowered count 0. So count 0 and these are
    /// the objects of generation 0 alive.
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
            room: THRESHOLDS[0] as isize,
            most: THRESHOLDS[0] as isize,
            enabled: true,
            thresholds: THRESHOLDS,
            growth_percent: Some(100),
            alive_later: [0; 3],
            freed_later: 0,
            collections: [0; 2],
            long_lived_total: 0,
            long_lived_pending: 0,
            held_bytes: 0,
        }
    }
}

impl Pace {
    /// Whether collections start by themselves. **They do.**
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether collections are to start by themselves.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
        self.renew_room();
    }

    /// Of each generation; 0 for generation 0 switches automatic collection off. **700, 10, 10.**
    pub fn thresholds(&self) -> [u32; 3] {
        self.thresholds
    }

    /// Set the thresholds.
    pub fn set_thresholds(&mut self, thresholds: [u32; 3]) {
        self.thresholds = thresholds;
        self.renew_room();
    }

    fn starts_by_itself(&self) -> bool {
        self.enabled && self.thresholds[0] > 0
    }

    /// The settings have changed; the count has not.
    fn renew_room(&mut self) {
        let young = self.young();
        self.most = if self.starts_by_itself() { self.thresholds[0] as isize } else { isize::MAX };
        self.set_young(young);
    }

    /// Count 0.
    #[inline(always)]
    fn young(&self) -> usize {
        (self.most - self.room) as usize
    }

    fn set_young(&mut self, count: usize) {
        self.room = self.most - count as isize;
    }

    /// The counts that the thresholds are compared with.
    pub fn counts(&self) -> [u32; 3] {
        let young = u32::try_from(self.young()).unwrap_or(u32::MAX);
        [young, self.collections[0], self.collections[1]]
    }

    /// Tracked objects alive, by generation.
    pub fn alive(&self) -> [usize; 4] {
        let [middle, old, permanent] = self.alive_later;
        [self.young() + self.freed_later, middle, old, permanent]
    }

    /// Objects that survived the last full collection, and those that came to generation 2 since.
    pub fn long_lived(&self) -> (usize, usize) {
        (self.long_lived_total, self.long_lived_pending)
    }

    /// The generation whose collection is due, if one is, in a heap that holds so many bytes now.
    pub fn due(&self, held_bytes: usize) -> Option<Generation> {
        let counts = self.counts();
        let over = |g: Generation| counts[g.index()] > self.thresholds[g.index()];
        if !self.starts_by_itself() || !over(Generation::Young) {
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
        self.room -= 1;
        self.room < 0
    }

    /// A tracked object of generation 0 was freed or untracked.
    #[inline(always)]
    pub(crate) fn freed_young(&mut self) {
        if self.room < self.most {
            self.room += 1;
        } else {
            self.freed_later -= 1;
        }
    }

    /// A tracked object of this generation was freed or untracked.
    #[inline(always)]
    pub(crate) fn freed(&mut self, generation: Generation) {
        if generation == Generation::Young {
            return self.freed_young();
        }
        self.alive_later[generation.index() - 1] -= 1;
        if self.room < self.most {
            self.room += 1;
            self.freed_later += 1;
        }
    }

    /// A collection of generations up to `oldest` begins.
    pub(crate) fn begin(&mut self, oldest: Generation) {
        if let Some(count) = self.collections.get_mut(oldest.index()) {
            *count = count.saturating_add(1);
        }
        self.freed_later += self.young();
        self.set_young(0);
        self.collections[..oldest.index()].fill(0);
    }

    /// Its passes are through and found so much trash; all candidates are in the next generation now.
    pub(crate) fn promoted(&mut self, oldest: Generation, trash: usize) {
        let young = self.alive()[0];
        self.freed_later = 0;
        self.set_young(0);
        let [middle, old, _] = &mut self.alive_later;
        if oldest == Generation::Young {
            *middle += young;
            return;
        }
        let came = young + core::mem::take(middle);
        *old += came;
        if oldest == Generation::Middle {
            self.long_lived_pending += came - trash;
        } else {
            (self.long_lived_total, self.long_lived_pending) = (*old - trash, 0);
        }
    }

    /// A full collection is over, and the heap holds so many bytes.
    pub(crate) fn fully_collected(&mut self, held_bytes: usize) {
        self.held_bytes = held_bytes;
    }

    /// All objects were frozen.
    pub(crate) fn frozen(&mut self) {
        self.alive_later = [0, 0, self.alive().iter().sum()];
        (self.freed_later, self.collections) = (0, [0; 2]);
        self.set_young(0);
    }

    /// All frozen objects are in generation 2.
    pub(crate) fn unfrozen(&mut self) {
        let [_, old, permanent] = &mut self.alive_later;
        *old += core::mem::take(permanent);
    }
}
