//! Random numbers, the same on every machine and for every crate.

/// Marsaglia's xorshift64.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        Random(0x1234_5678_9abc_def1)
    }

    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
