//! Where samples come from: an integer generator that `golden.py` repeats, and WAV files of the data folder.

use std::path::{Path, PathBuf};

use ingraft_signal::{
    Axes, Level, LogMel, LogMelConfig, MelConfig, Mfcc, MfccConfig, Normalize, Recipe, Spectrum, Waveform,
    WaveformConfig, Window, preset,
};

/// Linear congruential generator; `golden.py` runs the same one from state 1.
pub(crate) struct Random(pub(crate) u32);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0
    }

    /// Uniform in `0..below`.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        ((u64::from(self.next()) * below as u64) >> 32) as usize
    }
}

/// A triangle-wave chirp at quarter scale over noise at 1/32 of full scale.
pub(crate) fn chirp(samples: usize) -> Vec<i16> {
    let mut random = Random(1);
    let (mut phase, mut step) = (0_u32, 20_u32 << 18);
    let mut next = || {
        let noise = (random.next() >> 16) as i32 - 32_768;
        let ramp = (phase >> 15) as i32;
        let triangle = if ramp < 65_536 { ramp - 32_768 } else { 98_303 - ramp };
        phase = phase.wrapping_add(step);
        step += 60_000;
        ((triangle >> 2) + (noise >> 5)) as i16
    };
    (0..samples).map(|_| next()).collect()
}

/// Recipes of every kind, window, spectrum, level, normalization and axis order, with awkward lengths and
/// strides.
pub(crate) fn recipes() -> Vec<(&'static str, Recipe)> {
    let mel = MelConfig {
        sample_rate: 8_000,
        frame: 50,
        stride: 70,
        fft: 64,
        window: Window::Hamming,
        spectrum: Spectrum::Power,
        bands: 7,
        low_hz: 0.0,
        high_hz: 4_000.0,
    };
    let gaps = LogMelConfig {
        mel,
        patch: 700,
        hop: 1_400,
        level: Level::Peak,
        offset: 1e-6,
        normalize: Normalize::Patch,
        axes: Axes::BandsFrames,
        planes: 3,
    };
    let odd = LogMelConfig {
        mel: MelConfig { frame: 64, stride: 13, window: Window::Rectangular, bands: 11, ..mel },
        patch: 999,
        hop: 26,
        level: Level::Gain(0.5),
        normalize: Normalize::Fixed { mean: -4.0, std: 4.5 },
        planes: 1,
        ..gaps
    };
    let log_mel = |config| Recipe::LogMel(LogMel::new(config).unwrap());
    let mfcc = |config| Recipe::Mfcc(Mfcc::new(config).unwrap());
    let waveform = |patch, hop, level| {
        Recipe::Waveform(Waveform::new(WaveformConfig { sample_rate: 16_000, patch, hop, level }).unwrap())
    };
    vec![
        ("yamnet", log_mel(preset::YAMNET)),
        ("kws-mfcc", mfcc(preset::KWS_MFCC)),
        ("logmel-image", Recipe::preset("logmel-image", &[3, 48, 65]).unwrap()),
        ("gaps", log_mel(gaps)),
        ("odd", log_mel(odd)),
        ("mfcc-gaps", mfcc(MfccConfig { log_mel: gaps, coefficients: 7 })),
        ("mfcc-odd", mfcc(MfccConfig { log_mel: odd, coefficients: 1 })),
        ("waveform", waveform(1_000, 333, Level::Gain(32_768.0))),
        ("waveform-peak", waveform(512, 700, Level::Peak)),
    ]
}

/// The data folder; `None`, with a note, where it is absent. An absent folder fails under continuous
/// integration.
fn data() -> Option<PathBuf> {
    let fallback = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder = std::env::var_os("INGRAFT_DATA").map_or_else(|| PathBuf::from(fallback), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no data at {}: set INGRAFT_DATA", folder.display());
    println!("skipped: no data at {}; set INGRAFT_DATA", folder.display());
    None
}

/// Every `nth` recording at 16 kHz, with its name.
pub(crate) fn recordings(nth: usize) -> Vec<(String, Vec<i16>)> {
    let Some(folder) = data() else { return Vec::new() };
    let mut files = Vec::new();
    for set in ["esc10_cc0", "speech_samples", "uav_detect", "uav_motor_prop"] {
        find_wavs(&folder.join("audio").join(set), &mut files);
    }
    files.sort();
    let chosen = files.iter().step_by(nth);
    chosen.map(|file| (file.file_name().unwrap().to_string_lossy().into(), read_wav(file))).collect()
}

fn find_wavs(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_wavs(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "wav") {
            files.push(path);
        }
    }
}

/// First channel of a 16-bit PCM file at 16 kHz.
fn read_wav(file: &Path) -> Vec<i16> {
    let bytes = std::fs::read(file).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut channels) = (12, 1);
    loop {
        let (tag, len, body) = (&bytes[at..at + 4], word(at + 4), at + 8);
        match tag {
            b"fmt " => {
                channels = word(body) >> 16;
                assert_eq!(word(body + 4), 16_000, "{}", file.display());
            }
            b"data" => {
                let frames = bytes[body..body + len].chunks_exact(2 * channels);
                return frames.map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect();
            }
            _ => {}
        }
        at = body + len + len % 2;
    }
}
