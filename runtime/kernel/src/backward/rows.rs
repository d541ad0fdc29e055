//! Row arithmetic: loops over whole slices that a compiler turns into vector code.

use ingraft_tensor::arrays::arrays;

/// A stored element: int8 code or f32.
pub trait Code: ingraft_tensor::bytes::Element + Into<f32> {
    /// `Σ a·b`; of codes the exact sum, rounded to f32.
    fn dot(a: &[Self], b: &[Self]) -> f32;
}

impl Code for i8 {
    #[inline(always)]
    fn dot(a: &[Self], b: &[Self]) -> f32 {
        crate::qconv::dot(a, b) as f32
    }
}

impl Code for f32 {
    #[inline(always)]
    fn dot(a: &[Self], b: &[Self]) -> f32 {
        dot(a, b)
    }
}

/// `Σ a·b` in eight interleaved partial sums.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let ((a, a_tail), (b, b_tail)) = (arrays::<_, 8>(a), arrays::<_, 8>(b));
    let tail = a_tail.iter().zip(b_tail).fold(0.0, |sum, (a, b)| sum + a * b);
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().fold(tail, |sum, v| sum + v)
}

/// `sum += a`.
#[inline(always)]
pub(super) fn add(sum: &mut [f32], a: &[f32]) {
    sum.iter_mut().zip(a).for_each(|(s, a)| *s += a);
}

/// `sum += factor·a`.
#[inline(always)]
pub(super) fn add_scaled(sum: &mut [f32], factor: f32, a: &[f32]) {
    sum.iter_mut().zip(a).for_each(|(s, a)| *s += factor * a);
}

/// `sum += Σ factor·row` over `(factor, row)`.
///
/// Rows with factor 0 are skipped: behind a mask they are many. Four rows at a
/// time, so that `sum` is read and written once for all of them.
#[inline(always)]
pub(super) fn add_rows<'r, T: Code>(sum: &mut [f32], rows: impl Iterator<Item = (f32, &'r [T])>) {
    let mut rows = rows.filter(|(factor, _)| *factor != 0.0).fuse();
    while let Some((a, p)) = rows.next() {
        let mut next = || rows.next().unwrap_or((0.0, p));
        let ((b, q), (c, r), (d, s)) = (next(), next(), next());
        for ((((sum, p), q), r), s) in sum.iter_mut().zip(p).zip(q).zip(r).zip(s) {
            *sum += a * (*p).into() + b * (*q).into() + c * (*r).into() + d * (*s).into();
        }
    }
}

/// Row `i` of `matrix` += `factors[i]·a`; rows are as long as `a`.
#[inline(always)]
pub(super) fn add_outer(mut matrix: &mut [f32], factors: &[f32], a: &[f32]) {
    for factor in factors {
        let Some((row, rest)) = matrix.split_at_mut_checked(a.len()) else { return };
        if *factor != 0.0 {
            add_scaled(row, *factor, a);
        }
        matrix = rest;
    }
}

/// The rows of a matrix with rows of `len`; none for `len` 0.
///
/// Not `chunks_exact`: zipped, it divides by `len`, and where that is not
/// inlined the check for zero is a panic that firmware cannot link.
#[inline(always)]
pub(super) fn rows<T>(mut matrix: &[T], len: usize) -> impl Iterator<Item = &[T]> {
    core::iter::from_fn(move || {
        let (row, rest) = matrix.split_at_checked(len).filter(|_| len != 0)?;
        matrix = rest;
        Some(row)
    })
}
