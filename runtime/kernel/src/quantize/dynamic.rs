//! Quantization with a range found at run time.

use ingraft_tensor::{DType, SCALE_MAX, SCALE_MIN, round_half_even};

use crate::requantize::{clamp, to_code};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `DynamicQuantizeLinear`. No attributes.
///
/// # Shapes
/// Input f32; outputs: int8 codes with as many elements, scale `[1]` f32, zero
/// point `[1]` int8. The operator's uint8 codes and zero point are stored minus 128.
///
/// # Numerics
/// The range is extended to zero; `scale = (max − min)/255`, 1 for an empty
/// range, and kept within the scales the integer path accepts. Then as
/// `QuantizeLinear`. NaN does not widen the range and becomes the zero point.
pub const KERNEL_DYNAMIC: Kernel =
    Kernel::new("quantize_f32_qd8__scalar", OpCode::DynamicQuantize, Some(DType::F32), Some(DType::I8), run)
        .checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 3)?;
    check::same_elements(step, 0)?;
    let (scale, zero_point) = (step.output(1)?, step.output(2)?);
    let types = scale.dtype == DType::F32 && zero_point.dtype == DType::I8;
    check::require(step, types && scale.shape.elements() == 1 && zero_point.shape.elements() == 1)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let input = call.slice::<f32>(0)?;
    let (scale, zero_point) = parameters(input);
    // The zero point of the unsigned codes is the distance of zero from the lowest code.
    let (lo, hi) = (zero_point.wrapping_neg() as f32, 255i32.wrapping_sub(zero_point) as f32);
    let zero_point = zero_point.wrapping_sub(128);
    for (y, &x) in call.slice_mut::<i8>(0)?.iter_mut().zip(input) {
        let v = x / scale;
        *y = to_code(if v.is_nan() { 0.0 } else { v }, lo, hi, zero_point);
    }
    call.slice_mut::<f32>(1)?.fill(scale);
    call.slice_mut::<i8>(2)?.fill(zero_point as i8);
    Ok(())
}

/// Scale and uint8 zero point of the range of `input`.
fn parameters(input: &[f32]) -> (f32, i32) {
    let (mut min, mut max) = (0.0f32, 0.0f32);
    for &x in input {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
    }
    dynamic_parameters(min, max)
}

/// Scale and uint8 zero point of a range that contains zero.
pub fn dynamic_parameters(min: f32, max: f32) -> (f32, i32) {
    let scale = if max == min { 1.0 } else { clamp((max - min) / 255.0, SCALE_MIN, SCALE_MAX) };
    (scale, round_half_even(clamp(0.0 - min / scale, 0.0, 255.0)))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::attrs::FillAttrs;
    use crate::test_case::{Random, Tensor, run};

    fn dynamic(x: &[f32]) -> (std::vec::Vec<i8>, f32, i8) {
        let n = x.len() as u32;
        let (mut y, mut scale, mut zero_point) =
            (Tensor::zeros(DType::I8, &[n]), Tensor::zeros(DType::F32, &[]), Tensor::zeros(DType::I8, &[]));
        let mut outputs = [&mut y, &mut scale, &mut zero_point];
        run(&KERNEL_DYNAMIC, &FillAttrs { value: [0; 2] }, &[&Tensor::new(&[n], x)], &mut outputs).unwrap();
        (y.values(), scale.values()[0], zero_point.values()[0])
    }

    /// Recorded from ONNX's own node test `dynamicquantizelinear` and its siblings.
    #[test]
    fn agrees_with_the_standards_vectors() {
        let (y, scale, zero_point) = dynamic(&[0.0, 2.0, -3.0, -2.5, 1.34, 0.5]);
        assert!((scale - 0.019_607_844).abs() < 1e-9);
        assert_eq!(zero_point as i32 + 128, 153);
        assert_eq!(
            y.iter().map(|&c| c as i32 + 128).collect::<std::vec::Vec<_>>(),
            [153, 255, 0, 26, 221, 179]
        );
        let (y, _, zero_point) = dynamic(&[-1.0, -2.1, -1.3, -2.5, -3.34, -4.0]);
        assert_eq!(zero_point as i32 + 128, 255);
        assert_eq!(
            y.iter().map(|&c| c as i32 + 128).collect::<std::vec::Vec<_>>(),
            [191, 121, 172, 96, 42, 0]
        );
    }

    #[test]
    fn codes_reproduce_the_input_within_half_a_step() {
        let mut random = Random(9);
        for (lo, hi) in [(-1.0, 3.0), (0.5, 2.0), (-9.0, -3.0)] {
            let x = random.floats(301, lo, hi);
            let (y, scale, zero_point) = dynamic(&x);
            for (&x, y) in x.iter().zip(y) {
                let back = (y as f64 - zero_point as f64) * scale as f64;
                assert!((back - x as f64).abs() <= 0.5001 * scale as f64, "{x} {back}");
            }
        }
    }

    #[test]
    fn degenerate_ranges() {
        assert_eq!(dynamic(&[0.0; 3]), (std::vec![-128; 3], 1.0, -128));
        let (y, scale, zero_point) = dynamic(&[f32::NAN, 1.0, -1.0]);
        assert_eq!((y[0], scale), (zero_point, 2.0 / 255.0));
        for x in [[f32::INFINITY, 1.0], [f32::MAX, f32::MIN], [1e-44, -1e-44]] {
            let (_, scale, _) = dynamic(&x);
            assert!((SCALE_MIN..=SCALE_MAX).contains(&scale));
        }
    }
}
