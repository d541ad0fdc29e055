//! Element types, shapes, quantization parameters and checked views.
//!
//! Everything the other crates agree on before any arithmetic happens. No
//! compute, no allocation, no `std`.
#![no_std]
#![forbid(unsafe_code)]

pub mod arrays;
pub mod bytes;
mod dtype;
pub mod hash;
mod quant;
mod rng;
mod shape;
mod view;

pub use dtype::DType;
pub use quant::{QParams, ROUND_MAGIC, SCALE_MAX, SCALE_MIN, round_half_even};
pub use rng::Rng;
pub use shape::{MAX_RANK, Shape, ShapeError};
pub use view::{View, ViewMut};
