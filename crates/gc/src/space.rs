//! Where objects may lie, and what a search notes of each place: two bits and a counter.
//!
//! An address is a **granule** of 16 bytes in one of two parts: the heap's range, whose tables lie beside it, and memory
//! elsewhere (objects older than the heap), by chunks of 1 MiB. The sweep goes over the part elsewhere first.
//!
//! ```text
//! candidates  1 bit a granule    0.8 % of the heap    the objects that the search is about
//! unreached   1 bit a grain      0.4 % at most        candidates not known to be reachable
//! ranks       4 bytes for 2048   0.2 %                where a counter is, if these go by rank
//! counters    a byte each                             a grain's: 3.1 % of the heap at most, where used; by rank: a byte for
//!                                                     each object counted. See count.rs
//! ```
//! A [**grain**](Grain) has one candidate at most, and perhaps other objects; which of its granules is the candidate, the bits of
//! the candidates tell.
//! Invariant: unreached ⊆ candidates.

use core::marker::PhantomData;

use crate::grain::Grain;
use crate::model::MIN_OBJECT_BYTES;

/// Objects start at multiples of this.
pub(crate) const GRANULE_BYTES: usize = 16;
/// Granules of a word of bits.
const WORD_GRANULES: usize = 64;
/// Heap that a word of bits stands for: 1 KiB.
pub(crate) const WORD_BYTES: usize = GRANULE_BYTES * WORD_GRANULES;
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_WORDS: usize = CHUNK_BYTES / WORD_BYTES; // 1024
/// Grains of objects elsewhere.
const CHUNK_GRAINS: usize = CHUNK_BYTES / MIN_OBJECT_BYTES; // 32768
/// An OS page, on most machines.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Counters that fit a word of memory.
const COUNTERS_A_WORD: usize = size_of::<u64>() / size_of::<u8>();

/// Tables of one part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) candidates: *mut u64,
    pub(crate) unreached: *mut u64,
    pub(crate) counters: *mut u8,
    /// Of each word of `unreached`, how many bits come before it; null where counters go by address.
    pub(crate) ranks: *mut u32,
    /// What a bit of `unreached` and a counter stand for.
    grain: Grain,
    /// The words that have candidates lie between these two.
    pub(crate) first_word: usize,
    pub(crate) end_word: usize,
    /// What precedes this part in the order of the sweep.
    first_position: usize,
}

/// Positions of the part elsewhere stay below.
pub(crate) const INSIDE_POSITION: usize = 1 << 60;

impl Part {
    pub(crate) const EMPTY: Part = Part {
        candidates: core::ptr::null_mut(),
        unreached: core::ptr::null_mut(),
        counters: core::ptr::null_mut(),
        ranks: core::ptr::null_mut(),
        grain: Grain::LEAST,
        first_word: 0,
        end_word: 0,
        first_position: 0,
    };

    /// No candidates so far.
    pub(crate) fn inside(candidates: *mut u64, unreached: *mut u64, counters: *mut u8, grain: Grain) -> Part {
        let ranks = core::ptr::null_mut();
        Part {
            candidates,
            unreached,
            counters,
            ranks,
            grain,
            first_word: usize::MAX,
            end_word: 0,
            first_position: INSIDE_POSITION,
        }
    }

    /// From now on counters go by rank: the first is that of the first unreached object, and so on. `unreached` stays as it
    /// is until the counters are done with.
    ///
    /// # Safety
    /// `ranks` has an entry for each word of `unreached`; the counters have room for all that are unreached.
    pub(crate) unsafe fn rank(&mut self, ranks: *mut u32) {
        let mut rank = 0;
        for word in self.unreached_words() {
            // SAFETY: by the caller's word.
            unsafe {
                ranks.add(word).write(rank);
                rank += self.unreached.add(word).read().count_ones();
            }
        }
        self.ranks = ranks;
    }

    /// In the order of the sweep.
    #[inline(always)]
    pub(crate) fn position(&self, granule: usize) -> usize {
        self.first_position + granule
    }

    /// The words that may have candidates.
    #[inline(always)]
    pub(crate) fn words(&self) -> core::ops::Range<usize> {
        self.first_word..self.end_word
    }

