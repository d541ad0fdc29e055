//! Batched products of two activations, f32 (in f16 for who asks for it: `half`) and int8.
//!
//! The right operand is packed into panels as weights are, sixteen columns at a
//! time, and every row of the left one is multiplied with a panel before the next.

pub(crate) mod half;
pub(crate) mod integer;

use core::arch::aarch64::float32x4_t;

use ingraft_kernel::matmul::KERNEL as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::{DType, Shape};

use crate::fma::{ROW_ALIGN, Sink, multiply};
use crate::lanes::store_f32;
use crate::panel::{Panel, WIDTH};
use crate::tile::{BLOCK, Block, HEIGHT, Rows, take};

/// f32 throughout.
pub(crate) const KERNEL: Kernel =
    Kernel::new("matmul_f32_f32_f32__neon", OpCode::MatMul, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace);

/// With fewer rows than a tile has, packing takes longer than the product.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let problem = Problem::of(step).ok_or(KernelError::Operands(step.op))?;
    if problem.m >= HEIGHT { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

fn workspace(step: &Step<'_>) -> usize {
    Problem::of(step).map_or(0, |p| (p.k * WIDTH + p.k.next_multiple_of(ROW_ALIGN) * BLOCK) * 4)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (operands, memory) = (call.operands(), KernelError::Memory(call.op));
    let problem = Problem::of_call(call).ok_or(operands)?;
    let (lhs, rhs) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let mut rest = core::mem::take(&mut call.workspace);
    let panel: &mut [f32] = take(&mut rest, problem.k * WIDTH).ok_or(memory)?;
    let rows = take(&mut rest, problem.k.next_multiple_of(ROW_ALIGN) * BLOCK).ok_or(memory)?;
    let out = call.slice_mut(0)?;
    problem
        .for_each(lhs, rhs, out, |lhs, rhs, out| product(&problem, lhs, rhs, out, panel, rows))
        .ok_or(operands)
}

/// One matrix product.
#[target_feature(enable = "neon")]
fn product(
    problem: &Problem,
    lhs: &[f32],
    rhs: &[f32],
    out: &mut [f32],
    packed: &mut [f32],
    buffer: &mut [f32],
) -> Option<()> {
    let Problem { m, k, n, .. } = *problem;
    for panel in problem.panels() {
        for (packed, row) in packed.as_chunks_mut::<WIDTH>().0.iter_mut().zip(rhs.chunks_exact(n)) {
            packed.fill(0.0);
            packed.iter_mut().zip(row.get(panel.first..)?).for_each(|(p, v)| *p = *v);
        }
        for block in problem.blocks() {
            let rows =
                Rows::<f32, ROW_ALIGN>::of_matrix(lhs.get(..m * k)?, k, block.first, block.pixels, buffer)?;
            let out = out.get_mut(block.first * n + panel.first..)?;
            let mut sink = Product { out, stride: n, count: panel.count };
            multiply(block, &rows, packed, WIDTH, &[0.0; WIDTH], &mut sink)?;
        }
    }
    Some(())
}

/// A part of the output.
struct Product<'o> {
    /// From the first column of the first row on.
    out: &'o mut [f32],
    stride: usize,
    /// Columns of the panel.
    count: usize,
}

impl Sink for Product<'_> {
    #[inline(always)]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[float32x4_t; N]; P],
    ) -> Option<()> {
        for (i, sums) in sums.iter().take(count).enumerate() {
            let out = self.out.get_mut((first + i) * self.stride..)?.get_mut(..self.count)?;
            let mut row = [0.0; WIDTH];
            for (row, sum) in row.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                // SAFETY: the processor executes NEON.
                unsafe { store_f32(row, *sum) };
            }
            store(out, &row);
        }
        Some(())
    }
}

/// Writes the first values of `row`.
#[inline(always)]
fn store(out: &mut [f32], row: &[f32; WIDTH]) {
    match out.first_chunk_mut() {
        Some(whole) => *whole = *row,
        None => out.iter_mut().zip(row).for_each(|(o, v)| *o = *v),
    }
}

/// Extents of a batched product.
struct Problem {
    m: usize,
    k: usize,
    n: usize,
    lhs: Shape,
    rhs: Shape,
    out: Shape,
}

impl Problem {
    fn of(step: &Step<'_>) -> Option<Self> {
        Self::new(step.input(0).ok()?.shape, step.input(1).ok()?.shape, step.output(0).ok()?.shape)
    }

    fn of_call(call: &Call<'_, '_>) -> Option<Self> {
        let out = call.outputs.first()?.shape();
        Self::new(call.input(0).ok()?.shape(), call.input(1).ok()?.shape(), out)
    }

    /// `None` unless the matrices fit each other; that batches broadcast was checked at bind.
    fn new(lhs: Shape, rhs: Shape, out: Shape) -> Option<Self> {
        let matrix = |shape: &Shape| shape.dims().last_chunk::<2>().map(|d| d.map(|d| d as usize));
        let ([m, k], [rows, n]) = (matrix(&lhs)?, matrix(&rhs)?);
        (k == rows && matrix(&out)? == [m, n]).then_some(Self { m, k, n, lhs, rhs, out })
    }

    /// Columns of the right operand, sixteen at a time.
    fn panels(&self) -> impl Iterator<Item = Panel> + use<> {
        let n = self.n;
        (0..n).step_by(WIDTH).map(move |first| Panel { first, count: WIDTH.min(n - first) })
    }

    /// Rows of the left operand.
    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let m = self.m;
        (0..m).step_by(BLOCK).map(move |first| Block { group: 0, first, pixels: BLOCK.min(m - first) })
    }

    /// Calls `visit` with the operands and the result of every product.
    fn for_each<A, B, C>(
        &self,
        lhs: &[A],
        rhs: &[B],
        out: &mut [C],
        mut visit: impl FnMut(&[A], &[B], &mut [C]) -> Option<()>,
    ) -> Option<()> {
        for (index, out) in out.chunks_exact_mut((self.m * self.n).max(1)).enumerate() {
            let a = self.matrix_of(&self.lhs, index)? * self.m * self.k;
            let b = self.matrix_of(&self.rhs, index)? * self.k * self.n;
            visit(lhs.get(a..)?.get(..self.m * self.k)?, rhs.get(b..)?.get(..self.k * self.n)?, out)?;
        }
        Some(())
    }

    /// Which matrix of an operand makes product `index`: its batch dimensions broadcast.
    fn matrix_of(&self, operand: &Shape, index: usize) -> Option<usize> {
        let batch = |shape: &Shape| shape.rank().checked_sub(2);
        let (out, own) = (self.out.dims().get(..batch(&self.out)?)?, operand.dims().get(..batch(operand)?)?);
        let (mut rest, mut matrix, mut stride) = (index, 0, 1);
        for (back, extent) in out.iter().rev().map(|d| *d as usize).enumerate() {
            let position = rest.checked_rem(extent)?;
            rest = rest.checked_div(extent)?;
            let own = own.iter().rev().nth(back).map_or(1, |d| *d as usize);
            if own > 1 {
                matrix += position * stride;
            }
            stride *= own;
        }
        Some(matrix)
    }
}
