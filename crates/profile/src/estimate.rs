//! What samples say of everything that was allocated, and how surely.
//!
//! A block of `s` bytes is sampled with chance `P = 1 - exp(-s/R)` and then stands for `s/P` bytes and `1/P` blocks
//! (D. Horvitz, D. Thompson, 1952). Blocks are sampled independently, so the variance of a sum of bytes is estimated
//! without bias by the sum of `s² (1-P) / P²` over the samples.
//!
//! Invariant: an [`Estimate`] is a sum over samples, in integers, so taking a sample away again leaves no rounding behind:
//! an estimate with no samples is zero in all its parts.

/// Fractional bits of the count of blocks.
const BLOCK_BITS: u32 = 16;

/// Standard normal quantile of a two-sided 95 % interval (1.96), rounded up: the interval below is an approximation built
/// on an estimated variance, and shall err on the wide side.
const QUANTILE: f64 = 2.0;

/// Sums over a set of samples, each with its weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes requested, estimated.
    pub bytes: u64,
    /// Samples behind the estimate.
    pub samples: u64,
    /// Blocks, estimated, in units of `1 / 2^16`.
    blocks_fixed: u128,
    /// Variance of `bytes`, in square bytes.
    variance: u128,
}

impl Estimate {
    /// What one sampled block of `size_bytes` stands for at a mean distance of `mean_bytes`. Both are above zero.
    pub fn of_sample(size_bytes: usize, mean_bytes: u64) -> Estimate {
        let size = size_bytes as f64;
        let ratio = size / mean_bytes as f64;
        let chance = -(-ratio).exp_m1();
        let bytes = size / chance;
        Estimate {
            bytes: bytes.round() as u64,
            samples: 1,
            blocks_fixed: ((1u64 << BLOCK_BITS) as f64 / chance).round() as u128,
            variance: (bytes * bytes * (-ratio).exp()).round() as u128,
        }
    }

    /// Blocks, rounded to the nearest.
    pub fn blocks(&self) -> u64 {
        ((self.blocks_fixed + (1 << (BLOCK_BITS - 1))) >> BLOCK_BITS) as u64
    }

    /// Variance of `bytes`, in square bytes.
    pub fn variance(&self) -> f64 {
        self.variance as f64
    }

    /// Half-width of the 95 % confidence interval of `bytes`, in bytes, where `mean_bytes` is the mean distance between
    /// samples.
    ///
    /// For many samples this is the usual `1.96 √variance`. For few it must not be: no sample at all does not mean "0 ± 0".
    /// Measured in samples of `R²` variance each, `k = variance / R²`, the interval is that of a Poisson count of `k`
    /// (F. Garwood, 1936), of which the upper half is the wider one; its limit is computed by the cube-root approximation
    /// of E. Wilson and M. Hilferty (1931). A site seen through no small sample may so hide 3.8 R.
    pub fn error_bytes(&self, mean_bytes: u64) -> u64 {
        let mean = mean_bytes as f64;
        let count = self.variance as f64 / (mean * mean);
        let next = count + 1.0;
        let root = 1.0 - 1.0 / (9.0 * next) + QUANTILE / (3.0 * next.sqrt());
        (mean * (next * root * root * root - count)).ceil() as u64
    }

    /// Add the samples of `other`.
    pub fn add(&mut self, other: &Estimate) {
        self.bytes += other.bytes;
        self.samples += other.samples;
        self.blocks_fixed += other.blocks_fixed;
        self.variance += other.variance;
    }

    /// Take the samples of `other` away, which were added before.
    pub fn sub(&mut self, other: &Estimate) {
        self.bytes -= other.bytes;
        self.samples -= other.samples;
        self.blocks_fixed -= other.blocks_fixed;
        self.variance -= other.variance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: u64 = 524_288;

    #[test]
    fn small_blocks_stand_for_the_distance_and_large_ones_for_themselves() {
        let small = Estimate::of_sample(16, MEAN);
        assert_eq!((small.bytes, small.blocks()), (MEAN + 8, 32_769));
        let large = Estimate::of_sample(100 << 20, MEAN);
        assert_eq!((large.bytes, large.blocks(), large.variance), (100 << 20, 1, 0));
        // P = 1 - 1/e
        let middle = Estimate::of_sample(MEAN as usize, MEAN);
        assert_eq!((middle.bytes, middle.blocks()), (829_411, 2));
    }

    /// The chance times the weight is the size, for any size: the estimate has no bias.
    #[test]
    fn expectation_is_the_size() {
        for bits in 0..40 {
            let size = 3usize << bits;
            let chance = -(-(size as f64) / MEAN as f64).exp_m1();
            let expected = chance * Estimate::of_sample(size, MEAN).bytes as f64;
            assert!((expected / size as f64 - 1.0).abs() < 1.0 / MEAN as f64, "{size}: {expected}");
        }
    }

    #[test]
    fn a_sum_forgets_what_is_taken_away() {
        let mut sum = Estimate::default();
        let parts: Vec<_> = (1..500).map(|n| Estimate::of_sample(n * n * 7, MEAN)).collect();
        parts.iter().for_each(|part| sum.add(part));
        assert_eq!(sum.samples, 499);
        parts.iter().rev().for_each(|part| sum.sub(part));
        assert_eq!(sum, Estimate::default());
    }

    /// Exact half-widths (upper limit less count) of Garwood's interval, from tables of the chi-square distribution.
    #[test]
    fn interval_is_at_least_garwoods_and_hardly_wider() {
        for (count, exact) in [(0u32, 3.689), (1, 4.572), (2, 5.225), (5, 6.668), (10, 8.390), (100, 21.627)] {
            let mut sum = Estimate::default();
            (0..count).for_each(|_| sum.add(&Estimate::of_sample(1, MEAN)));
            let error = sum.error_bytes(MEAN) as f64 / MEAN as f64;
            assert!(error >= exact && error < exact * 1.06, "{count}: {error} against {exact}");
        }
    }

    #[test]
    fn huge_distances_do_not_overflow() {
        let mut sum = Estimate::default();
        (0..1_000).for_each(|_| sum.add(&Estimate::of_sample(1, 1 << 40)));
        assert!(sum.error_bytes(1 << 40) > 60 << 40);
    }
}
