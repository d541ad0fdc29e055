//! The integer two-factor term beside a product.
//!
//! `u = sat16(round(f32(A·(x − zx))·s))` is computed once per block of pixels
//! with vectors of four rank rows by a run of codes, so that a term of
//! rank 4 takes a part of what a full vector of channels would. Pairs of u then
//! meet pairs of B's columns, widened to int16, in the epilogue: `vpdpwssd`, or `vpmaddwd` and a sum. Eight rank rows in a
//! vector of 512 bits are [`eights`](super::eights).
//!
//! # Numerics
//! Exact modulo 2³², as the reference's sums are; `−128·ΣA` and `−zx·ΣA` undo the move of x.
//!
//! # Limit
//! Per pixel, `⌈K/16⌉·⌈r/4⌉` products for A (`⌈K/8⌉·⌈r/8⌉` of eight rows, `⌈K/4⌉·⌈r/4⌉` with AVX2), and per vector of channels `⌈r/2⌉` products, a conversion, a multiplication and
//! an addition for B, beside the `⌈K/4⌉` products of the layer itself.

use ingraft_kernel::TwoFactor;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::Factors;

use super::factors::{Group, MOST_RANK, Plan, QUAD, Up, WHOLE};
use super::finish::all_within;
use crate::columns::Chunk;
use crate::gemm::{BLOCK, Pixels, Rows, STRIP, moves};
use crate::patches::{Addresses, Each, Segments, Walk};
use crate::simd::{Simd, Task};
use ingraft_vector::memory::take;

/// The factors and latents of a term.
pub(super) struct LowRank<'a, 'm> {
    term: TwoFactor<'a>,
    plan: Plan,
    moved: i32,
    /// The groups, where the adapter was packed.
    packed: Option<&'a [u8]>,
    /// Else room for one group, or for one with a single chunk of B.
    own: &'m mut [u8],
    /// The group whose factors stand in `own`, and the first vector of B's chunk where there is only one.
    held: Option<(usize, Option<usize>)>,
    /// u of a block, `[rank / 4][pixel][4]`.
    latents: &'m mut [[i16; QUAD]],
    /// The first pixel of the block.
    first: usize,
    /// Where B of the chunk and its scales begin.
    up: [usize; 2],
    /// The group at work.
    group: usize,
}

/// Where the factors of a group stand, they themselves, and room for u of a block.
pub(super) type Whole<'f> = (Plan, &'f [u8], &'f mut [[i16; QUAD]]);

/// Workspace of a layer, whatever its term.
pub(super) fn bytes<S: Simd>(segments: Segments, out_group: usize) -> usize {
    let whole = Plan::new::<S>(segments, out_group, 1, WHOLE).group_bytes();
    let chunk = Plan::new::<S>(segments, STRIP.min(out_group), 1, MOST_RANK).group_bytes();
    whole.max(chunk) + MOST_RANK * BLOCK * 2
}

impl<'a, 'm> LowRank<'a, 'm> {
    /// The term of a layer with these segments; `None` for a term that is absent or of another kind.
    pub(super) fn new<S: Simd>(
        conv: &QConv<'a>,
        segments: Segments,
        memory: &mut &'m mut [u8],
    ) -> Option<Self> {
        let term = conv.terms.two_factor.filter(|term| term.rank <= MOST_RANK)?;
        let Factors::I8 { .. } = term.factors else { return None };
        let plan = Plan::new::<S>(segments, conv.shape.out_group, conv.shape.groups, term.rank);
        let packed = plan.groups_of(conv.terms.packed.factors);
        let room = if packed.is_some() { 0 } else { plan.narrowed().group_bytes() };
        Some(Self {
            term,
            plan: if packed.is_some() { plan } else { plan.narrowed() },
            moved: conv.attrs.in_zero_point.wrapping_add(128),
            packed,
            latents: take(memory, plan.latent_quads() * BLOCK)?,
            own: take(memory, room)?,
            held: None,
            first: 0,
            up: [0; 2],
            group: 0,
        })
    }

