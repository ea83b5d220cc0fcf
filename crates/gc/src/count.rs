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
//! Where the list is still to be found, from suspects on, each object's counter is set when it is first met, and one is taken
//! from it for each object that leads there: the same in one pass.
//!
//! Objects of large refcount stand in a small table. Those it has no room for count as held from elsewhere, which is
//! always safe: they float until others are gone. Telemetry says how many.

use core::marker::PhantomData;

use crate::mark::LOOKS;
use crate::model::{Generation, Graph, ObjectModel, Visitor};
use crate::scratch::{CounterIndex, Counters, List, Scratch};
use crate::search::Search;
use crate::space::{PAGE_BYTES, Space, prefetch};

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

/// How far ahead of the sweep objects are asked for: the processor's own guess comes too late beside so many other requests.
const SWEEP_AHEAD_BYTES: usize = 1536;

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

    /// What the counter of a listed object starts from.
    #[inline(always)]
    fn begin(&mut self, address: *mut u8, refcount: usize) -> u16 {
        if refcount >= LARGE_LISTED {
            self.note(address, refcount);
            return ELSEWHERE;
        }
        refcount as u16 + LISTED
    }

    /// Listed objects were counted.
    fn end(&self, counters: Counters) {
        for i in 0..self.length {
            counters.put(self.address(i), LISTED + u16::from(self.count(i) > 0));
        }
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

/// Count over the first `length` entries of the list. Afterwards the counter of each is [`LISTED`] if and only if
/// external = 0, and more otherwise; counters of other objects are as they were.
pub(crate) fn count_list<G: Graph>(graph: &G, scratch: &Scratch, length: usize) -> Counted {
    let (counters, list) = (scratch.counters, scratch.list);
    let mut large = Large::new(scratch.stack);
    for i in 0..length {
        // SAFETY: the list holds objects that are alive.
        let refcount = graph.refcount(unsafe { G::at(list.get(i)) });
        counters.put(list.get(i), large.begin(list.get(i), refcount));
    }
    for i in 0..length {
        // SAFETY: as above.
        let object = unsafe { G::at(list.get(i)) };
        graph.trace(object, &mut SubtractListed::<G> { counters, large: &large, graph: PhantomData });
    }
    large.end(counters);
    Counted { candidates: length, assumed: large.refused, pages: 0 }
}

/// List the suspects of generations up to `oldest`, and what they lead to within these, by address, and count over the list:
/// the counters are as [`count_list`] leaves them.
pub(crate) fn count_suspects<M: ObjectModel>(model: &M, scratch: &Scratch, oldest: Generation) -> Counted {
    let large = Large::new(scratch.stack);
    let mut listing = Listing { model, list: scratch.list, counters: scratch.counters, oldest, length: 0, large };
    model.visit_suspects(oldest, |object| {
        if let Some(index) = listing.counters.index(M::address(object))
            && listing.counters.get(index) == 0
        {
            listing.add(index, object);
        }
    });
    let mut next = 0;
    while next < listing.length {
        // SAFETY: the list holds objects that are alive; no program code runs.
        model.trace(unsafe { M::at(listing.list.get(next)) }, &mut listing);
        next += 1;
    }
    let Listing { list, counters, length, large, .. } = listing;
    large.end(counters);
    list.sort(0..length);
    Counted { candidates: length, assumed: large.refused, pages: 0 }
}

struct Listing<'a, M> {
    model: &'a M,
    list: List,
    counters: Counters,
    oldest: Generation,
    length: usize,
    large: Large,
}

impl<M: ObjectModel> Listing<'_, M> {
    #[inline(always)]
    fn add(&mut self, index: CounterIndex, object: M::Ref) {
        let refcount = self.model.refcount(object);
        self.counters.set(index, self.large.begin(M::address(object), refcount));
        self.list.set(self.length, M::address(object));
        self.length += 1;
    }
}

