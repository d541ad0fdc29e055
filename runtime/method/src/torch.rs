//! PyTorch's CPU generator, where published methods store a seed in place of what was drawn from it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::f64::consts::PI;

/// The Mersenne Twister (Matsumoto & Nishimura, 1998), MT19937, seeded as `torch.Generator().manual_seed` does.
#[derive(Clone, Debug)]
pub struct TorchRng {
    state: Vec<u32>,
    next: usize,
}

impl TorchRng {
    /// The generator after `manual_seed(seed)`, which keeps 32 bits of it.
    pub fn new(seed: u64) -> Self {
        let mut state = Vec::with_capacity(SIZE);
        let mut last = seed as u32;
        for i in 0..SIZE as u32 {
            if i > 0 {
                last = 1_812_433_253u32.wrapping_mul(last ^ last >> 30).wrapping_add(i);
            }
            state.push(last);
        }
        Self { state, next: SIZE }
    }

    fn twist(&mut self) {
        for i in 0..SIZE {
            let bits = self.state[i] & 0x8000_0000 | self.state[(i + 1) % SIZE] & 0x7fff_ffff;
            let odd = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % SIZE] ^ bits >> 1 ^ odd;
        }
        self.next = 0;
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.next == SIZE {
            self.twist();
        }
        let mut bits = self.state[self.next];
        self.next += 1;
        bits ^= bits >> 11;
        bits ^= bits << 7 & 0x9d2c_5680;
        bits ^= bits << 15 & 0xefc6_0000;
        bits ^ bits >> 18
    }

    /// 64 random bits, the upper half first.
    fn wide_bits(&mut self) -> u64 {
        let upper = u64::from(self.bits());
        upper << 32 | u64::from(self.bits())
    }

    /// The first `count` elements of `torch.randperm(n)`, all where there are fewer, in memory for so many.
    ///
    /// From 2³²/20 elements on PyTorch shuffles the other way round, and every one of n draws counts: seconds.
    pub fn permutation(&mut self, n: usize, count: usize) -> Vec<usize> {
        let count = count.min(n);
        if n >= u32::MAX as usize / 20 {
            return self.inside_out(n, count);
        }
        // Fisher and Yates from the front: later swaps leave it as it is. What was swapped behind it is all that is kept.
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        let mut draw = |i: usize| {
            // The last has nothing to be swapped with.
            let to = if i + 1 < n { i + self.bits() as usize % (n - i) } else { i };
            let own = moved.remove(&i).unwrap_or(i);
            if to == i { own } else { moved.insert(to, own).unwrap_or(to) }
        };
        (0..count).map(&mut draw).collect()
    }

    /// The shuffle that makes room for one element after the other (Durstenfeld, inside out).
    fn inside_out(&mut self, n: usize, count: usize) -> Vec<usize> {
        let mut order = Vec::with_capacity(count);
        for i in 0..n {
            let to = (self.wide_bits() % (i as u64 + 1)) as usize;
            if i < count {
                order.push(i);
                order.swap(i, to);
            } else if to < count {
                order[to] = i;
            }
        }
        order
    }

    /// The next value of an f32 tensor's `uniform_(low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() & 0xff_ffff) as f32 * (1.0 / 16_777_216.0);
        unit * (high - low) + low
    }

    /// The elements of an f32 `torch.randn` that nothing normal was drawn before, as far as f32 functions tell: they differ by instruction set.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        if count < LANES {
            return self.few_normals(count);
        }
        let unit = |rng: &mut Self| rng.uniform(0.0, 1.0);
        let mut values: Vec<f32> = (0..count).map(|_| unit(self)).collect();
        values.chunks_exact_mut(LANES).for_each(turn);
        if !count.is_multiple_of(LANES) {
            // The last sixteen are drawn anew, over what was there.
            let last = &mut values[count - LANES..];
            last.iter_mut().for_each(|value| *value = unit(self));
            turn(last);
        }
        values
    }

    /// Pairs in f64, one after the other.
    fn few_normals(&mut self, count: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(count + 1);
        let fraction = |rng: &mut Self| (rng.wide_bits() & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64;
        while values.len() < count {
            let (angle, length) = (fraction(self), fraction(self));
            let (angle, length) = (2.0 * PI * angle, libm::sqrt(-2.0 * libm::log1p(-length)));
            values.extend([(length * libm::cos(angle)) as f32, (length * libm::sin(angle)) as f32]);
        }
        values.truncate(count);
        values
    }
}

/// Sixteen uniform values to normal ones (Box & Muller, 1958): the first eight give lengths, the others angles.
fn turn(values: &mut [f32]) {
    let (lengths, angles) = values.split_at_mut(LANES / 2);
    for (a, b) in lengths.iter_mut().zip(angles) {
        let length = libm::sqrt(-2.0 * libm::log(f64::from(1.0 - *a)));
        let angle = 2.0 * PI * f64::from(*b);
        (*a, *b) = ((length * libm::cos(angle)) as f32, (length * libm::sin(angle)) as f32);
    }
}

/// How many values PyTorch draws together.
const LANES: usize = 16;

const SIZE: usize = 624;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the reference implementation for its default seed.
    #[test]
    fn the_twister_is_the_published_one() {
        let mut generator = TorchRng::new(5489);
        let first: Vec<u32> = (0..3).map(|_| generator.bits()).collect();
        assert_eq!(first, [3_499_211_612, 581_869_302, 3_890_346_734]);
        assert_eq!((3..10_000).map(|_| generator.bits()).last(), Some(4_123_659_995));
    }

    /// `torch.randperm(n, generator=torch.Generator().manual_seed(777))` of PyTorch 2.15.
    #[test]
    fn permutations_are_those_of_pytorch() {
        let first = |n, count| TorchRng::new(777).permutation(n, count);
        assert_eq!(
            first(214_748_363, 6),
            [11_440_646, 199_500_216, 10_121_607, 3_119_241, 51_696_020, 155_711_086]
        );
        assert_eq!(first(7, 9), [5, 6, 3, 0, 1, 4, 2]);
        assert_eq!(first(150, 150)[..8], [35, 107, 129, 17, 73, 67, 141, 106]);
        assert_eq!((first(1, 1), first(0, 3)), (Vec::from([0]), Vec::new()));
        let mut all = first(150, 150);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..150));
    }

    /// `torch.manual_seed(5); torch.randn(count)` of PyTorch 2.15: few, as many as are drawn together, and a rest.
    #[test]
    fn normal_values_are_those_of_pytorch() {
        let first = |count| TorchRng::new(5).normals(count);
        let near = |got: &[f32], want: &[f32]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 2e-6);
        let few =
            [-0.486_780_8, -0.603_821_6, -0.558_096_2, 0.667_524_3, -0.197_415_1, 1.942_783, -1.401_702];
        assert!(near(&first(7), &few), "{:?}", first(7));
        let sixteen = [1.842_33, 0.518_887_2, -1.711_921, -1.701_379, 2.019_419, -0.268_614_4];
        assert!(near(&first(16), &sixteen), "{:?}", first(16));
        let rest = [0.031_656_89, -1.172_414, -1.506_94, -0.148_104_6];
        assert!(near(&first(21), &sixteen[..5]) && near(&first(21)[17..], &rest), "{:?}", first(21));
    }

    /// What is not asked for changes nothing of what is.
    #[test]
    fn inside_out_every_draw_counts() {
        let (short, long) = (TorchRng::new(777).inside_out(9, 4), TorchRng::new(777).inside_out(9, 9));
        assert_eq!(short, long[..4]);
    }
}
