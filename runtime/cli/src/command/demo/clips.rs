//! The clips of the demo: synthesized, or real ones.

use std::path::Path;

use ingraft_dataset::{Dataset, split};
use ingraft_models::demo::SAMPLE_RATE;
use ingraft_models::demo::synth;

use crate::CliError;
use crate::input::{Feed, Reader};
use crate::training::{Clips, Lessons, Version};

/// Something to learn: clips to learn from, and others to be judged by.
pub(super) struct Task {
    pub(super) name: String,
    /// The method it is learned with.
    pub(super) method: &'static str,
    pub(super) classes: Vec<String>,
    pub(super) train: Side,
    pub(super) test: Side,
}

/// Clips with their classes.
#[derive(Default)]
pub(super) struct Side {
    pub(super) labels: Vec<Vec<usize>>,
    pub(super) feeds: Vec<Feed>,
}

/// The tasks of the demo: two kinds of synthesized sounds, or the clips in `data` learned in two ways.
pub(super) fn tasks(reader: &Reader<'_>, data: Option<&Path>) -> Result<Vec<Task>, CliError> {
    match data {
        None => synth::Task::ALL.into_iter().map(|task| synthesized(reader, task)).collect(),
        Some(folder) => {
            ["lora", "shira"].into_iter().map(|method| recorded(reader, folder, method)).collect()
        }
    }
}

fn synthesized(reader: &Reader<'_>, task: synth::Task) -> Result<Task, CliError> {
    let (mut train, mut test) = (Side::default(), Side::default());
    for (class, sound) in task.sounds().into_iter().enumerate() {
        for seed in 0..TRAIN_CLIPS + TEST_CLIPS {
            let mut samples = vec![0.0; CLIP_SECONDS * SAMPLE_RATE as usize];
            sound.clip(seed, &mut samples);
            let side = if seed < TRAIN_CLIPS { &mut train } else { &mut test };
            side.labels.push(vec![class]);
            side.feeds.push(reader.front_end()?.samples(&samples)?);
        }
    }
    let classes = task.sounds().map(|sound| sound.name().to_owned()).to_vec();
    Ok(Task { name: task.name().to_owned(), method: "lora", classes, train, test })
}

fn recorded(reader: &Reader<'_>, folder: &Path, method: &'static str) -> Result<Task, CliError> {
    let dataset = Dataset::open(folder)?;
    let labels = dataset.labels()?;
    let split = split::hold_out(&labels, &dataset.groups(), TEST_SHARE, 0)?;
    let side = |items: &[usize]| {
        let feeds = items.iter().map(|&item| reader.item(&dataset, item)).collect::<Result<_, CliError>>()?;
        let labels = items.iter().filter_map(|&item| labels.get(item).map(|&class| vec![class])).collect();
        Ok::<_, CliError>(Side { labels, feeds })
    };
    let folder = folder.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    Ok(Task {
        name: format!("{folder} by {method}"),
        method,
        classes: dataset.classes().to_vec(),
        train: side(&split.train)?,
        test: side(&split.test)?,
    })
}

impl Task {
    /// What there is to learn.
    pub(super) fn lessons<'l>(&'l self, groups: &'l [usize]) -> Lessons<'l> {
        Lessons {
            labels: &self.train.labels,
            groups,
            classes: &self.classes,
            clips: &self.train,
            provenance: format!("ingraft {} demo: {}", env!("CARGO_PKG_VERSION"), self.name),
            parameters: true,
            deltas: ingraft_method::DeltaFormat::Auto,
        }
    }
}

impl Clips for Side {
    fn view(&self, clip: usize, _: u32, _: &[usize]) -> Result<Version, CliError> {
        // Clips are counted by their labels, of which there are as many.
        let feed = self.feeds.get(clip).cloned();
        Ok(feed.unwrap_or(Feed { runs: Vec::new(), padding: 0, is_clip: true }).into())
    }
}

/// Synthesized clips to learn from, and to be judged by, per class.
const TRAIN_CLIPS: u64 = 12;
const TEST_CLIPS: u64 = 20;
/// Enough to tell the sounds apart.
const CLIP_SECONDS: usize = 2;
/// Share of real clips to be judged by.
const TEST_SHARE: f64 = 1.0 / 3.0;
