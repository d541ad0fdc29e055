//! The two-factor term: projections of a block of pixels to rank space, and back.

use core::arch::aarch64::*;

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, TwoFactor};
use ingraft_kernel::window::{ConvShape, row};

use super::factors::{self, Packed, offsets};
use super::fused::{Adapted, RUN};
use super::{Codes, Part};
use crate::dot::{Dot, ROW_ALIGN, Sink, multiply};
use crate::lanes::{block, load_f32};
use crate::panel::WIDTH;
use crate::rank::{apply_reals, dot, transpose};
use crate::tile::{BLOCK, Block, Rows, take};

/// `A·x` of every pixel of a block, and the factors as the kernels read them.
pub(super) struct Latent<'m> {
    /// `[pixel][rank]`, integer factors.
    codes: &'m mut [i16],
    /// `[pixel][rank]`, real factors.
    reals: &'m mut [f32],
    /// `B` of a panel of channels, `[rank][channel]`, integer factors.
    up_codes: &'m mut [[i16; WIDTH]],
    /// `B` of a panel of channels, `[rank][channel]`, real factors.
    up_reals: &'m mut [[f32; WIDTH]],
    /// A patch as `x − zx`.
    patch: &'m mut [f32],
    /// A panel of `A`, integer factors.
    down: &'m mut [i8],
    /// Group and first row of what `down` holds.
    held: Option<(usize, usize)>,
    /// Length of a pixel's values.
    stride: usize,
}

impl<'m> Latent<'m> {
    /// Bytes that [`Self::new`] takes.
    pub(super) fn bytes(shape: &ConvShape) -> usize {
        let row = shape.row().next_multiple_of(ROW_ALIGN);
        MAX_TERM_RANK * (BLOCK + WIDTH) * (2 + 4) + row * 4 + row * WIDTH
    }

    /// `None` when `memory` is too small or the rank too large.
    pub(super) fn new(memory: &mut &'m mut [u8], conv: &QConv<'_>) -> Option<Self> {
        let rank = conv.terms.two_factor.map_or(0, |term| term.rank);
        (rank <= MAX_TERM_RANK).then_some(())?;
        let row = conv.shape.row().next_multiple_of(ROW_ALIGN);
        Some(Self {
            codes: take(memory, MAX_TERM_RANK * BLOCK)?,
            reals: take(memory, MAX_TERM_RANK * BLOCK)?,
            up_codes: take(memory, MAX_TERM_RANK)?,
            up_reals: take(memory, MAX_TERM_RANK)?,
            patch: take(memory, row)?,
            down: take(memory, row * WIDTH)?,
            held: None,
            stride: factors::stride(rank),
        })
    }