    /// The words of `unreached` that may have any.
    #[inline(always)]
    pub(crate) fn unreached_words(&self) -> core::ops::Range<usize> {
        if self.words().is_empty() {
            return 0..0;
        }
        let grains = self.grain.in_word();
        self.first_word * grains / 64..(self.end_word * grains).div_ceil(64)
    }

    /// The candidate of a grain that has one.
    #[inline(always)]
    pub(crate) fn candidate_of(&self, grain: usize) -> Place<'_> {
        let first = self.grain.first_granule(grain);
        // SAFETY: grains with a candidate lie in the part.
        let candidates = unsafe { self.candidates_word(first / WORD_GRANULES) } >> (first % WORD_GRANULES);
        Place::new(self, first + candidates.trailing_zeros() as usize)
    }

    /// Whether the counters of the 64 grains of a word of `unreached` are 0; false where that takes more than a look.
    ///
    /// # Safety
    /// The table has such a word.
    #[inline(always)]
    pub(crate) unsafe fn has_no_counts(&self, word: usize) -> bool {
        // SAFETY: by the caller's word.
        self.ranks.is_null()
            && unsafe {
                let counts = self.counters.add(word * 64).cast::<u64>();
                (0..64 / COUNTERS_A_WORD).fold(0, |any, i| any | counts.add(i).read_unaligned()) == 0
            }
    }

    /// # Safety
    /// The table has such a word.
    #[inline(always)]
    pub(crate) unsafe fn candidates_word(&self, word: usize) -> u64 {
        // SAFETY: the table has so many words.
        unsafe { self.candidates.add(word).read() }
    }

    /// # Safety
    /// The table has such a word.
    #[inline(always)]
    pub(crate) unsafe fn unreached_word(&self, word: usize) -> u64 {
        let (first, grains) = (word * self.grain.in_word(), self.grain.in_word());
        // SAFETY: by the caller's word. The grains of a word of granules lie in one word.
        unsafe {
            let grains = self.unreached.add(first / 64).read() >> (first % 64) & (!0 >> (64 - grains));
            if grains == 0 { 0 } else { self.candidates_word(word) & self.grain.spread(grains) }
        }
    }

    /// These of a word's candidates are unreached from now on.
    ///
    /// # Safety
    /// The table has such a word.
    #[inline(always)]
    pub(crate) unsafe fn add_unreached(&self, word: usize, bits: u64) {
        let first = word * self.grain.in_word();
        // SAFETY: as above; one thread uses the tables.
        unsafe { *self.unreached.add(first / 64) |= self.grain.gather(bits) << (first % 64) };
    }
}

/// A granule of a part.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    part: &'a Part,
    granule: usize,
}

impl Place<'_> {
    #[inline(always)]
    pub(crate) fn new(part: &Part, granule: usize) -> Place<'_> {
        debug_assert!(part.words().contains(&(granule / WORD_GRANULES)));
        Place { part, granule }
    }

    #[inline(always)]
    pub(crate) fn granule(self) -> usize {
        self.granule
    }

    #[inline(always)]
    fn bit(self) -> u64 {
        1 << (self.granule % WORD_GRANULES)
    }

    #[inline(always)]
    fn grain(self) -> usize {
        self.part.grain.of(self.granule)
    }

    #[inline(always)]
    pub(crate) fn is_candidate(self) -> bool {
        // SAFETY: places lie in their part.
        unsafe { self.part.candidates_word(self.granule / WORD_GRANULES) & self.bit() != 0 }
    }

    #[inline(always)]
    pub(crate) fn is_unreached(self) -> bool {
        // SAFETY: places lie in their part.
        let has_unreached =
            unsafe { self.part.unreached.add(self.grain() / 64).read() & 1 << (self.grain() % 64) != 0 };
        // What is no candidate may share the grain of one.
        has_unreached && self.is_candidate()
    }

    #[inline(always)]
    pub(crate) fn remove_candidate(self) {
        // SAFETY: as above.
        unsafe { *self.part.candidates.add(self.granule / WORD_GRANULES) &= !self.bit() }
    }

    #[inline(always)]
    pub(crate) fn set_unreached(self, unreached: bool) {
        // SAFETY: as above.
        unsafe {
            let (word, bit) = (self.part.unreached.add(self.grain() / 64), 1 << (self.grain() % 64));
            *word = if unreached { *word | bit } else { *word & !bit };
        }
    }

    #[inline(always)]
    fn counter_index(self) -> usize {
        if self.part.ranks.is_null() {
            return self.grain();
        }
        let (word, bit) = (self.grain() / 64, 1 << (self.grain() % 64));
        // SAFETY: places lie in their part.
        unsafe {
            let before = self.part.unreached.add(word).read() & (bit - 1);
            (self.part.ranks.add(word).read() + before.count_ones()) as usize
        }
    }

    /// With counters by rank, only of what is unreached.
    #[inline(always)]
    pub(crate) fn counter(self) -> u8 {
        // SAFETY: as above.
        unsafe { self.counter_address().read() }
    }

    #[inline(always)]
    pub(crate) fn set_counter(self, value: u8) {
        // SAFETY: as above.
        unsafe { self.counter_address().write(value) }
    }

    /// Where its counter is.
    #[inline(always)]
    pub(crate) fn counter_address(self) -> *mut u8 {
        self.part.counters.wrapping_add(self.counter_index())
    }

    /// The OS page that its counter lies on, in its table.
    #[inline(always)]
    pub(crate) fn counter_page(self) -> usize {
        self.counter_index() / (PAGE_BYTES / size_of::<u8>())
    }

    /// In the order of the sweep.
    #[inline(always)]
    pub(crate) fn position(self) -> usize {
        self.part.position(self.granule)
    }
}

