//! Reductions over any set of axes.

mod columns;

use core::ops::Neg;

use ingraft_tensor::{DType, MAX_RANK, Shape};

use crate::attrs::ReduceAttrs;
use crate::codes::function_codes;
use crate::integer::Integer;
use crate::requantize::{passes, set_bit, to_code};
use crate::walk::{Dim, Walk};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

pub use columns::Columns;

function_codes! {
    /// What is computed over the reduced elements.
    pub enum ReduceFn {
        /// `Σ x`.
        Sum = 0,
        /// `Σ x / n`.
        Mean = 1,
        /// The largest; NaN if there is one.
        Max = 2,
        /// The smallest; NaN if there is one.
        Min = 3,
        /// `Π x`.
        Prod = 4,
        /// `Σ |x|`.
        L1 = 5,
        /// `√ Σ x²`; f32 only.
        L2 = 6,
        /// `Σ x²`.
        SumSquare = 7,
        /// `ln Σ x`; f32 only.
        LogSum = 8,
        /// `ln Σ exp(x)`, computed from the largest element so that it does not overflow; f32 only.
        LogSumExp = 9,
    }
}

/// f32 reduction.
///
/// # Shapes
/// Any input; the output has the elements of the axes kept, in order, with or
/// without the reduced axes as 1.
///
/// # Numerics
/// Sums are taken in f32 over runs of 64 elements, then over the runs.
pub const KERNEL_F32: Kernel =
    Kernel::new("reduce_f32_f32__scalar", OpCode::Reduce, Some(DType::F32), Some(DType::F32), run_f32)
        .checked(check_f32);

/// i32 reduction. Shapes as [`KERNEL_F32`]. Sums wrap; the mean truncates toward zero.
pub const KERNEL_I32: Kernel =
    Kernel::new("reduce_s32_s32__scalar", OpCode::Reduce, Some(DType::I32), Some(DType::I32), run_i32)
        .checked(check_integer);

/// i64 reduction. Shapes as [`KERNEL_F32`]. Sums wrap; the mean truncates toward zero.
pub const KERNEL_I64: Kernel =
    Kernel::new("reduce_s64_s64__scalar", OpCode::Reduce, Some(DType::I64), Some(DType::I64), run_i64)
        .checked(check_integer);

/// int8 sum, mean, maximum and minimum.
///
/// # Shapes
/// As [`KERNEL_F32`]; optionally a second output with the straight-through mask.
///
/// # Numerics
/// `round(clamp(f32(Σ(x − zx))·factor)) + zy` with factor `ratio` for the sum
/// and `ratio/n` for the mean; maximum and minimum are `f32(x − zx)·ratio`.
pub const KERNEL_Q: Kernel =
    Kernel::new("reduce_qs8_qs8__scalar", OpCode::Reduce, Some(DType::I8), Some(DType::I8), run_q)
        .checked(check_q);

fn check_f32(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check_axes(step, |_| true)
}

fn check_integer(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check_axes(step, |f| !matches!(f, ReduceFn::L2 | ReduceFn::LogSum | ReduceFn::LogSumExp))
}

fn check_q(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &ReduceAttrs = step.attrs()?;
    check::operands_and_mask(step, 1)?;
    check::int8(step, attrs.in_zero_point)?;
    check::int8_clamp(step, attrs.lo, attrs.hi, attrs.out_zero_point)?;
    check::factor(step, attrs.ratio)?;
    check_axes(step, |f| matches!(f, ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Max | ReduceFn::Min))
}

fn check_axes(step: &Step<'_>, computes: fn(ReduceFn) -> bool) -> Result<(), KernelError> {
    let attrs: &ReduceAttrs = step.attrs()?;
    let axes = Axes::new(step.input(0)?.shape, attrs.axes, step.output(0)?.shape);
    check::require(step, ReduceFn::from_code(attrs.function).is_some_and(computes) && axes.is_some())
}

/// The kept and the reduced dimensions of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct Axes {
    /// First element of each result.
    pub(crate) kept: Walk<1>,
    /// Elements of one result, from its first.
    pub(crate) reduced: Walk<1>,
    /// Elements per result.
    pub count: usize,
}

impl Axes {
    /// `None` for unknown axes, or another number of results than `out` has elements.
    pub fn new(input: Shape, axes: u32, out: Shape) -> Option<Self> {
        let mut kept = [Dim { extent: 1, strides: [0] }; MAX_RANK];
        let mut reduced = kept;
        let (mut count, mut results) = (1usize, 1usize);
        let strides = input.strides();
        let slots = kept.iter_mut().zip(&mut reduced).zip(0u32..);
        for ((&extent, &stride), ((kept, reduced), axis)) in input.dims().iter().zip(&strides).zip(slots) {
            let extent = extent as usize;
            let (slot, total) =
                if axes >> axis & 1 == 1 { (reduced, &mut count) } else { (kept, &mut results) };
            *slot = Dim { extent, strides: [stride as isize] };
            *total = total.wrapping_mul(extent);
        }
        let known = axes.checked_shr(input.rank() as u32)? == 0;
        let axes = Self { kept: Walk::new(&kept, [0]), reduced: Walk::new(&reduced, [0]), count };
        (known && results == out.elements()).then_some(axes)
    }