    /// Computes `A·x` of every row for the two-factor term.
    ///
    /// # Safety
    /// The processor executes what `D` stands for.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn project<D: Dot>(
        &mut self,
        conv: &QConv<'_>,
        block: Block,
        rows: &Rows<'_, i8, ROW_ALIGN>,
    ) -> Option<()> {
        let Some(TwoFactor { rank, factors }) = conv.terms.two_factor else { return Some(()) };
        match factors {
            Factors::F32 { down, .. } => self.project_reals(conv, rank, down, block, rows),
            // SAFETY: the caller's promise.
            Factors::I8 { down, down_scale, .. } => unsafe {
                self.project_codes::<D>(conv, rank, down, down_scale, block, rows)
            },
        }
    }

    /// # Safety
    /// The processor executes what `D` stands for.
    #[target_feature(enable = "neon")]
    unsafe fn project_codes<D: Dot>(
        &mut self,
        conv: &QConv<'_>,
        rank: usize,
        down: &[i8],
        down_scale: &[f32],
        block_of: Block,
        rows: &Rows<'_, i8, ROW_ALIGN>,
    ) -> Option<()> {
        let layout = factors::layout::<D>(&conv.shape, rank);
        let first = block_of.group * rank;
        let down = down.get(first * rows.len..)?.get(..rank * rows.len)?;
        let down_scale = down_scale.get(first..)?.get(..rank)?;
        let packed = Packed::new::<D>(&conv.shape, rank, conv.terms.packed.factors);
        for panel in layout.panels() {
            let (weights, bias) = match &packed {
                Some(packed) => packed.down(&layout, block_of.group, panel)?,
                None => {
                    if self.held != Some((block_of.group, panel.first)) {
                        layout.pack(down, panel, self.down)?;
                        self.held = Some((block_of.group, panel.first));
                    }
                    (&*self.down, offsets(conv.attrs.in_zero_point, down, panel, rows.len)?)
                }
            };
            let mut sink = Quantized {
                out: self.codes.get_mut(panel.first..)?,
                stride: self.stride,
                count: panel.count.next_multiple_of(RUN),
                scale: block(down_scale, panel.first),
            };
            // SAFETY: the caller's promise.
            unsafe { multiply::<D>(block_of, rows, weights, panel.lanes(), &bias, &mut sink)? };
        }
        Some(())
    }

    #[target_feature(enable = "neon")]
    fn project_reals(
        &mut self,
        conv: &QConv<'_>,
        rank: usize,
        down: &[f32],
        block: Block,
        rows: &Rows<'_, i8, ROW_ALIGN>,
    ) -> Option<()> {
        for pixel in 0..block.pixels {
            let patch = center(conv, rows.row(pixel)?.get(..rows.len)?, self.patch)?;
            let latent = self.reals.get_mut(pixel * self.stride..)?.get_mut(..self.stride)?;
            latent.fill(0.0);
            for (k, t) in latent.iter_mut().take(rank).enumerate() {
                *t = dot(row(down, block.group * rank + k, rows.len)?, patch) * conv.attrs.in_scale;
            }
        }
        Some(())
    }

    /// `codes` as `x − zx`.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn centered(&mut self, conv: &QConv<'_>, codes: &[i8]) -> Option<&[f32]> {
        center(conv, codes, self.patch)
    }

    /// Transposes the rows of `B` that belong to the channels of `part`.
    #[target_feature(enable = "neon")]
    pub(super) fn prepare(&mut self, conv: &QConv<'_>, part: &Part<'_>) -> Option<()> {
        let Some(TwoFactor { rank, factors }) = conv.terms.two_factor else { return Some(()) };
        let channels = part.channel..part.channel + part.panel.count;
        match factors {
            Factors::F32 { up, .. } => {
                transpose(up, rank, channels, self.up_reals.get_mut(..self.stride)?, |b| b)
            }
            Factors::I8 { up, .. } => {
                transpose(up, rank, channels, self.up_codes.get_mut(..self.stride)?, i16::from)
            }
        }
    }

    /// What adds the integer factors to `part` and requantizes its values; `None` where there are none.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn fuse<'l, 'o, D: Dot>(
        &'l mut self,
        conv: &QConv<'l>,
        part: &Part<'_>,
        codes: Codes<'o>,
    ) -> Option<Adapted<'l, 'o>> {
        let TwoFactor { rank, factors: Factors::I8 { up_scale, .. } } = conv.terms.two_factor? else {
            return None;
        };
        let up = match Packed::new::<D>(&conv.shape, rank, conv.terms.packed.factors) {
            Some(packed) => packed.up(&conv.shape, part, rank)?,
            None => {
                self.prepare(conv, part)?;
                self.up_codes.get(..self.stride)?
            }
        };
        let scale = block(up_scale, part.channel);
        Some(Adapted { codes, latent: self.codes, stride: self.stride, up, scale })
    }

    /// Adds `B·(A·x)` of pixels `first..` to their values.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn add(
        &self,
        conv: &QConv<'_>,
        part: &Part<'_>,
        first: usize,
        values: &mut [[f32; WIDTH]],
    ) -> Option<()> {
        let Some(TwoFactor { factors, .. }) = conv.terms.two_factor else { return Some(()) };
        let inv = 1.0 / conv.attrs.out_scale;
        for (i, values) in values.iter_mut().enumerate() {
            let at = (first + i) * self.stride;
            match factors {
                Factors::F32 { .. } => {
                    let latent = self.reals.get(at..)?.get(..self.stride)?;
                    let sums = apply_reals(latent, self.up_reals);
                    values.iter_mut().zip(sums).for_each(|(v, s)| *v += s * inv);
                }
                Factors::I8 { up_scale, .. } => {
                    let latent = self.codes.get(at..)?.get(..self.stride)?;
                    let sums = apply_codes(latent, self.up_codes);
                    let scale: [f32; WIDTH] = block(up_scale, part.channel);
                    values.iter_mut().zip(sums).zip(scale).for_each(|((v, s), scale)| *v += s as f32 * scale);
                }
            }
        }
        Some(())
    }
}

/// Requantizes sums to int16.
struct Quantized<'o> {
    out: &'o mut [i16],
    stride: usize,
    /// Values of a pixel to write, a multiple of [`RUN`].
    count: usize,
    scale: [f32; WIDTH],
}

impl Sink for Quantized<'_> {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()> {
        let scale: [float32x4_t; N] = load_f32(&self.scale);
        for (i, sums) in sums.iter().take(count).enumerate() {
            let out = self.out.get_mut((first + i) * self.stride..)?.get_mut(..self.count)?;
            for ((run, sum), scale) in out.as_chunks_mut::<RUN>().0.iter_mut().zip(sums).zip(scale) {
                // Saturating after the rounding gives what rounding the clamped value does.
                let codes = vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(*sum), scale)));
                // SAFETY: the reference covers the eight bytes written.
                unsafe { vst1_s16(run.as_mut_ptr(), codes) };
            }
        }
        Some(())
    }
}

/// `Σ latent[k]·up[k][c]` of sixteen channels.
#[inline]
#[target_feature(enable = "neon")]
fn apply_codes(latent: &[i16], up: &[[i16; WIDTH]]) -> [i32; WIDTH] {
    let mut sums = [0i32; WIDTH];
    for (u, up) in latent.iter().zip(up) {
        sums.iter_mut().zip(up).for_each(|(s, b)| *s = s.wrapping_add(i32::from(*u) * i32::from(*b)));
    }
    sums
}

/// `codes` as `x − zx`, in `patch`.
#[inline]
#[target_feature(enable = "neon")]
fn center<'p>(conv: &QConv<'_>, codes: &[i8], patch: &'p mut [f32]) -> Option<&'p [f32]> {
    let patch = patch.get_mut(..codes.len())?;
    for (x, code) in patch.iter_mut().zip(codes) {
        *x = i32::from(*code).wrapping_sub(conv.attrs.in_zero_point) as f32;
    }
    Some(patch)
}
