//! The subspace of a matrix: finding it, going into it and back.

/// A matrix row by row, and the number of directions looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'g> {
    pub(super) values: &'g [f32],
    pub(super) columns: usize,
    pub(super) rank: usize,
}

impl Matrix<'_> {
    /// Writes the directions of the shorter side in which the matrix is largest to `basis`, `[rank, shorter]`, starting
    /// from what it holds. `low` and `next` are as long as the projection and the basis.
    pub(super) fn search(
        &self,
        along_rows: bool,
        basis: &mut [f32],
        next: &mut [f32],
        low: &mut [f32],
        refinements: u32,
    ) {
        let short = basis.len().checked_div(self.rank).unwrap_or(0);
        for (k, direction) in rows_mut(basis, short).enumerate() {
            if direction.iter().all(|value| *value == 0.0) {
                draw(direction, k as u32);
            }
        }
        for _ in 0..refinements {
            self.project(along_rows, basis, low);
            // G·Gᵀ·P: the same product with the sides exchanged.
            self.project(!along_rows, low, next);
            basis.iter_mut().zip(next.iter()).for_each(|(to, from)| *to = *from);
            orthonormalize(basis, short);
        }
    }

    /// Of each direction in `of`, along rows Σ over rows of its value there times the row, else its products with rows.
    pub(super) fn project(&self, along_rows: bool, of: &[f32], into: &mut [f32]) {
        let count = self.values.len().checked_div(self.columns).unwrap_or(0);
        let (from, to) = if along_rows { (count, self.columns) } else { (self.columns, count) };
        for (direction, sum) in rows(of, from).zip(rows_mut(into, to)).take(self.rank) {
            let lines = rows(self.values, self.columns);
            if along_rows {
                sum.fill(0.0);
                lines.zip(direction).for_each(|(line, factor)| add(sum, line, *factor));
            } else {
                lines.zip(sum).for_each(|(line, sum)| *sum = dot(line, direction) as f32);
            }
        }
    }
}

/// Takes reach·Σₖ left[k]ᵀ·right[k] from `parameters`, `columns` wide.
pub(super) fn subtract(
    parameters: &mut [f32],
    columns: usize,
    (left, right): (&[f32], &[f32]),
    rank: usize,
    reach: f32,
) {
    let height = parameters.len().checked_div(columns).unwrap_or(0);
    for (left, right) in rows(left, height).zip(rows(right, columns)).take(rank) {
        let lines = rows_mut(parameters, columns);
        lines.zip(left).for_each(|(line, factor)| add(line, right, -reach * factor));
    }
}

/// Makes the rows orthonormal, in order (Gram and Schmidt, twice over); what lies in those before becomes zero.
fn orthonormalize(basis: &mut [f32], short: usize) {
    let count = basis.len().checked_div(short).unwrap_or(0);
    for k in 0..count {
        let (before, rest) = basis.split_at_mut_checked(k.saturating_mul(short)).unwrap_or_default();
        let Some(direction) = rest.get_mut(..short) else { return };
        let whole = libm::sqrt(dot(direction, direction));
        for _ in 0..2 {
            for other in rows(before, short) {
                let along = dot(direction, other) as f32;
                add(direction, other, -along);
            }
        }
        let length = libm::sqrt(dot(direction, direction));
        let scale = if length > NOISE * whole { (1.0 / length) as f32 } else { 0.0 };
        direction.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Of a direction, what may be left of it by rounding.
const NOISE: f64 = 1e-5;

/// Signs that do not repeat.
fn draw(direction: &mut [f32], k: u32) {
    for (index, value) in direction.iter_mut().enumerate() {
        let word = (index as u32).wrapping_mul(0x9e37_79b9) ^ k.wrapping_mul(0x85eb_ca6b);
        let word = (word ^ (word >> 15)).wrapping_mul(0x2c1b_3c6d);
        *value = if (word ^ (word >> 12)) & 1 == 0 { 1.0 } else { -1.0 };
    }
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn add(to: &mut [f32], from: &[f32], factor: f32) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

/// The rows of a matrix `width` wide; none where it is 0.
pub(super) fn rows(matrix: &[f32], width: usize) -> impl Iterator<Item = &[f32]> {
    let mut rest = if width == 0 { &[] } else { matrix };
    core::iter::from_fn(move || {
        let (row, tail) = rest.split_at_checked(width.max(1))?;
        rest = tail;
        Some(row)
    })
}

/// As [`rows`], to write.
fn rows_mut(matrix: &mut [f32], width: usize) -> impl Iterator<Item = &mut [f32]> {
    let mut rest = if width == 0 { &mut [] } else { matrix };
    core::iter::from_fn(move || {
        let (row, tail) = core::mem::take(&mut rest).split_at_mut_checked(width.max(1))?;
        rest = tail;
        Some(row)
    })
}
