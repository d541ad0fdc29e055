//! int8 products to i32.
//!
//! # Numerics
//! `Σ (a − za)·(b − zb) = Σ ab − za·Σ b − zb·(Σ a − k·za)`, exact modulo 2³².

use core::arch::aarch64::*;

use ingraft_kernel::matmul::KERNEL_INTEGER as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use super::Problem;
use crate::dot::{Dot, ROW_ALIGN, Sink};
use crate::features::{DotProd, I8mm, Neon};
use crate::lanes::{block, load_i32, store_i32};
use crate::panel::{Panel, WIDTH};
use crate::tile::{BLOCK, HEIGHT, Rows, take};

macro_rules! row {
    ($name:ident: $isa:ty, $suffix:literal) => {
        /// int8 to i32.
        pub(crate) const $name: Kernel = Kernel::new(
            concat!("matmul_qs8_qs8_s32__", $suffix),
            OpCode::MatMulInteger,
            Some(DType::I8),
            Some(DType::I32),
            run::<$isa>,
        )
        .checked(check)
        .with_workspace(workspace);
    };
}

row!(NEON: Neon, "neon");
row!(DOTPROD: DotProd, "dotprod");
row!(I8MM: I8mm, "i8mm");

/// With fewer rows than a tile has, packing takes longer than the product.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let problem = Problem::of(step).ok_or(KernelError::Operands(step.op))?;
    if problem.m >= HEIGHT { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

/// A panel of columns, and the rows of a block.
fn workspace(step: &Step<'_>) -> usize {
    Problem::of(step).map_or(0, |p| p.k.next_multiple_of(ROW_ALIGN) * (WIDTH + BLOCK))
}

fn run<D: Dot>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove what `D` stands for.
    unsafe { compute::<D>(call) }
}

#[target_feature(enable = "neon")]
fn compute<D: Dot>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (operands, memory) = (call.operands(), KernelError::Memory(call.op));
    let problem = Problem::of_call(call).ok_or(operands)?;
    let (lhs, rhs) = (call.slice::<i8>(0)?, call.slice::<i8>(1)?);
    let zeros = Zeros { lhs: call.slice(2)?, rhs: call.slice(3)? };
    let mut rest = core::mem::take(&mut call.workspace);
    let padded = problem.k.next_multiple_of(ROW_ALIGN);
    let panel = take(&mut rest, padded * WIDTH).ok_or(memory)?;
    let rows = take(&mut rest, padded * BLOCK).ok_or(memory)?;
    let out = call.slice_mut(0)?;
    let product =
        |lhs: &[i8], rhs: &[i8], out: &mut [i32]| product::<D>(&problem, &zeros, lhs, rhs, out, panel, rows);
    problem.for_each(lhs, rhs, out, product).ok_or(operands)
}

/// The zero points: one, or one for each row of the left and each column of the right operand.
struct Zeros<'a> {
    lhs: &'a [i8],
    rhs: &'a [i8],
}

impl Zeros<'_> {
    fn row(&self, row: usize) -> i32 {
        let one = self.lhs.first().copied();
        let own = if self.lhs.len() == 1 { one } else { self.lhs.get(row).copied() };
        own.unwrap_or(0).into()
    }

    fn columns(&self, panel: Panel) -> [i32; WIDTH] {
        match self.rhs {
            [one] => [i32::from(*one); WIDTH],
            all => block::<i8, WIDTH>(all, panel.first).map(i32::from),
        }
    }
}

/// One matrix product.
#[target_feature(enable = "neon")]
fn product<D: Dot>(
    problem: &Problem,
    zeros: &Zeros<'_>,
    lhs: &[i8],
    rhs: &[i8],
    out: &mut [i32],
    packed: &mut [i8],
    buffer: &mut [i8],
) -> Option<()> {
    let Problem { k, n, .. } = *problem;
    for panel in problem.panels() {
        let column_sums = pack(rhs, n, panel, D::DEPTH, packed);
        let columns = zeros.columns(panel);
        for block in problem.blocks() {
            let rows = Rows::<i8, ROW_ALIGN>::of_matrix(lhs, k, block.first, block.pixels, buffer)?;
            let mut factors = [[0; 2]; BLOCK];
            for (i, factors) in factors.iter_mut().take(block.pixels).enumerate() {
                let zero = zeros.row(block.first + i);
                let sum = rows.row(i)?.get(..k)?.iter().fold(0i32, |s, x| s.wrapping_add((*x).into()));
                *factors = [zero, sum.wrapping_sub(zero.wrapping_mul(k as i32))];
            }
            let out = out.get_mut(block.first * n + panel.first..)?;
            let mut sink = Product { out, stride: n, count: panel.count, column_sums, columns, factors };
            // SAFETY: this row runs only where `D` is proved.
            unsafe { D::multiply(block, &rows, packed, WIDTH, &[0; WIDTH], &mut sink)? };
        }
    }
    Some(())
}

/// Writes the columns of `panel` as [`crate::panel`] lays channels out, and gives their sums.
#[target_feature(enable = "neon")]
fn pack(rhs: &[i8], n: usize, panel: Panel, depth: usize, out: &mut [i8]) -> [i32; WIDTH] {
    let mut sums = [0i32; WIDTH];
    out.fill(0);
    let mut rows = rhs.chunks_exact(n);
    for run in out.chunks_exact_mut(WIDTH * depth) {
        for (j, row) in rows.by_ref().take(depth).enumerate() {
            let codes = row.get(panel.first..).unwrap_or(&[]).iter().take(panel.count);
            let places = run.iter_mut().skip(j).step_by(depth);
            for ((place, sum), code) in places.zip(&mut sums).zip(codes) {
                *place = *code;
                *sum = sum.wrapping_add((*code).into());
            }
        }
    }
    sums
}

/// A part of the output.
struct Product<'o> {
    /// From the first column of the first row on.
    out: &'o mut [i32],
    stride: usize,
    /// Columns of the panel.
    count: usize,
    /// `Σ b`.
    column_sums: [i32; WIDTH],
    /// `zb`.
    columns: [i32; WIDTH],
    /// `za` and `Σ a − k·za` of each row.
    factors: [[i32; 2]; BLOCK],
}

impl Sink for Product<'_> {
    #[inline(always)]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()> {
        let factors = self.factors.get(first..)?;
        for (i, (sums, [zero, sum])) in sums.iter().zip(factors).take(count).enumerate() {
            let mut row = [0; WIDTH];
            // SAFETY: the processor executes NEON.
            unsafe {
                let (column_sums, columns) = (load_i32::<N>(&self.column_sums), load_i32::<N>(&self.columns));
                let operands = sums.iter().zip(column_sums).zip(columns);
                for (row, ((s, b), z)) in row.as_chunks_mut::<4>().0.iter_mut().zip(operands) {
                    store_i32(row, vmlsq_n_s32(vmlsq_n_s32(*s, b, *zero), z, *sum));
                }
            }
            let out = self.out.get_mut((first + i) * self.stride..)?.get_mut(..self.count)?;
            match out.first_chunk_mut() {
                Some(whole) => *whole = row,
                None => out.iter_mut().zip(row).for_each(|(o, v)| *o = v),
            }
        }
        Some(())
    }
}
