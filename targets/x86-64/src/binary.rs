//! f32 sums, differences and products of two operands, one of which may repeat: a scalar, a bias, a gate per channel.
//!
//! # Numerics
//! One operation and the clamp of the reference: equal to the bit.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::BinaryAttrs;
use ingraft_kernel::elementwise::{BinaryFn, KERNEL_F32 as REFERENCE};
use ingraft_kernel::{Call, Kernel, KernelError, Step};
use ingraft_tensor::Shape;

/// Addition, subtraction and multiplication; operands of the output's shape, or of its last dimensions.
pub(crate) const AVX512: Kernel =
    Kernel { name: "binary_f32_f32_f32__avx512", run, ..REFERENCE }.checked(check);

/// Elements that a short operand is repeated to, at least, so that it fills vectors.
const REPEATED: usize = 256;

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let function = BinaryFn::from_code(step.attrs::<BinaryAttrs>()?.function);
    let known = matches!(function, Some(BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul));
    let out = step.output(0)?.shape;
    let periods = [period(step.input(0)?.shape, out), period(step.input(1)?.shape, out)];
    // One of both has every element, so that no period has to fit the other's.
    let fits = periods.iter().all(Option::is_some) && periods.contains(&Some(out.elements()));
    (known && fits).then_some(()).ok_or(KernelError::Operands(step.op))
}

/// After how many elements an operand repeats; `None` where it does not as a whole.
fn period(operand: Shape, out: Shape) -> Option<usize> {
    let mut own = operand.dims();
    while let [1, rest @ ..] = own {
        own = rest;
    }
    let elements = operand.elements();
    (out.dims().ends_with(own) && elements > 0).then_some(elements)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let BinaryAttrs { function, lo, hi, .. } = *call.attrs()?;
    let (error, inputs) = (call.operands(), [call.slice::<f32>(0)?, call.slice::<f32>(1)?]);
    let out = call.slice_mut::<f32>(0)?;
    let bounds = [_mm512_set1_ps(lo), _mm512_set1_ps(hi)];
    // Without a fused activation values pass unchanged, NaN included.
    let free = lo == f32::NEG_INFINITY && hi == f32::INFINITY;
    let clamp = |v| if free { v } else { _mm512_min_ps(_mm512_max_ps(v, bounds[0]), bounds[1]) };
    match BinaryFn::from_code(function) {
        Some(BinaryFn::Add) => pairs(inputs, out, |a, b| clamp(_mm512_add_ps(a, b))),
        Some(BinaryFn::Sub) => pairs(inputs, out, |a, b| clamp(_mm512_sub_ps(a, b))),
        Some(BinaryFn::Mul) => pairs(inputs, out, |a, b| clamp(_mm512_mul_ps(a, b))),
        _ => None,
    }
    .ok_or(error)
}

/// `function` of all pairs; the shorter operand is taken again from its start.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs(inputs: [&[f32]; 2], out: &mut [f32], function: impl Fn(__m512, __m512) -> __m512) -> Option<()> {
    let [left, right] = inputs;
    let mut memory = [[0.0; 2 * REPEATED]; 2];
    let [left_memory, right_memory] = &mut memory;
    let (left, right) = (repeated(left, out.len(), left_memory)?, repeated(right, out.len(), right_memory)?);
    let step = left.len().min(right.len());
    for (index, out) in out.chunks_mut(step.max(1)).enumerate() {
        let of = |operand: &'_ [f32]| if operand.len() == step { 0 } else { index * step };
        let (left, right) =
            (left.get(of(left)..)?.get(..out.len())?, right.get(of(right)..)?.get(..out.len())?);
        line([left, right], out, &function);
    }
    Some(())
}

/// The operand, or one of few elements several times over.
#[inline(always)]
fn repeated<'a>(operand: &'a [f32], len: usize, memory: &'a mut [f32; 2 * REPEATED]) -> Option<&'a [f32]> {
    if operand.len() >= REPEATED.min(len) {
        return Some(operand);
    }
    let times = REPEATED.div_ceil(operand.len().max(1));
    let memory = memory.get_mut(..times * operand.len())?;
    memory.chunks_exact_mut(operand.len().max(1)).for_each(|to| to.copy_from_slice(operand));
    Some(memory)
}

/// Operands of one length.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn line([left, right]: [&[f32]; 2], out: &mut [f32], function: impl Fn(__m512, __m512) -> __m512) {
    let len = out.len().min(left.len()).min(right.len());
    for at in (0..len).step_by(16) {
        let mask = if len - at >= 16 { u16::MAX } else { (1 << (len - at)) - 1 };
        // SAFETY: the mask selects only elements below the least of the lengths.
        unsafe {
            let a = _mm512_maskz_loadu_ps(mask, left.as_ptr().add(at));
            let b = _mm512_maskz_loadu_ps(mask, right.as_ptr().add(at));
            _mm512_mask_storeu_ps(out.as_mut_ptr().add(at), mask, function(a, b));
        }
    }
}
