//! 512-bit vectors; int8 products by `vpdpbusd`.

mod vector;

use core::arch::asm;
use core::arch::x86_64::*;

use super::{Bytes, Simd};
use crate::features::Avx512;
use crate::gemm::Codes;

/// The first `count` of `WIDTH` mask bits.
#[inline(always)]
fn first<const WIDTH: u32>(count: usize) -> u64 {
    if count >= WIDTH as usize { u64::MAX >> (64 - WIDTH) } else { (1 << count) - 1 }
}

/// `v`, of which the compiler knows nothing: else it would take the exclusive or before the
/// broadcast, and turn one load into a load and a shuffle.
#[inline]
#[target_feature(enable = "avx512f")]
fn opaque(mut v: __m512i) -> __m512i {
    // SAFETY: no instruction is executed.
    unsafe { asm!("/* {0} */", inout(zmm_reg) v, options(pure, nomem, nostack, preserves_flags)) };
    v
}

/// `vpdpwssd`. The compiler would make a product and a sum of it, two operations, to shorten a chain of them.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot_of_pairs(mut acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
    // SAFETY: the instruction reads and writes registers alone.
    unsafe {
        asm!("vpdpwssd {0}, {1}, {2}", inout(zmm_reg) acc, in(zmm_reg) x, in(zmm_reg) w,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

impl Simd for Avx512 {
    const REGISTERS: usize = 32;
    const WIDE: usize = 1;
    const COLUMNS: usize = 4;

    type Int = __m512i;
    type Codes = __m512i;
    type Weights = __m512i;
    type InPlace = Codes;

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    fn to_real(self, v: __m512i) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_cvtepi32_ps(v) }
    }

    // Both instructions give their second operand where the comparison is false.
    #[inline(always)]
    fn clamp(self, v: __m512, lo: __m512, hi: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_min_ps(_mm512_max_ps(v, lo), hi) }
    }

    #[inline(always)]
    fn round(self, v: __m512) -> __m512i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_cvtps_epi32(v) }
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_dpbusd_epi32(acc, x, w) }
    }

    #[inline(always)]
    unsafe fn load_int(self, from: *const i32) -> __m512i {
        // SAFETY: `self` proves the instruction, the caller the sixteen values; no alignment is needed.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_moved(self, from: *const u8) -> __m512i {
        // SAFETY: `self` proves the instruction, the caller the four bytes; no alignment is needed.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_moved_block(self, from: *const u8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the sixteen bytes; no alignment is needed.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_four(self, from: *const f32) -> __m512 {
        // SAFETY: `self` proves the instructions, the caller the four values; no alignment is needed.
        unsafe { _mm512_broadcast_f32x4(_mm_loadu_ps(from)) }
    }

    #[inline(always)]
    fn sum_parts_int(self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        }
    }

    #[inline(always)]
    fn sum_parts(self, [a, b, c, d]: [__m512; 4]) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
            _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))
        }
    }

    #[inline(always)]
    fn number(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v), v) }
    }

    #[inline(always)]
    fn max_int(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_max_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn load_codes_wide(self, from: *const i8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the codes; no alignment is needed.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    fn add_int(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn dot_pairs(self, acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: `self` proves the instruction.
        unsafe { dot_of_pairs(acc, x, w) }
    }

    #[inline(always)]
    unsafe fn load_weights(self, from: *const u8) -> __m512i {
        // SAFETY: `self` proves the instruction, the caller the 64 bytes; no alignment is needed.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_splat(self, from: *const f32) -> __m512 {
        // SAFETY: `self` proves the instruction, the caller the value.
        unsafe { _mm512_set1_ps(from.read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn store_int(self, to: *mut i32, v: __m512i, count: usize) {
        // SAFETY: `self` proves the instruction; it writes only the lanes that the caller made room for.
        unsafe { _mm512_mask_storeu_epi32(to, first::<16>(count) as u16, v) }
    }

    #[inline(always)]
    unsafe fn store_codes<const N: usize>(self, to: *mut i8, v: [__m512i; N], zero: __m512i, count: usize) {
        // SAFETY: `self` proves the instructions; they write only the bytes that the caller made room for.
        unsafe {
            if N == 1 {
                store_sixteen(to, _mm512_cvtepi32_epi8(_mm512_add_epi32(v[0], zero)), count);
            } else {
                store_packed::<N>(to, packed(v, zero), count);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_within<const N: usize>(
        self,
        to: *mut i8,
        v: [__m512i; N],
        zero: __m512i,
        limits: Option<[__m512i; 2]>,
        count: usize,
    ) {
        // SAFETY: `self` proves the instructions; they write only the bytes that the caller made room for.
        unsafe {
            if N == 1 {
                let mut codes = _mm512_cvtsepi32_epi8(_mm512_add_epi32(_mm512_max_epi32(v[0], low()), zero));
                if let Some([least, most]) = limits {
                    let (least, most) = (_mm512_castsi512_si128(least), _mm512_castsi512_si128(most));
                    codes = _mm_min_epi8(_mm_max_epi8(codes, least), most);
                }
                store_sixteen(to, codes, count);
            } else {
                let mut codes = packed(v, zero);
                if let Some([least, most]) = limits {
                    codes = _mm512_min_epi8(_mm512_max_epi8(codes, least), most);
                }
                store_packed::<N>(to, codes, count);
            }
        }
    }
}

/// An integer far below every code, to which a zero point can be added.
#[inline]
#[target_feature(enable = "avx512f")]
fn low() -> __m512i {
    _mm512_set1_epi32(-0x8000)
}

/// The codes of up to four vectors of integers, plus `zero`, in the order of lanes; those beyond int8 saturate.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn packed<const N: usize>(v: [__m512i; N], zero: __m512i) -> __m512i {
    let (second, third) = (v[if N > 1 { 1 } else { 0 }], v[if N > 2 { 2 } else { 0 }]);
    let last = v[if N > 3 { 3 } else { 0 }];
    // Packing works within 128-bit parts: part p ends up with lanes 4p..4p+4 of every vector.
    let zero = _mm512_packs_epi32(zero, zero);
    let low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], second), zero);
    let high = if N > 2 { _mm512_adds_epi16(_mm512_packs_epi32(third, last), zero) } else { low };
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high))
}

/// Writes the first `count` of sixteen codes.
///
/// # Safety
/// `to` has room for them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn store_sixteen(to: *mut i8, codes: __m128i, count: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        match count {
            16 => _mm_storeu_si128(to.cast(), codes),
            _ => _mm_mask_storeu_epi8(to, first::<16>(count) as u16, codes),
        }
    }
}

