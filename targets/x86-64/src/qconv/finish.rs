//! From exact sums to outputs, a row of channels at a time.

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qconv::QConv;
use ingraft_kernel::requantize::to_code;

use super::real_terms::Extra;
use crate::columns::Chunk;
use crate::gemm::{Arithmetic, Finish, Pixels, Rows, STRIP};
use crate::simd::{Simd, Task};

/// The clamp and the zero point, in every lane.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<S: Simd> {
    pub(crate) lo: S::Real,
    pub(crate) hi: S::Real,
    pub(crate) zero_point: S::Int,
}

impl<S: Simd> Bounds<S> {
    #[inline(always)]
    pub(crate) fn new(simd: S, lo: f32, hi: f32, zero_point: i32) -> Self {
        Self { lo: simd.splat(lo), hi: simd.splat(hi), zero_point: simd.splat_int(zero_point) }
    }
}

/// The constants of a chunk's channels, zero past the last.
pub(super) struct Constants<'a> {
    /// Bias with the correction of the packed weights.
    bias: [i32; STRIP],
    multiplier: [f32; STRIP],
    /// First channel of the layer, and channels.
    first: usize,
    count: usize,
    /// Channels of the layer.
    channels: usize,
    group: usize,
    biases: &'a [i32],
    multipliers: &'a [f32],
    /// Group and first channel whose constants these are.
    held: Option<[usize; 2]>,
}

impl<'a> Constants<'a> {
    #[inline(always)]
    pub(super) fn new(conv: &QConv<'a>) -> Self {
        Self {
            bias: [0; STRIP],
            multiplier: [0.0; STRIP],
            first: 0,
            count: 0,
            channels: conv.shape.output[3],
            group: conv.shape.out_group,
            biases: conv.bias,
            multipliers: conv.multiplier,
            held: None,
        }
    }

    #[inline(always)]
    pub(super) fn load(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        if self.held == Some([group, chunk.first]) {
            return Some(());
        }
        self.held = Some([group, chunk.first]);
        self.first = group * self.group + chunk.first;
        self.count = chunk.count;
        let bias = self.biases.get(self.first..)?.get(..chunk.count)?;
        let multiplier = self.multipliers.get(self.first..)?.get(..chunk.count)?;
        self.bias.get_mut(..sums.len())?.copy_from_slice(sums);
        self.bias.iter_mut().zip(bias).for_each(|(b, value)| *b = b.wrapping_add(*value));
        self.multiplier.get_mut(..chunk.count)?.copy_from_slice(multiplier);
        self.multiplier.get_mut(chunk.count..sums.len())?.fill(0.0);
        Some(())
    }

    /// The sums that vector `n` starts from.
    #[inline(always)]
    pub(super) fn start<S: Simd>(&self, simd: S, n: usize) -> S::Int {
        let at = (n * S::LANES).min(STRIP - S::LANES);
        // SAFETY: a whole vector lies at `at`.
        unsafe { simd.load_int(self.bias.as_ptr().add(at)) }
    }

    /// The products of sums with their multipliers.
    #[inline(always)]
    pub(super) fn scaled<S: Simd, const N: usize>(&self, simd: S, sums: &[S::Int; N]) -> [S::Real; N] {
        let multiplier = self.multiplier.as_ptr();
        const { assert!(N * S::LANES <= STRIP) };
        let mut scaled = [simd.splat(0.0); N];
        for (n, (scaled, sum)) in scaled.iter_mut().zip(sums).enumerate() {
            // SAFETY: `STRIP` values cover `N` vectors.
            let multiplier = unsafe { simd.load(multiplier.add(n * S::LANES)) };
            *scaled = simd.mul(simd.to_real(*sum), multiplier);
        }
        scaled
    }

    /// The multipliers, in vectors.
    #[inline(always)]
    pub(super) fn multipliers<S: Simd, const N: usize>(&self, simd: S) -> [S::Real; N] {
        const { assert!(N * S::LANES <= STRIP) };
        let mut multipliers = [simd.splat(0.0); N];
        for (n, multiplier) in multipliers.iter_mut().enumerate() {
            // SAFETY: `STRIP` values cover `N` vectors.
            *multiplier = unsafe { simd.load(self.multiplier.as_ptr().add(n * S::LANES)) };
        }
        multipliers
    }

