//! ONNX to plan: the only crate that knows ONNX.
//!
//! The way goes in one direction, and every stage has its own type: bytes →
//! [`Graph`] ([`import`]), then simplified, quantized and lowered.
#![forbid(unsafe_code)]

mod aligned;
pub mod calibrate;
mod compile;
mod error;
#[cfg(test)]
mod golden;
pub mod graph;
pub mod lower;
pub mod onnx;
pub mod op;
pub mod quantize;
#[cfg(test)]
mod reference;

pub use calibrate::{CalibrateError, CalibrateOptions, RangeMethod};
pub use compile::{CompileError, CompileOptions, Compiled, compile};
pub use error::{Fault, ImportError, InputFault, TensorFault};
pub use graph::{Graph, Node, NodeId, Tensor, Value, ValueId};
pub use onnx::{ImportOptions, import, import_model, initializers};
pub use op::Op;
