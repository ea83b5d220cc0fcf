//! Gaps between samples: a Poisson process over the stream of requested bytes.
//!
//! Invariant: a gap is `floor(X)` with `X` exponential of mean `R`. For whole bytes that is exact: a request of `s` bytes
//! is sampled if the gap left is below `s`, and `P(floor(X) < s) = P(X < s) = 1 - exp(-s/R)`; what is left of a gap after a
//! request that was not sampled is distributed as a fresh gap. So requests are sampled independently of each other, and a
//! fresh gap may be drawn after each sample however far the request reached beyond it.
//!
//! One request may reach across several gaps. It still makes one sample: its chance to be sampled at all is
//! `1 - exp(-s/R)`, and [`Estimate`](crate::Estimate) weighs it by the inverse of exactly that chance, so the expectation
//! of what it adds is `s` whatever its size.

/// A stream of gaps: the state of one heap's sampler.
///
/// The generator is xoshiro256++ (D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators", 2021), seeded
/// by SplitMix64 as its authors recommend.
#[derive(Debug, Clone)]
pub struct Gaps {
    state: [u64; 4],
    mean_bytes: f64,
}

impl Gaps {
    /// Gaps of `mean_bytes` bytes on average. Equal seeds and streams give equal gaps; heaps that share a seed take
    /// different streams.
    pub fn new(mean_bytes: u64, seed: u64, stream: u64) -> Gaps {
        let mut split = SplitMix(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Gaps { state: [split.next(), split.next(), split.next(), split.next()], mean_bytes: mean_bytes as f64 }
    }

    /// Bytes that may be requested before the next sample: the request that asks for one byte more is sampled.
    #[inline]
    pub fn next_gap_bytes(&mut self) -> u64 {
        // In (0, 1], 53 bits: the logarithm is finite, the longest gap 36.7 means.
        let uniform = ((self.next() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64);
        (-uniform.ln() * self.mean_bytes) as u64
    }

    #[inline]
    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

/// SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

/// SplitMix64's output function: every bit of the result depends on every bit of `value`.
#[inline]
pub(crate) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of both generators' reference implementations.
    #[test]
    fn generators_match_their_references() {
        let mut split = SplitMix(1_234_567);
        assert_eq!(
            [split.next(), split.next(), split.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        let mut gaps = Gaps { state: [1, 2, 3, 4], mean_bytes: 1.0 };
        assert_eq!(
            [gaps.next(), gaps.next(), gaps.next(), gaps.next()],
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]
        );
    }

    /// Mean and tail of a million gaps, within five standard deviations.
    #[test]
    fn gaps_are_exponential() {
        const MEAN: u64 = 524_288;
        const GAPS: u64 = 1_000_000;
        let mut gaps = Gaps::new(MEAN, 7, 0);
        let (mut sum, mut beyond_two_means) = (0.0, 0.0);
        for _ in 0..GAPS {
            let gap = gaps.next_gap_bytes();
            sum += gap as f64;
            beyond_two_means += f64::from(gap > 2 * MEAN);
        }
        let n = GAPS as f64;
        assert!((sum / n / MEAN as f64 - 1.0).abs() < 5.0 / n.sqrt(), "mean {}", sum / n);
        let share = (-2.0f64).exp();
        let deviation = (share * (1.0 - share) / n).sqrt();
        assert!((beyond_two_means / n - share).abs() < 5.0 * deviation, "{beyond_two_means}");
    }

    /// A mean of one byte must sample nearly two requests of one byte in three, so whole bytes lose nothing.
    #[test]
    fn small_means_sample_with_the_stated_chance() {
        let mut gaps = Gaps::new(1, 3, 0);
        let mut budget = gaps.next_gap_bytes() as i64;
        let mut sampled = 0.0;
        const REQUESTS: u32 = 200_000;
        for _ in 0..REQUESTS {
            budget -= 1;
            if budget < 0 {
                sampled += 1.0;
                budget = gaps.next_gap_bytes() as i64;
            }
        }
        let chance = 1.0 - (-1.0f64).exp();
        let deviation = (chance * (1.0 - chance) / f64::from(REQUESTS)).sqrt();
        assert!((sampled / f64::from(REQUESTS) - chance).abs() < 5.0 * deviation, "{sampled}");
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let first = |seed, stream| {
            let mut gaps = Gaps::new(1 << 20, seed, stream);
            [gaps.next_gap_bytes(), gaps.next_gap_bytes(), gaps.next_gap_bytes()]
        };
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
    }
}
