//! The natural gradient in the subspace.

use ingraft_tensor::bytes;

use super::basis::{dot, rows};

/// f64 values of the equations of `history` columns.
pub(super) const fn values(history: usize) -> usize {
    history.saturating_mul(history.saturating_add(1))
}

/// Takes `gradient` into `history`, `[columns, gradient]`, in place of the oldest column, and replaces it by
/// (damping·I + H·Hᵀ)⁻¹ of itself. `since` columns were taken since the history was empty. `None` where a slice is too short.
pub(super) fn precondition(
    gradient: &mut [f32],
    history: &mut [f32],
    (columns, since): (usize, usize),
    damping: f32,
    equations: &mut [f32],
) -> Option<()> {
    let len = gradient.len();
    let now = since.checked_rem(columns)?;
    let column = history.get_mut(now.checked_mul(len)?..)?.get_mut(..len)?;
    column.iter_mut().zip(gradient.iter()).for_each(|(to, from)| *to = *from);

    let equations: &mut [f64] = bytes::cast_mut(bytes::of_mut(equations))?;
    let (matrix, solution) = equations.split_at_mut_checked(columns.checked_mul(columns)?)?;
    for (i, one) in rows(history, len).take(columns).enumerate() {
        for (j, other) in rows(history, len).take(i.saturating_add(1)).enumerate() {
            let sum = dot(one, other) + if i == j { f64::from(damping) } else { 0.0 };
            *matrix.get_mut(i.checked_mul(columns)?.checked_add(j)?)? = sum;
        }
    }
    solution.iter_mut().enumerate().for_each(|(i, x)| *x = if i == now { 1.0 } else { 0.0 });
    solve(matrix, columns, solution)?;
    gradient.fill(0.0);
    for (column, x) in rows(history, len).zip(solution.iter()) {
        gradient.iter_mut().zip(column).for_each(|(g, value)| *g += *x as f32 * value);
    }
    Some(())
}

/// Solves by Cholesky's factors of the lower half of a positive definite `matrix`, which they replace.
fn solve(matrix: &mut [f64], n: usize, x: &mut [f64]) -> Option<()> {
    let at = |i: usize, j: usize| i.wrapping_mul(n).wrapping_add(j);
    for i in 0..n {
        for j in 0..=i {
            let mut sum = *matrix.get(at(i, j))?;
            for k in 0..j {
                sum -= matrix.get(at(i, k))? * matrix.get(at(j, k))?;
            }
            let factor = if i == j { libm::sqrt(sum) } else { sum / matrix.get(at(j, j))? };
            *matrix.get_mut(at(i, j))? = factor;
        }
    }
    for i in 0..n {
        let mut sum = *x.get(i)?;
        for k in 0..i {
            sum -= matrix.get(at(i, k))? * x.get(k)?;
        }
        *x.get_mut(i)? = sum / matrix.get(at(i, i))?;
    }
    for i in (0..n).rev() {
        let mut sum = *x.get(i)?;
        for k in i.saturating_add(1)..n {
            sum -= matrix.get(at(k, i))? * x.get(k)?;
        }
        *x.get_mut(i)? = sum / matrix.get(at(i, i))?;
    }
    Some(())
}
