//! Products of taps: each lane is one channel.

use core::arch::x86_64::*;

use crate::features::{Avx2, Avx512, AvxVnni};
use crate::qconv::Bounds;
use crate::simd::{Bytes, Simd, Vector, Ymm};

/// How an instruction set multiplies the taps of a window.
pub(crate) trait Taps: Copy {
    /// Elements computed together.
    const BLOCK: usize;
    /// Taps whose codes are interleaved.
    const TOGETHER: usize;
    /// Whether blocks of two positions are computed together, and weights loaded once for both.
    const PAIRS: bool;

    /// Sums of a block, interleaved within 128-bit parts.
    type Sums: Copy;
    /// What a block's sums start from and are multiplied with.
    type Scale: Copy;

    /// Of `BLOCK` values each; `None` for fewer.
    fn scale_of(self, bias: &[i32], multiplier: &[f32]) -> Option<Self::Scale>;

    /// The sums of a block at several positions.
    ///
    /// # Safety
    /// - `BLOCK` codes lie at each of `taps` from every `from`; there are as many taps as whole groups have.
    /// - `weights` holds `TOGETHER · BLOCK` codes for every group.
    unsafe fn sum_taps<const P: usize>(
        self,
        from: [*const u8; P],
        taps: &[usize],
        weights: *const u8,
        scale: &Self::Scale,
    ) -> [Self::Sums; P];

    /// Writes the first codes, as many as fit, at most `BLOCK`.
    fn store_sums(self, sums: Self::Sums, scale: &Self::Scale, bounds: &Bounds<Self>, out: &mut [i8])
    where
        Self: Simd;
}

/// The first vectors of values.
#[inline(always)]
fn vectors<T, V: Copy, const LANES: usize, const N: usize>(
    values: &[T],
    load: impl Fn(*const T) -> V,
) -> Option<[V; N]> {
    let mut vectors = values.as_chunks::<LANES>().0.iter();
    let first = load(vectors.clone().next()?.as_ptr());
    let mut loaded = [first; N];
    for to in &mut loaded {
        *to = load(vectors.next()?.as_ptr());
    }
    Some(loaded)
}

/// [`Taps::sum_taps`] of four taps that are interleaved: eight shuffles and four products.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn sum_fours<S: Bytes, const P: usize>(
    simd: S,
    from: [*const u8; P],
    taps: &[usize],
    weights: *const u8,
    start: &[S::Int; 4],
) -> [[S::Int; 4]; P] {
    let (mut sums, vector) = ([*start; P], 4 * S::LANES);
    for (group, taps) in taps.as_chunks::<4>().0.iter().enumerate() {
        // SAFETY: the caller's contract.
        unsafe {
            let weight = weights.add(group * 4 * vector);
            let mut w = [simd.load_weights(weight); 4];
            for (at, w) in w.iter_mut().enumerate() {
                *w = simd.load_weights(weight.add(at * vector));
            }
            for (sums, from) in sums.iter_mut().zip(from) {
                let mut codes = [simd.load_line(from.add(taps[0])); 4];
                for (codes, tap) in codes.iter_mut().zip(taps) {
                    *codes = simd.load_line(from.add(*tap));
                }
                let [a, b, c, d] = codes;
                let (ab, cd) = (simd.interleave(a, b), simd.interleave(c, d));
                let (low, high) = (simd.interleave_pairs(ab[0], cd[0]), simd.interleave_pairs(ab[1], cd[1]));
                sums[0] = simd.dot(sums[0], low[0], w[0]);
                sums[1] = simd.dot(sums[1], low[1], w[1]);
                sums[2] = simd.dot(sums[2], high[0], w[2]);
                sums[3] = simd.dot(sums[3], high[1], w[3]);
            }
        }
    }
    sums
}

impl Taps for Avx512 {
    const BLOCK: usize = 64;
    const TOGETHER: usize = 4;
    const PAIRS: bool = false;

    type Sums = [__m512i; 4];
    type Scale = ([__m512i; 4], [__m512; 4]);

    #[inline(always)]
    fn scale_of(self, bias: &[i32], multiplier: &[f32]) -> Option<Self::Scale> {
        // SAFETY: each pointer is of sixteen values.
        unsafe {
            let bias = vectors::<_, _, 16, 4>(bias, |from| self.load_int(from))?;
            Some((bias, vectors::<_, _, 16, 4>(multiplier, |from| self.load(from))?))
        }
    }

    #[inline(always)]
    unsafe fn sum_taps<const P: usize>(
        self,
        from: [*const u8; P],
        taps: &[usize],
        weights: *const u8,
        scale: &Self::Scale,
    ) -> [[__m512i; 4]; P] {
        // SAFETY: the caller's contract.
        unsafe { sum_fours(self, from, taps, weights, &scale.0) }
    }

