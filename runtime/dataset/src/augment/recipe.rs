//! Which augmentations a data set bears.

use core::ops::RangeInclusive;

use super::{
    colour, crop, flip, gain, mask_frequency, mask_time, mix, mixup, mixup_share, noise, pitch, rotate,
    shift, speed, window,
};
use crate::{Image, Rng};

/// One augmentation and the range it draws from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Augmentation {
    /// [`gain`], in dB.
    Gain(RangeInclusive<f64>),
    /// [`rotate`] by up to this share of the recording.
    Rotate(f64),
    /// [`shift`] by up to this share of the recording.
    Shift(f64),
    /// [`noise`], its signal-to-noise ratio in dB.
    Noise(RangeInclusive<f64>),
    /// [`mix`] with another recording, its signal-to-noise ratio in dB.
    Mix(RangeInclusive<f64>),
    /// [`mixup`] with another recording and its label, of shares by [`mixup_share`] with this alpha.
    Mixup(f64),
    /// [`speed`], as a factor.
    Speed(RangeInclusive<f64>),
    /// [`pitch`], in semitones.
    Pitch(RangeInclusive<f64>),
    /// [`crop`] to this many seconds.
    Crop(f64),
    /// [`mask_time`] of up to this share of the frames.
    TimeMask(f64),
    /// [`mask_frequency`] of up to this share of the bands.
    FrequencyMask(f64),
    /// [`flip`].
    Flip,
    /// [`window`] with sides of this share.
    Window(RangeInclusive<f64>),
    /// [`colour`] by up to this amount.
    Colour(f64),
}

/// What an augmentation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Samples.
    Recording,
    /// What a front end makes of them.
    Spectrogram,
    /// Pixels.
    Picture,
}

/// What the labels of a data set depend on, as far as augmentations go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A label survives small changes of pitch and speed: a dog stays a dog.
    PitchIsFree,
    /// Pitch or speed is what the label says: throttle, rotation, note.
    PitchIsLabel,
}

/// A sequence of augmentations that suits the labels it is used with.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    steps: Vec<Augmentation>,
}

/// Why augmentations do not make a recipe.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RecipeError {
    /// An augmentation that changes what the label says.
    ChangesLabel(Augmentation),
    /// A range that is empty or not finite, or a share or length that is not positive.
    Range(Augmentation),
    /// A second step that mixes labels: a recording has one partner.
    Twice(Augmentation),
    /// A word that is not an augmentation.
    Unknown(String),
}

impl Augmentation {
    /// Whether pitch or speed change.
    pub fn changes_pitch(&self) -> bool {
        matches!(self, Self::Speed(_) | Self::Pitch(_))
    }

    /// Whether the label becomes one of two.
    pub fn mixes_labels(&self) -> bool {
        matches!(self, Self::Mixup(_))
    }

    /// What it changes.
    pub fn of(&self) -> Of {
        match self {
            Self::TimeMask(_) | Self::FrequencyMask(_) => Of::Spectrogram,
            Self::Flip | Self::Window(_) | Self::Colour(_) => Of::Picture,
            _ => Of::Recording,
        }
    }

    fn is_usable(&self) -> bool {
        let is_range = |range: &RangeInclusive<f64>| {
            range.start().is_finite() && range.end().is_finite() && range.start() <= range.end()
        };
        match self {
            Self::Gain(range) | Self::Noise(range) | Self::Mix(range) | Self::Pitch(range) => is_range(range),
            Self::Speed(range) => is_range(range) && *range.start() > 0.0,
            Self::Rotate(share)
            | Self::Shift(share)
            | Self::TimeMask(share)
            | Self::FrequencyMask(share)
            | Self::Colour(share) => *share > 0.0 && *share <= 1.0,
            Self::Window(range) => is_range(range) && *range.start() > 0.0 && *range.end() <= 1.0,
            Self::Flip => true,
            Self::Crop(seconds) => *seconds > 0.0 && *seconds <= 3600.0,
            Self::Mixup(alpha) => *alpha > 0.0 && *alpha <= 1e3,
        }
    }

    fn apply(&self, samples: &[f32], rate: u32, background: &[f32], seed: u64) -> Vec<f32> {
        let part = |share: f64| (samples.len() as f64 * share) as usize;
        match self {
            Self::Gain(decibels) => gain(samples, decibels, seed),
            Self::Rotate(share) => rotate(samples, part(*share), seed),
            Self::Shift(share) => shift(samples, part(*share), seed),
            Self::Noise(decibels) => noise(samples, decibels, seed),
            Self::Mix(decibels) => mix(samples, background, decibels, seed),
            Self::Mixup(alpha) => {
                let [share, place] = mixup_seeds(seed);
                mixup(samples, background, mixup_share(*alpha, share), place)
            }
            Self::Speed(factors) => speed(samples, factors, seed),
            Self::Pitch(semitones) => pitch(samples, rate, semitones, seed),
            Self::Crop(seconds) => crop(samples, (f64::from(rate) * seconds) as usize, seed),
            Self::TimeMask(_) | Self::FrequencyMask(_) | Self::Flip | Self::Window(_) | Self::Colour(_) => {
                samples.to_vec()
            }
        }
    }
}