/// Writes the first `count` of the codes of `N` vectors.
///
/// # Safety
/// `to` has room for them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn store_packed<const N: usize>(to: *mut i8, codes: __m512i, count: usize) {
    let (half, most) = (_mm512_castsi512_si256(codes), first::<64>(count));
    // SAFETY: the caller's contract.
    unsafe {
        match N {
            2 if count == 32 => _mm256_storeu_si256(to.cast(), half),
            2 => _mm256_mask_storeu_epi8(to, most as u32, half),
            3 if count == 48 => {
                _mm256_storeu_si256(to.cast(), half);
                _mm_storeu_si128(to.add(32).cast(), _mm512_extracti32x4_epi32::<2>(codes));
            }
            4 if count == 64 => _mm512_storeu_si512(to.cast(), codes),
            _ => _mm512_mask_storeu_epi8(to, most, codes),
        }
    }
}

impl Bytes for Avx512 {
    type Move = __m512i;

    #[inline(always)]
    fn moving(self) -> __m512i {
        // SAFETY: `self` proves the instruction.
        unsafe { opaque(_mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    unsafe fn load_codes(self, moving: __m512i, from: *const u8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the four bytes; no alignment is needed.
        unsafe {
            let codes = _mm512_set1_epi32(from.cast::<i32>().read_unaligned());
            _mm512_xor_si512(codes, moving)
        }
    }

    #[inline(always)]
    unsafe fn load_block(self, moving: __m512i, from: *const u8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the sixteen bytes; no alignment is needed.
        unsafe { _mm512_xor_si512(self.load_moved_block(from), moving) }
    }

    #[inline(always)]
    unsafe fn load_line(self, from: *const u8) -> __m512i {
        // SAFETY: `self` proves the instruction, the caller the codes; no alignment is needed.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    fn interleave(self, a: __m512i, b: __m512i) -> [__m512i; 2] {
        // SAFETY: `self` proves the instructions.
        unsafe { [_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)] }
    }

    #[inline(always)]
    fn interleave_pairs(self, a: __m512i, b: __m512i) -> [__m512i; 2] {
        // SAFETY: `self` proves the instructions.
        unsafe { [_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)] }
    }
}
