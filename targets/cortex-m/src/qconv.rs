//! int8 convolution and linear layers.
//!
//! Exact sums of a few pixels by [`Isa::CHANNELS`] channels come first; requantization and the active terms follow in the
//! reference's order of operations. Weights are used where they lie. Terms that only trainers
//! have, and overlays, are left to the reference.

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qconv::{KERNEL, KERNEL_F32, KERNEL_I32, QConv};
use ingraft_kernel::requantize::{clamp, passes, set_bit};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, Step};
use ingraft_tensor::bytes::align_up;

use crate::isa::{Isa, ROWS, Sums, WIDTH, sums_of};
use crate::low_rank::LowRank;
use crate::patch::{Patches, buffer_bytes};
use crate::requantize::{Limits, Scaled};

/// int8 output. A `WHOLE` row leaves the terms that it does not compute to the reference, another refuses them.
pub(crate) const fn codes<I: Isa, const WHOLE: bool>(name: &'static str) -> Kernel {
    Kernel { name, check, workspace: workspace::<I, WHOLE>, run: run::<I, WHOLE>, ..KERNEL }
}

/// f32 output.
pub(crate) const fn reals<I: Isa, const WHOLE: bool>(name: &'static str) -> Kernel {
    Kernel { name, workspace: workspace::<I, WHOLE>, run: run_f32::<I, WHOLE>, ..KERNEL_F32 }
}

/// i32 output: the accumulators.
pub(crate) const fn accumulators<I: Isa>(name: &'static str) -> Kernel {
    Kernel { name, workspace: workspace::<I, true>, run: run_i32::<I>, ..KERNEL_I32 }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (KERNEL.check)(step)?;
    let attrs: &QConvAttrs = step.attrs()?;
    if attrs.fits_codes() { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

/// What this row or, for some terms, the reference needs.
fn workspace<I: Isa, const WHOLE: bool>(step: &Step<'_>) -> usize {
    let shape = || {
        let attrs: &QConvAttrs = step.attrs().ok()?;
        let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
        ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
    };
    let own = shape().map_or(0, |shape| align_up(I::bytes(&shape)).saturating_add(buffer_bytes(&shape)));
    if WHOLE { own.max((KERNEL.workspace)(step)) } else { own }
}

/// Whether the terms are not left to the reference.
fn takes(call: &Call<'_, '_>) -> bool {
    !call.terms.has_delta() && call.terms.two_factor.is_none_or(|term| LowRank::takes(&term))
}

/// Some pixels by some channels of the output.
struct Part<'s> {
    /// First pixel and number of pixels.
    first: usize,
    pixels: usize,
    /// First channel, counted over all groups, and number of channels.
    channel: usize,
    count: usize,
    sums: &'s Sums,
    /// What a low-rank term adds, before its scale.
    low: Option<&'s Sums>,
    /// The term, where it is left to what makes codes.
    fused: Option<&'s LowRank<'s>>,
}

impl Part<'_> {
    /// The sums of pixel `index` and their scales.
    #[inline(always)]
    fn scaled<'p, I: Isa>(&'p self, conv: &QConv<'p>, index: usize) -> Option<Scaled<'p>> {
        let scales = conv.multiplier.get(self.channel..)?.get(..self.count)?;
        Some((sums_of::<I>(self.sums, index)?.get(..self.count)?, scales))
    }

    /// What a low-rank term adds to pixel `index`, and its scales; `Some(None)` where there is none.
    #[inline(always)]
    fn low<'p, I: Isa>(&'p self, conv: &QConv<'p>, index: usize) -> Option<Option<Scaled<'p>>> {
        let Some(low) = self.low else { return Some(None) };
        let scales = LowRank::scale(conv)?.get(self.channel..)?.get(..self.count)?;
        Some(Some((sums_of::<I>(low, index)?.get(..self.count)?, scales)))
    }

    /// Where pixel `index` begins in the output.
    fn start(&self, conv: &QConv<'_>, index: usize) -> usize {
        (self.first + index) * conv.shape.output[3] + self.channel
    }
}

