//! The tasks on recordings, and the recipe of each.

use ingraft_dataset::augment::{Augmentation, Meaning, Recipe};

use crate::Failure;
use crate::course::Course;

/// A data set with its splits and its recipe.
#[derive(Debug)]
pub(crate) struct Task {
    /// Its name and folder.
    pub(crate) name: &'static str,
    /// Names of the split files, without their ending.
    pub(crate) splits: &'static [&'static str],
    /// Whether a split file belongs to one seed, its number at the end: the training seed is then the same.
    pub(crate) seeded_splits: bool,
    /// What the labels depend on.
    pub(crate) meaning: Meaning,
    /// Changes of a recording that keep its label.
    pub(crate) augment: &'static [&'static str],
    /// Versions of each training clip, the first as it is.
    pub(crate) views: u32,
    /// What must stay on one side of an inner fold.
    pub(crate) group: fn(&str) -> Option<String>,
    /// How terms are trained, the head along with them.
    pub(crate) terms: Course,
}

impl Task {
    /// The changes, or `instead` of them, as a recipe that keeps the labels.
    pub(crate) fn recipe(&self, instead: Option<&[Augmentation]>) -> Result<Recipe, Failure> {
        let steps = match instead {
            Some(steps) => steps.to_vec(),
            None => self.augment.iter().map(|step| step.parse()).collect::<Result<Vec<_>, _>>()?,
        };
        let recipe = Recipe::new(steps, self.meaning)?;
        // A partner would be on the learned side of one split and held out by another.
        match recipe.mixes() {
            Some(step) => Err(format!(
                "`{step}` mixes clips, but splits share their versions here; `ingraft study` has it"
            )
            .into()),
            None => Ok(recipe),
        }
    }
}

/// The task of that name.
pub(crate) fn find(name: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| task.name == name)
}

/// The names of all tasks.
pub(crate) fn names() -> String {
    TASKS.iter().map(|task| task.name).collect::<Vec<_>>().join(", ")
}

/// Clips that repeat others of the set, by file stem.
const NEAR_REPEATS: [[&str; 2]; 3] =
    [["drone_009", "drone_011"], ["background_008", "background_016"], ["helicopter_003", "helicopter_009"]];

fn alone(_: &str) -> Option<String> {
    None
}

fn near_repeat(path: &str) -> Option<String> {
    let pair = NEAR_REPEATS.iter().find(|pair| pair.iter().any(|stem| path.contains(stem)));
    pair.map(|[first, _]| (*first).to_owned())
}

fn freesound_id(path: &str) -> Option<String> {
    path.split('-').nth(1).map(str::to_owned)
}

/// Terms join a head that was trained alone; the grids of `--choose` vary the rest.
const TERMS: Course =
    Course { rate: 1e-3, head_rate: 1e-4, head_decay: 0.01, epochs: 12, head_first: 20, ..Course::IDLE };

/// A head alone, on any task: it has but one minimum, that of the baseline.
pub(crate) const HEAD: Course = Course { head_rate: 1e-2, head_decay: 1.0, epochs: 300, ..Course::IDLE };

const TASKS: &[Task] = &[
    Task {
        name: "uav_detect",
        splits: &["uav_detect"],
        seeded_splits: false,
        meaning: Meaning::PitchIsFree,
        augment: &["rotate=1", "gain=-12..6", "noise=20..40"],
        views: 8,
        group: near_repeat,
        terms: Course { rate: 5e-4, ..TERMS },
    },
    Task {
        name: "esc10_cc0",
        splits: &["esc10_cc0"],
        seeded_splits: false,
        meaning: Meaning::PitchIsFree,
        augment: &["speed=0.8..1.25", "rotate=1", "gain=-6..6"],
        views: 8,
        group: freesound_id,
        terms: Course { rate: 2e-3, ..TERMS },
    },
    Task {
        name: "uav_motor_prop",
        splits: &["uav_motor_prop"],
        seeded_splits: false,
        meaning: Meaning::PitchIsLabel,
        augment: &["rotate=1", "gain=-6..6"],
        views: 8,
        group: alone,
        terms: Course {
            rate: 5e-3,
            head_rate: 2e-3,
            epochs: 60,
            head_first: 0,
            batch: 4,
            smoothing: 0.1,
            ..TERMS
        },
    },
    Task {
        name: "spoken_digits",
        splits: &[
            "spoken_digits_jackson",
            "spoken_digits_nicolas",
            "spoken_digits_theo",
            "spoken_digits_yweweler",
        ],
        seeded_splits: true,
        meaning: Meaning::PitchIsFree,
        augment: &["gain=-6..6", "shift=0.1"],
        views: 8,
        group: alone,
        terms: Course { rate: 3e-3, head_rate: 2e-3, epochs: 40, head_first: 0, ..TERMS },
    },
];
