//! The integer two-factor term beside a product.
//!
//! `u = sat16(round(f32(A·(x − zx))·s))` comes of the layer's own products, A's rows taken for output channels. Where
//! the rank is small, B stands ready in pairs of rank rows for eight channels a vector: `f32(B·u)·n` is added where
//! accumulators become real values, u in registers. B of a larger rank is multiplied by the layer's products too.
//!
//! # Numerics
//! Sums are exact modulo 2³², as the reference's are: a pair of products of an int8 with an int16 stays within 2²³.
//!
//! # Limit
//! Per pixel, `2·r·⌈K/16⌉` products and sums for A, and per eight channels `r` for B and four operations in reals,
//! beside the layer's own `16·⌈K/16⌉` and six.

use core::arch::x86_64::*;

use ingraft_kernel::TwoFactor;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK};
use ingraft_kernel::window::{ConvShape, row};

use crate::avx2::lanes::{load_f32, load_i32, store_f32};
use crate::avx2::qdot::{self, Codes};
use crate::avx2::tile::{PIXELS, Run, STRIP, Strip, Tile};
use ingraft_vector::memory::take;

/// Largest rank whose B is packed. Memory for it is there whether or not a term is active.
const NARROW: usize = 16;
/// Channels or rank rows in a vector.
const LANES: usize = 8;

/// Two rank rows of B, of eight channels.
type Pair = [[i16; 2]; LANES];

/// The factors of a group and what they make of a run.
pub(super) struct LowRank<'m> {
    rank: usize,
    /// `zx·ΣA` and the scale of u, per rank row.
    offset: &'m mut [[i32; LANES]],
    scale: &'m mut [[f32; LANES]],
    /// Pairs of rank rows for each of channels: 1, 2, 4 or 8; 0 for a larger rank.
    pairs: usize,
    /// B, `[channels / 8][pairs]`.
    up: &'m mut [Pair],
    /// u of each pixel, where B is packed.
    latents: [[[i16; 2]; NARROW / 2]; PIXELS],
}

/// Pairs of rank rows that a vector loop is written for.
fn pairs(rank: usize) -> usize {
    if rank > NARROW { 0 } else { rank.div_ceil(2).next_power_of_two() }
}

impl<'m> LowRank<'m> {
    /// Bytes that [`Self::new`] takes at most.
    pub(super) fn bytes(shape: &ConvShape) -> usize {
        let rows = MAX_TERM_RANK * (size_of::<i32>() + size_of::<f32>());
        rows + shape.out_group.div_ceil(LANES) * pairs(NARROW) * size_of::<Pair>()
    }

    /// Room for `term`.
    pub(super) fn new(term: &TwoFactor<'_>, shape: &ConvShape, memory: &mut &'m mut [u8]) -> Option<Self> {
        let (rows, pairs) = (term.rank.div_ceil(LANES), pairs(term.rank));
        Some(Self {
            rank: term.rank,
            offset: take(memory, rows)?,
            scale: take(memory, rows)?,
            pairs,
            up: take(memory, shape.out_group.div_ceil(LANES) * pairs)?,
            latents: [[[0; 2]; NARROW / 2]; PIXELS],
        })
    }

    /// Whether B is packed.
    pub(super) fn is_narrow(&self) -> bool {
        self.pairs != 0
    }

    /// Prepares the factors of `group`.
    pub(super) fn load(&mut self, conv: &QConv<'_>, group: usize) -> Option<()> {
        let Some(Factors::I8 { down, up, down_scale, .. }) = conv.terms.two_factor.map(|term| term.factors)
        else {
            return None;
        };
        self.offset.fill([0; LANES]);
        self.scale.fill([0.0; LANES]);
        let (offset, scale) = (self.offset.as_flattened_mut(), self.scale.as_flattened_mut());
        let first = group * self.rank;
        for (k, (offset, scale)) in offset.iter_mut().zip(scale).take(self.rank).enumerate() {
            let a = row(down, first + k, conv.shape.row())?;
            let sum = a.iter().fold(0i32, |sum, a| sum.wrapping_add(i32::from(*a)));
            *offset = sum.wrapping_mul(conv.attrs.in_zero_point);
            *scale = *down_scale.get(first + k)?;
        }
        if !self.is_narrow() {
            return Some(());
        }
        let out = conv.shape.out_group;
        let up = up.get(group * out * self.rank..)?.get(..out * self.rank)?;
        self.up.fill([[0; 2]; LANES]);
        for (local, codes) in up.chunks_exact(self.rank.max(1)).enumerate() {
            let vectors = self.up.get_mut(local / LANES * self.pairs..)?;
            for (to, codes) in vectors.iter_mut().zip(codes.chunks(2)) {
                let to = to.get_mut(local % LANES)?;
                to.iter_mut().zip(codes).for_each(|(to, code)| *to = i16::from(*code));
            }
        }
        Some(())
    }

