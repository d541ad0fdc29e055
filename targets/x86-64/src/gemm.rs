//! Products of patches with packed weights, in register tiles.
//!
//! # Blocking
//! - A tile is up to `M` output pixels by `N` vectors of channels; all `M·N`
//!   accumulators stay in registers. Each step broadcasts four bytes of every
//!   patch and loads `N` vectors of weights: `M + N` loads for `M·N` products.
//! - [`BLOCK`] pixels share one pass over a chunk's weights, so weights come
//!   from the second-level cache at a fraction of its bandwidth while the
//!   block's patches stay in the first level.
//!
//! # Limit
//! `⌈out/LANES⌉ · steps` products per pixel, at the rate of the instruction:
//! two `vpdpbusd` or `vfmadd` a cycle on cores with two 512-bit pipes.

use crate::columns::{BLOCK as WIDE, Chunk, Layout};
use crate::patches::{Patches, STEP};
use crate::simd::Simd;

/// Pixels per pass over the weights of a chunk: whole tiles of every height.
pub(crate) const BLOCK: usize = 96;

/// Most steps of a patch whose places are listed.
const SHORT: usize = 64;

/// Most channels of a chunk on any instruction set.
pub(crate) const STRIP: usize = 64;

/// What a step multiplies.
pub(crate) trait Arithmetic<S: Simd>: Copy {
    /// One accumulator per lane.
    type Sum: Copy;
    /// Four bytes of a patch, in every lane.
    type Patch: Copy;
    /// Four bytes of a weight row per lane.
    type Weight: Copy;

    /// What loading patches needs, once per layer.
    type Context: Copy;
    /// What every byte is combined with (exclusive or) where an image is copied anyway.
    const MOVE: u8;

    /// The context of [`Self::patch`].
    fn context(simd: S) -> Self::Context;
    /// # Safety
    /// [`STEP`] bytes lie at `from`.
    unsafe fn patch(simd: S, context: Self::Context, from: *const u8) -> Self::Patch;
    /// Sixteen bytes of a patch, in every quarter of a vector.
    ///
    /// # Safety
    /// Sixteen bytes lie at `from`.
    unsafe fn block(simd: S, context: Self::Context, from: *const u8) -> Self::Patch;
    /// The neutral sum.
    fn zero(simd: S) -> Self::Sum;
    /// `start` and the sums of the quarters of four vectors, in the order of channels.
    fn sum_quarters(simd: S, start: Self::Sum, sums: [Self::Sum; 4]) -> Self::Sum;
    /// # Safety
    /// [`STEP`]` · LANES` bytes lie at `from`.
    unsafe fn weight(simd: S, from: *const u8) -> Self::Weight;
    /// `sum + patch·weight`.
    fn multiply(simd: S, sum: Self::Sum, patch: Self::Patch, weight: Self::Weight) -> Self::Sum;
}

/// int8 codes to i32: `Σ (x + 128)·w`. The packed weights carry `−128·Σw`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes;

/// As [`Codes`], of an image whose copy holds the codes moved to 0…255: one operation less per broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MovedCodes;

/// f32, fused multiply-add.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reals;

impl<S: Simd> Arithmetic<S> for Codes {
    type Sum = S::Int;
    type Patch = S::Codes;
    type Weight = S::Weights;
    type Context = S::Move;
    const MOVE: u8 = 0;

    #[inline(always)]
    fn context(simd: S) -> S::Move {
        simd.moving()
    }

    #[inline(always)]
    unsafe fn patch(simd: S, context: S::Move, from: *const u8) -> S::Codes {
        // SAFETY: the caller's contract.
        unsafe { simd.load_codes(context, from) }
    }

    #[inline(always)]
    unsafe fn block(simd: S, context: S::Move, from: *const u8) -> S::Codes {
        // SAFETY: the caller's contract.
        unsafe { simd.load_block(context, from) }
    }

    #[inline(always)]
    fn zero(simd: S) -> S::Int {
        simd.splat_int(0)
    }

    #[inline(always)]
    fn sum_quarters(simd: S, start: S::Int, sums: [S::Int; 4]) -> S::Int {
        simd.add_int(start, simd.sum_quarters_int(sums))
    }

    #[inline(always)]
    unsafe fn weight(simd: S, from: *const u8) -> S::Weights {
        // SAFETY: the caller's contract.
        unsafe { simd.load_weights(from) }
    }

    #[inline(always)]
    fn multiply(simd: S, sum: S::Int, patch: S::Codes, weight: S::Weights) -> S::Int {
        simd.dot(sum, patch, weight)
    }
}

