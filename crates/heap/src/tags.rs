//! Tags: a number beside each live block, and with it the bytes that were asked for.
//!
//! ```text
//! small blocks   record of the slot (8 B) → chunk: 4 B a block     tag (24 bits) | slack (8 bits)
//! larger, spans  8 B for each 512 bytes of the slot                tag (24 bits) | slack (40 bits)
//! ```
//! The slack is what the block has beyond the request, so a tag tells the request to the byte. A chunk has entries for the
//! blocks of one pool and is found through its slot, so that the table is as dense as the blocks are: 8 % of blocks of 48 bytes.
//! A slot keeps its chunk until a pool of another class is tagged there, or until so many fresh chunks were made that it is time
//! to look for those whose pools are gone; then the chunk goes to its class's list.
//!
//! Whoever may use a heap may tag its blocks; tagging takes a lock only where a slot needs a chunk.
//!
//! Invariants: an entry is 0 unless its block is live and tagged; chunks in lists hold nothing but the link.

use core::cell::UnsafeCell;
use core::ptr;

use crate::lock::Lock;
use crate::range::Range;
use crate::side::SideTable;
use crate::size::{BLOCK_ALIGN, SLOT_BYTES, SLOT_SHIFT, SLOTS_PER_ARENA, SMALL_MAX_BYTES, SizeClass};

/// The largest tag: 24 bits.
pub const MAX_TAG: u32 = (1 << 24) - 1;

const SMALL_CLASSES: usize = SMALL_MAX_BYTES / BLOCK_ALIGN;
const SMALL_SLACK_BITS: u32 = 8;
const LARGE_SLACK_BITS: u32 = 40;

/// Larger blocks start at least this far from each other.
const LARGE_STEP_SHIFT: u32 = 9;
const LARGE_ENTRIES: usize = SLOT_BYTES >> LARGE_STEP_SHIFT;

/// Chunks begin at multiples of this: a cache line.
const CHUNK_ALIGN: usize = 64;
/// Bytes of chunks for each slot: those of the smallest blocks.
const CHUNK_BYTES_PER_SLOT: usize = SLOT_BYTES / BLOCK_ALIGN * size_of::<u32>();

/// At least so many bytes of fresh chunks lie between two looks for chunks that are not needed.
const SWEEP_STEP_BYTES: usize = 1 << 20;

/// A tagged block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tagged {
    /// Its tag, above 0.
    pub tag: u32,
    /// The bytes that were asked for.
    pub bytes: usize,
}

/// The tags of all blocks of a range.
#[derive(Debug)]
pub struct Tags {
    range: &'static Range,
    records: SideTable,
    chunks: SideTable,
    larges: SideTable,
    lock: Lock,
    /// Under `lock`.
    free: UnsafeCell<FreeChunks>,
}

// SAFETY: `free` is used under the lock; entries and records are those of slots that one thread at a time may use.
unsafe impl Sync for Tags {}

/// Chunks that no slot has.
#[derive(Debug)]
struct FreeChunks {
    /// Beyond this offset no chunk was ever made.
    fresh_bytes: usize,
    /// When fresh chunks reach this, look for those that are not needed.
    sweep_at_bytes: usize,
    /// Of each class, the first chunk that was given back; each holds the address of the next.
    by_class: [*mut u32; SMALL_CLASSES],
}

// SAFETY: pointers into the chunks' own table.
unsafe impl Send for FreeChunks {}

impl Tags {
    /// Tags for the blocks of `range`, none so far. `None` if there is no address space, or the range has too many tables.
    pub fn reserve(range: &'static Range) -> Option<Tags> {
        Some(Tags {
            range,
            records: SideTable::reserve(range, size_of::<u64>())?,
            chunks: SideTable::reserve(range, CHUNK_BYTES_PER_SLOT)?,
            larges: SideTable::reserve(range, LARGE_ENTRIES * size_of::<u64>())?,
            lock: Lock::new(),
            free: UnsafeCell::new(FreeChunks {
                fresh_bytes: 0,
                sweep_at_bytes: SWEEP_STEP_BYTES,
                by_class: [ptr::null_mut(); SMALL_CLASSES],
            }),
        })
    }

