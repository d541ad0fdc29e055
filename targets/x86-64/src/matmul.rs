//! f32 products of two activations.
//!
//! # Blocking
//! Six rows by up to four vectors of columns; the right operand's rows are read in place, as they are already a vector
//! per step.
//!
//! # Numerics
//! One fused multiply-add per product, in the order of k.

use core::arch::x86_64::*;

use ingraft_kernel::matmul::{KERNEL as REFERENCE, Problem};
use ingraft_kernel::{Call, Kernel, KernelError};

/// f32 throughout.
pub(crate) const AVX512: Kernel = Kernel { name: "matmul_f32_f32_f32__avx512", run, ..REFERENCE };

/// Rows of a tile.
const ROWS: usize = 6;
/// Columns of a tile.
const COLUMNS: usize = 64;

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx512f")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let out = call.output(0)?.shape();
    let problem = Problem::new(call.input(0)?.shape(), call.input(1)?.shape(), out).ok_or(error)?;
    let (lhs, rhs): (&[f32], &[f32]) = (call.slice(0)?, call.slice(1)?);
    let [m, k, n] = problem.extents();
    let product = |lhs: &[f32], rhs: &[f32], out: &mut [f32]| {
        for first in (0..m).step_by(ROWS) {
            for column in (0..n).step_by(COLUMNS) {
                let size = [ROWS.min(m - first), COLUMNS.min(n - column)];
                let (lhs, out) = (lhs.get(first * k..)?, out.get_mut(first * n..)?);
                match size[0] {
                    ROWS => tile::<ROWS>(lhs, rhs, out, [k, n, column, size[1]])?,
                    rows => {
                        for row in 0..rows {
                            let (lhs, out) = (lhs.get(row * k..)?, out.get_mut(row * n..)?);
                            tile::<1>(lhs, rhs, out, [k, n, column, size[1]])?;
                        }
                    }
                }
            }
        }
        Some(())
    };
    problem.matrices(lhs, rhs, call.slice_mut(0)?, product).ok_or(error)
}

/// `M` rows by up to 64 columns from `column` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn tile<const M: usize>(
    lhs: &[f32],
    rhs: &[f32],
    out: &mut [f32],
    [k, n, column, count]: [usize; 4],
) -> Option<()> {
    let masks: [u16; 4] = [0, 16, 32, 48].map(|first: usize| match count.saturating_sub(first) {
        16.. => u16::MAX,
        left => (1 << left) - 1,
    });
    // The last row of each operand ends where the largest index below does.
    let lhs = lhs.get(..M * k)?;
    let rhs = rhs.get(..k * n)?;
    let out = out.get_mut(..(M - 1) * n + column + count)?;
    let mut sums = [[_mm512_setzero_ps(); 4]; M];
    for p in 0..k {
        let mut right = [_mm512_setzero_ps(); 4];
        for (v, (right, mask)) in right.iter_mut().zip(masks).enumerate() {
            let at = p * n + column + v * 16;
            // SAFETY: the mask selects only columns below n of row p below k.
            *right = unsafe { _mm512_maskz_loadu_ps(mask, rhs.as_ptr().wrapping_add(at)) };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row < M and p < k.
            let left = _mm512_set1_ps(unsafe { *lhs.get_unchecked(row * k + p) });
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_fmadd_ps(left, right, *sum);
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (v, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
            let to = out.as_mut_ptr().wrapping_add(row * n + column + v * 16);
            // SAFETY: the mask selects only columns below n of a row that `out` has.
            unsafe { _mm512_mask_storeu_ps(to, mask, sum) };
        }
    }
    Some(())
}
