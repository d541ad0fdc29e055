//! f32 depthwise convolution: a vector of channels of up to eight neighboring pixels in registers.
//!
//! # Blocking
//! - A strip is up to [`strip::PIXELS`] neighboring pixels by one vector of channels, and goes down the lines of a band. A row
//!   of the window costs `kw` loads of weights and, for the windows with code of their own, one load of each column that
//!   any pixel of the strip sees.
//! - Bands are lines whose input stays in the second-level cache while all channels and strips go over them.
//!
//! # Limit
//! One fused multiply-add per tap and vector; 3×3 with stride 1 loads 13 vectors for 24 of them, 5×5 with stride 2
//! 24 for 40. Strips at the border, and those of a last, partial vector, are the same code with masks.
//!
//! # Numerics
//! One fused multiply-add per tap, in the reference's order from the bias on. Taps in the padding left and right
//! add a product with zero.

mod strip;

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::depthwise::KERNEL as REFERENCE;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode};
use ingraft_tensor::DType;

use crate::avx2::depthwise as avx2;
use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, entry};
use strip::{Layer, PIXELS, Strip};

/// f32 throughout; active terms and masks take the row that reads weights in place.
pub(crate) const AVX512: Kernel = Kernel::new(
    "depthwise_f32_f32_f32__avx512",
    OpCode::Depthwise,
    Some(DType::F32),
    Some(DType::F32),
    run::<Avx512>,
)
.checked(REFERENCE.check)
.with_workspace(avx2::workspace);

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel =
    Kernel { name: "depthwise_f32_f32_f32__avx2strip", run: run::<Avx2>, ..AVX512 };

/// Bytes of input lines that are worked on together.
const BAND: usize = 256 << 10;

fn run<S: Simd>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() || call.outputs.len() > 1 {
        return (avx2::KERNEL.run)(call);
    }
    entry::<S, Strips>(call)
}

/// The layer without terms.
struct Strips;

impl<S: Simd> Row<S> for Strips {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let error = call.operands();
        let attrs: &ConvAttrs = call.attrs()?;
        let (from, to) = (call.input(0)?.shape(), call.output(0)?.shape());
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, from, to).ok_or(error)?;
        let (input, weight, bias): (&[f32], &[f32], &[f32]) =
            (call.slice(0)?, call.slice(1)?, call.slice(2)?);
        let layer = Layer { shape: &shape, weight, bias, bounds: [attrs.lo, attrs.hi] };
        let [image, result] = [shape.input, shape.output].map(|[_, h, w, c]| h * w * c);
        let out = call.slice_mut::<f32>(0)?.chunks_exact_mut(result.max(1));
        for (input, out) in input.chunks_exact(image.max(1)).zip(out) {
            sample(simd, &layer, input, out).ok_or(error)?;
        }
        Ok(())
    }
}

/// One sample.
#[inline(always)]
fn sample<S: Simd>(simd: S, layer: &Layer<'_>, input: &[f32], out: &mut [f32]) -> Option<()> {
    let ConvShape { input: [_, _, width, channels], output: [_, height, across, _], stride, .. } =
        *layer.shape;
    let whole = layer.whole();
    let line = width * channels * stride[0] * size_of::<f32>();
    let lines = BAND.checked_div(line).unwrap_or(height).max(1);
    for band in (0..height).step_by(lines) {
        let lines = band..height.min(band + lines);
        for first in (0..channels).step_by(S::LANES) {
            let mut x = 0;
            while x < across {
                let count = PIXELS.min(across - x);
                let masked = channels - first < S::LANES || x < whole.start || x + count > whole.end;
                Strip { first, x, count, masked }.compute(simd, layer, input, out, lines.clone())?;
                x += count;
            }
        }
    }
    Some(())
}
