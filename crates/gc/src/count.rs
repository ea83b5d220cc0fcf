//! The count pass: how many references to each candidate come from elsewhere.
//!
//! ```text
//! external(o) = refcount(o) − references to o from candidates,    0 ≤ external(o) ≤ refcount(o)
//! ```
//!
//! Over the candidates of a search it is **one** pass in address order: each adds its refcount to its own counter and takes
//! one from each child's. The order does not matter. Counters are signed bytes: refcounts from 128 on are not added but noted
//! in a small table, and so is each time that a counter wraps, which happens to such objects alone.
//!
//! A search that adds and counts in one sweep cannot know of a child whether it is a candidate: it takes one from the counter
//! of its place in any case. Counters of what turns out to be none are not looked at.
//!
//! Over a list of candidates a first pass sets counters to refcount + 1 and a second subtracts, so that 0 means "not a
//! candidate" and references to the rest of the heap are told by one look at a counter. Counters only fall, to external + 1.
//! Where the list is still to be found, from suspects on, each object's counter is set when it is first met, and one is taken
//! from it for each object that leads there: the same in one pass.
//!
//! Objects of large refcount stand in a small table, of a 64th of the heap at most. Those it has no room for count as held from
//! elsewhere, which is always safe: they float until others are gone. Telemetry says how many.

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use heapkeeper_heap::Run;

use crate::mark::{Batch, LOOKS};
use crate::model::{Generation, Graph, ObjectModel, Visitor};
use crate::scratch::{CounterIndex, Counters, List, Scratch};
use crate::search::Search;
use crate::space::{PAGE_BYTES, SWEEP_AHEAD_BYTES, Space, prefetch};

/// Over a list: a candidate that no reference from elsewhere is known to reach, and one that is reached.
pub(crate) const LISTED: u8 = 1;
/// Over a list: the count stands in the table of large ones, if anywhere. Never subtracted from, never [`LISTED`].
pub(crate) const ELSEWHERE: u8 = u8::MAX;

/// Refcounts from here on do not fit beside the two values above.
const LARGE_LISTED: usize = ELSEWHERE as usize - 1;
/// Refcounts from here on do not fit a counter that is signed.
const LARGE: usize = 1 << 7;
/// One more taken from this makes a counter wrap.
const LOWEST: u8 = 1 << 7;

/// Slots of the table of large counts: for a list, whose collection may be short, and for a search.
const LISTED_SLOTS: usize = 1 << 12;
const SEARCH_SLOTS: usize = 1 << 16;

/// Candidates of a search that are traced together: few, so that reading them goes on while counters arrive.
const BATCH: usize = 4;
/// The same where all were added before: while a batch is traced, what the next one reads elsewhere is asked for.
const FETCH_BATCH: usize = 16;

/// What a count pass saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) candidates: usize,
    /// Objects taken as held from elsewhere for want of room.
    pub(crate) assumed: usize,
    /// OS pages of counters that were used.
    pub(crate) pages: usize,
    /// Entries of the stack that the table of large counts took.
    pub(crate) stack_entries: usize,
}

/// A table of numbers by address, for the few objects whose count does not fit a counter: open addressing, half full at most.
/// Lies in the stack's memory, which marking needs only later, and takes it when there is something to enter.
struct Table {
    pairs: List,
    /// A power of two; 0 before the first entry.
    slots: usize,
    most_slots: usize,
    length: usize,
    /// Times that there was no room.
    refused: usize,
}

impl Table {
    fn new(memory: List, slots: usize) -> Table {
        let fitting = memory.capacity / 2;
        let most_slots = slots.min(if fitting == 0 { 0 } else { 1 << fitting.ilog2() });
        Table { pairs: memory, slots: 0, most_slots, length: 0, refused: 0 }
    }

    fn key(&self, slot: usize) -> *mut u8 {
        self.pairs.get(2 * slot)
    }

    fn value(&self, slot: usize) -> isize {
        self.pairs.get(2 * slot + 1).addr().cast_signed()
    }

    fn set_value(&self, slot: usize, value: isize) {
        self.pairs.set(2 * slot + 1, core::ptr::without_provenance_mut(value.cast_unsigned()));
    }

