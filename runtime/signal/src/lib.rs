//! Audio and image front ends: what stands between a recording and a model's input tensor.
//!
//! A [`Recipe`] is a checked, closed description: samples as they are, log-mel, MFCC, a normalized image, or
//! nothing. It states its sizes before anything runs, travels in the plan file as [`RECIPE_WORDS`] words, and
//! is computed in memory the caller supplies:
//!
//! - [`Recipe::patch`] computes one patch; [`FrontEnd`] keeps the tables between patches.
//! - [`Recipe::cut`] cuts a clip into patches.
//! - [`Stream`] takes PCM in pieces of any size and gives the same patches, bit for bit.
//! - [`Image::normalize`] takes the bytes of an image of the model's own size.
//!
//! # Numerics
//! Tables are computed in f64 and rounded once. Spectra are computed in 64-bit fixed point scaled to each
//! frame, exact to 1e-9 of the loudest bin: an f32 transform buries quiet mel bands under the rounding of loud
//! ones. All else is f32. Only integers, `libm` and the basic operations of IEEE 754 are used, none contracted,
//! so a front end gives the same bits on a workstation and on a microcontroller.
//!
//! Resampling belongs to the host: a recipe states its sample rate and trusts its caller.
#![no_std]
#![forbid(unsafe_code)]

mod error;
mod fft;
mod fixed;
mod front_end;
mod grid;
mod image;
mod log_mel;
mod mel;
mod mfcc;
pub mod preset;
mod recipe;
mod sample;
mod scale;
mod spectral;
mod stream;
mod waveform;
mod window;
mod words;

pub use error::SignalError;
pub use fft::Spectrum;
pub use front_end::FrontEnd;
pub use grid::Patches;
pub use image::{Image, ImageConfig, Layout, MAX_SIDE};
pub use log_mel::{Axes, LogMel, LogMelConfig, MAX_FRAMES, MAX_PLANES};
pub use mel::MelConfig;
pub use mfcc::{Mfcc, MfccConfig};
pub use recipe::{PatchShape, RECIPE_WORDS, Recipe};
pub use sample::Sample;
pub use scale::{Level, Normalize};
pub use stream::Stream;
pub use waveform::{MAX_PATCH, Waveform, WaveformConfig};
pub use window::Window;
