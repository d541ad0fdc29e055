//! Layers against central differences of their float surrogate in f64.

use std::vec::Vec;

use super::site::{Layer, PARAMETERS, Recipe, WEIGHT};
use super::*;
use crate::test_case::Random;

const STEP: f64 = 1e-5;
/// Closer to a bound than this, an output may cross it within a difference.
const MARGIN: f64 = 1e-3;
/// Of the largest gradient of the same tensor.
const TOLERANCE: f64 = 1e-4;

fn recipes(quantized: bool, depthwise: bool) -> impl Iterator<Item = Recipe> {
    (0..48u64).map(move |i| Recipe {
        seed: 7000 + i + 1000 * quantized as u64 + 2000 * depthwise as u64,
        quantized,
        depthwise,
        pointwise: !depthwise && i % 3 == 0,
        clipped: i % 4 != 0,
        low_rank: !depthwise && i & 1 == 0,
        sparse: i & 2 == 0,
        dense: i % 7 < 3,
        affine: i % 5 < 3,
    })
}

/// The gradient of the output: NaN where the mask must stop it.
fn incoming(layer: &Layer, random: &mut Random) -> (Vec<f32>, Vec<bool>) {
    let naive = &layer.naive;
    let z = naive.pre_clip();
    let pass: Vec<bool> = z.iter().map(|z| *z > naive.lo && *z < naive.hi).collect();
    let near = |z: f64| (z - naive.lo).abs() < MARGIN || (z - naive.hi).abs() < MARGIN;
    let dy = z.iter().zip(&pass).map(|(z, pass)| match (near(*z), *pass) {
        (true, _) => 0.0,
        (false, true) => random.float(-1.0, 1.0),
        (false, false) => f32::NAN,
    });
    (dy.collect(), pass)
}

fn differences(layer: &Layer, dy: &[f32], parameter: usize) -> Vec<f64> {
    let dy: Vec<f64> = dy.iter().map(|v| if v.is_nan() { 1.0 } else { *v as f64 }).collect();
    let mut moved = layer.naive.clone();
    (0..layer.naive.values[parameter].len())
        .map(|i| {
            let value = layer.naive.values[parameter][i];
            let mut at = |value| {
                moved.values[parameter][i] = value;
                moved.loss(&dy)
            };
            let slope = (at(value + STEP) - at(value - STEP)) / (2.0 * STEP);
            at(value);
            slope
        })
        .collect()
}

/// Largest deviation, relative to the largest expected value.
fn deviation(have: &[f32], want: &[f64]) -> f64 {
    assert_eq!(have.len(), want.len());
    let most = want.iter().fold(1e-3f64, |m, w| m.max(w.abs()));
    have.iter().zip(want).fold(0.0f64, |m, (h, w)| {
        let error = (*h as f64 - w).abs() / most;
        if error > m || error.is_nan() { error } else { m }
    })
}

fn check_all(quantized: bool, depthwise: bool) {
    let mut worst = [0.0f64; PARAMETERS.len()];
    for recipe in recipes(quantized, depthwise) {
        let layer = Layer::new(recipe);
        let (dy, pass) = incoming(&layer, &mut Random(recipe.seed));
        let mask = recipe.clipped.then(|| mask(dy.len(), |i| pass[i]));
        let (mut dx, mut grads) = (layer.dx(), layer.grads());
        layer.backward(&dy, mask.as_ref(), Some(&mut dx), grads.as_site(), 0).unwrap();
        grads.0[0] = dx.values();
        grads.0[WEIGHT] = layer.rows(&grads.0[WEIGHT]);
        for (parameter, name) in PARAMETERS.iter().enumerate() {
            let error = deviation(&grads.0[parameter], &differences(&layer, &dy, parameter));
            assert!(error < TOLERANCE, "{name} is off by {error:.1e} in {recipe:?}");
            worst[parameter] = worst[parameter].max(error);
        }
    }
    for (name, worst) in PARAMETERS.iter().zip(worst) {
        std::println!(
            "int8 {quantized}, depthwise {depthwise}, {name}: largest relative deviation {worst:.1e}"
        );
    }
}

#[test]
fn conv_f32() {
    check_all(false, false);
}

#[test]
fn conv_int8() {
    check_all(true, false);
}

#[test]
fn depthwise_f32() {
    check_all(false, true);
}

#[test]
fn depthwise_int8() {
    check_all(true, true);
}
