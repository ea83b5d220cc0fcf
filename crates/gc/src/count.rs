//! The count pass: how many references to each candidate come from elsewhere.
//!
//! ```text
//! external(o) = refcount(o) − references to o from candidates,    0 ≤ external(o) ≤ refcount(o)
//! ```
//!
//! Over the candidates of a search it is **one** pass in address order: each adds its refcount to its own counter and takes
//! one from each child's, modulo 2¹⁶. The order does not matter, intermediate values may wrap, and the result is external
//! modulo 2¹⁶: exact for refcounts below 2¹⁶. With larger ones a result above zero still proves a reference from elsewhere;
//! zero proves nothing, and these objects are counted again one by one.
//!
//! A search that adds and counts in one sweep cannot know of a child whether it is a candidate: it takes one from the counter
//! of its place in any case. Counters of what turns out to be none are not looked at.
//!
//! Over a list of candidates a first pass sets counters to refcount + 1 and a second subtracts, so that 0 means "not a
//! candidate" and references to the rest of the heap are told by one look at a counter. Counters only fall, to external + 1.
//!
//! Objects of large refcount stand in a small table. Those it has no room for count as held from elsewhere, which is
//! always safe: they float until others are gone. Telemetry says how many.

use core::marker::PhantomData;

use crate::mark::LOOKS;
use crate::model::{Graph, Visitor};
use crate::scratch::{Counters, List, Scratch};
use crate::search::Search;
use crate::space::{Space, prefetch};

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
    /// OS pages of counters that were used.
    pub(crate) pages: usize,
}

/// The table of large counts: pairs of an object's address and its count, sorted by address. Lies in the stack's memory,
/// which marking needs only later.
struct Large {
    pairs: List,
    length: usize,
    refused: usize,
}

impl Large {
    fn new(stack: List) -> Large {
        Large { pairs: stack, length: 0, refused: 0 }
    }

