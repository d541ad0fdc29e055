//! Quantization on the graph: finding what the file quantized, and inserting it where it did not.

mod form;
mod insert;
mod layer;
mod place;
mod qparams;
mod settle;
mod weight;

pub(crate) use insert::{Corrections, Ranges, Weights, insert};
pub(crate) use layer::Layer;
pub(crate) use place::{Placement, Role};
pub use qparams::{Quantization, asymmetric, per_tensor, symmetric};
pub use settle::settle;
