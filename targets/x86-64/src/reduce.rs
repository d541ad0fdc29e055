//! f32 sums, means and extrema of results that lie side by side; others take the reference.
//!
//! # Numerics
//! Elements are added in the reference's order, over its runs: equal to the bit.

use ingraft_kernel::attrs::ReduceAttrs;
use ingraft_kernel::reduce::{Axes, Columns, KERNEL_F32 as REFERENCE, RUN, ReduceFn};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{TOGETHER, block, load_reals, store_reals};
use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, Task, entry};

/// f32 reductions over outer axes, as in a global pool.
pub(crate) const AVX512: Kernel =
    Kernel { name: "reduce_f32_f32__avx512", run: entry::<Avx512, Reduce>, ..REFERENCE }.checked(check);

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel = Kernel { name: "reduce_f32_f32__avx2", run: entry::<Avx2, Reduce>, ..AVX512 };

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let attrs: &ReduceAttrs = step.attrs()?;
    let axes = Axes::new(step.input(0)?.shape, attrs.axes, step.output(0)?.shape);
    let known = matches!(ReduceFn::from_code(attrs.function), Some(ReduceFn::Sum | ReduceFn::Mean));
    (known && axes.is_some_and(|axes| axes.side_by_side()))
        .then_some(())
        .ok_or(KernelError::Operands(step.op))
}

/// Sums of columns.
struct Reduce;

impl<S: Simd> Row<S> for Reduce {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (error, attrs): (_, &ReduceAttrs) = (call.operands(), call.attrs()?);
        let axes = Axes::new(call.input(0)?.shape(), attrs.axes, call.output(0)?.shape()).ok_or(error)?;
        let count = match ReduceFn::from_code(attrs.function) {
            Some(ReduceFn::Mean) => axes.count as f32,
            _ => 1.0,
        };
        let input = call.slice::<f32>(0)?;
        axes.columns(input, call.slice_mut(0)?, |columns, out| simd.perform(Sum { columns, count, out }))
            .ok_or(error)
    }
}

/// The sums of columns, divided by `count`: blocks of vectors side by side.
struct Sum<'a, 'd> {
    columns: &'a Columns<'d, f32>,
    count: f32,
    out: &'a mut [f32],
}

impl<S: Simd> Task<S> for Sum<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let Self { columns, count, out } = self;
        let count = simd.splat(count);
        for (index, out) in out.chunks_mut(block::<S>()).enumerate() {
            let at = index * block::<S>();
            let zero = [simd.splat(0.0); TOGETHER];
            let (mut totals, mut sums, mut left) = (zero, zero, RUN);
            columns.each(|values| {
                if let Some(values) = values.get(at..).and_then(|values| values.get(..out.len())) {
                    let values = load_reals(simd, values);
                    sums.iter_mut().zip(values).for_each(|(sum, x)| *sum = simd.add(*sum, x));
                }
                left -= 1;
                if left == 0 {
                    totals.iter_mut().zip(&sums).for_each(|(total, sum)| *total = simd.add(*total, *sum));
                    (sums, left) = (zero, RUN);
                }
            });
            totals.iter_mut().zip(sums).for_each(|(total, sum)| {
                *total = simd.div(simd.add(*total, sum), count);
            });
            store_reals(simd, out, totals);
        }
    }
}