    /// Tag a block that was allocated, or resized, for `bytes` bytes. False if there is no room for the tag.
    ///
    /// # Safety
    /// `block` is a live block of a heap in this range that the caller may use, without a tag; `0 < tag <= MAX_TAG`.
    #[inline(always)]
    pub unsafe fn set(&self, block: *mut u8, bytes: usize, tag: u32) -> bool {
        debug_assert!(tag > 0 && tag <= MAX_TAG);
        let slot = self.range.slot_of(block);
        // SAFETY: the block is live and the caller's, and so are the records of its slot.
        unsafe {
            let Some(class) = self.small_class(slot) else {
                return self.set_large(block, bytes, tag);
            };
            let record = *self.record(slot);
            let chunk = if record & 0xff == u64::from(class) + 1 {
                chunk_of(record)
            } else {
                match self.give_chunk(slot, class) {
                    Some(chunk) => chunk,
                    None => return false,
                }
            };
            let slack = block_bytes(class).wrapping_sub(bytes);
            debug_assert!(slack <= 0xff, "{bytes} bytes in a block of {}", block_bytes(class));
            *chunk.add(index_in(class, block)) = tag << SMALL_SLACK_BITS | (slack as u32 & 0xff);
        }
        true
    }

    /// Take the tag of a block that is about to be freed or resized. `None` if it has none.
    ///
    /// # Safety
    /// `block` is a live block of a heap that the caller may use, or lies in no arena of this range.
    #[inline(always)]
    pub unsafe fn take(&self, block: *mut u8) -> Option<Tagged> {
        let slot = block.addr().wrapping_sub(self.range.start().addr()) >> SLOT_SHIFT;
        if slot >= self.range.slots() {
            return None;
        }
        // SAFETY: as for `set`.
        unsafe {
            let Some(class) = self.small_class(slot) else {
                return self.take_large(block);
            };
            let record = *self.record(slot);
            if record & 0xff != u64::from(class) + 1 {
                return None;
            }
            let entry = chunk_of(record).add(index_in(class, block));
            let value = entry.read();
            if value == 0 {
                return None;
            }
            *entry = 0;
            Some(small(value, class))
        }
    }

    /// The tag of a live block; `None` if it has none.
    ///
    /// # Safety
    /// As for [`Tags::take`].
    pub unsafe fn get(&self, block: *const u8) -> Option<Tagged> {
        let block = block.cast_mut();
        // SAFETY: the caller's word; what is taken is put back.
        unsafe {
            let tagged = self.take(block)?;
            self.set(block, tagged.bytes, tagged.tag);
            Some(tagged)
        }
    }

    /// The start of the small block that contains `address`; `None` for anything else.
    ///
    /// # Safety
    /// `address` lies in a live block of a heap that the caller may use, or in no arena of this range.
    #[inline(always)]
    pub unsafe fn small_block(&self, address: *mut u8) -> Option<*mut u8> {
        let slot = address.addr().wrapping_sub(self.range.start().addr()) >> SLOT_SHIFT;
        if slot >= self.range.slots() {
            return None;
        }
        // SAFETY: by the caller's word.
        let class = unsafe { self.small_class(slot) }?;
        let start = self.range.start().addr() + (slot << SLOT_SHIFT);
        Some(address.with_addr(start + index_in(class, address) * block_bytes(class)))
    }

    /// Visit every tagged block, in address order of its slot: its address, and its tag. While others tag blocks of their
    /// heaps, theirs may be seen or not.
    pub fn visit(&self, mut visit: impl FnMut(usize, Tagged)) {
        for slot in 0..self.range.slots() {
            // SAFETY: the tables have entries for every slot; entries are aligned words that others write whole.
            unsafe { self.visit_slot(slot, &mut visit) };
        }
    }

    /// Bytes of the tables that tags may have touched, but for those of large blocks: a 64th of their memory.
    pub fn memory_bytes(&self) -> usize {
        // SAFETY: under the lock.
        let chunks = self.lock.with(|| unsafe { (*self.free.get()).fresh_bytes });
        chunks + self.range.slots() * size_of::<u64>()
    }

    /// Forget all tags and give their memory back.
    ///
    /// # Safety
    /// Nobody else uses these tags meanwhile.
    pub unsafe fn clear(&self) {
        for table in [&self.records, &self.chunks, &self.larges] {
            // SAFETY: the caller's word.
            unsafe { table.clear_shared() };
        }
        // SAFETY: as above.
        unsafe {
            *self.free.get() = FreeChunks {
                fresh_bytes: 0,
                sweep_at_bytes: SWEEP_STEP_BYTES,
                by_class: [ptr::null_mut(); SMALL_CLASSES],
            };
        }
    }

    /// Before a fork: take the lock, so that the child finds the lists whole.
    pub fn before_fork(&self) {
        self.lock.acquire();
    }

