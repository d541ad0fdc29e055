//! Front-end files: a recipe as TOML.
//!
//! ```toml
//! kind = "log-mel"        # or "waveform", "mfcc", "image", "none"
//! sample_rate = 16000     # waveform, log-mel, mfcc
//! patch = 15600           # samples in one patch
//! hop = 7680              # samples from one patch to the next
//! level = 1.0             # a gain, or "peak"; 1.0 if left out
//! frame = 400             # log-mel, mfcc from here on
//! stride = 160
//! fft = 512
//! window = "hann"         # or "hamming", "rectangular"
//! spectrum = "magnitude"  # or "power"
//! bands = 64
//! low_hz = 125.0
//! high_hz = 7500.0
//! offset = 0.001          # ln(mel + offset)
//! normalize = "none"      # or "patch", or { mean = -4.3, std = 4.6 }; "none" if left out
//! axes = "frames-bands"   # or "bands-frames"; the first if left out
//! planes = 1              # 1 if left out
//! coefficients = 10       # mfcc only
//! ```
//!
//! An image has `width`, `height`, `channels` (1 or 3), `mean` and `std` (one
//! number per channel, of pixels 0 to 255) and `layout` (`nchw` or `nhwc`).

use std::fs;
use std::path::Path;

use ingraft_signal::{
    Axes, Image, ImageConfig, Layout, Level, LogMel, LogMelConfig, MelConfig, Mfcc, MfccConfig, Normalize,
    Recipe, SignalError, Spectrum, Waveform, WaveformConfig, Window,
};
use serde::Deserialize;

use crate::CliError;

/// The recipe in the file at `path`.
///
/// # Errors
/// [`CliError::Io`], [`CliError::FrontEndFile`].
pub(super) fn read(path: &Path) -> Result<Recipe, CliError> {
    let text = fs::read_to_string(path).map_err(|source| CliError::io(path, source))?;
    parse(&text).map_err(|reason| CliError::FrontEndFile { path: path.to_path_buf(), reason })
}

