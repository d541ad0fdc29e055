//! The two-factor term: projections of a block of pixels to rank space, and back.

use core::marker::PhantomData;

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::terms::{Factors, MAX_TERM_RANK, TwoFactor};
use ingraft_kernel::window::{ConvShape, row};
use ingraft_tensor::bytes;

use super::factors::{Down, Packed, pack_up, up_bytes};
use super::fused::Adapted;
use super::quantized::Quantized;
use super::rank_space::{RUN, RankSpace, lanes, stride};
use super::{Codes, Part};
use crate::dot::ROW_ALIGN;
use crate::lanes::block;
use crate::panel::WIDTH;
use crate::rank::{apply_reals, dot, transpose};
use crate::tile::{BLOCK, Block, Rows, take};

/// `A·x` of every pixel of a block, and the factors as the kernels read them.
pub(super) struct Latent<'m> {
    /// `[pixel][rank]`, integer factors; as [`RankSpace::held`] has them where they are for sums in registers.
    codes: &'m mut [i16],
    /// `[pixel][rank]`, real factors.
    reals: &'m mut [f32],
    /// `B` of a panel of channels, `[rank][channel]`, integer factors.
    up_codes: &'m mut [[i16; WIDTH]],
    /// `B` of a panel of channels, `[rank][channel]`, real factors.
    up_reals: &'m mut [[f32; WIDTH]],
    /// A patch as `x − zx`.
    patch: &'m mut [f32],
    /// Rows of `A` that are multiplied together, integer factors.
    down: &'m mut [i8],
    /// Group and first row of what `down` holds.
    held: Option<(usize, usize)>,
    /// Length of a pixel's values.
    stride: usize,
    /// How integer `A` is packed.
    layout: Down,
    /// What was packed of the adapter beforehand.
    packed: Option<Packed<'m>>,
    /// Whether integer values are for sums in registers.
    fused: bool,
    /// Whether they are too large for that.
    large: bool,
}

impl<'m> Latent<'m> {
    /// Bytes that [`Self::new`] takes.
    pub(super) fn bytes(shape: &ConvShape) -> usize {
        let row = shape.row().next_multiple_of(ROW_ALIGN);
        MAX_TERM_RANK * (BLOCK + WIDTH) * (2 + 4) + row * 4 + row * WIDTH
    }

    /// `None` when `memory` is too small or the rank too large.
    pub(super) fn new<D: RankSpace>(memory: &mut &'m mut [u8], conv: &QConv<'m>) -> Option<Self> {
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
            stride: stride(rank),
            layout: Down::new::<D>(&conv.shape, rank),
            packed: Packed::new::<D>(&conv.shape, rank, conv.terms.packed.factors),
            fused: false,
            large: false,
        })
    }

    /// From here on integer values are for [`Self::fuse`].
    pub(super) fn for_registers(&mut self) {
        self.fused = true;
    }

    /// Computes `A·x` of every row for the two-factor term.
    ///
    /// # Safety
    /// The processor executes what `D` stands for.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) unsafe fn project<D: RankSpace>(
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
    unsafe fn project_codes<D: RankSpace>(
        &mut self,
        conv: &QConv<'_>,
        rank: usize,
        down: &[i8],
        down_scale: &[f32],
        block_of: Block,
        rows: &Rows<'_, i8, ROW_ALIGN>,
    ) -> Option<()> {
        let (layout, group) = (self.layout, block_of.group);
        let down = down.get(group * rank * rows.len..)?.get(..rank * rows.len)?;
        let down_scale = down_scale.get(group * rank..)?.get(..rank)?;
        self.large = false;
        for first in layout.firsts() {
            let mut own = [0; WIDTH];
            let (part, offsets) = match &self.packed {
                Some(packed) => packed.down(&layout, group, first)?,
                None => {
                    let offsets = own.get_mut(..lanes(rank))?;
                    let out = self.down.get_mut(..layout.elements())?;
                    let packed = self.held == Some((group, first));
                    layout.pack::<D>(conv.attrs.in_zero_point, down, first, out, offsets, packed)?;
                    self.held = Some((group, first));
                    (&*out, &*offsets)
                }
            };
            let (bias, scale) = (block(offsets, 0), block(down_scale, first));
            let out = self.codes.get_mut(first..)?;
            // SAFETY: the caller's promise.
            unsafe {
                if self.fused {
                    let mut sink = Quantized::<D, true>::new(out, self.stride, scale);
                    D::project(block_of, rows, part, lanes(rank), &bias, &mut sink)?;
                    self.large |= sink.largest() > D::LARGEST;
                } else {
                    let mut sink = Quantized::<D, false>::new(out, self.stride, scale);
                    D::project(block_of, rows, part, lanes(rank), &bias, &mut sink)?;
                }
            }
        }
        if self.large {
            self.restore();
        }
        Some(())
    }

    /// Integer values as they are: modulo 2¹⁶ the two bytes of each say so even where they are too large.
    fn restore(&mut self) {
        for run in self.codes.as_chunks_mut::<RUN>().0 {
            let [a, b, c, d] = *run;
            let (low, high) = ([a, b].map(i16::to_le_bytes), [c, d].map(i16::to_le_bytes));
            for ((u, low), high) in run.iter_mut().zip(low.as_flattened()).zip(high.as_flattened()) {
                *u = (i16::from(*high as i8) << 8).wrapping_add(i16::from(*low as i8));
            }
        }
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

    /// Runs of a pixel.
    pub(super) fn runs(&self) -> usize {
        self.stride / RUN
    }

    /// Whether the values of the block are too large for [`Self::fuse`].
    pub(super) fn is_large(&self) -> bool {
        self.large
    }

    /// What adds the integer factors to `part` and requantizes its values; `None` where there are none.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn fuse<'l, 'o, D: RankSpace, const RUNS: usize>(
        &'l mut self,
        conv: &QConv<'l>,
        part: &Part<'_>,
        codes: &'l mut Codes<'o>,
    ) -> Option<Adapted<'l, 'o, D, RUNS>> {
        let TwoFactor { rank, factors: Factors::I8 { up, up_scale, .. } } = conv.terms.two_factor? else {
            return None;
        };
        let runs = self.runs();
        let up = match self.packed {
            Some(packed) => packed.up::<D>(&conv.shape, part, rank)?,
            None => {
                let out = bytes::of_mut(self.up_codes.as_flattened_mut()).get_mut(..up_bytes::<D>(rank))?;
                pack_up::<D>(up, rank, part.channel..part.channel + part.panel.count, out)?;
                &*out
            }
        };
        let scale = block(up_scale, part.channel);
        Some(Adapted { codes, latent: self.codes, runs, up, scale, isa: PhantomData })
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