impl<S: Simd> Arithmetic<S> for MovedCodes {
    type Sum = S::Int;
    type Patch = S::Codes;
    type Weight = S::Weights;
    type Context = ();
    const MOVE: u8 = 0x80;

    #[inline(always)]
    fn context(_: S) {}

    #[inline(always)]
    unsafe fn patch(simd: S, (): (), from: *const u8) -> S::Codes {
        // SAFETY: the caller's contract.
        unsafe { simd.load_moved(from) }
    }

    #[inline(always)]
    unsafe fn block(simd: S, (): (), from: *const u8) -> S::Codes {
        // SAFETY: the caller's contract.
        unsafe { simd.load_moved_block(from) }
    }

    #[inline(always)]
    fn zero(simd: S) -> S::Int {
        simd.splat_int(0)
    }

    #[inline(always)]
    fn sum_quarters(simd: S, start: S::Int, sums: [S::Int; 4]) -> S::Int {
        simd.add_int(start, simd.sum_quarters_int(sums))
    }

    #[inline(always)]
    unsafe fn weight(simd: S, from: *const u8) -> S::Weights {
        // SAFETY: the caller's contract.
        unsafe { simd.load_weights(from) }
    }

    #[inline(always)]
    fn multiply(simd: S, sum: S::Int, patch: S::Codes, weight: S::Weights) -> S::Int {
        simd.dot(sum, patch, weight)
    }
}

impl<S: Simd> Arithmetic<S> for Reals {
    type Sum = S::Real;
    type Patch = S::Real;
    type Weight = S::Real;
    type Context = ();
    const MOVE: u8 = 0;

    #[inline(always)]
    fn context(_: S) {}

    #[inline(always)]
    unsafe fn patch(simd: S, (): (), from: *const u8) -> S::Real {
        // SAFETY: the caller's contract.
        unsafe { simd.load_splat(from.cast()) }
    }

    #[inline(always)]
    unsafe fn block(simd: S, (): (), from: *const u8) -> S::Real {
        // SAFETY: the caller's contract.
        unsafe { simd.load_four(from.cast()) }
    }

    #[inline(always)]
    fn zero(simd: S) -> S::Real {
        simd.splat(0.0)
    }

    #[inline(always)]
    fn sum_quarters(simd: S, start: S::Real, sums: [S::Real; 4]) -> S::Real {
        simd.add(start, simd.sum_quarters(sums))
    }

    #[inline(always)]
    unsafe fn weight(simd: S, from: *const u8) -> S::Real {
        // SAFETY: the caller's contract.
        unsafe { simd.load(from.cast()) }
    }

    #[inline(always)]
    fn multiply(simd: S, sum: S::Real, patch: S::Real, weight: S::Real) -> S::Real {
        simd.mul_add(patch, weight, sum)
    }
}

/// Output pixels of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pixels {
    /// First, counted over the whole output.
    pub(crate) first: usize,
    /// Number of them.
    pub(crate) count: usize,
}

/// Where the weights of a product come from.
pub(crate) trait Weights {
    /// The packed weights of `chunk` of `group`: `packed`, or what is put into `strip` instead.
    /// `sums` is what packing kept of its rows, and may be changed too.
    fn chunk<'p>(
        &mut self,
        layout: &Layout,
        at: (usize, Chunk),
        packed: &'p [u8],
        strip: &'p mut [u8],
        sums: &mut [i32],
    ) -> Option<&'p [u8]>;
}

/// The weights as they were packed at bind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsPacked;

impl Weights for AsPacked {
    #[inline(always)]
    fn chunk<'p>(
        &mut self,
        _: &Layout,
        _: (usize, Chunk),
        packed: &'p [u8],
        _: &'p mut [u8],
        _: &mut [i32],
    ) -> Option<&'p [u8]> {
        Some(packed)
    }
}

/// Patches about to be multiplied: `pixels` of one group of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) patches: &'a Patches,
    /// What the patches' offsets count in.
    pub(crate) bytes: &'a [u8],
    /// First pixel, counted in the sample.
    pub(crate) first: usize,
    /// Number of pixels, at most [`BLOCK`] or the sample's.
    pub(crate) count: usize,
    /// Pixels of the samples before.
    pub(crate) base: usize,
}

/// What becomes of the sums.
pub(crate) trait Finish<S: Simd, A: Arithmetic<S>> {
    /// Prepares for pixels of `group`.
    #[inline(always)]
    fn rows(&mut self, _group: usize, _rows: &Rows<'_>) -> Option<()> {
        Some(())
    }

    /// Prepares for `chunk` of `group`; `sums` is what packing kept of its rows.
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()>;

