//! The count pass: how many references to each candidate come from elsewhere.
//!
//! ```text
//! external(o) = refcount(o) − references to o from candidates,    0 ≤ external(o) ≤ refcount(o)
//! ```
//!
//! Over the whole heap it is **one** pass in address order: each candidate adds its refcount to its own counter and takes
//! one from each child's, modulo 2¹⁶. The order does not matter, intermediate values may wrap, and the result is external
//! modulo 2¹⁶: exact for refcounts below 2¹⁶. With larger ones a result above zero still proves a reference from elsewhere;
//! zero proves nothing, and these objects are counted again one by one.
//!
//! Over a list of candidates a first pass sets counters to refcount + 1 and a second subtracts, so that 0 means "not a
//! candidate" and references to the rest of the heap are told by one look at a counter. Counters only fall, to external + 1.
//!
//! Objects of large refcount stand in a small table. Those it has no room for count as held from elsewhere, which is
//! always safe: they float until others are gone. Telemetry says how many.

use crate::model::{Generation, MIN_OBJECT_BYTES, ObjectModel, Visitor};
use crate::scratch::{Counters, List, Scratch};

/// Over a list: a candidate that no reference from elsewhere is known to reach, and one that is reached.
pub(crate) const LISTED: u16 = 1;
/// Over a list: the count stands in the table of large ones, if anywhere. Never subtracted from, never [`LISTED`].
pub(crate) const ELSEWHERE: u16 = u16::MAX;

/// Refcounts from here on do not fit beside the two values above.
const LARGE_LISTED: usize = ELSEWHERE as usize - 1;
/// Refcounts from here on are ambiguous modulo 2¹⁶.
const LARGE: usize = 1 << 16;

/// Objects whose large refcount is counted exactly.
const LARGE_ENTRIES: usize = 1024;

/// What a count pass saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) candidates: usize,
    /// Objects taken as held from elsewhere for want of room.
    pub(crate) assumed: usize,
}

/// The tracked object in a live block, unless it is frozen.
#[inline(always)]
pub(crate) fn candidate<M: ObjectModel>(model: &M, block: *mut u8, block_bytes: usize) -> Option<M::Ref> {
    if block_bytes < MIN_OBJECT_BYTES {
        return None;
    }
    model.object(block).filter(|object| is_candidate(model, *object))
}

/// Whether a full collection considers this object.
#[inline(always)]
pub(crate) fn is_candidate<M: ObjectModel>(model: &M, object: M::Ref) -> bool {
    model.generation(object).is_some_and(|generation| generation != Generation::Permanent)
}

/// The table of large counts: pairs of an object's address and its count, sorted by address. Lies in the stack's memory,
/// which marking needs only later.
struct Large {
    pairs: List,
    length: usize,
    refused: usize,
}

impl Large {
    fn new(scratch: &Scratch) -> Large {
        Large { pairs: scratch.stack, length: 0, refused: 0 }
    }

    /// Addresses come in rising order.
    #[cold]
    fn note(&mut self, address: *mut u8, refcount: usize) {
        if self.length == LARGE_ENTRIES {
            self.refused += 1;
            return;
        }
        self.pairs.set(2 * self.length, address);
        self.length += 1;
        self.set_count(self.length - 1, refcount);
    }

    fn address(&self, i: usize) -> *mut u8 {
        self.pairs.get(2 * i)
    }

    fn count(&self, i: usize) -> usize {
        self.pairs.get(2 * i + 1).addr()
    }

    fn set_count(&self, i: usize, count: usize) {
        self.pairs.set(2 * i + 1, core::ptr::without_provenance_mut(count));
    }

    fn find(&self, address: *const u8) -> Option<usize> {
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let middle = low.midpoint(high);
            if self.address(middle).addr() < address.addr() { low = middle + 1 } else { high = middle }
        }
        (low < self.length && self.address(low).addr() == address.addr()).then_some(low)
    }

    /// One reference to `address` comes from a candidate.
    fn subtract(&self, address: *const u8) {
        if let Some(i) = self.find(address) {
            self.set_count(i, self.count(i) - 1);
        }
    }
}

