//! Recorded drones, helicopters and neither for the built-in model, which knows none of them.

use std::path::Path;

use ingraft_dataset::Dataset;
use ingraft_models::demo::{BASE_INT8, PATCH_SAMPLES, SAMPLE_RATE};

use super::{Source, spectra};

/// Windows of a recording, from all over it.
const WINDOWS: usize = 4;

/// Is there a drone in the air?
pub(super) fn source(data: &Path) -> Source {
    let clips = Dataset::open(&data.join("audio/uav_detect")).unwrap_or_else(|error| panic!("{error}"));
    let labels = clips.labels().unwrap_or_else(|error| panic!("{error}"));
    let recordings = labels.iter().enumerate().map(|(index, class)| {
        let samples = clips.audio(index, SAMPLE_RATE).unwrap_or_else(|error| panic!("{error}"));
        let hop = (samples.len() - PATCH_SAMPLES) / (WINDOWS - 1);
        let windows = (0..WINDOWS).flat_map(|window| &samples[window * hop..window * hop + PATCH_SAMPLES]);
        (*class, windows.copied().collect())
    });
    Source {
        name: "the built-in model, drones and helicopters",
        onnx: BASE_INT8.to_vec(),
        labels: clips.classes().to_vec(),
        frames: 96,
        frame: 64,
        classes: spectra(clips.classes().len(), recordings),
        drift: 1.0,
    }
}
