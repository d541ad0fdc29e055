//! HTK mel filter bank: triangles linear on the mel axis, stored as one weight a bin.

use crate::error::{SignalError, require};
use crate::fft::{self, Spectrum};
use crate::window::Window;
use crate::words::{WordReader, WordWriter};

pub(crate) fn check_rate(hertz: u32) -> Result<(), SignalError> {
    require((1..=768_000).contains(&hertz), "sample_rate", "from 1 to 768000 Hz")
}

/// Mel value of a frequency, `1127·ln(1 + f/700)`.
fn hz_to_mel(hz: f64) -> f64 {
    1127.0 * libm::log(1.0 + hz / 700.0)
}

/// From a frame of samples to a row of mel bands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MelConfig {
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples in one frame; the FFT pads them with zeros at the end.
    pub frame: u32,
    /// Samples from one frame to the next.
    pub stride: u32,
    /// FFT size, a power of two from 64 to 2048.
    pub fft: u32,
    /// Window over the frame.
    pub window: Window,
    /// Magnitude or power.
    pub spectrum: Spectrum,
    /// Number of mel bands.
    pub bands: u32,
    /// Lower edge of the first band in hertz.
    pub low_hz: f32,
    /// Upper edge of the last band in hertz.
    pub high_hz: f32,
}

impl MelConfig {
    pub(crate) fn check(&self) -> Result<(), SignalError> {
        check_rate(self.sample_rate)?;
        require(fft::is_size(self.fft), "fft", "a power of two from 64 to 2048")?;
        require(self.frame >= 1 && self.frame <= self.fft, "frame", "from 1 to `fft` samples")?;
        require(self.stride >= 1, "stride", "at least 1 sample")?;
        require(self.bands >= 1 && self.bands <= self.fft / 2, "bands", "from 1 to `fft`/2")?;
        require(self.low_hz >= 0.0, "low_hz", "at least 0")?;
        require(self.high_hz <= self.sample_rate as f32 / 2.0, "high_hz", "at most half the sample rate")?;
        require(self.high_hz - self.low_hz >= 1.0, "high_hz", "at least 1 Hz above `low_hz`")
    }

    pub(crate) fn write(&self, words: &mut WordWriter<'_>) {
        words.word(self.sample_rate);
        words.word(self.frame);
        words.word(self.stride);
        words.word(self.fft);
        words.word(self.window as u32);
        words.word(self.spectrum as u32);
        words.word(self.bands);
        words.float(self.low_hz);
        words.float(self.high_hz);
    }

    pub(crate) fn read(words: &mut WordReader<'_>) -> Option<Self> {
        Some(Self {
            sample_rate: words.word()?,
            frame: words.word()?,
            stride: words.word()?,
            fft: words.word()?,
            window: Window::from_word(words.word()?)?,
            spectrum: Spectrum::from_word(words.word()?)?,
            bands: words.word()?,
            low_hz: words.float()?,
            high_hz: words.float()?,
        })
    }
}

/// A filter bank in the caller's memory.
///
/// `bands + 2` edges, evenly spaced on the mel axis, cut the bins into `bands + 1` segments. A bin inside
/// segment `j` lies on the rising flank of band `j` with weight `rise` and on the falling flank of band `j −
/// 1` with weight `1 − rise`, so one number a bin is the whole bank. DC and Nyquist have no weight.
#[derive(Debug)]
pub(crate) struct FilterBank<'m> {
    /// Bins below the first edge, then the bins in each segment. Whole numbers, exact in f32.
    counts: &'m [f32],
    /// Rising weight of every bin from the first edge up.
    rise: &'m [f32],
}

impl<'m> FilterBank<'m> {
    /// Floats of memory a bank takes.
    pub(crate) const fn memory_len(config: &MelConfig) -> usize {
        config.bands as usize + 2 + config.fft as usize / 2
    }

