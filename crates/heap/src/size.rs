//! Sizes: the geometry of the heap and the map from a request to its size class.
//!
//! Small classes go up in steps of 16 bytes to 512 (as CPython's do since 3.8); medium ones by an eighth of a doubling to
//! 32 KiB, so that rounding up never costs more than 12.5 %. Larger requests get a span.
//!
//! Invariant: `block_bytes(of(n)) >= n`, and no smaller class would do.

/// Bytes of an arena, and its alignment: 2 MiB, the size of a huge page.
pub const ARENA_BYTES: usize = 1 << ARENA_SHIFT;
pub(crate) const ARENA_SHIFT: u32 = 21;

/// Bytes of a slot, the place of a pool in its arena: 16 KiB.
pub const SLOT_BYTES: usize = 1 << SLOT_SHIFT;
pub(crate) const SLOT_SHIFT: u32 = 14;

/// Slots of an arena: 128.
pub const SLOTS_PER_ARENA: usize = ARENA_BYTES / SLOT_BYTES;

/// The largest request that a small class serves: 512 bytes.
pub const SMALL_MAX_BYTES: usize = 512;

/// The largest request that a pool serves: 32 KiB.
pub const MEDIUM_MAX_BYTES: usize = 32 << 10;

/// The largest span inside an arena: 1 MiB. Above it a span is made of whole arenas.
pub(crate) const IN_ARENA_MAX_BYTES: usize = 1 << 20;

/// Alignment of every block: 16 bytes.
pub(crate) const BLOCK_ALIGN: usize = 16;

const SMALL_CLASSES: usize = SMALL_MAX_BYTES / BLOCK_ALIGN; // 32
const MEDIUM_DOUBLINGS: usize = 6; // 512 → 32768
const STEPS_PER_DOUBLING: usize = 8;

/// Number of size classes: 32 small and 48 medium ones, 80.
pub const CLASSES: usize = SMALL_CLASSES + MEDIUM_DOUBLINGS * STEPS_PER_DOUBLING;

/// A size class, by its index: `0..CLASSES`, smallest blocks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeClass(pub(crate) u8);

impl SizeClass {
    /// The class that serves a request of `bytes`, or `None` if it takes a span. A request of 0 counts as 1.
    #[inline]
    pub const fn of(bytes: usize) -> Option<SizeClass> {
        if bytes <= SMALL_MAX_BYTES {
            let bytes = if bytes == 0 { 1 } else { bytes };
            Some(SizeClass(((bytes - 1) / BLOCK_ALIGN) as u8))
        } else if bytes <= MEDIUM_MAX_BYTES {
            Some(SizeClass::of_medium(bytes))
        } else {
            None
        }
    }

    /// The class of a request above [`SMALL_MAX_BYTES`] and up to [`MEDIUM_MAX_BYTES`].
    #[inline]
    pub(crate) const fn of_medium(bytes: usize) -> SizeClass {
        // With b = bytes - 1 in [2^e, 2^(e+1)), the three bits below the leading one select the eighth.
        let b = bytes - 1;
        let e = usize::BITS - 1 - b.leading_zeros();
        let eighth = (b >> (e - 3)) & (STEPS_PER_DOUBLING - 1);
        SizeClass((SMALL_CLASSES + (e as usize - 9) * STEPS_PER_DOUBLING + eighth) as u8)
    }

    /// The class with this index, if there is one.
    pub const fn from_index(index: usize) -> Option<SizeClass> {
        if index < CLASSES { Some(SizeClass(index as u8)) } else { None }
    }

    /// Its index, `0..CLASSES`.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Bytes of one block.
    #[inline]
    pub const fn block_bytes(self) -> usize {
        BLOCK_BYTES[self.0 as usize] as usize
    }

    /// Slots of one pool, 1 to 8: as few as hold four blocks and waste at most a sixteenth.
    #[inline]
    pub const fn pool_slots(self) -> usize {
        POOL_SLOTS[self.0 as usize] as usize
    }

    /// Blocks of one pool.
    #[inline]
    pub const fn capacity_blocks(self) -> usize {
        self.pool_slots() * SLOT_BYTES / self.block_bytes()
    }
}

const BLOCK_BYTES: [u16; CLASSES] = {
    let mut table = [0u16; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        table[i] = if i < SMALL_CLASSES {
            ((i + 1) * BLOCK_ALIGN) as u16
        } else {
            let doubling = (i - SMALL_CLASSES) / STEPS_PER_DOUBLING;
            let eighth = (i - SMALL_CLASSES) % STEPS_PER_DOUBLING;
            // 32 KiB itself is the largest, and fits.
            ((STEPS_PER_DOUBLING + eighth + 1) << (6 + doubling)) as u16
        };
        i += 1;
    }
    table
};

const POOL_SLOTS: [u8; CLASSES] = {
    let mut table = [0u8; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        let block = BLOCK_BYTES[i] as usize;
        let mut slots = 1;
        loop {
            let pool = slots * SLOT_BYTES;
            if pool / block >= 4 && (pool % block) * 16 <= pool {
                break;
            }
            slots += 1;
        }
        table[i] = slots as u8;
        i += 1;
    }
    table
};

/// `bytes` rounded up to a multiple of `step`, a power of two; `None` on overflow.
#[inline]
pub(crate) const fn round_up(bytes: usize, step: usize) -> Option<usize> {
    debug_assert!(step.is_power_of_two());
    match bytes.checked_add(step - 1) {
        Some(sum) => Some(sum & !(step - 1)),
        None => None,
    }
}
