//! int8 depthwise convolution, vectorized over channels; windows of three columns by `SDOT` in `quads`.
//!
//! # Numerics
//! Products are int16, sums int32. Where no weight is −128 the products of two
//! taps share an int16 before they are widened (2·127·128 fits); else each is
//! widened alone. Both are exact, and accumulators wrap.

mod padded;
pub(crate) mod quads;
mod taps;
mod values;

use core::arch::aarch64::{float32x4_t, int32x4_t};

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qdepthwise::{KERNEL as REFERENCE, QDepthwise, depthwise_shape};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::{DType, bytes};

use self::taps::{MAX_TAPS, Taps};
use crate::lanes::{block, load_f32};
use crate::requantize::{self, Limits};
use crate::tile::{after_operands, take};

/// int8 output.
pub(crate) const KERNEL: Kernel =
    Kernel::new("qdepthwise_qs8_qc8w_qs8__neon", OpCode::QDepthwise, Some(DType::I8), Some(DType::I8), run)
        .checked(check)
        .with_workspace(workspace);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    (REFERENCE.check)(step)?;
    let [kh, kw] = attrs.window.kernel;
    let few = kh.checked_mul(kw).is_some_and(|taps| taps as usize <= MAX_TAPS);
    if few && attrs.fits_codes() { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

/// An accumulator and a pre-activation value for each channel, and padding for a row; or a copy with padding around it.
fn workspace(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| {
        let values = shape.output[3] * (4 + 4) + padding(&shape);
        values.max(padded::bytes(&shape))
    })
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &QConvAttrs = step.attrs().ok()?;
    depthwise_shape(attrs, step.input(0).ok()?.shape, step.output(0).ok()?.shape)
}

/// Codes of padding that may be read in a row's place.
fn padding(shape: &ConvShape) -> usize {
    shape.input[2].max(1) * shape.input[3]
}

/// Whether nothing but codes are wanted, without terms but perhaps with patched weights.
fn is_plain(call: &Call<'_, '_>) -> bool {
    !call.terms.has_delta() && call.terms.affine.is_none() && call.outputs.len() == 1
}

struct Scratch<'m> {
    sums: &'m mut [i32],
    values: &'m mut [f32],
    padding: &'m [i8],
}

impl<'m> Scratch<'m> {
    fn new(mut memory: &'m mut [u8], conv: &QDepthwise<'_>) -> Option<Self> {
        let channels = conv.shape.output[3];
        let (sums, values) = (take(&mut memory, channels)?, take(&mut memory, channels)?);
        let padding: &mut [i8] = take(&mut memory, padding(&conv.shape))?;
        padding.fill(conv.attrs.in_zero_point as i8);
        Some(Self { sums, values, padding })
    }
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { if is_plain(call) { codes(call) } else { values::run(call) } }
}

#[target_feature(enable = "neon")]
fn codes(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (conv, error) = (QDepthwise::new(call)?, after_operands(call));
    let channels = conv.shape.output[3];
    let memory = core::mem::take(&mut call.workspace);
    // A band of a layer that is not copied has that layer's workspace.
    let (conv, padding): (_, &[i8]) = match padded::bytes(&conv.shape) {
        size if size > 0 && size <= memory.len() => {
            (padded::copy(&conv, bytes::cast_mut(memory).ok_or(error)?).ok_or(error)?, &[])
        }
        _ => (conv, Scratch::new(memory, &conv).ok_or(error)?.padding),
    };
    let out: &mut [i8] = call.slice_mut(0)?;
    let limits = Limits::of(conv.attrs);
    let taps = Taps::new(&conv, padding).ok_or(error)?;
    taps.for_each_run(usize::MAX, |run| {
        let out = out.get_mut(run.index * channels..)?.get_mut(..run.pixels * channels)?;
        taps.sums(run, &mut Codes { out, channels, multiplier: conv.multiplier, limits })
    })
    .ok_or(error)
}

/// Where the sums of a run go.
///
/// # Safety
/// Every function wants a processor that executes NEON.
trait Sink {
    /// What [`Self::put`] needs of some channels for all pixels.
    type Channels<const N: usize>;

    /// Reads what belongs to the `4·N` channels from `channel` on.
    unsafe fn load<const N: usize>(&self, channel: usize) -> Self::Channels<N>;

    /// Takes the sums of these channels at a pixel of the run.
    unsafe fn put<const N: usize>(
        &mut self,
        channels: &Self::Channels<N>,
        pixel: usize,
        channel: usize,
        sums: [int32x4_t; N],
    ) -> Option<()>;

    /// Takes the sum of one channel, of a tensor with fewer channels than a vector has.
    unsafe fn put_one(&mut self, pixel: usize, channel: usize, sum: i32) -> Option<()>;
}

/// Requantizes sums in registers.
struct Codes<'o> {
    /// The pixels of the run.
    out: &'o mut [i8],
    channels: usize,
    multiplier: &'o [f32],
    limits: Limits,
}

impl Sink for Codes<'_> {
    type Channels<const N: usize> = [float32x4_t; N];

    #[inline(always)]
    unsafe fn load<const N: usize>(&self, channel: usize) -> [float32x4_t; N] {
        // SAFETY: the processor executes NEON.
        unsafe { load_f32(&block(self.multiplier, channel)) }
    }

    #[inline(always)]
    unsafe fn put<const N: usize>(
        &mut self,
        multiplier: &[float32x4_t; N],
        pixel: usize,
        channel: usize,
        sums: [int32x4_t; N],
    ) -> Option<()> {
        let out = self.out.get_mut(pixel * self.channels + channel..)?.get_mut(..4 * N)?;
        // SAFETY: the processor executes NEON.
        unsafe { requantize::store(out, self.limits.codes(&sums, multiplier)) };
        Some(())
    }

    #[inline(always)]
    unsafe fn put_one(&mut self, pixel: usize, channel: usize, sum: i32) -> Option<()> {
        let multiplier = *self.multiplier.get(channel)?;
        // SAFETY: the processor executes NEON.
        *self.out.get_mut(pixel * self.channels + channel)? = unsafe { self.limits.code(sum, multiplier) };
        Some(())
    }
}
