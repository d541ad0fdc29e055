//! The same bits on every platform: hashes of what seeds and filters give.
//!
//! A hash that changes on one platform only is a defect there; one that changes
//! on all of them means that stored splits and published figures must be made anew.

use std::path::Path;

use ingraft_dataset::augment::{Augmentation, Meaning, Recipe};
use ingraft_dataset::baseline::{FitOptions, LogisticRegression};
use ingraft_dataset::rng::normal;
use ingraft_dataset::{Filter, Resampler, Rng, read_image, split, stats};

/// FNV-1a.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn noise(length: usize) -> Vec<f32> {
    let mut rng = Rng::new(11);
    (0..length).map(|_| 0.1 * normal(&mut rng) as f32).collect()
}

fn samples(samples: &[f32]) -> u64 {
    hash(samples.iter().flat_map(|sample| sample.to_le_bytes()))
}

#[test]
fn draws() {
    let labels: Vec<usize> = (0..200).map(|item| item % 7).collect();
    let groups: Vec<usize> = (0..200).map(|item| item / 3).collect();
    let folds = split::stratified_folds(&labels, &groups, 5, 1).unwrap();
    let values: Vec<f64> = noise(50).into_iter().map(f64::from).collect();
    let interval = stats::bootstrap(&values, 500, 3).unwrap();
    let found = [
        samples(&noise(10_000)),
        hash(folds.fold_of().iter().map(|&fold| fold as u8)),
        interval.low.to_bits(),
        interval.high.to_bits(),
    ];
    assert_eq!(
        found,
        [0x129b_79d7_f8e1_50ea, 0x758e_db92_94ab_fefb, 0xbfb0_7d02_d81e_b852, 0xbf75_fc65_f666_6666]
    );
}

#[test]
fn resampling() {
    let clip = noise(5_000);
    let rates = [(8_000, 16_000), (44_100, 16_000), (16_000, 11_025)];
    let found = rates.map(|(from, to)| samples(&Resampler::new(from, to).unwrap().apply(&clip)));
    assert_eq!(found, [0x92e4_f81f_8559_4bb9, 0xd981_6dd0_0969_228a, 0x4a3d_2df0_5db9_25ef]);
}

#[test]
fn augmentation() {
    let clip = noise(8_000);
    let steps =
        ["gain=-6..6", "rotate=1", "noise=10..30", "mix=5..20", "speed=0.9..1.1", "pitch=-2..2", "crop=0.4"];
    let found = steps.map(|step| {
        let step: Augmentation = step.parse().unwrap();
        let recipe = Recipe::new(vec![step], Meaning::PitchIsFree).unwrap();
        samples(&recipe.apply(&clip, 16_000, &clip[..999], 5))
    });
    assert_eq!(
        found,
        [
            0x91e1_f19f_6603_4c0b,
            0xc6d4_14cb_6aff_2971,
            0x98b9_8e58_b171_c800,
            0xaa0d_7fa1_4f58_5191,
            0x54ed_84c4_1633_db77,
            0xb5c1_bd5c_6871_b90f,
            0x01e1_418b_a40d_c8a6
        ]
    );
}

#[test]
fn baseline() {
    let features = noise(1200);
    let labels: Vec<usize> = (0..60).map(|row| row * row % 4).collect();
    let fitted = LogisticRegression::fit(&features, 20, &labels, 4, &FitOptions::default()).unwrap();
    let (weights, biases) = fitted.folded();
    let found = hash(weights.iter().chain(&biases).flat_map(|weight| weight.to_bits().to_le_bytes()));
    assert_eq!(found, 0x9fc0_fae3_1e0d_8be1);
}

#[test]
fn pictures() {
    let names = ["baseline.jpg", "progressive.jpg"];
    let found = names.map(|name| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
        let picture = read_image(Path::new(&format!("{path}{name}"))).unwrap();
        hash(picture.resize(31, 17, Filter::Bicubic).rgb().iter().copied())
    });
    assert_eq!(found, [0xa6e8_1317_5576_6cd1, 0xc049_2a84_5d18_b3df]);
}
