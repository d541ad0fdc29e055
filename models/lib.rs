//! What Ingraft ships to try itself on: two small base models trained by this project, the outputs recorded from
//! it, and sounds synthesized at run time.
//!
//! No recording and no network is needed: `ingraft demo` and the tests run from these bytes alone. With the feature `tiny`,
//! published architectures with random weights, for what they take of memory and time.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "tiny"))]
extern crate std;

pub mod anomaly;
pub mod demo;
#[cfg(feature = "tiny")]
pub mod tiny;