    /// The slot of `key`, or else the empty one where it belongs.
    fn search(&self, key: *const u8) -> Result<usize, usize> {
        let mut slot = (key.addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 20 & (self.slots - 1);
        loop {
            let found = self.key(slot);
            if found.is_null() {
                return Err(slot);
            }
            if found.addr() == key.addr() {
                return Ok(slot);
            }
            slot = (slot + 1) & (self.slots - 1);
        }
    }

    fn find(&self, key: *const u8) -> Option<usize> {
        if self.slots == 0 { None } else { self.search(key).ok() }
    }

    /// Add to the number at `key`, which is 0 at first. Nothing happens where there is no room.
    #[cold]
    fn add(&mut self, key: *mut u8, number: isize) {
        if self.slots == 0 {
            if self.most_slots == 0 {
                self.refused += 1;
                return;
            }
            self.slots = self.most_slots;
            (0..2 * self.slots).for_each(|i| self.pairs.set(i, core::ptr::null_mut()));
        }
        match self.search(key) {
            Ok(slot) => self.set_value(slot, self.value(slot) + number),
            Err(_) if 2 * self.length >= self.slots => self.refused += 1,
            Err(slot) => {
                self.length += 1;
                self.pairs.set(2 * slot, key);
                self.set_value(slot, number);
            }
        }
    }

    fn stack_entries(&self) -> usize {
        2 * self.slots
    }

    fn for_each(&self, mut visit: impl FnMut(*mut u8, isize)) {
        for slot in (0..self.slots).filter(|slot| !self.key(*slot).is_null()) {
            visit(self.key(slot), self.value(slot));
        }
    }
}

/// Large refcounts of a list's objects, by address.
struct LargeListed(Table);

impl LargeListed {
    fn new(stack: List) -> LargeListed {
        LargeListed(Table::new(stack, LISTED_SLOTS))
    }

    /// What the counter of a listed object starts from.
    #[inline(always)]
    fn begin(&mut self, address: *mut u8, refcount: usize) -> u8 {
        if refcount >= LARGE_LISTED {
            self.0.add(address, refcount.cast_signed());
            return ELSEWHERE;
        }
        refcount as u8 + LISTED
    }

    /// One reference to `address` comes from a candidate.
    fn subtract(&self, address: *const u8) {
        if let Some(slot) = self.0.find(address) {
            self.0.set_value(slot, self.0.value(slot) - 1);
        }
    }

    /// Listed objects were counted.
    fn end(&self, counters: Counters) {
        self.0.for_each(|address, count| counters.put(address, LISTED + u8::from(count > 0)));
    }
}

/// Large refcounts of a search's candidates, by where their counter is. A counter goes from 0 down by the references that come
/// from candidates, and wraps: `external = refcount − 256 × wraps + counter`. A number in the table is `refcount − 256 × wraps`
/// shifted left by one bit, which is set once the refcount is known.
struct Large(Table);

const WRAP: isize = 256;

impl Large {
    fn new(stack: List) -> Large {
        Large(Table::new(stack, SEARCH_SLOTS))
    }

    /// The refcount of a candidate goes into its counter, or is noted here.
    ///
    /// # Safety
    /// The counter is one, used by one thread.
    #[inline(always)]
    unsafe fn add(&mut self, counter: *mut u8, refcount: usize) {
        if refcount >= LARGE {
            self.0.add(counter, 2 * refcount.cast_signed() + 1);
        } else {
            // SAFETY: by the caller's word.
            unsafe { counter.write(counter.read().wrapping_add(refcount as u8)) };
        }
    }

    /// One reference comes from a candidate.
    ///
    /// # Safety
    /// As for [`Large::add`].
    #[inline(always)]
    unsafe fn subtract(&mut self, counter: *mut u8) {
        // SAFETY: by the caller's word.
        unsafe {
            let count = counter.read();
            if count == LOWEST {
                self.0.add(counter, -2 * WRAP);
            }
            counter.write(count.wrapping_sub(1));
        }
    }

