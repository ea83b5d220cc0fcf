//! What collections did and how long they took. Always on: a few additions for each collection.

use core::time::Duration;

use crate::model::Generation;

/// Buckets of the histogram: the last takes everything from 2³⁹ ns (9 minutes) on.
const BUCKETS: usize = 40;
/// Steps of equal width in each bucket.
const STEPS: usize = 8;

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
    /// Objects of large refcount (128 or more in a full collection) taken as reachable, because the table of these was full.
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

/// A histogram of pauses by powers of two, and inside these by eighths of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// Step `j` of bucket `i` counts pauses of `2ⁱ (1 + j/8)` to `2ⁱ (1 + (j+1)/8)` ns.
    steps: [[u64; STEPS]; BUCKETS],
    longest_ns: u64,
    total_ns: u64,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { steps: [[0; STEPS]; BUCKETS], longest_ns: 0, total_ns: 0 }
    }
}

impl Pauses {
    /// Note a pause.
    pub fn record(&mut self, pause_ns: u64) {
        let told_ns = pause_ns.clamp(1, (1 << BUCKETS) - 1);
        let bucket = told_ns.ilog2() as usize;
        let above_ns = told_ns - (1 << bucket);
        self.steps[bucket][((above_ns * STEPS as u64) >> bucket) as usize] += 1;
        self.longest_ns = self.longest_ns.max(pause_ns);
        self.total_ns = self.total_ns.saturating_add(pause_ns);
    }

    /// Pauses by length: bucket i counts those of 2ⁱ to 2ⁱ⁺¹ ns. Bucket 0 takes shorter ones, the last longer ones.
    pub fn buckets(&self) -> [u64; BUCKETS] {
        self.steps.map(|steps| steps.iter().sum())
    }

    /// Add those of another.
    pub fn add(&mut self, other: &Pauses) {
        for (step, others) in self.steps.as_flattened_mut().iter_mut().zip(other.steps.as_flattened()) {
            *step += others;
        }
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.steps.as_flattened().iter().sum()
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns)
    }

    /// All together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns)
    }

    /// The pause that `share` (0 to 1) of all pauses do not exceed: the middle of its step, so at most a sixteenth off, and never
    /// above the longest; of pauses of 18 minutes and more, the longest. Zero where there were none.
    pub fn at_most(&self, share: f64) -> Duration {
        let count = self.count() as f64;
        let wanted = count * share;
        if wanted > count - 1.0 {
            return self.longest();
        }
        let mut seen = 0;
        for (index, pauses) in self.steps.as_flattened().iter().enumerate() {
            seen += pauses;
            if seen > 0 && seen as f64 >= wanted && index + 1 < BUCKETS * STEPS {
                let (bucket, step) = (index / STEPS, index % STEPS);
                let middle_ns = (1 << bucket) + ((2 * step as u64 + 1) << bucket) / (2 * STEPS as u64);
                return Duration::from_nanos(middle_ns.min(self.longest_ns));
            }
        }
        self.longest()
    }
}
