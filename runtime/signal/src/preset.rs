//! Recipes by name.

use crate::error::SignalError;
use crate::fft::Spectrum;
use crate::image::{Image, ImageConfig, Layout};
use crate::log_mel::{Axes, LogMel, LogMelConfig, MAX_PLANES};
use crate::mel::MelConfig;
use crate::mfcc::{Mfcc, MfccConfig};
use crate::recipe::Recipe;
use crate::scale::{Level, Normalize};
use crate::waveform::{MAX_PATCH, Waveform, WaveformConfig};
use crate::window::Window;

/// Names that [`Recipe::preset`] knows.
pub const NAMES: [&str; 6] = ["yamnet", "kws-mfcc", "logmel-image", "waveform", "image", "none"];

const SAMPLE_RATE: u32 = 16_000;

/// YAMNet (Google, TensorFlow models): 0.96 s of log-mel every 0.48 s.
pub const YAMNET: LogMelConfig = LogMelConfig {
    mel: MelConfig {
        sample_rate: SAMPLE_RATE,
        frame: 400,
        stride: 160,
        fft: 512,
        window: Window::Hann,
        spectrum: Spectrum::Magnitude,
        bands: 64,
        low_hz: 125.0,
        high_hz: 7500.0,
    },
    patch: 15_600,
    hop: 7_680,
    level: Level::Gain(1.0),
    offset: 0.001,
    normalize: Normalize::None,
    axes: Axes::FramesBands,
    planes: 1,
};

/// MLPerf Tiny keyword spotting: 49 × 10 coefficients of 1 s, here every 0.5 s.
pub const KWS_MFCC: MfccConfig = MfccConfig {
    log_mel: LogMelConfig {
        mel: MelConfig {
            sample_rate: SAMPLE_RATE,
            frame: 480,
            stride: 320,
            fft: 512,
            window: Window::Hann,
            spectrum: Spectrum::Magnitude,
            bands: 40,
            low_hz: 20.0,
            high_hz: 4000.0,
        },
        patch: 16_000,
        hop: 8_000,
        level: Level::Peak,
        offset: 1e-6,
        normalize: Normalize::None,
        axes: Axes::FramesBands,
        planes: 1,
    },
    coefficients: 10,
};

impl Recipe {
    /// The recipe of a name from [`NAMES`], for a model input of shape `input` without its batch axis.
    ///
    /// - `yamnet`: [`YAMNET`].
    /// - `kws-mfcc`: [`KWS_MFCC`].
    /// - `logmel-image`: 16 kHz, windows of 25 ms every 10 ms, power, `ln(mel + 1e-6)` from 50 to 7600 Hz, each
    ///   patch normalized by its own mean and deviation; an input `[bands, frames]` or
    ///   `[planes, bands, frames]`; a new patch every half patch.
    /// - `waveform`: 16 kHz samples, as many as the input holds; a new patch every half patch.
    /// - `image`: `(value − 127)/128`; an input `[channels, height, width]`, `[height, width, channels]` or
    ///   `[height, width]`.
    /// - `none`: the caller feeds the tensor.
    ///
    /// # Errors
    /// [`SignalError::UnknownPreset`], [`SignalError::PresetShape`]; [`SignalError::Config`] for an input of
    /// extreme size.
    pub fn preset(name: &str, input: &[usize]) -> Result<Self, SignalError> {
        let values = input.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
        let fixed = |recipe: Self, preset, expected| match values {
            Some(values) if values == recipe.out_len() => Ok(recipe),
            _ => Err(SignalError::PresetShape { preset, expected }),
        };
        match name {
            "yamnet" => fixed(Self::LogMel(LogMel::new(YAMNET)?), "yamnet", "[96, 64]"),
            "kws-mfcc" => fixed(Self::Mfcc(Mfcc::new(KWS_MFCC)?), "kws-mfcc", "[49, 10]"),
            "logmel-image" => log_mel_image(input),
            "waveform" => waveform(values),
            "image" => image(input),
            "none" => Ok(Self::None),
            _ => Err(SignalError::UnknownPreset),
        }
    }
}

fn log_mel_image(input: &[usize]) -> Result<Recipe, SignalError> {
    let refused = SignalError::PresetShape {
        preset: "logmel-image",
        expected: "[bands, frames] or [planes, bands, frames], at most 1024 bands and 4 planes,",
    };
    let (planes, bands, frames) = match *input {
        [bands, frames] => (1, bands, frames),
        [planes, bands, frames] if planes <= MAX_PLANES as usize => (planes as u32, bands, frames),
        _ => return Err(refused),
    };
    let (bands, frames) = u32::try_from(bands).ok().zip(u32::try_from(frames).ok()).ok_or(refused)?;
    // Enough points that the lowest bands still contain a bin.
    let fft = match bands {
        ..=64 => 512,
        65..=128 => 1024,
        _ => 2048,
    };
    let stride = 160;
    let before_last = frames.checked_sub(1).and_then(|frames| frames.checked_mul(stride));
    let patch = before_last.and_then(|samples| samples.checked_add(400)).ok_or(refused)?;
    let config = LogMelConfig {
        mel: MelConfig { bands, fft, spectrum: Spectrum::Power, low_hz: 50.0, high_hz: 7600.0, ..YAMNET.mel },
        patch,
        hop: frames.div_ceil(2) * stride,
        offset: 1e-6,
        normalize: Normalize::Patch,
        axes: Axes::BandsFrames,
        planes,
        ..YAMNET
    };
    LogMel::new(config).map(Recipe::LogMel)
}

fn waveform(values: Option<usize>) -> Result<Recipe, SignalError> {
    let refused = SignalError::PresetShape { preset: "waveform", expected: "[samples]" };
    let patch = values.and_then(|values| u32::try_from(values).ok()).ok_or(refused)?;
    let hop = patch.div_ceil(2).clamp(1, MAX_PATCH);
    let config = WaveformConfig { sample_rate: SAMPLE_RATE, patch, hop, level: Level::Gain(1.0) };
    Waveform::new(config).map(Recipe::Waveform)
}

fn image(input: &[usize]) -> Result<Recipe, SignalError> {
    let refused = SignalError::PresetShape {
        preset: "image",
        expected: "[1 or 3, height, width], [height, width, 1 or 3] or [height, width]",
    };
    let (channels, height, width, layout) = match *input {
        [channels @ (1 | 3), height, width] => (channels, height, width, Layout::Nchw),
        [height, width, channels @ (1 | 3)] => (channels, height, width, Layout::Nhwc),
        [height, width] => (1, height, width, Layout::Nhwc),
        _ => return Err(refused),
    };
    let side = |pixels: usize| u32::try_from(pixels).map_err(|_| refused);
    let config = ImageConfig {
        width: side(width)?,
        height: side(height)?,
        channels: channels as u32,
        mean: [127.0; 3],
        std: [128.0; 3],
        layout,
    };
    Image::new(config).map(Recipe::Image)
}