/// Count over the whole heap. Afterwards the counter of each candidate is 0 if and only if external = 0; counters of other
/// blocks hold anything.
pub(crate) fn count_heap<M: ObjectModel>(model: &M, scratch: &Scratch) -> Counted {
    let counters = scratch.counters;
    let mut large = Large::new(scratch);
    let mut candidates = 0;
    model.heap().visit_live(|block| {
        let Some(object) = candidate(model, block.address, block.block_bytes) else { return };
        candidates += 1;
        let refcount = model.refcount(object);
        if refcount >= LARGE {
            large.note(block.address, refcount);
        }
        if let Some(own) = counters.index(block.address) {
            counters.set(own, counters.get(own).wrapping_add(refcount as u16));
        }
        model.trace(object, &mut SubtractWrapping::<M> { counters, model: core::marker::PhantomData });
    });
    if large.length > 0 {
        count_large(model, counters, &mut large);
    }
    Counted { candidates, assumed: large.refused }
}

/// Decide for the large refcounts that came out as zero.
#[cold]
fn count_large<M: ObjectModel>(model: &M, counters: Counters, large: &mut Large) {
    if large.refused > 0 {
        model.heap().visit_live(|block| {
            let Some(object) = candidate(model, block.address, block.block_bytes) else { return };
            if model.refcount(object) >= LARGE && large.find(block.address).is_none() {
                counters.put(block.address, 1);
            }
        });
    }
    if (0..large.length).all(|i| counters.of(large.address(i)) != 0) {
        return;
    }
    model.heap().visit_live(|block| {
        if let Some(object) = candidate(model, block.address, block.block_bytes) {
            model.trace(object, &mut SubtractLarge::<M> { large, model: core::marker::PhantomData });
        }
    });
    for i in 0..large.length {
        counters.put(large.address(i), u16::from(large.count(i) > 0));
    }
}

/// Count over the first `length` entries of the list, sorted by address. Afterwards the counter of each is [`LISTED`] if
/// and only if external = 0, and more otherwise; counters of other objects are as they were.
pub(crate) fn count_list<M: ObjectModel>(model: &M, scratch: &Scratch, length: usize) -> Counted {
    let (counters, list) = (scratch.counters, scratch.list);
    let mut large = Large::new(scratch);
    for i in 0..length {
        // SAFETY: the list holds objects that are alive.
        let refcount = model.refcount(unsafe { M::at(list.get(i)) });
        if refcount >= LARGE_LISTED {
            large.note(list.get(i), refcount);
            counters.put(list.get(i), ELSEWHERE);
        } else {
            counters.put(list.get(i), refcount as u16 + LISTED);
        }
    }
    for i in 0..length {
        // SAFETY: as above.
        let object = unsafe { M::at(list.get(i)) };
        model.trace(object, &mut SubtractListed::<M> { counters, large: &large, model: core::marker::PhantomData });
    }
    for i in 0..large.length {
        counters.put(large.address(i), LISTED + u16::from(large.count(i) > 0));
    }
    Counted { candidates: length, assumed: large.refused }
}

struct SubtractWrapping<M> {
    counters: Counters,
    model: core::marker::PhantomData<M>,
}

impl<M: ObjectModel> Visitor<M::Ref> for SubtractWrapping<M> {
    #[inline(always)]
    fn visit(&mut self, child: M::Ref) {
        if let Some(index) = self.counters.index(M::address(child)) {
            self.counters.set(index, self.counters.get(index).wrapping_sub(1));
        }
    }
}

struct SubtractLarge<'a, M> {
    large: &'a Large,
    model: core::marker::PhantomData<M>,
}

impl<M: ObjectModel> Visitor<M::Ref> for SubtractLarge<'_, M> {
    fn visit(&mut self, child: M::Ref) {
        self.large.subtract(M::address(child));
    }
}

struct SubtractListed<'a, M> {
    counters: Counters,
    large: &'a Large,
    model: core::marker::PhantomData<M>,
}

impl<M: ObjectModel> Visitor<M::Ref> for SubtractListed<'_, M> {
    #[inline]
    fn visit(&mut self, child: M::Ref) {
        let Some(index) = self.counters.index(M::address(child)) else { return };
        match self.counters.get(index) {
            0 => {}
            ELSEWHERE => self.large.subtract(M::address(child)),
            count => {
                debug_assert!(count > LISTED, "more references than the refcount says");
                // Too many references are a fault of the model; keep its object rather than free it.
                self.counters.set(index, count.saturating_sub(1).max(LISTED));
            }
        }
    }
}
