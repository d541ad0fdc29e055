//! f32 in 512-bit vectors.

use core::arch::x86_64::*;

use ingraft_kernel::{Call, KernelError};
use ingraft_vector::{Row, Task, Vector};

use crate::features::Avx512;

/// The first `count` of sixteen lanes.
#[inline(always)]
fn part_of(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn enter<R: Row<Avx512>>(call: &mut Call<'_, '_>, simd: Avx512) -> Result<(), KernelError> {
    R::run(call, simd)
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn perform<T: Task<Avx512>>(task: T, simd: Avx512) -> T::Output {
    task.run(simd)
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    const WIDTH: usize = 4;
    const DOTS: usize = 6;

    type Real = __m512;
    type Part = __mmask16;

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller's contract.
        unsafe { Self::assume() }
    }

    #[inline(always)]
    fn enter<R: Row<Self>>(self, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
        // SAFETY: `self` proves the instructions.
        unsafe { enter::<R>(call, self) }
    }

    #[inline(always)]
    fn perform<T: Task<Self>>(self, task: T) -> T::Output {
        // SAFETY: `self` proves the instructions.
        unsafe { perform(task, self) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_sqrt_ps(v) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn size(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_abs_ps(v) }
    }

    #[inline(always)]
    fn with_sign(self, size: __m512, sign: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_or_ps(size, _mm512_and_ps(sign, _mm512_set1_ps(-0.0))) }
    }

    #[inline(always)]
    fn round_real(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_roundscale_ps::<0>(v) }
    }

    #[inline(always)]
    fn scale(self, v: __m512, n: __m512) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_scalef_ps(v, n) }
    }

    #[inline(always)]
    fn largest(self, v: __m512) -> f32 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_reduce_max_ps(v) }
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_reduce_add_ps(v) }
    }

    #[inline(always)]
    fn part(self, count: usize) -> u16 {
        part_of(count)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: `self` proves the instruction, the caller the sixteen values; no alignment is needed.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, part: u16) -> __m512 {
        // SAFETY: `self` proves the instruction; it reads only the lanes that the caller says are there.
        unsafe { _mm512_maskz_loadu_ps(part, from) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, v: __m512, part: u16) {
        // SAFETY: `self` proves the instruction; it writes only the lanes that the caller made room for.
        unsafe { _mm512_mask_storeu_ps(to, part, v) }
    }

    #[inline(always)]
    fn keep(self, v: __m512, bits: u32) -> __m512 {
        // SAFETY: `self` proves the instruction.
        unsafe { _mm512_maskz_mov_ps(bits as __mmask16, v) }
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        let mut out = [0.0; 4];
        // SAFETY: `self` proves the instructions; `out` has room for the four values written.
        unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            let high = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            // Each quarter now holds its own four sums.
            let quarters = _mm512_add_ps(low, high);
            let halves =
                _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters));
            let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            _mm_storeu_ps(out.as_mut_ptr(), sums);
        }
        out
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m512 {
        // SAFETY: `self` proves the instructions, the caller the sixteen codes; no alignment is needed.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_some_i8(self, from: *const i8, count: usize) -> __m512 {
        // SAFETY: `self` proves the instructions; they read only the lanes that the caller vouches for.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(part_of(count), from))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: `self` proves the instruction, the caller the room; no alignment is needed.
        unsafe { _mm512_storeu_ps(to, v) }
    }
}