    #[inline(always)]
    fn group(&self) -> Option<Group<'_>> {
        match self.packed {
            Some(packed) => self.plan.group(packed, self.group),
            None => self.plan.group(self.own, 0),
        }
    }

    /// Whether products with B are within ±2²⁹ after they are scaled: sums of at most [`MOST_RANK`] int16 by int8.
    pub(super) fn is_small(&self) -> bool {
        matches!(self.term.factors, Factors::I8 { up_scale, .. } if all_within(up_scale, 2.0))
    }

    /// Rank rows in fours.
    #[inline(always)]
    pub(super) fn quads(&self) -> usize {
        self.plan.quads()
    }

    /// Computes u of `rows`.
    #[inline(always)]
    pub(super) fn project<S: Simd>(&mut self, simd: S, group: usize, rows: &Rows<'_>) -> Option<()> {
        self.group = group;
        if self.packed.is_none() && self.held.is_none_or(|(held, _)| held != group) {
            self.plan.pack_down(&self.term, group, self.moved, self.own)?;
            self.held = Some((group, None));
        }
        self.first = rows.base + rows.first;
        let latents = core::mem::take(&mut self.latents);
        let done = self.group().and_then(|group| latents_of(simd, rows, group, latents));
        self.latents = latents;
        done
    }

    /// Makes B's rows of `chunk` stand ready.
    pub(super) fn chunk(&mut self, chunk: Chunk) -> Option<()> {
        let mut before = chunk.before;
        if self.packed.is_none() {
            let whole = self.plan.is_whole();
            let wanted = Some((self.group, if whole { Some(0) } else { Some(chunk.before) }));
            if self.held != wanted {
                self.plan.pack_up(&self.term, self.group, chunk, self.own)?;
                self.held = wanted;
            }
            if !whole {
                before = 0;
            }
        }
        self.up = self.plan.up(if self.packed.is_some() { self.group } else { 0 }, before);
        Some(())
    }

    /// B of the chunk at hand.
    #[inline(always)]
    pub(super) fn up<const N: usize>(&self) -> Option<Up<'_, N>> {
        Up::at(self.packed.unwrap_or(&*self.own), self.up, self.plan.lanes(), self.plan.quads())
    }

    /// Whether there is one group, and room for all of its factors.
    pub(super) fn is_whole(&self) -> bool {
        self.plan.is_whole() && self.plan.groups() == 1
    }

    /// All factors of the group, packed, and room for u of a block; `None` where there is no room for them.
    pub(super) fn into_whole<'f>(self) -> Option<Whole<'f>>
    where
        'a: 'f,
        'm: 'f,
    {
        let (plan, own) = (self.plan, self.own);
        let factors = match self.packed {
            Some(packed) => packed,
            None if plan.is_whole() => {
                plan.pack_down(&self.term, 0, self.moved, own)?;
                plan.pack_all_up(&self.term, 0, own)?;
                own
            }
            None => return None,
        };
        Some((plan, factors, self.latents))
    }

    /// u of `pixels`; `None` for pixels outside the block.
    #[inline(always)]
    pub(super) fn latents(&self, pixels: Pixels) -> Option<Latents<'_>> {
        let first = pixels.first.checked_sub(self.first)?;
        let inside = first + pixels.count <= BLOCK && pixels.count > 0;
        let quads = self.latents.as_chunks().0;
        inside.then_some(Latents { quads, first, count: pixels.count })
    }

    /// Whether `pixels` lie in the block whose latents were computed.
    #[inline(always)]
    pub(super) fn covers(&self, pixels: Pixels) -> bool {
        pixels.first >= self.first && pixels.first + pixels.count <= self.first + BLOCK
    }
}

/// u of all rank rows of `group` at the pixels of `rows`, `[rank / 4][BLOCK]`.
#[inline(always)]
pub(super) fn latents_of<S: Simd>(
    simd: S,
    rows: &Rows<'_>,
    group: Group<'_>,
    latents: &mut [[i16; QUAD]],
) -> Option<()> {
    simd.perform(Projection { rows, group, latents })
}

/// As [`latents_of`], in a function of its own.
struct Projection<'t> {
    rows: &'t Rows<'t>,
    group: Group<'t>,
    latents: &'t mut [[i16; QUAD]],
}

impl<S: Simd> Task<S> for Projection<'_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { rows, group, latents } = self;
        // Where codes are always moved there is one form.
        match (rows.moved || moves::<S>(), rows.even) {
            (true, true) => simd.project::<true, true>(rows, &group, latents),
            (true, false) => simd.project::<true, false>(rows, &group, latents),
            (false, _) => simd.project::<false, false>(rows, &group, latents),
        }
    }
}

/// u of some pixels of a block.
#[derive(Clone, Copy)]
pub(super) struct Latents<'l> {
    quads: &'l [[[i16; QUAD]; BLOCK]],
    first: usize,
    count: usize,
}

impl<'l> Latents<'l> {
    /// The first `Q` fours of rank rows of the pixels, `BLOCK` apart; `None` for fewer, or fewer pixels than `count`.
    #[inline(always)]
    pub(super) fn first<const Q: usize>(self, count: usize) -> Option<[&'l [[i16; QUAD]]; Q]> {
        let mut rows: [&[[i16; QUAD]]; Q] = [&[]; Q];
        for (row, quad) in rows.iter_mut().zip(self.quads.get(..Q)?) {
            *row = quad.get(self.first..)?.get(..count)?;
        }
        Some(rows)
    }

    /// The two pairs of four rank rows at one of the pixels, each in every lane.
    #[inline(always)]
    pub(super) fn of<S: Simd>(self, simd: S, quad: usize, pixel: usize) -> [S::Int; 2] {
        let quad: &[[i16; QUAD]; BLOCK] = match self.quads.get(quad) {
            Some(quad) if pixel < self.count => quad,
            _ => return [simd.splat_int(0); 2],
        };
        // SAFETY: pixels of this value lie in the block, whose u are eight bytes each.
        let from = unsafe { quad.as_ptr().add(self.first + pixel).cast::<i32>() };
        // SAFETY: as above.
        unsafe { [simd.splat_int(from.read_unaligned()), simd.splat_int(from.add(1).read_unaligned())] }
    }
}

