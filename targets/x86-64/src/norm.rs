//! f32 normalization of rows.
//!
//! # Numerics
//! The mean first, then the variance of the centered values, as the reference; sums in two vectors of partial sums each,
//! then across lanes. One division a row, where the reference has one an element: a unit in the last place more.

use ingraft_kernel::attrs::NormAttrs;
use ingraft_kernel::norm::{KERNEL as REFERENCE, RMS, normalized};
use ingraft_kernel::{Call, Kernel, KernelError};

use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, entry};

/// f32 throughout.
pub(crate) const AVX512: Kernel =
    Kernel { name: "norm_f32_f32__avx512", run: entry::<Avx512, Norm>, ..REFERENCE };

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel = Kernel { name: "norm_f32_f32__avx2", run: entry::<Avx2, Norm>, ..REFERENCE };

/// Every row of a step.
struct Norm;

impl Row for Norm {
    #[inline(always)]
    fn run<S: Simd>(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (error, attrs) = (call.operands(), *call.attrs::<NormAttrs>()?);
        let len = normalized(call.input(0)?.shape(), attrs.axes).ok_or(error)?.max(1);
        let input = call.slice::<f32>(0)?;
        let scale = if call.inputs.len() > 1 { Some(call.slice::<f32>(1)?) } else { None };
        let shift = if call.inputs.len() > 2 { Some(call.slice::<f32>(2)?) } else { None };
        let affine = [scale, shift];
        for (out, x) in call.slice_mut::<f32>(0)?.chunks_exact_mut(len).zip(input.chunks_exact(len)) {
            let [mean, inverse] = moments(simd, &attrs, x);
            normalize(simd, x, [mean, inverse], affine, out);
        }
        Ok(())
    }
}

/// The mean (0 for the root mean square) and the inverse of the deviation of a row.
#[inline(always)]
fn moments<S: Simd>(simd: S, attrs: &NormAttrs, x: &[f32]) -> [f32; 2] {
    let (whole, rest) = x.split_at(x.len() - x.len() % S::LANES);
    let (count, zero) = (x.len() as f32, simd.splat(0.0));
    let mut mean = 0.0;
    if attrs.kind != RMS {
        let mut sums = [zero; 2];
        for (index, x) in whole.chunks_exact(S::LANES).enumerate() {
            // SAFETY: the chunk is a vector.
            sums[index % 2] = simd.add(sums[index % 2], unsafe { simd.load(x.as_ptr()) });
        }
        mean = rest.iter().fold(simd.sum(simd.add(sums[0], sums[1])), |sum, x| sum + x) / count;
    }
    let (center, mut squares) = (simd.splat(mean), [zero; 2]);
    for (index, x) in whole.chunks_exact(S::LANES).enumerate() {
        // SAFETY: the chunk is a vector.
        let centered = simd.sub(unsafe { simd.load(x.as_ptr()) }, center);
        squares[index % 2] = simd.mul_add(centered, centered, squares[index % 2]);
    }
    let sum = simd.sum(simd.add(squares[0], squares[1]));
    let sum = rest.iter().fold(sum, |sum, x| sum + (x - mean) * (x - mean));
    let deviation = simd.sqrt(simd.splat(sum / count + attrs.epsilon));
    [mean, simd.largest(simd.div(simd.splat(1.0), deviation))]
}

/// `(x − mean)·inverse·scale + shift`.
#[inline(always)]
fn normalize<S: Simd>(
    simd: S,
    x: &[f32],
    [mean, inverse]: [f32; 2],
    [scale, shift]: [Option<&[f32]>; 2],
    out: &mut [f32],
) {
    let [mean, inverse] = [simd.splat(mean), simd.splat(inverse)];
    let mut at = 0;
    for (x, out) in x.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
        let count = x.len().min(out.len());
        // SAFETY: the values of a chunk are read and written, of scale and shift as many where they have them.
        unsafe {
            let mut y = simd.mul(simd.sub(simd.load_some(x.as_ptr(), count), mean), inverse);
            if let Some(scale) = scale.and_then(|scale| scale.get(at..at + count)) {
                y = simd.mul(y, simd.load_some(scale.as_ptr(), count));
            }
            if let Some(shift) = shift.and_then(|shift| shift.get(at..at + count)) {
                y = simd.add(y, simd.load_some(shift.as_ptr(), count));
            }
            simd.store(out.as_mut_ptr(), y, count);
        }
        at += count;
    }
}
