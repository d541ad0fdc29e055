//! Quantization on the graph: finding what the file quantized, and inserting it where it did not.

mod qparams;
mod settle;

pub use qparams::{Quantization, per_tensor};
pub use settle::settle;
