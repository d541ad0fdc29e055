//! PyTorch's CPU generator, where a checkpoint stores a seed in place of what was drawn from it.

/// The Mersenne Twister (Matsumoto & Nishimura, 1998), MT19937, seeded as `torch.Generator().manual_seed` does.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    state: Vec<u32>,
    next: usize,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = vec![seed as u32];
        for i in 1..SIZE as u32 {
            let last = state[i as usize - 1];
            state.push(1_812_433_253u32.wrapping_mul(last ^ last >> 30).wrapping_add(i));
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
    pub(crate) fn bits(&mut self) -> u32 {
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

    /// The first `count` elements of `torch.randperm(n)`; `None` where PyTorch draws 64 bits at a time.
    pub(crate) fn permutation(&mut self, n: usize, count: usize) -> Option<Vec<usize>> {
        (n < u32::MAX as usize / 20).then_some(())?;
        let mut order: Vec<usize> = (0..n).collect();
        // Later swaps leave the front as it is.
        for i in 0..count.min(n.saturating_sub(1)) {
            order.swap(i, i + self.bits() as usize % (n - i));
        }
        order.truncate(count);
        Some(order)
    }

    /// The next value of an f32 tensor's `uniform_(low, high)`.
    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() & 0xff_ffff) as f32 * (1.0 / 16_777_216.0);
        unit * (high - low) + low
    }
}

const SIZE: usize = 624;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the reference implementation for its default seed.
    #[test]
    fn the_twister_is_the_published_one() {
        let mut generator = Generator::new(5489);
        let first: Vec<u32> = (0..3).map(|_| generator.bits()).collect();
        assert_eq!(first, [3_499_211_612, 581_869_302, 3_890_346_734]);
        assert_eq!((3..10_000).map(|_| generator.bits()).last(), Some(4_123_659_995));
    }
}
