//! Recordings, pictures and PCM through the front end a plan records.

use ingraft_dataset::{Filter, Image};
use ingraft_plan::PlanView;
use ingraft_signal::{Axes, FrontEnd as Bound, Recipe};
use ingraft_tensor::{DType, bytes};

use super::{Feed, InputSpec};
use crate::CliError;

/// The front end of a plan: its recipe and the input it feeds.
#[derive(Clone, Debug)]
pub(crate) struct FrontEnd<'p> {
    recipe: Recipe,
    input: InputSpec<'p>,
    /// Patches in one run.
    batch: usize,
}

/// How a spectrogram lies in a patch: the same in one or more planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spectrogram {
    /// Values of a plane.
    pub(crate) plane: usize,
    /// Of them, in a row.
    pub(crate) columns: usize,
    /// Whether a row is one band over time, rather than one frame.
    pub(crate) frames_inside: bool,
}

impl<'p> FrontEnd<'p> {
    /// `recipe` as the front end of a model with these inputs, of which there is one.
    ///
    /// # Errors
    /// [`CliError::InputCount`] for several inputs; [`CliError::FrontEndShape`] when the input is not filled by whole
    /// patches.
    pub(crate) fn new(recipe: Recipe, inputs: &[InputSpec<'p>]) -> Result<Self, CliError> {
        let [input] = inputs else {
            return Err(CliError::InputCount(inputs.iter().map(|input| input.name.to_owned()).collect()));
        };
        let (values, patch) = (input.elements(), recipe.out_len());
        if patch == 0 || values == 0 || !values.is_multiple_of(patch) {
            let (name, shape) = (input.name.to_owned(), input.shape.clone());
            return Err(CliError::FrontEndShape { kind: recipe.kind(), patch, name, shape });
        }
        Ok(Self { recipe, input: input.clone(), batch: values / patch })
    }

    /// The front end that `plan` records, if any.
    ///
    /// # Errors
    /// Those of [`Self::new`]; [`CliError::Recipe`] for a record this version does not know;
    /// [`CliError::Signal`] for an impossible hop.
    pub(crate) fn of(plan: &PlanView<'p>) -> Result<Option<Self>, CliError> {
        let Some(io) = plan.inputs().next().filter(|io| !io.recipe.is_empty()) else { return Ok(None) };
        let recipe = Recipe::from_words(io.recipe).ok_or(CliError::Recipe)?;
        if recipe == Recipe::None {
            return Ok(None);
        }
        let recipe = match io.hop {
            Some(hop) => recipe.with_hop(hop)?,
            None => recipe,
        };
        Self::new(recipe, &InputSpec::all(plan)).map(Some)
    }

    /// The recipe, with the plan's hop.
    pub(crate) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Samples a second.
    ///
    /// # Errors
    /// [`CliError::NotAudio`] when the plan takes pictures.
    pub(crate) fn rate(&self) -> Result<u32, CliError> {
        self.recipe.sample_rate().ok_or(CliError::NotAudio)
    }

    /// The spectrogram that a patch is; `None` where it is none.
    pub(crate) fn spectrogram(&self) -> Option<Spectrogram> {
        let log_mel = match &self.recipe {
            Recipe::LogMel(log_mel) => log_mel,
            Recipe::Mfcc(mfcc) => mfcc.log_mel(),
            _ => return None,
        };
        let shape = self.recipe.shape();
        let [.., rows, columns] = *shape.dims() else { return None };
        Some(Spectrogram {
            plane: rows * columns,
            columns,
            frames_inside: log_mel.config().axes == Axes::BandsFrames,
        })
    }

    /// The patches of a clip at [`Self::rate`].
    ///
    /// # Errors
    /// [`CliError::Signal`], [`CliError::InputType`].
    pub(crate) fn samples(&self, clip: &[f32]) -> Result<Feed, CliError> {
        self.changed(clip, |_| {})
    }

    /// As [`Self::samples`], every patch changed by `change`.
    ///
    /// # Errors
    /// Those of [`Self::samples`].
    pub(crate) fn changed(&self, clip: &[f32], mut change: impl FnMut(&mut [f32])) -> Result<Feed, CliError> {
        let mut memory = vec![0.0; self.recipe.memory_len()];
        let mut bound = Bound::bind(&self.recipe, &mut memory)?;
        let mut patches = Vec::new();
        for cut in self.recipe.cut(clip) {
            let mut patch = vec![0.0; self.recipe.out_len()];
            bound.patch(cut, &mut patch)?;
            change(&mut patch);
            patches.push(patch);
        }
        self.feed(&patches)
    }

    /// A picture, scaled and cropped to what the model takes.
    ///
    /// # Errors
    /// [`CliError::NotImages`] when the plan takes recordings; [`CliError::Signal`], [`CliError::InputType`].
    pub(crate) fn image(&self, image: &Image) -> Result<Feed, CliError> {
        let Recipe::Image(recipe) = &self.recipe else { return Err(CliError::NotImages) };
        let config = recipe.config();
        let fitted = image.fit(config.width as usize, config.height as usize, Filter::Bilinear);
        let mut patch = vec![0.0; self.recipe.out_len()];
        match config.channels {
            1 => recipe.normalize(&luma(fitted.rgb()), &mut patch)?,
            _ => recipe.normalize(fitted.rgb(), &mut patch)?,
        }
        self.feed(&[patch])
    }

    /// The feed of one clip's patches.
    ///
    /// # Errors
    /// [`CliError::InputType`] unless the input takes floats, int8 codes or bytes.
    pub(crate) fn feed(&self, patches: &[Vec<f32>]) -> Result<Feed, CliError> {
        let run = |part: &[Vec<f32>]| {
            let mut bytes = self.encode(&part.concat())?;
            bytes.resize(self.input.bytes(), 0);
            Ok(vec![bytes])
        };
        let runs = patches.chunks(self.batch).map(run).collect::<Result<Vec<_>, CliError>>()?;
        let padding = runs.len() * self.batch - patches.len();
        Ok(Feed { runs, padding, is_clip: true })
    }

    fn encode(&self, values: &[f32]) -> Result<Vec<u8>, CliError> {
        match (self.input.dtype, self.input.qparams) {
            (DType::F32, _) => Ok(bytes::of(values).to_vec()),
            (DType::I8, Some(qparams)) => Ok(values.iter().map(|&v| qparams.quantize(v) as u8).collect()),
            // Bytes without quantization are the numbers themselves, as pictures have them.
            (DType::U8, None) => Ok(values.iter().map(|&v| v.round_ties_even() as u8).collect()),
            (dtype, _) => Err(CliError::InputType { name: self.input.name.to_owned(), dtype }),
        }
    }
}

/// ITU-R 601 luma in Pillow's fixed point, so that gray models see the gray they were trained on.
fn luma(rgb: &[u8]) -> Vec<u8> {
    let gray = |pixel: &[u8; 3]| {
        let [r, g, b] = pixel.map(u32::from);
        ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
    };
    rgb.as_chunks().0.iter().map(gray).collect()
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::QParams;

    use super::*;

    fn front_end(batch: usize, dtype: DType) -> FrontEnd<'static> {
        let recipe = Recipe::preset("waveform", &[100]).unwrap();
        let shape = vec![batch, 100];
        let qparams = QParams::new(0.5, 3);
        FrontEnd { recipe, input: InputSpec { name: "x", dtype, shape, qparams }, batch }
    }