    /// Addresses come in rising order, but for those elsewhere.
    #[cold]
    fn note(&mut self, address: *mut u8, refcount: usize) {
        if self.length == LARGE_ENTRIES {
            self.refused += 1;
            return;
        }
        let mut i = self.length;
        while i > 0 && self.address(i - 1).addr() > address.addr() {
            self.pairs.set(2 * i, self.address(i - 1));
            self.set_count(i, self.count(i - 1));
            i -= 1;
        }
        self.pairs.set(2 * i, address);
        self.set_count(i, refcount);
        self.length += 1;
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

/// Count over all candidates of a search that are unreached. Afterwards the counter of each is 0 if and only if external = 0.
/// Counters of other objects are 0.
pub(crate) fn count<G: Graph>(graph: &G, search: &Search<'_>) -> Counted {
    let mut large = Large::new(search.stack);
    let (mut candidates, mut pages, mut last_page) = (0, 0, usize::MAX);
    search.visit_unreached(|place, address| {
        pages += usize::from(place.counter_page() != last_page);
        last_page = place.counter_page();
        // SAFETY: candidates are alive.
        let object = unsafe { G::at(address) };
        candidates += 1;
        let refcount = graph.refcount(object);
        if refcount >= LARGE {
            large.note(address, refcount);
        }
        place.set_counter(place.counter().wrapping_add(refcount as u16));
        graph.trace(object, &mut SubtractWrapping::<G> { space: &search.space, graph: PhantomData });
    });
    if large.length > 0 {
        count_large(graph, search, &mut large);
    }
    Counted { candidates, assumed: large.refused, pages }
}

/// Decide for the large refcounts that came out as zero.
#[cold]
fn count_large<G: Graph>(graph: &G, search: &Search<'_>, large: &mut Large) {
    let put = |address: *mut u8, value| {
        if let Some(place) = search.space.place(address) {
            place.set_counter(value);
        }
    };
    if large.refused > 0 {
        search.for_each_unreached(|address| {
            // SAFETY: candidates are alive.
            if graph.refcount(unsafe { G::at(address) }) >= LARGE && large.find(address).is_none() {
                put(address, 1);
            }
        });
    }
    let is_known = |i: usize| search.space.place(large.address(i)).is_some_and(|place| place.counter() != 0);
    if (0..large.length).all(is_known) {
        return;
    }
    search.for_each_unreached(|address| {
        // SAFETY: candidates are alive.
        graph.trace(unsafe { G::at(address) }, &mut SubtractLarge::<G> { large, graph: PhantomData });
    });
    for i in 0..large.length {
        put(large.address(i), u16::from(large.count(i) > 0));
    }
}

/// Count over the first `length` entries of the list, sorted by address. Afterwards the counter of each is [`LISTED`] if
/// and only if external = 0, and more otherwise; counters of other objects are as they were.
pub(crate) fn count_list<G: Graph>(graph: &G, scratch: &Scratch, length: usize) -> Counted {
    let (counters, list) = (scratch.counters, scratch.list);
    let mut large = Large::new(scratch.stack);
    for i in 0..length {
        // SAFETY: the list holds objects that are alive.
        let refcount = graph.refcount(unsafe { G::at(list.get(i)) });
        if refcount >= LARGE_LISTED {
            large.note(list.get(i), refcount);
            counters.put(list.get(i), ELSEWHERE);
        } else {
            counters.put(list.get(i), refcount as u16 + LISTED);
        }
    }
    for i in 0..length {
        // SAFETY: as above.
        let object = unsafe { G::at(list.get(i)) };
        graph.trace(object, &mut SubtractListed::<G> { counters, large: &large, graph: PhantomData });
    }
    for i in 0..large.length {
        counters.put(large.address(i), LISTED + u16::from(large.count(i) > 0));
    }
    Counted { candidates: length, assumed: large.refused, pages: 0 }
}

/// Adds and counts the candidates of a search in one sweep over the heap. Afterwards the counter of each is 0 if and only if
/// external = 0; those of other places are anything.
pub(crate) struct Counting<'s, 'a, G> {
    search: &'s mut Search<'a>,
    large: Large,
    subtract: SubtractAhead<'a, G>,
    counted: Counted,
    last_page: usize,
}

impl<'s, 'a, G: Graph> Counting<'s, 'a, G> {
    pub(crate) fn new(search: &'s mut Search<'a>) -> Counting<'s, 'a, G> {
        let (space, large) = (search.space, Large::new(search.stack));
        let subtract = SubtractAhead { space, ring: [core::ptr::null_mut(); LOOKS], next: 0, graph: PhantomData };
        Counting { search, large, subtract, counted: Counted::default(), last_page: usize::MAX }
    }

    /// A candidate. Each is added once, in the order of addresses.
    #[inline(always)]
    pub(crate) fn add(&mut self, graph: &G, object: G::Ref) {
        let address = G::address(object);
        self.search.add(address);
        let Some(place) = self.subtract.space.place(address) else { return };
        self.counted.pages += usize::from(place.counter_page() != self.last_page);
        self.last_page = place.counter_page();
        self.counted.candidates += 1;
        let refcount = graph.refcount(object);
        if refcount >= LARGE {
            self.large.note(address, refcount);
        }
        place.set_counter(place.counter().wrapping_add(refcount as u16));
        graph.trace(object, &mut self.subtract);
    }

    /// All were added.
    pub(crate) fn end(mut self, graph: &G) {
        self.subtract.end();
        self.search.added();
        if self.large.length > 0 {
            count_large(graph, self.search, &mut self.large);
        }
        self.counted.assumed = self.large.refused;
        self.search.set_counted(self.counted);
    }
}

/// Subtracts when the counter had time to arrive from memory.
struct SubtractAhead<'a, G> {
    space: Space<'a>,
    /// Counters that one is still to be taken from, in a ring; null where there is none.
    ring: [*mut u16; LOOKS],
    next: usize,
    graph: PhantomData<G>,
}

impl<G> SubtractAhead<'_, G> {
    #[inline(always)]
    fn take(counter: *mut u16) {
        if !counter.is_null() {
            // SAFETY: counters in the ring lie in the table, which one thread uses.
            unsafe { counter.write(counter.read().wrapping_sub(1)) };
        }
    }

    fn end(&mut self) {
        self.ring.iter().for_each(|counter| Self::take(*counter));
    }
}

impl<G: Graph> Visitor<G::Ref> for SubtractAhead<'_, G> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        if let Some(place) = self.space.place(G::address(child)) {
            let counter = place.counter_address();
            prefetch(counter);
            let slot = &mut self.ring[self.next % LOOKS];
            self.next += 1;
            Self::take(core::mem::replace(slot, counter));
        }
    }
}

struct SubtractWrapping<'a, G> {
    space: &'a Space<'a>,
    graph: PhantomData<G>,
}

impl<G: Graph> Visitor<G::Ref> for SubtractWrapping<'_, G> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        if let Some(place) = self.space.place(G::address(child))
            && place.is_unreached()
        {
            place.set_counter(place.counter().wrapping_sub(1));
        }
    }
}

struct SubtractLarge<'a, G> {
    large: &'a Large,
    graph: PhantomData<G>,
}

impl<G: Graph> Visitor<G::Ref> for SubtractLarge<'_, G> {
    fn visit(&mut self, child: G::Ref) {
        self.large.subtract(G::address(child));
    }
}

struct SubtractListed<'a, G> {
    counters: Counters,
    large: &'a Large,
    graph: PhantomData<G>,
}

impl<G: Graph> Visitor<G::Ref> for SubtractListed<'_, G> {
    #[inline]
    fn visit(&mut self, child: G::Ref) {
        let Some(index) = self.counters.index(G::address(child)) else { return };
        match self.counters.get(index) {
            0 => {}
            ELSEWHERE => self.large.subtract(G::address(child)),
            count => {
                debug_assert!(count > LISTED, "more references than the refcount says");
                // Too many references are a fault of the model; keep its object rather than free it.
                self.counters.set(index, count.saturating_sub(1).max(LISTED));
            }
        }
    }
}
