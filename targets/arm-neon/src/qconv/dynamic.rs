//! int8 convolution and linear layers on codes whose parameters were found at run time.

use ingraft_kernel::attrs::{ConvAttrs, QConvAttrs};
use ingraft_kernel::conv::check_float_terms;
use ingraft_kernel::qconv::{KERNEL_DYNAMIC as REFERENCE, QConv};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};

use super::rank_space::RankSpace;
use super::scratch::Scratch;
use super::{F32, I8, layout, pack_groups, values};
use crate::features::{DotProd, I8mm, Neon};
use crate::panel::constant;
use crate::requantize;
use crate::tile::{after_operands, take};

macro_rules! row {
    ($name:ident: $isa:ty, $suffix:literal) => {
        /// int8 codes to f32, input scale and zero point as operands.
        pub(crate) const $name: Kernel = Kernel::new(
            concat!("dynamic_conv_qd8_qc8w_f32__", $suffix),
            OpCode::DynamicConv,
            I8,
            F32,
            run::<$isa>,
        )
        .checked(check)
        .with_workspace(workspace)
        .with_packed(packed::<$isa>, pack::<$isa>);
    };
}

row!(NEON: Neon, "neon");
row!(DOTPROD: DotProd, "dotprod");
row!(I8MM: I8mm, "i8mm");

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    // Masks are the reference's.
    if step.outputs().len() != 1 {
        return Err(KernelError::Operands(step.op));
    }
    constant::<i8>(step, 1).map(|_| ())
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
}

/// The channels' multipliers and biases for the scale and zero point of this run, then one block.
fn workspace(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| shape.output[3].next_multiple_of(4) * 8 + Scratch::bytes(&shape))
}

fn packed<D: RankSpace>(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| layout::<D>(&shape).elements() * shape.groups)
}

fn pack<D: RankSpace>(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    pack_groups::<D>(step, &shape(step).ok_or(KernelError::Operands(step.op))?, out)
}

fn run<D: RankSpace>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove what `D` stands for.
    unsafe { compute::<D>(call) }
}

#[target_feature(enable = "neon")]
fn compute<D: RankSpace>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (operands, memory) = (call.operands(), after_operands(call));
    check_float_terms(call.op, &call.terms)?;
    let attrs: &ConvAttrs = call.attrs()?;
    let (input, output) = (call.input(0)?.shape(), call.output(0)?.shape());
    let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output).ok_or(operands)?;
    let (&[in_scale], &[zero_point]) = (call.slice::<f32>(5)?, call.slice::<i8>(6)?) else {
        return Err(operands);
    };
    let mut rest = core::mem::take(&mut call.workspace);
    let padded = shape.output[3].next_multiple_of(4);
    let multiplier: &mut [f32] = take(&mut rest, padded).ok_or(memory)?;
    let bias: &mut [i32] = take(&mut rest, padded).ok_or(memory)?;
    let zero = i32::from(zero_point);
    multiplier.iter_mut().zip(call.slice::<f32>(3)?).for_each(|(m, w)| *m = in_scale * w);
    bias.iter_mut().zip(call.slice::<i32>(2)?).for_each(|(b, s)| *b = zero.wrapping_mul(*s).wrapping_neg());
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
    let (input, weight, shift, terms) = (call.slice(0)?, call.slice(1)?, call.slice(4)?, call.terms);
    let conv = QConv { attrs: &attrs, shape, input, weight, bias, multiplier, shift, terms };
    let packed = call.packed;
    let out: &mut [f32] = call.slice_mut(0)?;
    // SAFETY: this row runs only where `D` is proved.
    unsafe {
        values::fill::<D, f32>(&conv, packed, rest, out, None, |v, attrs, out| {
            requantize::clamped(v, attrs.lo, attrs.hi, out)
        })
    }
    .ok_or(memory)
}
