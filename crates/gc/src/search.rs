//! A search over the whole heap: which of its candidates are unreachable.
//!
//! ```text
//! add           the candidates, in any order
//! mark_known    what known roots lead to needs no count       one sweep over what is reached
//! count         external(o) = refcount(o) − references to o from candidates still unreached
//!               (a model that knows no roots adds and counts in one sweep)
//! mark          what candidates with external > 0 lead to
//! unreached     the trash
//! ```
//! Sweeps are in address order, whatever the order of the objects' own lists. Roots are known to be alive, hence so is what
//! they lead to, and a heap without garbage whose roots are all known is traced once and counted nowhere. A model that
//! knows no roots counts everything.

use crate::count::{Counted, Counting, count};
use crate::mark::{Marked, mark_counted, mark_known, mark_reached, mark_reached_apart};
use crate::model::{Graph, ObjectModel};
use crate::scratch::{Counters, List, Scratch, Tables};
use crate::space::{Outside, Part, Place, Space};

/// To mark by bits alone is faster than by bits and counters, but traces once more what was reached before: done if that is
/// no more than one in so many candidates.
const RETRACED_SHARE: usize = 8;

/// One search. Its tables are those of the collector it was made from, which has no other meanwhile.
#[derive(Debug)]
pub struct Search<'a> {
    pub(crate) space: Space<'a>,
    pub(crate) stack: List,
    ranks: *mut u32,
    candidates: usize,
    counted: Counted,
    marked: Marked,
    /// Whether counters were used.
    has_counted: bool,
}

impl Tables {
    /// Begin a search over a heap that holds so many bytes, and objects elsewhere.
    pub fn search<'a>(&'a mut self, held_bytes: usize, outside: Outside<'a>) -> Search<'a> {
        Search::new(&self.scratch(), held_bytes, outside)
    }

    /// After a search: zero its tables and give their memory back.
    pub fn end_search(&mut self, has_counted: bool, deepest: usize) {
        self.clear_bits();
        if has_counted {
            self.clear_counters();
        }
        self.give_back(deepest, 0);
    }
}

