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
//! two `vpdpbusd` or `vfmadd` a cycle on cores with two 512-bit pipes; of AVX2, two `vfmadd`, or two
//! `vpmaddwd` with their sums, which are half a product each, or `vpmaddubsw` with `vpmaddwd` and a sum
//! for weights that were [split](crate::split).

mod arithmetic;

pub(crate) use self::arithmetic::{Arithmetic, Codes, MovedCodes, Reals, SplitCodes, moves, splits};
use crate::columns::{BLOCK as WIDE, Chunk, Layout};
use crate::patches::{Patches, STEP};
use crate::simd::{Simd, fetch_at};
use crate::split::{CHOICE, Remainder, Remainders};

/// Pixels per pass over the weights of a chunk: whole tiles of every height.
pub(crate) const BLOCK: usize = 96;

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
    /// Number of pixels, at most [`BLOCK`] or the band's.
    pub(crate) count: usize,
    /// Pixels of the samples and bands before.
    pub(crate) base: usize,
    /// Whether codes were moved to 0…255 in a copy.
    pub(crate) moved: bool,
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
                    let mut rows = Rows { patches, bytes, first, count, base, moved };
                    let local;
                    if patches.in_blocks() {
                        local = patches.block(bytes, [first, count], A::MOVE, blocks)?;
                        let base = base + first;
                        finish.rows(
                            group,
                            &Rows { patches: &local, bytes: blocks, first: 0, count, base, moved },
                        )?;
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
                        rows = Rows { patches: &local, bytes: blocks, first: 0, count, base, moved };
                    } else {
                        finish.rows(group, &rows)?;
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
        let block = Block { simd, context, rows, places, weights: right, rest: rest.skip(chunk.before) };
        // SAFETY: the caller's contract; `right` holds the chunk's vectors for every step: compared above.
        unsafe { block.chunk::<A>(chunk.vectors, layout.in_blocks(chunk), finish)? };
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
    /// What was split off them.
    rest: Remainders<'a>,
}

impl<S: Simd, C: Copy> Block<'_, S, C> {
    /// All tiles, of the height whose sums, weights and patches stay in registers.
    ///
    /// # Safety
    /// As [`Self::tile`], for all pixels of the block and `vectors` vectors; `blocks` as its `BLOCKS`.
    #[inline(always)]
    unsafe fn chunk<A: Arithmetic<S, Context = C>>(
        &self,
        vectors: usize,
        blocks: bool,
        finish: &mut impl Finish<S, A>,
    ) -> Option<()> {
        // SAFETY: the caller's contract.
        unsafe {
            if A::SPLIT {
                return match vectors {
                    1 => self.tiles::<A, 8, 4, 1, false>(finish),
                    2 => self.tiles::<A, 6, 4, 2, false>(finish),
                    _ => None,
                };
            }
            if S::REGISTERS < 32 {
                return match vectors {
                    1 => self.tiles::<A, 12, 4, 1, false>(finish),
                    2 => self.tiles::<A, 6, 3, 2, false>(finish),
                    _ => None,
                };
            }
            match vectors {
                1 if blocks => self.tiles::<A, 6, 3, 1, true>(finish),
                1 => self.tiles::<A, 12, 4, 1, false>(finish),
                2 => self.tiles::<A, 12, 4, 2, false>(finish),
                3 => self.tiles::<A, 8, 4, 3, false>(finish),
                4 => self.tiles::<A, 6, 3, 4, false>(finish),
                _ => None,
            }
        }
    }

    /// All tiles: of `M` pixels, then a last one of the least height that holds the rest, or two of `HALF` where these hold
    /// what one of `M` and another would.
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
            while first + M <= end && !(M + 2..=2 * HALF).contains(&(end - first)) {
                self.tile::<A, M, N, BLOCKS>(first, M, finish)?;
                first += M;
            }
            if first + M < end {
                self.tile::<A, HALF, N, BLOCKS>(first, HALF, finish)?;
                first += HALF;
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
        let (vector, steps) = (A::BYTES * S::LANES, patches.segments.steps());
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
                    if A::SPLIT && M > 1 {
                        // The next chunk's: what the processor fetches ahead by itself ends with a page.
                        fetch_at(weight.wrapping_add(self.weights.len()));
                    }
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
        if A::SPLIT {
            let last = patches.reach(1).checked_sub(CHOICE * STEP)?;
            for n in 0..N {
                let mut column = [sums[0][n]; M];
                column.iter_mut().zip(&sums).for_each(|(to, sums)| *to = sums[n]);
                for remainder in self.rest.of(n) {
                    // SAFETY: the caller's contract.
                    column = unsafe { self.add_rest::<A, M>(remainder, &offsets, last, column)? };
                }
                for remainder in self.rest.more_of(n) {
                    // SAFETY: the caller's contract.
                    column = unsafe { self.add_rest::<A, M>(remainder, &offsets, last, column)? };
                }
                sums.iter_mut().zip(column).for_each(|(sums, sum)| sums[n] = sum);
            }
        }
        // A copy: the sums themselves would be kept in memory while they grow if their address were passed on.
        let done = sums;
        finish.tile(Pixels { first: base + first, count }, &done)
    }

    /// The sums of a vector for the patches at `offsets`, with what was split off; `None` for a place past `last`.
    ///
    /// # Safety
    /// Patches lie in `bytes` as far behind `last` as [`CHOICE`] steps.
    #[inline(always)]
    unsafe fn add_rest<A: Arithmetic<S, Context = C>, const M: usize>(
        &self,
        remainder: Remainder<'_>,
        offsets: &[usize; M],
        last: usize,
        sums: [A::Sum; M],
    ) -> Option<[A::Sum; M]> {
        let place = remainder.place();
        if place > last {
            return None;
        }
        let mut from = [self.rows.bytes.as_ptr(); M];
        for (from, offset) in from.iter_mut().zip(offsets) {
            *from = from.wrapping_add(offset + place);
        }
        // SAFETY: the caller's contract.
        Some(unsafe { A::add_rest(self.simd, remainder, from, sums) })
    }
}
