//! Optimizer state in fewer bits.

use core::marker::PhantomData;

use ingraft_tensor::bytes;

use super::{Elementwise, Group, GroupShape, MAX_SLOTS, Optimizer, Rate, Slot};

/// A rule whose state is kept as `F` says between steps, and computed with in f32.
///
/// # Numerics
/// Rounded stochastically: up or down in proportion to what lies between, so that moments which change by less than a
/// step of the format still change on average. What is drawn depends on step and position alone: the same bits however
/// training is divided, and on every target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compact<E, F> {
    name: &'static str,
    rule: E,
    format: PhantomData<F>,
}

/// How a block of [`STATE_BLOCK`] values of state is kept.
pub trait Format: Sync {
    /// 32-bit words of a block.
    const WORDS: usize;

    /// Reads a block.
    fn load(slot: Slot, words: &[f32], values: &mut [f32; STATE_BLOCK]);

    /// Writes a block; `seed` decides what is rounded up.
    fn store(slot: Slot, words: &mut [f32], values: &[f32; STATE_BLOCK], seed: u32);
}

/// Values that are kept together.
pub const STATE_BLOCK: usize = 64;

/// The upper half of f32: 2 bytes a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bf16;

/// A byte a value and an f32 a block: c codes stand for largest · 2^((c − C)/8) with the largest magnitude of the block,
/// C = 127 beside a sign, or 255 where there is none; code 0 for zero. Neighbors are 9 % apart, over 15 or 31 octaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Int8;

impl<E: Elementwise, F: Format> Compact<E, F> {
    /// `rule` under another name.
    pub const fn new(name: &'static str, rule: E) -> Self {
        Self { name, rule, format: PhantomData }
    }

    /// 32-bit words of all slots of a block.
    const WORDS: usize = F::WORDS * E::SLOTS.len();
}

impl<E: Elementwise, F: Format> Optimizer for Compact<E, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn state_words(&self, shape: GroupShape) -> usize {
        shape.count().div_ceil(STATE_BLOCK).saturating_mul(Self::WORDS)
    }

    fn update(&self, rate: &Rate, group: Group<'_>) {
        let Group { mut parameters, mut gradients, state, first, .. } = group;
        let step = self.rule.prepare(rate);
        let first = first / STATE_BLOCK;
        let mut state = state.get_mut(first.saturating_mul(Self::WORDS)..).unwrap_or_default();
        let mut block = first as u32;
        while !parameters.is_empty() {
            let len = parameters.len().min(STATE_BLOCK);
            let (moved, rest) = parameters.split_at_mut_checked(len).unwrap_or_default();
            let (slopes, others) = gradients.split_at_checked(len).unwrap_or_default();
            let (words, more) = state.split_at_mut_checked(Self::WORDS).unwrap_or_default();
            (parameters, gradients, state) = (rest, others, more);
            let mut values = [[0.0f32; STATE_BLOCK]; MAX_SLOTS];
            for (slot, (held, values)) in cut::<F>(words).into_iter().zip(&mut values).enumerate() {
                if let Some(kind) = E::SLOTS.get(slot) {
                    F::load(*kind, held, values);
                }
            }
            let [one, two] = &mut values;
            let live = |slot: usize| if slot < E::SLOTS.len() { len } else { 0 };
            let held =
                [one.get_mut(..live(0)).unwrap_or_default(), two.get_mut(..live(1)).unwrap_or_default()];
            self.rule.descend(&step, moved, slopes, held);
            for (slot, (held, values)) in cut::<F>(words).into_iter().zip(&values).enumerate() {
                if let Some(kind) = E::SLOTS.get(slot) {
                    F::store(*kind, held, values, mixed(mixed(rate.step) ^ block ^ ((slot as u32) << 31)));
                }
            }
            block = block.wrapping_add(1);
        }
    }
}

/// The slots of a block.
fn cut<F: Format>(words: &mut [f32]) -> [&mut [f32]; MAX_SLOTS] {
    let (one, rest) = words.split_at_mut_checked(F::WORDS).unwrap_or_default();
    [one, rest.get_mut(..F::WORDS).unwrap_or_default()]
}

impl Format for Bf16 {
    const WORDS: usize = STATE_BLOCK / 2;

    fn load(_: Slot, words: &[f32], values: &mut [f32; STATE_BLOCK]) {
        let halves: &[u16] = bytes::cast(bytes::of(words)).unwrap_or_default();
        values.iter_mut().zip(halves).for_each(|(v, half)| *v = f32::from_bits(u32::from(*half) << 16));
    }

