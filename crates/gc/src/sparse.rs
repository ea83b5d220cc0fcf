//! A search among few candidates of a large heap, wherever they lie: a young generation's.
//!
//! The tables of a [`Search`](crate::Search) go by address: it steps over all of them, and each that is touched is a page from the
//! system. Here candidates have numbers, in the order in which they are given, and a hash table has the number of an address.
//! What the search takes is in proportion to the candidates, whatever the heap, and most of it fits the second-level cache:
//!
//! ```text
//! candidates   16 bytes each                         with a count: twice the external one, and 1 more if it leads to candidates
//! slots        4 bytes, two to four a candidate      open addressing; 12 bits of the hash, 20 of the number + 1; 0 is empty
//! stack        8 bytes for each eight candidates
//! ```
//!
//! ```text
//! external(o) = refcount(o) − references to o from candidates        one pass
//! reachable   = what candidates with external > 0 lead to            the mark pass, from those that lead anywhere
//! ```
//! References to what is no candidate cost a look at one slot, mostly: the object itself is not read.

use core::cell::Cell;
use core::marker::PhantomData;

use crate::mark::{Marker, Reach, Sweep, THROUGH};
use crate::model::{Graph, Visitor};
use crate::scratch::List;
use crate::space::prefetch;

const NUMBER_BITS: u32 = 20;
const NUMBER: u32 = (1 << NUMBER_BITS) - 1;

/// Lowest bit of a count: the candidate refers to others.
const LEADS: u32 = 1;
/// A reference.
const ONE: u32 = 2;
/// Where there are more, so many are counted. What is missing is missing in the external count as well, which stays above 0
/// unless candidates have as many references to the object.
const MOST_REFERENCES: usize = 1 << 30;

/// How many candidates ahead an object's memory is asked for, and what it reads elsewhere.
const ASK_AHEAD: usize = 32;
const FETCH_AHEAD: usize = 16;
const LINE_BYTES: usize = 64;

/// Candidates for each entry of the stack. Where it is too short, sweeps are repeated, eight times at most: see `mark.rs`.
const STACK_SHARE: usize = 8;
const STACK_LEAST: usize = 64;

/// A candidate of a [`SparseSearch`].
#[derive(Debug)]
pub struct Candidate {
    address: *mut u8,
    count: Cell<u32>,
    note: u32,
}

impl Candidate {
    /// The candidate at `address`, with a note of the caller's own.
    #[inline(always)]
    pub const fn new(address: *mut u8, note: u32) -> Candidate {
        Candidate { address, count: Cell::new(0), note }
    }

    /// Its address.
    #[inline(always)]
    pub const fn address(&self) -> *mut u8 {
        self.address
    }

    /// What the caller noted.
    #[inline(always)]
    pub const fn note(&self) -> u32 {
        self.note
    }

    /// After the search: whether it is unreachable.
    #[inline(always)]
    pub fn is_unreached(&self) -> bool {
        self.count.get() < ONE
    }
}

/// One search: see the head of this file.
#[derive(Debug)]
pub struct SparseSearch<'a> {
    candidates: &'a [Candidate],
    /// The lowest address, and from there to the highest: much that objects refer to lies elsewhere, as static objects do.
    lowest: usize,
    reach: usize,
    slots: &'a [Cell<u32>],
    stack: List,
}

impl<'a> SparseSearch<'a> {
    /// More candidates have no room.
    pub const MAX_CANDIDATES: usize = NUMBER as usize;

    fn slots_for(candidates: usize) -> usize {
        (2 * candidates).next_power_of_two()
    }

    /// Words of zeroed memory for a search among so many candidates: 17 bytes for each at most, and half a KiB.
    pub fn words_for(candidates: usize) -> usize {
        Self::slots_for(candidates).div_ceil(2) + candidates / STACK_SHARE + STACK_LEAST
    }