/// Calls `visit` with every part of the output; `fuse` says that it takes low-rank terms as they are.
#[inline(always)]
fn for_each_part<I: Isa>(
    conv: &QConv<'_>,
    memory: &mut [u8],
    fuse: bool,
    mut visit: impl FnMut(&Part<'_>) -> Option<()>,
) -> Option<()> {
    let (shape, len) = (&conv.shape, conv.shape.row());
    let pixels = shape.output[0] * shape.output[1] * shape.output[2];
    let (mut sums, mut low_sums): (Sums, Sums) = ([[0; WIDTH]; ROWS], [[0; WIDTH]; ROWS]);
    for group in 0..shape.groups {
        let fill = conv.attrs.in_zero_point as i8;
        let patches = Patches { shape, input: conv.input, fill, group };
        let mut low_rank = LowRank::new(conv, group)?;
        let channels = group * shape.out_group..(group + 1) * shape.out_group;
        let mut first = 0;
        while first < pixels {
            let count = I::rows(pixels - first);
            let rows = I::load(&patches, first, count, memory)?;
            if let Some(low_rank) = &mut low_rank {
                low_rank.project::<I>(rows, count, &mut sums)?;
            }
            for channel in channels.clone().step_by(I::CHANNELS) {
                let bias = conv.bias.get(channel..channels.end)?;
                let bias = bias.get(..I::CHANNELS).unwrap_or(bias);
                I::multiply(rows, conv.weight.get(channel * len..)?, len, bias, &mut sums)?;
                let (mut low, mut fused) = (None, None);
                match &low_rank {
                    Some(low_rank) if fuse && I::fuses(low_rank.rank()) => fused = Some(low_rank),
                    Some(low_rank) => {
                        low_rank.apply::<I>(channel, bias.len(), count, &mut low_sums)?;
                        low = Some(&low_sums);
                    }
                    None => {}
                }
                visit(&Part { first, pixels: count, channel, count: bias.len(), sums: &sums, low, fused })?;
            }
            first += count;
        }
    }
    Some(())
}

/// The pre-activation values of a pixel of `part` in output steps: the same operations in the same
/// order as in [`ingraft_kernel::qconv`].
#[inline(always)]
fn values<I: Isa>(
    conv: &QConv<'_>,
    part: &Part<'_>,
    index: usize,
    mut visit: impl FnMut(usize, f32),
) -> Option<()> {
    let low = part.low::<I>(conv, index)?;
    let affine = match conv.terms.affine {
        Some(affine) => Some((affine.scale.get(part.channel..)?, affine.shift.get(part.channel..)?)),
        None => None,
    };
    let inv = 1.0 / conv.attrs.out_scale;
    let (sums, multiplier) = part.scaled::<I>(conv, index)?;
    for (c, (sum, m)) in sums.iter().zip(multiplier).enumerate() {
        let mut v = *sum as f32 * m;
        if let Some((sums, scale)) = low {
            v += *sums.get(c)? as f32 * scale.get(c)?;
        }
        if let Some((scale, shift)) = affine {
            v = v * scale.get(c)? + shift.get(c)? * inv;
        }
        visit(c, v);
    }
    Some(())
}

/// Writes what `finish` makes of the values of `part`, and their mask.
#[inline(always)]
fn write<I: Isa, T>(
    conv: &QConv<'_>,
    part: &Part<'_>,
    out: &mut [T],
    mut mask: Option<&mut [u8]>,
    finish: impl Fn(f32) -> T,
) -> Option<()> {
    let QConvAttrs { lo, hi, .. } = *conv.attrs;
    for index in 0..part.pixels {
        let at = part.start(conv, index);
        let out = out.get_mut(at..)?.get_mut(..part.count)?;
        values::<I>(conv, part, index, |c, v| {
            if let Some(o) = out.get_mut(c) {
                *o = finish(v);
            }
            if let Some(mask) = mask.as_deref_mut() {
                set_bit(mask, at + c, passes(v, lo, hi));
            }
        })?;
    }
    Some(())
}

fn run<I: Isa, const WHOLE: bool>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !takes(call) {
        return if WHOLE { (KERNEL.run)(call) } else { Err(KernelError::Terms(call.op)) };
    }
    let (conv, error) = (QConv::new(call)?, KernelError::Memory(call.op));
    let memory = core::mem::take(&mut call.workspace);
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    let limits = Limits::new(conv.attrs);
    let plain = conv.terms.affine.is_none() && mask.is_none();
    for_each_part::<I>(&conv, memory, plain, |part| {
        if !plain {
            return write::<I, _>(&conv, part, out, mask.as_deref_mut(), |v| limits.code(v));
        }
        for index in 0..part.pixels {
            let out = out.get_mut(part.start(&conv, index)..)?.get_mut(..part.count)?;
            let terms = part.scaled::<I>(&conv, index)?;
            match part.fused {
                None => I::codes(terms, part.low::<I>(&conv, index)?, &limits, out),
                Some(term) => {
                    let low = term.term(part.channel, part.count, index)?;
                    I::codes_with(terms, low, &limits, out)?;
                }
            }
        }
        Some(())
    })
    .ok_or(error)
}

fn run_f32<I: Isa, const WHOLE: bool>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !takes(call) {
        return if WHOLE { (KERNEL_F32.run)(call) } else { Err(KernelError::Terms(call.op)) };
    }
    let (conv, error) = (QConv::new(call)?, KernelError::Memory(call.op));
    let memory = core::mem::take(&mut call.workspace);
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    let QConvAttrs { lo, hi, .. } = *conv.attrs;
    for_each_part::<I>(&conv, memory, false, |part| {
        write::<I, _>(&conv, part, out, mask.as_deref_mut(), |v| clamp(v, lo, hi))
    })
    .ok_or(error)
}

fn run_i32<I: Isa>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() {
        return Err(KernelError::Terms(call.op));
    }
    let (conv, error) = (QConv::new(call)?, KernelError::Memory(call.op));
    let memory = core::mem::take(&mut call.workspace);
    let out: &mut [i32] = call.slice_mut(0)?;
    for_each_part::<I>(&conv, memory, false, |part| {
        for index in 0..part.pixels {
            let out = out.get_mut(part.start(&conv, index)..)?;
            out.iter_mut().zip(part.scaled::<I>(&conv, index)?.0).for_each(|(o, sum)| *o = *sum);
        }
        Some(())
    })
    .ok_or(error)
}
