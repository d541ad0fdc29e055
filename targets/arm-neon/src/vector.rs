//! Four f32 in a vector, for the rows of [`ingraft_vector`].

use core::arch::aarch64::*;

use ingraft_kernel::{Call, KernelError};
use ingraft_vector::{Row, Task, Vector};

use crate::features::Neon;
use crate::math;

#[target_feature(enable = "neon")]
fn enter<R: Row<Neon>>(call: &mut Call<'_, '_>, v: Neon) -> Result<(), KernelError> {
    R::run(call, v)
}

#[inline(never)]
#[target_feature(enable = "neon")]
fn perform<T: Task<Neon>>(task: T, v: Neon) -> T::Output {
    task.run(v)
}

/// All bits of the lanes that are set in `bits`.
#[inline]
#[target_feature(enable = "neon")]
fn lanes(bits: u32) -> uint32x4_t {
    const EACH: [u32; 4] = [1, 2, 4, 8];
    // SAFETY: four values.
    let each = unsafe { vld1q_u32(EACH.as_ptr()) };
    vtstq_u32(vdupq_n_u32(bits), each)
}

macro_rules! operations {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty { $body:expr })*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $out {
            // SAFETY: `self` proves the instructions.
            unsafe { $body }
        }
    )*};
}

impl Vector for Neon {
    const LANES: usize = 4;
    const WIDTH: usize = 4;
    const DOTS: usize = 6;

    type Real = float32x4_t;
    type Part = usize;

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

    operations! {
        fn splat(value: f32) -> float32x4_t { vdupq_n_f32(value) }
        fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
        fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        fn sqrt(v: float32x4_t) -> float32x4_t { vsqrtq_f32(v) }
        fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t { vbslq_f32(vcltq_f32(a, b), a, b) }
        fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vbslq_f32(vcgtq_f32(a, b), a, b) }
        fn size(v: float32x4_t) -> float32x4_t { vabsq_f32(v) }
        fn with_sign(size: float32x4_t, sign: float32x4_t) -> float32x4_t { math::with_sign(size, sign) }
        fn round_real(v: float32x4_t) -> float32x4_t { vrndnq_f32(v) }
        fn scale(v: float32x4_t, n: float32x4_t) -> float32x4_t { math::scale(v, vcvtq_s32_f32(n)) }
        fn keep(v: float32x4_t, bits: u32) -> float32x4_t {
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), lanes(bits)))
        }
        fn largest(v: float32x4_t) -> f32 { vmaxvq_f32(v) }
        fn sum(v: float32x4_t) -> f32 { vaddvq_f32(v) }
        fn sums(v: [float32x4_t; 4]) -> [f32; 4] {{
            let [a, b, c, d] = v;
            let mut sums = [0.0; 4];
            vst1q_f32(sums.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
            sums
        }}
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: `self` proves the instruction, the caller the four values; no alignment is needed.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    fn part(self, count: usize) -> usize {
        count.min(Self::LANES)
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, part: usize) -> float32x4_t {
        if part == Self::LANES {
            // SAFETY: the caller vouches for all.
            return unsafe { self.load(from) };
        }
        let mut values = [0.0; 4];
        for (lane, value) in values.iter_mut().enumerate().take(part) {
            // SAFETY: the caller vouches for the first `part`.
            *value = unsafe { from.add(lane).read_unaligned() };
        }
        // SAFETY: four values.
        unsafe { self.load(values.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> float32x4_t {
        // SAFETY: `self` proves the instructions, the caller the four codes.
        unsafe {
            let codes = vcreate_s8(u64::from(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(codes))))
        }
    }

    #[inline(always)]
    unsafe fn load_some_i8(self, from: *const i8, count: usize) -> float32x4_t {
        if count == Self::LANES {
            // SAFETY: the caller vouches for all.
            return unsafe { self.load_i8(from) };
        }
        let mut codes = [0; 4];
        for (lane, code) in codes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for the first `count`.
            *code = unsafe { from.add(lane).read() };
        }
        // SAFETY: four codes.
        unsafe { self.load_i8(codes.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: float32x4_t) {
        // SAFETY: `self` proves the instruction, the caller the room; no alignment is needed.
        unsafe { vst1q_f32(to, v) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, v: float32x4_t, part: usize) {
        if part == Self::LANES {
            // SAFETY: the caller made room for all.
            return unsafe { self.store(to, v) };
        }
        let mut values = [0.0; 4];
        // SAFETY: four values have room, and the caller made room for the first `part`.
        unsafe {
            self.store(values.as_mut_ptr(), v);
            for (lane, value) in values.iter().enumerate().take(part) {
                to.add(lane).write_unaligned(*value);
            }
        }
    }
}
