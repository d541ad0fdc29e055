//! What users have, read into memory: recordings, pictures, NumPy files and
//! labelled folders of them; and what an honest experiment needs beside a model.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use ingraft_dataset::{Dataset, split};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let clips = Dataset::open(Path::new("recordings"))?;
//! let folds = split::stratified_folds(&clips.labels()?, &clips.groups(), 5, 0)?;
//! for split in folds.splits() {
//!     let first = clips.audio(split.train[0], 16_000)?;
//!     println!("{} samples of {}", first.len(), clips.items()[split.train[0]].path);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`labelled`] | [`Dataset`]: class folders, `labels.csv`, `features.npy` |
//! | [`audio`] | WAV, PCM streams, resampling; FLAC, MP3 and Ogg with the feature `media` |
//! | [`image`] | PNG and JPEG, scaled as Pillow scales them |
//! | [`npy`] | `.npy` and `.npz` files as [`Array`]s |
//! | [`split`] | folds that keep groups together, split files |
//! | [`augment`] | changes of a recording that keep its label |
//! | [`stats`] | accuracy, confusion, intervals, ranking |
//! | [`baseline`] | logistic regression on fixed features |
//! | [`rng`] | normal variates from the runtime's generator |
//!
//! Files come from anywhere: whatever is wrong with one is a typed error that
//! says what to do, and memory grows with what is read, not with what a header
//! claims. The same files, seed and version give the same values on every
//! platform, bit for bit, except for lossy recordings (feature `media`).
//!
//! Not here: front ends (`ingraft-signal`), training, anything that runs on a device.
#![forbid(unsafe_code)]

pub mod audio;
pub mod augment;
pub mod baseline;
pub mod image;
pub mod labelled;
pub mod npy;
pub mod rng;
pub mod split;
pub mod stats;

mod array;
mod csv;
mod error;

pub use array::Array;
pub use audio::{AudioError, Clip, PcmStream, Resampler, from_wav, read_audio};
pub use error::DatasetError;
pub use image::{Filter, Image, ImageError, read_image};
pub use ingraft_tensor::Rng;
pub use labelled::{Content, Dataset, Item, LabelError};
pub use npy::{
    ArrayError, from_npy_bytes, from_npz_bytes, read_npy, read_npz, to_npy_bytes, to_npz_bytes, write_npy,
    write_npz,
};
pub use split::{Folds, Split, SplitError};
