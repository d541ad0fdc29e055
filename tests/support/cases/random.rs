//! A small deterministic generator.

/// Knuth's 64-bit linear congruence; the high half is used.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.word();
        random
    }

    pub(crate) fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// An integer in `lo..=hi`.
    pub(crate) fn int(&mut self, lo: i64, hi: i64) -> i64 {
        lo + (u64::from(self.word()) % (hi - lo + 1) as u64) as i64
    }

    /// A float in `lo..hi`.
    pub(crate) fn float(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * (self.word() >> 8) as f32 / (1u32 << 24) as f32
    }

    pub(crate) fn floats(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..n).map(|_| self.float(lo, hi)).collect()
    }

    /// Codes over the whole range, its ends more often than chance.
    pub(crate) fn codes(&mut self, n: usize) -> Vec<i8> {
        let mut code = || match self.int(0, 15) {
            0 => i8::MIN,
            1 => i8::MAX,
            _ => self.int(-128, 127) as i8,
        };
        (0..n).map(|_| code()).collect()
    }

    /// One of `values`.
    pub(crate) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.word() as usize % values.len()]
    }
}
