//! Products of patches with packed weights, in register tiles.
//!
//! # Blocking
//! - A tile is up to `M` output pixels by `N` vectors of channels; all `M·N`
//!   accumulators stay in registers. Each step broadcasts four bytes of every
//!   patch and loads `N` vectors of weights: `M + N` loads for `M·N` products.
//! - [`BLOCK`] pixels share one pass over a chunk's weights, so weights come
//!   from the second-level cache at a fraction of its bandwidth while the
//!   block's patches stay in the first level; [more](Patches::block) where patches and rows of results are short.
//! - Patches that were copied in blocks follow each other at one pitch, so that a tile addresses them by three pointers and the pitch.
//!   A pointer for each is more than there are registers: loading it beside each broadcast makes two loads of a product of one vector.
//! - Where a [`Finish`] has sums of its own beside those of the tile, both stay in registers, of half the pixels; with sixteen registers
//!   its own wait in memory while the tile's grow.
//!
//! # Limit
//! `⌈out/LANES⌉ · steps` products per pixel, at the rate of the instruction:
//! two `vpdpbusd` or `vfmadd` a cycle on cores with two 512-bit pipes; of AVX2, two `vfmadd`, or two
//! `vpmaddwd` with their sums, which are half a product each, or `vpmaddubsw` with `vpmaddwd` and a sum
//! for weights that were [split](crate::split).

mod arithmetic;
mod tile;

pub(crate) use self::arithmetic::{
    Arithmetic, Codes, EvenCodes, MovedCodes, Reals, SplitCodes, moves, splits,
};
use self::tile::Block;
use crate::columns::{Chunk, Layout};
use crate::patches::{Even, Patches, STEP};
use crate::simd::Simd;
use crate::split::Remainders;

/// Pixels per pass over the weights of a chunk: whole tiles of every height.
pub(crate) const BLOCK: usize = 96;

/// Pixels up to a multiple of which tiles read even patches: whole tiles of every height.
pub(crate) const TILE: usize = 24;

/// Most steps of a patch whose places are listed.
const SHORT: usize = 64;

/// Most channels of a chunk on any instruction set.
pub(crate) const STRIP: usize = 64;

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
    /// First pixel, counted in the band.
    pub(crate) first: usize,
    /// Number of pixels, at most [`BLOCK`], [`Patches::block`] or the band's.
    pub(crate) count: usize,
    /// Pixels of the samples and bands before.
    pub(crate) base: usize,
    /// Whether codes were moved to 0…255 in a copy.
    pub(crate) moved: bool,
    /// Whether patches are single segments at one pitch, whole tiles of them.
    pub(crate) even: bool,
}

impl Rows<'_> {
    /// Where patches lie from that of `pixel` on, if they are even.
    #[inline(always)]
    pub(crate) fn even(&self, pixel: usize) -> Even {
        let pitch = self.patches.pitch();
        Even::new(self.bytes, pixel * pitch, pitch)
    }
}

