//! Products of matrices as gradients need them, without packing.
//!
//! Both forms take the right factor by rows as it is stored, f32 or int8 codes:
//!
//! | form | `C (+)=` | tile | gradients |
//! |---|---|---|---|
//! | [`Outer`] | `A·B` | rows by vectors of columns, a broadcast each row and step | input: `dz·W`; weight: `dzᵀ·x` |
//! | [`Dots`] | `A·Bᵀ` | rows by four rows of B, a vector of each per step | `x·downᵀ` |
//!
//! # Numerics
//! One fused multiply-add per product. An outer product adds them in the order of the inner extent; a dot product in one
//! partial sum per lane, then across lanes. Either is within a few units of the last place of `Σ|a·b|` of the
//! reference, and does not depend on where in the matrix an element stands.
//!
//! # Limit
//! Six rows by four vectors with AVX-512: 24 multiply-adds for ten loads a step, 24 of 32 registers sums; six by two with
//! AVX2. Converting int8 codes costs two operations per vector of B, 8 beside 24, on other pipes than the products.
//! A column of tiles reads its part of B once per six rows. The inner extent is passed in pieces of [`DEPTH`] steps, so that this
//! part is in the first-level cache, also where rows of B lie a power of two apart: sums wait in C meanwhile, which rounds
//! nothing. Where C is the larger, a weight's gradient, a band of six rows passes all columns before the next: C is then
//! written as it lies in memory.
//!
//! On one shared Zen 4 core, best of half a second: 24 pixels of a 512×512 layer at 53·10⁹ multiply-adds a second with AVX-512
//! and 48·10⁹ with AVX2, where 16 a cycle are possible; six pixels of 1024×1024, which read each weight once, at
//! 37·10⁹; 1536 pixels of 32→64, whose rows are short, at 19·10⁹.

use core::ops::Range;

use super::stored::Stored;
use crate::{Task, Vector};

/// A matrix whose element (i, r) stands at `i·row + r·step`: rows, or the columns of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) row: usize,
    pub(super) step: usize,
}

/// The rows of a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right<'a, T> {
    pub(super) values: &'a [T],
    /// From row to row.
    pub(super) stride: usize,
}

/// Where a product goes.
#[derive(Debug)]
pub(super) struct Output<'c> {
    pub(super) values: &'c mut [f32],
    /// From row to row.
    pub(super) stride: usize,
    /// Whether the product is added to what is there.
    pub(super) add: bool,
}

/// `C (+)= A·B`: `rows` by `columns`, summed over `depth`.
#[derive(Debug)]
pub(super) struct Outer<'a, 'c, T> {
    pub(super) left: Left<'a>,
    pub(super) right: Right<'a, T>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) output: Output<'c>,
}

/// `C (+)= A·Bᵀ`: `rows` of A by `columns` rows of B, both `depth` long.
#[derive(Debug)]
pub(super) struct Dots<'a, 'c, T> {
    /// A, by rows.
    pub(super) left: Right<'a, f32>,
    pub(super) right: Right<'a, T>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) output: Output<'c>,
}

/// Elements that a matrix of `rows` rows of `len` spans.
fn span(rows: usize, stride: usize, len: usize) -> Option<usize> {
    rows.checked_sub(1)?.checked_mul(stride)?.checked_add(len)
}

impl<T: Stored, V: Vector> Task<V> for Outer<'_, '_, T> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(mut self, v: V) -> Option<()> {
        if self.rows == 0 || self.columns == 0 || self.depth == 0 {
            return clear(self.rows, self.columns, self.output);
        }
        let left =
            span(self.rows, self.left.row, 1)?.checked_add((self.depth - 1).checked_mul(self.left.step)?)?;
        let inside = left <= self.left.values.len()
            && span(self.depth, self.right.stride, self.columns)? <= self.right.values.len()
            && span(self.rows, self.output.stride, self.columns)? <= self.output.values.len();
        if !inside {
            return None;
        }
        for start in (0..self.depth).step_by(DEPTH) {
            let steps = Steps { start, count: DEPTH.min(self.depth - start) };
            // A tall product is its output, which is passed through once, row by row; of any other the right factor is.
            let tall = if self.rows > self.depth { TALL } else { self.rows };
            for row in (0..self.rows).step_by(tall) {
                // SAFETY: rows and steps stay below their counts, with all columns inside the matrices.
                unsafe { self.band(v, row..self.rows.min(row + tall), steps) };
            }
        }
        Some(())
    }
}