/// Both parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space<'a> {
    base: *mut u8,
    bytes: usize,
    inside: Part,
    outside: Outside<'a>,
}

impl<'a> Space<'a> {
    /// `inside` holds the tables for `bytes` from `base` on.
    pub(crate) fn new(base: *mut u8, bytes: usize, inside: Part, outside: Outside<'a>) -> Space<'a> {
        Space { base, bytes, inside, outside }
    }

    /// See [`Part::rank`].
    ///
    /// # Safety
    /// `ranks` has an entry for each word of `unreached`.
    pub(crate) unsafe fn rank(&mut self, ranks: *mut u32) {
        // SAFETY: by the caller's word; there is a counter for each 32 bytes of the range, and so for each object in it.
        unsafe { self.inside.rank(ranks) };
    }

    pub(crate) fn set_outside(&mut self, outside: Outside<'a>) {
        self.outside = outside;
    }

    /// In the order of the sweep.
    pub(crate) fn parts(&self) -> [&Part; 2] {
        [&self.outside.part, &self.inside]
    }

    #[inline(always)]
    pub(crate) fn place(&self, address: *const u8) -> Option<Place<'_>> {
        let offset = address.addr().wrapping_sub(self.base.addr());
        if offset < self.bytes {
            Some(Place { part: &self.inside, granule: offset / GRANULE_BYTES })
        } else {
            self.outside.place(address)
        }
    }

    /// What looks at single objects of the heap's range.
    pub(crate) fn inside(&self) -> Inside {
        Inside { base: self.base, bytes: self.bytes, unreached: self.inside.unreached, grain: self.inside.grain }
    }

    /// Memory that the inside tables take, with so many pages of counters used.
    pub(crate) fn scratch_bytes(&self, counter_pages: usize) -> usize {
        /// Words of bits on a page of memory, which is taken as a whole.
        const PAGE_WORDS: usize = PAGE_BYTES / size_of::<u64>();
        let part = &self.inside;
        let mut pages = 0;
        for first in part.words().step_by(PAGE_WORDS) {
            let page = first..part.end_word.min(first + PAGE_WORDS);
            // SAFETY: within the tables.
            pages += usize::from(page.into_iter().any(|word| unsafe { part.candidates_word(word) != 0 }));
        }
        let unreached_pages = (pages * part.grain.in_word()).div_ceil(64);
        // A rank takes half as much as a word.
        let rank_pages = if part.ranks.is_null() { 0 } else { unreached_pages.div_ceil(2) };
        (pages + unreached_pages + rank_pages + counter_pages) * PAGE_BYTES
    }

