//! Seeded randomness and colored noise.

/// SplitMix64 (Steele, Lea, Flood 2014): one multiply-xorshift per draw, no bad seeds.
pub(super) struct Random(u64);

impl Random {
    /// Independent streams for every pair of seed and stream number.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self(mixed.bits())
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[low, high)`; the 24 bits are exact in f32.
    pub(super) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.bits() >> 40) as f32 / 16_777_216.0)
    }

    /// An amplitude factor between two levels, uniform in decibels.
    pub(super) fn decibels(&mut self, low: f32, high: f32) -> f32 {
        libm::exp2f(self.uniform(low, high) * (core::f32::consts::LOG2_10 / 20.0))
    }

    /// Zero mean, unit variance, flat distribution.
    fn white(&mut self) -> f32 {
        self.uniform(-1.732_050_8, 1.732_050_8)
    }
}

/// Unit-variance noise through one pole: rumble for a pole near 1, hiss for a negative one.
pub(super) struct Noise {
    pole: f32,
    input: f32,
    state: f32,
}

impl Noise {
    /// The pole lies inside (-1, 1): outside, the state would grow without bound.
    pub(super) fn new(pole: f32) -> Self {
        Self { pole, input: libm::sqrtf(1.0 - pole * pole), state: 0.0 }
    }

    pub(super) fn next(&mut self, random: &mut Random) -> f32 {
        self.state = self.pole * self.state + self.input * random.white();
        self.state
    }
}
