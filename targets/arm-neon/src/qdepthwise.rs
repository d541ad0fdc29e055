//! int8 depthwise convolution, vectorized over channels.
//!
//! # Numerics
//! Products are int16, sums int32. Where no weight is −128 the products of two
//! taps share an int16 before they are widened (2·127·128 fits); else each is
//! widened alone. Both are exact, and accumulators wrap.

mod taps;
mod values;

use core::arch::aarch64::int32x4_t;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qdepthwise::{KERNEL as REFERENCE, QDepthwise};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

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
    if few && requantize::fits(attrs) { Ok(()) } else { Err(KernelError::Operands(step.op)) }
}

/// An accumulator, a pre-activation value and a padding code for each channel.
fn workspace(step: &Step<'_>) -> usize {
    step.input(0).map_or(0, |x| x.shape.dims().last().map_or(0, |c| *c as usize * (4 + 4 + 1)))
}

/// One value per channel each.
struct Scratch<'m> {
    sums: &'m mut [i32],
    values: &'m mut [f32],
    /// A pixel of padding.
    padding: &'m [i8],
}

impl<'m> Scratch<'m> {
    fn new(mut memory: &'m mut [u8], conv: &QDepthwise<'_>) -> Option<Self> {
        let channels = conv.shape.output[3];
        let (sums, values) = (take(&mut memory, channels)?, take(&mut memory, channels)?);
        let padding: &mut [i8] = take(&mut memory, channels)?;
        padding.fill(conv.attrs.in_zero_point as i8);
        Some(Self { sums, values, padding })
    }
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let terms = &call.terms;
    let plain = terms.sparse.is_none() && terms.affine.is_none();
    // SAFETY: rows leave this crate only through functions whose arguments prove NEON.
    unsafe { if plain && call.outputs.len() == 1 { codes(call) } else { values::run(call) } }
}

/// A convolution without terms, but perhaps with patched weights.
#[target_feature(enable = "neon")]
fn codes(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (conv, error) = (QDepthwise::new(call)?, after_operands(call));
    let channels = conv.shape.output[3];
    let scratch = Scratch::new(core::mem::take(&mut call.workspace), &conv).ok_or(error)?;
    let out: &mut [i8] = call.slice_mut(0)?;
    let limits = Limits::new(conv.attrs);
    let mut taps = Taps::new(&conv, scratch.padding).ok_or(error)?;
    conv.shape.for_each_pixel(|index, pixel| {
        let at = index * channels;
        let out = out.get_mut(at..).and_then(|out| out.get_mut(..channels)).ok_or(error)?;
        let mut sink = Codes { out, multiplier: conv.multiplier, limits };
        taps.place(pixel).and_then(|taps| taps.sums(&mut sink)).ok_or(error)
    })
}

/// Where the sums of a pixel go.
trait Sink {
    /// Takes the sums of `4·N` channels from `channel` on.
    ///
    /// # Safety
    /// The processor executes NEON.
    unsafe fn put<const N: usize>(&mut self, channel: usize, sums: [int32x4_t; N]) -> Option<()>;

    /// Takes the sum of one channel, of a tensor with fewer channels than a vector has.
    ///
    /// # Safety
    /// The processor executes NEON.
    unsafe fn put_one(&mut self, channel: usize, sum: i32) -> Option<()>;
}

/// Requantizes sums in registers.
struct Codes<'o> {
    /// The channels of the pixel.
    out: &'o mut [i8],
    multiplier: &'o [f32],
    limits: Limits,
}

impl Sink for Codes<'_> {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn put<const N: usize>(&mut self, channel: usize, sums: [int32x4_t; N]) -> Option<()> {
        let multiplier = load_f32(&block(self.multiplier, channel));
        let out = self.out.get_mut(channel..)?.get_mut(..4 * N)?;
        requantize::store(out, self.limits.codes(&sums, &multiplier));
        Some(())
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn put_one(&mut self, channel: usize, sum: i32) -> Option<()> {
        *self.out.get_mut(channel)? = self.limits.code(sum, *self.multiplier.get(channel)?);
        Some(())
    }
}