    #[inline(always)]
    fn store_sums(self, sums: [__m512i; 4], scale: &Self::Scale, bounds: &Bounds<Self>, out: &mut [i8]) {
        let Bounds { lo, hi, zero_point } = *bounds;
        let mut codes = sums;
        for (code, multiplier) in codes.iter_mut().zip(scale.1) {
            *code = self.round(self.clamp(self.mul(self.to_real(*code), multiplier), lo, hi));
        }
        let [a, b, c, d] = codes;
        let mask = if out.len() >= Self::BLOCK { u64::MAX } else { (1 << out.len()) - 1 };
        // SAFETY: `self` proves the instructions; the mask selects only bytes that `out` has.
        unsafe {
            let zero = _mm512_packs_epi32(zero_point, zero_point);
            let low = _mm512_add_epi16(_mm512_packs_epi32(a, b), zero);
            let high = _mm512_add_epi16(_mm512_packs_epi32(c, d), zero);
            _mm512_mask_storeu_epi8(out.as_mut_ptr(), mask, _mm512_packs_epi16(low, high));
        }
    }
}

impl Taps for Avx2 {
    const BLOCK: usize = 16;
    const TOGETHER: usize = 2;
    const PAIRS: bool = true;

    type Sums = [__m256i; 2];
    type Scale = ([__m256i; 2], [__m256; 2]);

    #[inline(always)]
    fn scale_of(self, bias: &[i32], multiplier: &[f32]) -> Option<Self::Scale> {
        // SAFETY: each pointer is of eight values.
        unsafe {
            let bias = vectors::<_, _, 8, 2>(bias, |from| self.load_int(from))?;
            Some((bias, vectors::<_, _, 8, 2>(multiplier, |from| self.load(from))?))
        }
    }

    #[inline(always)]
    unsafe fn sum_taps<const P: usize>(
        self,
        from: [*const u8; P],
        taps: &[usize],
        weights: *const u8,
        scale: &Self::Scale,
    ) -> [[__m256i; 2]; P] {
        let mut sums = [scale.0; P];
        for (group, taps) in taps.as_chunks::<2>().0.iter().enumerate() {
            // SAFETY: the caller's contract; `self` proves the instructions, and loads need no alignment.
            unsafe {
                let weight = weights.add(group * Self::TOGETHER * Self::BLOCK);
                let w = [self.load_weights(weight), self.load_weights(weight.add(16))];
                for (sums, from) in sums.iter_mut().zip(from) {
                    let first = _mm256_loadu_si256(from.add(taps[0]).cast());
                    let second = _mm256_loadu_si256(from.add(taps[1]).cast());
                    sums[0] = self.dot(sums[0], _mm256_unpacklo_epi16(first, second), w[0]);
                    sums[1] = self.dot(sums[1], _mm256_unpackhi_epi16(first, second), w[1]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn store_sums(self, sums: [__m256i; 2], scale: &Self::Scale, bounds: &Bounds<Self>, out: &mut [i8]) {
        let Bounds { lo, hi, zero_point } = *bounds;
        let mut codes = sums;
        for (code, multiplier) in codes.iter_mut().zip(scale.1) {
            *code = self.round(self.clamp(self.mul(self.to_real(*code), multiplier), lo, hi));
        }
        // SAFETY: `self` proves the instructions; only bytes that `out` has are written.
        unsafe {
            let zero = _mm256_packs_epi32(zero_point, zero_point);
            let wide = _mm256_add_epi16(_mm256_packs_epi32(codes[0], codes[1]), zero);
            self.store_bytes(out.as_mut_ptr(), self.packed(wide), out.len().min(Self::BLOCK));
        }
    }
}

impl Taps for AvxVnni {
    const BLOCK: usize = 32;
    const TOGETHER: usize = 4;
    const PAIRS: bool = false;

    type Sums = [__m256i; 4];
    type Scale = ([__m256i; 4], [__m256; 4]);

    #[inline(always)]
    fn scale_of(self, bias: &[i32], multiplier: &[f32]) -> Option<Self::Scale> {
        // SAFETY: each pointer is of eight values.
        unsafe {
            let bias = vectors::<_, _, 8, 4>(bias, |from| self.load_int(from))?;
            Some((bias, vectors::<_, _, 8, 4>(multiplier, |from| self.load(from))?))
        }
    }

    #[inline(always)]
    unsafe fn sum_taps<const P: usize>(
        self,
        from: [*const u8; P],
        taps: &[usize],
        weights: *const u8,
        scale: &Self::Scale,
    ) -> [[__m256i; 4]; P] {
        // SAFETY: the caller's contract.
        unsafe { sum_fours(self, from, taps, weights, &scale.0) }
    }

    #[inline(always)]
    fn store_sums(self, sums: [__m256i; 4], scale: &Self::Scale, bounds: &Bounds<Self>, out: &mut [i8]) {
        let Bounds { lo, hi, zero_point } = *bounds;
        let mut codes = sums;
        for (code, multiplier) in codes.iter_mut().zip(scale.1) {
            *code = self.round(self.clamp(self.mul(self.to_real(*code), multiplier), lo, hi));
        }
        let [a, b, c, d] = codes;
        // SAFETY: `self` proves the instructions; only bytes that `out` has are written.
        unsafe {
            let zero = _mm256_packs_epi32(zero_point, zero_point);
            let low = _mm256_add_epi16(_mm256_packs_epi32(a, b), zero);
            let high = _mm256_add_epi16(_mm256_packs_epi32(c, d), zero);
            self.store_vector(out.as_mut_ptr(), _mm256_packs_epi16(low, high), out.len().min(Self::BLOCK));
        }
    }
}
