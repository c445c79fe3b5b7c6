//! Numbers from a seed.

/// SplitMix64: the same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn from_seed(seed: u64) -> Self {
        let mut rng = Self(seed);
        rng.next();
        rng
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) const fn u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// A number from `low` up to, not including, `high`.
    pub(crate) const fn range(&mut self, low: u32, high: u32) -> u32 {
        low + ((self.u32() as u64 * (high - low) as u64) >> 32) as u32
    }

    /// A number below `bound`.
    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        self.range(0, bound as u32) as usize
    }

    /// True in so many of a hundred cases.
    pub(crate) const fn percent(&mut self, percent: u32) -> bool {
        self.range(0, 100) < percent
    }

    /// One of them.
    pub(crate) const fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
