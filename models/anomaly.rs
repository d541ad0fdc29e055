//! The built-in autoencoder: 75 thousand parameters that know how an electric motor in good order sounds. What it does not
//! give back is out of order.
//!
//! What it was trained on, how well it does and how to make it again is in `anomaly/CARD.md`; the script is
//! `anomaly/train.py`.
//!
//! # Shapes
//!
//! Input `patch` `[N, 512]`: [`FRAMES`] frames of YAMNet log-mel, 64 bands each, frame after frame. Output `reconstruction`
//! `[N, 512]`: the same again, as far as eight numbers say it. A clip's score is the mean squared error over its windows.

/// ONNX, opset 13, static QDQ: int8 asymmetric activations, int8 symmetric per-channel weights, int32 bias.
pub const BASE_INT8: &[u8] = include_bytes!("anomaly/base_int8.onnx");

/// Frames of a window: twelve windows fill a patch of 96 frames.
pub const FRAMES: usize = 8;
