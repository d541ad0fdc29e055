//! f32 normalization of rows.
//!
//! # Numerics
//! The mean first, then the variance of the centered values, as the reference; sums in two vectors of partial sums each,
//! then across lanes. One division a row, where the reference has one an element: a unit in the last place more.

use ingraft_kernel::attrs::NormAttrs;
use ingraft_kernel::norm::{AFFINE, KERNEL as REFERENCE, RMS, normalized};
use ingraft_kernel::{Call, Kernel, KernelError};

use crate::vector::entry;
use crate::{Row, Vector};

/// f32 throughout.
///
/// # Safety
/// The row runs only where the instructions of `V` are.
pub const unsafe fn kernel<V: Vector>(name: &'static str) -> Kernel {
    Kernel { name, run: entry::<V, Norm>, ..REFERENCE }
}

/// Every row of a step.
struct Norm;

impl<V: Vector> Row<V> for Norm {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, v: V) -> Result<(), KernelError> {
        let (error, attrs) = (call.operands(), *call.attrs::<NormAttrs>()?);
        let len = normalized(call.input(0)?.shape(), attrs.axes).ok_or(error)?.max(1);
        let input = call.slice::<f32>(0)?;
        let (mut scale, mut shift) = (None, None);
        if let Some(affine) = call.terms.of_norm(call.op, len)? {
            (scale, shift) = (Some(affine.scale), Some(affine.shift));
        } else {
            if call.inputs.len() > 1 {
                scale = Some(call.slice::<f32>(1)?);
            }
            if call.inputs.len() > 2 {
                shift = Some(call.slice::<f32>(2)?);
            }
        }
        let affine = [scale, shift];
        for (out, x) in call.slice_mut::<f32>(0)?.chunks_exact_mut(len).zip(input.chunks_exact(len)) {
            let [mean, inverse] = moments(v, &attrs, x);
            normalize(v, x, [mean, inverse], affine, out);
        }
        Ok(())
    }
}

/// The mean (0 for the root mean square) and the inverse of the deviation of a row; 0 and 1 where it is not normalized.
#[inline(always)]
fn moments<V: Vector>(v: V, attrs: &NormAttrs, x: &[f32]) -> [f32; 2] {
    if attrs.kind == AFFINE {
        return [0.0, 1.0];
    }
    let (whole, rest) = x.split_at(x.len() - x.len() % V::LANES);
    let (count, zero) = (x.len() as f32, v.splat(0.0));
    let mut mean = 0.0;
    if attrs.kind != RMS {
        let mut sums = [zero; 2];
        for (index, x) in whole.chunks_exact(V::LANES).enumerate() {
            // SAFETY: the chunk is a vector.
            sums[index % 2] = v.add(sums[index % 2], unsafe { v.load(x.as_ptr()) });
        }
        mean = rest.iter().fold(v.sum(v.add(sums[0], sums[1])), |sum, x| sum + x) / count;
    }
    let (center, mut squares) = (v.splat(mean), [zero; 2]);
    for (index, x) in whole.chunks_exact(V::LANES).enumerate() {
        // SAFETY: the chunk is a vector.
        let centered = v.sub(unsafe { v.load(x.as_ptr()) }, center);
        squares[index % 2] = v.mul_add(centered, centered, squares[index % 2]);
    }
    let sum = v.sum(v.add(squares[0], squares[1]));
    let sum = rest.iter().fold(sum, |sum, x| sum + (x - mean) * (x - mean));
    let deviation = v.sqrt(v.splat(sum / count + attrs.epsilon));
    [mean, v.largest(v.div(v.splat(1.0), deviation))]
}

/// `(x − mean)·inverse·scale + shift`.
#[inline(always)]
fn normalize<V: Vector>(
    v: V,
    x: &[f32],
    [mean, inverse]: [f32; 2],
    [scale, shift]: [Option<&[f32]>; 2],
    out: &mut [f32],
) {
    let [mean, inverse] = [v.splat(mean), v.splat(inverse)];
    let mut at = 0;
    for (x, out) in x.chunks(V::LANES).zip(out.chunks_mut(V::LANES)) {
        let count = x.len().min(out.len());
        // SAFETY: the values of a chunk are read and written, of scale and shift as many where they have them.
        unsafe {
            let mut y = v.mul(v.sub(v.load_some(x.as_ptr(), count), mean), inverse);
            if let Some(scale) = scale.and_then(|scale| scale.get(at..at + count)) {
                y = v.mul(y, v.load_some(scale.as_ptr(), count));
            }
            if let Some(shift) = shift.and_then(|shift| shift.get(at..at + count)) {
                y = v.add(y, v.load_some(shift.as_ptr(), count));
            }
            v.store_some(out.as_mut_ptr(), y, count);
        }
        at += count;
    }
}
