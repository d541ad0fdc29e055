//! f32 depthwise convolution, 64 channels of a pixel at a time in registers.
//!
//! # Numerics
//! One fused multiply-add per tap, in the reference's order from the bias on.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::depthwise::KERNEL as REFERENCE;
use ingraft_kernel::window::{ConvShape, Pixel};
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Step};
use ingraft_tensor::DType;

use crate::avx2::depthwise as avx2;

/// f32 throughout; active terms and masks take the AVX2 row.
pub(crate) const AVX512: Kernel =
    Kernel::new("depthwise_f32_f32_f32__avx512", OpCode::Depthwise, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(REFERENCE.workspace);

/// Most taps of a window: what the list of those inside the image holds.
const MOST_TAPS: usize = 128;

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let attrs: &ConvAttrs = step.attrs()?;
    let [height, width] = attrs.window.kernel.map(|extent| extent as usize);
    let few = height.checked_mul(width).is_some_and(|taps| taps <= MOST_TAPS);
    few.then_some(()).ok_or(KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() || call.outputs.len() > 1 {
        return (avx2::KERNEL.run)(call);
    }
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx512f")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let attrs: &ConvAttrs = call.attrs()?;
    let (from, to) = (call.input(0)?.shape(), call.output(0)?.shape());
    let shape = ConvShape::new(&attrs.window, attrs.groups as usize, from, to).ok_or(error)?;
    let (input, weight, bias): (&[f32], &[f32], &[f32]) = (call.slice(0)?, call.slice(1)?, call.slice(2)?);
    let channels = shape.output[3];
    let fits = shape.in_group == 1 && shape.out_group == 1 && shape.row() <= MOST_TAPS;
    if !fits || weight.len() != shape.row() * channels || bias.len() != channels {
        return Err(error);
    }
    let bounds = [_mm512_set1_ps(attrs.lo), _mm512_set1_ps(attrs.hi)];
    let mut pixels = call.slice_mut::<f32>(0)?.chunks_exact_mut(channels.max(1));
    let mut taps = Taps { list: [(0, 0); MOST_TAPS], count: 0 };
    shape.for_each_pixel(|_, pixel| {
        taps.find(&shape, pixel);
        let out = pixels.next().ok_or(error)?;
        let taps = taps.list.get(..taps.count).ok_or(error)?;
        for start in (0..channels).step_by(BLOCK) {
            block(input, weight, bias, taps, start, channels, bounds, out).ok_or(error)?;
        }
        Ok(())
    })
}

/// Channels of a block.
const BLOCK: usize = 64;

/// The taps of a pixel inside the image: position in the input, and in the window.
struct Taps {
    list: [(usize, usize); MOST_TAPS],
    count: usize,
}

impl Taps {
    #[inline(always)]
    fn find(&mut self, shape: &ConvShape, pixel: Pixel) {
        self.count = 0;
        for ky in 0..shape.kernel[0] {
            for kx in 0..shape.kernel[1] {
                let Some(at) = shape.tap(pixel, ky, kx) else { continue };
                if let Some(slot) = self.list.get_mut(self.count) {
                    *slot = (at, ky * shape.kernel[1] + kx);
                    self.count += 1;
                }
            }
        }
    }
}

/// Up to 64 channels from `start` of one pixel.
#[allow(clippy::too_many_arguments, reason = "a leaf that is inlined")]
#[inline]
#[target_feature(enable = "avx512f")]
fn block(
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    taps: &[(usize, usize)],
    start: usize,
    channels: usize,
    [lo, hi]: [__m512; 2],
    out: &mut [f32],
) -> Option<()> {
    let count = BLOCK.min(channels - start);
    let masks: [u16; 4] = [0, 16, 32, 48].map(|first: usize| match count.saturating_sub(first) {
        16.. => u16::MAX,
        left => (1 << left) - 1,
    });
    let mut sums = load(bias.get(start..)?.get(..count)?, masks);
    for (at, tap) in taps {
        let x = load(input.get(at * channels + start..)?.get(..count)?, masks);
        let w = load(weight.get(tap * channels + start..)?.get(..count)?, masks);
        for (sum, (x, w)) in sums.iter_mut().zip(x.into_iter().zip(w)) {
            *sum = _mm512_fmadd_ps(x, w, *sum);
        }
    }
    let out = out.get_mut(start..)?.get_mut(..count)?;
    for (n, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
        let value = _mm512_min_ps(_mm512_max_ps(sum, lo), hi);
        // SAFETY: the masks select only the `count` values that `out` has.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().wrapping_add(n * 16), mask, value) };
    }
    Some(())
}

/// Four vectors, zero where the masks say so.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32], masks: [u16; 4]) -> [__m512; 4] {
    let mut vectors = [_mm512_setzero_ps(); 4];
    for (n, (vector, mask)) in vectors.iter_mut().zip(masks).enumerate() {
        // SAFETY: the masks select only values that the slice has.
        *vector = unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().wrapping_add(n * 16)) };
    }
    vectors
}
