//! Functions of one operand and tables.

use std::vec::Vec;

use ingraft_tensor::DType;

use super::*;
use crate::attrs::{UnaryAttrs, Window};
use crate::elementwise::UnaryFn;
use crate::test_case::Random;

const ALPHA: f32 = 0.3;
const BETA: f32 = 1.7;
/// A power of two, so that `x ± H` is exact.
const H: f32 = 1.0 / 32.0;

/// The five-point difference of the forward function itself, in f64: its error
/// is H⁴/30 times the fifth derivative, and the rounding of f32 over H.
fn slope(function: UnaryFn, x: f32) -> f64 {
    let f = |x| function.eval(ALPHA, BETA, x) as f64;
    (8.0 * (f(x + H) - f(x - H)) - (f(x + 2.0 * H) - f(x - 2.0 * H))) / (12.0 * H as f64)
}

/// Where a function or its derivative jumps.
fn jumps(function: UnaryFn) -> &'static [f32] {
    match function {
        UnaryFn::Clip => &[ALPHA, BETA],
        UnaryFn::HardSigmoid => &[-BETA / ALPHA, (1.0 - BETA) / ALPHA],
        UnaryFn::HardSwish => &[-3.0, 3.0],
        UnaryFn::ThresholdedRelu => &[ALPHA],
        UnaryFn::Round => &[-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5],
        UnaryFn::Floor | UnaryFn::Ceil => &[-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0],
        _ => &[0.0],
    }
}

#[test]
fn every_derivative_is_the_slope_of_its_function() {
    let mut random = Random(41);
    let mut worst = (0.0, UnaryFn::Clip);
    for &function in UnaryFn::ALL {
        let positive = matches!(function, UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::Reciprocal);
        let smooth = |x: &f32| jumps(function).iter().all(|jump| (x - jump).abs() > 2.5 * H);
        let x: Vec<f32> =
            random.floats(600, if positive { 0.8 } else { -4.2 }, 4.2).into_iter().filter(smooth).collect();
        let dy = random.floats(x.len(), -1.0, 1.0);
        let (n, attrs) = (x.len() as u32, UnaryAttrs { function: function.code(), alpha: ALPHA, beta: BETA });
        let mut dx = Tensor::zeros(DType::F32, &[n]);
        let inputs = [&Tensor::new(&[n], &dy), &Tensor::new(&[n], &x)];
        run(&unary::KERNEL, &attrs, &inputs, &mut [&mut dx], Site::default()).unwrap();
        for ((x, dy), dx) in x.iter().zip(dy).zip(dx.values::<f32>()) {
            let want = slope(function, *x) * dy as f64;
            let error = (dx as f64 - want).abs() / slope(function, *x).abs().max(1.0);
            assert!(error < 1e-4, "{} at {x}: {dx} is not {want}", function.name());
            if error > worst.0 {
                worst = (error, function);
            }
        }
    }
    std::println!("largest relative deviation of a derivative: {:.1e}, {}", worst.0, worst.1.name());
}

#[test]
fn clips_pass_strictly_inside() {
    let derivative = |function, x| unary::derivative(function, ALPHA, BETA, x);
    assert_eq!(unary::derivative(UnaryFn::Clip, 0.0, f32::INFINITY, 0.0), 0.0);
    assert_eq!([ALPHA, 1.0, BETA].map(|x| derivative(UnaryFn::Clip, x)), [0.0, 1.0, 0.0]);
    assert_eq!([-3.0, 3.0].map(|x| derivative(UnaryFn::HardSwish, x)), [0.0, 1.0]);
    assert_eq!([-0.0, 0.0].map(|x| derivative(UnaryFn::Abs, x)), [0.0, 0.0]);
}

#[test]
fn no_gradient_stays_none_where_the_slope_is_infinite() {
    let attrs = UnaryAttrs { function: UnaryFn::Sqrt.code(), alpha: 0.0, beta: 0.0 };
    let mut dx = Tensor::zeros(DType::F32, &[2]);
    let inputs = [&Tensor::new(&[2], &[0.0f32, 1.0]), &Tensor::new(&[2], &[0.0f32, 4.0])];
    run(&unary::KERNEL, &attrs, &inputs, &mut [&mut dx], Site::default()).unwrap();
    assert_eq!(dx.values::<f32>(), [0.0, 0.25]);
}

#[test]
fn a_table_multiplies_by_its_derivative() {
    let mut random = Random(42);
    let table = random.floats(256, -2.0, 2.0);
    let codes: Vec<i8> = (0..300).map(|i| (i * 7) as i8).collect();
    let dy = random.floats(300, -1.0, 1.0);
    let mut dx = Tensor::zeros(DType::F32, &[3, 100]);
    let inputs =
        [&Tensor::new(&[3, 100], &dy), &Tensor::new(&[3, 100], &codes), &Tensor::new(&[256], &table)];
    // The operator has no attributes; the record is not read.
    run(&lookup::KERNEL, &Window::UNIT, &inputs, &mut [&mut dx], Site::default()).unwrap();
    for ((x, dy), dx) in codes.iter().zip(dy).zip(dx.values::<f32>()) {
        assert_eq!(dx, dy * table[(*x as i32 + 128) as usize]);
    }
}
