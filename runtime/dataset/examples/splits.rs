//! Writes the split files of the development data, from nothing but file names.
//!
//! ```text
//! cargo run -p ingraft-dataset --example splits -- ../shared/data tests/data/splits
//! ```
//!
//! Which data set is split how, and why, is said in `tests/data/README.md`.

use core::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use ingraft_dataset::Dataset;
use ingraft_dataset::split::{self, Folds, Split};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [data, out] = &arguments[..] else {
        return Err("usage: splits DATA OUT".into());
    };
    fs::create_dir_all(out)?;
    for (name, text) in split_files(data)? {
        fs::write(out.join(&name), text)?;
        println!("{name}");
    }
    Ok(())
}

/// The name and text of every split file.
pub(crate) fn split_files(data: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut files = Vec::new();

    let mut clips = Dataset::open(&data.join("audio/esc10_cc0"))?;
    clips.group_by(freesound_id);
    let folds = split::stratified_folds(&clips.labels()?, &clips.groups(), 5, SEED)?;
    files.push(("esc10_cc0.csv".to_owned(), folds_csv(&clips, &folds)));

    let mut clips = Dataset::open(&data.join("audio/uav_detect"))?;
    clips.group_by(near_repeat);
    let folds = split::stratified_folds(&clips.labels()?, &clips.groups(), 5, SEED)?;
    files.push(("uav_detect.csv".to_owned(), folds_csv(&clips, &folds)));

    let clips = Dataset::open(&data.join("audio/uav_motor_prop"))?;
    let folds = split::stratified_folds(&clips.labels()?, &clips.groups(), 4, SEED)?;
    files.push(("uav_motor_prop.csv".to_owned(), folds_csv(&clips, &folds)));
    let folds = split::block_folds(&clips.labels()?, 4)?;
    files.push(("uav_motor_prop_blocks.csv".to_owned(), folds_csv(&clips, &folds)));

    files.extend(spoken_digits(&data.join("audio/spoken_digits"))?);

    let labels = label_ids(&data.join("features/speech_commands_kws01/labels.csv"))?;
    let rows: Vec<String> = (0..labels.len()).map(|row| row.to_string()).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let each_alone: Vec<usize> = (0..labels.len()).collect();
    let halves = split::hold_out(&labels, &each_alone, 0.5, SEED)?;
    files.push(("speech_commands_kws01.csv".to_owned(), split_csv(&rows, &halves)));
    Ok(files)
}

/// For each speaker and seed, five takes of each digit to learn from and the rest to test.
fn spoken_digits(folder: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let clips = Dataset::open(folder)?;
    let labels = clips.labels()?;
    let mut speakers: Vec<&str> = clips.items().iter().filter_map(|item| speaker(&item.path)).collect();
    speakers.sort_unstable();
    speakers.dedup();
    let mut files = Vec::new();
    for name in speakers {
        let spoken = |&item: &usize| speaker(&clips.items()[item].path) == Some(name);
        let own: Vec<usize> = (0..labels.len()).filter(spoken).collect();
        let own_labels: Vec<usize> = own.iter().map(|&item| labels[item]).collect();
        let own_paths: Vec<&str> = own.iter().map(|&item| clips.items()[item].path.as_str()).collect();
        for seed in 0..SPEAKER_SEEDS {
            let takes = split::few_shot(&own_labels, TAKES, seed)?;
            files.push((format!("spoken_digits_{name}_{seed}.csv"), split_csv(&own_paths, &takes)));
        }
    }
    Ok(files)
}

fn folds_csv(clips: &Dataset, folds: &Folds) -> String {
    let numbers: Vec<String> = folds.fold_of().iter().map(usize::to_string).collect();
    split::to_csv(numbers.iter().zip(clips.items()).map(|(fold, item)| (fold.as_str(), item.path.as_str())))
}

fn split_csv(paths: &[&str], split: &Split) -> String {
    let side = |item: &usize| if split.test.contains(item) { "test" } else { "train" };
    split::to_csv(paths.iter().enumerate().map(|(item, path)| (side(&item), *path)))
}

/// The middle number of `class/fold-freesoundid-take.wav`: pieces of one upload sound alike.
fn freesound_id(path: &str) -> Option<String> {
    path.rsplit('/').next()?.split('-').nth(1).map(str::to_owned)
}

/// The pair a clip belongs to, of the three near-repeats that the data's README names.
fn near_repeat(path: &str) -> Option<String> {
    let pairs = [("drone", ["009", "011"]), ("background", ["008", "016"]), ("helicopter", ["003", "009"])];
    let is_named = |class: &str, numbers: [&str; 2]| {
        numbers.iter().any(|number| path.ends_with(&format!("/{class}_{number}.wav")))
    };
    pairs.into_iter().find(|(class, numbers)| is_named(class, *numbers)).map(|(class, _)| class.to_owned())
}

/// The middle part of `digit/digit_speaker_take.wav`.
fn speaker(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.split('_').nth(1)
}

/// The third column of a table without quotes: the class of each row.
fn label_ids(path: &Path) -> Result<Vec<usize>, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let ids = text.lines().skip(1).map(|line| line.split(',').nth(2).unwrap_or_default().parse());
    Ok(ids.collect::<Result<_, _>>()?)
}

const SEED: u64 = 0;
const SPEAKER_SEEDS: u64 = 3;
const TAKES: usize = 5;