/// The seeds of a mixture's shares and of the place in its partner.
fn mixup_seeds(seed: u64) -> [u64; 2] {
    [0, 1].map(|stream| Rng::stream(seed, stream).next_u64())
}

impl Recipe {
    /// The recipe of `steps`, in that order, for labels of this `meaning`.
    ///
    /// ```
    /// use ingraft_dataset::augment::{Meaning, Recipe};
    ///
    /// let steps = ["gain=-6..6", "noise=10..30"].map(|step| step.parse().unwrap());
    /// let recipe = Recipe::new(steps.to_vec(), Meaning::PitchIsLabel).unwrap();
    /// let clip = [0.1f32; 160];
    /// assert_eq!(recipe.apply(&clip, 16_000, &[], 7), recipe.apply(&clip, 16_000, &[], 7));
    /// assert!(Recipe::new(vec!["speed=0.9..1.1".parse().unwrap()], Meaning::PitchIsLabel).is_err());
    /// ```
    ///
    /// # Errors
    /// [`RecipeError::ChangesLabel`], [`RecipeError::Range`] and [`RecipeError::Twice`] with the first unsuitable step.
    pub fn new(steps: Vec<Augmentation>, meaning: Meaning) -> Result<Self, RecipeError> {
        if let Some(step) = steps.iter().find(|step| !step.is_usable()) {
            return Err(RecipeError::Range(step.clone()));
        }
        if meaning == Meaning::PitchIsLabel
            && let Some(step) = steps.iter().find(|step| step.changes_pitch())
        {
            return Err(RecipeError::ChangesLabel(step.clone()));
        }
        if let Some(step) = steps.iter().filter(|step| step.mixes_labels()).nth(1) {
            return Err(RecipeError::Twice(step.clone()));
        }
        Ok(Self { steps })
    }

    /// The steps.
    pub fn steps(&self) -> &[Augmentation] {
        &self.steps
    }

    /// The first step that changes none of `kinds`.
    pub fn other_than(&self, kinds: &[Of]) -> Option<&Augmentation> {
        self.steps.iter().find(|step| !kinds.contains(&step.of()))
    }

    /// The first step that mixes in another recording.
    pub fn mixes(&self) -> Option<&Augmentation> {
        self.steps.iter().find(|step| matches!(step, Augmentation::Mix(_)) || step.mixes_labels())
    }

    /// The first step that mixes labels.
    pub fn mixes_labels(&self) -> Option<&Augmentation> {
        self.steps.iter().find(|step| step.mixes_labels())
    }

    /// The share that a recording has in what [`Self::apply`] makes of it with this `seed` and a `background`, in ½…1:
    /// the rest of the label is the background's. 1 where no step mixes labels.
    pub fn own_share(&self, seed: u64) -> f32 {
        let shares = self.seeded(Of::Recording, seed).filter_map(|(step, seed)| match step {
            Augmentation::Mixup(alpha) => Some(mixup_share(*alpha, mixup_seeds(seed)[0])),
            _ => None,
        });
        shares.fold(1.0, f32::min)
    }

    /// `samples` after every step of recordings. An empty `background` leaves out [`Augmentation::Mix`] and
    /// [`Augmentation::Mixup`].
    pub fn apply(&self, samples: &[f32], rate: u32, background: &[f32], seed: u64) -> Vec<f32> {
        let mut samples = samples.to_vec();
        for (step, seed) in self.seeded(Of::Recording, seed) {
            samples = step.apply(&samples, rate, background, seed);
        }
        samples
    }

    /// Changes a `patch` by every step of spectrograms: rows of `inner` values, which are bands, or frames where time
    /// runs along them.
    pub fn apply_to_patch(&self, patch: &mut [f32], inner: usize, time_is_inner: bool, seed: u64) {
        for (step, seed) in self.seeded(Of::Spectrogram, seed) {
            match step {
                Augmentation::TimeMask(share) if time_is_inner => mask_frequency(patch, inner, *share, seed),
                Augmentation::FrequencyMask(share) if time_is_inner => mask_time(patch, inner, *share, seed),
                Augmentation::TimeMask(share) => mask_time(patch, inner, *share, seed),
                Augmentation::FrequencyMask(share) => mask_frequency(patch, inner, *share, seed),
                _ => {}
            }
        }
    }