    /// Channels of the layer.
    pub(super) fn channels_of_layer(&self) -> usize {
        self.channels
    }

    /// The chunk's channels in the layer.
    pub(super) fn channels_of_chunk(&self) -> core::ops::Range<usize> {
        self.first..self.first + self.count
    }

    /// The output element of the chunk's first channel at `pixel`.
    pub(super) fn element(&self, pixel: usize) -> usize {
        pixel * self.channels + self.first
    }

    /// Where in `out` the chunk's channels of each pixel begin; `None` past the end.
    #[inline(always)]
    pub(super) fn rows<'o, T>(&self, out: &'o mut [T], pixels: Pixels) -> Option<&'o mut [T]> {
        let end = (pixels.first + pixels.count.checked_sub(1)?) * self.channels + self.first + self.count;
        out.get_mut(pixels.first * self.channels + self.first..end)
    }
}

/// Vectors that [`Simd::store_codes`] packs into one.
const FOUR: usize = 4;

/// Below it, sums of products times a multiplier, and what terms add, stay within what conversions to integers take.
pub(super) const SMALL: f32 = 0.5;

/// Whether every value is below `bound` and above its negative.
#[inline(always)]
pub(super) fn all_within(values: &[f32], bound: f32) -> bool {
    values.iter().fold(true, |within, value| within & (value.abs() < bound))
}

/// Where codes go, and what bounds them.
pub(super) struct Codes<'o, S: Simd> {
    bounds: Bounds<S>,
    /// The bounds of codes, in every byte, where saturation does not do.
    limits: Option<[S::Int; 2]>,
    pub(super) out: &'o mut [i8],
}

impl<'o, S: Simd> Codes<'o, S> {
    /// Codes of `conv`, whose bounds keep them within int8.
    #[inline(always)]
    pub(super) fn new(simd: S, conv: &QConv<'_>, out: &'o mut [i8]) -> Self {
        let QConvAttrs { lo, hi, out_zero_point, .. } = *conv.attrs;
        let code = |bound| to_code(bound, lo, hi, out_zero_point);
        let bytes = |bound| i32::from_ne_bytes([code(bound) as u8; 4]);
        let limits = [simd.splat_int(bytes(lo)), simd.splat_int(bytes(hi))];
        let limits = ([code(lo), code(hi)] != [i8::MIN, i8::MAX]).then_some(limits);
        Self { bounds: Bounds::new(simd, lo, hi, out_zero_point), limits, out }
    }

    /// Writes the codes of a tile's values. `WITHIN` says that they are within ±2³¹, so that bounds act on packed bytes, a
    /// fourth of the operations.
    #[inline(always)]
    pub(super) fn write<const M: usize, const N: usize, const WITHIN: bool>(
        &mut self,
        simd: S,
        constants: &Constants<'_>,
        pixels: Pixels,
        values: &[[S::Real; N]; M],
    ) -> Option<()> {
        let Bounds { lo, hi, .. } = self.bounds;
        let (channels, count) = (constants.channels, constants.count);
        let mut codes = [[simd.splat_int(0); N]; M];
        for (codes, values) in codes.iter_mut().zip(values) {
            for (code, value) in codes.iter_mut().zip(values) {
                *code = simd.round(if WITHIN { *value } else { simd.clamp(*value, lo, hi) });
            }
        }
        let mut to = constants.rows(self.out, pixels)?.as_mut_ptr();
        if N == 1 && S::COLUMNS == FOUR && [channels, count] == [S::LANES; 2] {
            // Pixels of one vector follow each other: four are packed for one store.
            for (at, codes) in codes.chunks(FOUR).enumerate() {
                let Some(left) = pixels.count.checked_sub(at * FOUR).filter(|left| *left > 0) else { break };
                let mut four = [codes[0][0]; FOUR];
                for (to, codes) in four.iter_mut().zip(codes) {
                    *to = codes[0];
                }
                // SAFETY: `rows` spans the channels of every pixel of the tile, these and those left.
                unsafe { self.store::<FOUR, WITHIN>(simd, to, four, left.min(FOUR) * S::LANES) };
                to = to.wrapping_add(FOUR * S::LANES);
            }
            return Some(());
        }
        for (m, codes) in codes.into_iter().enumerate() {
            if m < pixels.count {
                // SAFETY: `rows` spans the channels of every pixel of the tile; `to` is pixel m's first.
                unsafe { self.store::<N, WITHIN>(simd, to, codes, count) };
                to = to.wrapping_add(channels);
            }
        }
        Some(())
    }

