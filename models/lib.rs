//! What Ingraft ships to try itself on: a small base model trained by this project, the outputs recorded from
//! it, and sounds synthesized at run time.
//!
//! No recording and no network is needed: `ingraft demo` and the tests run from these bytes alone.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod demo;
