//! One seeded generator for everything that draws numbers.
//!
//! xoshiro256++ (Blackman & Vigna, "Scrambled linear pseudorandom number
//! generators", 2019) with its state filled by SplitMix64, as its authors
//! advise. Integer arithmetic and IEEE basic operations only, so a seed gives
//! the same numbers on every platform.

/// A seeded generator. Equal seeds give equal sequences everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut counter = seed;
        Self { state: core::array::from_fn(|_| split_mix(&mut counter)) }
    }

    /// The generator of `seed` for the purpose or item numbered `stream`.
    ///
    /// Streams of one seed are unrelated, so that the draws of one item do not
    /// depend on how many items came before it.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut counter = stream;
        Self::new(seed ^ split_mix(&mut counter))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c1, d1) = (c ^ a, d ^ b);
        self.state = [a ^ d1, b ^ c1, c1 ^ (b << 17), d1.rotate_left(45)];
        result
    }

    /// An integer in `0..n`; 0 when `n` is 0. Its bias is below `n`·2⁻⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// A real in [0, 1) with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * f64::EPSILON / 2.0
    }

    /// A real between `low` and `high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A real in [−`bound`, `bound`) with 24 random bits, without f64: what a device draws.
    pub fn symmetric(&mut self, bound: f32) -> f32 {
        const HALF: i32 = 1 << 23;
        ((self.next_u64() >> 40) as i32 - HALF) as f32 * (bound / HALF as f32)
    }

    /// Permutes `items` uniformly (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            if let Ok([a, b]) = items.get_disjoint_mut([last, other]) {
                core::mem::swap(a, b);
            }
        }
    }
}

fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequences() {
        let mut counter = 1_234_567;
        let drawn: [u64; 3] = core::array::from_fn(|_| split_mix(&mut counter));
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);

        let mut rng = Rng { state: [1, 2, 3, 4] };
        let drawn: [u64; 5] = core::array::from_fn(|_| rng.next_u64());
        let want =
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386, 9_228_616_714_210_784_205];
        assert_eq!(drawn, want);
    }

    #[test]
    fn draws_are_uniform() {
        let mut rng = Rng::new(5);
        let mut counts = [0usize; 7];
        // Miri takes minutes for the first two.
        if !cfg!(miri) {
            (0..70_000).for_each(|_| counts[rng.below(7)] += 1);
            assert!(counts.iter().all(|c| c.abs_diff(10_000) < 500), "{counts:?}");
            let mean = (0..100_000).map(|_| rng.uniform(-1.0, 3.0)).sum::<f64>() / 1e5;
            assert!((mean - 1.0).abs() < 0.02, "{mean}");
        }
        assert!((0..if cfg!(miri) { 100 } else { 10_000 }).all(|_| (0.0..1.0).contains(&rng.unit())));
        assert!((0..100).all(|_| (-0.25..0.25).contains(&rng.symmetric(0.25))));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn shuffle_permutes_and_streams_differ() {
        let mut items: [usize; 50] = core::array::from_fn(|i| i);
        Rng::new(1).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(i, item)| i == *item));
        assert_ne!(Rng::stream(1, 0), Rng::stream(1, 1));
        assert_ne!(Rng::stream(1, 0), Rng::stream(2, 0));
    }
}
