//! Between real values and int8 codes; steps with a mask take the reference.
//!
//! # Numerics
//! The reference's operations, division included: equal to the bit.

use ingraft_kernel::attrs::QuantizeAttrs;
use ingraft_kernel::quantize::{
    KERNEL as QUANTIZE, KERNEL_DEQUANTIZE as DEQUANTIZE, KERNEL_DYNAMIC as DYNAMIC,
    KERNEL_REQUANTIZE as REQUANTIZE, dynamic_parameters,
};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{TOGETHER, block, each, load_codes, load_reals, store_codes, store_reals};
use crate::features::{Avx2, Avx512};
use crate::qconv::Bounds;
use crate::simd::{Row, Simd, entry};

/// f32 to int8.
pub(crate) const QUANTIZE_AVX512: Kernel =
    Kernel { name: "quantize_f32_qs8__avx512", run: entry::<Avx512, Quantize>, ..QUANTIZE }
        .checked(check_quantize);

/// As [`QUANTIZE_AVX512`], on vectors of 256 bits.
pub(crate) const QUANTIZE_AVX2: Kernel =
    Kernel { name: "quantize_f32_qs8__avx2", run: entry::<Avx2, Quantize>, ..QUANTIZE_AVX512 };

/// int8 to f32.
pub(crate) const DEQUANTIZE_AVX512: Kernel =
    Kernel { name: "dequantize_qs8_f32__avx512", run: entry::<Avx512, Dequantize>, ..DEQUANTIZE };

/// As [`DEQUANTIZE_AVX512`], on vectors of 256 bits.
pub(crate) const DEQUANTIZE_AVX2: Kernel =
    Kernel { name: "dequantize_qs8_f32__avx2", run: entry::<Avx2, Dequantize>, ..DEQUANTIZE };

/// int8 to int8 with other quantization parameters.
pub(crate) const REQUANTIZE_AVX512: Kernel =
    Kernel { name: "requantize_qs8_qs8__avx512", run: entry::<Avx512, Requantize>, ..REQUANTIZE }
        .checked(check_requantize);

/// As [`REQUANTIZE_AVX512`], on vectors of 256 bits.
pub(crate) const REQUANTIZE_AVX2: Kernel =
    Kernel { name: "requantize_qs8_qs8__avx2", run: entry::<Avx2, Requantize>, ..REQUANTIZE_AVX512 };

/// f32 to int8 with a range found at run time.
pub(crate) const DYNAMIC_AVX512: Kernel =
    Kernel { name: "quantize_f32_qd8__avx512", run: entry::<Avx512, Dynamic>, ..DYNAMIC };

/// As [`DYNAMIC_AVX512`], on vectors of 256 bits.
pub(crate) const DYNAMIC_AVX2: Kernel =
    Kernel { name: "quantize_f32_qd8__avx2", run: entry::<Avx2, Dynamic>, ..DYNAMIC };

fn check_quantize(step: &Step<'_>) -> Result<(), KernelError> {
    (QUANTIZE.check)(step)?;
    unmasked(step)
}

fn check_requantize(step: &Step<'_>) -> Result<(), KernelError> {
    (REQUANTIZE.check)(step)?;
    unmasked(step)
}

fn unmasked(step: &Step<'_>) -> Result<(), KernelError> {
    (step.outputs().len() == 1).then_some(()).ok_or(KernelError::Operands(step.op))
}

/// Real values to codes of known parameters.
struct Quantize;

impl<S: Simd> Row<S> for Quantize {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (attrs, input): (&QuantizeAttrs, &[f32]) = (call.attrs()?, call.slice(0)?);
        let bounds = Bounds::new(simd, attrs.lo, attrs.hi, attrs.out_zero_point);
        codes(simd, input, attrs.out_scale, bounds, call.slice_mut(0)?);
        Ok(())
    }
}

/// Real values to codes of the range they have.
struct Dynamic;

