//! Products of patches with rank rows, four rows in a vector or more.

use core::arch::x86_64::*;

use super::factors::{Group, QUAD};
use super::{eights, low_rank};
use crate::features::{Avx2, Avx512, AvxVnni};
use crate::gemm::Rows;
use crate::simd::{Avx2Bytes, Simd, Vector, Ymm};

/// How an instruction set multiplies patches with rank rows.
pub(crate) trait Ranks: Copy {
    /// Codes of each of four rank rows in a vector of A.
    const RUN: usize;
    /// Rank rows in a vector of A where there are more than four.
    const ROWS: usize = QUAD;

    /// The next codes of a patch, at most `RUN`, for every rank row; zero past the last.
    ///
    /// # Safety
    /// `count` codes lie at `from`, as [`Simd::InPlace`] multiplies them or `moved`, filled up to a whole step.
    unsafe fn load_run(self, from: *const u8, count: usize, moved: bool) -> Self::Codes
    where
        Self: Simd;

    /// The next `RUN` codes of four rank rows.
    ///
    /// # Safety
    /// They lie at `from`.
    #[inline(always)]
    unsafe fn load_rows(self, from: *const u8) -> Self::Weights
    where
        Self: Simd,
    {
        // SAFETY: the caller's contract.
        unsafe { self.load_weights(from) }
    }

    /// Wrapping `acc + Σ x·w` of the codes in each lane, exact for any.
    #[inline(always)]
    fn dot_rows(self, acc: Self::Int, x: Self::Codes, w: Self::Weights) -> Self::Int
    where
        Self: Simd,
    {
        self.dot(acc, x, w)
    }

    /// u of all rank rows of `group` at the pixels of `rows`, `[rank / 4][BLOCK][4]`.
    #[inline(always)]
    fn project<const MOVED: bool, const EVEN: bool>(
        self,
        rows: &Rows<'_>,
        group: &Group<'_>,
        latents: &mut [[i16; QUAD]],
    ) -> Option<()>
    where
        Self: Simd,
    {
        low_rank::project::<Self, MOVED, EVEN>(self, rows, group, latents)
    }

    /// u of four rank rows at four pixels, `[pixel][rank row]`, of their sums.
    fn latents(self, sums: [Self::Int; 4], offset: &[i32; QUAD], scale: &[f32; QUAD]) -> [[i16; QUAD]; 4]
    where
        Self: Simd;
}

impl Ranks for Avx512 {
    const RUN: usize = 16;
    const ROWS: usize = eights::EIGHT;

    #[inline(always)]
    fn project<const MOVED: bool, const EVEN: bool>(
        self,
        rows: &Rows<'_>,
        group: &Group<'_>,
        latents: &mut [[i16; QUAD]],
    ) -> Option<()> {
        if group.rows == eights::EIGHT {
            return eights::project::<MOVED, EVEN>(self, rows, group, latents);
        }
        low_rank::project::<Self, MOVED, EVEN>(self, rows, group, latents)
    }

    #[inline(always)]
    unsafe fn load_run(self, from: *const u8, count: usize, moved: bool) -> __m512i {
        // SAFETY: `self` proves the instructions; only codes that the caller says are there are read.
        unsafe {
            let codes = if count >= Self::RUN {
                _mm_loadu_si128(from.cast())
            } else {
                _mm_maskz_loadu_epi8((1 << count) - 1, from.cast())
            };
            let codes = _mm512_broadcast_i32x4(codes);
            if moved { codes } else { _mm512_xor_si512(codes, _mm512_set1_epi8(-128)) }
        }
    }

    #[inline(always)]
    fn latents(self, sums: [__m512i; 4], offset: &[i32; QUAD], scale: &[f32; QUAD]) -> [[i16; QUAD]; 4] {
        let mut latents = [[0; QUAD]; 4];
        // Sums of the four lanes of each 128-bit part: afterwards part i, lane j is rank row i of pixel j.
        let sums = self.sum_parts_int(sums);
        // SAFETY: `self` proves the instructions; each reference covers the bytes read or written.
        unsafe {
            let (offset, scale) = (_mm_loadu_si128(offset.as_ptr().cast()), _mm_loadu_ps(scale.as_ptr()));
            let by_pixel = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let sums = _mm512_permutexvar_epi32(by_pixel, sums);
            let real = self.to_real(_mm512_add_epi32(sums, _mm512_broadcast_i32x4(offset)));
            let real = self.mul(real, _mm512_broadcast_f32x4(scale));
            // Below −2³¹ the conversion gives −2³¹, which saturates as it should; above, it would too.
            let u = self.round(self.min(real, self.splat(32767.0)));
            _mm256_storeu_si256(latents.as_mut_ptr().cast(), _mm512_cvtsepi32_epi16(u));
        }
        latents
    }
}

