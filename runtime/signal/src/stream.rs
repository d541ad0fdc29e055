//! Patches from PCM that arrives in pieces of any size.

use crate::error::SignalError;
use crate::front_end::{FrontEnd, Stage};
use crate::recipe::Recipe;
use crate::sample::Sample;
use crate::scale::louder;
use crate::spectral::carve;

/// A front end that is fed sample by sample and remembers rows rather than samples.
///
/// Each frame is computed once, when its last sample arrives, and serves every patch that covers it. The
/// patches are those of [`Recipe::cut`] over the whole clip, bit for bit, whatever the pieces.
///
/// # Examples
/// ```
/// use ingraft_signal::{Recipe, Stream};
///
/// let recipe = Recipe::preset("kws-mfcc", &[49, 10, 1])?;
/// let mut memory = vec![0.0; recipe.stream_len()];
/// let mut patch = vec![0.0; recipe.out_len()];
/// let mut stream = Stream::bind(&recipe, &mut memory)?;
/// let (mut heard, pieces) = (0, [[0_i16; 640]; 40]);
/// for piece in &pieces {
///     let mut rest = &piece[..];
///     while let Some(left) = stream.push(rest, &mut patch)? {
///         heard += 1;
///         rest = left;
///     }
/// }
/// assert_eq!(heard, 2); // 1.6 s: a patch at 1.0 s and one at 1.5 s
/// # Ok::<(), ingraft_signal::SignalError>(())
/// ```
#[derive(Debug)]
pub struct Stream<'m> {
    front: FrontEnd<'m>,
    /// The last `frame` samples.
    samples: Ring<'m>,
    /// The last `frames` rows.
    rows: Ring<'m>,
    /// The peaks of the last blocks of a patch, where the level asks for them.
    peaks: Ring<'m>,
    /// Peak of the block under way.
    peak: f32,
    until_frame: usize,
    until_block: usize,
    until_patch: usize,
    /// Whether the clip has given a patch yet.
    heard: bool,
}

/// The last values of a sequence, in records of equal length.
#[derive(Debug)]
struct Ring<'m> {
    values: &'m mut [f32],
    /// Where the oldest record starts and the next one goes.
    at: usize,
}

impl<'m> Ring<'m> {
    fn new(values: &'m mut [f32]) -> Self {
        values.fill(0.0);
        Self { values, at: 0 }
    }

    /// The slot of the next record.
    fn advance(&mut self, len: usize) -> &mut [f32] {
        let start = self.at;
        let end = start + len;
        self.at = if end < self.values.len() { end } else { 0 };
        self.values.get_mut(start..end).unwrap_or(&mut [])
    }

    fn push(&mut self, value: f32) {
        self.advance(1).fill(value);
    }

    /// Oldest first.
    fn parts(&self) -> (&[f32], &[f32]) {
        let (newer, older) = self.values.split_at_checked(self.at).unwrap_or((&[], &[]));
        (older, newer)
    }

    fn clear(&mut self) {
        self.values.fill(0.0);
        self.at = 0;
    }
}

impl<'m> Stream<'m> {
    /// Binds a recipe to `memory`, which holds [`Recipe::stream_len`] floats or more.
    ///
    /// # Errors
    /// Those of [`FrontEnd::bind`].
    pub fn bind(recipe: &Recipe, memory: &'m mut [f32]) -> Result<Self, SignalError> {
        let grid = recipe.grid()?;
        let (given, needed) = (memory.len(), recipe.stream_len());
        if given < needed {
            return Err(SignalError::Memory { given, needed });
        }
        let mut memory = memory;
        let samples = Ring::new(carve(&mut memory, grid.frame)?);
        let rows = Ring::new(carve(&mut memory, grid.frames * grid.width)?);
        let peaks = Ring::new(carve(&mut memory, grid.blocks)?);
        Ok(Self {
            front: FrontEnd::bind(recipe, memory)?,
            samples,
            rows,
            peaks,
            peak: 0.0,
            until_frame: grid.frame,
            until_block: grid.stride,
            until_patch: grid.patch,
            heard: false,
        })
    }

    /// Takes samples up to the end of the next patch.
    ///
    /// `Some(rest)`: `out` holds a patch and `rest` is still to be pushed. `None`: all samples are taken and
    /// no patch is complete; `out` is untouched.
    ///
    /// # Errors
    /// [`SignalError::Output`] unless `out` holds exactly [`Recipe::out_len`] floats; no sample is taken then.
    pub fn push<'s, S: Sample>(
        &mut self,
        samples: &'s [S],
        out: &mut [f32],
    ) -> Result<Option<&'s [S]>, SignalError> {
        self.front.check_out(out)?;
        let mut rest = samples.iter();
        while let Some(sample) = rest.next() {
            if self.take(sample.to_f32()) {
                self.emit(out);
                return Ok(Some(rest.as_slice()));
            }
        }
        Ok(None)
    }

    /// Ends the clip and makes ready for the next. True if the clip was too short for a patch: `out` then
    /// holds its only one, followed by silence.
    ///
    /// # Errors
    /// [`SignalError::Output`] unless `out` holds exactly [`Recipe::out_len`] floats; the clip has not ended then.
    pub fn finish(&mut self, out: &mut [f32]) -> Result<bool, SignalError> {
        self.front.check_out(out)?;
        let short = !self.heard;
        if short {
            while !self.take(0.0) {}
            self.emit(out);
        }
        self.reset();
        Ok(short)
    }

    /// Forgets the clip under way.
    pub fn reset(&mut self) {
        let grid = self.front.grid;
        self.samples.clear();
        self.rows.clear();
        self.peaks.clear();
        self.peak = 0.0;
        self.until_frame = grid.frame;
        self.until_block = grid.stride;
        self.until_patch = grid.patch;
        self.heard = false;
    }

    /// Takes one sample; true if it completes a patch.
    fn take(&mut self, sample: f32) -> bool {
        let grid = self.front.grid;
        self.samples.push(sample);
        self.peak = louder(self.peak, sample);
        self.until_block -= 1;
        if self.until_block == 0 {
            self.until_block = grid.stride;
            self.peaks.push(core::mem::take(&mut self.peak));
        }
        self.until_frame -= 1;
        if self.until_frame == 0 {
            self.until_frame = grid.stride;
            let (older, newer) = self.samples.parts();
            let frame = older.iter().chain(newer).copied();
            self.front.stage.row(frame, self.rows.advance(grid.width));
        }
        self.until_patch -= 1;
        if self.until_patch == 0 {
            self.until_patch = grid.hop;
            self.heard = true;
            return true;
        }
        false
    }

    /// Writes the patch that ends here.
    fn emit(&mut self, out: &mut [f32]) {
        let heard = match self.front.stage {
            Stage::Waveform => &self.rows,
            Stage::Spectral(_) => &self.peaks,
        };
        let peak = heard.values.iter().fold(0.0, |peak, value| louder(peak, *value));
        let factor = self.front.level.factor(peak);
        let (older, newer) = self.rows.parts();
        let width = self.front.grid.width.max(1);
        let rows = older.chunks_exact(width).chain(newer.chunks_exact(width));
        for (index, remembered) in rows.enumerate() {
            for (value, remembered) in self.front.row.iter_mut().zip(remembered) {
                *value = *remembered;
            }
            self.front.stage.emit(index, factor, self.front.row, out);
        }
        self.front.stage.finish(out);
    }
}