    #[test]
    fn a_clip_becomes_whole_batches() {
        // Patches of 100 samples every 50: 225 samples make 3.
        let clip: Vec<f32> = (0..225u8).map(f32::from).collect();
        let feed = front_end(2, DType::F32).samples(&clip).unwrap();
        assert_eq!((feed.runs.len(), feed.padding, feed.is_clip), (2, 1, true));
        let second: &[f32] = &clip[50..150];
        assert_eq!(&feed.runs[0][0][400..], bytes::of(second));
        assert_eq!(&feed.runs[1][0][400..], [0; 400]);
    }

    #[test]
    fn codes_are_rounded_as_the_plan_does() {
        let feed = front_end(1, DType::I8).samples(&[0.0, 1.0, -1.25, 1e9]).unwrap();
        assert_eq!(feed.runs[0][0][..5], [3, 5, 1, 127, 3]);
        let bytes = FrontEnd {
            input: InputSpec { qparams: None, ..front_end(1, DType::U8).input },
            ..front_end(1, DType::U8)
        };
        assert_eq!(bytes.samples(&[0.0, 1.4, 2.5, -3.0, 300.0]).unwrap().runs[0][0][..5], [0, 1, 2, 0, 255]);
        let refused = front_end(1, DType::I64).samples(&[0.0]);
        assert!(matches!(refused, Err(CliError::InputType { dtype: DType::I64, .. })));
    }

    #[test]
    fn gray_is_that_of_pillow() {
        // PIL.Image.new("RGB", (1, 1), color).convert("L"), Pillow 13
        assert_eq!(luma(&[255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 77]), [76, 150, 29, 130]);
    }
}
