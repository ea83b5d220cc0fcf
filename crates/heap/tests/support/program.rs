//! Programs for a heap: a list of operations, drawn by proptest or decoded from a fuzzer's bytes.
//!
//! Numbers are raw and mean something only to the model, which maps each to what exists at that moment (the nth live
//! block, a heap, a size). So every sequence of numbers is a valid program, and stays one when it is shortened.

/// One step of a program.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    Alloc {
        heap: u8,
        size: u16,
    },
    AllocZeroed {
        heap: u8,
        size: u16,
    },
    AllocAligned {
        heap: u8,
        size: u16,
        align: u8,
    },
    /// `count` blocks of about one size, as programs that build something do.
    AllocMany {
        heap: u8,
        size: u16,
        count: u8,
    },
    Realloc {
        block: u16,
        size: u16,
    },
    /// Grow or shrink a block a little, as lists and buffers do.
    ReallocNear {
        block: u16,
        change: i8,
    },
    Free {
        block: u16,
    },
    /// Free every `step`th block, so that pools and arenas become sparse or empty.
    FreeMany {
        first: u16,
        step: u8,
    },
    /// Drop a heap with all its blocks, and start another in its place.
    DropHeap {
        heap: u8,
    },
    TrimHeap {
        heap: u8,
    },
    TrimRange,
    /// A limit `slack` above what is held now; none for 255.
    SetLimit {
        slack: u8,
    },
    /// Let the observer see an allocation after so many bytes; 0 ends it, as soon as no marked block lives.
    Observe {
        heap: u8,
        budget: u8,
    },
    HugePages {
        wanted: bool,
    },
    /// Look an address up: of a block's first, last or some interior byte, or a stranger's.
    Locate {
        block: u16,
        offset: u16,
    },
    Check,
}

/// Bytes of an operation as the fuzzer writes it: kind, heap or flag, block or size, a further number.
pub const OP_BYTES: usize = 6;

impl Op {
    /// The operation that these bytes mean.
    pub fn decode(bytes: [u8; OP_BYTES]) -> Op {
        let [kind, small, ..] = bytes;
        let wide = u16::from_le_bytes([bytes[2], bytes[3]]);
        let other = u16::from_le_bytes([bytes[4], bytes[5]]);
        match kind % 32 {
            0..=5 => Op::Alloc { heap: small, size: wide },
            6..=7 => Op::AllocZeroed { heap: small, size: wide },
            8 => Op::AllocAligned { heap: small, size: wide, align: bytes[4] },
            9..=11 => Op::AllocMany { heap: small, size: wide, count: bytes[4] },
            12..=14 => Op::Realloc { block: wide, size: other },
            15..=16 => Op::ReallocNear { block: wide, change: small as i8 },
            17..=21 => Op::Free { block: wide },
            22..=23 => Op::FreeMany { first: wide, step: small },
            24 => Op::DropHeap { heap: small },
            25 => Op::TrimHeap { heap: small },
            26 => Op::TrimRange,
            27 => Op::SetLimit { slack: small },
            28 => Op::Observe { heap: small, budget: bytes[4] },
            29 => Op::HugePages { wanted: small & 1 == 1 },
            30 => Op::Locate { block: wide, offset: other },
            _ => Op::Check,
        }
    }
}

/// The size that a raw number stands for, 0 to `max_bytes`: small ones most often, every magnitude, and with a liking for
/// the sizes next to a boundary (of a class, an OS page, a slot, an arena).
pub fn size_of_draw(draw: u16, max_bytes: usize) -> usize {
    let magnitude = usize::from(draw >> 12); // 0 to 15
    let rest = usize::from(draw & 0xfff);
    let (low, high): (usize, usize) = match magnitude {
        0..=6 => (0, 512),
        7..=9 => (512, 4096),
        10..=11 => (4096, 32 << 10),
        12 => (32 << 10, 128 << 10),
        13 => (128 << 10, 1 << 20),
        14 => (1 << 20, 3 << 20),
        _ => (2 << 20, 9 << 20),
    };
    let size = if rest % 8 == 7 {
        // A power of two inside, give or take a few bytes.
        let power = 1usize << ((low + 1).ilog2() as usize + rest / 8 % 5).min(24);
        (power + rest / 64 % 5).saturating_sub(2)
    } else {
        low + rest * (high - low) / 0xfff
    };
    size.min(max_bytes)
}