    /// After a fork, in the parent.
    pub fn after_fork_in_parent(&self) {
        self.lock.release();
    }

    /// After a fork, in the child: waiting threads did not come along.
    pub fn after_fork_in_child(&self) {
        self.lock.reset();
    }

    /// The class of the pool in `slot`, if its blocks are small: then the pool is this one slot.
    #[inline(always)]
    unsafe fn small_class(&self, slot: usize) -> Option<u8> {
        // SAFETY: the table has a descriptor for every slot. Only the first slot of a pool has an owner.
        unsafe {
            let pool = self.range.pool(slot);
            let class = (*pool).class;
            ((*pool).owner != 0 && usize::from(class) < SMALL_CLASSES).then_some(class)
        }
    }

    #[inline(always)]
    fn record(&self, slot: usize) -> *mut u64 {
        self.records.start().cast::<u64>().wrapping_add(slot)
    }

    fn large(&self, slot: usize) -> *mut u64 {
        self.larges.start().cast::<u64>().wrapping_add(slot * LARGE_ENTRIES)
    }

    #[inline(always)]
    fn large_entry(&self, block: *mut u8) -> *mut u64 {
        self.large(self.range.slot_of(block)).wrapping_add((block.addr() & (SLOT_BYTES - 1)) >> LARGE_STEP_SHIFT)
    }

    #[inline(never)]
    unsafe fn set_large(&self, block: *mut u8, bytes: usize, tag: u32) -> bool {
        let Some(place) = self.range.locate(block) else {
            return false;
        };
        let slack = (place.block_bytes - bytes) as u64;
        // SAFETY: the caller's word; there is an entry for each step of the slot.
        unsafe { *self.large_entry(block) = u64::from(tag) << LARGE_SLACK_BITS | slack };
        true
    }

    #[inline(never)]
    unsafe fn take_large(&self, block: *mut u8) -> Option<Tagged> {
        let entry = self.large_entry(block);
        // SAFETY: as above.
        unsafe {
            let value = *entry;
            if value == 0 {
                return None;
            }
            *entry = 0;
            self.large_tag(block.addr(), value)
        }
    }

    fn large_tag(&self, address: usize, value: u64) -> Option<Tagged> {
        let place = self.range.locate(ptr::without_provenance(address))?;
        let slack = (value & ((1 << LARGE_SLACK_BITS) - 1)) as usize;
        let bytes = place.block_bytes.checked_sub(slack)?;
        Some(Tagged { tag: (value >> LARGE_SLACK_BITS) as u32, bytes })
    }

    /// Visit the tagged blocks of a slot.
    ///
    /// # Safety
    /// `slot` is one of the range's.
    unsafe fn visit_slot(&self, slot: usize, mut visit: impl FnMut(usize, Tagged)) {
        let start = self.range.start().addr() + (slot << SLOT_SHIFT);
        // SAFETY: records lead to whole chunks; both tables have entries for the slot.
        unsafe {
            let record = *self.record(slot);
            if record != 0 {
                let class = (record & 0xff) as u8 - 1;
                let chunk = chunk_of(record);
                for index in 0..SLOT_BYTES / block_bytes(class) {
                    let value = *chunk.add(index);
                    if value != 0 {
                        visit(start + index * block_bytes(class), small(value, class));
                    }
                }
            }
            let entries = self.large(slot);
            for index in 0..LARGE_ENTRIES {
                let value = *entries.add(index);
                if value == 0 {
                    continue;
                }
                // A step may be in the middle of its block's first bytes: the block starts somewhere in it.
                let within = start + (index << LARGE_STEP_SHIFT);
                if let Some(address) = self.block_in_step(within)
                    && let Some(tagged) = self.large_tag(address, value)
                {
                    visit(address, tagged);
                }
            }
        }
    }

    /// The larger block that starts in the step at `within`.
    fn block_in_step(&self, within: usize) -> Option<usize> {
        let last = within + (1 << LARGE_STEP_SHIFT) - 1;
        let place = self.range.locate(ptr::without_provenance(last))?;
        (place.start >= within).then_some(place.start)
    }

