//! int8 pooling, sixteen channels at a time; steps with a mask take the reference.
//!
//! # Numerics
//! Exact sums, then the reference's arithmetic in its order: equal to the bit.

use core::arch::aarch64::*;

use ingraft_kernel::attrs::PoolAttrs;
use ingraft_kernel::pool::{Images, KERNEL_Q as REFERENCE, MAX, Region};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::codes::{BLOCK, centered, load};
use crate::lanes::block;
use crate::requantize::{Limits, store};

/// int8 maximum and average.
pub(crate) const KERNEL: Kernel = Kernel { name: "pool_qs8_qs8__neon", run, ..REFERENCE }.checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    (step.outputs().len() == 1).then_some(()).ok_or(KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input): (&PoolAttrs, &[i8]) = (call.attrs()?, call.slice(0)?);
    let (from, to) = (call.input(0)?.shape(), call.output(0)?.shape());
    let images = Images::new(from, to, attrs.window).ok_or(call.operands())?;
    let limits = Limits::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    images.pool(input, call.slice_mut(0)?, |region, out| {
        for (index, out) in out.chunks_mut(BLOCK).enumerate() {
            let values = match attrs.kind {
                MAX => largest(attrs, region, index * BLOCK, out.len()),
                _ => average(attrs, region, index * BLOCK, out.len()),
            };
            store(out, limits.rounded(&values));
        }
    });
    Ok(())
}

/// The largest code of `len` channels from `start`, in output steps.
#[inline]
#[target_feature(enable = "neon")]
fn largest(attrs: &PoolAttrs, region: &Region<'_, i8>, start: usize, len: usize) -> [float32x4_t; 4] {
    let mut most = vdupq_n_s8(i8::MIN);
    region.each(start, len, |taps| most = vmaxq_s8(most, load(&block(taps, 0))));
    let (zero, ratio) = (vdupq_n_s8(attrs.in_zero_point as i8), vdupq_n_f32(attrs.ratio));
    centered(most, zero).map(|code| vmulq_f32(vcvtq_f32_s32(code), ratio))
}

/// The average of `len` channels from `start`, in output steps.
#[inline]
#[target_feature(enable = "neon")]
fn average(attrs: &PoolAttrs, region: &Region<'_, i8>, start: usize, len: usize) -> [float32x4_t; 4] {
    let zero = vdupq_n_s8(attrs.in_zero_point as i8);
    let mut sums = [vdupq_n_s32(0); 4];
    region.each(start, len, |taps| {
        for (sum, code) in sums.iter_mut().zip(centered(load(&block(taps, 0)), zero)) {
            *sum = vaddq_s32(*sum, code);
        }
    });
    let factor = vdupq_n_f32(attrs.ratio / region.count(attrs.kind).max(1) as f32);
    sums.map(|sum| vmulq_f32(vcvtq_f32_s32(sum), factor))
}