    /// Make a candidate of the object at `address`; false if there is no table for it.
    #[inline(always)]
    pub(crate) fn add(&mut self, address: *const u8) -> bool {
        let offset = address.addr().wrapping_sub(self.base.addr());
        let (candidates, granule) = if offset < self.bytes {
            let granule = offset / GRANULE_BYTES;
            let word = granule / WORD_GRANULES;
            self.inside.first_word = self.inside.first_word.min(word);
            self.inside.end_word = self.inside.end_word.max(word + 1);
            (self.inside.candidates, granule)
        } else {
            let Some(place) = self.outside.place(address) else { return false };
            (self.outside.part.candidates, place.granule)
        };
        // SAFETY: granules lie in their part; one thread uses the tables.
        unsafe { *candidates.add(granule / WORD_GRANULES) |= 1 << (granule % WORD_GRANULES) };
        true
    }

    /// Make unreached candidates of all objects of these bits.
    #[inline]
    pub(crate) fn add_word_inside(&mut self, word: usize, bits: u64) {
        if bits != 0 {
            self.inside.first_word = self.inside.first_word.min(word);
            self.inside.end_word = self.inside.end_word.max(word + 1);
            // SAFETY: the bits are those of objects of the heap; one thread uses the tables.
            unsafe {
                *self.inside.candidates.add(word) |= bits;
                self.inside.add_unreached(word, bits);
            }
        }
    }

    /// The address of a granule.
    #[inline(always)]
    pub(crate) fn address(&self, part: &Part, granule: usize) -> *mut u8 {
        if part.first_position == INSIDE_POSITION {
            self.base.wrapping_add(granule * GRANULE_BYTES)
        } else {
            self.outside.address(granule)
        }
    }
}

/// The heap's range and its unreached objects, for those who look at many of them: small enough for registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside {
    base: *mut u8,
    bytes: usize,
    unreached: *mut u64,
    grain: Grain,
}

impl Inside {
    /// The granule that an address is, if it lies in the range.
    #[inline(always)]
    pub(crate) fn granule(self, address: *const u8) -> Option<usize> {
        let offset = address.addr().wrapping_sub(self.base.addr());
        (offset < self.bytes).then_some(offset / GRANULE_BYTES)
    }

    /// The word of bits that an object of the heap has its bit in, and the bit.
    #[inline(always)]
    pub(crate) fn bit(self, address: *const u8) -> (usize, u64) {
        let granule = address.addr().wrapping_sub(self.base.addr()) / GRANULE_BYTES;
        (granule / WORD_GRANULES, 1 << (granule % WORD_GRANULES))
    }

    #[inline(always)]
    pub(crate) fn address(self, granule: usize) -> *mut u8 {
        self.base.wrapping_add(granule * GRANULE_BYTES)
    }

    /// Ask for its bit.
    #[inline(always)]
    pub(crate) fn prefetch(self, granule: usize) {
        prefetch(self.unreached.wrapping_add(self.grain.of(granule) / 64));
    }

    /// Make it reached. Whether it was an unreached candidate. Takes no branch, and writes only what changes: tables for
    /// memory that has no candidate stay untouched.
    ///
    /// # Safety
    /// The granule lies in the range, and no other object of its grain is a candidate.
    #[inline(always)]
    pub(crate) unsafe fn take_unreached(self, granule: usize, nowhere: *mut u64) -> bool {
        // SAFETY: by the caller's word.
        unsafe {
            let grain = self.grain.of(granule);
            let (word, bit) = (self.unreached.add(grain / 64), 1 << (grain % 64));
            let bits = word.read();
            let was_unreached = bits & bit != 0;
            core::hint::select_unpredictable(was_unreached, word, nowhere).write(bits & !bit);
            was_unreached
        }
    }
}

/// A chunk of memory that is not the heap's and holds objects. `number` is its address / 1 MiB.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    number: usize,
    /// Its place among the chunks, from 1 on; 0 for an empty slot of the table.
    order: usize,
}

const _: () = assert!(size_of::<Chunk>() == 2 * size_of::<u64>());

/// Tables for objects that lie outside the heap's range, in memory of the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Outside<'a> {
    part: Part,
    /// Open addressing; a power of two of slots, half of them empty at least.
    slots: *const Chunk,
    mask: usize,
    /// The chunks' numbers, by their order.
    numbers: *const usize,
    memory: PhantomData<&'a mut [u64]>,
}

