//! 256-entry tables: any function of one int8 tensor.

use ingraft_tensor::QParams;

/// The output code of every input code, index code + 128.
///
/// # Numerics
/// `function` is evaluated on the exact dequantized value and rounded once to
/// f32, then quantized as `QuantizeLinear` does.
pub(super) fn codes(
    input: QParams,
    output: QParams,
    bounds: [f32; 2],
    function: impl Fn(f32) -> f32,
) -> Vec<i8> {
    let entry = |code: i8| {
        let real = function(input.dequantize(code));
        let real = if real.is_nan() { real } else { real.clamp(bounds[0], bounds[1]) };
        output.quantize(real)
    };
    (i8::MIN..=i8::MAX).map(entry).collect()
}

/// The derivative of `function` at every input code, by central difference in
/// binary64; zero where the output code is clipped.
pub(super) fn derivatives(
    input: QParams,
    output: QParams,
    bounds: [f32; 2],
    function: impl Fn(f64) -> f64,
) -> Vec<f32> {
    let reach = |code: i32| f64::from((code - output.zero_point) as f32 * output.scale);
    let (least, most) = (reach(-128).max(f64::from(bounds[0])), reach(127).min(f64::from(bounds[1])));
    let entry = |code: i8| {
        let x = f64::from(input.dequantize(code));
        let y = function(x);
        let step = 1e-5 * x.abs().max(1.0);
        let slope = (function(x + step) - function(x - step)) / (2.0 * step);
        if y > least && y < most && slope.is_finite() { slope as f32 } else { 0.0 }
    };
    (i8::MIN..=i8::MAX).map(entry).collect()
}
