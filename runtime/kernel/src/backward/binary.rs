//! Gradient of the functions of two operands, with respect to one of them.

use ingraft_tensor::DType;

use super::{F32, Incoming, check_incoming, check_output, gradient};
use crate::attrs::BinaryBackwardAttrs;
use crate::elementwise::BinaryFn;
use crate::requantize::passes;
use crate::walk::{BLOCK, Walk, lane};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dx = Σ dy·∂f(a, b)/∂x`, summed over the axes along which the operand was broadcast.
///
/// # Shapes
/// Inputs `dy`, optionally its mask, then both operands of the forward step, f32
/// or int8, which broadcast to `dy`; output of the wanted operand's shape.
///
/// # Numerics
/// With a mask, it says where the fused activation passes; without one, values strictly inside it pass. Where
/// maximum and minimum meet equal operands, the left one gets the gradient. Remainders count their divisor as constant.
/// Where `dy` is 0, so is what it adds, even where the derivative is infinite.
pub const KERNEL: Kernel =
    Kernel::new("binary_backward_f32_f32__scalar", OpCode::BinaryBackward, F32, F32, run).checked(check);

/// The derivative of `function` at `(a, b)` with respect to its left or right operand.
pub fn partial(function: BinaryFn, right: bool, a: f32, b: f32) -> f32 {
    let chosen = |condition: bool| if condition != right { 1.0 } else { 0.0 };
    match (function, right) {
        (BinaryFn::Add, _) | (BinaryFn::Sub | BinaryFn::Mod | BinaryFn::Fmod, false) => 1.0,
        (BinaryFn::Sub, true) => -1.0,
        (BinaryFn::Mod | BinaryFn::Fmod, true) => 0.0,
        (BinaryFn::Mul, false) => b,
        (BinaryFn::Mul, true) => a,
        (BinaryFn::Div, false) => 1.0 / b,
        (BinaryFn::Div, true) => -a / (b * b),
        (BinaryFn::Max, _) => chosen(a >= b),
        (BinaryFn::Min, _) => chosen(a <= b),
        // The limit: ln a alone has no value at 0, where a power stays 0.
        (BinaryFn::Pow, true) if a == 0.0 => 0.0,
        (BinaryFn::Pow, false) if b == 0.0 => 0.0,
        (BinaryFn::Pow, false) => b * libm::powf(a, b - 1.0),
        (BinaryFn::Pow, true) => libm::powf(a, b) * libm::logf(a),
        (BinaryFn::Prelu, false) if a < 0.0 => b,
        (BinaryFn::Prelu, false) => 1.0,
        (BinaryFn::Prelu, true) if a < 0.0 => a,
        (BinaryFn::Prelu, true) => 0.0,
    }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &BinaryBackwardAttrs = step.attrs()?;
    let first = check_incoming(step)?;
    check_output(step)?;
    check::require(step, BinaryFn::from_code(attrs.function).is_some() && attrs.operand <= 1)?;
    check::require(step, step.inputs().len() == first.wrapping_add(2))?;
    let (a, b) = (step.input(first)?, step.input(first.wrapping_add(1))?);
    check::require(step, [a, b].iter().all(|x| matches!(x.dtype, DType::F32 | DType::I8)))?;
    let walk = Walk::broadcast(step.input(0)?.shape, [a.shape, b.shape]);
    let wanted = if attrs.operand == 0 { a } else { b };
    check::require(step, walk.is_some() && wanted.shape.elements() == step.output(0)?.shape.elements())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &BinaryBackwardAttrs = call.attrs()?;
    let (error, incoming) = (call.operands(), Incoming::new(call)?);
    let function = BinaryFn::from_code(attrs.function).ok_or(error)?;
    let (first, right) = (incoming.operands(), attrs.operand == 1);
    let (a, b) = (call.input(first)?, call.input(first.wrapping_add(1))?);
    let walk = Walk::broadcast(call.input(0)?.shape(), [a.shape(), b.shape()]).ok_or(error)?;
    let [a_step, b_step] = walk.steps;
    let lhs = Reals::new(call, first, attrs.scales[0], attrs.zero_points[0])?;
    let rhs = Reals::new(call, first.wrapping_add(1), attrs.scales[1], attrs.zero_points[1])?;
    let bounds = if incoming.mask.is_some() { None } else { Some((attrs.lo, attrs.hi)) };
    let dx = gradient(call)?;
    let (mut dy, mut x, mut y) = ([0.0f32; BLOCK], [0.0f32; BLOCK], [0.0f32; BLOCK]);
    let mut done = 0usize;
    walk.blocks(|[a, b], len| {
        let dy = dy.get_mut(..len)?;
        incoming.read(done, dy)?;
        done = done.wrapping_add(len);
        let (x, y) = (lhs.read(a, a_step, len, &mut x)?, rhs.read(b, b_step, len, &mut y)?);
        for (dy, (x, y)) in dy.iter_mut().zip(x.iter().zip(y)) {
            let open = bounds.is_none_or(|(lo, hi)| unclipped(function, *x, *y, lo, hi));
            *dy = if open && *dy != 0.0 { *dy * partial(function, right, *x, *y) } else { 0.0 };
        }
        let (at, step) = if right { (b, b_step) } else { (a, a_step) };
        if step == 0 {
            *dx.get_mut(at)? += dy.iter().sum::<f32>();
        } else {
            super::rows::add(dx.get_mut(at..)?.get_mut(..len)?, dy);
        }
        Some(())
    })
    .ok_or(error)
}

fn unclipped(function: BinaryFn, a: f32, b: f32, lo: f32, hi: f32) -> bool {
    (lo == f32::NEG_INFINITY && hi == f32::INFINITY) || passes(function.eval(a, b), lo, hi)
}

/// An operand as real values.
#[derive(Clone, Copy)]
enum Reals<'a> {
    F32(&'a [f32]),
    I8 { codes: &'a [i8], scale: f32, zero_point: i32 },
}

impl<'a> Reals<'a> {
    fn new(call: &Call<'a, '_>, input: usize, scale: f32, zero_point: i32) -> Result<Self, KernelError> {
        match call.input(input)?.dtype() {
            DType::I8 => Ok(Self::I8 { codes: call.slice(input)?, scale, zero_point }),
            _ => Ok(Self::F32(call.slice(input)?)),
        }
    }

    /// `len` values from `offset`, one value repeated where `step` is 0.
    fn read(self, offset: usize, step: isize, len: usize, buffer: &mut [f32; BLOCK]) -> Option<&[f32]> {
        match self {
            Self::F32(values) => {
                let mut repeated = [0.0; BLOCK];
                let values = lane(values, offset, step, len, &mut repeated)?;
                buffer.iter_mut().zip(values).for_each(|(b, v)| *b = *v);
            }
            Self::I8 { codes, scale, zero_point } => {
                let mut repeated = [0i8; BLOCK];
                let codes = lane(codes, offset, step, len, &mut repeated)?;
                for (value, code) in buffer.iter_mut().zip(codes) {
                    *value = (*code as i32).wrapping_sub(zero_point) as f32 * scale;
                }
            }
        }
        buffer.get(..len)
    }
}