    /// Take back the chunks of slots that have no pool of the chunk's class any more, in the arenas of the heap that has `slot`:
    /// those of others are not the caller's to look at.
    ///
    /// # Safety
    /// The caller may use that heap.
    unsafe fn sweep(&self, free: &mut FreeChunks, slot: usize) {
        // SAFETY: descriptors exist for every slot; those of this heap's slots are the caller's, and so are their records.
        unsafe {
            let heap = (*self.range.arena(slot / SLOTS_PER_ARENA)).owner;
            for arena in (0..self.range.arenas()).filter(|arena| (*self.range.arena(*arena)).owner == heap) {
                for slot in arena * SLOTS_PER_ARENA..(arena + 1) * SLOTS_PER_ARENA {
                    let record = *self.record(slot);
                    let class = self.small_class(slot).map_or(0, |class| u64::from(class) + 1);
                    if record != 0 && record & 0xff != class {
                        free.take_back(self.record(slot));
                    }
                }
            }
        }
    }

    /// Give a slot a chunk for blocks of `class`; the one it has goes to its own class's list.
    #[cold]
    unsafe fn give_chunk(&self, slot: usize, class: u8) -> Option<*mut u32> {
        self.lock.with(|| {
            // SAFETY: the lists are used under the lock; the slot's record is the caller's. Chunks given back hold no tags:
            // all blocks of their pool were freed.
            unsafe {
                let free = &mut *self.free.get();
                let record = self.record(slot);
                free.take_back(record);
                if free.by_class[usize::from(class)].is_null() && free.fresh_bytes >= free.sweep_at_bytes {
                    self.sweep(free, slot);
                    free.sweep_at_bytes = free.fresh_bytes + (free.fresh_bytes / 8).max(SWEEP_STEP_BYTES);
                }
                let listed = &mut free.by_class[usize::from(class)];
                let chunk = if listed.is_null() {
                    let bytes = (SLOT_BYTES / block_bytes(class) * size_of::<u32>()).next_multiple_of(CHUNK_ALIGN);
                    if free.fresh_bytes + bytes > self.range.slots() * CHUNK_BYTES_PER_SLOT {
                        return None;
                    }
                    let chunk = self.chunks.start().add(free.fresh_bytes).cast::<u32>();
                    free.fresh_bytes += bytes;
                    chunk
                } else {
                    let chunk = *listed;
                    let link = chunk.cast::<*mut u32>();
                    *listed = *link;
                    link.write(ptr::null_mut());
                    chunk
                };
                *record = (chunk.expose_provenance() as u64) << 8 | (u64::from(class) + 1);
                Some(chunk)
            }
        })
    }
}

impl FreeChunks {
    /// Take the chunk of a record, if it has one.
    ///
    /// # Safety
    /// The record is the caller's, and no block that the chunk is for is tagged.
    unsafe fn take_back(&mut self, record: *mut u64) {
        // SAFETY: by the caller's word.
        unsafe {
            if *record != 0 {
                let listed = &mut self.by_class[usize::from((*record & 0xff) as u8 - 1)];
                let chunk = chunk_of(*record);
                chunk.cast::<*mut u32>().write(*listed);
                *listed = chunk;
                *record = 0;
            }
        }
    }
}

#[inline(always)]
fn chunk_of(record: u64) -> *mut u32 {
    ptr::with_exposed_provenance_mut((record >> 8) as usize)
}

#[inline(always)]
fn block_bytes(class: u8) -> usize {
    (usize::from(class) + 1) * BLOCK_ALIGN
}

/// The block's place in its pool: a division by the block's size, done by multiplication.
#[inline(always)]
fn index_in(class: u8, block: *mut u8) -> usize {
    let granule = (block.addr() & (SLOT_BYTES - 1)) / BLOCK_ALIGN;
    (granule * RECIPROCALS[usize::from(class)] as usize) >> RECIPROCAL_BITS
}

fn small(value: u32, class: u8) -> Tagged {
    Tagged { tag: value >> SMALL_SLACK_BITS, bytes: block_bytes(class) - (value & 0xff) as usize }
}

const RECIPROCAL_BITS: u32 = 16;

const RECIPROCALS: [u32; SMALL_CLASSES] = {
    let mut table = [0; SMALL_CLASSES];
    let mut i = 0;
    while i < SMALL_CLASSES {
        table[i] = (1u32 << RECIPROCAL_BITS).div_ceil(i as u32 + 1);
        // As far as a slot goes, the product says what the division says.
        let mut granule = 0;
        while granule < SLOT_BYTES / BLOCK_ALIGN {
            assert!((granule * table[i] as usize) >> RECIPROCAL_BITS == granule / (i + 1));
            granule += 1;
        }
        i += 1;
    }
    table
};

const _: () = assert!(SizeClass::of_medium(SMALL_MAX_BYTES + 1).block_bytes() > 1 << LARGE_STEP_SHIFT);
