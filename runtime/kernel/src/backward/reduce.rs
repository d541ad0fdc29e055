//! Gradient of reductions.

use ingraft_tensor::{DType, Shape};

use super::rows::Code;
use super::{F32, Incoming, check_incoming, check_output, gradient};
use crate::attrs::ReduceAttrs;
use crate::reduce::{Axes, ReduceFn};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// Spreads each result's gradient over the elements that it was computed from.
///
/// # Shapes
/// Inputs `dy`, optionally its mask, and, for all but sum and mean, the forward step's input `x`, f32 or (maximum and
/// minimum) int8; output of the forward input's shape.
///
/// # Numerics
/// Maximum and minimum: the first of equal elements gets all of `dy`. What depends on the result — the norm, the
/// logarithm of the sum, the product — computes it again.
/// A product gives each element that of the others, zeros included.
pub const KERNEL: Kernel =
    Kernel::new("reduce_backward_f32_f32__scalar", OpCode::ReduceBackward, F32, F32, run).checked(check);

/// Whether the gradient of `function` needs the forward input.
pub const fn needs_input(function: ReduceFn) -> bool {
    !matches!(function, ReduceFn::Sum | ReduceFn::Mean)
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &ReduceAttrs = step.attrs()?;
    let first = check_incoming(step)?;
    check_output(step)?;
    let error = KernelError::Operands(step.op);
    let function = ReduceFn::from_code(attrs.function).ok_or(error)?;
    let (dy, dx) = (step.input(0)?.shape, step.output(0)?.shape);
    check::require(step, Axes::new(dx, attrs.axes, dy).is_some())?;
    if !needs_input(function) {
        return check::require(step, step.inputs().len() == first);
    }
    let x = step.input(first)?;
    let extreme = matches!(function, ReduceFn::Max | ReduceFn::Min);
    let known = x.dtype == DType::F32 || (x.dtype == DType::I8 && extreme);
    let whole = x.shape.elements() == dx.elements() && step.inputs().len() == first.wrapping_add(1);
    check::require(step, known && whole)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs = *call.attrs::<ReduceAttrs>()?;
    let (error, incoming) = (call.operands(), Incoming::new(call)?);
    let function = ReduceFn::from_code(attrs.function).ok_or(error)?;
    let shapes = [call.output(0)?.shape(), call.input(0)?.shape()];
    let x = incoming.operands();
    if !needs_input(function) {
        return spread::<f32>(function, attrs.axes, shapes, incoming, &[], gradient(call)?).ok_or(error);
    }
    match call.input(x)?.dtype() {
        DType::I8 => {
            spread::<i8>(function, attrs.axes, shapes, incoming, call.slice(x)?, gradient(call)?).ok_or(error)
        }
        _ => spread::<f32>(function, attrs.axes, shapes, incoming, call.slice(x)?, gradient(call)?)
            .ok_or(error),
    }
}

fn spread<T: Code + PartialOrd>(
    function: ReduceFn,
    axes: u32,
    [input, output]: [Shape; 2],
    incoming: Incoming<'_>,
    x: &[T],
    dx: &mut [f32],
) -> Option<()> {
    let axes = Axes::new(input, axes, output)?;
    for (result, [start]) in axes.kept.elements().enumerate() {
        let mut dy = [0.0];
        if !incoming.read(result, &mut dy)? {
            continue;
        }
        let [dy] = dy;
        let elements = || axes.reduced.at([start]).elements();
        let value = |at: usize| x.get(at).map(|x| (*x).into());
        match function {
            ReduceFn::Sum => elements().try_for_each(|[at]| add(dx, at, dy))?,
            ReduceFn::Mean => {
                let share = dy / axes.count as f32;
                elements().try_for_each(|[at]| add(dx, at, share))?;
            }
            ReduceFn::Max => add(dx, extreme(elements(), x, |a, b| a > b)?, dy)?,
            ReduceFn::Min => add(dx, extreme(elements(), x, |a, b| a < b)?, dy)?,
            _ => {
                let total = Total::of(function, elements().filter_map(|[at]| value(at)));
                elements().try_for_each(|[at]| add(dx, at, dy * total.slope(function, value(at)?)))?;
            }
        }
    }
    Some(())
}

fn add(dx: &mut [f32], at: usize, value: f32) -> Option<()> {
    *dx.get_mut(at)? += value;
    Some(())
}

/// Where the first element is that `beats` all before it.
fn extreme<T: Copy>(
    elements: impl Iterator<Item = [usize; 1]>,
    x: &[T],
    beats: impl Fn(T, T) -> bool,
) -> Option<usize> {
    let mut best: Option<(usize, T)> = None;
    for [at] in elements {
        let value = *x.get(at)?;
        if best.is_none_or(|(_, most)| beats(value, most)) {
            best = Some((at, value));
        }
    }
    best.map(|(at, _)| at)
}

/// What the slope of a smooth reduction needs of all its elements.
#[derive(Clone, Copy)]
struct Total {
    /// `Σ x`, `√ Σ x²`, `Σ exp(x − max)` or the product of what is not zero.
    sum: f32,
    max: f32,
    zeros: usize,
}

impl Total {
    fn of(function: ReduceFn, values: impl Iterator<Item = f32> + Clone) -> Self {
        let max = values.clone().fold(f32::NEG_INFINITY, f32::max);
        let sum = match function {
            ReduceFn::L2 => libm::sqrtf(values.clone().map(|x| x * x).sum()),
            ReduceFn::LogSum => values.clone().sum(),
            ReduceFn::LogSumExp => values.clone().map(|x| libm::expf(x - max)).sum(),
            ReduceFn::Prod => values.clone().filter(|x| *x != 0.0).product(),
            _ => 0.0,
        };
        Self { sum, max, zeros: values.filter(|x| *x == 0.0).count() }
    }

    fn slope(&self, function: ReduceFn, x: f32) -> f32 {
        match function {
            ReduceFn::L1 if x == 0.0 => 0.0,
            ReduceFn::L1 => 1.0f32.copysign(x),
            ReduceFn::L2 if self.sum == 0.0 => 0.0,
            ReduceFn::L2 => x / self.sum,
            ReduceFn::SumSquare => 2.0 * x,
            ReduceFn::LogSum => 1.0 / self.sum,
            ReduceFn::LogSumExp => libm::expf(x - self.max) / self.sum,
            ReduceFn::Prod => match self.zeros {
                0 => self.sum / x,
                1 if x == 0.0 => self.sum,
                _ => 0.0,
            },
            _ => 0.0,
        }
    }
}
