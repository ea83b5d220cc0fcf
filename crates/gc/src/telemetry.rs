//! What collections did and how long they took. Always on: a few additions for each collection.

use core::time::Duration;

use crate::model::Generation;

/// Buckets of the histogram: the last takes everything from 2³⁹ ns (9 minutes) on.
const BUCKETS: usize = 40;

/// All collections so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Telemetry {
    /// By the oldest generation collected: 0, 1, 2.
    pub generations: [GenerationStats; 3],
    /// How long the program stood still for each collection, callbacks and finalizers included.
    pub pauses: Pauses,
    /// Where that time went.
    pub phases: PhaseTimes,
}

impl Telemetry {
    /// The figures of collections up to this generation; of full ones for [`Generation::Permanent`].
    pub fn of(&self, oldest: Generation) -> &GenerationStats {
        &self.generations[oldest.index().min(2)]
    }
}

/// Sums over the collections of one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GenerationStats {
    /// Collections.
    pub collections: u64,
    /// Objects looked at.
    pub candidates: u64,
    /// Objects found unreachable and cleared.
    pub collected: u64,
    /// Objects found unreachable and left alone.
    pub uncollectable: u64,
    /// Objects that were unreachable until a callback or finalizer ran.
    pub resurrected: u64,
    /// Objects taken as reachable, because more than 1024 of them had a refcount of about 65,536 or more.
    pub assumed_reachable: u64,
    /// Collections without a pass, because the model knew that there was nothing to find. Their candidates count.
    pub unneeded: u64,
    /// Further sweeps of the mark pass, for want of room on its stack.
    pub repeated_sweeps: u64,
}

/// Sums of times, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseTimes {
    /// Listing trash, and promoting.
    pub walk_ns: u64,
    /// Finding candidates, and counting references to them from elsewhere.
    pub count_ns: u64,
    /// Marking what these lead to.
    pub mark_ns: u64,
    /// Weak references, callbacks, finalizers, clearing, and the passes over the trash between them.
    pub dispose_ns: u64,
}

/// A histogram of pauses by powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    buckets: [u64; BUCKETS],
    longest_ns: u64,
    total_ns: u64,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { buckets: [0; BUCKETS], longest_ns: 0, total_ns: 0 }
    }
}

impl Pauses {
    /// Note a pause.
    pub fn record(&mut self, pause_ns: u64) {
        let bucket = pause_ns.checked_ilog2().unwrap_or(0) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.longest_ns = self.longest_ns.max(pause_ns);
        self.total_ns = self.total_ns.saturating_add(pause_ns);
    }

    /// Pauses by length: bucket i counts those of 2ⁱ to 2ⁱ⁺¹ ns. Bucket 0 takes shorter ones, the last longer ones.
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns)
    }

    /// All together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns)
    }

    /// An upper bound, at most twice the truth, of the pause that `share` (0 to 1) of all pauses do not exceed.
    pub fn at_most(&self, share: f64) -> Duration {
        let wanted = self.count() as f64 * share;
        let mut seen = 0;
        for (i, pauses) in self.buckets.iter().enumerate() {
            seen += pauses;
            if seen > 0 && seen as f64 >= wanted {
                let end_ns = if i + 1 == BUCKETS { u64::MAX } else { (2u64 << i) - 1 };
                return Duration::from_nanos(end_ns.min(self.longest_ns));
            }
        }
        Duration::ZERO
    }
}
