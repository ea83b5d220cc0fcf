//! An estimate as it is now and as it was at the peak, in constant time a sample.
//!
//! Peaks are numbered: each new maximum raises the epoch by one and touches nothing else. A value that changes for the
//! first time in an epoch saves what it was, which is what it was at that epoch's peak; a value that has not changed since
//! is still what it was then. So with `E` the current epoch, of any value:
//!
//! `at the peak = if changed_epoch == E { saved } else { live }`

use crate::Estimate;

/// The number of the latest peak. Counts from 1, so that a value that never changed has changed in none.
pub(crate) type Epoch = u64;

/// One estimate, live and at the peak.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tracked {
    /// The estimate now.
    pub live: Estimate,
    saved: Estimate,
    changed_epoch: Epoch,
}

impl Tracked {
    /// Add a sample in `epoch`.
    pub fn add(&mut self, epoch: Epoch, sample: &Estimate) {
        self.save(epoch);
        self.live.add(sample);
    }

    /// Take a sample away in `epoch`.
    pub fn sub(&mut self, epoch: Epoch, sample: &Estimate) {
        self.save(epoch);
        self.live.sub(sample);
    }

    /// The estimate as it was at the peak that began `epoch`, the current one.
    pub fn at_peak(&self, epoch: Epoch) -> Estimate {
        if self.changed_epoch == epoch { self.saved } else { self.live }
    }

    fn save(&mut self, epoch: Epoch) {
        if self.changed_epoch != epoch {
            self.saved = self.live;
            self.changed_epoch = epoch;
        }
    }
}
