//! Which objects are in generation 0 and 1: a bit for each 16 bytes of heap, in tables beside it, and the slots that have any.
//!
//! ```text
//! bits[g]    128 bytes a slot: bit (address − base) / 16     set ⇔ a tracked object of generation g starts there
//! flags      1 byte a slot: bit g                            set ⇔ the slot is in slots[g]
//! ```
//! So a young collection takes time in proportion to the young objects and the slots they lie in, objects need no links, and
//! freeing one clears a bit.
//!
//! Blocks start at multiples of 16, and not all at multiples of 32, so that fewer bits would not tell where.
//!
//! Invariant: a set bit ⇒ its slot is in `slots[g]`. Called for each tracked object made and freed.

use heapkeeper_heap::{Range, SLOT_BYTES, SideTable};

/// Bytes of heap that a bit stands for: the alignment of blocks.
const BIT_BYTES: usize = 16;
/// Bytes of heap that a word of bits stands for.
const WORD_BYTES: usize = u64::BITS as usize * BIT_BYTES; // 1024
const WORDS_PER_SLOT: usize = SLOT_BYTES / WORD_BYTES; // 16

/// Generations with bits: 0 and 1.
pub(crate) const GENERATIONS: usize = 2;

/// The hot fields stand first.
#[repr(C)]
pub(crate) struct Recent {
    base: *mut u8,
    bits: [*mut u64; GENERATIONS],
    flags: *mut u8,
    slots: [Vec<u32>; GENERATIONS],
    /// Keep the memory that the pointers above lead to.
    _tables: [SideTable; GENERATIONS + 1],
}

impl Recent {
    /// `None` if there is no address space.
    pub(crate) fn new(range: &'static Range) -> Option<Recent> {
        let bits = || SideTable::reserve(range, WORDS_PER_SLOT * size_of::<u64>());
        let tables = [bits()?, bits()?, SideTable::reserve(range, 1)?];
        Some(Recent {
            base: range.start(),
            bits: [tables[0].start().cast(), tables[1].start().cast()],
            flags: tables[2].start(),
            slots: [Vec::new(), Vec::new()],
            _tables: tables,
        })
    }

    /// The object at `address`, a block of the range, is in generation `G` from now on.
    #[inline(always)]
    pub(crate) fn insert<const G: usize>(&mut self, address: *const u8) {
        let offset = address.addr().wrapping_sub(self.base.addr());
        let slot = offset / SLOT_BYTES;
        // SAFETY: the tables have entries for every slot of the range that was ever handed out, and are this heap's.
        unsafe {
            if *self.flags.add(slot) & (1 << G) == 0 {
                self.flag_slow(slot, G);
            }
            *self.bits[G].add(offset / WORD_BYTES) |= bit(offset);
        }
    }

    /// The object at `address` leaves generation `generation`, 0 or 1.
    #[inline(always)]
    pub(crate) fn remove(&mut self, address: *const u8, generation: usize) {
        let offset = address.addr().wrapping_sub(self.base.addr());
        // SAFETY: as for `insert`.
        unsafe { *self.bits[generation].add(offset / WORD_BYTES) &= !bit(offset) };
    }

    #[cold]
    #[inline(never)]
    fn flag_slow(&mut self, slot: usize, generation: usize) {
        // SAFETY: as for `insert`.
        unsafe { *self.flags.add(slot) |= 1 << generation };
        self.slots[generation].push(slot as u32);
    }

    /// Call `visit` with the address of each object of generations up to `oldest`, 0 or 1, in address order: for that, the
    /// slots are sorted first.
    pub(crate) fn visit(&mut self, oldest: usize, mut visit: impl FnMut(*mut u8)) {
        self.slots[..=oldest].iter_mut().for_each(|slots| slots.sort_unstable());
        let (bits, base) = (self.bits, self.base);
        let mut visit_slot = |slot: u32| {
            let first = slot as usize * WORDS_PER_SLOT;
            for word in first..first + WORDS_PER_SLOT {
                // SAFETY: as for `insert`. No object is in both generations.
                let mut left = unsafe { bits[..=oldest].iter().fold(0, |all, bits| all | *bits.add(word)) };
                while left != 0 {
                    let offset = word * WORD_BYTES + left.trailing_zeros() as usize * BIT_BYTES;
                    visit(base.wrapping_add(offset));
                    left &= left - 1;
                }
            }
        };
        if oldest == 0 {
            return self.slots[0].iter().for_each(|slot| visit_slot(*slot));
        }
        let (mut young, mut middle) = (self.slots[0].iter().peekable(), self.slots[1].iter().peekable());
        while let Some(slot) = young.peek().into_iter().chain(middle.peek()).min() {
            let slot = **slot;
            young.next_if(|next| **next == slot);
            middle.next_if(|next| **next == slot);
            visit_slot(slot);
        }
    }

    /// Forget slots without objects of these generations.
    pub(crate) fn prune(&mut self, generations: core::ops::RangeInclusive<usize>) {
        for generation in generations {
            let (bits, flags) = (self.bits[generation], self.flags);
            self.slots[generation].retain(|slot| {
                let slot = *slot as usize;
                // SAFETY: as for `insert`.
                unsafe {
                    let any = (0..WORDS_PER_SLOT).any(|word| *bits.add(slot * WORDS_PER_SLOT + word) != 0);
                    if !any {
                        *flags.add(slot) &= !(1 << generation);
                    }
                    any
                }
            });
        }
    }

    /// Whether the bit of this object's generation, and no other, is set.
    pub(crate) fn is_valid(&self, address: *const u8, generation: Option<usize>) -> bool {
        let offset = address.addr().wrapping_sub(self.base.addr());
        (0..GENERATIONS).all(|g| {
            // SAFETY: as for `insert`.
            let (word, flags) =
                unsafe { (*self.bits[g].add(offset / WORD_BYTES), *self.flags.add(offset / SLOT_BYTES)) };
            let is_set = word & bit(offset) != 0;
            is_set == (generation == Some(g)) && (!is_set || flags & 1 << g != 0)
        })
    }

    /// How many objects have a bit.
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
