//! Dot products of f32 activation rows with f32 weight rows.
//!
//! # Numerics
//! Eight interleaved partial sums by fused multiply-add, then pairwise: within
//! a few units of the last place of `Σ|a·b|` of the reference.

use core::arch::x86_64::*;

use crate::avx2::lanes::{block, load_f32, sum_lanes_f32};
use crate::avx2::tile::{Panels, STRIP, Tile};

/// Activation rows as f32.
pub(crate) type Reals<'m> = Panels<'m, f32, 8>;

/// `tile[p][c] = Σ x[p]·weight[first + c]` for `count` rows of `weight`.
///
/// Columns past `count` hold products with the last row.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn products(
    x: &Reals<'_>,
    weight: &[f32],
    first: usize,
    count: usize,
    tile: &mut Tile<f32>,
) -> Option<()> {
    for start in (0..count).step_by(4) {
        let rows = Quad::new(weight, x.len(), first + start, first + count - 1)?;
        for (pixel, width) in x.groups() {
            let out = tile.get_mut(pixel..)?;
            match width {
                3 => store(quad(x.group::<3>(pixel), &rows), start, out)?,
                2 => store(quad(x.group::<2>(pixel), &rows), start, out)?,
                _ => store(quad(x.group::<1>(pixel), &rows), start, out)?,
            }
        }
    }
    Some(())
}

/// Four weight rows in blocks, the last one zero-padded.
struct Quad<'w> {
    body: [&'w [[f32; 8]]; 4],
    tail: [[f32; 8]; 4],
}

impl<'w> Quad<'w> {
    /// Rows `first..first + 4` of `[rows, len]`, those past `last` replaced by it.
    #[inline(always)]
    fn new(weight: &'w [f32], len: usize, first: usize, last: usize) -> Option<Self> {
        let mut quad = Self { body: [&[]; 4], tail: [[0.0; 8]; 4] };
        for (i, (body, tail)) in quad.body.iter_mut().zip(&mut quad.tail).enumerate() {
            let row = weight.get((first + i).min(last) * len..)?.get(..len)?;
            *body = row.as_chunks().0;
            *tail = block(row, len - len % 8);
        }
        Some(quad)
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn quad<const P: usize>(x: &[[[f32; 8]; P]], rows: &Quad<'_>) -> [[f32; 4]; P] {
    let mut sums = [[_mm256_setzero_ps(); 4]; P];
    let [a, b, c, d] = rows.body;
    for ((((x, a), b), c), d) in x.iter().zip(a).zip(b).zip(c).zip(d) {
        accumulate(&mut sums, x, [a, b, c, d]);
    }
    if let Some(x) = x.get(a.len()) {
        accumulate(&mut sums, x, rows.tail.each_ref());
    }
    sums.map(|sums| sum_lanes_f32(sums))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn accumulate<const P: usize>(sums: &mut [[__m256; 4]; P], x: &[[f32; 8]; P], rows: [&[f32; 8]; 4]) {
    let rows = rows.map(|row| load_f32(row));
    for (sums, x) in sums.iter_mut().zip(x) {
        let x = load_f32(x);
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = _mm256_fmadd_ps(x, row, *sum);
        }
    }
}

#[inline(always)]
fn store<const P: usize>(sums: [[f32; 4]; P], start: usize, out: &mut [[f32; STRIP]]) -> Option<()> {
    for (out, sums) in out.iter_mut().zip(sums) {
        *out.get_mut(start..)?.first_chunk_mut()? = sums;
    }
    Some(())
}
