//! Seeded changes of a recording, of its spectrogram or of a picture that keep what it is called; or, of two recordings
//! in one, mix that too.
//!
//! Each function takes samples and a seed and gives new samples, the same on
//! every platform. An [`Augmentation`] describes one of them; a [`Recipe`] is a
//! sequence of them that has been checked against what the labels mean:
//! changing speed or pitch would turn one throttle level into another.

use core::ops::RangeInclusive;

use crate::Rng;
use crate::audio::Resampler;
use crate::rng::normal;

pub use masks::{mask_frequency, mask_time};
pub use mixup::{mixup, mixup_share};
pub use picture::{colour, flip, window};
pub use recipe::{Augmentation, Meaning, Of, Recipe, RecipeError};

mod masks;
mod mixup;
mod picture;
mod recipe;
mod stretch;

/// Scales by a gain drawn from `decibels`.
pub fn gain(samples: &[f32], decibels: &RangeInclusive<f64>, seed: u64) -> Vec<f32> {
    let factor = amplitude(draw(decibels, &mut Rng::new(seed))) as f32;
    samples.iter().map(|sample| sample * factor).collect()
}

/// Rotates by up to `reach` samples either way; what leaves one end enters the other.
pub fn rotate(samples: &[f32], reach: usize, seed: u64) -> Vec<f32> {
    let mut rotated = samples.to_vec();
    if !samples.is_empty() {
        let left = offset(samples.len(), reach, seed);
        rotated.rotate_left(left.rem_euclid(samples.len() as i64) as usize);
    }
    rotated
}

/// Shifts by up to `reach` samples either way; silence enters.
pub fn shift(samples: &[f32], reach: usize, seed: u64) -> Vec<f32> {
    let left = offset(samples.len(), reach, seed);
    let source = |at: usize| usize::try_from(at as i64 + left).ok().and_then(|at| samples.get(at));
    (0..samples.len()).map(|at| source(at).copied().unwrap_or(0.0)).collect()
}

/// Adds white Gaussian noise at a signal-to-noise ratio drawn from `decibels`.
pub fn noise(samples: &[f32], decibels: &RangeInclusive<f64>, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    let ratio = draw(decibels, &mut rng);
    let background: Vec<f32> = samples.iter().map(|_| normal(&mut rng) as f32).collect();
    add_at(samples, &background, ratio)
}

/// Adds a random stretch of `background`, repeated where it is short, at a
/// signal-to-noise ratio drawn from `decibels`.
pub fn mix(samples: &[f32], background: &[f32], decibels: &RangeInclusive<f64>, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    let ratio = draw(decibels, &mut rng);
    let start = rng.below(background.len());
    let stretch: Vec<f32> = background.iter().cycle().skip(start).take(samples.len()).copied().collect();
    if background.is_empty() { samples.to_vec() } else { add_at(samples, &stretch, ratio) }
}

/// Plays faster by a factor drawn from `factors`, in steps of 1 %: pitch rises and length falls by it.
pub fn speed(samples: &[f32], factors: &RangeInclusive<f64>, seed: u64) -> Vec<f32> {
    play_at(samples, percent(draw(factors, &mut Rng::new(seed))))
}

/// Raises the pitch by semitones drawn from `semitones`, in steps of 1 % of frequency; the length stays.
pub fn pitch(samples: &[f32], rate: u32, semitones: &RangeInclusive<f64>, seed: u64) -> Vec<f32> {
    let factor = percent(libm::exp2(draw(semitones, &mut Rng::new(seed)) / 12.0));
    let longer = stretch::stretch(samples, rate, f64::from(factor) / 100.0);
    let mut shifted = play_at(&longer, factor);
    shifted.resize(samples.len(), 0.0);
    shifted
}

/// A stretch of `length` samples at a random place; a shorter recording is placed
/// at random within silence.
pub fn crop(samples: &[f32], length: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    match samples.len().checked_sub(length) {
        Some(spare) => samples.iter().skip(rng.below(spare + 1)).take(length).copied().collect(),
        None => {
            let before = rng.below(length - samples.len() + 1);
            let placed = core::iter::repeat_n(0.0, before).chain(samples.iter().copied());
            placed.chain(core::iter::repeat(0.0)).take(length).collect()
        }
    }
}

/// `samples` plus `background` scaled so that their powers are `decibels` apart.
/// Silence on either side changes nothing.
fn add_at(samples: &[f32], background: &[f32], decibels: f64) -> Vec<f32> {
    let (signal, noise) = (power(samples), power(background));
    let factor = if noise > 0.0 { libm::sqrt(signal / noise) / amplitude(decibels) } else { 0.0 };
    samples.iter().zip(background).map(|(sample, added)| sample + added * factor as f32).collect()
}

fn play_at(samples: &[f32], percent: u32) -> Vec<f32> {
    Resampler::with_ratio(100, percent).map_or_else(|| samples.to_vec(), |resampler| resampler.apply(samples))
}

/// `factor` in whole percent, between a quarter and four times.
fn percent(factor: f64) -> u32 {
    libm::round(factor.clamp(0.25, 4.0) * 100.0) as u32
}

/// An offset of up to `reach` either way, and no more than `length`.
fn offset(length: usize, reach: usize, seed: u64) -> i64 {
    let reach = reach.min(length);
    Rng::new(seed).below(2 * reach + 1) as i64 - reach as i64
}

fn draw(range: &RangeInclusive<f64>, rng: &mut Rng) -> f64 {
    rng.uniform(*range.start(), *range.end())
}

fn amplitude(decibels: f64) -> f64 {
    libm::pow(10.0, decibels / 20.0)
}

fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|&sample| f64::from(sample) * f64::from(sample)).sum()
}

#[cfg(test)]
mod tests;