    /// What the sums of vector `n` of the chunk start from.
    fn start(&self, n: usize) -> A::Sum;

    /// Takes the sums of a tile, the first `pixels.count` of them.
    fn tile<const M: usize, const N: usize>(&mut self, pixels: Pixels, sums: &[[A::Sum; N]; M])
    -> Option<()>;
}

/// The operands of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    pub(crate) patches: Patches,
    pub(crate) layout: Layout,
    /// The layer's input.
    pub(crate) input: &'a [u8],
    /// The byte that stands for padding.
    pub(crate) fill: u8,
    /// Weights packed in `layout`.
    pub(crate) packed: &'a [u8],
    /// Pixels per pass over the weights of a chunk; [`BLOCK`] but where making the weights of a
    /// chunk costs more than keeping patches close.
    pub(crate) block: usize,
}

/// Computes every tile of a layer; `copy` is scratch of [`Patches::copy_bytes`], `strip` what
/// `weights` puts its chunks into.
#[inline(always)]
pub(crate) fn multiply<S: Simd, A: Arithmetic<S>>(
    simd: S,
    product: &Product<'_>,
    [copy, strip]: [&mut [u8]; 2],
    weights: &mut impl Weights,
    finish: &mut impl Finish<S, A>,
) -> Option<()> {
    let Product { patches, layout, .. } = product;
    if patches.pixels == 0 || layout.columns.count == 0 {
        return Some(());
    }
    let context = A::context(simd);
    let mut places = [0; SHORT];
    let places = patches.places(&mut places);
    for sample in 0..patches.samples {
        let bytes = patches.of_sample(product.input, sample, [product.fill, A::MOVE], copy)?;
        let end = patches.offset(patches.pixels - 1) + patches.reach(layout.groups);
        if end > bytes.len() {
            return None;
        }
        for group in 0..layout.groups {
            let (packed, kept) = layout.group_of(product.packed, group)?;
            let bytes = bytes.get(group * patches.group..)?;
            for first in (0..patches.pixels).step_by(product.block.max(1)) {
                let count = product.block.min(patches.pixels - first);
                let rows = Rows { patches, bytes, first, count, base: sample * patches.pixels };
                finish.rows(group, &rows)?;
                for chunk in layout.columns.chunks() {
                    let lanes = chunk.vectors * layout.columns.lanes;
                    let mut sums = [0; STRIP];
                    let sums = sums.get_mut(..lanes)?;
                    sums.copy_from_slice(kept.get(chunk.first..)?.get(..lanes)?);
                    let packed = layout.chunk_of(packed, chunk)?;
                    let right = weights.chunk(layout, (group, chunk), packed, strip, sums)?;
                    if right.len() < layout.chunk_bytes(chunk) {
                        return None;
                    }
                    finish.chunk(group, chunk, sums)?;
                    let block = Block { simd, context, rows, places, weights: right };
                    // SAFETY: every patch of the sample ends within `bytes`, and `right` holds the
                    // chunk's vectors for every step: both compared above.
                    unsafe {
                        match chunk.vectors {
                            1 if layout.in_blocks(chunk) => block.tiles::<A, 6, 3, 1, true>(finish)?,
                            1 => block.tiles::<A, 12, 4, 1, false>(finish)?,
                            2 => block.tiles::<A, 12, 4, 2, false>(finish)?,
                            3 => block.tiles::<A, 8, 4, 3, false>(finish)?,
                            4 => block.tiles::<A, 6, 3, 4, false>(finish)?,
                            _ => return None,
                        }
                    }
                }
            }
        }
    }
    Some(())
}

/// Some rows, and the weights of one chunk.
#[derive(Clone, Copy)]
struct Block<'a, S, C> {
    simd: S,
    context: C,
    rows: Rows<'a>,
    /// Where each step of a patch lies, for patches of many short segments; else empty.
    places: &'a [usize],
    weights: &'a [u8],
}

