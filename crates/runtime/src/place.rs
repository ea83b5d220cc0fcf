//! Where a heap lies: a range of address space of its own, with the collector's scratch and the bits of suspects beside
//! it. To set one up takes a dozen system calls, so a place of the usual size is kept for the next heap.
//!
//! Invariant of a place at rest: no heap lives in its range; its tables are as new. Called when heaps come and go.

use std::sync::Mutex;

use heapkeeper_gc::{Collector, Generation};
use heapkeeper_heap::Range;

use crate::error::BuildError;
use crate::suspects::Suspects;

/// Address space of a heap without a limit: **256 GiB**, less where the system refuses.
const USUAL_BYTES: usize = 256 << 30;

/// The least that is worth having.
const LEAST_BYTES: usize = 64 << 20;

/// Places kept for later heaps.
const KEPT: usize = 8;

pub(crate) struct Place {
    pub(crate) range: &'static Range,
    pub(crate) collector: Collector,
    pub(crate) suspects: Suspects,
    /// Whether it has the usual size, and no limit.
    pub(crate) usual: bool,
}

// SAFETY: a place at rest is plain memory that nobody else knows of.
unsafe impl Send for Place {}

static AT_REST: Mutex<Vec<Place>> = Mutex::new(Vec::new());

fn at_rest() -> std::sync::MutexGuard<'static, Vec<Place>> {
    // A panic while it was locked (out of memory) left it whole.
    AT_REST.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Place {
    pub(crate) fn take(limit_bytes: Option<usize>) -> Result<Place, BuildError> {
        if limit_bytes.is_none()
            && let Some(place) = at_rest().pop()
        {
            return Ok(place);
        }
        // A limit counts bytes held; fragments need room beside them.
        let most =
            limit_bytes.map_or(USUAL_BYTES, |limit| limit.saturating_mul(4).clamp(LEAST_BYTES, USUAL_BYTES.max(limit)));
        let mut bytes = most;
        loop {
            if let Some(place) = Place::new(bytes, limit_bytes.is_none() && bytes == USUAL_BYTES) {
                place.range.set_limit(limit_bytes.unwrap_or(usize::MAX), None);
                return Ok(place);
            }
            if bytes <= LEAST_BYTES {
                return Err(BuildError::NoAddressSpace);
            }
            bytes /= 2;
        }
    }

    fn new(bytes: usize, usual: bool) -> Option<Place> {
        let range = Range::reserve(bytes).ok()?;
        match (Collector::new(range), Suspects::new(range)) {
            (Some(collector), Some(suspects)) => Some(Place { range, collector, suspects, usual }),
            (collector, suspects) => {
                drop((collector, suspects));
                // SAFETY: nobody knows of the range but the tables just dropped.
                unsafe { range.release() };
                None
            }
        }
    }

    /// No heap lives here any more.
    pub(crate) fn give_back(mut self) {
        debug_assert_eq!(self.suspects.len(), 0);
        // Slots may be listed still.
        self.suspects.promote(Generation::Old);
        let mut places = at_rest();
        if self.usual && places.len() < KEPT && self.collector.renew() {
            self.range.trim();
            places.push(self);
            return;
        }
        drop(places);
        let Place { range, collector, suspects, .. } = self;
        drop((collector, suspects));
        // SAFETY: the heap is gone, by the caller's word, and the tables were just dropped.
        unsafe { range.release() };
    }
}