impl<S: Simd> Row<S> for Dynamic {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let input: &[f32] = call.slice(0)?;
        let [min, max] = range(simd, input);
        let (scale, zero_point) = dynamic_parameters(min, max);
        // The zero point of the unsigned codes is the distance of zero from the lowest code.
        let (lo, hi) = (-zero_point as f32, (255 - zero_point) as f32);
        let zero_point = zero_point - 128;
        codes(simd, input, scale, Bounds::new(simd, lo, hi, zero_point), call.slice_mut(0)?);
        call.slice_mut::<f32>(1)?.fill(scale);
        call.slice_mut::<i8>(2)?.fill(zero_point as i8);
        Ok(())
    }
}

/// Codes of `input`; NaN becomes the zero point.
#[inline(always)]
fn codes<S: Simd>(simd: S, input: &[f32], scale: f32, bounds: Bounds<S>, out: &mut [i8]) {
    let scale = simd.splat(scale);
    for (x, out) in input.chunks(block::<S>()).zip(out.chunks_mut(block::<S>())) {
        let values = each(load_reals(simd, x), |v| simd.number(simd.div(v, scale)));
        store_codes(simd, out, values, &bounds);
    }
}

/// The least and the largest value, zero among them; NaN is neither.
#[inline(always)]
fn range<S: Simd>(simd: S, input: &[f32]) -> [f32; 2] {
    let (mut least, mut most) = ([simd.splat(0.0); TOGETHER], [simd.splat(0.0); TOGETHER]);
    for x in input.chunks(block::<S>()) {
        // The zeros past the last are in the range anyway; with NaN first both operations give their second operand.
        for ((v, least), most) in load_reals(simd, x).into_iter().zip(&mut least).zip(&mut most) {
            (*least, *most) = (simd.min(v, *least), simd.max(v, *most));
        }
    }
    let least = least.into_iter().fold(simd.splat(0.0), |a, b| simd.min(a, b));
    let most = most.into_iter().fold(simd.splat(0.0), |a, b| simd.max(a, b));
    [-simd.largest(simd.sub(simd.splat(0.0), least)), simd.largest(most)]
}

/// Codes to real values.
struct Dequantize;

impl<S: Simd> Row<S> for Dequantize {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (attrs, input): (&QuantizeAttrs, &[i8]) = (call.attrs()?, call.slice(0)?);
        let (real, out) = (Real::new(simd, attrs), call.slice_mut::<f32>(0)?);
        for (codes, out) in input.chunks(block::<S>()).zip(out.chunks_mut(block::<S>())) {
            store_reals(simd, out, real.of(simd, load_codes(simd, codes)));
        }
        Ok(())
    }
}

/// Codes to codes of other parameters.
struct Requantize;

impl<S: Simd> Row<S> for Requantize {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (attrs, input): (&QuantizeAttrs, &[i8]) = (call.attrs()?, call.slice(0)?);
        let bounds = Bounds::new(simd, attrs.lo, attrs.hi, attrs.out_zero_point);
        let (real, scale) = (Real::new(simd, attrs), simd.splat(attrs.out_scale));
        let out = call.slice_mut::<i8>(0)?;
        for (codes, out) in input.chunks(block::<S>()).zip(out.chunks_mut(block::<S>())) {
            let values = real.of(simd, load_codes(simd, codes));
            store_codes(simd, out, each(values, |v| simd.div(v, scale)), &bounds);
        }
        Ok(())
    }
}

/// The real values of codes.
struct Real<S: Simd> {
    /// The negative zero point.
    zero: S::Int,
    scale: S::Real,
}

impl<S: Simd> Real<S> {
    #[inline(always)]
    fn new(simd: S, attrs: &QuantizeAttrs) -> Self {
        Self { zero: simd.splat_int(attrs.in_zero_point.wrapping_neg()), scale: simd.splat(attrs.in_scale) }
    }

    #[inline(always)]
    fn of(&self, simd: S, codes: [S::Int; TOGETHER]) -> [S::Real; TOGETHER] {
        each(codes, |code| simd.mul(simd.to_real(simd.add_int(code, self.zero)), self.scale))
    }
}