fn parse(text: &str) -> Result<Recipe, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    match file {
        File::None => Ok(Recipe::None),
        File::Waveform(file) => file.recipe(),
        File::LogMel(file) => file.log_mel_recipe(),
        File::Mfcc(file) => file.mfcc_recipe(),
        File::Image(file) => file.recipe(),
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum File {
    None,
    Waveform(WaveformFile),
    LogMel(MelFile),
    Mfcc(MelFile),
    Image(ImageFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveformFile {
    sample_rate: u32,
    patch: u32,
    hop: u32,
    level: Option<LevelField>,
}

/// `log-mel` and `mfcc`: the latter has `coefficients` too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MelFile {
    sample_rate: u32,
    patch: u32,
    hop: u32,
    level: Option<LevelField>,
    frame: u32,
    stride: u32,
    fft: u32,
    window: String,
    spectrum: String,
    bands: u32,
    low_hz: f32,
    high_hz: f32,
    offset: f32,
    normalize: Option<NormalizeField>,
    axes: Option<String>,
    planes: Option<u32>,
    coefficients: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageFile {
    width: u32,
    height: u32,
    channels: u32,
    mean: Vec<f32>,
    std: Vec<f32>,
    layout: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LevelField {
    Gain(f32),
    Named(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NormalizeField {
    Fixed { mean: f32, std: f32 },
    Named(String),
}

impl WaveformFile {
    fn recipe(self) -> Result<Recipe, String> {
        let Self { sample_rate, patch, hop, level } = self;
        let config = WaveformConfig { sample_rate, patch, hop, level: level_of(level)? };
        Waveform::new(config).map(Recipe::Waveform).map_err(refused)
    }
}

impl MelFile {
    fn log_mel_recipe(self) -> Result<Recipe, String> {
        if self.coefficients.is_some() {
            return Err("`coefficients` belongs to kind = \"mfcc\"".to_owned());
        }
        LogMel::new(self.config()?).map(Recipe::LogMel).map_err(refused)
    }

    fn mfcc_recipe(self) -> Result<Recipe, String> {
        let coefficients = self.coefficients.ok_or("kind = \"mfcc\" needs `coefficients`")?;
        Mfcc::new(MfccConfig { log_mel: self.config()?, coefficients }).map(Recipe::Mfcc).map_err(refused)
    }

    fn config(self) -> Result<LogMelConfig, String> {
        let mel = MelConfig {
            sample_rate: self.sample_rate,
            frame: self.frame,
            stride: self.stride,
            fft: self.fft,
            window: choose("window", &self.window, "hann, hamming or rectangular", Window::from_name)?,
            spectrum: choose("spectrum", &self.spectrum, "magnitude or power", Spectrum::from_name)?,
            bands: self.bands,
            low_hz: self.low_hz,
            high_hz: self.high_hz,
        };
        let axes = self.axes.as_deref().unwrap_or(Axes::FramesBands.name());
        Ok(LogMelConfig {
            mel,
            patch: self.patch,
            hop: self.hop,
            level: level_of(self.level)?,
            offset: self.offset,
            normalize: normalize_of(self.normalize)?,
            axes: choose("axes", axes, "frames-bands or bands-frames", Axes::from_name)?,
            planes: self.planes.unwrap_or(1),
        })
    }
}

impl ImageFile {
    fn recipe(self) -> Result<Recipe, String> {
        let per_channel = |name: &str, values: &[f32]| match *values {
            [value] => Ok([value; 3]),
            [red, green, blue] => Ok([red, green, blue]),
            _ => Err(format!("`{name}` has one number per channel")),
        };
        let config = ImageConfig {
            width: self.width,
            height: self.height,
            channels: self.channels,
            mean: per_channel("mean", &self.mean)?,
            std: per_channel("std", &self.std)?,
            layout: choose("layout", &self.layout, "nchw or nhwc", Layout::from_name)?,
        };
        Image::new(config).map(Recipe::Image).map_err(refused)
    }
}

fn level_of(field: Option<LevelField>) -> Result<Level, String> {
    match field {
        None => Ok(Level::Gain(1.0)),
        Some(LevelField::Gain(gain)) => Ok(Level::Gain(gain)),
        Some(LevelField::Named(name)) => {
            choose("level", &name, "peak or a gain", |name| (name == "peak").then_some(Level::Peak))
        }
    }
}

fn normalize_of(field: Option<NormalizeField>) -> Result<Normalize, String> {
    let named = |name: &str| match name {
        "none" => Some(Normalize::None),
        "patch" => Some(Normalize::Patch),
        _ => None,
    };
    match field {
        None => Ok(Normalize::None),
        Some(NormalizeField::Fixed { mean, std }) => Ok(Normalize::Fixed { mean, std }),
        Some(NormalizeField::Named(name)) => {
            choose("normalize", &name, "none, patch or { mean, std }", named)
        }
    }
}

fn choose<T>(
    field: &str,
    name: &str,
    choices: &str,
    from_name: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    from_name(name).ok_or_else(|| format!("`{field}` cannot be \"{name}\"; it is {choices}"))
}

fn refused(error: SignalError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use ingraft_signal::preset::{KWS_MFCC, YAMNET};

    use super::*;

    const MEL: &str = "sample_rate = 16000\npatch = 15600\nhop = 7680\nframe = 400\nstride = 160\nfft = 512\n\
        window = 'hann'\nspectrum = 'magnitude'\nbands = 64\nlow_hz = 125\nhigh_hz = 7500.0\noffset = 0.001\n";

    #[test]
    fn files_give_the_presets() {
        let yamnet = parse(&format!("kind = 'log-mel'\n{MEL}")).unwrap();
        assert_eq!(yamnet, Recipe::LogMel(LogMel::new(YAMNET).unwrap()));
        let mfcc = parse(
            "kind = 'mfcc'\nsample_rate = 16000\npatch = 16000\nhop = 8000\nlevel = 'peak'\nframe = 480\n\
             stride = 320\nfft = 512\nwindow = 'hann'\nspectrum = 'magnitude'\nbands = 40\nlow_hz = 20\n\
             high_hz = 4000\noffset = 1e-6\ncoefficients = 10\n",
        );
        assert_eq!(mfcc.unwrap(), Recipe::Mfcc(Mfcc::new(KWS_MFCC).unwrap()));
        let image = parse(
            "kind = 'image'\nwidth = 8\nheight = 6\nchannels = 3\nmean = [127]\nstd = [128.0]\nlayout = 'nchw'",
        );
        assert_eq!(image.unwrap(), Recipe::preset("image", &[3, 6, 8]).unwrap());
        let waveform = parse("kind = 'waveform'\nsample_rate = 16000\npatch = 100\nhop = 50");
        assert_eq!(waveform.unwrap(), Recipe::preset("waveform", &[100]).unwrap());
        assert_eq!(parse("kind = 'none'").unwrap(), Recipe::None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("kind = 'cepstrum'".to_owned(), "cepstrum"),
            (format!("kind = 'log-mel'\n{MEL}gain = 3"), "gain"),
            (format!("kind = 'log-mel'\n{MEL}coefficients = 3"), "mfcc"),
            (format!("kind = 'mfcc'\n{MEL}"), "coefficients"),
            (format!("kind = 'log-mel'\n{MEL}level = 'loud'"), "loud"),
            (format!("kind = 'log-mel'\n{MEL}normalize = 'clip'"), "clip"),
            (format!("kind = 'log-mel'\n{}", MEL.replace("hann", "kaiser")), "kaiser"),
            (format!("kind = 'log-mel'\n{}", MEL.replace("fft = 512", "fft = 500")), "fft"),
        ] {
            let reason = parse(&text).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }
}
