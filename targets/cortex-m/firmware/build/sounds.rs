//! What the firmware hears: clips from the laboratory, and others from where the device stands, whose microphone is
//! another one. That adds a constant to every band or coefficient of the front end, as a fixed filter does.

use std::fs;
use std::path::{Path, PathBuf};

use ingraft_models::demo::{BASE_INT8, PATCH_SAMPLES, synth::Task};
use ingraft_signal::{FrontEnd, Recipe};
use ingraft_tensor::Rng;

use crate::learn::Codes;

/// Clips to learn from, in the laboratory and on the spot.
const EXAMPLES: usize = 50;
/// Clips to judge by.
const HELD_OUT: usize = 40;
/// Deviations of a band that the other microphone adds to it, at most.
const DRIFT: f64 = 3.0;
/// The keyword spotter, in the development data.
const WORDS_MODEL: &str = "models/onnx/mlperf_tiny_kws_dscnn_int8.onnx";
/// The words that are told apart: go, left, right, stop, yes.
const WORDS: [usize; 5] = [1, 2, 6, 7, 9];

/// The model that `INGRAFT_FIRMWARE_MODEL` names: `words`, where the development data is there (`INGRAFT_DATA`, or
/// `../shared/data` beside the repository in `root`), or `built-in`, which needs none; the first of them that can be had
/// where it names none.
pub(crate) fn chosen(root: &Path) -> Sounds {
    let data = std::env::var("INGRAFT_DATA").map_or_else(|_| root.join("../shared/data"), PathBuf::from);
    match std::env::var("INGRAFT_FIRMWARE_MODEL").as_deref() {
        Ok("built-in") => motors(),
        Ok("words") => words(&data),
        Ok(other) => panic!("INGRAFT_FIRMWARE_MODEL is {other}: say words or built-in"),
        Err(_) if data.join(WORDS_MODEL).exists() => words(&data),
        Err(_) => motors(),
    }
}

/// A model and where its sounds come from.
pub(crate) struct Sounds {
    pub(crate) name: &'static str,
    pub(crate) onnx: Vec<u8>,
    pub(crate) labels: Vec<String>,
    frames: usize,
    /// Values of a frame.
    pub(crate) frame: usize,
    /// Clips of each class, as real values.
    classes: Vec<Vec<Vec<f32>>>,
}

/// Classes and codes of clips.
pub(crate) struct Clips {
    pub(crate) laboratory: Vec<(usize, Vec<i8>)>,
    pub(crate) examples: Vec<(usize, Vec<i8>)>,
    pub(crate) held_out: Vec<(usize, Vec<i8>)>,
}

/// Recorded words (Speech Commands; codes as the data's README says) for MLPerf Tiny's keyword spotter.
fn words(data: &Path) -> Sounds {
    let read = |name: &str| fs::read(data.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let codes = read("features/speech_commands_kws01/mfcc_int8.bin");
    let table = String::from_utf8(read("features/speech_commands_kws01/labels.csv")).expect("a text");
    let row = |line: &str| -> Option<(usize, String)> {
        let mut fields = line.split(',').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.trim().to_owned()))
    };
    let rows: Vec<_> = table.lines().skip(1).map(|line| row(line).expect("a row has a label")).collect();
    let real = |code: &u8| (f32::from(*code as i8) - 83.0) * 0.584_702_9;
    let clips = |word: usize| -> Vec<Vec<f32>> {
        let of_word = codes.chunks_exact(490).zip(&rows).filter(|(_, row)| row.0 == word);
        of_word.map(|(clip, _)| clip.iter().map(real).collect()).collect()
    };
    let label = |word: usize| rows.iter().find(|row| row.0 == word).expect("the word was recorded").1.clone();
    Sounds {
        name: "MLPerf Tiny's keyword spotter, five words",
        onnx: read(WORDS_MODEL),
        labels: WORDS.map(label).to_vec(),
        frames: 49,
        frame: 10,
        classes: WORDS.map(clips).to_vec(),
    }
}

/// Synthesized motors for the built-in model.
fn motors() -> Sounds {
    let recipe = Recipe::preset("yamnet", &[96, 64]).expect("the model takes YAMNet's patches");
    let mut tables = vec![0.0; recipe.memory_len()];
    let mut front_end = FrontEnd::bind(&recipe, &mut tables).expect("the tables have this length");
    let kinds = Task::Motor.sounds();
    let each = (2 * EXAMPLES + HELD_OUT).div_ceil(kinds.len()) + 2;
    let mut clip = |kind: usize, seed: usize| {
        let (mut samples, mut values) = (vec![0.0; PATCH_SAMPLES], vec![0.0; recipe.out_len()]);
        kinds[kind].clip(seed as u64, &mut samples);
        front_end.patch(&samples, &mut values).expect("the samples fill a patch");
        values
    };
    Sounds {
        name: "the built-in model, three motors",
        onnx: BASE_INT8.to_vec(),
        labels: kinds.map(|kind| kind.name().to_owned()).to_vec(),
        frames: 96,
        frame: 64,
        classes: (0..kinds.len()).map(|kind| (0..each).map(|seed| clip(kind, seed)).collect()).collect(),
    }
}

impl Sounds {
    /// Values of a window.
    pub(crate) fn window(&self) -> usize {
        self.frames * self.frame
    }

    /// Clips of all classes in turn: none is used twice.
    pub(crate) fn clips(&self, codes: Codes) -> Clips {
        let mut next = vec![0; self.classes.len()];
        let drift = self.drift();
        let mut take = |count: usize, drift: &[f32]| -> Vec<(usize, Vec<i8>)> {
            let clips = (0..count).map(|index| {
                let class = index % self.classes.len();
                let clip = self.classes[class].get(next[class]).expect("there are clips enough");
                next[class] += 1;
                (class, encode(clip, drift, codes))
            });
            clips.collect()
        };
        let clean = vec![0.0; self.frame];
        Clips {
            laboratory: take(EXAMPLES, &clean),
            examples: take(EXAMPLES, &drift),
            held_out: take(HELD_OUT, &drift),
        }
    }

    /// What the other microphone adds to each value of a frame.
    fn drift(&self) -> Vec<f32> {
        let mut rng = Rng::new(6);
        let of_band = |band: usize| -> f32 {
            let values =
                self.classes.iter().flatten().flat_map(|clip| clip.iter().skip(band).step_by(self.frame));
            let values: Vec<f64> = values.map(|value| f64::from(*value)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance =
                values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (DRIFT * variance.sqrt() * (2.0 * rng.unit() - 1.0)) as f32
        };
        (0..self.frame).map(of_band).collect()
    }
}

fn encode(clip: &[f32], drift: &[f32], codes: Codes) -> Vec<i8> {
    let moved = clip.iter().zip(drift.iter().cycle()).map(|(value, drift)| value + drift);
    let code = |value: f32| (value / codes.scale).round_ties_even() + codes.zero_point as f32;
    moved.map(|value| code(value).clamp(-128.0, 127.0) as i8).collect()
}
