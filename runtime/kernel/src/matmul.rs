//! Batched matrix products of two activations.
//!
//! `out[.., i, j] = Σ_p lhs[.., i, p] · rhs[.., p, j]`; leading dimensions
//! broadcast. Products with constant weights are 1×1 convolutions instead.

use ingraft_tensor::{DType, Shape};

use crate::walk::{Rows, Walk};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// f32 product. No attributes.
///
/// # Shapes
/// Inputs `[.., m, k]` and `[.., k, n]`, output `[.., m, n]`, all of rank 2 or more.
///
/// # Numerics
/// Each output is accumulated in f32 in the order of k.
pub const KERNEL: Kernel =
    Kernel::new("matmul_f32_f32_f32__scalar", OpCode::MatMul, Some(DType::F32), Some(DType::F32), run_f32)
        .checked(check_f32);

/// int8 product to i32. No attributes.
///
/// # Shapes
/// Inputs: `[.., m, k]` and `[.., k, n]` int8; zero point of the left operand,
/// `[1]` or `[m]` int8; of the right operand, `[1]` or `[n]` int8. Output
/// `[.., m, n]` i32. A uint8 operand is stored as its value minus 128, its zero
/// point likewise.
///
/// # Numerics
/// `Σ (lhs − zl)·(rhs − zr)`, exact modulo 2³².
pub const KERNEL_INTEGER: Kernel = Kernel::new(
    "matmul_qs8_qs8_s32__scalar",
    OpCode::MatMulInteger,
    Some(DType::I8),
    Some(DType::I32),
    run_i8,
)
.checked(check_i8);

/// Extents of a batched product.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// Index of the left and right matrix of each product, in matrices.
    pub(crate) batches: Walk<2>,
}

impl Problem {
    /// The extents, or `None` when the shapes disagree.
    pub fn new(lhs: Shape, rhs: Shape, out: Shape) -> Option<Self> {
        let (lhs_batch, [m, k]) = matrices(&lhs)?;
        let (rhs_batch, [rhs_k, n]) = matrices(&rhs)?;
        let (batch, extents) = matrices(&out)?;
        let batches = Walk::broadcast(batch, [lhs_batch, rhs_batch])?;
        (k == rhs_k && extents == [m, n]).then_some(Self { m, k, n, batches })
    }

    /// `m`, `k` and `n` of each product.
    pub fn extents(&self) -> [usize; 3] {
        [self.m, self.k, self.n]
    }

    /// Calls `product` with the operands of each product and the matrix to fill, until it gives `None`.
    #[inline(always)]
    pub fn matrices<A, B, C>(
        &self,
        lhs: &[A],
        rhs: &[B],
        out: &mut [C],
        mut product: impl FnMut(&[A], &[B], &mut [C]) -> Option<()>,
    ) -> Option<()> {
        let (lhs_len, rhs_len) = (self.m.wrapping_mul(self.k), self.k.wrapping_mul(self.n));
        let matrices = out.chunks_exact_mut(self.m.wrapping_mul(self.n).max(1));
        for ([a, b], out) in self.batches.elements().zip(matrices) {
            let lhs = lhs.get(a.wrapping_mul(lhs_len)..)?.get(..lhs_len)?;
            let rhs = rhs.get(b.wrapping_mul(rhs_len)..)?.get(..rhs_len)?;
            product(lhs, rhs, out)?;
        }
        Some(())
    }

    /// Calls `row` with the index of each output row in its matrix, the row of
    /// the left operand, the right matrix, and the row to fill.
    fn rows<A, B, C>(
        &self,
        lhs: &[A],
        rhs: &[B],
        out: &mut [C],
        mut row: impl FnMut(usize, &[A], &[B], &mut [C]),
    ) -> Option<()> {
        self.matrices(lhs, rhs, out, |lhs, rhs, out| {
            for (i, out) in out.chunks_exact_mut(self.n.max(1)).enumerate() {
                row(i, lhs.get(i.wrapping_mul(self.k)..)?.get(..self.k)?, rhs, out);
            }
            Some(())
        })
    }
}

/// The batch shape and the two innermost extents.
fn matrices(shape: &Shape) -> Option<(Shape, [usize; 2])> {
    let (batch, &[rows, columns]) = shape.dims().split_last_chunk::<2>()?;
    Some((Shape::new(batch).ok()?, [rows as usize, columns as usize]))
}

fn check_f32(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 2, 1)?;
    check::require(step, step.input_dtype(1) == Some(DType::F32) && problem(step)?.is_some())
}

fn check_i8(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 4, 1)?;
    let Problem { m, n, .. } = problem(step)?.ok_or(KernelError::Operands(step.op))?;
    let int8 = step.inputs().iter().all(|operand| operand.dtype == DType::I8);
    let (lhs, rhs) = (step.input(2)?.shape.elements(), step.input(3)?.shape.elements());
    check::require(step, int8 && (lhs == 1 || lhs == m) && (rhs == 1 || rhs == n))
}

fn problem(step: &Step<'_>) -> Result<Option<Problem>, KernelError> {
    Ok(Problem::new(step.input(0)?.shape, step.input(1)?.shape, step.output(0)?.shape))
}

fn operands<'c, T: ingraft_tensor::bytes::Element>(
    call: &mut Call<'c, '_>,
) -> Result<(Problem, &'c [T], &'c [T]), KernelError> {
    let out = call.output(0)?.shape();
    let problem = Problem::new(call.input(0)?.shape(), call.input(1)?.shape(), out);
    Ok((problem.ok_or(call.operands())?, call.slice(0)?, call.slice(1)?))
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let (problem, lhs, rhs) = operands::<f32>(call)?;
    let columns = problem.n;
    let row = |_, lhs: &[f32], rhs: &[f32], out: &mut [f32]| {
        out.fill(0.0);
        for (&a, rhs) in lhs.iter().zip(Rows::new(rhs, columns)) {
            for (y, &b) in out.iter_mut().zip(rhs) {
                *y += a * b;
            }
        }
    };
    problem.rows(lhs, rhs, call.slice_mut(0)?, row).ok_or(error)
}

fn run_i8(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let (problem, lhs, rhs) = operands::<i8>(call)?;
    let (lhs_zero, rhs_zero) = (call.slice::<i8>(2)?, call.slice::<i8>(3)?);
    let zero = |points: &[i8], index: usize| points.get(if points.len() == 1 { 0 } else { index }).copied();
    let columns = problem.n;
    let row = |i, lhs: &[i8], rhs: &[i8], out: &mut [i32]| {
        let lhs_zero = zero(lhs_zero, i).unwrap_or(0) as i32;
        out.fill(0);
        let mut sum = 0i32;
        for (&a, rhs) in lhs.iter().zip(Rows::new(rhs, columns)) {
            let a = (a as i32).wrapping_sub(lhs_zero);
            sum = sum.wrapping_add(a);
            for (y, &b) in out.iter_mut().zip(rhs) {
                *y = y.wrapping_add(a.wrapping_mul(b as i32));
            }
        }
        for (j, y) in out.iter_mut().enumerate() {
            let rhs_zero = zero(rhs_zero, j).unwrap_or(0) as i32;
            *y = y.wrapping_sub(sum.wrapping_mul(rhs_zero));
        }
    };
    problem.rows(lhs, rhs, call.slice_mut(0)?, row).ok_or(error)
}

#[cfg(test)]
mod tests;