    /// The elements that belong to each result, result by result.
    fn groups<'a, T: Copy>(
        self,
        data: &'a [T],
    ) -> impl Iterator<Item = impl Iterator<Item = T> + Clone + use<'a, T>> + use<'a, T> {
        let reduced = self.reduced;
        self.kept
            .elements()
            .map(move |start| reduced.at(start).elements().filter_map(move |[i]| data.get(i).copied()))
    }
}

fn operands<'c>(call: &mut Call<'c, '_>) -> Result<(&'c ReduceAttrs, ReduceFn, Axes), KernelError> {
    let attrs: &ReduceAttrs = call.attrs()?;
    let out = call.output(0)?.shape();
    let function = ReduceFn::from_code(attrs.function).ok_or(call.operands())?;
    let axes = Axes::new(call.input(0)?.shape(), attrs.axes, out).ok_or(call.operands())?;
    Ok((attrs, function, axes))
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (_, function, axes) = operands(call)?;
    let input = call.slice::<f32>(0)?;
    if columns::reduce(function, &axes, input, call.slice_mut::<f32>(0)?).is_some() {
        return Ok(());
    }
    for (y, values) in call.slice_mut::<f32>(0)?.iter_mut().zip(axes.groups(input)) {
        *y = reduce_f32(function, values, axes.count);
    }
    Ok(())
}

fn run_i32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    run_integer::<i32>(call)
}

fn run_i64(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    run_integer::<i64>(call)
}

fn run_integer<T: Integer>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (_, function, axes) = operands(call)?;
    let input = call.slice::<T>(0)?;
    for (y, values) in call.slice_mut::<T>(0)?.iter_mut().zip(axes.groups(input)) {
        *y = reduce_integer(function, values, axes.count);
    }
    Ok(())
}

fn run_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, function, axes) = operands(call)?;
    let input = call.slice::<i8>(0)?;
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    let factor = match function {
        ReduceFn::Mean => attrs.ratio / axes.count.max(1) as f32,
        _ => attrs.ratio,
    };
    if matches!(function, ReduceFn::Sum | ReduceFn::Mean) && mask.is_none() {
        let emit = |sums: &[i32], out: &mut [i8]| {
            for (y, sum) in out.iter_mut().zip(sums) {
                *y = to_code(*sum as f32 * factor, attrs.lo, attrs.hi, attrs.out_zero_point);
            }
        };
        if columns::sum_codes(&axes, attrs.in_zero_point, input, out, emit).is_some() {
            return Ok(());
        }
    }
    for (i, (y, codes)) in out.iter_mut().zip(axes.groups(input)).enumerate() {
        let steps = codes.map(|x| (x as i32).wrapping_sub(attrs.in_zero_point));
        let sum = match function {
            ReduceFn::Max | ReduceFn::Min => reduce_integer(function, steps, axes.count),
            _ => reduce_integer(ReduceFn::Sum, steps, axes.count),
        };
        let v = sum as f32 * factor;
        *y = to_code(v, attrs.lo, attrs.hi, attrs.out_zero_point);
        if let Some(mask) = &mut mask {
            set_bit(mask, i, passes(v, attrs.lo, attrs.hi));
        }
    }
    Ok(())
}

fn reduce_f32(function: ReduceFn, values: impl Iterator<Item = f32> + Clone, count: usize) -> f32 {
    match function {
        ReduceFn::Sum => sum(values),
        ReduceFn::Mean => sum(values) / count as f32,
        ReduceFn::Max => fold_max(values),
        ReduceFn::Min => -fold_max(values.map(f32::neg)),
        ReduceFn::Prod => values.fold(1.0, |product, x| product * x),
        ReduceFn::L1 => sum(values.map(libm::fabsf)),
        ReduceFn::L2 => libm::sqrtf(sum(values.map(|x| x * x))),
        ReduceFn::SumSquare => sum(values.map(|x| x * x)),
        ReduceFn::LogSum => libm::logf(sum(values)),
        ReduceFn::LogSumExp => {
            let max = fold_max(values.clone());
            // A largest element of ±∞ is the result; subtracting it would make NaN.
            let shift = if max.is_finite() { max } else { 0.0 };
            shift + libm::logf(sum(values.map(|x| libm::expf(x - shift))))
        }
    }
}

fn reduce_integer<T: Integer>(function: ReduceFn, values: impl Iterator<Item = T>, count: usize) -> T {
    let zero = T::default();
    match function {
        ReduceFn::Mean => values.fold(zero, T::add).div(T::from_count(count)),
        ReduceFn::Max => values.fold(T::MIN, T::max),
        ReduceFn::Min => values.fold(T::MAX, T::min),
        ReduceFn::Prod => values.fold(T::ONE, T::mul),
        ReduceFn::L1 => values.fold(zero, |sum, x| if x < zero { sum.sub(x) } else { sum.add(x) }),
        ReduceFn::SumSquare => values.fold(zero, |sum, x| sum.add(x.mul(x))),
        _ => values.fold(zero, T::add),
    }
}

fn fold_max(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(f32::NEG_INFINITY, |max, x| if x > max || x.is_nan() { x } else { max })
}

/// The sum over runs, so that its error does not grow with the length of the input.
fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let (mut total, mut run, mut left) = (0.0, 0.0, RUN);
    for x in values {
        run += x;
        left = left.wrapping_sub(1);
        if left == 0 {
            (total, run, left) = (total + run, 0.0, RUN);
        }
    }
    total + run
}

/// Elements of a run.
pub const RUN: u32 = 64;

#[cfg(test)]
mod tests;
