//! The tasks on recordings, and the recipe of each.

use ingraft_dataset::augment::{Augmentation, Meaning, Recipe};

use crate::Failure;
use crate::course::Course;

/// A data set with its splits and its recipe.
#[derive(Debug)]
pub struct Task {
    /// Its name and folder.
    pub name: &'static str,
    /// Names of the split files, without their ending.
    pub splits: &'static [&'static str],
    /// Whether a split file belongs to one seed, its number at the end: the training seed is then the same.
    pub seeded_splits: bool,
    /// What the labels depend on.
    pub meaning: Meaning,
    /// Changes of a recording that keep its label.
    pub augment: &'static [&'static str],
    /// Versions of each training clip, the first as it is.
    pub views: u32,
    /// What must stay on one side of an inner fold.
    pub group: fn(&str) -> Option<String>,
    /// How the last two blocks are trained, and heads.
    pub shallow: Course,
    /// How more than two blocks are trained.
    pub deep: Course,
}

impl Task {
    /// The changes, or `instead` of them, as a recipe that keeps the labels.
    pub fn recipe(&self, instead: Option<&[Augmentation]>) -> Result<Recipe, Failure> {
        let steps = match instead {
            Some(steps) => steps.to_vec(),
            None => self.augment.iter().map(|step| step.parse()).collect::<Result<Vec<_>, _>>()?,
        };
        Ok(Recipe::new(steps, self.meaning)?)
    }

    /// The recipe of training so many blocks.
    pub fn course(&self, blocks: usize) -> Course {
        if blocks > 2 { self.deep } else { self.shallow }
    }
}

/// The task of that name.
pub fn find(name: &str) -> Option<&'static Task> {
    TASKS.iter().find(|task| task.name == name)
}

/// The names of all tasks.
pub fn names() -> String {
    TASKS.iter().map(|task| task.name).collect::<Vec<_>>().join(", ")
}

/// Clips that repeat others of the set, by file stem.
const NEAR_REPEATS: [[&str; 2]; 3] = [
    ["drone_009", "drone_011"],
    ["background_008", "background_016"],
    ["helicopter_003", "helicopter_009"],
];

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

const TASKS: &[Task] = &[
    Task {
        name: "uav_detect",
        splits: &["uav_detect"],
        seeded_splits: false,
        meaning: Meaning::PitchIsFree,
        augment: &["crop=2.5", "gain=-12..6", "noise=10..35"],
        views: 8,
        group: near_repeat,
        shallow: Course::DEFAULT,
        deep: Course::DEFAULT,
    },
    Task {
        name: "esc10_cc0",
        splits: &["esc10_cc0"],
        seeded_splits: false,
        meaning: Meaning::PitchIsFree,
        augment: &["rotate=0.5", "gain=-12..6", "noise=10..35", "crop=2.5"],
        views: 8,
        group: freesound_id,
        shallow: Course::DEFAULT,
        deep: Course::DEFAULT,
    },
    Task {
        name: "uav_motor_prop",
        splits: &["uav_motor_prop"],
        seeded_splits: false,
        meaning: Meaning::PitchIsLabel,
        augment: &["rotate=0.5", "gain=-6..6", "noise=20..40"],
        views: 8,
        group: alone,
        shallow: Course::DEFAULT,
        deep: Course::DEFAULT,
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
        augment: &["gain=-6..6", "crop=0.975", "noise=15..40"],
        views: 8,
        group: alone,
        shallow: Course::DEFAULT,
        deep: Course::DEFAULT,
    },
];
