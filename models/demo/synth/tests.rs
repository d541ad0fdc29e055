//! The clips are reproducible, well-formed, and each class carries the mark it is named for.

use core::f32::consts::TAU;
use std::vec::Vec;

use super::*;

const CLIPS: u64 = 30;
const SAMPLES: usize = 32_000;
/// Samples of an envelope frame, 10 ms.
const FRAME: usize = 160;

fn clip(sound: Sound, seed: u64) -> Vec<f32> {
    let mut samples = std::vec![0.0; SAMPLES];
    sound.clip(seed, &mut samples);
    samples
}

fn all_sounds() -> impl Iterator<Item = Sound> {
    Task::ALL.into_iter().flat_map(Task::sounds)
}

/// FNV-1a over the bits.
fn hash(samples: &[f32]) -> u32 {
    samples
        .iter()
        .flat_map(|x| x.to_bits().to_le_bytes())
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[test]
fn bits_are_the_same_on_every_machine() {
    let hashes: Vec<u32> = all_sounds().map(|sound| hash(&clip(sound, 1))).collect();
    assert_eq!(hashes, [0x76ac_aeab, 0x8ff9_ab11, 0x206a_1d5d, 0x164c_530f, 0x2648_f3e4, 0x9a8f_652e]);
}

#[test]
fn seeds_and_classes_give_different_clips() {
    let mut hashes: Vec<u32> =
        all_sounds().flat_map(|sound| (0..8).map(move |seed| hash(&clip(sound, seed)))).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 48);
}

#[test]
fn samples_stay_inside_the_range_and_the_level() {
    for sound in all_sounds() {
        for seed in 0..CLIPS {
            let samples = clip(sound, seed);
            assert!(samples.iter().all(|x| x.abs() < 1.0), "{sound:?} {seed}");
            let power = samples.iter().map(|x| x * x).sum::<f32>() / SAMPLES as f32;
            assert!((0.0008..0.045).contains(&power), "{sound:?} {seed}: {power}");
        }
    }
}

#[test]
fn an_empty_clip_is_allowed() {
    all_sounds().for_each(|sound| sound.clip(0, &mut []));
}

#[test]
fn imbalance_swells_once_per_turn() {
    let mark = |samples: &[f32]| modulation(samples, 6.0, 14.0);
    assert!(ranking(mark, Sound::Imbalance, Sound::Normal) > 0.9);
}

#[test]
fn a_worn_bearing_hammers() {
    let mark = |samples: &[f32]| {
        let sharp: Vec<f32> = samples.windows(3).map(|w| w[2] - 2.0 * w[1] + w[0]).collect();
        kurtosis(&sharp)
    };
    assert!(ranking(mark, Sound::Bearing, Sound::Normal) > 0.9);
}

#[test]
fn a_beeper_is_gated() {
    let mark = |samples: &[f32]| modulation(samples, 2.0, 6.5);
    assert!(ranking(mark, Sound::Beeper, Sound::Siren) > 0.9);
    assert!(ranking(mark, Sound::Beeper, Sound::TwoTone) > 0.9);
}

#[test]
fn a_two_tone_horn_jumps_where_a_siren_glides() {
    let mark = |samples: &[f32]| {
        let pitch: Vec<f32> = samples
            .chunks_exact(2 * FRAME)
            .map(|frame| frame.windows(2).filter(|w| (w[0] < 0.0) != (w[1] < 0.0)).count() as f32)
            .collect();
        let steps: Vec<f32> = pitch.windows(2).map(|w| w[1] - w[0]).collect();
        kurtosis(&steps)
    };
    assert!(ranking(mark, Sound::TwoTone, Sound::Siren) > 0.8);
}

/// Share of clip pairs in which the first class shows more of the mark: 0.5 for classes that cannot be told apart.
fn ranking(mark: impl Fn(&[f32]) -> f32, more: Sound, less: Sound) -> f32 {
    let of = |sound| (0..CLIPS).map(|seed| mark(&clip(sound, seed))).collect::<Vec<_>>();
    let (more, less) = (of(more), of(less));
    let wins = more.iter().map(|a| less.iter().filter(|b| a > b).count()).sum::<usize>();
    wins as f32 / (more.len() * less.len()) as f32
}

/// Strongest line between two frequencies, relative to the mean, in the spectrum of the level over time.
fn modulation(samples: &[f32], low: f32, high: f32) -> f32 {
    let level: Vec<f32> =
        samples.chunks_exact(FRAME).map(|frame| frame.iter().map(|x| x * x).sum::<f32>().sqrt()).collect();
    let mean = level.iter().sum::<f32>() / level.len() as f32;
    let steps = ((high - low) / 0.25) as usize;
    (0..=steps)
        .map(|step| {
            let turn = (low + 0.25 * step as f32) * FRAME as f32 * TICK * TAU;
            let (mut real, mut imaginary) = (0.0, 0.0);
            for (index, value) in level.iter().enumerate() {
                let (sin, cos) = (turn * index as f32).sin_cos();
                real += (value - mean) * cos;
                imaginary += (value - mean) * sin;
            }
            real.hypot(imaginary) / (mean * level.len() as f32)
        })
        .fold(0.0, f32::max)
}

fn kurtosis(values: &[f32]) -> f32 {
    let moment = |power| values.iter().map(|x| x.powi(power)).sum::<f32>() / values.len() as f32;
    moment(4) / moment(2).powi(2).max(1e-30)
}
