//! The closed set of front ends, their sizes, and the record that a plan file stores.

use crate::error::SignalError;
use crate::fft;
use crate::front_end::FrontEnd;
use crate::grid::{Grid, Patches};
use crate::image::{Image, Layout};
use crate::log_mel::{Axes, LogMel};
use crate::mel::FilterBank;
use crate::mfcc::{Mfcc, MfccConfig};
use crate::sample::Sample;
use crate::waveform::Waveform;
use crate::words::{WordReader, WordWriter};

/// Words in the record of a recipe.
pub const RECIPE_WORDS: usize = 24;

/// How a recording or an image becomes the model's input.
///
/// A value of this type is valid: every variant holds a configuration that passed its checks.
///
/// # Examples
/// ```
/// use ingraft_signal::Recipe;
///
/// let recipe = Recipe::preset("yamnet", &[96, 64])?;
/// let clip = [0_i16; 40_000];
/// let mut memory = vec![0.0; recipe.memory_len()];
/// let mut patch = vec![0.0; recipe.out_len()];
/// for samples in recipe.cut(&clip) {
///     recipe.patch(samples, &mut memory, &mut patch)?;
///     assert_eq!(patch[0], libm::logf(0.001));
/// }
/// # Ok::<(), ingraft_signal::SignalError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recipe {
    /// No front end: the caller feeds the input tensor.
    None,
    /// Samples as they are.
    Waveform(Waveform),
    /// Log-mel map.
    LogMel(LogMel),
    /// Cepstral coefficients.
    Mfcc(Mfcc),
    /// Normalized image.
    Image(Image),
}

/// Dimensions of one patch, without the batch axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchShape {
    dims: [usize; 3],
    rank: usize,
}

impl PatchShape {
    /// The dimensions, outermost first; empty for [`Recipe::None`].
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        self.dims.get(..self.rank).unwrap_or(&[])
    }
}

