//! 256-bit vectors, of every instruction set that has them.

mod vector;

use core::arch::x86_64::*;

use ingraft_vector::Vector;

use super::Simd;
use crate::gemm::Arithmetic;
use crate::qconv::ranks::Ranks;

/// An instruction set with AVX2 and FMA: how it multiplies codes. A value is the proof of both.
pub(crate) trait Ymm: Vector<Real = __m256> + Ranks {
    /// As [`Simd::WIDE`].
    const CODE: usize;
    /// As [`Simd::InPlace`].
    type Products: Arithmetic<Self, Sum = __m256i>;

    /// As [`Simd::dot`].
    fn multiply_codes(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i;
    /// As [`Simd::dot_pairs`].
    #[inline(always)]
    fn multiply_pairs(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(x, w)) }
    }
    /// As [`Simd::load_weights`].
    ///
    /// # Safety
    /// As there.
    unsafe fn weight_codes(self, from: *const u8) -> __m256i;

    /// Sixteen values within int8 as bytes.
    #[inline(always)]
    fn packed(self, wide: __m256i) -> __m128i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm_packs_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide)) }
    }

    /// Writes the first `count` of sixteen bytes.
    ///
    /// # Safety
    /// `to` has room for them.
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8, codes: __m128i, count: usize) {
        // SAFETY: `self` proves the instructions; they write only the bytes that the caller made room for.
        unsafe {
            if count == 16 {
                _mm_storeu_si128(to.cast(), codes);
            } else if count == 8 {
                _mm_storel_epi64(to.cast(), codes);
            } else {
                let mut bytes = [0; 32];
                _mm_storeu_si128(bytes.as_mut_ptr().cast(), codes);
                copy_bytes(&bytes, to.cast(), count);
            }
        }
    }

    /// Writes the first `count` bytes of a vector, or all.
    ///
    /// # Safety
    /// `to` has room for them.
    #[inline(always)]
    unsafe fn store_vector(self, to: *mut i8, v: __m256i, count: usize) {
        // SAFETY: `self` proves the instructions; they write only the bytes that the caller made room for.
        unsafe {
            if count >= 32 {
                _mm256_storeu_si256(to.cast(), v);
            } else {
                let mut bytes = [0; 32];
                _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v);
                copy_bytes(&bytes, to.cast(), count);
            }
        }
    }
}

/// Copies the first `count` bytes, fewer than 32, that lie at `from`.
///
/// # Safety
/// `to` has room for them.
#[inline(always)]
unsafe fn copy_bytes(from: &[u8; 32], to: *mut u8, count: usize) {
    let (mut from, mut to) = (from.as_ptr(), to);
    // SAFETY: each copy is of bytes that `count` says are left.
    unsafe {
        if count & 16 != 0 {
            to.cast::<[u8; 16]>().write_unaligned(from.cast::<[u8; 16]>().read());
            (from, to) = (from.add(16), to.add(16));
        }
        if count & 8 != 0 {
            to.cast::<[u8; 8]>().write_unaligned(from.cast::<[u8; 8]>().read());
            (from, to) = (from.add(8), to.add(8));
        }
        if count & 4 != 0 {
            to.cast::<[u8; 4]>().write_unaligned(from.cast::<[u8; 4]>().read());
            (from, to) = (from.add(4), to.add(4));
        }
        if count & 2 != 0 {
            to.cast::<[u8; 2]>().write_unaligned(from.cast::<[u8; 2]>().read());
            (from, to) = (from.add(2), to.add(2));
        }
        if count & 1 != 0 {
            to.write(from.read());
        }
    }
}

impl<P: Ymm> Simd for P {
    const REGISTERS: usize = 16;
    const WIDE: usize = P::CODE;
    const COLUMNS: usize = 2;

    type Int = __m256i;
    type Codes = __m256i;
    type Weights = __m256i;
    type InPlace = P::Products;

    #[inline(always)]
    fn dot(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        self.multiply_codes(acc, x, w)
    }

