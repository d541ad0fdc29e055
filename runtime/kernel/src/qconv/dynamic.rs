//! int8 convolution and linear layers on codes whose parameters were found at run time.

use ingraft_tensor::{DType, bytes};

use super::QConv;
use crate::attrs::{ConvAttrs, QConvAttrs};
use crate::conv::check_float_terms;
use crate::requantize::{clamp, passes, set_bit};
use crate::window::ConvShape;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// int8 codes to f32, input scale and zero point as operands.
///
/// # Shapes
/// Inputs: codes `[N, H, W, C]` int8; weight `[O, kh, kw, C/groups]` int8; its sums over each output
/// channel `[O]` i32; multiplier `[O]` f32, the weight's scales; bias `[O]` f32; scale `[1]` f32; zero
/// point `[1]` int8. Output `[N, H, W, O]` f32. The attributes are those of [`OpCode::Conv`].
///
/// # Numerics
/// `f32(Σ w·(x − zx))·(scale·multiplier[o]) + bias[o]`, the sum exact, then the real-valued adapter terms
/// and the clamp; every product and sum is one rounded f32 operation in this order.
pub const KERNEL: Kernel = Kernel::new(
    "dynamic_conv_qd8_qc8w_f32__scalar",
    OpCode::DynamicConv,
    Some(DType::I8),
    Some(DType::F32),
    run,
)
.checked(check)
.with_workspace(workspace);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &ConvAttrs = step.attrs()?;
    check::operands_and_mask(step, 7)?;
    check::clamp(step, attrs.lo, attrs.hi)?;
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    let out = shape.output[3];
    let wanted = [
        (DType::I8, shape.row().wrapping_mul(out)),
        (DType::I32, out),
        (DType::F32, out),
        (DType::F32, out),
        (DType::F32, 1),
        (DType::I8, 1),
    ];
    let found = step.inputs().iter().skip(1).map(|operand| (operand.dtype, operand.shape.elements()));
    check::require(step, found.eq(wanted))
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    ConvShape::new(
        &attrs.window,
        attrs.groups as usize,
        step.input(0).ok()?.shape,
        step.output(0).ok()?.shape,
    )
}

/// The channels' multipliers and biases for the scale and zero point of this run, then one patch.
fn workspace(step: &Step<'_>) -> usize {
    shape(step)
        .map_or(0, |s| s.output[3].wrapping_mul(8).wrapping_add(if s.is_pointwise() { 0 } else { s.row() }))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    check_float_terms(call.op, &call.terms)?;
    let attrs: &ConvAttrs = call.attrs()?;
    let shape =
        ConvShape::new(&attrs.window, attrs.groups as usize, call.input(0)?.shape(), call.output(0)?.shape());
    let shape = shape.ok_or(error)?;
    let (&[in_scale], &[zero_point]) = (call.slice::<f32>(5)?, call.slice::<i8>(6)?) else {
        return Err(error);
    };
    let (sums, multiplier) = (call.slice::<i32>(2)?, call.slice::<f32>(3)?);
    let scratch = core::mem::take(&mut call.workspace);
    let channels = shape.output[3].wrapping_mul(4);
    let (scaled, rest) = scratch.split_at_mut_checked(channels).ok_or(error)?;
    let (folded, patch) = rest.split_at_mut_checked(channels).ok_or(error)?;
    let scaled: &mut [f32] = bytes::cast_mut(scaled).ok_or(error)?;
    let folded: &mut [i32] = bytes::cast_mut(folded).ok_or(error)?;
    scaled.iter_mut().zip(multiplier).for_each(|(m, w)| *m = in_scale * w);
    let zero = i32::from(zero_point);
    folded.iter_mut().zip(sums).for_each(|(b, sum)| *b = zero.wrapping_mul(*sum).wrapping_neg());
    let (input, weight, shift, terms) = (call.slice(0)?, call.slice(1)?, call.slice(4)?, call.terms);
    let attrs = QConvAttrs {
        window: attrs.window,
        groups: attrs.groups,
        in_zero_point: zero,
        out_zero_point: 0,
        lo: attrs.lo,
        hi: attrs.hi,
        in_scale,
        out_scale: 1.0,
    };
    let conv = QConv { attrs: &attrs, shape, input, weight, bias: folded, multiplier: scaled, shift, terms };
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    conv.for_each(bytes::cast_mut(patch).ok_or(error)?, |index, channel, acc, extra| {
        let v = conv.pre_activation(channel, acc, extra, 1.0);
        if let Some(o) = out.get_mut(index) {
            *o = clamp(v, attrs.lo, attrs.hi);
        }
        if let Some(mask) = mask.as_deref_mut() {
            set_bit(mask, index, passes(v, attrs.lo, attrs.hi));
        }
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::attrs::Window;
    use crate::test_case::{Random, Tensor, run};

    /// Every combination of padding and groups, against sums in i64 and the stated products in f32.
    #[test]
    fn agrees_with_the_definition_to_the_bit() {
        let mut random = Random(17);
        for (kernel, groups, zero_point) in [(1u32, 1u32, -128i8), (3, 1, 5), (3, 2, 127)] {
            let (h, w, c, o) = (4i64, 5i64, 4i64, 6i64);
            let pad = i64::from(kernel / 2);
            let window = Window { kernel: [kernel; 2], pad: [pad as u32; 4], ..Window::UNIT };
            let attrs = ConvAttrs { window, groups, lo: -3.0, hi: f32::INFINITY };
            let (in_group, out_group) = (c / i64::from(groups), o / i64::from(groups));
            let row = (i64::from(kernel) * i64::from(kernel) * in_group) as usize;
            let (x, weight) = (random.codes((h * w * c) as usize), random.codes(row * o as usize));
            let sums: Vec<i32> = weight.chunks(row).map(|r| r.iter().map(|v| i32::from(*v)).sum()).collect();
            let (multiplier, bias) =
                (random.floats(o as usize, 0.001, 0.01), random.floats(o as usize, -1.0, 1.0));
            let scale = random.float(0.001, 0.02);
            let inputs = [
                &Tensor::new(&[1, 4, 5, 4], &x),
                &Tensor::new(&[6, kernel, kernel, in_group as u32], &weight),
                &Tensor::new(&[6], &sums),
                &Tensor::new(&[6], &multiplier),
                &Tensor::new(&[6], &bias),
                &Tensor::new(&[], &[scale]),
                &Tensor::new(&[], &[zero_point]),
            ];
            let mut out = Tensor::zeros(DType::F32, &[1, 4, 5, 6]);
            run(&KERNEL, &attrs, &inputs, &mut [&mut out]).unwrap();
            let code = |y: i64, x_at: i64, channel: i64| {
                let inside = (0..h).contains(&y) && (0..w).contains(&x_at);
                let at = (y * w + x_at) * c + channel;
                if inside { i64::from(x[at as usize]) - i64::from(zero_point) } else { 0 }
            };
            for (at, have) in (0i64..).zip(out.values::<f32>()) {
                let (pixel, channel) = (at / o, at % o);
                let mut sum = 0i64;
                for (i, v) in (0i64..).zip(&weight[channel as usize * row..][..row]) {
                    let (tap, local) = (i / in_group, i % in_group);
                    let (ky, kx) = (tap / i64::from(kernel), tap % i64::from(kernel));
                    let source = channel / out_group * in_group + local;
                    sum += i64::from(*v) * code(pixel / w + ky - pad, pixel % w + kx - pad, source);
                }
                let want = sum as f32 * (scale * multiplier[channel as usize]) + bias[channel as usize];
                assert_eq!(have, want.max(-3.0), "element {at}");
            }
        }
    }
}
