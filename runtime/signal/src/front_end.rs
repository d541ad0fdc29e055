//! A recipe with its tables, ready to compute patches.

use crate::error::SignalError;
use crate::grid::Grid;
use crate::recipe::Recipe;
use crate::sample::Sample;
use crate::scale::{Level, peak};
use crate::spectral::{Spectral, carve};

/// An audio recipe bound to memory that holds its tables: window, filter bank, DCT basis.
#[derive(Debug)]
pub struct FrontEnd<'m> {
    pub(crate) grid: Grid,
    pub(crate) out_len: usize,
    pub(crate) level: Level,
    pub(crate) stage: Stage<'m>,
    /// One row of `grid.width` values.
    pub(crate) row: &'m mut [f32],
}

/// How a row of a patch is computed and written.
#[derive(Debug)]
pub(crate) enum Stage<'m> {
    Waveform,
    Spectral(Spectral<'m>),
}

impl Stage<'_> {
    /// The row of one frame, independent of the patch it will be part of.
    pub(crate) fn row(&mut self, mut samples: impl Iterator<Item = f32> + Clone, row: &mut [f32]) {
        match self {
            Self::Waveform => row.fill(samples.next().unwrap_or(0.0)),
            Self::Spectral(spectral) => spectral.row(samples, row),
        }
    }

    /// Writes a row into the patch; the row is spent.
    pub(crate) fn emit(&self, index: usize, factor: f32, row: &mut [f32], out: &mut [f32]) {
        match self {
            Self::Waveform => {
                for (slot, sample) in out.iter_mut().skip(index).zip(row) {
                    *slot = *sample * factor;
                }
            }
            Self::Spectral(spectral) => spectral.emit(index, factor, row, out),
        }
    }

    pub(crate) fn finish(&self, out: &mut [f32]) {
        if let Self::Spectral(spectral) = self {
            spectral.finish(out);
        }
    }
}

impl<'m> FrontEnd<'m> {
    /// Computes the recipe's tables into `memory`, which holds [`Recipe::memory_len`] floats or more.
    ///
    /// # Errors
    /// [`SignalError::NotAudio`] for an image or no front end; [`SignalError::Memory`].
    pub fn bind(recipe: &Recipe, memory: &'m mut [f32]) -> Result<Self, SignalError> {
        let grid = recipe.grid()?;
        let (given, needed) = (memory.len(), recipe.memory_len());
        if given < needed {
            return Err(SignalError::Memory { given, needed });
        }
        let mut memory = memory;
        let (level, stage) = match recipe {
            Recipe::None | Recipe::Image(_) => return Err(SignalError::NotAudio { kind: recipe.kind() }),
            Recipe::Waveform(waveform) => (waveform.config().level, Stage::Waveform),
            Recipe::LogMel(log_mel) => {
                (log_mel.config().level, Stage::Spectral(Spectral::bind(log_mel, 0, &mut memory)?))
            }
            Recipe::Mfcc(mfcc) => {
                let spectral = Spectral::bind(mfcc.log_mel(), mfcc.coefficients(), &mut memory)?;
                (mfcc.log_mel().config().level, Stage::Spectral(spectral))
            }
        };
        let row = carve(&mut memory, grid.width)?;
        Ok(Self { grid, out_len: recipe.out_len(), level, stage, row })
    }

    /// Computes one patch from up to [`Recipe::patch_len`] samples; fewer are followed by silence.
    ///
    /// # Errors
    /// [`SignalError::Samples`] for too many samples; [`SignalError::Output`] unless `out` holds exactly
    /// [`Recipe::out_len`] floats.
    pub fn patch<S: Sample>(&mut self, samples: &[S], out: &mut [f32]) -> Result<(), SignalError> {
        if samples.len() > self.grid.patch {
            return Err(SignalError::Samples { given: samples.len(), at_most: self.grid.patch });
        }
        self.check_out(out)?;
        let factor = self.level.factor(peak(samples));
        for index in 0..self.grid.frames {
            let start = index * self.grid.stride;
            let frame = samples.get(start..).unwrap_or(&[]).iter().map(|sample| sample.to_f32());
            self.stage.row(frame, self.row);
            self.stage.emit(index, factor, self.row, out);
        }
        self.stage.finish(out);
        Ok(())
    }

    pub(crate) fn check_out(&self, out: &[f32]) -> Result<(), SignalError> {
        let (given, needed) = (out.len(), self.out_len);
        if given == needed { Ok(()) } else { Err(SignalError::Output { given, needed }) }
    }
}
