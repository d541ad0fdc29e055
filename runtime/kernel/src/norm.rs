//! Normalization over the innermost axes.
//!
//! Layer: `y = (x − mean)/√(var + ε)·scale + shift`. Root mean square:
//! `y = x/√(mean(x²) + ε)·scale + shift`. Group and instance normalization are
//! reshapes around the same kernel, and behind them a step of scale and shift alone, `y = x·scale + shift`. An adapter's scale
//! and shift are used in place of the step's own.

use ingraft_tensor::arrays::arrays;
use ingraft_tensor::{DType, Shape};

use crate::attrs::NormAttrs;
use crate::walk::Rows;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// f32 normalization.
///
/// # Shapes
/// Inputs: x of any shape; optionally scale, optionally shift, each with as many
/// elements as the normalized axes together. Output like x.
///
/// # Numerics
/// Mean first, then the variance of the centered values, all in f32 and in eight interleaved partial sums.
///
/// # Errors
/// [`KernelError::Terms`] for other terms than a scale and shift of that many elements.
pub const KERNEL: Kernel =
    Kernel::new("norm_f32_f32__scalar", OpCode::Norm, Some(DType::F32), Some(DType::F32), run).checked(check);

/// [`NormAttrs::kind`]: centered and divided by the standard deviation.
pub const LAYER: u32 = 0;
/// [`NormAttrs::kind`]: divided by the root mean square.
pub const RMS: u32 = 1;
/// [`NormAttrs::kind`]: as it is; what was normalized before gets its scale and shift.
pub const AFFINE: u32 = 2;

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &NormAttrs = step.attrs()?;
    check::same_elements(step, 0)?;
    let len = normalized(step.input(0)?.shape, attrs.axes).ok_or(KernelError::Operands(step.op))?;
    let known = attrs.kind <= AFFINE && attrs.epsilon >= 0.0 && attrs.epsilon.is_finite();
    let counts = (1..=3).contains(&step.inputs().len()) && step.outputs().len() == 1;
    let f32s = step.inputs().iter().all(|x| x.dtype == DType::F32);
    let fits = step.inputs().iter().skip(1).all(|x| x.shape.elements() == len);
    check::require(step, known && counts && f32s && fits)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &NormAttrs = call.attrs()?;
    let input = call.slice::<f32>(0)?;
    let len = normalized(call.input(0)?.shape(), attrs.axes).ok_or(call.operands())?.max(1);
    let optional =
        |index| if index < call.inputs.len() { call.slice::<f32>(index).map(Some) } else { Ok(None) };
    let (scale, shift) = match call.terms.of_norm(call.op, len)? {
        Some(affine) => (Some(affine.scale), Some(affine.shift)),
        None => (optional(1)?, optional(2)?),
    };
    let out = call.slice_mut::<f32>(0)?;
    for (out, input) in out.chunks_exact_mut(len.max(1)).zip(Rows::new(input, len)) {
        normalize(attrs, input, out);
        if let Some(scale) = scale {
            out.iter_mut().zip(scale).for_each(|(y, s)| *y *= s);
        }
        if let Some(shift) = shift {
            out.iter_mut().zip(shift).for_each(|(y, s)| *y += s);
        }
    }
    Ok(())
}

fn normalize(attrs: &NormAttrs, input: &[f32], out: &mut [f32]) {
    let (mean, deviation) = moments(attrs, input);
    out.iter_mut().zip(input).for_each(|(y, x)| *y = (x - mean) / deviation);
}

/// The mean (0 for the root mean square) and the deviation of one row; 0 and 1 where it is not normalized.
pub(crate) fn moments(attrs: &NormAttrs, input: &[f32]) -> (f32, f32) {
    if attrs.kind == AFFINE {
        return (0.0, 1.0);
    }
    let count = input.len() as f32;
    let mean = if attrs.kind == RMS { 0.0 } else { sum(input) / count };
    let (rows, tail) = arrays::<_, 8>(input);
    let mut sums = [0.0f32; 8];
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(s, x)| *s += (x - mean) * (x - mean));
    }
    let squares = tail.iter().map(|x| (x - mean) * (x - mean));
    let variance = sums.into_iter().chain(squares).sum::<f32>() / count;
    (mean, libm::sqrtf(variance + attrs.epsilon))
}

/// `Σ x` in eight interleaved partial sums, as [`dot`] has them.
fn sum(values: &[f32]) -> f32 {
    let (rows, tail) = arrays::<_, 8>(values);
    let mut sums = [0.0f32; 8];
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    sums.iter().chain(tail).sum()
}

/// Elements of the `axes` innermost axes; `None` where there are fewer axes.
pub fn normalized(shape: Shape, axes: u32) -> Option<usize> {
    let outer = shape.rank().checked_sub(axes as usize)?;
    Some(shape.dims().iter().skip(outer).fold(1usize, |n, &d| n.wrapping_mul(d as usize)))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::test_case::{Random, Tensor, assert_close, run};

    #[test]
    fn agrees_with_naive() {
        let mut random = Random(61);
        for (dims, axes, kind, operands) in [
            (&[3u32, 5, 7][..], 1, LAYER, 3),
            (&[3, 5, 7], 2, LAYER, 2),
            (&[2, 384], 1, RMS, 3),
            (&[4, 9], 1, RMS, 1),
            (&[4, 3, 9], 1, AFFINE, 3),
            (&[5, 4], 1, AFFINE, 2),
            (&[6], 0, LAYER, 1),
        ] {
            let n: u32 = dims.iter().product();
            let len: u32 = dims[dims.len() - axes as usize..].iter().product();
            let x = random.floats(n as usize, -1.0, 5.0);
            let scale = random.floats(len as usize, -2.0, 2.0);
            let shift = random.floats(len as usize, -2.0, 2.0);
            let attrs = NormAttrs { kind, axes, epsilon: 1e-5 };
            let inputs = [&Tensor::new(dims, &x), &Tensor::new(&[len], &scale), &Tensor::new(&[len], &shift)];
            let mut out = Tensor::zeros(DType::F32, dims);
            run(&KERNEL, &attrs, &inputs[..operands], &mut [&mut out]).unwrap();
            let mut want = std::vec::Vec::new();
            for row in x.chunks(len as usize) {
                let count = row.len() as f64;
                let mean = row.iter().map(|&v| v as f64).sum::<f64>() / count;
                let mean = if kind == LAYER { mean } else { 0.0 };
                let variance = row.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / count;
                let deviation = if kind == AFFINE { 1.0 } else { (variance + 1e-5f32 as f64).sqrt() };
                for (i, &v) in row.iter().enumerate() {
                    let y = (v as f64 - mean) / deviation;
                    let scale = if operands > 1 { scale[i] as f64 } else { 1.0 };
                    want.push(y * scale + if operands > 2 { shift[i] as f64 } else { 0.0 });
                }
            }
            assert_close(&out.values(), &want, 1e-5);
        }
    }

    #[test]
    fn refuses_more_axes_than_there_are() {
        let (x, mut out) = (Tensor::zeros(DType::F32, &[4]), Tensor::zeros(DType::F32, &[4]));
        let attrs = NormAttrs { kind: LAYER, axes: 2, epsilon: 1e-5 };
        assert!(run(&KERNEL, &attrs, &[&x], &mut [&mut out]).is_err());
        let attrs = NormAttrs { kind: LAYER, axes: 1, epsilon: f32::NAN };
        assert!(run(&KERNEL, &attrs, &[&x], &mut [&mut out]).is_err());
    }
}
