//! The grain: how far apart the candidates of a search begin at least. What is noted of a candidate is noted of the grain that it
//! begins in, which has no other candidate.

use crate::model::MIN_OBJECT_BYTES;
use crate::space::GRANULE_BYTES;

/// The coarsest: then a word of counters stands for a word of granules' bits.
const MAX_BYTES: usize = 128;

/// How many granules a grain is: 2, 4 or 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grain {
    /// As a power of two.
    shift: u32,
}

impl Grain {
    /// For objects that are as far apart as any are.
    pub(crate) const LEAST: Grain = Grain { shift: (MIN_OBJECT_BYTES / GRANULE_BYTES).ilog2() };

    /// For objects that are so many bytes apart at least, which are [`MIN_OBJECT_BYTES`] or more. The fewer grains, the more of
    /// what is noted of them the processor keeps at hand.
    pub(crate) fn for_objects_apart(bytes: usize) -> Grain {
        debug_assert!(bytes >= MIN_OBJECT_BYTES);
        Grain { shift: (bytes.min(MAX_BYTES) / GRANULE_BYTES).ilog2() }
    }

    pub(crate) fn bytes(self) -> usize {
        GRANULE_BYTES << self.shift
    }

    /// The grain that a granule lies in.
    #[inline(always)]
    pub(crate) fn of(self, granule: usize) -> usize {
        granule >> self.shift
    }

    #[inline(always)]
    pub(crate) fn first_granule(self, grain: usize) -> usize {
        grain << self.shift
    }

    /// The grains of 64 granules.
    #[inline(always)]
    pub(crate) fn in_word(self) -> usize {
        64 >> self.shift
    }

    /// From a bit for each grain of 64 granules, those of all the granules.
    #[inline(always)]
    pub(crate) fn spread(self, grains: u64) -> u64 {
        match self.shift {
            1 => spread::<1>(grains),
            2 => spread::<2>(grains),
            _ => spread::<3>(grains),
        }
    }

    /// From the bits of 64 granules, one for each grain that has any.
    #[inline(always)]
    pub(crate) fn gather(self, granules: u64) -> u64 {
        match self.shift {
            1 => gather::<1>(granules),
            2 => gather::<2>(granules),
            _ => gather::<3>(granules),
        }
    }
}

/// The lowest `bits` of each `bits << SHIFT`.
const fn lowest<const SHIFT: u32>(bits: u32) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < 64 {
        mask |= ((1 << bits) - 1) << at;
        at += bits << SHIFT;
    }
    mask
}

/// Groups of bits move apart, each time half as many: 64 >> SHIFT together become one in each 1 << SHIFT.
#[inline(always)]
fn spread<const SHIFT: u32>(mut bits: u64) -> u64 {
    let mut together = 32 >> SHIFT;
    while together > 0 {
        bits = (bits | bits << (together * ((1 << SHIFT) - 1))) & lowest::<SHIFT>(together);
        together /= 2;
    }
    bits * ((1 << (1 << SHIFT)) - 1)
}

/// The other way about.
#[inline(always)]
fn gather<const SHIFT: u32>(mut bits: u64) -> u64 {
    let mut apart = 1;
    while apart < 1 << SHIFT {
        bits |= bits >> apart;
        apart *= 2;
    }
    bits &= lowest::<SHIFT>(1);
    let mut together = 1;
    while together < 64 >> SHIFT {
        bits = (bits | bits >> (together * ((1 << SHIFT) - 1))) & lowest::<SHIFT>(2 * together);
        together *= 2;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grains_are_spread_and_gathered() {
        for bytes in [32, 64, 128] {
            let grain = Grain::for_objects_apart(bytes);
            let mut random = 0x9E37_79B9_7F4A_7C15_u64;
            for _ in 0..1000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let sparse = random & random.rotate_left(21) & random.rotate_left(42);
                for bits in [random, sparse, 1 << (random % 64), 0, !0] {
                    let gathered = (0..64).filter(|i| bits >> i & 1 == 1).fold(0_u64, |all, i| all | 1 << grain.of(i));
                    assert_eq!(grain.gather(bits), gathered, "{bytes} {bits:x}");
                    let spread =
                        (0..64).filter(|i| gathered >> grain.of(*i) & 1 == 1).fold(0_u64, |all, i| all | 1 << i);
                    assert_eq!(grain.spread(gathered), spread, "{bytes} {gathered:x}");
                }
            }
        }
    }

    #[test]
    fn a_grain_is_no_wider_than_objects_are_apart() {
        let bytes = |apart| Grain::for_objects_apart(apart).bytes();
        assert_eq!(Grain::LEAST, Grain::for_objects_apart(32));
        assert_eq!([32, 48, 64, 112, 128, 4096].map(bytes), [32, 32, 64, 64, 128, 128]);
    }
}
