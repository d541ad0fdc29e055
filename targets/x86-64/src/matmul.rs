//! f32 products of two activations.
//!
//! # Blocking
//! Six rows by up to four vectors of columns, two where there are sixteen registers; the right operand's rows are read in
//! place, as they are already a vector per step.
//!
//! # Numerics
//! One fused multiply-add per product, in the order of k.

use ingraft_kernel::matmul::{KERNEL as REFERENCE, Problem};
use ingraft_kernel::{Call, Kernel, KernelError};

use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, entry};

/// f32 throughout.
pub(crate) const AVX512: Kernel =
    Kernel { name: "matmul_f32_f32_f32__avx512", run: entry::<Avx512, Products>, ..REFERENCE };

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel =
    Kernel { name: "matmul_f32_f32_f32__avx2", run: entry::<Avx2, Products>, ..REFERENCE };

/// Rows of a tile.
const ROWS: usize = 6;

/// All products of a step.
struct Products;

impl<S: Simd> Row<S> for Products {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        if S::COLUMNS >= 4 { products::<S, 4>(call, simd) } else { products::<S, 2>(call, simd) }
    }
}

#[inline(always)]
fn products<S: Simd, const N: usize>(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
    let error = call.operands();
    let out = call.output(0)?.shape();
    let problem = Problem::new(call.input(0)?.shape(), call.input(1)?.shape(), out).ok_or(error)?;
    let (lhs, rhs): (&[f32], &[f32]) = (call.slice(0)?, call.slice(1)?);
    let [m, k, n] = problem.extents();
    let product = |lhs: &[f32], rhs: &[f32], out: &mut [f32]| {
        for first in (0..m).step_by(ROWS) {
            for column in (0..n).step_by(N * S::LANES) {
                let size = [k, n, column, (N * S::LANES).min(n - column)];
                let (lhs, out) = (lhs.get(first * k..)?, out.get_mut(first * n..)?);
                if m - first >= ROWS {
                    tile::<S, ROWS, N>(simd, lhs, rhs, out, size)?;
                    continue;
                }
                for row in 0..m - first {
                    let (lhs, out) = (lhs.get(row * k..)?, out.get_mut(row * n..)?);
                    tile::<S, 1, N>(simd, lhs, rhs, out, size)?;
                }
            }
        }
        Some(())
    };
    problem.matrices(lhs, rhs, call.slice_mut(0)?, product).ok_or(error)
}

/// `M` rows by `count` columns from `column` on, at most `N` vectors.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    lhs: &[f32],
    rhs: &[f32],
    out: &mut [f32],
    [k, n, column, count]: [usize; 4],
) -> Option<()> {
    // The last row of each operand ends where the largest index below does.
    let lhs = lhs.get(..M * k)?;
    let rhs = rhs.get(..k * n)?;
    let out = out.get_mut(..(M - 1) * n + column + count)?;
    let whole = count == N * S::LANES;
    let mut sums = [[simd.splat(0.0); N]; M];
    for p in 0..k {
        let mut right = [simd.splat(0.0); N];
        for (v, right) in right.iter_mut().enumerate() {
            let (at, left) = (v * S::LANES, count.saturating_sub(v * S::LANES));
            let from = rhs.as_ptr().wrapping_add(p * n + column + at);
            // SAFETY: only columns below n of row p below k are read.
            *right =
                unsafe { if whole { simd.load(from) } else { simd.load_some(from, left.min(S::LANES)) } };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row < M and p < k.
            let left = unsafe { simd.load_splat(lhs.as_ptr().add(row * k + p)) };
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add(left, right, *sum);
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let left = count.saturating_sub(v * S::LANES).min(S::LANES);
            let to = out.as_mut_ptr().wrapping_add(row * n + column + v * S::LANES);
            // SAFETY: only columns below n of a row that `out` has are written.
            unsafe { simd.store_some(to, sum, left) };
        }
    }
    Some(())
}
