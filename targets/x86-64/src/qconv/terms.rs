//! int8 output with adapter terms or a straight-through mask.

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::Factors;
use ingraft_kernel::{Call, KernelError};

use super::beside::WithFactors;
use super::factors::Up;
use super::finish::{Codes, Constants, SMALL, all_within};
use super::low_rank::{self, Latents, LowRank};
use super::real_terms::{Extra, RealTerms, is_real};
use super::weights::Effective;
use super::{avx2, product, real_sparse};
use crate::columns::Chunk;
use crate::gemm::{
    Arithmetic, AsPacked, BLOCK, EvenCodes, Finish, MovedCodes, Pixels, Product, Rows, moves, multiply,
    strip_bytes,
};
use crate::mask;
use crate::patches::Patches;
use crate::real_factors;
use crate::simd::{Row, Simd, Task};
use ingraft_vector::memory::take;

/// Most codes of a patch for which tiles of half as many pixels pay: they load weights twice as often.
const SHALLOW: usize = 160;

/// Workspace beside the copy of a sample: a chunk's weights, and what a two-factor term needs.
pub(super) fn bytes<S: Simd>(patches: &Patches, out_group: usize) -> usize {
    strip_bytes::<S>(patches)
        + low_rank::bytes::<S>(patches.segments, out_group)
            .max(real_factors::bytes_of_codes::<S>(patches.segments.row()))
        + real_sparse::bytes(patches.segments.row())
        + 64
}

/// The layer with its integer terms, real factors, sparse deltas and scales; dense deltas take the row that reads weights in place.
pub(super) struct WithIntegerTerms;

impl<S: Simd> Row<S> for WithIntegerTerms {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let conv = QConv::new(call)?;
        let weights = Effective::new(&conv, call.packed);
        let (Some(product), Some(weights)) = (product::<S>(&conv, call.packed), weights) else {
            return (avx2::KERNEL.run)(call);
        };
        let memory = core::mem::take(&mut call.workspace);
        if compute(call, &conv, simd, product, weights, memory).is_some() {
            return Ok(());
        }
        call.workspace = memory;
        (avx2::KERNEL.run)(call)
    }
}

/// `None` for a term of another kind, or one whose weights leave int8.
#[inline(always)]
fn compute<S: Simd>(
    call: &mut Call<'_, '_>,
    conv: &QConv<'_>,
    simd: S,
    mut product: Product<'_>,
    mut weights: Effective<'_>,
    mut memory: &mut [u8],
) -> Option<()> {
    let patches = product.patches;
    let (out, mask) = call.out_and_mask::<i8>().ok()?;
    // Weights that are made are multiplied with all pixels at once, where they lie.
    let copied = if weights.is_made() { patches } else { patches.moved() };
    let copy: &mut [u8] = take(&mut memory, copied.copy_bytes().next_multiple_of(16))?;
    let wide = conv.terms.two_factor.is_some() || conv.terms.sparse.is_some_and(|sparse| is_real(&sparse));
    let integer = conv.terms.two_factor.is_some_and(|term| matches!(term.factors, Factors::I8 { .. }));
    let mut low_rank =
        if integer { Some(LowRank::new::<S>(conv, patches.segments, &mut memory)?) } else { None };
    let real = RealTerms::new::<S>(conv, &mut memory)?;
    let strip: &mut [u8] = take(&mut memory, strip_bytes::<S>(&patches))?;
    if weights.is_made() && !wide && !patches.in_blocks() {
        product.block = patches.pixels.max(1);
    }
    let within = all_within(conv.multiplier, SMALL) && low_rank.as_ref().is_none_or(LowRank::is_small);
    let factors_alone = low_rank.is_some() && !real.act() && mask.is_none();
    if !moves::<S>() && !weights.is_made() && within && factors_alone && copied.in_blocks() {
        let shallow = patches.segments.len <= SHALLOW || S::REGISTERS < 32;
        if let Some(term) = low_rank.take_if(|term| shallow && term.is_whole()) {
            product.patches = copied;
            let mut finish = WithFactors::new(simd, conv, term, out)?;
            return multiply::<S, EvenCodes>(simd, &product, [copy, &mut []], &mut AsPacked, &mut finish);
        }
    }
    let mut finish = WithTerms {
        simd,
        constants: Constants::new(conv),
        codes: Codes::new(simd, conv, out),
        limits: [conv.attrs.lo, conv.attrs.hi],
        factors_alone,
        within,
        mask,
        low_rank,
        real,
    };
    if !moves::<S>() && (copied.copies_image() || copied.in_blocks()) {
        product.patches = copied;
        multiply::<S, MovedCodes>(simd, &product, [copy, strip], &mut weights, &mut finish)
    } else {
        multiply::<S, S::InPlace>(simd, &product, [copy, strip], &mut weights, &mut finish)
    }
}

struct WithTerms<'a, 'm, 'o, S: Simd> {
    simd: S,
    constants: Constants<'a>,
    codes: Codes<'o, S>,
    /// The bounds of values.
    limits: [f32; 2],
    mask: Option<&'o mut [u8]>,
    low_rank: Option<LowRank<'a, 'm>>,
    real: RealTerms<'a, 'm>,
    /// Whether integer factors are all that acts.
    factors_alone: bool,
    /// Whether values are within ±2³¹.
    within: bool,
}

