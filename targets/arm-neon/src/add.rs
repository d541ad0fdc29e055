//! int8 addition of tensors of one shape; others take the reference.
//!
//! # Numerics
//! The reference's products and sum, not contracted: equal to the bit.

use core::arch::aarch64::*;

use ingraft_kernel::attrs::QBinaryAttrs;
use ingraft_kernel::elementwise::KERNEL_ADD_Q as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::codes::{BLOCK, Rounding, load, widen};
use crate::lanes::block;
use crate::requantize::store;

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
    let rounding = Rounding::new(attrs.lo, attrs.hi, attrs.out_zero_point);
    let [za, zb] = attrs.zero_points.map(|zero| vdupq_n_s32(zero));
    let [ka, kb] = attrs.factors.map(|factor| vdupq_n_f32(factor));
    for (index, out) in call.slice_mut::<i8>(0)?.chunks_mut(BLOCK).enumerate() {
        let (a, b) = (load(&block(lhs, index * BLOCK)), load(&block(rhs, index * BLOCK)));
        let mut values = [vdupq_n_f32(0.0); 4];
        for ((v, a), b) in values.iter_mut().zip(widen(a)).zip(widen(b)) {
            let a = vmulq_f32(vcvtq_f32_s32(vsubq_s32(a, za)), ka);
            let b = vmulq_f32(vcvtq_f32_s32(vsubq_s32(b, zb)), kb);
            *v = vaddq_f32(a, b);
        }
        store(out, rounding.codes(values));
    }
    Ok(())
}
