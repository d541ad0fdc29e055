//! f32 in 256-bit vectors.

use core::arch::x86_64::*;

use ingraft_kernel::{Call, KernelError};
use ingraft_vector::{Row, Task, Vector};

use super::Ymm;
use crate::avx2::lanes::sum_lanes_f32;
use crate::features::{Avx2, AvxVnni};
use crate::simd::Avx2Bytes;

/// The vectors of an instruction set with AVX2 and FMA, compiled for `$features`.
///
/// A macro, as a trait of another crate cannot be implemented for whatever is a [`Ymm`].
macro_rules! vector {
    ($isa:ty, $features:literal) => {
        impl Vector for $isa {
            const LANES: usize = 8;
            const WIDTH: usize = 2;
            const DOTS: usize = 3;

            type Real = __m256;
            type Part = usize;

            #[inline(always)]
            unsafe fn assume() -> Self {
                // SAFETY: the caller's contract.
                unsafe { Self::assume() }
            }

            #[inline(always)]
            fn enter<R: Row<Self>>(self, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
                #[target_feature(enable = $features)]
                fn enter<R: Row<$isa>>(call: &mut Call<'_, '_>, v: $isa) -> Result<(), KernelError> {
                    R::run(call, v)
                }
                // SAFETY: `self` proves the instructions.
                unsafe { enter::<R>(call, self) }
            }

            #[inline(always)]
            fn perform<T: Task<Self>>(self, task: T) -> T::Output {
                #[inline(never)]
                #[target_feature(enable = $features)]
                fn perform<T: Task<$isa>>(task: T, v: $isa) -> T::Output {
                    task.run(v)
                }
                // SAFETY: `self` proves the instructions.
                unsafe { perform(task, self) }
            }

            #[inline(always)]
            fn splat(self, value: f32) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_set1_ps(value) }
            }

            #[inline(always)]
            fn add(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_add_ps(a, b) }
            }

            #[inline(always)]
            fn sub(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_sub_ps(a, b) }
            }

            #[inline(always)]
            fn mul(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_mul_ps(a, b) }
            }

            #[inline(always)]
            fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }

            #[inline(always)]
            fn div(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_div_ps(a, b) }
            }

            #[inline(always)]
            fn sqrt(self, v: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_sqrt_ps(v) }
            }

            #[inline(always)]
            fn min(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_min_ps(a, b) }
            }

            #[inline(always)]
            fn max(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_max_ps(a, b) }
            }

            #[inline(always)]
            fn size(self, v: __m256) -> __m256 {
                // SAFETY: `self` proves the instructions.
                unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), v) }
            }

            #[inline(always)]
            fn with_sign(self, size: __m256, sign: __m256) -> __m256 {
                // SAFETY: `self` proves the instructions.
                unsafe { _mm256_or_ps(size, _mm256_and_ps(sign, _mm256_set1_ps(-0.0))) }
            }

            #[inline(always)]
            fn round_real(self, v: __m256) -> __m256 {
                // SAFETY: `self` proves the instruction.
                unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
            }

            // In two products, each with a power of two that f32 has.
            #[inline(always)]
            fn scale(self, v: __m256, n: __m256) -> __m256 {
                // SAFETY: `self` proves the instructions.
                unsafe {
                    let n = _mm256_cvtps_epi32(n);
                    let (half, bias) = (_mm256_srai_epi32::<1>(n), _mm256_set1_epi32(127));
                    let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
                    let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
                    _mm256_mul_ps(_mm256_mul_ps(v, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second))
                }
            }

            #[inline(always)]
            fn largest(self, v: __m256) -> f32 {
                // SAFETY: `self` proves the instructions.
                unsafe {
                    let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                    let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
                    _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
                }
            }

            #[inline(always)]
            fn sum(self, v: __m256) -> f32 {
                // SAFETY: `self` proves the instructions.
                unsafe {
                    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
                    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
                }
            }

            #[inline(always)]
            fn part(self, count: usize) -> usize {
                count.min(Self::LANES)
            }

            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> __m256 {
                // SAFETY: `self` proves the instruction, the caller the eight values; no alignment is needed.
                unsafe { _mm256_loadu_ps(from) }
            }

            #[inline(always)]
            unsafe fn load_part(self, from: *const f32, part: usize) -> __m256 {
                const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
                // SAFETY: `self` proves the instructions; they read only the lanes that the caller says are there, and eight
                // lanes of the mask.
                unsafe {
                    if part >= Self::LANES {
                        return _mm256_loadu_ps(from);
                    }
                    let lanes = LANES.as_ptr().add(Self::LANES - part);
                    _mm256_maskload_ps(from, _mm256_loadu_si256(lanes.cast()))
                }
            }

            #[inline(always)]
            unsafe fn store_part(self, to: *mut f32, v: __m256, part: usize) {
                // SAFETY: the caller's contract.
                unsafe { self.store_vector(to.cast(), _mm256_castps_si256(v), part.min(Self::LANES) * 4) }
            }

            #[inline(always)]
            fn keep(self, v: __m256, bits: u32) -> __m256 {
                // SAFETY: `self` proves the instructions.
                unsafe {
                    let each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                    let set = _mm256_and_si256(_mm256_set1_epi32(bits as i32), each);
                    _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, each)))
                }
            }

            #[inline(always)]
            fn sums(self, v: [__m256; 4]) -> [f32; 4] {
                // SAFETY: `self` proves the instructions.
                unsafe { sum_lanes_f32(v) }
            }

            #[inline(always)]
            unsafe fn load_i8(self, from: *const i8) -> __m256 {
                // SAFETY: `self` proves the instructions, the caller the eight codes; no alignment is needed.
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
            }

            #[inline(always)]
            unsafe fn load_some_i8(self, from: *const i8, count: usize) -> __m256 {
                if count == Self::LANES {
                    // SAFETY: the caller vouches for all.
                    return unsafe { self.load_i8(from) };
                }
                let mut codes = [0i8; 8];
                for (lane, code) in codes.iter_mut().enumerate().take(count) {
                    // SAFETY: the caller vouches for the first `count`.
                    *code = unsafe { from.add(lane).read() };
                }
                // SAFETY: eight codes.
                unsafe { self.load_i8(codes.as_ptr()) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32, v: __m256) {
                // SAFETY: `self` proves the instruction, the caller the room; no alignment is needed.
                unsafe { _mm256_storeu_ps(to, v) }
            }
        }
    };
}

vector!(Avx2, "avx2,fma");
vector!(Avx2Bytes, "avx2,fma");
vector!(AvxVnni, "avx2,fma,avxvnni");
