//! From windowed frames to log-mel or cepstral rows, with tables in the caller's memory.

use crate::error::SignalError;
use crate::fft::{self, Fft, Spectrum};
use crate::fixed::{Block, factor, factor_from_memory, factor_to_memory, times};
use crate::log_mel::{Axes, LogMel, LogMelConfig};
use crate::mel::FilterBank;
use crate::mfcc::fill_dct;
use crate::scale::louder;

/// Tables and transform of a log-mel or MFCC recipe.
#[derive(Debug)]
pub(crate) struct Spectral<'m> {
    config: LogMelConfig,
    frames: usize,
    /// Fixed-point weights of the frame.
    window: &'m [f32],
    bank: FilterBank<'m>,
    /// DCT basis, one row a coefficient; empty where the log-mel row itself is the output.
    basis: &'m [f32],
    fft: Fft<'m>,
}

/// Takes the first `len` floats off `memory`.
pub(crate) fn carve<'m>(memory: &mut &'m mut [f32], len: usize) -> Result<&'m mut [f32], SignalError> {
    let given = memory.len();
    let short = SignalError::Memory { given, needed: len };
    let (head, tail) = core::mem::take(memory).split_at_mut_checked(len).ok_or(short)?;
    *memory = tail;
    Ok(head)
}

impl<'m> Spectral<'m> {
    pub(crate) fn bind(
        log_mel: &LogMel,
        coefficients: u32,
        memory: &mut &'m mut [f32],
    ) -> Result<Self, SignalError> {
        let config = *log_mel.config();
        let mel = &config.mel;
        let window = carve(memory, mel.frame as usize)?;
        for (n, weight) in window.iter_mut().enumerate() {
            *weight = factor_to_memory(factor(mel.window.weight(n, mel.frame as usize)));
        }
        let bank = FilterBank::build(mel, carve(memory, FilterBank::memory_len(mel))?);
        let basis = carve(memory, coefficients as usize * mel.bands as usize)?;
        fill_dct(basis, mel.bands);
        let fft = Fft::new(mel.fft, mel.spectrum, carve(memory, fft::memory_len(mel.fft))?);
        Ok(Self { config, frames: log_mel.frames() as usize, window, bank, basis, fft })
    }

    /// The mel row of one frame, before level and logarithm; missing samples are zero.
    pub(crate) fn row(&mut self, samples: impl Iterator<Item = f32> + Clone, row: &mut [f32]) {
        let frame = samples.zip(self.window);
        let block = Block::of(frame.clone().fold(0.0, |peak, (sample, _)| louder(peak, sample.abs())));
        let weighted = frame.map(|(sample, weight)| times(block.signal(sample), factor_from_memory(*weight)));
        self.fft.transform(weighted);
        self.bank.apply(self.fft.bins(block), row);
    }

    /// Writes row `index` of the patch; `factor` is the level's factor on the samples, `row` is spent.
    pub(crate) fn emit(&self, index: usize, factor: f32, row: &mut [f32], out: &mut [f32]) {
        let gain = match self.config.mel.spectrum {
            Spectrum::Magnitude => factor,
            Spectrum::Power => factor * factor,
        };
        for value in &mut *row {
            *value = libm::logf(*value * gain + self.config.offset);
        }
        let bands = row.len().max(1);
        let width = if self.basis.is_empty() { bands } else { self.basis.len() / bands };
        let (start, step) = match self.config.axes {
            Axes::FramesBands => (index * width, 1),
            Axes::BandsFrames => (index, self.frames.max(1)),
        };
        let slots = out.iter_mut().skip(start).step_by(step).take(width);
        if self.basis.is_empty() {
            for (slot, value) in slots.zip(row) {
                *slot = *value;
            }
        } else {
            for (slot, weights) in slots.zip(self.basis.chunks_exact(bands)) {
                *slot = weights.iter().zip(&*row).fold(0.0, |sum, (weight, value)| sum + weight * value);
            }
        }
    }

    /// Normalizes the finished map and copies it to the other planes.
    pub(crate) fn finish(&self, out: &mut [f32]) {
        let plane = out.len() / self.config.planes.max(1) as usize;
        let Some((first, others)) = out.split_at_mut_checked(plane) else { return };
        self.config.normalize.apply(first);
        for (slot, value) in others.iter_mut().zip(first.iter().cycle()) {
            *slot = *value;
        }
    }
}
