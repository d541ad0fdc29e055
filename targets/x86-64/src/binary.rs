//! f32 sums, differences and products of two operands, one of which may repeat: a scalar, a bias, a gate per channel.
//!
//! # Numerics
//! One operation and the clamp of the reference: equal to the bit.

use ingraft_kernel::attrs::BinaryAttrs;
use ingraft_kernel::elementwise::{BinaryFn, KERNEL_F32 as REFERENCE};
use ingraft_kernel::{Call, Kernel, KernelError, Step};
use ingraft_tensor::Shape;

use crate::blocks::{block, load_reals, store_reals};
use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, entry};

/// Addition, subtraction and multiplication; operands of the output's shape, or of its last dimensions.
pub(crate) const AVX512: Kernel =
    Kernel { name: "binary_f32_f32_f32__avx512", run: entry::<Avx512, Binary>, ..REFERENCE }.checked(check);

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel =
    Kernel { name: "binary_f32_f32_f32__avx2", run: entry::<Avx2, Binary>, ..AVX512 };

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

/// Values of two tensors.
struct Binary;

impl<S: Simd> Row<S> for Binary {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let BinaryAttrs { function, lo, hi, .. } = *call.attrs()?;
        let (error, inputs) = (call.operands(), [call.slice::<f32>(0)?, call.slice::<f32>(1)?]);
        let out = call.slice_mut::<f32>(0)?;
        let bounds = [simd.splat(lo), simd.splat(hi)];
        // Without a fused activation values pass unchanged, NaN included.
        let free = lo == f32::NEG_INFINITY && hi == f32::INFINITY;
        let clamp = |v| if free { v } else { simd.clamp(v, bounds[0], bounds[1]) };
        match BinaryFn::from_code(function) {
            Some(BinaryFn::Add) => pairs(simd, inputs, out, |a, b| clamp(simd.add(a, b))),
            Some(BinaryFn::Sub) => pairs(simd, inputs, out, |a, b| clamp(simd.sub(a, b))),
            Some(BinaryFn::Mul) => pairs(simd, inputs, out, |a, b| clamp(simd.mul(a, b))),
            _ => None,
        }
        .ok_or(error)
    }
}

/// `function` of all pairs; the shorter operand is taken again from its start.
#[inline(always)]
fn pairs<S: Simd>(
    simd: S,
    inputs: [&[f32]; 2],
    out: &mut [f32],
    function: impl Fn(S::Real, S::Real) -> S::Real,
) -> Option<()> {
    let [left, right] = inputs;
    let mut memory = [[0.0; 2 * REPEATED]; 2];
    let [left_memory, right_memory] = &mut memory;
    let (left, right) = (repeated(left, out.len(), left_memory)?, repeated(right, out.len(), right_memory)?);
    let step = left.len().min(right.len());
    for (index, out) in out.chunks_mut(step.max(1)).enumerate() {
        let of = |operand: &'_ [f32]| if operand.len() == step { 0 } else { index * step };
        let (left, right) =
            (left.get(of(left)..)?.get(..out.len())?, right.get(of(right)..)?.get(..out.len())?);
        line(simd, [left, right], out, &function);
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
#[inline(always)]
fn line<S: Simd>(
    simd: S,
    [left, right]: [&[f32]; 2],
    out: &mut [f32],
    function: impl Fn(S::Real, S::Real) -> S::Real,
) {
    let operands = left.chunks(block::<S>()).zip(right.chunks(block::<S>()));
    for ((a, b), out) in operands.zip(out.chunks_mut(block::<S>())) {
        let (mut values, b) = (load_reals(simd, a), load_reals(simd, b));
        values.iter_mut().zip(b).for_each(|(a, b)| *a = function(*a, b));
        store_reals(simd, out, values);
    }
}
