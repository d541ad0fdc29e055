//! Recordings as the model takes them.

use std::path::Path;

use ingraft::signal::{FrontEnd, Recipe, preset};
use ingraft::tensor::bytes;
use ingraft_dataset::{Dataset, Rng, Split, augment, split};

use crate::Failure;
use crate::task::Task;

/// The clips of a task.
#[derive(Debug)]
pub(crate) struct Corpus {
    /// Class names.
    pub(crate) classes: Vec<String>,
    /// The class of each clip.
    pub(crate) labels: Vec<usize>,
    /// What must stay on one side of an inner fold.
    pub(crate) groups: Vec<usize>,
    names: Vec<String>,
    recordings: Vec<Vec<f32>>,
    front_end: Recipe,
    augment: augment::Recipe,
}

impl Corpus {
    /// Reads the recordings of `task` below `data`, to be varied by `augment`.
    pub(crate) fn open(data: &Path, task: &Task, augment: augment::Recipe) -> Result<Self, Failure> {
        let mut dataset = Dataset::open(&data.join("audio").join(task.name))?;
        dataset.group_by(task.group);
        let front_end = Recipe::LogMel(ingraft::signal::LogMel::new(preset::YAMNET)?);
        let rate = preset::YAMNET.mel.sample_rate;
        let recordings = (0..dataset.items().len()).map(|item| dataset.audio(item, rate));
        Ok(Self {
            classes: dataset.classes().to_vec(),
            labels: dataset.labels()?,
            groups: dataset.groups(),
            names: dataset.items().iter().map(|item| item.path.clone()).collect(),
            recordings: recordings.collect::<Result<_, _>>()?,
            front_end,
            augment,
        })
    }

    /// Values of a patch.
    pub(crate) fn patch_len(&self) -> usize {
        self.front_end.out_len()
    }

    /// Number of clips.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The splits of the committed file `name`.
    pub(crate) fn splits(&self, name: &str) -> Result<Vec<Split>, Failure> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/splits");
        let path = folder.join(name).with_extension("csv");
        Ok(split::read_splits(&path, self.names.iter().map(String::as_str))?)
    }

    /// The patches of version `view` of clip `clip` as the plan's input bytes; version 0 is the clip as it is.
    ///
    /// A version depends on nothing but its clip and number, so that folds and seeds share it.
    pub(crate) fn patches(&self, clip: usize, view: u32) -> Result<Vec<u8>, Failure> {
        let recording = &self.recordings[clip];
        let mut rng = Rng::stream(VIEW_SEED, (clip as u64) << 32 | u64::from(view));
        let changed;
        let samples = if view == 0 {
            recording
        } else {
            let rate = preset::YAMNET.mel.sample_rate;
            changed = self.augment.apply(recording, rate, &[], rng.next_u64());
            &changed
        };
        let mut memory = vec![0.0; self.front_end.memory_len()];
        let mut front_end = FrontEnd::bind(&self.front_end, &mut memory)?;
        let mut patches = Vec::new();
        for cut in self.front_end.cut(samples) {
            let mut patch = vec![0.0f32; self.front_end.out_len()];
            front_end.patch(cut, &mut patch)?;
            patches.extend_from_slice(bytes::of(&patch));
        }
        Ok(patches)
    }
}

const VIEW_SEED: u64 = 1;
