//! A sparse delta of real values beside a product of codes.
//!
//! What the pixels of a block have of one element of their patches stands side by side, so that an entry costs a vector
//! operation for many pixels; only elements that some entry reads are brought there. The sums of a chunk's channels are
//! then turned, to be added where the epilogue works on the channels of a pixel.
//!
//! # Numerics
//! Per output the reference's operations in its order, so results equal it to the bit.
//!
//! # Limit
//! Per pixel, an operation on `1/LANES` of an entry, and a move for every output and every element that is read.

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::{Sparse, SparseValues};

use crate::columns::Chunk;
use crate::gemm::{BLOCK, Rows, STRIP};
use crate::patches::Segments;
use crate::simd::{Simd, Task};
use ingraft_vector::memory::take;

/// Vectors of pixels whose sums stay in registers.
const TILE: usize = 6;

/// No place: nothing reads this element.
const NOWHERE: u16 = u16::MAX;

/// Workspace of a layer whose weight rows have `row` codes.
pub(super) fn bytes(row: usize) -> usize {
    let most = row.min(usize::from(NOWHERE));
    most * (BLOCK + 2 * size_of::<u16>()) + BLOCK * STRIP * size_of::<f32>() + 64
}

/// The delta, and what it makes of a block.
pub(super) struct RealSparse<'a, 'm> {
    sparse: Sparse<'a>,
    values: &'a [f32],
    /// Of the layer's input.
    zero: i32,
    in_scale: f32,
    inverse: f32,
    out_group: usize,
    /// Where the column of each element of a row stands.
    places: &'m mut [u16],
    /// The elements that are read, in order of their columns.
    elements: &'m mut [u16],
    read: usize,
    /// `[column][BLOCK]`.
    columns: &'m mut [i8],
    pixels: usize,
    /// The first pixel of the block.
    first: usize,
    /// `[pixel][STRIP]`.
    sums: &'m mut [f32],
}

impl<'a, 'm> RealSparse<'a, 'm> {
    /// The real delta of `conv`; `None` for another one, or where memory is short.
    pub(super) fn new(conv: &QConv<'a>, sparse: Sparse<'a>, memory: &mut &'m mut [u8]) -> Option<Self> {
        let SparseValues::F32(values) = sparse.values else { return None };
        let row = conv.shape.row();
        if row >= usize::from(NOWHERE) {
            return None;
        }
        let places: &mut [u16] = take(memory, row)?;
        let elements: &mut [u16] = take(memory, row)?;
        places.fill(NOWHERE);
        let mut read = 0;
        for index in sparse.indices {
            // Past the row the reference reads nothing.
            let Some(place) = places.get_mut(usize::from(*index)) else { continue };
            if *place == NOWHERE {
                *place = read as u16;
                *elements.get_mut(read)? = *index;
                read += 1;
            }
        }
        Some(Self {
            sparse,
            values,
            zero: conv.attrs.in_zero_point,
            in_scale: conv.attrs.in_scale,
            inverse: 1.0 / conv.attrs.out_scale,
            out_group: conv.shape.out_group,
            places,
            elements,
            read,
            columns: take(memory, read * BLOCK)?,
            pixels: 0,
            first: 0,
            sums: take(memory, BLOCK * STRIP)?,
        })
    }

    /// Brings the elements that are read to their columns; `None` for more pixels than a block has.
    #[inline(always)]
    pub(super) fn rows<S: Simd>(&mut self, rows: &Rows<'_>) -> Option<()> {
        if rows.count > BLOCK {
            return None;
        }
        (self.first, self.pixels) = (rows.base + rows.first, rows.count);
        let patches = rows.patches;
        let Segments { len, .. } = patches.segments;
        let mut offsets = [0; BLOCK];
        for (offset, pixel) in offsets.iter_mut().zip(rows.first..).take(rows.count) {
            *offset = patches.offset(pixel);
        }
        let offsets = offsets.get(..rows.count)?;
        for (element, column) in
            self.elements.iter().take(self.read).zip(self.columns.chunks_exact_mut(BLOCK))
        {
            let segment = usize::from(*element) / len.max(1);
            let line = segment / patches.inner;
            let at = line * patches.outer_step
                + (segment - line * patches.inner) * patches.inner_step
                + (usize::from(*element) - segment * len) * S::WIDE;
            for (code, offset) in column.iter_mut().zip(offsets) {
                let byte = *rows.bytes.get(offset + at)?;
                *code = if rows.moved { byte.wrapping_sub(128) as i8 } else { byte as i8 };
            }
        }
        Some(())
    }

    /// The channels of `chunk` at a pixel of the block, before they are scaled.
    #[inline(always)]
    pub(super) fn add<S: Simd, const N: usize>(
        &self,
        simd: S,
        pixel: usize,
        values: &mut [S::Real; N],
    ) -> Option<()> {
        const { assert!(N * S::LANES <= STRIP) };
        let sums = self.sums.get(pixel.checked_sub(self.first)? * STRIP..)?.get(..STRIP)?;
        let (in_scale, inverse) = (simd.splat(self.in_scale), simd.splat(self.inverse));
        for (n, value) in values.iter_mut().enumerate() {
            // SAFETY: `STRIP` values cover `N` vectors.
            let sum = unsafe { simd.load(sums.as_ptr().add(n * S::LANES)) };
            *value = simd.add(*value, simd.mul(simd.mul(sum, in_scale), inverse));
        }
        Some(())
    }
}

/// The sums of a chunk's channels.
pub(super) struct Sums<'t, 'a, 'm> {
    pub(super) term: &'t mut RealSparse<'a, 'm>,
    pub(super) group: usize,
    pub(super) chunk: Chunk,
}

impl<S: Simd> Task<S> for Sums<'_, '_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { term, group, chunk } = self;
        let zero = simd.splat(term.zero as f32);
        let first = group * term.out_group + chunk.first;
        const { assert!(BLOCK.is_multiple_of(TILE * S::LANES)) };
        for local in 0..chunk.count {
            let span = term.sparse.span(first + local)?;
            let (indices, values) = (term.sparse.indices.get(span.clone())?, term.values.get(span)?);
            for start in (0..term.pixels).step_by(TILE * S::LANES) {
                let mut sums = [simd.splat(0.0); TILE];
                for (index, value) in indices.iter().zip(values) {
                    let Some(place) = term.places.get(usize::from(*index)) else { continue };
                    let column = usize::from(*place) * BLOCK + start;
                    let codes = term.columns.get(column..)?.get(..TILE * S::LANES)?;
                    let value = simd.splat(*value);
                    for (n, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: the slice has `TILE` vectors of codes.
                        let x = unsafe { simd.load_i8(codes.as_ptr().add(n * S::LANES)) };
                        *sum = simd.add(*sum, simd.mul(simd.sub(x, zero), value));
                    }
                }
                let mut turned = [0.0f32; TILE * 16];
                const { assert!(S::LANES <= 16) };
                for (n, sum) in sums.into_iter().enumerate() {
                    // SAFETY: there is room for `TILE` vectors of at most 16.
                    unsafe { simd.store(turned.as_mut_ptr().add(n * S::LANES), sum) };
                }
                let rows = term.sums.get_mut(start * STRIP + local..)?.iter_mut().step_by(STRIP);
                let count = (term.pixels - start).min(TILE * S::LANES);
                rows.zip(turned).take(count).for_each(|(to, sum)| *to = sum);
            }
        }
        Some(())
    }
}