impl<'a> Outside<'a> {
    /// There are no such objects.
    pub const NONE: Outside<'a> = Outside {
        part: Part::EMPTY,
        slots: core::ptr::null(),
        mask: 0,
        numbers: core::ptr::null(),
        memory: PhantomData,
    };

    /// The number of the chunk that an address lies in.
    #[inline]
    pub fn chunk_of(address: *const u8) -> usize {
        address.addr() / CHUNK_BYTES
    }

    fn slots_for(chunks: usize) -> usize {
        (2 * chunks).next_power_of_two()
    }

    /// Words of zeroed memory that tables for so many chunks need: 45 KiB a chunk, touched where objects are.
    pub fn words_for(chunks: usize) -> usize {
        2 * Self::slots_for(chunks) + chunks * (1 + CHUNK_WORDS + CHUNK_GRAINS / 64 + CHUNK_GRAINS / COUNTERS_A_WORD)
    }

    /// Tables for these chunks, which are distinct.
    ///
    /// # Panics
    /// If the memory is shorter than [`words_for`](Outside::words_for) says.
    pub fn new(chunks: &[usize], memory: &'a mut [u64]) -> Outside<'a> {
        if chunks.is_empty() {
            return Outside::NONE;
        }
        assert!(memory.len() >= Self::words_for(chunks.len()), "tables too short");
        debug_assert!(memory.iter().take(4096).all(|word| *word == 0));
        let words = chunks.len() * CHUNK_WORDS;
        let slots = Self::slots_for(chunks.len());
        let start = memory.as_mut_ptr();
        // SAFETY: one after the other, all within `words_for`.
        let (numbers, candidates, unreached, counters) = unsafe {
            let numbers = start.add(2 * slots);
            let candidates = numbers.add(chunks.len());
            let unreached = candidates.add(words);
            (numbers, candidates, unreached, unreached.add(chunks.len() * CHUNK_GRAINS / 64))
        };
        let part = Part { candidates, unreached, counters: counters.cast(), end_word: words, ..Part::EMPTY };
        let table: *mut Chunk = start.cast();
        for (i, number) in chunks.iter().enumerate() {
            let mut slot = Self::hash(*number) & (slots - 1);
            // SAFETY: slots and numbers lie in the memory; words are plain, zeros are empty slots, half of them stay so.
            unsafe {
                while (*table.add(slot)).order != 0 {
                    slot = (slot + 1) & (slots - 1);
                }
                table.add(slot).write(Chunk { number: *number, order: i + 1 });
                numbers.cast::<usize>().add(i).write(*number);
            }
        }
        Outside { part, slots: table, mask: slots - 1, numbers: numbers.cast(), memory: PhantomData }
    }

    #[inline(always)]
    fn hash(number: usize) -> usize {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
    }

    #[inline]
    fn place(&self, address: *const u8) -> Option<Place<'_>> {
        if self.slots.is_null() {
            return None;
        }
        let number = Self::chunk_of(address);
        let mut slot = Self::hash(number) & self.mask;
        loop {
            // SAFETY: the mask keeps slots in the table.
            let chunk = unsafe { self.slots.add(slot).read() };
            if chunk.order == 0 {
                return None;
            }
            if chunk.number == number {
                let granule =
                    (chunk.order - 1) * (CHUNK_BYTES / GRANULE_BYTES) + address.addr() % CHUNK_BYTES / GRANULE_BYTES;
                return Some(Place { part: &self.part, granule });
            }
            slot = (slot + 1) & self.mask;
        }
    }

    fn address(&self, granule: usize) -> *mut u8 {
        const CHUNK_GRANULES: usize = CHUNK_BYTES / GRANULE_BYTES;
        // SAFETY: each granule lies in a chunk of the list.
        let number = unsafe { self.numbers.add(granule / CHUNK_GRANULES).read() };
        // Whoever named the object knows its memory; it was made by somebody else's allocator.
        core::ptr::with_exposed_provenance_mut(number * CHUNK_BYTES + granule % CHUNK_GRANULES * GRANULE_BYTES)
    }
}

/// How far ahead of a sweep over the heap objects are asked for: the processor's own guess comes too late beside so many other requests.
pub(crate) const SWEEP_AHEAD_BYTES: usize = 1536;

/// Ask for the line at `address` ahead of its use.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address will do.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