    /// # Safety
    /// As [`Simd::store_codes`].
    #[inline(always)]
    pub(super) unsafe fn store<const N: usize, const WITHIN: bool>(
        &self,
        simd: S,
        to: *mut i8,
        codes: [S::Int; N],
        count: usize,
    ) {
        let zero_point = self.bounds.zero_point;
        // SAFETY: the caller's contract.
        unsafe {
            if WITHIN {
                simd.store_within(to, codes, zero_point, self.limits, count);
            } else {
                simd.store_codes(to, codes, zero_point, count);
            }
        }
    }
}

/// int8 output.
pub(crate) struct ToCodes<'a, 'o, S: Simd> {
    simd: S,
    constants: Constants<'a>,
    codes: Codes<'o, S>,
    /// Whether values are within ±2³¹.
    within: bool,
}

impl<'a, 'o, S: Simd> ToCodes<'a, 'o, S> {
    #[inline(always)]
    pub(crate) fn new(simd: S, conv: &QConv<'a>, out: &'o mut [i8]) -> Self {
        let within = all_within(conv.multiplier, SMALL);
        Self { simd, constants: Constants::new(conv), codes: Codes::new(simd, conv, out), within }
    }

    #[inline(always)]
    fn write<const M: usize, const N: usize, const WITHIN: bool>(
        &mut self,
        pixels: Pixels,
        sums: &[[S::Int; N]; M],
    ) -> Option<()> {
        let mut values = [[self.simd.splat(0.0); N]; M];
        for (values, sums) in values.iter_mut().zip(sums) {
            *values = self.constants.scaled(self.simd, sums);
        }
        self.codes.write::<M, N, WITHIN>(self.simd, &self.constants, pixels, &values)
    }
}

impl<S: Simd, A: Arithmetic<S, Sum = S::Int>> Finish<S, A> for ToCodes<'_, '_, S> {
    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        self.constants.load(group, chunk, sums)
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
        if self.within {
            return self.write::<M, N, true>(pixels, sums);
        }
        // A copy: else the sums of every tile would be stored, whether they are clamped or not.
        let sums = *sums;
        self.simd.perform(Clamped { to: self, pixels, sums: &sums })
    }
}

/// Codes of a tile whose values may be beyond ±2³¹, in a function of their own: they are rare.
struct Clamped<'t, T, V, const M: usize, const N: usize> {
    to: &'t mut T,
    pixels: Pixels,
    sums: &'t [[V; N]; M],
}

impl<S: Simd, const M: usize, const N: usize> Task<S> for Clamped<'_, ToCodes<'_, '_, S>, S::Int, M, N> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, _: S) -> Option<()> {
        self.to.write::<M, N, false>(self.pixels, self.sums)
    }
}

/// f32 output; with `SHIFT`, what [`QConv::shift`] adds, and what the terms do.
pub(crate) struct ToReals<'a, 'o, S: Simd, const SHIFT: bool, E> {
    simd: S,
    constants: Constants<'a>,
    shifts: &'a [f32],
    /// The chunk's.
    shift: [f32; STRIP],
    extra: E,
    bounds: Bounds<S>,
    out: &'o mut [f32],
}

impl<'a, 'o, S: Simd, const SHIFT: bool, E: Extra<S>> ToReals<'a, 'o, S, SHIFT, E> {
    #[inline(always)]
    pub(crate) fn new(simd: S, conv: &QConv<'a>, extra: E, out: &'o mut [f32]) -> Self {
        let bounds = Bounds::new(simd, conv.attrs.lo, conv.attrs.hi, 0);
        let (constants, shift) = (Constants::new(conv), [0.0; STRIP]);
        Self { simd, constants, shifts: conv.shift, shift, extra, bounds, out }
    }
}

