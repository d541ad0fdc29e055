//! The same by products in f16, for who asks for it.
//!
//! # Numerics
//! As in [`crate::half`], a window being one run: within `(T + 3)·u·Σ|x·w| + T·max|w|·(2⁻¹⁷ + 2⁻²³·max|x|)` of the exact sum
//! of T taps.

use core::arch::aarch64::*;

use ingraft_kernel::depthwise::KERNEL as REFERENCE;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use super::Depthwise;
use super::strip::{Layer, Strip, Taps, has_code};
use crate::asm::{fmla, widen};
use crate::conv::shape;
use crate::half::{RUN, activations, weights};
use crate::panel::constant;
use crate::tile::{after_operands, take};

/// f32 in and out, products in f16; active terms and masks take the row in f32.
pub(crate) const KERNEL: Kernel =
    Kernel::new("depthwise_f32_f32_f32__fp16", OpCode::Depthwise, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace)
        .with_packed(packed, pack);

/// Windows with code of their own, with weights that can be packed at bind.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let pays = || shape(step).map(|shape| has_code(&shape, Halves::BLOCK) && shape.row() <= RUN);
    weights::check(step, &REFERENCE, &[1], pays)
}

/// The input in f16, or what the row in f32 takes.
fn workspace(step: &Step<'_>) -> usize {
    let halves = shape(step).map_or(0, |shape| shape.input.iter().product::<usize>() * 2);
    halves.max((super::KERNEL.workspace)(step))
}

fn packed(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| shape.output[3] * (4 + 2 * shape.row()))
}

fn pack(step: &Step<'_>, out: &mut [u8]) -> Result<(), KernelError> {
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { pack_channels(&shape, constant(step, 1)?, out) }.ok_or(KernelError::Memory(step.op))
}

#[target_feature(enable = "neon")]
fn pack_channels(shape: &ConvShape, weight: &[f32], out: &mut [u8]) -> Option<()> {
    let channels = shape.output[3];
    let (scales, halves) = weights::split_mut(out, channels)?;
    for (channel, scale) in scales.iter_mut().enumerate() {
        let window = weight.get(channel..)?.iter().step_by(channels);
        *scale = weights::pack(window, halves.get_mut(channel..)?.iter_mut().step_by(channels));
    }
    Some(())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: this row leaves this crate only against a proof of f16 arithmetic.
    unsafe { compute(call) }
}

#[target_feature(enable = "neon,fp16")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = Depthwise::new(call)?;
    if !conv.is_plain(call) {
        return (super::KERNEL.run)(call);
    }
    let (error, channels) = (after_operands(call), conv.shape.output[3]);
    let mut memory = core::mem::take(&mut call.workspace);
    let input: &mut [u16] = take(&mut memory, conv.input.len()).ok_or(error)?;
    activations(conv.input, input);
    let (scales, weight) = weights::split(call.packed, channels).ok_or(error)?;
    let taps = Halves { scales, bias: conv.bias };
    let bounds = [conv.attrs.lo, conv.attrs.hi];
    let layer = Layer { shape: &conv.shape, input, weight, taps, bounds };
    // SAFETY: f16 arithmetic is an attribute of this function, and there are a scale and a bias for every channel.
    unsafe { layer.compute(call.slice_mut(0)?) }.ok_or(error)
}

/// Products in f16.
struct Halves<'a> {
    scales: &'a [f32],
    bias: &'a [f32],
}

/// Sixteen channels in f32.
type Sixteen = [float32x4_t; 4];