    #[inline(always)]
    unsafe fn load_weights(self, from: *const u8) -> __m256i {
        // SAFETY: the caller's contract.
        unsafe { self.weight_codes(from) }
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m256i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    fn to_real(self, v: __m256i) -> __m256 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_cvtepi32_ps(v) }
    }

    // Both instructions give their second operand where the comparison is false.
    #[inline(always)]
    fn clamp(self, v: __m256, lo: __m256, hi: __m256) -> __m256 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_min_ps(_mm256_max_ps(v, lo), hi) }
    }

    #[inline(always)]
    fn round(self, v: __m256) -> __m256i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_cvtps_epi32(v) }
    }

    #[inline(always)]
    unsafe fn load_int(self, from: *const i32) -> __m256i {
        // SAFETY: `self` proves the instruction, the caller the eight values; no alignment is needed.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_moved(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instruction, the caller the four bytes; no alignment is needed.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_moved_block(self, from: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the sixteen bytes; no alignment is needed.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_four(self, from: *const f32) -> __m256 {
        // SAFETY: `self` proves the instructions, the caller the four values; no alignment is needed.
        unsafe {
            let four = _mm_loadu_ps(from);
            _mm256_set_m128(four, four)
        }
    }

    #[inline(always)]
    fn sum_parts_int(self, [a, b, c, d]: [__m256i; 4]) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
        }
    }

    #[inline(always)]
    fn sum_parts(self, [a, b, c, d]: [__m256; 4]) -> __m256 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
            let (low, high) = (_mm256_unpacklo_pd(ab, cd), _mm256_unpackhi_pd(ab, cd));
            _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high))
        }
    }

    #[inline(always)]
    fn number(self, v: __m256) -> __m256 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_ORD_Q>(v, v)) }
    }

    #[inline(always)]
    fn max_int(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_max_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn load_codes_wide(self, from: *const i8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the codes; no alignment is needed.
        unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())) }
    }

    #[inline(always)]
    fn add_int(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn dot_pairs(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        self.multiply_pairs(acc, x, w)
    }

    #[inline(always)]
    unsafe fn load_splat(self, from: *const f32) -> __m256 {
        // SAFETY: `self` proves the instruction, the caller the value.
        unsafe { _mm256_set1_ps(from.read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn store_int(self, to: *mut i32, v: __m256i, count: usize) {
        // SAFETY: `self` proves the instructions; they write only the lanes that the caller made room for. A masked
        // store would take longer than these on most processors.
        unsafe {
            self.store_vector(to.cast(), v, count.min(Self::LANES) * 4);
        }
    }

    #[inline(always)]
    unsafe fn store_codes<const N: usize>(self, to: *mut i8, v: [__m256i; N], zero: __m256i, count: usize) {
        // SAFETY: the caller's contract.
        unsafe { self.store_within(to, v, zero, None, count) }
    }

    #[inline(always)]
    unsafe fn store_within<const N: usize>(
        self,
        to: *mut i8,
        v: [__m256i; N],
        zero: __m256i,
        limits: Option<[__m256i; 2]>,
        count: usize,
    ) {
        const WIDTH: usize = 16;
        for (pair, v) in v.chunks(2).enumerate() {
            let (Some(first), Some(last)) = (v.first(), v.last()) else { continue };
            let left = count.saturating_sub(pair * WIDTH).min(WIDTH);
            // SAFETY: `self` proves the instructions; they write only the bytes that the caller made room for.
            unsafe {
                let zero = _mm256_packs_epi32(zero, zero);
                let mut codes = self.packed(_mm256_adds_epi16(_mm256_packs_epi32(*first, *last), zero));
                if let Some([least, most]) = limits {
                    let (least, most) = (_mm256_castsi256_si128(least), _mm256_castsi256_si128(most));
                    codes = _mm_min_epi8(_mm_max_epi8(codes, least), most);
                }
                // Packing works within 128-bit parts: the middle quarters change places.
                self.store_bytes(to.add(pair * WIDTH), _mm_shuffle_epi32::<0b11_01_10_00>(codes), left);
            }
        }
    }
}