impl<S: Simd, A: Arithmetic<S, Sum = S::Int>, const SHIFT: bool, E: Extra<S>> Finish<S, A>
    for ToReals<'_, '_, S, SHIFT, E>
{
    #[inline(always)]
    fn rows(&mut self, group: usize, rows: &Rows<'_>) -> Option<()> {
        self.extra.rows(self.simd, group, rows)
    }

    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        self.constants.load(group, chunk, sums)?;
        if SHIFT {
            let shifts = self.shifts.get(self.constants.channels_of_chunk())?;
            self.shift.get_mut(..chunk.count)?.copy_from_slice(shifts);
        }
        self.extra.chunk(self.simd, group, chunk)
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
        self.simd.perform(Write { to: self, pixels, sums })
    }
}

/// A tile's sums become values in a function of their own: beside these many operations the loop of products would not
/// keep all of its sums in registers.
struct Write<'t, T, V, const M: usize, const N: usize> {
    to: &'t mut T,
    pixels: Pixels,
    sums: &'t [[V; N]; M],
}

impl<S: Simd, const SHIFT: bool, E: Extra<S>, const M: usize, const N: usize> Task<S>
    for Write<'_, ToReals<'_, '_, S, SHIFT, E>, S::Int, M, N>
{
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { to: reals, pixels, sums } = self;
        let Bounds { lo, hi, .. } = reals.bounds;
        let (channels, count) = (reals.constants.channels, reals.constants.count);
        let mut to = reals.constants.rows(reals.out, pixels)?.as_mut_ptr();
        for (m, sums) in sums.iter().enumerate() {
            if m < pixels.count {
                let mut values = reals.constants.scaled::<S, N>(simd, sums);
                if SHIFT {
                    for (n, v) in values.iter_mut().enumerate() {
                        // SAFETY: `STRIP` values cover `N` vectors.
                        *v = simd.add(*v, unsafe { simd.load(reals.shift.as_ptr().add(n * S::LANES)) });
                    }
                }
                reals.extra.add(simd, pixels.first + m, &mut values)?;
                for (n, v) in values.into_iter().enumerate() {
                    let at = n * S::LANES;
                    // SAFETY: `rows` spans the channels of every pixel of the tile; `to` is pixel m's first.
                    unsafe {
                        simd.store_some(
                            to.wrapping_add(at),
                            simd.clamp(v, lo, hi),
                            (count - at).min(S::LANES),
                        )
                    };
                }
                to = to.wrapping_add(channels);
            }
        }
        Some(())
    }
}

/// i32 output.
pub(crate) struct ToSums<'a, 'o, S: Simd> {
    simd: S,
    constants: Constants<'a>,
    out: &'o mut [i32],
}

impl<'a, 'o, S: Simd> ToSums<'a, 'o, S> {
    #[inline(always)]
    pub(crate) fn new(simd: S, conv: &QConv<'a>, out: &'o mut [i32]) -> Self {
        Self { simd, constants: Constants::new(conv), out }
    }
}

impl<S: Simd, A: Arithmetic<S, Sum = S::Int>> Finish<S, A> for ToSums<'_, '_, S> {
    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        self.constants.load(group, chunk, sums)
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
        let (channels, count) = (self.constants.channels, self.constants.count);
        let mut to = self.constants.rows(self.out, pixels)?.as_mut_ptr();
        for (m, sums) in sums.iter().enumerate() {
            if m < pixels.count {
                for (n, v) in sums.iter().enumerate() {
                    let at = n * S::LANES;
                    // SAFETY: `rows` spans the channels of every pixel of the tile; `to` is pixel m's first.
                    unsafe { self.simd.store_int(to.wrapping_add(at), *v, (count - at).min(S::LANES)) };
                }
                to = to.wrapping_add(channels);
            }
        }
        Some(())
    }
}