impl<'a> Search<'a> {
    pub(crate) fn new(scratch: &Scratch, held_bytes: usize, outside: Outside<'a>) -> Search<'a> {
        let space = scratch.space(outside);
        let stack = scratch.stack_for(held_bytes);
        let (counted, marked) = (Counted::default(), Marked::default());
        Search { space, stack, ranks: scratch.ranks, candidates: 0, counted, marked, has_counted: false }
    }

    /// A candidate. Each is added once. False if it lies neither in the heap nor in the chunks elsewhere: then it is none.
    #[inline(always)]
    pub fn add(&mut self, address: *const u8) -> bool {
        let added = self.space.add(address);
        self.candidates += usize::from(added);
        added
    }

    /// Candidates that `add` had no place for, with tables for the chunks that they lie in.
    pub fn add_elsewhere(&mut self, outside: Outside<'a>, addresses: &[*mut u8]) {
        self.space.set_outside(outside);
        for address in addresses {
            let added = self.add(*address);
            debug_assert!(added, "no table for an object's chunk");
        }
    }

    /// How many were added.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    /// No more will be added: none is reached yet.
    pub fn added(&mut self) {
        for part in self.space.parts() {
            // SAFETY: both tables have these words.
            unsafe { copy_words(part) };
        }
    }

    /// Mark what these roots lead to. Addresses that are no candidates' are not looked at: a root may be anything.
    pub fn mark_known<G: Graph>(&mut self, graph: &G, roots: impl FnOnce(&mut dyn FnMut(G::Ref))) {
        let marked = mark_known(graph, self, roots);
        self.note(marked);
    }

    /// From now on counters take a byte for each object that is unreached, instead of one for each grain of the heap where
    /// such objects are: for when these are few, or memory counts for more than time.
    pub fn rank(&mut self) {
        // SAFETY: the table was made with an entry for each word of the range, and grows with it.
        unsafe { self.space.rank(self.ranks) };
    }

    /// Count those that are unreached, and mark from what is held from elsewhere. What is unreached afterwards is trash.
    pub fn count<G: Graph>(&mut self, graph: &G) {
        self.has_counted = true;
        self.counted = count(graph, self);
    }

    /// Add candidates and count them, in one sweep over the heap: instead of `add`, `added` and [`count`](Search::count). For
    /// searches with nothing elsewhere.
    pub(crate) fn counting<M: ObjectModel>(&mut self, counters: Counters) -> Counting<'_, 'a, M> {
        self.has_counted = true;
        Counting::new(self, counters)
    }

    pub(crate) fn set_counted(&mut self, counted: Counted) {
        self.counted = counted;
    }

    /// The second half of the search: see [`count`](Search::count). Afterwards all counters are 0 again.
    pub fn mark<G: Graph>(&mut self, graph: &G) {
        let reached_before = self.candidates - self.counted.candidates;
        let marked = if reached_before <= self.candidates / RETRACED_SHARE {
            self.settle();
            mark_reached(graph, self)
        } else {
            let marked = mark_counted(graph, self);
            self.settle();
            marked
        };
        self.note(marked);
    }

    /// As [`mark`](Search::mark), where all candidates were counted, and whatever else is traced is as far apart as these.
    pub(crate) fn mark_all<G: Graph>(&mut self, graph: &G) {
        self.settle();
        let marked = mark_reached_apart(graph, self);
        self.note(marked);
    }

    /// What has a counter above 0 is reached. Afterwards all counters are 0.
    fn settle(&mut self) {
        for part in self.space.parts() {
            for word in part.unreached_words() {
                // SAFETY: within the tables. Counters may go by the bits of the word, which so change at once.
                unsafe {
                    let bits = part.unreached.add(word).read();
                    if bits == 0 || part.has_no_counts(word) {
                        continue;
                    }
                    let mut left = bits;
                    visit_bits(word, bits, |grain| {
                        let place = part.candidate_of(grain);
                        if place.counter() != 0 {
                            place.set_counter(0);
                            left &= !(1 << (grain % 64));
                        }
                    });
                    part.unreached.add(word).write(left);
                }
            }
        }
    }

    fn note(&mut self, marked: Marked) {
        self.marked.repeated_sweeps += marked.repeated_sweeps;
        self.marked.deepest = self.marked.deepest.max(marked.deepest);
    }

    pub(crate) fn counted(&self) -> Counted {
        self.counted
    }

    pub(crate) fn marked(&self) -> Marked {
        self.marked
    }

    /// Entries of the stack that were used.
    pub(crate) fn deepest(&self) -> usize {
        self.marked.deepest.max(self.counted.stack_entries)
    }

    /// What [`Tables::end_search`] has to know.
    pub fn used(&self) -> (bool, usize) {
        (self.has_counted, self.deepest())
    }

    /// Whether the object is a candidate.
    #[inline]
    pub fn is_candidate(&self, address: *const u8) -> bool {
        self.space.place(address).is_some_and(Place::is_candidate)
    }

    /// Whether the object is a candidate not reached (yet).
    #[inline]
    pub fn is_unreached(&self, address: *const u8) -> bool {
        self.space.place(address).is_some_and(Place::is_unreached)
    }

    /// Note whether a candidate counts as reached: for whoever goes on with the bits after the search.
    #[inline]
    pub fn set_reached(&mut self, address: *const u8, reached: bool) {
        if let Some(place) = self.space.place(address) {
            place.set_unreached(!reached);
        }
    }

    /// After the search: the object is no candidate any more.
    pub fn remove(&mut self, address: *const u8) {
        if let Some(place) = self.space.place(address) {
            place.set_unreached(false);
            place.remove_candidate();
        }
    }

    /// How many candidates are unreached.
    pub fn unreached(&self) -> usize {
        let count = |part: &&Part| {
            // SAFETY: within the tables.
            part.unreached_words().map(|word| unsafe { *part.unreached.add(word) }.count_ones() as usize).sum::<usize>()
        };
        self.space.parts().iter().map(count).sum()
    }

    /// Memory that the search took beside the heap, without what the caller gave it.
    pub fn scratch_bytes(&self) -> usize {
        self.space.scratch_bytes(self.counted.pages) + self.deepest() * size_of::<*mut u8>()
    }

    /// Candidates that are unreached, in the order of addresses.
    pub fn for_each_unreached(&self, mut visit: impl FnMut(*mut u8)) {
        self.visit_unreached(|_, address| visit(address));
    }

    pub(crate) fn visit_unreached(&self, mut visit: impl FnMut(Place<'_>, *mut u8)) {
        for part in self.space.parts() {
            for word in part.unreached_words() {
                // SAFETY: within the tables.
                visit_bits(word, unsafe { *part.unreached.add(word) }, |grain| {
                    let place = part.candidate_of(grain);
                    visit(place, self.space.address(part, place.granule()));
                });
            }
        }
    }

    /// Candidates that were reached, in the order of addresses.
    pub fn for_each_reached(&self, mut visit: impl FnMut(*mut u8)) {
        for part in self.space.parts() {
            for word in part.words() {
                // SAFETY: within the tables.
                let bits = unsafe { part.candidates_word(word) & !part.unreached_word(word) };
                visit_bits(word, bits, |granule| visit(self.space.address(part, granule)));
            }
        }
    }
}

#[inline(always)]
fn visit_bits(word: usize, mut bits: u64, mut visit: impl FnMut(usize)) {
    while bits != 0 {
        visit(word * 64 + bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

/// # Safety
/// The part's tables have as many words as it says.
unsafe fn copy_words(part: &Part) {
    for word in part.words() {
        // SAFETY: by the caller's word. What is zero stays untouched, so that its memory is never taken.
        unsafe {
            let bits = part.candidates_word(word);
            if bits != 0 {
                part.add_unreached(word, bits);
            }
        }
    }
}
