//! Gradient of a batched product of two activations, with respect to one of them.

use super::rows::{Code, add_rows, rows};
use super::{F32, check_output, gradient};
use crate::attrs::MatMulBackwardAttrs;
use crate::matmul::Problem;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `dA = dY·Bᵀ` for the left operand, `dB = Aᵀ·dY` for the right one.
///
/// # Shapes
/// Inputs `dy` `[.., m, n]` and the other operand, output of the wanted operand's shape: `[.., m, k]` or
/// `[.., k, n]`. Matrices that the forward step used several times get the sum.
pub const KERNEL: Kernel =
    Kernel::new("matmul_backward_f32_f32__scalar", OpCode::MatMulBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &MatMulBackwardAttrs = step.attrs()?;
    check::operands(step, 2, 1)?;
    check_output(step)?;
    let (other, wanted) = (step.input(1)?, step.output(0)?.shape);
    let [lhs, rhs] = if attrs.operand == 0 { [wanted, other.shape] } else { [other.shape, wanted] };
    let problem = Problem::new(lhs, rhs, step.input(0)?.shape);
    check::require(step, attrs.operand <= 1 && F32 == Some(other.dtype) && problem.is_some())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    products(call, |Product { left, extents: [_, k, n], dy, kept, dx }| {
        if left {
            add_left(dx, dy, kept, k, n)
        } else {
            add_right(dx, dy, kept, k, n)
        }
        Some(())
    })
}

/// One product of a step.
#[derive(Debug)]
pub struct Product<'a, 'o> {
    /// Whether the left operand's gradient is wanted, else the right one's.
    pub left: bool,
    /// `m`, `k` and `n`.
    pub extents: [usize; 3],
    /// The incoming gradient, `[m, n]`.
    pub dy: &'a [f32],
    /// The other operand: `[k, n]` for the left one's gradient, `[m, k]` for the right one's.
    pub kept: &'a [f32],
    /// The gradient to be added to: `[m, k]` or `[k, n]`.
    pub dx: &'o mut [f32],
}

/// Clears the gradient where it is not added to, and calls `add` with every product of the step, until it gives `None`.
///
/// # Errors
/// [`KernelError::Operands`], also where `add` gives `None`.
pub fn products(
    call: &mut Call<'_, '_>,
    mut add: impl FnMut(Product<'_, '_>) -> Option<()>,
) -> Result<(), KernelError> {
    let (error, attrs) = (call.operands(), *call.attrs::<MatMulBackwardAttrs>()?);
    let (other, wanted) = (call.input(1)?.shape(), call.output(0)?.shape());
    let left = attrs.operand == 0;
    let [lhs, rhs] = if left { [wanted, other] } else { [other, wanted] };
    let problem = Problem::new(lhs, rhs, call.input(0)?.shape()).ok_or(error)?;
    let (dy, other) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let dx = gradient(call)?;
    let Problem { m, k, n, batches } = problem;
    let (dy_len, lhs_len, rhs_len) = (m.wrapping_mul(n), m.wrapping_mul(k), k.wrapping_mul(n));
    for ([a, b], dy) in batches.elements().zip(rows(dy, dy_len)) {
        let (wanted, wanted_len, kept, kept_len) =
            if left { (a, lhs_len, b, rhs_len) } else { (b, rhs_len, a, lhs_len) };
        let kept = other.get(kept.wrapping_mul(kept_len)..).and_then(|o| o.get(..kept_len)).ok_or(error)?;
        let dx = dx.get_mut(wanted.wrapping_mul(wanted_len)..).and_then(|d| d.get_mut(..wanted_len));
        let dx = dx.ok_or(error)?;
        add(Product { left, extents: [m, k, n], dy, kept, dx }).ok_or(error)?;
    }
    Ok(())
}

/// `dA[i, p] += dY[i, :]·B[p, :]`.
fn add_left(mut dx: &mut [f32], dy: &[f32], rhs: &[f32], k: usize, n: usize) {
    for dy in rows(dy, n) {
        let Some((row, rest)) = dx.split_at_mut_checked(k) else { return };
        for (dx, rhs) in row.iter_mut().zip(rows(rhs, n)) {
            *dx += f32::dot(dy, rhs);
        }
        dx = rest;
    }
}

/// `dB[p, :] += Σ A[i, p]·dY[i, :]`.
fn add_right(mut dx: &mut [f32], dy: &[f32], lhs: &[f32], k: usize, n: usize) {
    for p in 0..k {
        let Some((row, rest)) = dx.split_at_mut_checked(n) else { return };
        add_rows(row, rows(lhs, k).zip(rows(dy, n)).filter_map(|(a, dy)| Some((*a.get(p)?, dy))));
        dx = rest;
    }
}
