//! Which objects of generation 0 and 1 are suspects: a bit for each 16 bytes of heap, in tables beside it, and the slots that
//! have any.
//!
//! ```text
//! bits[g]    128 bytes a slot: bit (address − base) / 16     set ⇔ a suspect of generation g starts there
//! flags      1 byte a slot: bit g                            set ⇔ the slot is in slots[g]
//! ```
//! So a young collection takes time in proportion to the suspects, what they lead to among the young, and the slots they lie
//! in; an object that never becomes a suspect costs nothing here.
//!
//! Blocks start at multiples of 16, and not all at multiples of 32, so that fewer bits would not tell where.
//!
//! Invariant: a set bit ⇒ its slot is in `slots[g]`. Called when an object becomes a suspect, when such a one is freed, and by
//! collections.

use heapkeeper_gc::Generation;
use heapkeeper_heap::{Range, SLOT_BYTES, SideTable};

/// Bytes of heap that a bit stands for: the alignment of blocks.
const BIT_BYTES: usize = 16;
/// Bytes of heap that a word of bits stands for.
const WORD_BYTES: usize = u64::BITS as usize * BIT_BYTES; // 1024
const WORDS_PER_SLOT: usize = SLOT_BYTES / WORD_BYTES; // 16

/// Generations with bits: 0 and 1.
const GENERATIONS: usize = 2;

pub(crate) struct Suspects {
    base: *mut u8,
    bits: [*mut u64; GENERATIONS],
    flags: *mut u8,
    slots: [Vec<u32>; GENERATIONS],
    /// Keep the memory that the pointers above lead to.
    _tables: [SideTable; GENERATIONS + 1],
}

impl Suspects {
    /// `None` if there is no address space.
    pub(crate) fn new(range: &'static Range) -> Option<Suspects> {
        let bits = || SideTable::reserve(range, WORDS_PER_SLOT * size_of::<u64>());
        let tables = [bits()?, bits()?, SideTable::reserve(range, 1)?];
        Some(Suspects {
            base: range.start(),
            bits: [tables[0].start().cast(), tables[1].start().cast()],
            flags: tables[2].start(),
            slots: [Vec::new(), Vec::new()],
            _tables: tables,
        })
    }

    /// Whether suspects of this generation have bits.
    #[inline(always)]
    pub(crate) fn has(generation: Generation) -> bool {
        generation.index() < GENERATIONS
    }

    #[inline(always)]
    fn offset(&self, address: *const u8) -> usize {
        address.addr().wrapping_sub(self.base.addr())
    }

    /// The object at `address`, a block of the range, is a suspect of a generation that [has](Suspects::has) bits.
    pub(crate) fn insert(&mut self, address: *const u8, generation: Generation) {
        let (offset, generation) = (self.offset(address), generation.index());
        // SAFETY: the tables have entries for every slot of the range that was ever handed out, and are this heap's.
        unsafe { *self.bits[generation].add(offset / WORD_BYTES) |= bit(offset) };
        self.list(offset / SLOT_BYTES, generation);
    }

    /// A suspect of such a generation is none any more.
    #[inline(always)]
    pub(crate) fn remove(&mut self, address: *const u8, generation: Generation) {
        let offset = self.offset(address);
        // SAFETY: as for `insert`.
        unsafe { *self.bits[generation.index()].add(offset / WORD_BYTES) &= !bit(offset) };
    }

    fn list(&mut self, slot: usize, generation: usize) {
        // SAFETY: as for `insert`.
        let flags = unsafe { &mut *self.flags.add(slot) };
        if *flags & 1 << generation == 0 {
            *flags |= 1 << generation;
            self.slots[generation].push(slot as u32);
        }
    }

    /// The words of bits of a slot, of generations up to `oldest`.
    fn words(&self, slot: u32, oldest: usize) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.bits;
        let first = slot as usize * WORDS_PER_SLOT;
        (first..first + WORDS_PER_SLOT).map(move |word| {
            // SAFETY: as for `insert`. No object is in both generations.
            (word, unsafe { bits[..=oldest].iter().fold(0, |all, bits| all | *bits.add(word)) })
        })
    }

    /// Whether there are suspects of generations up to `oldest`, 0 or 1.
    pub(crate) fn any(&self, oldest: usize) -> bool {
        let mut slots = self.slots[..=oldest].iter().flatten();
        slots.any(|slot| self.words(*slot, oldest).any(|(_, bits)| bits != 0))
    }

    /// Call `visit` with the address of each suspect of generations up to `oldest`, 0 or 1, in address order: for that, the
    /// slots are sorted first.
    pub(crate) fn visit(&mut self, oldest: usize, mut visit: impl FnMut(*mut u8)) {
        self.slots[..=oldest].iter_mut().for_each(|slots| slots.sort_unstable());
        let visit_slot = |slot: u32, visit: &mut dyn FnMut(*mut u8)| {
            for (word, mut left) in self.words(slot, oldest) {
                while left != 0 {
                    let offset = word * WORD_BYTES + left.trailing_zeros() as usize * BIT_BYTES;
                    visit(self.base.wrapping_add(offset));
                    left &= left - 1;
                }
            }
        };
        if oldest == 0 {
            return self.slots[0].iter().for_each(|slot| visit_slot(*slot, &mut visit));
        }
        let (mut young, mut middle) = (self.slots[0].iter().peekable(), self.slots[1].iter().peekable());
        while let Some(slot) = young.peek().into_iter().chain(middle.peek()).min() {
            let slot = **slot;
            young.next_if(|next| **next == slot);
            middle.next_if(|next| **next == slot);
            visit_slot(slot, &mut visit);
        }
    }

    /// All objects of generations up to `oldest` are in the next one.
    pub(crate) fn promote(&mut self, oldest: Generation) {
        for generation in 0..=oldest.index().min(GENERATIONS - 1) {
            let mut slots = core::mem::take(&mut self.slots[generation]);
            for slot in slots.drain(..) {
                for (word, bits) in self.words(slot, generation) {
                    // SAFETY: as for `insert`.
                    unsafe {
                        *self.bits[generation].add(word) = 0;
                        if oldest == Generation::Young && bits != 0 {
                            *self.bits[1].add(word) |= bits;
                            self.list(slot as usize, 1);
                        }
                    }
                }
                // SAFETY: as for `insert`.
                unsafe { *self.flags.add(slot as usize) &= !(1 << generation) };
            }
            // Its room, for the next ones.
            self.slots[generation] = slots;
        }
    }

    /// Whether the bit of this generation, and no other, is set; with `None`, none at all.
    pub(crate) fn is_valid(&self, address: *const u8, generation: Option<Generation>) -> bool {
        let offset = self.offset(address);
        (0..GENERATIONS).all(|g| {
            // SAFETY: as for `insert`.
            let (word, flags) =
                unsafe { (*self.bits[g].add(offset / WORD_BYTES), *self.flags.add(offset / SLOT_BYTES)) };
            let is_set = word & bit(offset) != 0;
            is_set == generation.is_some_and(|generation| generation.index() == g) && (!is_set || flags & 1 << g != 0)
        })
    }

    /// How many there are.
    pub(crate) fn len(&mut self) -> usize {
        let mut found = 0;
        self.visit(GENERATIONS - 1, |_| found += 1);
        found
    }
}

#[inline(always)]
fn bit(offset: usize) -> u64 {
    1 << (offset / BIT_BYTES % u64::BITS as usize)
}