    /// A search among these candidates, each of which is new and there once.
    ///
    /// # Panics
    /// If the memory is shorter than [`words_for`](SparseSearch::words_for) says, or there are more than
    /// [`MAX_CANDIDATES`](SparseSearch::MAX_CANDIDATES).
    pub fn new(candidates: &'a [Candidate], memory: &'a mut [u64]) -> SparseSearch<'a> {
        let count = candidates.len();
        assert!(count <= Self::MAX_CANDIDATES, "too many candidates");
        assert!(memory.len() >= Self::words_for(count), "tables too short");
        let (slots, memory) = memory.split_at_mut(Self::slots_for(count).div_ceil(2));
        let addresses = || candidates.iter().map(|candidate| candidate.address.addr());
        let lowest = addresses().min().unwrap_or(0);
        let reach = addresses().max().unwrap_or(0) - lowest;
        let slots = &halves(slots)[..Self::slots_for(count)];
        let search = SparseSearch { candidates, lowest, reach, slots, stack: List::over(memory) };
        candidates.iter().zip(1..).for_each(|(candidate, entry)| search.enter(candidate.address, entry));
        search
    }

    /// Where the search for an address begins, and the tag of its entry.
    #[inline(always)]
    fn hash(&self, address: *const u8) -> (usize, u32) {
        let hash = (address.addr() as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let slot = (hash >> 40) as usize & (self.slots.len() - 1);
        (slot, (hash >> 8) as u32 & !NUMBER)
    }

    fn enter(&self, address: *mut u8, entry: u32) {
        let (mut slot, tag) = self.hash(address);
        while self.slots[slot].get() != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot].set(tag | entry);
    }

    /// The number of a candidate.
    #[inline(always)]
    fn number(&self, address: *const u8) -> Option<usize> {
        if address.addr().wrapping_sub(self.lowest) > self.reach {
            return None;
        }
        let (mut slot, tag) = self.hash(address);
        loop {
            let entry = self.slots[slot].get();
            if entry == 0 {
                return None;
            }
            let number = (entry & NUMBER) as usize - 1;
            if entry & !NUMBER == tag && self.candidates[number].address.addr() == address.addr() {
                return Some(number);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Find out who is unreachable: the candidates know it afterwards.
    pub fn search<G: Graph>(self, graph: &G) {
        self.count(graph);
        Marker::<G, _>::new(ByNumber(&self), self.stack).mark(graph, || Numbers { search: &self, next: 0 });
    }

    /// A count that a model's fault takes below zero is not zero: to keep an object is safe.
    fn count<G: Graph>(&self, graph: &G) {
        for (i, candidate) in self.candidates.iter().enumerate() {
            if let Some(coming) = self.candidates.get(i + ASK_AHEAD) {
                prefetch(coming.address);
                prefetch(coming.address.wrapping_add(LINE_BYTES));
            }
            // SAFETY: candidates are alive.
            unsafe {
                if let Some(arriving) = self.candidates.get(i + FETCH_AHEAD) {
                    graph.fetch(G::at(arriving.address));
                }
                let object = G::at(candidate.address);
                let mut subtract = Subtract::<G> { search: self, leads: 0, graph: PhantomData };
                graph.trace(object, &mut subtract);
                let references = graph.refcount(object).min(MOST_REFERENCES) as u32 * ONE;
                candidate.count.set(candidate.count.get().wrapping_add(references) | subtract.leads);
            }
        }
    }
}

/// Two numbers of each word.
fn halves(words: &mut [u64]) -> &[Cell<u32>] {
    // SAFETY: a word is as long as two of these and aligned for them, which are plain; the borrow is unique.
    unsafe { core::slice::from_raw_parts(words.as_mut_ptr().cast(), 2 * words.len()) }
}

/// Takes one from each candidate that is referred to.
struct Subtract<'s, 'a, G> {
    search: &'s SparseSearch<'a>,
    leads: u32,
    graph: PhantomData<G>,
}

impl<G: Graph> Visitor<G::Ref> for Subtract<'_, '_, G> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        if let Some(number) = self.search.number(G::address(child)) {
            let count = &self.search.candidates[number].count;
            count.set(count.get().wrapping_sub(ONE));
            self.leads = LEADS;
        }
    }
}

/// By its count, which is above 0. What leads nowhere need not be taken up.
#[derive(Clone, Copy)]
struct ByNumber<'s, 'a>(&'s SparseSearch<'a>);

impl Reach for ByNumber<'_, '_> {
    #[inline(always)]
    fn reach(&self, address: *mut u8) -> Option<usize> {
        let number = self.0.number(address)?;
        let count = &self.0.candidates[number].count;
        if count.get() >= ONE {
            return None;
        }
        let leads = count.get();
        count.set(leads | ONE);
        (leads != 0).then_some(number)
    }

    #[inline(always)]
    fn is_candidate(&self, _: *mut u8) -> bool {
        true
    }
}

/// Over the candidates that are reached and lead somewhere. Positions are numbers.
struct Numbers<'s, 'a> {
    search: &'s SparseSearch<'a>,
    next: usize,
}

impl Sweep for Numbers<'_, '_> {
    #[inline(always)]
    fn go_on(&mut self, end: Option<usize>, mut take: impl FnMut(*mut u8) -> bool) -> usize {
        while self.next < self.search.candidates.len() {
            let number = self.next;
            if end.is_some_and(|end| number > end) {
                return number;
            }
            self.next += 1;
            let candidate = &self.search.candidates[number];
            if !candidate.is_unreached() && candidate.count.get() & LEADS != 0 && !take(candidate.address) {
                return number + 1;
            }
        }
        THROUGH
    }
}
