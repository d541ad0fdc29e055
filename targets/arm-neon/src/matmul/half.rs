//! The same by products in f16, for who asks for it.
//!
//! # Numerics
//! As in [`crate::half`], the columns of the right operand being channels: each is rounded in a power of two that brings its
//! largest value to ½…1.
//!
//! # Limits
//! Sixteen columns are scaled and rounded in 24 instructions an element of depth, in f32 copied in 8; 8 rows save 64 there.

use core::arch::aarch64::*;

use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use super::{Problem, store};
use crate::asm::narrow;
use crate::half::{ACTIVATION, Channels, HEIGHT, ROW_ALIGN, activations, multiply, powers_of_two, weights};
use crate::lanes::{block, load_f32, store_f32};
use crate::panel::{Panel, WIDTH};
use crate::tile::{BLOCK, Rows, take};

/// f32 in and out, products in f16.
pub(crate) const KERNEL: Kernel =
    Kernel::new("matmul_f32_f32_f32__fp16", OpCode::MatMul, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace);

/// With fewer rows than are multiplied together, rounding takes what is gained, and with fewer columns than a panel has.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let pays = || Problem::of(step).map(|problem| problem.m >= HEIGHT && problem.n >= WIDTH);
    weights::check(step, &super::KERNEL, &[], pays)
}

/// In f16: a panel of columns, all rows of a matrix, and those of a block.
fn workspace(step: &Step<'_>) -> usize {
    Problem::of(step).map_or(0, |p| (p.k * WIDTH + lhs(&p) + rows(&p)) * 2)
}

fn lhs(problem: &Problem) -> usize {
    (problem.m * problem.k).next_multiple_of(ROW_ALIGN)
}

fn rows(problem: &Problem) -> usize {
    problem.k.next_multiple_of(ROW_ALIGN) * BLOCK
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: this row leaves this crate only against a proof of f16 arithmetic.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon,fp16")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (operands, memory) = (call.operands(), KernelError::Memory(call.op));
    let problem = Problem::of_call(call).ok_or(operands)?;
    let (lhs_values, rhs) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let mut rest = core::mem::take(&mut call.workspace);
    let mut scratch = Scratch {
        panel: take(&mut rest, problem.k * WIDTH).ok_or(memory)?,
        lhs: take(&mut rest, lhs(&problem)).ok_or(memory)?,
        rows: take(&mut rest, rows(&problem)).ok_or(memory)?,
    };
    let out = call.slice_mut(0)?;
    problem
        .for_each(lhs_values, rhs, out, |lhs, rhs, out| product(&problem, lhs, rhs, out, &mut scratch))
        .ok_or(operands)
}

/// Operands in f16.
struct Scratch<'m> {
    panel: &'m mut [u16],
    lhs: &'m mut [u16],
    rows: &'m mut [u16],
}

/// One matrix product.
#[target_feature(enable = "neon,fp16")]
fn product(
    problem: &Problem,
    lhs: &[f32],
    rhs: &[f32],
    out: &mut [f32],
    scratch: &mut Scratch<'_>,
) -> Option<()> {
    let Problem { k, n, .. } = *problem;
    activations(lhs, scratch.lhs);
    let mut values = [[0.0; WIDTH]; BLOCK];
    for panel in problem.panels() {
        let scales = pack(rhs, n, panel, scratch.panel);
        let channels = Channels { weights: scratch.panel, lanes: WIDTH, scales, bias: [0.0; WIDTH] };
        for block in problem.blocks() {
            let rows = Rows::of_matrix(scratch.lhs, k, block.first, block.pixels, scratch.rows)?;
            multiply(block, &rows, &channels, &mut values)?;
            let out = out.get_mut(block.first * n..)?.chunks_exact_mut(n).zip(&values);
            for (out, values) in out.take(block.pixels) {
                store(out.get_mut(panel.first..)?.get_mut(..panel.count)?, values);
            }
        }
    }
    Some(())
}

/// Writes the columns of `panel` in f16, and gives what sums of products with them are to be multiplied with.
#[target_feature(enable = "neon")]
fn pack(rhs: &[f32], n: usize, panel: Panel, out: &mut [u16]) -> [f32; WIDTH] {
    let row = |row| load_f32::<4>(&block(row, panel.first));
    let mut largest = [vdupq_n_f32(0.0); 4];
    for values in rhs.chunks_exact(n) {
        largest.iter_mut().zip(row(values)).for_each(|(l, v)| *l = vmaxnmq_f32(*l, vabsq_f32(v)));
    }
    let mut scales = [0.0; WIDTH];
    let mut factors = largest;
    for ((factor, largest), scale) in factors.iter_mut().zip(largest).zip(scales.as_chunks_mut::<4>().0) {
        let power;
        (*factor, power) = powers_of_two(largest);
        store_f32(scale, vmulq_n_f32(power, 1.0 / ACTIVATION));
    }
    for (out, values) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(rhs.chunks_exact(n)) {
        let mut scaled = row(values);
        scaled.iter_mut().zip(factors).for_each(|(v, factor)| *v = vmulq_f32(*v, factor));
        let [a, b, c, d] = scaled;
        for (out, half) in out.as_chunks_mut::<8>().0.iter_mut().zip([narrow(a, b), narrow(c, d)]) {
            // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
            unsafe { vst1q_u16(out.as_mut_ptr(), half) };
        }
    }
    scales
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use ingraft_tensor::Shape;

    use super::*;
    use crate::half::RUN;
    use crate::half::tests::{bound, largest, values};

    /// Rows, columns and depths around those of blocks, panels and runs, against exact sums.
    #[test]
    fn products_of_activations_stay_within_the_bound() {
        let Some(_) = crate::Fp16::detect() else { return };
        for (case, [m, k, n]) in [[8, 1, 16], [33, 29, 17], [9, 64, 40], [70, 65, 16]].into_iter().enumerate()
        {
            for (octaves, top) in [(1, 1.0), (4, 65504.0), (12, 1e-3), (30, 4.0)] {
                let lhs_values = values(m * k, case as u32, octaves, top);
                let rhs = values(k * n, 77 + case as u32, octaves, top.recip());
                compare([m, k, n], &lhs_values, &rhs);
            }
        }
    }

    fn compare([m, k, n]: [usize; 3], lhs_values: &[f32], rhs: &[f32]) {
        let shape = |rows, columns| Shape::new(&[rows as u32, columns as u32]).unwrap();
        let problem = Problem::new(shape(m, k), shape(k, n), shape(m, n)).unwrap();
        let mut scratch = Scratch {
            panel: &mut vec![0; k * WIDTH],
            lhs: &mut vec![0; lhs(&problem)],
            rows: &mut vec![0; rows(&problem)],
        };
        let mut out = vec![f32::NAN; m * n];
        // SAFETY: f16 arithmetic was found.
        unsafe { product(&problem, lhs_values, rhs, &mut out, &mut scratch) }.unwrap();
        for (x, have) in lhs_values.chunks_exact(k).zip(out.chunks_exact(n)) {
            for (column, have) in have.iter().enumerate() {
                let w = || rhs.iter().skip(column).step_by(n);
                let products = || x.iter().zip(w()).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let (want, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                let bound = bound(k, RUN, size, [largest(x), largest(w())]) + want.abs() * 1e-6;
                let error = (f64::from(*have) - want).abs();
                assert!(error <= bound, "{m}, {k}, {n}: {have}, not {want}: {error} of {bound}");
            }
        }
    }
}