    /// Computes the bank of a checked configuration into [`FilterBank::memory_len`] floats.
    ///
    /// # Numerics
    /// Weights are computed in f64 and rounded once.
    pub(crate) fn build(config: &MelConfig, memory: &'m mut [f32]) -> Self {
        let bands = config.bands as usize;
        let (counts, rise) = memory.split_at_mut_checked(bands + 2).unwrap_or((&mut [], &mut []));
        counts.fill(0.0);
        rise.fill(0.0);
        let low = hz_to_mel(f64::from(config.low_hz));
        let step = (hz_to_mel(f64::from(config.high_hz)) - low) / (f64::from(config.bands) + 1.0);
        let hz_per_bin = f64::from(config.sample_rate) / f64::from(config.fft);
        let mut weights = rise.iter_mut();
        for bin in 1..config.fft / 2 {
            let position = (hz_to_mel(f64::from(bin) * hz_per_bin) - low) / step;
            // Slot 0 counts the bins below the first edge; a bin above the last edge finds no slot.
            let segment = position as usize;
            let slot = if position < 0.0 { 0 } else { segment.saturating_add(1) };
            let Some(count) = counts.get_mut(slot) else { break };
            *count += 1.0;
            if let Some(weight) = (slot > 0).then(|| weights.next()).flatten() {
                *weight = (position - segment as f64) as f32;
            }
        }
        Self { counts, rise }
    }

    /// Weighs the bins of one spectrum, from bin 1, into `bands`.
    ///
    /// # Numerics
    /// Plain f32 sums in ascending bin order.
    pub(crate) fn apply(&self, bins: impl Iterator<Item = f32>, bands: &mut [f32]) {
        let mut counts = self.counts.iter().map(|count| *count as usize);
        let below = counts.next().unwrap_or(0);
        let mut weighted = bins.skip(below).zip(self.rise);
        let mut segment = |count: usize| {
            weighted.by_ref().take(count).fold((0.0, 0.0), |(rising, falling), (bin, rise)| {
                (rising + rise * bin, falling + (1.0 - rise) * bin)
            })
        };
        let (mut rising, _) = segment(counts.next().unwrap_or(0));
        for (band, count) in bands.iter_mut().zip(counts) {
            let (next_rising, falling) = segment(count);
            *band = rising + falling;
            rising = next_rising;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use super::{FilterBank, MelConfig, hz_to_mel};
    use crate::fft::Spectrum;
    use crate::window::Window;

    fn config(bands: u32, low_hz: f32, high_hz: f32) -> MelConfig {
        MelConfig {
            sample_rate: 16_000,
            frame: 400,
            stride: 160,
            fft: 512,
            window: Window::Hann,
            spectrum: Spectrum::Magnitude,
            bands,
            low_hz,
            high_hz,
        }
    }

    /// Weight of bin `k` in `band`, straight from the definition of the triangle.
    fn triangle(config: &MelConfig, band: usize, k: usize) -> f64 {
        let (low, high) = (hz_to_mel(config.low_hz.into()), hz_to_mel(config.high_hz.into()));
        let edge = |j: usize| low + (high - low) * j as f64 / f64::from(config.bands + 1);
        let mel = hz_to_mel(k as f64 * f64::from(config.sample_rate) / f64::from(config.fft));
        let up = (mel - edge(band)) / (edge(band + 1) - edge(band));
        let down = (edge(band + 2) - mel) / (edge(band + 2) - edge(band + 1));
        up.min(down).max(0.0)
    }

    #[test]
    fn every_weight_is_the_triangle() {
        for config in [config(64, 125.0, 7500.0), config(40, 20.0, 4000.0), config(1, 0.0, 8000.0)] {
            let mut memory = vec![f32::NAN; FilterBank::memory_len(&config)];
            let bank = FilterBank::build(&config, &mut memory);
            for k in 1..256 {
                let mut bands = vec![f32::NAN; config.bands as usize];
                bank.apply((1..256).map(|bin| if bin == k { 1.0 } else { 0.0 }), &mut bands);
                let wanted: Vec<f64> = (0..bands.len()).map(|band| triangle(&config, band, k)).collect();
                for (band, (found, wanted)) in bands.iter().zip(&wanted).enumerate() {
                    let error = (f64::from(*found) - wanted).abs();
                    assert!(error < 1e-7, "bin {k} band {band}: {found} for {wanted}");
                }
            }
        }
    }

    #[test]
    fn bad_fields_are_refused() {
        let good = config(64, 125.0, 7500.0);
        good.check().unwrap();
        for bad in [
            MelConfig { sample_rate: 0, ..good },
            MelConfig { frame: 0, ..good },
            MelConfig { frame: 513, ..good },
            MelConfig { stride: 0, ..good },
            MelConfig { fft: 500, ..good },
            MelConfig { bands: 0, ..good },
            MelConfig { bands: 257, ..good },
            MelConfig { low_hz: f32::NAN, ..good },
            MelConfig { low_hz: -1.0, ..good },
            MelConfig { low_hz: 7499.5, ..good },
            MelConfig { high_hz: f32::NAN, ..good },
            MelConfig { high_hz: 8001.0, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
