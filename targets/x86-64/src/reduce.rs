//! f32 sums, means and extrema of results that lie side by side; others take the reference.
//!
//! # Numerics
//! Elements are added in the reference's order, over its runs: equal to the bit.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::ReduceAttrs;
use ingraft_kernel::reduce::{Axes, Columns, KERNEL_F32 as REFERENCE, RUN, ReduceFn};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

/// f32 reductions over outer axes, as in a global pool.
pub(crate) const AVX512: Kernel = Kernel { name: "reduce_f32_f32__avx512", run, ..REFERENCE }.checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let attrs: &ReduceAttrs = step.attrs()?;
    let axes = Axes::new(step.input(0)?.shape, attrs.axes, step.output(0)?.shape);
    let known = matches!(ReduceFn::from_code(attrs.function), Some(ReduceFn::Sum | ReduceFn::Mean));
    (known && axes.is_some_and(|axes| axes.side_by_side()))
        .then_some(())
        .ok_or(KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx512f")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, attrs): (_, &ReduceAttrs) = (call.operands(), call.attrs()?);
    let axes = Axes::new(call.input(0)?.shape(), attrs.axes, call.output(0)?.shape()).ok_or(error)?;
    let count = match ReduceFn::from_code(attrs.function) {
        Some(ReduceFn::Mean) => axes.count as f32,
        _ => 1.0,
    };
    let input = call.slice::<f32>(0)?;
    axes.columns(input, call.slice_mut(0)?, |columns, out| sum(columns, count, out)).ok_or(error)
}

/// The sums of a block of columns, divided by `count`.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum(columns: &Columns<'_, f32>, count: f32, out: &mut [f32]) {
    let masks: [u16; 4] = [0, 16, 32, 48].map(|first: usize| match out.len().saturating_sub(first) {
        16.. => u16::MAX,
        left => (1 << left) - 1,
    });
    let zero = [_mm512_setzero_ps(); 4];
    let (mut totals, mut sums, mut left) = (zero, zero, RUN);
    columns.each(|values| {
        if values.len() >= out.len() {
            for (v, (sum, mask)) in sums.iter_mut().zip(masks).enumerate() {
                // SAFETY: the mask selects only values that the slice has: as many as results.
                let x = unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().wrapping_add(v * 16)) };
                *sum = _mm512_add_ps(*sum, x);
            }
        }
        left -= 1;
        if left == 0 {
            totals.iter_mut().zip(&sums).for_each(|(total, sum)| *total = _mm512_add_ps(*total, *sum));
            (sums, left) = (zero, RUN);
        }
    });
    let count = _mm512_set1_ps(count);
    for (v, ((total, sum), mask)) in totals.into_iter().zip(sums).zip(masks).enumerate() {
        let value = _mm512_div_ps(_mm512_add_ps(total, sum), count);
        // SAFETY: the mask selects only results that `out` has.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().wrapping_add(v * 16), mask, value) };
    }
}
