//! Quantization with a range found at run time.

use core::arch::aarch64::*;

use ingraft_kernel::quantize::KERNEL_DYNAMIC as REFERENCE;
use ingraft_kernel::requantize::clamp;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode};
use ingraft_tensor::{DType, SCALE_MAX, SCALE_MIN, round_half_even};

use crate::lanes::{load_f32, store_i8};

/// `DynamicQuantizeLinear`.
///
/// # Numerics
/// The reference's: extremes do not depend on the order they are found in, and the quotients
/// are rounded divisions. Clamping codes gives what rounding the clamped quotient does.
pub(crate) const DYNAMIC: Kernel =
    Kernel::new("quantize_f32_qd8__neon", OpCode::DynamicQuantize, Some(DType::F32), Some(DType::I8), run)
        .checked(REFERENCE.check);

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let input = call.slice::<f32>(0)?;
    let (min, max) = extremes(input);
    let scale = if max == min { 1.0 } else { clamp((max - min) / 255.0, SCALE_MIN, SCALE_MAX) };
    // The zero point of the unsigned codes is the distance of zero from the lowest code.
    let zero_point = round_half_even(clamp(0.0 - min / scale, 0.0, 255.0)) - 128;
    let (whole, rest) = input.as_chunks::<16>();
    let (out, out_rest) = call.slice_mut::<i8>(0)?.as_chunks_mut::<16>();
    for (out, values) in out.iter_mut().zip(whole) {
        store_i8(out, codes(values, scale, zero_point));
    }
    let (mut values, mut last) = ([0.0; 16], [0; 16]);
    values.iter_mut().zip(rest).for_each(|(v, x)| *v = *x);
    store_i8(&mut last, codes(&values, scale, zero_point));
    out_rest.iter_mut().zip(last).for_each(|(o, code)| *o = code);
    call.slice_mut::<f32>(1)?.fill(scale);
    call.slice_mut::<i8>(2)?.fill(zero_point as i8);
    Ok(())
}

/// The smallest and the largest value, zero among them; NaN is neither.
#[inline]
#[target_feature(enable = "neon")]
fn extremes(values: &[f32]) -> (f32, f32) {
    let (whole, rest) = values.as_chunks::<16>();
    let (mut min, mut max) = ([vdupq_n_f32(0.0); 4], [vdupq_n_f32(0.0); 4]);
    for values in whole {
        for ((min, max), v) in min.iter_mut().zip(&mut max).zip(load_f32::<4>(values)) {
            (*min, *max) = (vminnmq_f32(*min, v), vmaxnmq_f32(*max, v));
        }
    }
    let ([a, b, c, d], [e, f, g, h]) = (min, max);
    let min = vminnmvq_f32(vminnmq_f32(vminnmq_f32(a, b), vminnmq_f32(c, d)));
    let max = vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(e, f), vmaxnmq_f32(g, h)));
    rest.iter().fold((min, max), |(min, max), v| (min.min(*v), max.max(*v)))
}

/// The codes of sixteen values; NaN becomes the zero point.
#[inline]
#[target_feature(enable = "neon")]
fn codes(values: &[f32; 16], scale: f32, zero_point: i32) -> int8x16_t {
    // The conversion makes zero of NaN.
    let steps = load_f32::<4>(values).map(|v| vcvtnq_s32_f32(vdivq_f32(v, vdupq_n_f32(scale))));
    let [a, b, c, d] = steps;
    let zero_point = vdupq_n_s16(zero_point as i16);
    let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zero_point);
    let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), zero_point);
    vqmovn_high_s16(vqmovn_s16(low), high)
}