impl Ranks for Avx2 {
    const RUN: usize = 4;

    #[inline(always)]
    unsafe fn load_run(self, from: *const u8, count: usize, _: bool) -> __m256i {
        // SAFETY: `self` proves the instructions; of two codes, a whole step, four bytes are read, of more eight.
        unsafe {
            if count > 2 {
                _mm256_set1_epi64x(from.cast::<i64>().read_unaligned())
            } else {
                _mm256_set1_epi64x(i64::from(from.cast::<u32>().read_unaligned()))
            }
        }
    }

    #[inline(always)]
    fn latents(self, sums: [__m256i; 4], offset: &[i32; QUAD], scale: &[f32; QUAD]) -> [[i16; QUAD]; 4] {
        latents_of(self, sums, offset, scale)
    }
}

// Rank rows are not split: as those of [`Avx2`], of patches that hold bytes.
impl Ranks for Avx2Bytes {
    const RUN: usize = Avx2::RUN;

    #[inline(always)]
    unsafe fn load_run(self, from: *const u8, _: usize, _: bool) -> __m256i {
        // SAFETY: `self` proves the instructions; four codes, a whole step, are read.
        unsafe { _mm256_cvtepu8_epi16(_mm_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn load_rows(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the sixteen bytes; no alignment is needed.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    fn dot_rows(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        self.dot_pairs(acc, x, w)
    }

    #[inline(always)]
    fn latents(self, sums: [__m256i; 4], offset: &[i32; QUAD], scale: &[f32; QUAD]) -> [[i16; QUAD]; 4] {
        latents_of(self, sums, offset, scale)
    }
}

impl Ranks for AvxVnni {
    const RUN: usize = 8;

    #[inline(always)]
    unsafe fn load_run(self, from: *const u8, count: usize, moved: bool) -> __m256i {
        // SAFETY: `self` proves the instructions; only codes that the caller says are there are read.
        unsafe {
            let codes = match count {
                8.. => from.cast::<u64>().read_unaligned(),
                4.. => {
                    let (low, high) = (from.cast::<u32>(), from.add(count - 4).cast::<u32>());
                    let high = u64::from(high.read_unaligned()) << (8 * (count - 4));
                    u64::from(low.read_unaligned()) | high
                }
                _ => (0..count).fold(0, |codes, at| codes | u64::from(from.add(at).read()) << (8 * at)),
            };
            let codes = _mm256_set1_epi64x(codes as i64);
            if moved { codes } else { _mm256_xor_si256(codes, _mm256_set1_epi8(-128)) }
        }
    }

    #[inline(always)]
    fn latents(self, sums: [__m256i; 4], offset: &[i32; QUAD], scale: &[f32; QUAD]) -> [[i16; QUAD]; 4] {
        latents_of(self, sums, offset, scale)
    }
}

/// [`Ranks::latents`] of rank rows whose sums are those of two neighboring lanes.
#[inline(always)]
fn latents_of<S: Ymm>(
    simd: S,
    sums: [__m256i; 4],
    offset: &[i32; QUAD],
    scale: &[f32; QUAD],
) -> [[i16; QUAD]; 4] {
    let mut latents = [[0; QUAD]; 4];
    let [a, b, c, d] = sums;
    // SAFETY: `simd` proves the instructions; each reference covers the bytes read or written.
    unsafe {
        let (offset, scale) = (_mm_loadu_si128(offset.as_ptr().cast()), _mm_loadu_ps(scale.as_ptr()));
        let (offset, scale) = (_mm256_broadcastsi128_si256(offset), _mm256_set_m128(scale, scale));
        // Each rank row is the sum of two neighboring lanes; afterwards its four follow each other.
        let pixels = [_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d)];
        let mut u = pixels;
        for (u, pixels) in u.iter_mut().zip(pixels) {
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(pixels);
            let real = simd.mul(simd.to_real(_mm256_add_epi32(sums, offset)), scale);
            // Below −2³¹ the conversion gives −2³¹, which saturates as it should; above, it would too.
            *u = simd.round(simd.min(real, simd.splat(32767.0)));
        }
        // Packing works within 128-bit parts: the middle quarters change places.
        let u = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(u[0], u[1]));
        _mm256_storeu_si256(latents.as_mut_ptr().cast(), u);
    }
    latents
}