    /// All were counted. Counters of those in the table become 1 or 0; where the refcount was small, and wraps are the fault of a
    /// model that visits more than there is, 1: to keep an object is safe.
    fn end(&self) {
        self.0.for_each(|counter, number| {
            // SAFETY: keys are counters.
            unsafe {
                let is_known = number & 1 == 1;
                let external = (number >> 1) + isize::from(counter.read().cast_signed());
                counter.write(u8::from(!is_known || external != 0));
            }
        });
    }
}

/// Count over all candidates of a search that are unreached. Afterwards the counter of each is 0 if and only if external = 0.
/// Counters of other objects are 0.
pub(crate) fn count<G: Graph>(graph: &G, search: &Search<'_>) -> Counted {
    let mut large = Large::new(search.stack);
    let (mut candidates, mut pages, mut last_page) = (0, 0, usize::MAX);
    let (mut first, mut second) = (Batch::<G, FETCH_BATCH>::new(), Batch::new());
    let (mut arriving, mut ready) = (&mut first, &mut second);
    let trace = |ready: &[G::Ref], arriving: &[G::Ref], large: &mut Large| {
        let space = &search.space;
        graph.trace_all(ready, arriving, &mut SubtractWrapping::<G> { space, large, graph: PhantomData });
    };
    search.visit_unreached(|place, address| {
        prefetch(address.wrapping_add(SWEEP_AHEAD_BYTES));
        pages += usize::from(place.counter_page() != last_page);
        last_page = place.counter_page();
        candidates += 1;
        // SAFETY: candidates are alive; the place's own counter.
        let has_room = unsafe {
            let object = G::at(address);
            large.add(place.counter_address(), graph.refcount(object));
            arriving.push(object)
        };
        if !has_room {
            trace(ready.objects(), arriving.objects(), &mut large);
            ready.clear();
            core::mem::swap(&mut arriving, &mut ready);
        }
    });
    trace(ready.objects(), arriving.objects(), &mut large);
    trace(arriving.objects(), &[], &mut large);
    let assumed = end_large(graph, search, &large);
    Counted { candidates, assumed, pages, stack_entries: large.0.stack_entries() }
}

/// Decide for the large refcounts. Those that there was no room for count as held from elsewhere; returns how many these are.
fn end_large<G: Graph>(graph: &G, search: &Search<'_>, large: &Large) -> usize {
    large.end();
    let mut assumed = 0;
    if large.0.refused > 0 {
        search.visit_unreached(|place, address| {
            // SAFETY: candidates are alive.
            let refcount = graph.refcount(unsafe { G::at(address) });
            if refcount >= LARGE && large.0.find(place.counter_address()).is_none() {
                place.set_counter(1);
                assumed += 1;
            }
        });
    }
    assumed
}

/// Count over the first `length` entries of the list. Afterwards the counter of each is [`LISTED`] if and only if
/// external = 0, and more otherwise; counters of other objects are as they were.
pub(crate) fn count_list<G: Graph>(graph: &G, scratch: &Scratch, length: usize) -> Counted {
    let (counters, list) = (scratch.counters, scratch.list);
    let mut large = LargeListed::new(scratch.stack);
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
    Counted { candidates: length, assumed: large.0.refused, pages: 0, stack_entries: large.0.stack_entries() }
}

/// List the suspects of generations up to `oldest`, and what they lead to within these, by address, and count over the list:
/// the counters are as [`count_list`] leaves them.
pub(crate) fn count_suspects<M: ObjectModel>(model: &M, scratch: &Scratch, oldest: Generation) -> Counted {
    let large = LargeListed::new(scratch.stack);
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
    Counted { candidates: length, assumed: large.0.refused, pages: 0, stack_entries: large.0.stack_entries() }
}

struct Listing<'a, M> {
    model: &'a M,
    list: List,
    counters: Counters,
    oldest: Generation,
    length: usize,
    large: LargeListed,
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
pub(crate) struct Counting<'s, 'a, M: ObjectModel> {
    search: &'s mut Search<'a>,
    subtract: SubtractAhead<M>,
    counted: Counted,
    last_page: usize,
    /// Objects to be traced.
    batch: Batch<M, BATCH>,
}

impl<'s, 'a, M: ObjectModel> Counting<'s, 'a, M> {
    pub(crate) fn new(search: &'s mut Search<'a>, counters: Counters) -> Counting<'s, 'a, M> {
        let large = Large::new(search.stack);
        let waiting = [const { MaybeUninit::uninit() }; LOOKS];
        let subtract = SubtractAhead { counters, large, waiting, length: 0, graph: PhantomData };
        Counting { search, subtract, counted: Counted::default(), last_page: usize::MAX, batch: Batch::new() }
    }

