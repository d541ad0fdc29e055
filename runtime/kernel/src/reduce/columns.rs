//! Reductions whose results lie side by side, as in a global pool of a channels-last image: blocks of results at a time.
//!
//! Each result is the sum of the same elements in the same order as alone, so that both ways are equal to the bit.

use super::{Axes, RUN, ReduceFn};
use crate::walk::{BLOCK, Walk};

/// Neighboring results: their elements are runs of `len` neighbors in the input.
#[derive(Debug)]
pub struct Columns<'a, T> {
    data: &'a [T],
    reduced: Walk<1>,
    first: usize,
    len: usize,
}

impl<T> Columns<'_, T> {
    /// Calls `visit` with one element of every result, in the order that one result takes its elements.
    #[inline(always)]
    pub fn each(&self, mut visit: impl FnMut(&[T])) {
        for [at] in self.reduced.at([self.first]).elements() {
            if let Some(values) = self.data.get(at..at.wrapping_add(self.len)) {
                visit(values);
            }
        }
    }
}

impl Axes {
    /// Whether neighboring results have neighboring elements.
    pub fn side_by_side(&self) -> bool {
        self.kept.len > 1 && self.kept.steps == [1]
    }

    /// Calls `block` with neighboring results, at most `BLOCK`, and their place in `out`.
    ///
    /// `None`, with nothing called, where results do not lie side by side; also where `out` is too short.
    #[inline(always)]
    pub fn columns<T, U>(
        &self,
        data: &[T],
        out: &mut [U],
        mut block: impl FnMut(&Columns<'_, T>, &mut [U]),
    ) -> Option<()> {
        if !self.side_by_side() {
            return None;
        }
        let mut out = out;
        self.kept.blocks(|[first], len| {
            let (own, rest) = core::mem::take(&mut out).split_at_mut_checked(len)?;
            out = rest;
            block(&Columns { data, reduced: self.reduced, first, len }, own);
            Some(())
        })
    }
}

/// Sum, mean, maximum and minimum; `None` for others, and where results do not lie side by side.
pub(super) fn reduce(function: ReduceFn, axes: &Axes, data: &[f32], out: &mut [f32]) -> Option<()> {
    match function {
        ReduceFn::Sum => axes.columns(data, out, sum),
        ReduceFn::Mean => axes.columns(data, out, |columns, out| {
            sum(columns, out);
            out.iter_mut().for_each(|y| *y /= axes.count as f32);
        }),
        ReduceFn::Max => axes.columns(data, out, |columns, out| {
            most(columns, out, |x| x);
        }),
        ReduceFn::Min => axes.columns(data, out, |columns, out| {
            most(columns, out, |x| -x);
            out.iter_mut().for_each(|y| *y = -*y);
        }),
        _ => None,
    }
}

/// As the sum of one result: over runs, then over the runs.
fn sum(columns: &Columns<'_, f32>, out: &mut [f32]) {
    let (mut run, mut left) = ([0.0; BLOCK], RUN);
    out.fill(0.0);
    columns.each(|values| {
        run.iter_mut().zip(values).for_each(|(run, x)| *run += x);
        left = left.wrapping_sub(1);
        if left == 0 {
            out.iter_mut().zip(&run).for_each(|(y, run)| *y += run);
            (run, left) = ([0.0; BLOCK], RUN);
        }
    });
    out.iter_mut().zip(&run).for_each(|(y, run)| *y += run);
}

fn most(columns: &Columns<'_, f32>, out: &mut [f32], of: impl Fn(f32) -> f32) {
    out.fill(f32::NEG_INFINITY);
    columns.each(|values| {
        for (most, &x) in out.iter_mut().zip(values) {
            let x = of(x);
            *most = if x > *most || x.is_nan() { x } else { *most };
        }
    });
}

/// Sums of `x − zero`, wrapping, in blocks; `emit` gets each block.
pub(super) fn sum_codes<U>(
    axes: &Axes,
    zero: i32,
    data: &[i8],
    out: &mut [U],
    mut emit: impl FnMut(&[i32], &mut [U]),
) -> Option<()> {
    axes.columns(data, out, |columns, out| {
        let mut sums = [0i32; BLOCK];
        columns.each(|values| {
            for (sum, x) in sums.iter_mut().zip(values) {
                *sum = sum.wrapping_add((*x as i32).wrapping_sub(zero));
            }
        });
        emit(sums.get(..out.len()).unwrap_or(&[]), out);
    })
}