impl Taps for Halves<'_> {
    type Element = u16;
    type Vector = uint16x8_t;
    type Channels = [Sixteen; 2];
    type Reals = Sixteen;
    const BLOCK: usize = 16;

    #[inline(always)]
    unsafe fn channels(&self, first: usize) -> [Sixteen; 2] {
        [self.scales, self.bias].map(|values| {
            let from = values.as_ptr().wrapping_add(first);
            // SAFETY: the caller's contract.
            core::array::from_fn(|n| unsafe { vld1q_f32(from.wrapping_add(4 * n)) })
        })
    }

    #[inline(always)]
    unsafe fn start(_: &[Sixteen; 2]) -> [uint16x8_t; 2] {
        // SAFETY: the caller's contract.
        unsafe { [vdupq_n_u16(0); 2] }
    }

    #[inline(always)]
    unsafe fn load(from: *const u16) -> [uint16x8_t; 2] {
        // SAFETY: the caller's contract.
        unsafe { [vld1q_u16(from), vld1q_u16(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn add(sum: uint16x8_t, w: uint16x8_t, x: uint16x8_t) -> uint16x8_t {
        // SAFETY: the caller's contract.
        unsafe { fmla(sum, w, x) }
    }

    #[inline(always)]
    unsafe fn finish([scales, bias]: &[Sixteen; 2], [low, high]: [uint16x8_t; 2]) -> Sixteen {
        // SAFETY: the caller's contract.
        unsafe {
            let ([a, b], [c, d]) = (widen(low), widen(high));
            let mut reals = [a, b, c, d];
            for ((real, scale), bias) in reals.iter_mut().zip(scales).zip(bias) {
                *real = vfmaq_f32(*bias, *real, *scale);
            }
            reals
        }
    }

    #[inline(always)]
    unsafe fn enter<const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(strip: &Strip<'_, Self>) {
        // SAFETY: the caller's contract.
        unsafe { halves::<WIDTH, STRIDE, MASKED>(strip) }
    }
}

/// # Safety
/// Those of [`Strip::compute`].
#[inline(never)]
#[target_feature(enable = "neon,fp16")]
unsafe fn halves<const WIDTH: usize, const STRIDE: usize, const MASKED: bool>(strip: &Strip<'_, Halves<'_>>) {
    // SAFETY: the caller's contract.
    unsafe { strip.compute::<WIDTH, STRIDE, MASKED>() }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use ingraft_tensor::bytes;

    use super::*;
    use crate::depthwise::Floats;
    use crate::half::tests::{bound, largest, values};

    const WINDOWS: [([usize; 2], usize, [usize; 2]); 6] = [
        ([3, 3], 1, [1, 1]),
        ([5, 5], 1, [2, 2]),
        ([3, 3], 2, [0, 1]),
        ([5, 5], 2, [2, 1]),
        ([1, 5], 1, [0, 4]),
        ([8, 3], 2, [7, 0]),
    ];

    /// Lines of every length and blocks of channels that overlap, in f32 and in f16, against exact sums.
    #[test]
    fn strips_stay_within_the_bound() {
        for (case, (kernel, stride, pad)) in WINDOWS.into_iter().enumerate() {
            for width in [1, 7, 8, 17, 30] {
                for (channels, octaves, top) in [(16, 1, 1.0), (40, 4, 65504.0), (33, 12, 1e-3)] {
                    let across = |extent: usize, axis: usize| {
                        (extent + 2 * pad[axis]).checked_sub(kernel[axis]).map(|last| last / stride + 1)
                    };
                    let (Some(down), Some(across)) = (across(4, 0), across(width, 1)) else { continue };
                    let shape = ConvShape {
                        input: [2, 4, width, channels],
                        output: [2, down, across, channels],
                        kernel,
                        stride: [stride; 2],
                        dilation: [1; 2],
                        pad,
                        groups: channels,
                        in_group: 1,
                        out_group: 1,
                    };
                    let mut x = values(shape.input.iter().product(), case as u32, octaves, top);
                    x[..channels].fill(-top);
                    let w = values(shape.row() * channels, 7, octaves, top.recip());
                    compare(&shape, &x, &w);
                }
            }
        }
    }

    fn compare(shape: &ConvShape, x: &[f32], w: &[f32]) {
        let channels = shape.output[3];
        let bias: Vec<f32> = (0..channels).map(|i| i as f32 - 3.0).collect();
        let bounds = [f32::NEG_INFINITY, f32::INFINITY];
        let mut floats = vec![f32::NAN; shape.output.iter().product()];
        let mut halves = floats.clone();
        let layer = Layer { shape, input: x, weight: w, taps: Floats { bias: &bias }, bounds };
        // SAFETY: tests run where NEON is, as on every processor with an operating system.
        unsafe { layer.compute(&mut floats) }.unwrap();
        check(shape, x, w, &bias, &floats, |_, size, _| size * 1e-6);
        let Some(_) = crate::Fp16::detect() else { return };
        let (mut packed, mut input) = (vec![0u32; channels + w.len().div_ceil(2)], vec![0; x.len()]);
        // SAFETY: f16 arithmetic was found.
        unsafe {
            let packed = &mut bytes::of_mut(&mut packed)[..4 * channels + 2 * w.len()];
            pack_channels(shape, w, packed).unwrap();
            activations(x, &mut input);
            let (scales, weight) = weights::split(packed, channels).unwrap();
            let taps = Halves { scales, bias: &bias };
            Layer { shape, input: &input, weight, taps, bounds }.compute(&mut halves).unwrap();
        }
        let (taps, largest_x) = (shape.row(), largest(x));
        check(shape, x, w, &bias, &halves, |channel, size, want| {
            let of_channel = largest(w.iter().skip(channel).step_by(channels));
            bound(taps, taps, size, [largest_x, of_channel]) + want.abs() * 1e-6
        });
    }

    /// Compares with exact sums, within `bound(channel, Σ|x·w|, value)`.
    fn check(
        shape: &ConvShape,
        x: &[f32],
        w: &[f32],
        bias: &[f32],
        have: &[f32],
        bound: impl Fn(usize, f64, f64) -> f64,
    ) {
        let channels = shape.output[3];
        let visit = |index: usize, pixel| {
            for (channel, bias) in bias.iter().enumerate() {
                let (mut want, mut size) = (f64::from(*bias), f64::from(bias.abs()));
                for tap in 0..shape.row() {
                    let (ky, kx) = (tap / shape.kernel[1], tap % shape.kernel[1]);
                    if let Some(at) = shape.tap(pixel, ky, kx) {
                        let product =
                            f64::from(x[at * channels + channel]) * f64::from(w[tap * channels + channel]);
                        (want, size) = (want + product, size + product.abs());
                    }
                }
                let have = f64::from(have[index * channels + channel]);
                let (error, bound) = ((have - want).abs(), bound(channel, size, want));
                assert!(
                    error <= bound,
                    "{shape:?} pixel {index} channel {channel}: {have}, not {want} ({bound})"
                );
            }
            Ok::<(), ()>(())
        };
        shape.for_each_pixel(visit).unwrap();
    }
}