    fn store(_: Slot, words: &mut [f32], values: &[f32; STATE_BLOCK], seed: u32) {
        let halves: &mut [u16] = bytes::cast_mut(bytes::of_mut(words)).unwrap_or_default();
        for (index, (half, value)) in halves.iter_mut().zip(values).enumerate() {
            let bits = value.to_bits();
            let up = bits.wrapping_add(mixed(seed.wrapping_add(index as u32)) >> 16);
            // Rounding must not make an infinity.
            let finite = up & INFINITY != INFINITY;
            *half = ((if finite { up } else { bits }) >> 16) as u16;
        }
    }
}

/// Exponent bits of what is not finite.
const INFINITY: u32 = 0x7f80_0000;

impl Format for Int8 {
    const WORDS: usize = 1 + STATE_BLOCK / 4;

    fn load(slot: Slot, words: &[f32], values: &mut [f32; STATE_BLOCK]) {
        let Some((largest, codes)) = words.split_first() else { return };
        for (value, code) in values.iter_mut().zip(bytes::of(codes)) {
            *value = match slot {
                Slot::Positive => largest * level(255u8.wrapping_sub(*code), *code == 0),
                Slot::Signed => {
                    let magnitude = code & 0x7f;
                    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
                    sign * largest * level(127u8.wrapping_sub(magnitude), magnitude == 0)
                }
            };
        }
    }

    fn store(slot: Slot, words: &mut [f32], values: &[f32; STATE_BLOCK], seed: u32) {
        let Some((largest, codes)) = words.split_first_mut() else { return };
        *largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        for (index, (code, value)) in bytes::of_mut(codes).iter_mut().zip(values).enumerate() {
            let share = if *largest > 0.0 { (value.abs() / *largest).min(1.0) } else { 0.0 };
            let chance = (mixed(seed.wrapping_add(index as u32)) >> 8) as f32 * EIGHTH_BITS;
            *code = match slot {
                Slot::Positive => encode(share, 255, chance),
                Slot::Signed => encode(share, 127, chance) | if value.is_sign_negative() { 0x80 } else { 0 },
            };
        }
    }
}

/// 2^−24.
const EIGHTH_BITS: f32 = 1.0 / 16_777_216.0;

/// 2^(j/8).
#[allow(clippy::approx_constant, reason = "a table, of which one entry is the square root of two")]
const EIGHTHS: [f32; 9] =
    [1.0, 1.090_507_7, 1.189_207_1, 1.296_839_6, 1.414_213_5, 1.542_210_8, 1.681_792_9, 1.834_008_1, 2.0];

/// 2^(−below/8), or zero.
fn level(below: u8, zero: bool) -> f32 {
    if zero {
        return 0.0;
    }
    // 2^(−below/8) = 2^(j/8)·2^−octaves with 8·octaves = below + j.
    let octaves = u32::from(below).div_ceil(8);
    let j = octaves.wrapping_mul(8).wrapping_sub(u32::from(below)) & 7;
    let power = f32::from_bits(127u32.wrapping_sub(octaves) << 23);
    EIGHTHS.get(j as usize).copied().unwrap_or(1.0) * power
}

/// The code of `share` in 0…1, of codes up to `top`; the upper of its neighbors where `chance` in 0…1 falls below the
/// share of the way to it.
fn encode(share: f32, top: u8, chance: f32) -> u8 {
    let least = level(top.wrapping_sub(1), false);
    if share < least {
        return u8::from(chance * least < share);
    }
    // share = 2^−octaves · m with m in 1…2, and between the eighths j and j + 1.
    let octaves = 127u32.wrapping_sub(share.to_bits() >> 23);
    let m = f32::from_bits(share.to_bits() & 0x007f_ffff | 0x3f80_0000);
    let j = EIGHTHS.iter().skip(1).filter(|eighth| **eighth <= m).count();
    let at = |j: usize| EIGHTHS.get(j).copied().unwrap_or(2.0);
    let up = chance * (at(j.wrapping_add(1)) - at(j)) < m - at(j);
    let below = octaves.wrapping_mul(8).wrapping_sub(j as u32).wrapping_sub(u32::from(up));
    top.wrapping_sub(below.min(254) as u8)
}

/// A word every bit of which depends on every bit of `word` (the finalizer of MurmurHash3).
fn mixed(word: u32) -> u32 {
    let word = (word ^ (word >> 16)).wrapping_mul(0x85eb_ca6b);
    let word = (word ^ (word >> 13)).wrapping_mul(0xc2b2_ae35);
    word ^ (word >> 16)
}
