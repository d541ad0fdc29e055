//! Synthesized motors for the built-in model: in good order, out of balance, with a worn bearing.

use ingraft_models::demo::{BASE_INT8, PATCH_SAMPLES, synth::Task};

use super::{EXAMPLES, HELD_OUT, Source, spectra};

/// Three conditions.
pub(super) fn source() -> Source {
    let kinds = Task::Motor.sounds();
    let each = (2 * EXAMPLES + HELD_OUT).div_ceil(kinds.len()) + 2;
    let recordings: Vec<(usize, Vec<f32>)> = (0..kinds.len() * each)
        .map(|index| {
            let (mut samples, kind) = (vec![0.0; PATCH_SAMPLES], index / each);
            kinds[kind].clip((index % each) as u64, &mut samples);
            (kind, samples)
        })
        .collect();
    Source {
        name: "the built-in model, three motors",
        onnx: BASE_INT8.to_vec(),
        labels: kinds.map(|kind| kind.name().to_owned()).to_vec(),
        frames: 96,
        frame: 64,
        classes: spectra(kinds.len(), recordings.into_iter()),
        drift: 3.0,
    }
}
