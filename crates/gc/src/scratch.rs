//! All memory that the passes write: tables beside the heap's range, which cost address space until used.
//!
//! ```text
//! candidates              a bit for each 16 of heap     0.78 % of the heap   index (address − base) >> 4; see space.rs
//! unreached               a bit for each grain          0.39 %               index (address − base) >> 5; or >> 6 or 7, if a
//!                                                                            search's candidates are as far apart: grain.rs
//! ranks                   4 bytes for each 2048         0.20 %               if counters go by rank
//! counters                a byte for each grain         3.13 %, where used   index as of unreached
//! stack                   8 bytes for each 512 of heap  1.56 % at most       what waits to be traced; before that, large counts
//! list                    8 bytes for each candidate of a young collection, or each piece of trash
//! ```
//!
//! A full collection that finds no trash thus takes at most 6.1 % of the heap, and gives it back. No two candidates share a
//! grain: these begin at least 32 bytes apart, and where objects begin with their blocks, as far apart as the smallest is long.
//!
//! Invariant: outside a collection every counter is 0.

use heapkeeper_heap::{Range, SLOT_BYTES, SideTable};

use crate::grain::Grain;
use crate::model::MIN_OBJECT_BYTES;
use crate::space::{GRANULE_BYTES, Outside, Part, Space, WORD_BYTES};

const CANDIDATE_BYTES_PER_SLOT: usize = SLOT_BYTES / GRANULE_BYTES / 8; // 128
const UNREACHED_BYTES_PER_SLOT: usize = SLOT_BYTES / MIN_OBJECT_BYTES / 8; // 64
const RANK_BYTES_PER_SLOT: usize = UNREACHED_BYTES_PER_SLOT / size_of::<u64>() * size_of::<u32>(); // 32
const COUNTERS_PER_SLOT: usize = SLOT_BYTES / MIN_OBJECT_BYTES; // 512
const COUNTER_BYTES_PER_SLOT: usize = COUNTERS_PER_SLOT * size_of::<u8>(); // 1024
const STACK_BYTES_PER_SLOT: usize = SLOT_BYTES / 512 * size_of::<*mut u8>(); // 256
const LIST_BYTES_PER_SLOT: usize = COUNTERS_PER_SLOT * size_of::<*mut u8>(); // 4096

/// Entries of the stack for however small a heap.
const STACK_LEAST: usize = 4096;

/// Searches over dense heaps from this size on ask for huge pages: 256 MiB, whose counters take 8 MiB.
const HUGE_FROM_BYTES: usize = 256 << 20;

/// Tables up to this size stay committed for the next collection.
const KEPT_BYTES: usize = 64 << 10;

/// The tables themselves.
#[derive(Debug)]
pub struct Tables {
    range: &'static Range,
    candidates: SideTable,
    unreached: SideTable,
    ranks: SideTable,
    counters: SideTable,
    stack: SideTable,
    /// Not for a search alone.
    list: Option<SideTable>,
    /// Bytes of the range whose tables ask for huge pages.
    huge_reach: usize,
}

impl Tables {
    /// Tables for searches beside `range`. `None` if there is no address space for them (1/10 of what is mapped of it).
    pub fn reserve(range: &'static Range) -> Option<Tables> {
        Some(Tables {
            range,
            candidates: SideTable::reserve(range, CANDIDATE_BYTES_PER_SLOT)?,
            unreached: SideTable::reserve(range, UNREACHED_BYTES_PER_SLOT)?,
            ranks: SideTable::reserve(range, RANK_BYTES_PER_SLOT)?,
            counters: SideTable::reserve(range, COUNTER_BYTES_PER_SLOT)?,
            stack: SideTable::reserve(range, STACK_BYTES_PER_SLOT)?,
            list: None,
            huge_reach: 0,
        })
    }

    /// The same, for a whole collector (3/8 of what is mapped of the range).
    pub(crate) fn reserve_all(range: &'static Range) -> Option<Tables> {
        let list = SideTable::reserve(range, LIST_BYTES_PER_SLOT)?;
        Some(Tables { list: Some(list), ..Tables::reserve(range)? })
    }

