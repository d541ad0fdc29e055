//! Dot products of int16 activation rows with int8 weight rows.
//!
//! # Numerics
//! Weights are sign-extended to int16, multiplied and summed in pairs to int32
//! (`vpmaddwd`): a pair of products of an int8 with an int16 stays below 2²³, so
//! nothing saturates, and further sums wrap as the reference's do.

use core::arch::x86_64::*;

use crate::avx2::lanes::{block, load_i8, load_i16, sum_lanes_i32};
use crate::avx2::tile::{Panels, Tile};

/// Activation rows as int16.
pub(crate) type Codes<'m> = Panels<'m, i16, 16>;

/// `tile[p][c] = Σ x[p]·weight[first + c]` for `count` rows of `weight`.
///
/// Columns past `count` hold products with the last row.
#[target_feature(enable = "avx2")]
pub(crate) fn products(
    x: &Codes<'_>,
    weight: &[i8],
    first: usize,
    count: usize,
    tile: &mut Tile<i32>,
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

/// Four weight rows in blocks. The last, partial block of a row runs on into
/// the next row: the activations end in zeros there.
struct Quad<'w> {
    body: [&'w [[i8; 16]]; 4],
    tail: [[i8; 16]; 4],
}

impl<'w> Quad<'w> {
    /// Rows `first..first + 4` of `[rows, len]`, those past `last` replaced by it.
    #[inline(always)]
    fn new(weight: &'w [i8], len: usize, first: usize, last: usize) -> Option<Self> {
        let mut quad = Self { body: [&[]; 4], tail: [[0; 16]; 4] };
        for (i, (body, tail)) in quad.body.iter_mut().zip(&mut quad.tail).enumerate() {
            let row = weight.get((first + i).min(last) * len..)?;
            *body = row.get(..len)?.as_chunks().0;
            if !len.is_multiple_of(16) {
                *tail = block(row, len - len % 16);
            }
        }
        Some(quad)
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn quad<const P: usize>(x: &[[[i16; 16]; P]], rows: &Quad<'_>) -> [[i32; 4]; P] {
    let mut sums = [[_mm256_setzero_si256(); 4]; P];
    let [a, b, c, d] = rows.body;
    for ((((x, a), b), c), d) in x.iter().zip(a).zip(b).zip(c).zip(d) {
        accumulate(&mut sums, x, [a, b, c, d]);
    }
    if let Some(x) = x.get(a.len()) {
        accumulate(&mut sums, x, rows.tail.each_ref());
    }
    sums.map(|sums| sum_lanes_i32(sums))
}

#[inline]
#[target_feature(enable = "avx2")]
fn accumulate<const P: usize>(sums: &mut [[__m256i; 4]; P], x: &[[i16; 16]; P], rows: [&[i8; 16]; 4]) {
    let rows = rows.map(|row| _mm256_cvtepi8_epi16(load_i8(row)));
    for (sums, x) in sums.iter_mut().zip(x) {
        let x = load_i16(x);
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, row));
        }
    }
}

#[inline(always)]
fn store<const P: usize>(
    sums: [[i32; 4]; P],
    start: usize,
    out: &mut [[i32; crate::avx2::tile::STRIP]],
) -> Option<()> {
    for (out, sums) in out.iter_mut().zip(sums) {
        *out.get_mut(start..)?.first_chunk_mut()? = sums;
    }
    Some(())
}