/// Part of the inner extent.
#[derive(Clone, Copy, Debug)]
struct Steps {
    start: usize,
    count: usize,
}

/// Some columns of a tile's width; of the last vector the first `last` lanes.
#[derive(Clone, Copy, Debug)]
struct Columns {
    first: usize,
    last: usize,
}

impl<T: Stored> Outer<'_, '_, T> {
    /// All columns of some rows, summed over `steps`.
    ///
    /// # Safety
    /// The rows lie inside the matrices, with every column and step.
    #[inline(always)]
    unsafe fn band<V: Vector>(&mut self, v: V, rows: Range<usize>, steps: Steps) {
        let (mut first, last) = (0, V::LANES);
        // SAFETY: columns stay below `columns`; the caller's contract.
        unsafe {
            while first + V::WIDTH * V::LANES <= self.columns {
                match V::WIDTH {
                    4 => self.column::<V, 4, false>(v, &rows, Columns { first, last }, steps),
                    _ => self.column::<V, 2, false>(v, &rows, Columns { first, last }, steps),
                }
                first += V::WIDTH * V::LANES;
            }
            while V::WIDTH > 2 && first + 2 * V::LANES <= self.columns {
                self.column::<V, 2, false>(v, &rows, Columns { first, last }, steps);
                first += 2 * V::LANES;
            }
            while first < self.columns {
                let last = V::LANES.min(self.columns - first);
                self.column::<V, 1, true>(v, &rows, Columns { first, last }, steps);
                first += last;
            }
        }
    }

    /// Some rows of `N` vectors of columns.
    ///
    /// # Safety
    /// These columns and rows lie inside the matrices, with every step.
    #[inline(always)]
    unsafe fn column<V: Vector, const N: usize, const PART: bool>(
        &mut self,
        v: V,
        rows: &Range<usize>,
        columns: Columns,
        steps: Steps,
    ) {
        let mut row = rows.start;
        // SAFETY: rows stay below the last; the caller's contract.
        unsafe {
            while row + TALL <= rows.end {
                self.tile::<V, TALL, N, PART>(v, row, columns, steps);
                row += TALL;
            }
            if row + 3 <= rows.end {
                self.tile::<V, 3, N, PART>(v, row, columns, steps);
                row += 3;
            }
            while row < rows.end {
                self.tile::<V, 1, N, PART>(v, row, columns, steps);
                row += 1;
            }
        }
    }

    /// # Safety
    /// The tile lies inside the matrices, with every step.
    #[inline(always)]
    unsafe fn tile<V: Vector, const M: usize, const N: usize, const PART: bool>(
        &mut self,
        v: V,
        row: usize,
        Columns { first, last }: Columns,
        Steps { start, count }: Steps,
    ) {
        let Self { left: Left { row: rise, step, .. }, right, output, .. } = self;
        let (rise, step, stride) = (*rise, *step, right.stride);
        // SAFETY: the caller's contract.
        unsafe {
            let mut b = right.values.as_ptr().add(start * stride + first);
            let mut a = self.left.values.as_ptr().add(row * rise + start * step);
            let c = output.values.as_mut_ptr().add(row * output.stride + first);
            let mut sums = [[v.splat(0.0); N]; M];
            if output.add || start > 0 {
                for (m, sums) in sums.iter_mut().enumerate() {
                    for (n, sum) in sums.iter_mut().enumerate() {
                        let from = c.add(m * output.stride + n * V::LANES);
                        *sum = if PART { v.load_some(from, last) } else { v.load(from) };
                    }
                }
            }
            for _ in 0..count {
                let mut right = [v.splat(0.0); N];
                for (n, right) in right.iter_mut().enumerate() {
                    let from = b.wrapping_add(n * V::LANES);
                    *right = if PART { T::load_first(v, from, last) } else { T::load(v, from) };
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let left = v.splat(*a.wrapping_add(m * rise));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = v.mul_add(left, right, *sum);
                    }
                }
                (a, b) = (a.wrapping_add(step), b.wrapping_add(stride));
            }
            for (m, sums) in sums.iter().enumerate() {
                for (n, sum) in sums.iter().enumerate() {
                    let to = c.add(m * output.stride + n * V::LANES);
                    if PART { v.store_some(to, *sum, last) } else { v.store(to, *sum) }
                }
            }
        }
    }
}