    /// Where the tables lie and how long they are now: they grow with the range.
    pub(crate) fn scratch(&self) -> Scratch {
        let bounds = self.range.bounds();
        let slots = bounds.len() / SLOT_BYTES;
        let list = |table: &SideTable| List {
            start: table.start().cast(),
            capacity: slots * table.bytes_per_slot() / size_of::<*mut u8>(),
        };
        Scratch {
            base: self.range.start(),
            bytes: bounds.len(),
            candidates: self.candidates.start().cast(),
            unreached: self.unreached.start().cast(),
            ranks: self.ranks.start().cast(),
            counters: Counters {
                table: self.counters.start().cast(),
                base: bounds.start,
                bytes: bounds.len(),
                shift: Grain::LEAST.bytes().ilog2(),
            },
            stack: list(&self.stack),
            list: self.list.as_ref().map_or(List { start: core::ptr::null_mut(), capacity: 0 }, list),
        }
    }

    /// A search over a heap that holds so many bytes begins. It looks into the tables at random, and those of a large heap are
    /// more than the processor keeps addresses of small pages for. A heap that is scattered over its range uses little of
    /// them here and there, which huge pages would make much of.
    pub(crate) fn expect(&mut self, held_bytes: usize) {
        let reach = self.range.bounds().len();
        let wanted = held_bytes >= HUGE_FROM_BYTES && held_bytes >= reach / 2;
        // Where the range has grown, the tables have as well.
        if wanted != (self.huge_reach > 0) || wanted && reach > self.huge_reach {
            self.huge_reach = if wanted { reach } else { 0 };
            [&mut self.candidates, &mut self.unreached, &mut self.counters]
                .into_iter()
                .for_each(|table| table.prefer_huge_pages(wanted));
        }
    }

    /// Zero the bits and give their memory back.
    pub(crate) fn clear_bits(&mut self) {
        self.candidates.clear();
        self.unreached.clear();
        self.ranks.clear();
    }

    /// Zero all counters and give their memory back.
    pub(crate) fn clear_counters(&mut self) {
        self.counters.clear();
    }

    /// Give the memory of the stack and the list back, where it is worth a call.
    pub(crate) fn give_back(&mut self, stack_entries: usize, list_entries: usize) {
        if stack_entries * size_of::<*mut u8>() > KEPT_BYTES {
            self.stack.clear();
        }
        if list_entries * size_of::<*mut u8>() > KEPT_BYTES
            && let Some(list) = &mut self.list
        {
            list.clear();
        }
    }
}

/// Where the tables lie. A copy is good for one collection: blocks that are made meanwhile may lie beyond its end, and have
/// the counter 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scratch {
    base: *mut u8,
    bytes: usize,
    candidates: *mut u64,
    unreached: *mut u64,
    pub(crate) ranks: *mut u32,
    pub(crate) counters: Counters,
    pub(crate) stack: List,
    pub(crate) list: List,
}

impl Scratch {
    /// The same tables for a search whose candidates are as far apart as this.
    pub(crate) fn with_grain(self, grain: Grain) -> Scratch {
        Scratch { counters: Counters { shift: grain.bytes().ilog2(), ..self.counters }, ..self }
    }

    /// The range's tables, beside those for objects elsewhere.
    pub(crate) fn space<'a>(&self, outside: Outside<'a>) -> Space<'a> {
        let grain = Grain::for_objects_apart(1 << self.counters.shift);
        let inside = Part::inside(self.candidates, self.unreached, self.counters.table, grain);
        Space::new(self.base, self.bytes, inside, outside)
    }

    /// The stack for a heap that holds so many bytes: an entry for each 512 of them.
    pub(crate) fn stack_for(&self, held_bytes: usize) -> List {
        let capacity = (held_bytes / 512).max(STACK_LEAST).min(self.stack.capacity);
        List { start: self.stack.start, capacity }
    }
}