/// u of all rank rows of `group` at the pixels of `rows`, four rank rows in a vector.
#[inline(always)]
pub(super) fn project<S: Simd, const MOVED: bool, const EVEN: bool>(
    simd: S,
    rows: &Rows<'_>,
    group: &Group<'_>,
    latents: &mut [[i16; QUAD]],
) -> Option<()> {
    let (quads, mut quad) = (group.vectors, 0);
    while quad + 2 <= quads {
        pixels::<S, 2, 4, MOVED, EVEN>(simd, rows, group, quad, latents.get_mut(quad * BLOCK..)?)?;
        quad += 2;
    }
    if quad < quads {
        pixels::<S, 1, 8, MOVED, EVEN>(simd, rows, group, quad, latents.get_mut(quad * BLOCK..)?)?;
    }
    Some(())
}

/// u of `4·Q` rank rows and all pixels, `P` at a time; `latents` begins at the first quad.
#[inline(always)]
fn pixels<S: Simd, const Q: usize, const P: usize, const MOVED: bool, const EVEN: bool>(
    simd: S,
    rows: &Rows<'_>,
    group: &Group<'_>,
    quad: usize,
    latents: &mut [[i16; QUAD]],
) -> Option<()> {
    for start in (0..rows.count).step_by(P) {
        let (first, latents) = (rows.first + start, latents.get_mut(start..)?);
        // SAFETY: the driver compared the reach of every patch with the bytes it lies in.
        unsafe {
            if EVEN {
                quads::<S, _, Q, P, MOVED>(simd, rows, rows.even(first), group, quad, latents)?;
            } else {
                let offsets = rows.patches.offsets(first, P.min(rows.count - start));
                let each = Each::new(rows.bytes, &offsets);
                quads::<S, _, Q, P, MOVED>(simd, rows, each, group, quad, latents)?;
            }
        }
    }
    Some(())
}

/// u of `4·Q` rank rows and `P` pixels; `latents` begins at the first quad's first pixel.
///
/// # Safety
/// The patches lie `at` the addresses.
#[inline(always)]
unsafe fn quads<S: Simd, R: Addresses<P>, const Q: usize, const P: usize, const MOVED: bool>(
    simd: S,
    rows: &Rows<'_>,
    at: R,
    group: &Group<'_>,
    quad: usize,
    latents: &mut [[i16; QUAD]],
) -> Option<()> {
    let patches = rows.patches;
    let Segments { count, len, .. } = patches.segments;
    // What a vector of A and the vectors of all quads take.
    let (vector, pitch) = (QUAD * S::RUN, group.vectors * QUAD * S::RUN);
    let runs = count * len.div_ceil(S::RUN);
    let mut weights = group.down.get(quad * vector..)?.as_ptr();
    if group.down.len() < runs * pitch {
        return None;
    }
    let mut sums = [[simd.splat_int(0); P]; Q];
    let mut segment = Walk::default();
    for _ in 0..count {
        let from = at.after(segment.at);
        let whole = len - len % S::RUN;
        // SAFETY: the codes read are those of the patch: the caller's contract; A holds a vector for
        // every run and quad, compared above.
        unsafe {
            for code in (0..whole).step_by(S::RUN) {
                step::<S, R, Q, P, MOVED>(simd, from, [code, S::RUN], weights, vector, &mut sums);
                weights = weights.wrapping_add(pitch);
            }
            if whole < len {
                step::<S, R, Q, P, MOVED>(simd, from, [whole, len - whole], weights, vector, &mut sums);
                weights = weights.wrapping_add(pitch);
            }
        }
        patches.next_segment(&mut segment);
    }
    let (offsets_of, scales) = (group.offset.as_chunks().0, group.scale.as_chunks().0);
    for (q, sums) in sums.into_iter().enumerate() {
        let (offset, scale) = (offsets_of.get(quad + q)?, scales.get(quad + q)?);
        let to = latents.get_mut(q * BLOCK..)?.as_chunks_mut().0;
        for (to, sums) in to.iter_mut().zip(sums.as_chunks().0) {
            *to = simd.latents(*sums, offset, scale);
        }
    }
    Some(())
}

/// The products of one run of `P` patches, `count` codes from `first` on.
///
/// # Safety
/// The codes lie there, and `Q` vectors of A lie at `weights`, `vector` codes apart.
#[inline(always)]
unsafe fn step<S: Simd, R: Addresses<P>, const Q: usize, const P: usize, const MOVED: bool>(
    simd: S,
    from: R,
    [first, count]: [usize; 2],
    weights: *const i8,
    vector: usize,
    sums: &mut [[S::Int; P]; Q],
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut w = [simd.load_rows(weights.cast()); Q];
        for (q, w) in w.iter_mut().enumerate() {
            *w = simd.load_rows(weights.add(q * vector).cast());
        }
        for pixel in 0..P {
            let x = simd.load_run(from.of(pixel).add(first * S::WIDE), count, MOVED);
            for (sums, w) in sums.iter_mut().zip(&w) {
                sums[pixel] = simd.dot_rows(sums[pixel], x, *w);
            }
        }
    }
}