/// Steps between two visits of a sum: that many rows of a tile's columns stay in a first-level cache, however far apart rows
/// are, and a block of pixels is no longer.
const DEPTH: usize = 48;

/// Rows of a tile.
const TALL: usize = 6;

impl<T: Stored, V: Vector> Task<V> for Dots<'_, '_, T> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(mut self, v: V) -> Option<()> {
        if self.rows == 0 || self.columns == 0 || self.depth == 0 {
            return clear(self.rows, self.columns, self.output);
        }
        let inside = span(self.rows, self.left.stride, self.depth)? <= self.left.values.len()
            && span(self.columns, self.right.stride, self.depth)? <= self.right.values.len()
            && span(self.rows, self.output.stride, self.columns)? <= self.output.values.len();
        if !inside {
            return None;
        }
        for column in (0..self.columns).step_by(4) {
            let mut row = 0;
            // SAFETY: rows and columns stay below their counts.
            unsafe {
                while row + V::DOTS <= self.rows {
                    match V::DOTS {
                        6 => self.tile::<V, 6>(v, row, column),
                        _ => self.tile::<V, 3>(v, row, column),
                    }
                    row += V::DOTS;
                }
                while row < self.rows {
                    self.tile::<V, 1>(v, row, column);
                    row += 1;
                }
            }
        }
        Some(())
    }
}

impl<T: Stored> Dots<'_, '_, T> {
    /// `M` rows by up to four columns from `column` on.
    ///
    /// # Safety
    /// The rows lie inside the matrices, and so does `column`.
    #[inline(always)]
    unsafe fn tile<V: Vector, const M: usize>(&mut self, v: V, row: usize, column: usize) {
        let count = 4.min(self.columns - column);
        let mut sums = [[v.splat(0.0); 4]; M];
        // SAFETY: the caller's contract; columns past the last repeat it.
        unsafe {
            let a = self.left.values.as_ptr().add(row * self.left.stride);
            let mut b = [self.right.values.as_ptr(); 4];
            for (n, b) in b.iter_mut().enumerate() {
                *b = b.add((column + n.min(count - 1)) * self.right.stride);
            }
            let whole = self.depth - self.depth % V::LANES;
            for at in (0..whole).step_by(V::LANES) {
                let mut right = [v.splat(0.0); 4];
                for (right, b) in right.iter_mut().zip(b) {
                    *right = T::load(v, b.add(at));
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let left = v.load(a.add(m * self.left.stride + at));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = v.mul_add(left, right, *sum);
                    }
                }
            }
            if whole < self.depth {
                let rest = self.depth - whole;
                let mut right = [v.splat(0.0); 4];
                for (right, b) in right.iter_mut().zip(b) {
                    *right = T::load_first(v, b.add(whole), rest);
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let left = v.load_some(a.add(m * self.left.stride + whole), rest);
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = v.mul_add(left, right, *sum);
                    }
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                let c = self.output.values.as_mut_ptr().add((row + m) * self.output.stride + column);
                for (n, sum) in v.sums(sums).into_iter().enumerate().take(count) {
                    let c = c.add(n);
                    *c = if self.output.add { *c + sum } else { sum };
                }
            }
        }
    }
}

/// What a product over nothing leaves.
fn clear(rows: usize, columns: usize, output: Output<'_>) -> Option<()> {
    if output.add || rows == 0 || columns == 0 {
        return Some(());
    }
    for row in 0..rows {
        output.values.get_mut(row * output.stride..)?.get_mut(..columns)?.fill(0.0);
    }
    Some(())
}
