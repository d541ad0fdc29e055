//! Householder reflections.

use super::{Backward, Matrix, Rule, Shape, axpy, dot};
use crate::expression::Node;

/// `X·H_1⋯H_r` with `H_k = diag over blocks of I − c·û·ûᵀ`, û the direction of a part of column k of U.
///
/// With one block, c = 2 and U of r columns: r Householder reflections. U is `[n, r]`
/// for X of n columns; block b takes elements `b·n/blocks..` of a column. A part
/// that is zero reflects nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reflect {
    blocks: usize,
    factor: f64,
}

impl Reflect {
    /// Copies the parts of U into rows of unit directions; gives their lengths behind them.
    fn directions(u: Matrix<'_>, blocks: usize, memory: &mut [f64]) {
        let (n, r) = (u.shape.rows, u.shape.columns);
        let (units, lengths) = memory.split_at_mut(n * r);
        let size = (n / blocks.max(1)).max(1);
        for (k, unit) in units.chunks_exact_mut(n.max(1)).enumerate() {
            unit.iter_mut().enumerate().for_each(|(i, to)| *to = u.data[i * r + k]);
            for (part, length) in unit.chunks_exact_mut(size).zip(&mut lengths[k * blocks..]) {
                *length = libm::sqrt(dot(part, part));
                let inverse = if *length > 0.0 { 1.0 / *length } else { 0.0 };
                part.iter_mut().for_each(|v| *v *= inverse);
            }
        }
    }

    /// Multiplies every row of `rows` by one H (or its inverse for c = 2, which is H).
    fn apply(&self, unit: &[f64], rows: &mut [f64]) {
        let size = (unit.len() / self.blocks.max(1)).max(1);
        for row in rows.chunks_exact_mut(unit.len().max(1)) {
            for (part, unit) in row.chunks_exact_mut(size).zip(unit.chunks_exact(size)) {
                axpy(-self.factor * dot(part, unit), unit, part);
            }
        }
    }
}

impl Rule for Reflect {
    fn shape(&self, [x, u]: [Shape; 2]) -> Option<Shape> {
        let whole = self.blocks != 0 && u.rows.is_multiple_of(self.blocks);
        (whole && x.columns == u.rows).then_some(x)
    }

    /// Unit directions `[r, n]`, lengths `[r, blocks]`, their gradients, and two matrices like X.
    fn memory(&self, [x, u]: [Shape; 2]) -> usize {
        2 * u.len() + self.blocks * u.columns + 2 * x.len()
    }

    fn forward(&self, [x, u]: [Matrix<'_>; 2], y: &mut [f64], memory: &mut [f64]) {
        Self::directions(u, self.blocks, memory);
        y.copy_from_slice(x.data);
        let units = &memory[..u.data.len()];
        units.chunks_exact(u.shape.rows.max(1)).for_each(|unit| self.apply(unit, y));
    }

    /// Each H is symmetric, so the gradient goes back through the same products in
    /// reverse, while the value before each is computed again from X.
    fn backward(&self, which: usize, Backward { x: [x, u], dy, memory, .. }: Backward<'_>, dx: &mut [f64]) {
        let (n, count) = (u.shape.rows.max(1), u.data.len());
        let (units, rest) = memory.split_at_mut(count);
        let (lengths, rest) = rest.split_at_mut(self.blocks * u.shape.columns);
        let (slopes, rest) = rest.split_at_mut(count);
        let (value, gradient) = rest.split_at_mut(x.data.len());
        gradient.copy_from_slice(dy.data);
        for (k, unit) in units.chunks_exact(n).enumerate().rev() {
            if which == 1 {
                value.copy_from_slice(x.data);
                units.chunks_exact(n).take(k).for_each(|unit| self.apply(unit, value));
                self.slope(unit, value, gradient, &mut slopes[k * n..(k + 1) * n]);
            }
            self.apply(unit, gradient);
        }
        match which {
            0 => axpy(1.0, gradient, dx),
            _ => self.along_sphere(u.shape, [units, lengths, slopes], dx),
        }
    }
}

impl Reflect {
    /// The gradient of one unit direction: that of `v − c·(v·û)·û` for all rows, given `gradient`.
    fn slope(&self, unit: &[f64], value: &[f64], gradient: &[f64], slope: &mut [f64]) {
        let (n, size) = (unit.len().max(1), (unit.len() / self.blocks.max(1)).max(1));
        slope.fill(0.0);
        for (v, g) in value.chunks_exact(n).zip(gradient.chunks_exact(n)) {
            let units = unit.chunks_exact(size).zip(slope.chunks_exact_mut(size));
            for ((v, g), (unit, slope)) in v.chunks_exact(size).zip(g.chunks_exact(size)).zip(units) {
                axpy(-self.factor * dot(v, unit), g, slope);
                axpy(-self.factor * dot(g, unit), v, slope);
            }
        }
    }

    /// Adds to `du` the gradient of U, given those of the directions of its parts.
    fn along_sphere(&self, shape: Shape, [units, lengths, slopes]: [&[f64]; 3], du: &mut [f64]) {
        let size = (shape.rows / self.blocks.max(1)).max(1);
        let parts = units.chunks_exact(size).zip(slopes.chunks_exact(size)).zip(lengths);
        for (i, ((unit, slope), length)) in parts.enumerate().filter(|(_, (_, length))| **length > 0.0) {
            let along = dot(unit, slope);
            let (k, first) = (i / self.blocks, i % self.blocks * size);
            for (j, (slope, unit)) in slope.iter().zip(unit).enumerate() {
                du[(first + j) * shape.columns + k] += (slope - along * unit) / length;
            }
        }
    }
}

impl<'t> Node<'t> {
    /// `X·H_1⋯H_r`, `H_k = I − 2·û·ûᵀ` for the columns of `u`, in every one of equal blocks of X's columns.
    pub(crate) fn reflect(self, blocks: usize, u: Self) -> Self {
        self.binary(Reflect { blocks, factor: 2.0 }, u)
    }

    /// `X·(I − c·û·ûᵀ)` for the columns of `u`, in every one of equal blocks of X's columns.
    pub(crate) fn deflect(self, blocks: usize, factor: f64, u: Self) -> Self {
        self.binary(Reflect { blocks, factor }, u)
    }
}