impl<S: Simd, C: Copy> Block<'_, S, C> {
    /// All tiles: of `M` pixels, then a last one of the least height that holds the rest.
    ///
    /// # Safety
    /// As [`Self::tile`], for all pixels of the block and `N` vectors.
    #[inline(always)]
    unsafe fn tiles<
        A: Arithmetic<S, Context = C>,
        const M: usize,
        const HALF: usize,
        const N: usize,
        const BLOCKS: bool,
    >(
        &self,
        finish: &mut impl Finish<S, A>,
    ) -> Option<()> {
        let end = self.rows.first + self.rows.count;
        let mut first = self.rows.first;
        // SAFETY: the caller's contract.
        unsafe {
            while first + M <= end {
                self.tile::<A, M, N, BLOCKS>(first, M, finish)?;
                first += M;
            }
            match end - first {
                0 => Some(()),
                1 => self.tile::<A, 1, N, BLOCKS>(first, 1, finish),
                rest if rest <= HALF => self.tile::<A, HALF, N, BLOCKS>(first, rest, finish),
                rest => self.tile::<A, M, N, BLOCKS>(first, rest, finish),
            }
        }
    }

    /// One tile: `count` pixels from `first` on, at most `M`.
    ///
    /// # Safety
    /// - The patches of these pixels, [`Patches::reach`] bytes from their offsets on, lie in `bytes`.
    /// - `weights` holds `N` vectors for every step of a patch, with `BLOCKS` four for every sixteen
    ///   bytes of segments that are whole blocks.
    #[inline(always)]
    unsafe fn tile<A: Arithmetic<S, Context = C>, const M: usize, const N: usize, const BLOCKS: bool>(
        &self,
        first: usize,
        count: usize,
        finish: &mut impl Finish<S, A>,
    ) -> Option<()> {
        let Rows { patches, bytes, base, .. } = self.rows;
        let (vector, steps) = (STEP * S::LANES, patches.segments.steps());
        let mut start = [finish.start(0); N];
        for (n, start) in start.iter_mut().enumerate() {
            *start = finish.start(n);
        }
        let mut sums: [[A::Sum; N]; M] = [start; M];
        let mut quarters = [[A::zero(self.simd); 4]; M];
        let mut weight = self.weights.as_ptr();
        let offsets: [usize; M] = patches.offsets(first, count);
        if !BLOCKS {
            for place in self.places {
                // SAFETY: places are those of the patches' steps: the caller's contract.
                unsafe {
                    let mut weights = [A::weight(self.simd, weight); N];
                    for (n, weights) in weights.iter_mut().enumerate() {
                        *weights = A::weight(self.simd, weight.add(n * vector));
                    }
                    for (sums, offset) in sums.iter_mut().zip(&offsets) {
                        let patch = A::patch(self.simd, self.context, bytes.as_ptr().add(offset + place));
                        for (sum, weights) in sums.iter_mut().zip(&weights) {
                            *sum = A::multiply(self.simd, *sum, patch, *weights);
                        }
                    }
                    weight = weight.add(N * vector);
                }
            }
        }
        let segments = if BLOCKS || self.places.is_empty() { patches.segments.count } else { 0 };
        let (mut column, mut line, mut at) = (0, 0, 0);
        for _ in 0..segments {
            // SAFETY: offsets, segments and steps stay within the patches, the weights advance by
            // `N` vectors a step: the caller's contract.
            unsafe {
                let mut rows = [bytes.as_ptr(); M];
                for (row, offset) in rows.iter_mut().zip(&offsets) {
                    *row = row.add(offset + at);
                }
                let blocks = if BLOCKS { steps * STEP / WIDE } else { 0 };
                for block in 0..blocks {
                    let mut weights = [A::weight(self.simd, weight); 4];
                    for (g, weights) in weights.iter_mut().enumerate() {
                        *weights = A::weight(self.simd, weight.add(g * vector));
                    }
                    for (sums, row) in quarters.iter_mut().zip(&rows) {
                        let patch = A::block(self.simd, self.context, row.add(block * WIDE));
                        for (sum, weights) in sums.iter_mut().zip(&weights) {
                            *sum = A::multiply(self.simd, *sum, patch, *weights);
                        }
                    }
                    weight = weight.add(4 * vector);
                }
                for step in 0..if BLOCKS { 0 } else { steps } {
                    let mut weights = [A::weight(self.simd, weight); N];
                    for (n, weights) in weights.iter_mut().enumerate() {
                        *weights = A::weight(self.simd, weight.add(n * vector));
                    }
                    for (sums, row) in sums.iter_mut().zip(&rows) {
                        let patch = A::patch(self.simd, self.context, row.add(step * STEP));
                        for (sum, weights) in sums.iter_mut().zip(&weights) {
                            *sum = A::multiply(self.simd, *sum, patch, *weights);
                        }
                    }
                    weight = weight.add(N * vector);
                }
            }
            column += 1;
            at += patches.inner_step;
            if column == patches.inner {
                (column, line) = (0, line + 1);
                at = line * patches.outer_step;
            }
        }
        if BLOCKS {
            for (sums, quarters) in sums.iter_mut().zip(quarters) {
                sums[0] = A::sum_quarters(self.simd, sums[0], quarters);
            }
        }
        finish.tile(Pixels { first: base + first, count }, &sums)
    }
}
