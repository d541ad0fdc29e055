//! int8 convolution and linear layers.
//!
//! Exact accumulators of a tile come first. Without terms they become codes
//! before they leave the registers, with an integer low-rank term too (`fused`);
//! else the active terms and the requantization follow in the reference's order of
//! operations, so that everything but real-valued factors agrees with it to the bit.

pub(crate) mod dynamic;
mod factors;
mod fused;
mod low_rank;
mod quantized;
mod rank_space;
mod scratch;
mod values;

use core::arch::aarch64::{int8x16_t, int32x4_t, vget_low_s8, vst1_s8, vst1q_s8};

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qconv::{QConv, check as check_operands};
use ingraft_kernel::terms::Factors;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::{DType, bytes};

use self::rank_space::RankSpace;
use self::scratch::Scratch;
use crate::dot::{ROW_ALIGN, Sink};
use crate::features::{DotProd, I8mm, Neon};
use crate::lanes::{block, load_f32};
use crate::panel::{Layout, Panel, WIDTH, constant};
use crate::requantize::{self, Limits};
use crate::tile::{BLOCK, Block, Rows, after_operands};

macro_rules! rows {
    ($codes:ident, $reals:ident, $sums:ident: $isa:ty, $suffix:literal) => {
        /// int8 output.
        pub(crate) const $codes: Kernel =
            Kernel::new(concat!("qconv_qs8_qc8w_qs8__", $suffix), OpCode::QConv, I8, I8, run::<$isa>)
                .checked(check)
                .with_workspace(workspace)
                .with_packed(packed::<$isa>, pack::<$isa>)
                .with_factors(factors::bytes::<$isa>, factors::pack::<$isa>);

        /// f32 output.
        pub(crate) const $reals: Kernel =
            Kernel::new(concat!("qconv_qs8_qc8w_f32__", $suffix), OpCode::QConv, I8, F32, run_f32::<$isa>)
                .checked(check_constant)
                .with_workspace(workspace)
                .with_packed(packed::<$isa>, pack::<$isa>);

        /// i32 output: the accumulators.
        pub(crate) const $sums: Kernel =
            Kernel::new(concat!("qconv_qs8_qc8w_s32__", $suffix), OpCode::QConv, I8, I32, run_i32::<$isa>)
                .checked(check_constant)
                .with_workspace(workspace)
                .with_packed(packed::<$isa>, pack::<$isa>);
    };
}

rows!(CODES_NEON, REALS_NEON, SUMS_NEON: Neon, "neon");
rows!(CODES_DOTPROD, REALS_DOTPROD, SUMS_DOTPROD: DotProd, "dotprod");
rows!(CODES_I8MM, REALS_I8MM, SUMS_I8MM: I8mm, "i8mm");

const I8: Option<DType> = Some(DType::I8);
const I32: Option<DType> = Some(DType::I32);
const F32: Option<DType> = Some(DType::F32);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check_constant(step)?;
    let attrs: &QConvAttrs = step.attrs()?;
    if attrs.fits_codes() { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

fn check_constant(step: &Step<'_>) -> Result<(), KernelError> {
    check_operands(step)?;
    constant::<i8>(step, 1).map(|_| ())
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &QConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
}

/// The panels of one group.
fn layout<D: RankSpace>(shape: &ConvShape) -> Layout {
    Layout { depth: D::DEPTH, len: shape.row(), channels: shape.out_group }
}

fn workspace(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| Scratch::bytes(&shape))
}

fn packed<D: RankSpace>(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| layout::<D>(&shape).elements() * shape.groups)
}

fn pack<D: RankSpace>(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    pack_groups::<D>(step, &shape(step).ok_or(KernelError::Operands(step.op))?, out)
}

fn pack_groups<D: RankSpace>(step: &Step<'_>, shape: &ConvShape, out: &mut [u8]) -> Result<(), KernelError> {
    let (weight, layout) = (constant::<i8>(step, 1)?, layout::<D>(shape));
    let error = KernelError::Memory(step.op);
    let mut groups = bytes::cast_mut(out).ok_or(error)?.chunks_exact_mut(layout.elements().max(1));
    for weight in weight.chunks_exact((layout.len * layout.channels).max(1)) {
        layout.pack_all(weight, groups.next().ok_or(error)?).ok_or(error)?;
    }
    Ok(())
}

fn run<D: RankSpace>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let terms = &call.terms;
    let integer = terms.two_factor.is_none_or(|term| matches!(term.factors, Factors::I8 { .. }));
    let plain = integer && !terms.has_delta() && terms.affine.is_none();
    // SAFETY: rows leave this crate only through functions whose arguments prove what `D` stands for.
    unsafe {
        if plain && call.outputs.len() == 1 {
            codes::<D>(call)
        } else {
            values::run::<D, i8>(call, |v, attrs, out| requantize::codes(v, attrs, out))
        }
    }
}

fn run_f32<D: RankSpace>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove what `D` stands for.
    unsafe { values::run::<D, f32>(call, |v, attrs, out| requantize::clamped(v, attrs.lo, attrs.hi, out)) }
}

fn run_i32<D: RankSpace>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove what `D` stands for.
    unsafe { values::accumulators::<D>(call) }
}

/// Some pixels by some channels of the output, and what they are the products of.
struct Part<'a> {
    block: Block,
    rows: Rows<'a, i8, ROW_ALIGN>,
    /// First channel, counted over all groups.
    channel: usize,
    panel: Panel,
    weights: &'a [i8],
}

