//! From graph to plan.
//!
//! [`select`] covers the graph with plan operators, integer ones wherever the
//! file carries quantization, and gives a [`Program`]; [`train`] derives the
//! training schedule; [`memory`] plans the arena; [`emit`] writes the plan.

mod accept;
mod boundary;
mod dynamic;
pub mod emit;
mod error;
mod filters;
mod float;
mod linear;
pub mod memory;
mod movement;
mod pattern;
mod program;
mod qops;
mod select;
mod table;
#[cfg(test)]
mod tests;
pub mod train;

pub use error::LowerError;
pub use program::{ProgSite, ProgStep, ProgTensor, Program, Storage, TensorRef};
pub use select::select;
