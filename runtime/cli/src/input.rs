//! What a user has, as the bytes a plan's inputs take.
//!
//! Arrays go in as they are ([`arrays`]); recordings, pictures and PCM streams
//! through the plan's front-end recipe ([`front_end`]).

pub(crate) mod arrays;
pub(crate) mod front_end;

use std::path::Path;

use ingraft_dataset::audio::read_clip;
use ingraft_dataset::{Content, Dataset, npy, read_image};
use ingraft_plan::PlanView;
#[cfg(feature = "compile")]
use ingraft_signal::Recipe;
use ingraft_tensor::{DType, QParams};

use crate::CliError;
use front_end::FrontEnd;

/// One input of a plan.
#[derive(Clone, Debug)]
pub(crate) struct InputSpec<'p> {
    /// Its ONNX name.
    pub(crate) name: &'p str,
    /// Its element type.
    pub(crate) dtype: DType,
    /// Its extents.
    pub(crate) shape: Vec<usize>,
    /// Its quantization, where codes are fed.
    pub(crate) qparams: Option<QParams>,
}

impl<'p> InputSpec<'p> {
    /// Every input of `plan`, in order.
    pub(crate) fn all(plan: &PlanView<'p>) -> Vec<Self> {
        let spec = |name, tensor| {
            let view = plan.tensor(tensor)?;
            let shape = view.operand.shape.dims().iter().map(|&extent| extent as usize).collect();
            Some(Self { name, dtype: view.operand.dtype, shape, qparams: view.qparams })
        };
        plan.inputs().filter_map(|io| spec(io.name, io.tensor)).collect()
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the whole tensor.
    pub(crate) fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.dtype.size())
    }
}

/// What to feed a plan: for each of one or more runs the bytes of every input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Feed {
    /// By run, then by input.
    pub(crate) runs: Vec<Vec<Vec<u8>>>,
    /// Samples at the end of the last run that only fill the batch.
    pub(crate) padding: usize,
    /// Whether the samples are the patches of one clip, to be joined by the clip rule.
    pub(crate) is_clip: bool,
}

/// Reads files and data sets for one plan.
#[derive(Debug)]
pub(crate) struct Reader<'p> {
    inputs: Vec<InputSpec<'p>>,
    front_end: Option<FrontEnd<'p>>,
}

impl<'p> Reader<'p> {
    /// The reader for `plan`.
    ///
    /// # Errors
    /// [`CliError::Recipe`] for a front-end record this version does not know.
    pub(crate) fn new(plan: &PlanView<'p>) -> Result<Self, CliError> {
        Ok(Self { inputs: InputSpec::all(plan), front_end: FrontEnd::of(plan)? })
    }

    /// The reader for a model with these inputs, the first fed by `recipe`.
    ///
    /// # Errors
    /// Those of [`FrontEnd::new`].
    #[cfg(feature = "compile")]
    pub(crate) fn of_model(inputs: Vec<InputSpec<'p>>, recipe: Option<Recipe>) -> Result<Self, CliError> {
        let recipe = recipe.filter(|recipe| *recipe != Recipe::None);
        let front_end = recipe.map(|recipe| FrontEnd::new(recipe, &inputs)).transpose()?;
        Ok(Self { inputs, front_end })
    }

    /// The front end, for recordings and pictures.
    ///
    /// # Errors
    /// [`CliError::NoFrontEnd`].
    pub(crate) fn front_end(&self) -> Result<&FrontEnd<'p>, CliError> {
        self.front_end.as_ref().ok_or(CliError::NoFrontEnd)
    }

    /// The feed in the file at `path`; its extension says what it is. Also the
    /// names of arrays that no input asks for.
    pub(crate) fn file(&self, path: &Path) -> Result<(Feed, Vec<String>), CliError> {
        let only = |feed| Ok((feed, Vec::new()));
        match Kind::of(path) {
            Some(Kind::Array) => only(arrays::feed_one(&self.inputs, path, npy::read_npy(path)?)?),
            Some(Kind::Archive) => arrays::feed_named(&self.inputs, path, npy::read_npz(path)?),
            Some(Kind::Picture) => only(self.front_end()?.image(&read_image(path)?)?),
            Some(Kind::Recording) => {
                let front_end = self.front_end()?;
                let clip = read_clip(path)?.at_rate(front_end.rate()?);
                let clip = clip.map_err(|reason| CliError::Audio { path: path.to_path_buf(), reason })?;
                only(front_end.samples(&clip.samples)?)
            }
            None => Err(CliError::InputKind(path.to_path_buf())),
        }
    }

    /// Whether the extension of `path` is one that [`Self::file`] reads.
    #[cfg(feature = "compile")]
    pub(crate) fn reads(path: &Path) -> bool {
        Kind::of(path).is_some()
    }

    /// The feed of item `index` of `dataset`.
    pub(crate) fn item(&self, dataset: &Dataset, index: usize) -> Result<Feed, CliError> {
        match dataset.content() {
            Content::Audio => {
                let front_end = self.front_end()?;
                front_end.samples(&dataset.audio(index, front_end.rate()?)?)
            }
            Content::Images => self.front_end()?.image(&dataset.image(index)?),
            _ => arrays::feed_row(&self.inputs, Path::new("features.npy"), &dataset.row(index)?),
        }
    }
}

/// What a file holds, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Array,
    Archive,
    Recording,
    Picture,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "npy" => Some(Self::Array),
            "npz" => Some(Self::Archive),
            "wav" | "flac" | "mp3" | "ogg" | "oga" => Some(Self::Recording),
            "png" | "jpg" | "jpeg" => Some(Self::Picture),
            _ => None,
        }
    }
}
