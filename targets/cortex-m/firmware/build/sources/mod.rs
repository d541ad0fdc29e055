//! What the firmware senses: windows from the laboratory, and others from where the device stands, whose sensor is another
//! one. That adds a constant to every value of a frame, as a fixed filter does to bands, and uneven columns to a picture.

mod drones;
mod motors;
mod pictures;
mod words;

use std::path::Path;

use ingraft_models::demo::PATCH_SAMPLES;
use ingraft_signal::{FrontEnd, Recipe};
use ingraft_tensor::Rng;

use crate::learn::Codes;
use crate::recorded;

/// Windows to learn from, in the laboratory and on the spot.
const EXAMPLES: usize = 50;
/// Windows to judge by.
const HELD_OUT: usize = 40;

/// The model that `INGRAFT_FIRMWARE_MODEL` names: `words`, `pictures` or `drones`, where the development data is there
/// (`INGRAFT_DATA`, or `../shared/data` beside the repository in `root`), or `built-in`, which needs none. Where it names
/// none, `words` or what can be had.
pub(crate) fn chosen(root: &Path) -> Source {
    let data = recorded::folder(root);
    match std::env::var("INGRAFT_FIRMWARE_MODEL").as_deref() {
        Ok("built-in") => motors::source(),
        Ok("drones") => drones::source(&data),
        Ok("pictures") => pictures::source(&data),
        Ok("words") => words::source(&data),
        Ok(other) => panic!("INGRAFT_FIRMWARE_MODEL is {other}: say words, pictures, drones or built-in"),
        Err(_) if data.join(recorded::MODEL).exists() => words::source(&data),
        Err(_) => motors::source(),
    }
}

/// A model and what it is shown.
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) onnx: Vec<u8>,
    pub(crate) labels: Vec<String>,
    frames: usize,
    /// Values of a frame.
    pub(crate) frame: usize,
    /// Of each class the recordings, each of windows of real values.
    classes: Vec<Vec<Vec<Vec<f32>>>>,
    /// Deviations of a value of a frame that the other sensor adds to it, at most.
    drift: f64,
}

/// Classes and codes of windows.
pub(crate) struct Clips {
    pub(crate) laboratory: Vec<(usize, Vec<i8>)>,
    pub(crate) examples: Vec<(usize, Vec<i8>)>,
    pub(crate) held_out: Vec<(usize, Vec<i8>)>,
}

/// By class, the windows of recordings, each of whole patches of samples, as the built-in model takes them.
pub(crate) fn spectra(
    classes: usize,
    recordings: impl Iterator<Item = (usize, Vec<f32>)>,
) -> Vec<Vec<Vec<Vec<f32>>>> {
    let recipe = Recipe::preset("yamnet", &[96, 64]).expect("the model takes YAMNet's patches");
    let mut tables = vec![0.0; recipe.memory_len()];
    let mut front_end = FrontEnd::bind(&recipe, &mut tables).expect("the tables have this length");
    let mut spectra = vec![Vec::new(); classes];
    for (class, samples) in recordings {
        let windows = samples.chunks_exact(PATCH_SAMPLES).map(|patch| {
            let mut values = vec![0.0; recipe.out_len()];
            front_end.patch(patch, &mut values).expect("the samples fill a patch");
            values
        });
        spectra[class].push(windows.collect());
    }
    spectra
}

impl Source {
    /// Values of a window.
    pub(crate) fn window(&self) -> usize {
        self.frames * self.frame
    }

    /// Windows of all classes in turn: none is used twice, nor two of one recording for two purposes.
    pub(crate) fn clips(&self, codes: Codes) -> Clips {
        let mut recordings: Vec<_> = self.classes.iter().map(|class| class.iter()).collect();
        let drift = self.drift();
        let mut take = |count: usize, drift: &[f32]| -> Vec<(usize, Vec<i8>)> {
            let mut windows: Vec<_> =
                recordings.iter_mut().map(|recordings| recordings.by_ref().flatten()).collect();
            let clips = (0..count).map(|index| {
                let class = index % windows.len();
                let clip = windows[class].next().expect("there are recordings enough");
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

    /// What the other sensor adds to each value of a frame.
    fn drift(&self) -> Vec<f32> {
        drift(6, self.classes.iter().flatten().flatten(), self.frame, self.drift)
    }
}

/// What a sensor adds to each value of a frame: up to `most` times the deviation of that value in `clips`.
pub(crate) fn drift<'c>(
    seed: u64,
    clips: impl IntoIterator<Item = &'c Vec<f32>> + Clone,
    frame: usize,
    most: f64,
) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    let of_band = |band: usize| -> f32 {
        let values = clips.clone().into_iter().flat_map(|clip| clip.iter().skip(band).step_by(frame));
        let values: Vec<f64> = values.map(|value| f64::from(*value)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (most * variance.sqrt() * (2.0 * rng.unit() - 1.0)) as f32
    };
    (0..frame).map(of_band).collect()
}

/// The codes of a clip as a sensor with `drift` gives it.
pub(crate) fn encode(clip: &[f32], drift: &[f32], codes: Codes) -> Vec<i8> {
    let moved = clip.iter().zip(drift.iter().cycle()).map(|(value, drift)| value + drift);
    let code = |value: f32| (value / codes.scale).round_ties_even() + codes.zero_point as f32;
    moved.map(|value| code(value).clamp(-128.0, 127.0) as i8).collect()
}