/// Bytes of the widest chunk's weights: what [`Weights::chunk`] may put its own into.
pub(crate) fn strip_bytes<S: Simd>(patches: &Patches) -> usize {
    S::COLUMNS * S::LANES * patches.segments.total_steps() * patches.segments.step
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

    /// Whether sums of its own stand beside those of a tile, which has half as many pixels then.
    const BESIDE: bool = false;

    /// Its own sums, made before those of the tile, from `zero` on.
    #[inline(always)]
    fn beside<const M: usize, const N: usize>(&self, _: Pixels, zero: [[A::Sum; N]; M]) -> [[A::Sum; N]; M] {
        zero
    }

    /// As [`Self::tile`], with its own sums.
    #[inline(always)]
    fn tile_beside<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[A::Sum; N]; M],
        _: &[[A::Sum; N]; M],
    ) -> Option<()> {
        self.tile(pixels, sums)
    }
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
    /// What was split off them.
    pub(crate) rest: Option<Remainders<'a>>,
    /// Pixels per pass over the weights of a chunk; [`BLOCK`] but where [more](Patches::block) stay close, or making the weights
    /// of a chunk costs more than keeping patches so.
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
    if patches.segments.step != A::BYTES {
        return None;
    }
    let context = A::context(simd);
    let mut places = [0; SHORT];
    let places = patches.places(&mut places);
    for sample in 0..patches.samples {
        for (band, before) in (0..patches.pixels).step_by(patches.band.max(1)).enumerate() {
            let (bytes, blocks) =
                patches.of_band(product.input, [sample, band], [product.fill, A::MOVE], copy)?;
            let blocks = patches.lines(blocks);
            let pixels = patches.band.min(patches.pixels - before);
            if patches.offset(pixels - 1) + patches.reach(layout.groups) > bytes.len() {
                return None;
            }
            let base = sample * patches.pixels + before;
            for group in 0..layout.groups {
                let (packed, kept) = layout.group_of(product.packed, group)?;
                let bytes = bytes.get(group * patches.group..)?;
                for first in (0..pixels).step_by(product.block.max(1)) {
                    let count = product.block.min(pixels - first);
                    let moved = A::MOVE != 0;
                    let mut rows = Rows { patches, bytes, first, count, base, moved, even: false };
                    let local;
                    if patches.in_blocks() {
                        local = patches.block(bytes, [first, count], A::MOVE, blocks)?;
                        let base = base + first;
                        let even = count.next_multiple_of(TILE) * local.pitch() <= blocks.len();
                        rows = Rows { patches: &local, bytes: &[], first: 0, count, base, moved, even };
                        finish.rows(group, &Rows { bytes: blocks, ..rows })?;
                        if let (true, Some(rest)) = (A::SPLIT, product.rest) {
                            // Terms have read the codes as they lie.
                            let (len, pitch) = (patches.segments.len, patches.segments.steps() * STEP);
                            A::reorder(
                                simd,
                                rest.orders(group, len),
                                pitch,
                                blocks.get_mut(..count * pitch)?,
                            );
                        }
                        rows.bytes = blocks;
                    } else {
                        finish.rows(group, &rows)?;
                    }
                    if A::EVEN && !rows.even {
                        return None;
                    }
                    let wanted = Wanted { layout, group, packed, kept, rest: product.rest };
                    // SAFETY: every patch of the band ends within `bytes`: compared above.
                    unsafe { chunks((simd, context), rows, places, wanted, strip, weights, finish)? };
                }
            }
        }
    }
    Some(())
}

/// Computes `rows`, of a product that is at work, with other weights: those of group 0 in `packed`.
///
/// # Safety
/// `rows` are those that [`Finish::rows`] was given, and `layout` has their segments.
#[inline(always)]
pub(crate) unsafe fn project<S: Simd, A: Arithmetic<S>>(
    simd: S,
    rows: &Rows<'_>,
    layout: &Layout,
    packed: &[u8],
    finish: &mut impl Finish<S, A>,
) -> Option<()> {
    let mut places = [0; SHORT];
    let places = rows.patches.places(&mut places);
    let (packed, kept) = layout.group_of(packed, 0)?;
    let wanted = Wanted { layout, group: 0, packed, kept, rest: None };
    // SAFETY: the caller's contract.
    unsafe { chunks((simd, A::context(simd)), *rows, places, wanted, &mut [], &mut AsPacked, finish) }
}

/// The weights of a group.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    layout: &'a Layout,
    group: usize,
    packed: &'a [u8],
    /// What packing kept of its rows.
    kept: &'a [i32],
    /// What was split off the weights of all groups.
    rest: Option<Remainders<'a>>,
}

/// Every chunk of a group for some rows.
///
/// # Safety
/// The patches of the rows lie in their bytes.
#[inline(always)]
unsafe fn chunks<S: Simd, A: Arithmetic<S>>(
    (simd, context): (S, A::Context),
    rows: Rows<'_>,
    places: &[usize],
    wanted: Wanted<'_>,
    strip: &mut [u8],
    weights: &mut impl Weights,
    finish: &mut impl Finish<S, A>,
) -> Option<()> {
    let Wanted { layout, group, packed, kept, rest } = wanted;
    let rest = rest.unwrap_or_default().skip(group * layout.columns.vectors());
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
        let (steps, rest) = (rows.patches.segments.steps(), rest.skip(chunk.before));
        let block = Block { simd, context, rows, steps, places, weights: right, rest };
        // SAFETY: the caller's contract; `right` holds the chunk's vectors for every step: compared above.
        unsafe { block.chunk::<A, _>(chunk.vectors, layout.in_blocks(chunk), finish)? };
    }
    Some(())
}