impl Part<'_> {
    /// Where channel `channel` of pixel `first` of the block stands in the output.
    fn start(&self, shape: &ConvShape, first: usize) -> usize {
        (self.block.first + first) * shape.output[3] + self.channel
    }
}

/// Calls `visit` with every part of the output.
#[inline]
#[target_feature(enable = "neon")]
fn for_each_part<D: RankSpace>(
    conv: &QConv<'_>,
    packed: &[u8],
    scratch: &mut Scratch<'_>,
    mut visit: impl FnMut(&Part<'_>, &mut low_rank::Latent<'_>) -> Option<()>,
) -> Option<()> {
    let (patches, spare) = (&mut *scratch.patches, &mut *scratch.panel);
    let latent = &mut scratch.latent;
    let layout = layout::<D>(&conv.shape);
    let packed: &[i8] = bytes::cast(packed)?;
    let zero = conv.attrs.in_zero_point as i8;
    for group in 0..conv.shape.groups {
        let packed = packed.get(group * layout.elements()..)?;
        for block in Block::all(&conv.shape, group, BLOCK) {
            let rows = Rows::new(&conv.shape, conv.input, zero, block, patches)?;
            // SAFETY: this row runs only where `D` is proved.
            unsafe { latent.project::<D>(conv, block, &rows)? };
            for panel in layout.panels() {
                let weights = match conv.terms.patched {
                    None => packed.get(layout.span(panel))?,
                    Some(patched) => {
                        let group = patched.weight.get(group * layout.len * layout.channels..)?;
                        layout.pack(group, panel, spare)?;
                        &*spare
                    }
                };
                let channel = group * layout.channels + panel.first;
                visit(&Part { block, rows, channel, panel, weights }, latent)?;
            }
        }
    }
    Some(())
}

/// A convolution to int8 without terms but an integer low-rank one, perhaps with patched weights.
#[target_feature(enable = "neon")]
fn codes<D: RankSpace>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = QConv::new(call)?;
    let error = after_operands(call);
    let mut scratch = Scratch::new::<D>(core::mem::take(&mut call.workspace), &conv).ok_or(error)?;
    scratch.latent.for_registers();
    let (packed, channels) = (call.packed, conv.shape.output[3]);
    let out: &mut [i8] = call.slice_mut(0)?;
    let limits = Limits::of(conv.attrs);
    for_each_part::<D>(&conv, packed, &mut scratch, |part, latent| {
        let out = out.get_mut(part.start(&conv.shape, 0)..)?;
        if latent.is_large() {
            // SAFETY: this row runs only where `D` is proved.
            return unsafe { values::codes::<D>(&conv, part, latent, out) };
        }
        let mut codes = Codes {
            out,
            channels,
            count: part.panel.count,
            multiplier: block(conv.multiplier, part.channel),
            limits,
        };
        let bias = block(conv.bias, part.channel);
        let Part { block, rows, panel, weights, .. } = part;
        // SAFETY: this row runs only where `D` is proved.
        unsafe {
            if conv.terms.two_factor.is_none() {
                return D::multiply(*block, rows, weights, panel.lanes(), &bias, &mut codes);
            }
            macro_rules! adapted {
                ($runs:literal) => {{
                    let mut adapted = latent.fuse::<D, $runs>(&conv, part, &mut codes)?;
                    D::multiply(*block, rows, weights, panel.lanes(), &bias, &mut adapted)
                }};
            }
            match latent.runs() {
                1 => adapted!(1),
                2 => adapted!(2),
                _ => adapted!(0),
            }
        }
    })
    .ok_or(error)
}

/// Requantizes sums in registers.
struct Codes<'o> {
    /// From the first channel of the first pixel of the block on.
    out: &'o mut [i8],
    /// Channels of the output.
    channels: usize,
    /// Channels of the panel.
    count: usize,
    multiplier: [f32; WIDTH],
    limits: Limits,
}

impl Codes<'_> {
    /// Writes the codes of a tile with `4·N` channels, `count` pixels of it.
    ///
    /// # Safety
    /// The processor executes NEON.
    #[inline(always)]
    unsafe fn store<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        codes: [int8x16_t; P],
    ) -> Option<()> {
        let out = self.out.get_mut(first * self.channels..)?;
        let whole = self.count == 4 * N && out.len() >= count.checked_sub(1)? * self.channels + 4 * N;
        for (i, codes) in codes.into_iter().enumerate().take(count) {
            // SAFETY: the caller's promise; whole vectors, or halves of them, were found to have room.
            unsafe {
                if whole {
                    let out = out.as_mut_ptr().add(i * self.channels);
                    if N == 4 { vst1q_s8(out, codes) } else { vst1_s8(out, vget_low_s8(codes)) }
                } else {
                    requantize::store(out.get_mut(i * self.channels..)?.get_mut(..self.count)?, codes);
                }
            }
        }
        Some(())
    }
}

impl Sink for Codes<'_> {
    #[inline(always)]
    unsafe fn put<const P: usize, const N: usize>(
        &mut self,
        first: usize,
        count: usize,
        sums: [[int32x4_t; N]; P],
    ) -> Option<()> {
        const { assert!(N == 2 || N == 4, "panels have eight channels or sixteen") };
        let limits = self.limits;
        // SAFETY: the caller's promise.
        unsafe {
            let multiplier = load_f32(&self.multiplier);
            self.store::<P, N>(first, count, sums.map(|sums| limits.codes(&sums, &multiplier)))
        }
    }
}
