//! The definitions in f64: a DFT by its sum, triangles by their formula, a DCT by its sum.

use core::f64::consts::{PI, TAU};

use ingraft_signal::{Axes, Level, LogMel, LogMelConfig, MelConfig, Normalize, Recipe, Spectrum, Window};

/// One patch of any audio recipe.
pub(crate) fn patch(recipe: &Recipe, samples: &[i16]) -> Vec<f64> {
    let mut samples: Vec<f64> = samples.iter().map(|sample| f64::from(*sample) / 32_768.0).collect();
    samples.resize(recipe.patch_len(), 0.0);
    match recipe {
        Recipe::Waveform(waveform) => level(waveform.config().level, &samples),
        Recipe::LogMel(log_mel) => map(log_mel, None, &samples),
        Recipe::Mfcc(mfcc) => map(mfcc.log_mel(), Some(mfcc.coefficients()), &samples),
        _ => panic!("{} is no audio recipe", recipe.kind()),
    }
}

fn level(level: Level, samples: &[f64]) -> Vec<f64> {
    let factor = match level {
        Level::Gain(gain) => f64::from(gain),
        Level::Peak => {
            let peak = samples.iter().copied().fold(0.0, f64::max);
            if peak > 0.0 { 1.0 / peak } else { 1.0 }
        }
    };
    samples.iter().map(|sample| sample * factor).collect()
}

fn map(log_mel: &LogMel, coefficients: Option<u32>, samples: &[f64]) -> Vec<f64> {
    let config = log_mel.config();
    let samples = level(config.level, samples);
    let frames = log_mel.frames() as usize;
    let mut rows = Vec::with_capacity(frames);
    for frame in 0..frames {
        let start = frame * config.mel.stride as usize;
        let mut row = mel_row(&config.mel, &samples[start..start + config.mel.frame as usize]);
        for value in &mut row {
            *value = (*value + f64::from(config.offset)).ln();
        }
        rows.push(match coefficients {
            None => row,
            Some(coefficients) => dct(&row, coefficients as usize),
        });
    }
    lay_out(config, &rows)
}

fn lay_out(config: &LogMelConfig, rows: &[Vec<f64>]) -> Vec<f64> {
    let mut plane: Vec<f64> = match config.axes {
        Axes::FramesBands => rows.concat(),
        Axes::BandsFrames => {
            (0..rows[0].len()).flat_map(|band| rows.iter().map(move |row| row[band])).collect()
        }
    };
    let (mean, std) = match config.normalize {
        Normalize::None => (0.0, 1.0),
        Normalize::Fixed { mean, std } => (f64::from(mean), f64::from(std)),
        Normalize::Patch => {
            let mean = plane.iter().sum::<f64>() / plane.len() as f64;
            let variance = plane.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / plane.len() as f64;
            (mean, (variance + 1e-6).sqrt())
        }
    };
    for value in &mut plane {
        *value = (*value - mean) / std;
    }
    plane.repeat(config.planes as usize)
}

fn mel_row(config: &MelConfig, frame: &[f64]) -> Vec<f64> {
    let size = config.fft as usize;
    let windowed: Vec<f64> = frame
        .iter()
        .enumerate()
        .map(|(n, sample)| {
            let cos = (TAU * n as f64 / frame.len() as f64).cos();
            sample
                * match config.window {
                    Window::Hann => 0.5 - 0.5 * cos,
                    Window::Hamming => 0.54 - 0.46 * cos,
                    Window::Rectangular => 1.0,
                }
        })
        .collect();
    let turn: Vec<(f64, f64)> = (0..size).map(|t| (TAU * t as f64 / size as f64).sin_cos()).collect();
    let bin = |k: usize| {
        let (mut re, mut im) = (0.0, 0.0);
        for (t, sample) in windowed.iter().enumerate() {
            let (sin, cos) = turn[k * t % size];
            re += sample * cos;
            im -= sample * sin;
        }
        let power: f64 = re * re + im * im;
        match config.spectrum {
            Spectrum::Magnitude => power.sqrt(),
            Spectrum::Power => power,
        }
    };
    let spectrum: Vec<f64> = (0..=size / 2).map(bin).collect();
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(config.low_hz.into()), mel(config.high_hz.into()));
    let edge = |j: u32| low + (high - low) * f64::from(j) / f64::from(config.bands + 1);
    let hz_per_bin = f64::from(config.sample_rate) / size as f64;
    let mels: Vec<f64> = (0..=size / 2).map(|k| mel(k as f64 * hz_per_bin)).collect();
    let band = |band: u32| {
        let [lower, center, upper] = [edge(band), edge(band + 1), edge(band + 2)];
        let weigh = |(value, mel): (&f64, &f64)| {
            let (rising, falling) = ((mel - lower) / (center - lower), (upper - mel) / (upper - center));
            value * rising.min(falling).max(0.0)
        };
        spectrum.iter().zip(&mels).skip(1).map(weigh).sum()
    };
    (0..config.bands).map(band).collect()
}

fn dct(row: &[f64], coefficients: usize) -> Vec<f64> {
    let count = row.len() as f64;
    let coefficient = |k: usize| {
        let sum: f64 = row
            .iter()
            .enumerate()
            .map(|(n, value)| value * (PI * k as f64 * (n as f64 + 0.5) / count).cos())
            .sum();
        sum * (2.0 / count).sqrt()
    };
    (0..coefficients).map(coefficient).collect()
}