impl<M: ObjectModel> Visitor<M::Ref> for Listing<'_, M> {
    #[inline]
    fn visit(&mut self, child: M::Ref) {
        let Some(index) = self.counters.index(M::address(child)) else { return };
        if self.counters.get(index) == 0 {
            if self.model.generation(child).is_none_or(|generation| generation > self.oldest) {
                return;
            }
            self.add(index, child);
        }
        subtract_listed(self.counters, index, &self.large, M::address(child));
    }
}

/// Adds and counts the candidates of a search in one sweep over the heap. Afterwards the counter of each is 0 if and only if
/// external = 0; those of other places are anything.
pub(crate) struct Counting<'s, 'a> {
    search: &'s mut Search<'a>,
    large: Large,
    counters: SubtractAhead,
    counted: Counted,
    last_page: usize,
    /// Candidates of the word of bits that the sweep is at.
    word: usize,
    bits: u64,
}

impl<'s, 'a> Counting<'s, 'a> {
    pub(crate) fn new(search: &'s mut Search<'a>, counters: Counters) -> Counting<'s, 'a> {
        let large = Large::new(search.stack);
        let counters = SubtractAhead { counters, ring: [core::ptr::null_mut(); LOOKS], next: 0 };
        Counting { search, large, counters, counted: Counted::default(), last_page: usize::MAX, word: 0, bits: 0 }
    }

    /// A candidate. Each is added once; best in the order of addresses.
    #[inline(always)]
    pub(crate) fn add<G: Graph>(&mut self, graph: &G, object: G::Ref) {
        let address = G::address(object);
        prefetch(address.wrapping_add(SWEEP_AHEAD_BYTES));
        let (word, bit) = self.search.space.bit_inside(address);
        if word != self.word {
            self.search.space.add_word_inside(self.word, self.bits);
            (self.word, self.bits) = (word, 0);
        }
        self.bits |= bit;
        let counter = self.counters.counters.address(address);
        let page = counter.addr() / PAGE_BYTES;
        self.counted.pages += usize::from(page != self.last_page);
        self.last_page = page;
        self.counted.candidates += 1;
        let refcount = graph.refcount(object);
        if refcount >= LARGE {
            self.large.note(address, refcount);
        }
        // SAFETY: the object lies in the heap, and so its counter in the table.
        unsafe { counter.write(counter.read().wrapping_add(refcount as u16)) };
        graph.trace(object, &mut Ahead::<G> { counters: &mut self.counters, graph: PhantomData });
    }

    /// All were added.
    pub(crate) fn end<G: Graph>(mut self, graph: &G) {
        self.counters.end();
        self.search.space.add_word_inside(self.word, self.bits);
        if self.large.length > 0 {
            count_large(graph, self.search, &mut self.large);
        }
        self.counted.assumed = self.large.refused;
        self.search.set_counted(self.counted);
    }
}

/// Subtracts when the counter had time to arrive from memory.
struct SubtractAhead {
    counters: Counters,
    /// Counters that one is still to be taken from, in a ring; null where there is none.
    ring: [*mut u16; LOOKS],
    next: usize,
}

impl SubtractAhead {
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

struct Ahead<'a, G> {
    counters: &'a mut SubtractAhead,
    graph: PhantomData<G>,
}

impl<G: Graph> Visitor<G::Ref> for Ahead<'_, G> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        let SubtractAhead { counters, ring, next } = &mut *self.counters;
        if counters.index(G::address(child)).is_some() {
            let counter = counters.address(G::address(child));
            prefetch(counter);
            let slot = &mut ring[*next % LOOKS];
            *next += 1;
            SubtractAhead::take(core::mem::replace(slot, counter));
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
        if let Some(index) = self.counters.index(G::address(child)) {
            subtract_listed(self.counters, index, self.large, G::address(child));
        }
    }
}

/// One reference to `address` comes from a candidate.
#[inline(always)]
fn subtract_listed(counters: Counters, index: CounterIndex, large: &Large, address: *const u8) {
    match counters.get(index) {
        0 => {}
        ELSEWHERE => large.subtract(address),
        count => {
            debug_assert!(count > LISTED, "more references than the refcount says");
            // Too many references are a fault of the model; keep its object rather than free it.
            counters.set(index, count.saturating_sub(1).max(LISTED));
        }
    }
}
