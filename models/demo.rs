//! The built-in sound classifier: 60 thousand parameters, nine classes, log-mel patches in, logits and embedding out.
//!
//! What it was trained on, how well it does and how to make it again is in `demo/CARD.md`; the script is
//! `demo/train.py`. Both files hold the same trained network, [`BASE_INT8`] quantized after training.
//!
//! # Shapes
//!
//! Input `patch` `[N, 1, 96, 64]`: YAMNet log-mel, 96 frames of 64 bands. Outputs `logits` `[N, 9]` and
//! `embedding` `[N, 144]`, the global average that the classifier reads. A clip's score is the mean of the logits
//! of its patches.

pub mod golden;
pub mod synth;

/// ONNX, opset 13, static QDQ: int8 asymmetric activations, int8 symmetric per-channel weights, int32 bias.
pub const BASE_INT8: &[u8] = include_bytes!("demo/base_int8.onnx");

/// ONNX, opset 13, f32, batch norms folded; weights carry the same names as in [`BASE_INT8`].
pub const BASE_F32: &[u8] = include_bytes!("demo/base_f32.onnx");

/// Class names in the order of the logits.
pub const LABELS: [&str; 9] =
    ["background", "chainsaw", "crying_baby", "dog", "drone", "helicopter", "rain", "rooster", "sneezing"];

/// Samples per second of the audio the base was trained on, and of what [`synth`] produces.
pub const SAMPLE_RATE: u32 = 16_000;

/// Samples that one patch covers: 96 frames of 400 samples, 160 apart.
pub const PATCH_SAMPLES: usize = 15_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_the_training_script() {
        assert!(include_str!("demo/labels.txt").lines().eq(LABELS));
    }

    #[test]
    fn the_files_fit_the_repository_budget() {
        assert!(BASE_INT8.len() + BASE_F32.len() < 500_000);
    }
}