/// A counter's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CounterIndex(usize);

/// A counter for each object: a byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    table: *mut u8,
    /// First address of the range, and its length.
    base: usize,
    bytes: usize,
    /// Bytes that a counter stands for, as a power of two.
    shift: u32,
}

impl Counters {
    /// The counter of the object at `address`; `None` outside the range.
    #[inline(always)]
    pub(crate) fn index(&self, address: *const u8) -> Option<CounterIndex> {
        let offset = address.addr().wrapping_sub(self.base);
        (offset < self.bytes).then_some(CounterIndex(offset >> self.shift))
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: CounterIndex) -> u8 {
        // SAFETY: indices come from `index`, hence lie in the table; one thread uses it.
        unsafe { self.table.add(index.0).read() }
    }

    #[inline(always)]
    pub(crate) fn set(&self, index: CounterIndex, value: u8) {
        // SAFETY: as for `get`.
        unsafe { self.table.add(index.0).write(value) }
    }

    /// Where the counter of an object of the heap is.
    #[inline(always)]
    pub(crate) fn address(&self, object: *const u8) -> *mut u8 {
        self.table.wrapping_add(object.addr().wrapping_sub(self.base) >> self.shift)
    }

    /// The first counter of the objects that a word of bits stands for.
    pub(crate) fn address_of_word(&self, word: usize) -> *mut u8 {
        self.table.wrapping_add((word * WORD_BYTES) >> self.shift)
    }

    /// The counter's value, 0 for addresses outside the range.
    #[inline]
    pub(crate) fn of(&self, address: *const u8) -> u8 {
        self.index(address).map_or(0, |index| self.get(index))
    }

    /// Set the counter of an object of the heap.
    #[inline]
    pub(crate) fn put(&self, address: *const u8, value: u8) {
        if let Some(index) = self.index(address) {
            self.set(index, value);
        }
    }
}

/// A table of addresses. Whoever uses it keeps the length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    start: *mut *mut u8,
    pub(crate) capacity: usize,
}

impl List {
    /// A table in this memory, for as long as its borrow.
    pub(crate) fn over(memory: &mut [u64]) -> List {
        List { start: memory.as_mut_ptr().cast(), capacity: memory.len() }
    }

    #[inline]
    pub(crate) fn get(&self, i: usize) -> *mut u8 {
        debug_assert!(i < self.capacity);
        // SAFETY: entries below `capacity` lie in the table; fresh ones read as null.
        unsafe { self.start.add(i).read() }
    }

    /// # Panics
    /// If `i` is not below `capacity`: a model that names an object twice could get there.
    #[inline]
    pub(crate) fn set(&self, i: usize, address: *mut u8) {
        assert!(i < self.capacity, "more objects than the heap has room for");
        // SAFETY: entries below `capacity` lie in the table.
        unsafe { self.start.add(i).write(address) }
    }

    /// As [`set`](List::set).
    ///
    /// # Safety
    /// `i` is below `capacity`.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, i: usize, address: *mut u8) {
        debug_assert!(i < self.capacity);
        // SAFETY: by the caller's word.
        unsafe { self.start.add(i).write(address) }
    }

    /// Sort these entries by address.
    pub(crate) fn sort(&self, entries: core::ops::Range<usize>) {
        assert!(entries.start <= entries.end && entries.end <= self.capacity);
        // SAFETY: the first `capacity` entries are valid addresses or null, and nobody else looks at them meanwhile.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(entries.start), entries.len()) }.sort_unstable();
    }

    /// Keep those of the first `length` entries that `keep` wants, in their order. Returns how many.
    pub(crate) fn retain(&self, length: usize, mut keep: impl FnMut(*mut u8) -> bool) -> usize {
        let mut kept = 0;
        for i in 0..length {
            let address = self.get(i);
            if keep(address) {
                self.set(kept, address);
                kept += 1;
            }
        }
        kept
    }
}