    /// `image` after every step of pictures.
    pub fn apply_to_image(&self, image: &Image, seed: u64) -> Image {
        self.seeded(Of::Picture, seed).fold(image.clone(), |image, (step, seed)| match step {
            Augmentation::Flip => flip(&image, seed),
            Augmentation::Window(shares) => window(&image, shares, seed),
            Augmentation::Colour(amount) => colour(&image, *amount, seed),
            _ => image,
        })
    }

    /// The steps of one kind, each with its seed.
    fn seeded(&self, of: Of, seed: u64) -> impl Iterator<Item = (&Augmentation, u64)> {
        let seeded = self.steps.iter().enumerate();
        let seeded = seeded.map(move |(number, step)| (step, Rng::stream(seed, number as u64).next_u64()));
        seeded.filter(move |(step, _)| step.of() == of)
    }
}

/// Reads `name=value` or `name=low..high`, as on a command line.
impl core::str::FromStr for Augmentation {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let unknown = || RecipeError::Unknown(text.to_owned());
        if text.trim() == "flip" {
            return Ok(Self::Flip);
        }
        let (name, value) = text.split_once('=').ok_or_else(unknown)?;
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| unknown());
        let range = || match value.split_once("..") {
            Some((low, high)) => Ok(number(low)?..=number(high)?),
            None => Ok(number(value)?..=number(value)?),
        };
        let augmentation = match name.trim() {
            "gain" => Self::Gain(range()?),
            "rotate" => Self::Rotate(number(value)?),
            "shift" => Self::Shift(number(value)?),
            "noise" => Self::Noise(range()?),
            "mix" => Self::Mix(range()?),
            "mixup" => Self::Mixup(number(value)?),
            "speed" => Self::Speed(range()?),
            "pitch" => Self::Pitch(range()?),
            "crop" => Self::Crop(number(value)?),
            "time-mask" => Self::TimeMask(number(value)?),
            "frequency-mask" => Self::FrequencyMask(number(value)?),
            "window" => Self::Window(range()?),
            "colour" => Self::Colour(number(value)?),
            _ => return Err(unknown()),
        };
        if augmentation.is_usable() { Ok(augmentation) } else { Err(RecipeError::Range(augmentation)) }
    }
}

/// The form that [`FromStr`](core::str::FromStr) reads.
impl core::fmt::Display for Augmentation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (name, range) = match self {
            Self::Gain(range) => ("gain", range.clone()),
            Self::Rotate(share) => ("rotate", *share..=*share),
            Self::Shift(share) => ("shift", *share..=*share),
            Self::Noise(range) => ("noise", range.clone()),
            Self::Mix(range) => ("mix", range.clone()),
            Self::Mixup(alpha) => ("mixup", *alpha..=*alpha),
            Self::Speed(range) => ("speed", range.clone()),
            Self::Pitch(range) => ("pitch", range.clone()),
            Self::Crop(seconds) => ("crop", *seconds..=*seconds),
            Self::TimeMask(share) => ("time-mask", *share..=*share),
            Self::FrequencyMask(share) => ("frequency-mask", *share..=*share),
            Self::Flip => return f.write_str("flip"),
            Self::Window(range) => ("window", range.clone()),
            Self::Colour(amount) => ("colour", *amount..=*amount),
        };
        if range.start() == range.end() {
            write!(f, "{name}={}", range.start())
        } else {
            write!(f, "{name}={}..{}", range.start(), range.end())
        }
    }
}

impl core::fmt::Display for RecipeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::ChangesLabel(step) => {
                write!(f, "`{step}` changes pitch or speed, which is what the labels say here; leave it out")
            }
            Self::Twice(step) => {
                write!(
                    f,
                    "`{step}` would mix a recording a second time; a label is of two at most, leave it out"
                )
            }
            Self::Range(step) => write!(f, "`{step}` has an empty or impossible range"),
            Self::Unknown(text) => write!(
                f,
                "`{text}` is not an augmentation; use gain=-6..6 (dB), rotate=0.5, shift=0.1 (share of the clip), \
                 noise=10..30, mix=5..20 (dB), mixup=0.4 (labels too), speed=0.9..1.1, pitch=-1..1 (semitones), \
                 crop=0.975 (seconds), \
                 time-mask=0.2, frequency-mask=0.2 (share of a spectrogram), flip, window=0.7..1 (share of a picture's \
                 sides) or colour=0.3"
            ),
        }
    }
}

impl core::error::Error for RecipeError {}