impl<S: Simd, A: Arithmetic<S, Sum = S::Int>> Finish<S, A> for WithTerms<'_, '_, '_, S> {
    #[inline(always)]
    fn rows(&mut self, group: usize, rows: &Rows<'_>) -> Option<()> {
        self.real.rows(self.simd, group, rows)?;
        let Some(term) = &mut self.low_rank else { return Some(()) };
        term.project(self.simd, group, rows)
    }

    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        self.constants.load(group, chunk, sums)?;
        if let Some(term) = &mut self.low_rank {
            term.chunk(chunk)?;
        }
        self.real.chunk(self.simd, group, chunk)
    }

    #[inline(always)]
    fn start(&self, n: usize) -> S::Int {
        self.constants.start(self.simd, n)
    }

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[S::Int; N]; M],
    ) -> Option<()> {
        if self.low_rank.as_ref().is_some_and(|term| !term.covers(pixels)) || pixels.count > BLOCK {
            return None;
        }
        let sums = sums.get(..pixels.count)?;
        match &self.low_rank {
            Some(term) if self.factors_alone && self.within => match term.quads() {
                1 => self.low_rank_tile::<N, 1>(pixels, sums),
                2 => self.low_rank_tile::<N, 2>(pixels, sums),
                _ => self.simd.perform(AnyTile { terms: self, pixels, sums }),
            },
            _ => self.simd.perform(AnyTile { terms: self, pixels, sums }),
        }
    }
}

/// Output of a tile, whatever acts.
struct AnyTile<'t, 'a, 'm, 'o, S: Simd, const N: usize> {
    terms: &'t mut WithTerms<'a, 'm, 'o, S>,
    pixels: Pixels,
    sums: &'t [[S::Int; N]],
}

impl<S: Simd, const N: usize> Task<S> for AnyTile<'_, '_, '_, '_, S, N> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, _: S) -> Option<()> {
        for (pixel, sums) in (self.pixels.first..).zip(self.sums) {
            let values = self.terms.values(pixel, sums)?;
            self.terms.store(pixel, &values)?;
        }
        Some(())
    }
}

impl<S: Simd> WithTerms<'_, '_, '_, S> {
    /// Output of a tile with factors of `Q` fours of rank rows alone, whose values are within ±2³¹.
    #[inline(always)]
    fn low_rank_tile<const N: usize, const Q: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[S::Int; N]],
    ) -> Option<()> {
        let simd = self.simd;
        let term = self.low_rank.as_ref()?;
        let up = term.up::<N>()?.whole::<S, Q>(simd)?;
        let latents = term.latents(pixels)?.first::<Q>(sums.len())?;
        let multiplier: [S::Real; N] = self.constants.multipliers(simd);
        let (channels, count) =
            (self.constants.channels_of_layer(), self.constants.channels_of_chunk().len());
        let mut to = self.constants.rows(self.codes.out, pixels)?.as_mut_ptr();
        for (pixel, sums) in sums.iter().enumerate() {
            let mut products = [simd.splat_int(0); N];
            for (latents, pairs) in latents.iter().zip(&up.pairs) {
                // SAFETY: there is one u for each of the sums, eight bytes long.
                let u = unsafe { latents.as_ptr().add(pixel).cast::<i32>() };
                for (half, pairs) in pairs.iter().enumerate() {
                    // SAFETY: as above.
                    let u = simd.splat_int(unsafe { u.add(half).read_unaligned() });
                    for (product, pair) in products.iter_mut().zip(pairs) {
                        *product = simd.dot_pairs(*product, u, *pair);
                    }
                }
            }
            let mut codes = *sums;
            // By index: iterators over arrays of vectors may become functions of their own.
            for (n, code) in codes.iter_mut().enumerate() {
                let value = simd.mul(simd.to_real(*code), multiplier[n]);
                *code = simd.round(simd.add(value, simd.mul(simd.to_real(products[n]), up.scale[n])));
            }
            // SAFETY: `rows` spans the channels of every pixel of the tile; `to` is this pixel's first.
            unsafe { self.codes.store::<N, true>(simd, to, codes, count) };
            to = to.wrapping_add(channels);
        }
        Some(())
    }

    /// The pre-activation values of one pixel.
    #[inline(always)]
    fn values<const N: usize>(&self, pixel: usize, sums: &[S::Int; N]) -> Option<[S::Real; N]> {
        let simd = self.simd;
        let mut values = self.constants.scaled::<S, N>(simd, sums);
        if let Some(term) = &self.low_rank {
            let (up, latents) = (term.up::<N>()?, term.latents(Pixels { first: pixel, count: 1 })?);
            let (products, scales) = (products(simd, &up, latents, 0), up.scales(simd));
            for (n, value) in values.iter_mut().enumerate() {
                *value = simd.add(*value, simd.mul(simd.to_real(products[n]), scales[n]));
            }
        }
        self.real.add(simd, pixel, &mut values)?;
        Some(values)
    }

    /// Writes the codes of one pixel, and its bits of the mask.
    #[inline(always)]
    fn store<const N: usize>(&mut self, pixel: usize, values: &[S::Real; N]) -> Option<()> {
        let (simd, pixels) = (self.simd, Pixels { first: pixel, count: 1 });
        self.codes.write::<1, N, false>(simd, &self.constants, pixels, &[*values])?;
        let Some(mask) = self.mask.as_deref_mut() else { return Some(()) };
        let (count, at) = (self.constants.channels_of_chunk().len(), self.constants.element(pixel));
        mask::Write { values, count, limits: self.limits, mask, at }.run(simd)
    }
}

/// `B·u` of one of the pixels.
#[inline(always)]
fn products<S: Simd, const N: usize>(
    simd: S,
    up: &Up<'_, N>,
    latents: Latents<'_>,
    pixel: usize,
) -> [S::Int; N] {
    let mut products = [simd.splat_int(0); N];
    for quad in 0..up.quads {
        let [first, second] = latents.of(simd, quad, pixel);
        up.add(simd, [quad, 0], first, &mut products);
        up.add(simd, [quad, 1], second, &mut products);
    }
    products
}
