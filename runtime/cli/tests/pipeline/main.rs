//! The command, from an ONNX file to an adapter and back to the base, as a user's script sees it: files, stdout,
//! stderr and exit codes.

mod compile;
mod documented;
mod fixture;
mod forgetting;
mod input;
mod learning;
mod mixing;
mod private;
mod process;
mod real;
mod refusal;
mod signing;
mod story;
mod study;