    /// The candidates among these blocks. Each is added once, in the order of addresses.
    pub(crate) fn add(&mut self, model: &M, run: &Run) {
        let (inside, counters) = (self.search.space.inside(), self.subtract.counters);
        let (mut word, mut bits) = (0, 0);
        run.visit_live(|block| {
            let Some(object) = model.candidate(block) else { return };
            prefetch(block.wrapping_add(SWEEP_AHEAD_BYTES));
            let (its_word, bit) = inside.bit(block);
            if its_word != word {
                self.end_word(word, bits);
                (word, bits) = (its_word, 0);
            }
            bits |= bit;
            // SAFETY: the object lies in the heap, and so its counter in the table.
            unsafe { self.subtract.large.add(counters.address(block), model.refcount(object)) };
            if !self.batch.push(object) {
                self.trace(model);
            }
        });
        self.end_word(word, bits);
    }

    fn trace(&mut self, model: &M) {
        model.trace_all(self.batch.objects(), &[], &mut self.subtract);
        self.batch.clear();
    }

    /// These are all candidates of a word of bits that a run has.
    fn end_word(&mut self, word: usize, bits: u64) {
        if bits != 0 {
            let page = self.subtract.counters.address_of_word(word).addr() / PAGE_BYTES;
            self.counted.pages += usize::from(page != self.last_page);
            self.last_page = page;
            self.counted.candidates += bits.count_ones() as usize;
            self.search.space.add_word_inside(word, bits);
        }
    }

    /// All were added.
    pub(crate) fn end(mut self, model: &M) {
        self.trace(model);
        self.subtract.all();
        self.counted.assumed = end_large(model, self.search, &self.subtract.large);
        self.counted.stack_entries = self.subtract.large.0.stack_entries();
        self.search.set_counted(self.counted);
    }
}

/// Subtracts when counters had time to arrive from memory.
struct SubtractAhead<G> {
    counters: Counters,
    large: Large,
    /// Counters that one is still to be taken from.
    waiting: [MaybeUninit<*mut u8>; LOOKS],
    length: usize,
    graph: PhantomData<G>,
}

impl<G> SubtractAhead<G> {
    fn all(&mut self) {
        for counter in &self.waiting[..core::mem::take(&mut self.length)] {
            // SAFETY: so many were written; they lie in the table, which one thread uses.
            unsafe { self.large.subtract(counter.assume_init()) };
        }
    }
}

impl<G: Graph> Visitor<G::Ref> for SubtractAhead<G> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        self.visit_all(&[child]);
    }

    #[inline(always)]
    fn visit_all(&mut self, children: &[G::Ref]) {
        for children in children.chunks(LOOKS) {
            if self.length + children.len() > LOOKS {
                self.all();
            }
            let (counters, mut length) = (self.counters, self.length);
            for child in children {
                if counters.index(G::address(*child)).is_some() {
                    let counter = counters.address(G::address(*child));
                    prefetch(counter);
                    // SAFETY: there is room for all of them.
                    unsafe { self.waiting.get_unchecked_mut(length).write(counter) };
                    length += 1;
                }
            }
            self.length = length;
        }
    }
}

struct SubtractWrapping<'a, G> {
    space: &'a Space<'a>,
    large: &'a mut Large,
    graph: PhantomData<G>,
}

impl<G: Graph> Visitor<G::Ref> for SubtractWrapping<'_, G> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        if let Some(place) = self.space.place(G::address(child))
            && place.is_unreached()
        {
            // SAFETY: the place's own counter.
            unsafe { self.large.subtract(place.counter_address()) };
        }
    }
}

struct SubtractListed<'a, G> {
    counters: Counters,
    large: &'a LargeListed,
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
fn subtract_listed(counters: Counters, index: CounterIndex, large: &LargeListed, address: *const u8) {
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