    /// Computes u of the rows of `codes`, into `wide` where B is not packed. `sums` is room for products.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn project(
        &mut self,
        conv: &QConv<'_>,
        run: Run,
        codes: &Codes<'_>,
        wide: &mut Codes<'_>,
        sums: &mut Tile<i32>,
    ) -> Option<()> {
        let Some(Factors::I8 { down, .. }) = conv.terms.two_factor.map(|term| term.factors) else {
            return None;
        };
        for start in (0..self.rank).step_by(STRIP) {
            let count = STRIP.min(self.rank - start);
            qdot::products(codes, down, run.group * self.rank + start, count, sums)?;
            let (offset, scale) = (self.offset.get(start / LANES..)?, self.scale.get(start / LANES..)?);
            for (pixel, sums) in sums.iter().take(run.pixels).enumerate() {
                let sums = sums.as_chunks::<LANES>().0.iter().zip(offset).zip(scale);
                if self.pairs != 0 {
                    let latents = self.latents.get_mut(pixel)?.as_chunks_mut::<4>().0;
                    for (u, ((sums, offset), scale)) in latents.iter_mut().zip(sums) {
                        quantize(sums, offset, scale, u);
                    }
                } else {
                    let mut latents = [[[0; 2]; 4]; STRIP / LANES];
                    for (u, ((sums, offset), scale)) in latents.iter_mut().zip(sums) {
                        quantize(sums, offset, scale, u);
                    }
                    let latents = latents.as_flattened().as_flattened();
                    wide.fill(pixel, start, latents.get(..count)?, |u: i16| u)?;
                }
            }
        }
        Some(())
    }

    /// `f32(acc)·m + f32(B·u)·n` of a tile, where B is packed.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn values(
        &self,
        conv: &QConv<'_>,
        run: Run,
        strip: Strip,
        acc: &Tile<i32>,
        v: &mut Tile<f32>,
    ) -> Option<()> {
        let Some(Factors::I8 { up_scale, .. }) = conv.terms.two_factor.map(|term| term.factors) else {
            return None;
        };
        let block = (strip.channel - run.group * conv.shape.out_group) / LANES;
        let up = self.up.get(block * self.pairs..)?;
        let up = up.get(..strip.count.div_ceil(LANES) * self.pairs)?;
        let channels =
            Channels { multiplier: whole(strip.of(conv.multiplier)?), up_scale: whole(strip.of(up_scale)?) };
        let latents = self.latents.get(..run.pixels)?;
        match self.pairs {
            1 => rows::<1>(latents, up.as_chunks().0, &channels, acc, v),
            2 => rows::<2>(latents, up.as_chunks().0, &channels, acc, v),
            4 => rows::<4>(latents, up.as_chunks().0, &channels, acc, v),
            _ => rows::<8>(latents, up.as_chunks().0, &channels, acc, v),
        }
        Some(())
    }
}

/// The constants of a strip's channels, zero past the last.
struct Channels {
    multiplier: [[f32; LANES]; STRIP / LANES],
    up_scale: [[f32; LANES]; STRIP / LANES],
}

#[inline(always)]
fn whole(values: &[f32]) -> [[f32; LANES]; STRIP / LANES] {
    let mut padded = [[0.0; LANES]; STRIP / LANES];
    padded.as_flattened_mut().iter_mut().zip(values).for_each(|(to, v)| *to = *v);
    padded
}

/// u of eight rank rows. A row past the last has scale 0 and gives 0.
#[inline]
#[target_feature(enable = "avx2")]
fn quantize(sums: &[i32; LANES], offset: &[i32; LANES], scale: &[f32; LANES], u: &mut [[i16; 2]; 4]) {
    let real = _mm256_cvtepi32_ps(_mm256_sub_epi32(load_i32(sums), load_i32(offset)));
    let real = _mm256_mul_ps(real, load_f32(scale));
    // Below −2³¹ the conversion gives −2³¹, which saturates as it should; above, it would too.
    let codes = _mm256_cvtps_epi32(_mm256_min_ps(real, _mm256_set1_ps(32767.0)));
    let codes = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
    // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
    unsafe { _mm_storeu_si128(u.as_mut_ptr().cast(), codes) }
}

/// The values of as many pixels as there are latents.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn rows<const R: usize>(
    latents: &[[[i16; 2]; NARROW / 2]],
    up: &[[Pair; R]],
    channels: &Channels,
    acc: &Tile<i32>,
    v: &mut Tile<f32>,
) {
    for ((latents, acc), v) in latents.iter().zip(acc).zip(v) {
        let mut u = [_mm256_setzero_si256(); R];
        for (u, [low, high]) in u.iter_mut().zip(latents) {
            *u = _mm256_set1_epi32(i32::from(*low as u16) | i32::from(*high) << 16);
        }
        let constants = channels.multiplier.iter().zip(&channels.up_scale);
        let tile = acc.as_chunks::<LANES>().0.iter().zip(v.as_chunks_mut::<LANES>().0);
        for (((acc, v), (multiplier, scale)), up) in tile.zip(constants).zip(up) {
            let mut sum = _mm256_setzero_si256();
            for (u, up) in u.iter().zip(up) {
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(*u, pair(up)));
            }
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(load_i32(acc)), load_f32(multiplier));
            let term = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), load_f32(scale));
            store_f32(v, _mm256_add_ps(value, term));
        }
    }
}

/// A vector of B.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(codes: &Pair) -> __m256i {
    // SAFETY: the reference covers the 32 bytes read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) }
}
