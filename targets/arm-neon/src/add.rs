//! int8 addition of tensors of one shape; others take the reference.
//!
//! # Numerics
//! The reference's products and sum, not contracted: equal to the bit.

use core::arch::aarch64::*;

use ingraft_kernel::attrs::QBinaryAttrs;
use ingraft_kernel::elementwise::KERNEL_ADD_Q as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::codes::{BLOCK, centered, load};
use crate::lanes::{block, store_i8};
use crate::requantize::{Limits, store};

/// int8 addition.
pub(crate) const KERNEL: Kernel = Kernel { name: "add_qs8_qs8_qs8__neon", run, ..REFERENCE }.checked(check);

/// No broadcasting, no mask.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let out = step.output(0)?.shape;
    let plain = step.input(0)?.shape == out && step.input(1)?.shape == out && step.outputs().len() == 1;
    plain.then_some(()).ok_or(KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &QBinaryAttrs = call.attrs()?;
    let (lhs, rhs): (&[i8], &[i8]) = (call.slice(0)?, call.slice(1)?);
    let limits = Limits::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    let zeros = attrs.zero_points.map(|zero| vdupq_n_s8(zero as i8));
    let factors = attrs.factors.map(|factor| vdupq_n_f32(factor));
    let (whole, rest) = call.slice_mut::<i8>(0)?.as_chunks_mut::<BLOCK>();
    let pairs = lhs.as_chunks().0.iter().zip(rhs.as_chunks().0);
    for (out, (a, b)) in whole.iter_mut().zip(pairs) {
        store_i8(out, limits.rounded(&sums([load(a), load(b)], zeros, factors)));
    }
    let [a, b] = [lhs, rhs].map(|codes| load(&block(codes, whole.len() * BLOCK)));
    store(rest, limits.rounded(&sums([a, b], zeros, factors)));
    Ok(())
}

/// `(a − za)·ka + (b − zb)·kb`.
#[inline]
#[target_feature(enable = "neon")]
fn sums([a, b]: [int8x16_t; 2], [za, zb]: [int8x16_t; 2], [ka, kb]: [float32x4_t; 2]) -> [float32x4_t; 4] {
    let (a, b) = (centered(a, za), centered(b, zb));
    let mut sums = [vdupq_n_f32(0.0); 4];
    for (sum, (a, b)) in sums.iter_mut().zip(a.into_iter().zip(b)) {
        *sum = vaddq_f32(vmulq_f32(vcvtq_f32_s32(a), ka), vmulq_f32(vcvtq_f32_s32(b), kb));
    }
    sums
}