impl Recipe {
    /// The recipe's kind, as in configuration files.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Waveform(_) => "waveform",
            Self::LogMel(_) => "log-mel",
            Self::Mfcc(_) => "mfcc",
            Self::Image(_) => "image",
        }
    }

    /// Samples a second; `None` where the recipe takes no samples.
    #[must_use]
    pub const fn sample_rate(&self) -> Option<u32> {
        match self {
            Self::None | Self::Image(_) => None,
            Self::Waveform(waveform) => Some(waveform.config().sample_rate),
            Self::LogMel(log_mel) => Some(log_mel.config().mel.sample_rate),
            Self::Mfcc(mfcc) => Some(mfcc.log_mel().config().mel.sample_rate),
        }
    }

    pub(crate) fn grid(&self) -> Result<Grid, SignalError> {
        match self {
            Self::None | Self::Image(_) => Err(SignalError::NotAudio { kind: self.kind() }),
            Self::Waveform(waveform) => Ok(Grid::waveform(waveform)),
            Self::LogMel(log_mel) => Ok(Grid::log_mel(log_mel)),
            Self::Mfcc(mfcc) => Ok(Grid::log_mel(mfcc.log_mel())),
        }
    }

    /// Input values of one patch: samples, bytes of an image, 0 for none.
    #[must_use]
    pub fn patch_len(&self) -> usize {
        match self {
            Self::Image(image) => image.len(),
            _ => self.grid().map_or(0, |grid| grid.patch),
        }
    }

    /// Samples from one patch to the next; 0 where the recipe takes no samples.
    #[must_use]
    pub fn hop(&self) -> usize {
        self.grid().map_or(0, |grid| grid.hop)
    }

    /// The same recipe with another hop; unchanged where the recipe takes no samples.
    ///
    /// # Errors
    /// [`SignalError::Config`] if the hop is 0 or no multiple of the stride.
    pub fn with_hop(self, hop: u32) -> Result<Self, SignalError> {
        let rehop = |log_mel: &LogMel| {
            let mut config = *log_mel.config();
            config.hop = hop;
            config
        };
        match self {
            Self::None | Self::Image(_) => Ok(self),
            Self::Waveform(waveform) => {
                let mut config = *waveform.config();
                config.hop = hop;
                Waveform::new(config).map(Self::Waveform)
            }
            Self::LogMel(log_mel) => LogMel::new(rehop(&log_mel)).map(Self::LogMel),
            Self::Mfcc(mfcc) => {
                let config = MfccConfig { log_mel: rehop(mfcc.log_mel()), coefficients: mfcc.coefficients() };
                Mfcc::new(config).map(Self::Mfcc)
            }
        }
    }

    /// Patches in a clip of `clip_len` samples: 1 if it is no longer than a patch, else
    /// `1 + ⌊(clip_len − patch)/hop⌋`. An image or a tensor is one patch.
    ///
    /// A shorter clip is followed by silence; samples after the last whole patch of a longer one are left
    /// out.
    #[must_use]
    pub fn patches(&self, clip_len: usize) -> usize {
        match self.grid() {
            Ok(grid) => 1 + clip_len.saturating_sub(grid.patch).checked_div(grid.hop).unwrap_or(0),
            Err(_) => 1,
        }
    }

    /// Cuts a clip into the [`Recipe::patches`] slices that [`Recipe::patch`] and [`FrontEnd::patch`] take.
    pub fn cut<'c, S>(&self, clip: &'c [S]) -> Patches<'c, S> {
        let (patch, hop) = self.grid().map_or((clip.len(), 0), |grid| (grid.patch, grid.hop));
        Patches::new(clip, patch, hop, self.patches(clip.len()))
    }

    /// Shape of one patch: `[samples]`, `[frames, bands]`, `[bands, frames]`, `[planes, …]` or the image's
    /// three axes.
    #[must_use]
    pub fn shape(&self) -> PatchShape {
        let map = |log_mel: &LogMel, width: usize| {
            let frames = log_mel.frames() as usize;
            let planes = log_mel.config().planes as usize;
            let (outer, inner) = match log_mel.config().axes {
                Axes::FramesBands => (frames, width),
                Axes::BandsFrames => (width, frames),
            };
            match planes {
                1 => PatchShape { dims: [outer, inner, 1], rank: 2 },
                _ => PatchShape { dims: [planes, outer, inner], rank: 3 },
            }
        };
        match self {
            Self::None => PatchShape { dims: [1; 3], rank: 0 },
            Self::Waveform(waveform) => {
                PatchShape { dims: [waveform.config().patch as usize, 1, 1], rank: 1 }
            }
            Self::LogMel(log_mel) => map(log_mel, log_mel.config().mel.bands as usize),
            Self::Mfcc(mfcc) => map(mfcc.log_mel(), mfcc.coefficients() as usize),
            Self::Image(image) => {
                let config = image.config();
                let [width, height, channels] =
                    [config.width as usize, config.height as usize, config.channels as usize];
                let dims = match config.layout {
                    Layout::Nchw => [channels, height, width],
                    Layout::Nhwc => [height, width, channels],
                };
                PatchShape { dims, rank: 3 }
            }
        }
    }

    /// Floats written for one patch; 0 for [`Recipe::None`].
    #[must_use]
    pub fn out_len(&self) -> usize {
        match self {
            Self::None => 0,
            _ => self.shape().dims().iter().product(),
        }
    }

    /// Floats of memory for a [`FrontEnd`] or one [`Recipe::patch`]: tables and work space. 0 where the
    /// recipe takes no samples.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        let spectral = |log_mel: &LogMel, coefficients: u32| {
            let mel = &log_mel.config().mel;
            let basis = coefficients as usize * mel.bands as usize;
            let work = fft::memory_len(mel.fft) + mel.bands as usize;
            mel.frame as usize + FilterBank::memory_len(mel) + basis + work
        };
        match self {
            Self::None | Self::Image(_) => 0,
            Self::Waveform(_) => 1,
            Self::LogMel(log_mel) => spectral(log_mel, 0),
            Self::Mfcc(mfcc) => spectral(mfcc.log_mel(), mfcc.coefficients()),
        }
    }

    /// Floats of memory for a [`Stream`](crate::Stream), its front end included.
    #[must_use]
    pub fn stream_len(&self) -> usize {
        self.grid().map_or(0, |grid| self.memory_len() + grid.frame + grid.frames * grid.width + grid.blocks)
    }

    /// Computes one patch, tables included; bind a [`FrontEnd`] to compute the tables once for many patches.
    ///
    /// # Errors
    /// Those of [`FrontEnd::bind`] and [`FrontEnd::patch`].
    pub fn patch<S: Sample>(
        &self,
        samples: &[S],
        memory: &mut [f32],
        out: &mut [f32],
    ) -> Result<(), SignalError> {
        FrontEnd::bind(self, memory)?.patch(samples, out)
    }

    /// The record of this recipe: its kind, its fields in order, zeros.
    #[must_use]
    pub fn to_words(&self) -> [u32; RECIPE_WORDS] {
        let mut record = [0; RECIPE_WORDS];
        let mut words = WordWriter::new(&mut record);
        match self {
            Self::None => words.word(0),
            Self::Waveform(waveform) => {
                words.word(1);
                waveform.write(&mut words);
            }
            Self::LogMel(log_mel) => {
                words.word(2);
                log_mel.write(&mut words);
            }
            Self::Mfcc(mfcc) => {
                words.word(3);
                mfcc.write(&mut words);
            }
            Self::Image(image) => {
                words.word(4);
                image.write(&mut words);
            }
        }
        record
    }

    /// Reads a record of [`RECIPE_WORDS`] words; `None` if it is none that [`Recipe::to_words`] writes.
    #[must_use]
    pub fn from_words(words: &[u32]) -> Option<Self> {
        if words.len() != RECIPE_WORDS {
            return None;
        }
        let mut words = WordReader::new(words);
        let recipe = match words.word()? {
            0 => Self::None,
            1 => Self::Waveform(Waveform::read(&mut words)?),
            2 => Self::LogMel(LogMel::read(&mut words)?),
            3 => Self::Mfcc(Mfcc::read(&mut words)?),
            4 => Self::Image(Image::read(&mut words)?),
            _ => return None,
        };
        words.rest_is_zero().then_some(recipe)
    }
}
