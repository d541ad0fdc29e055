//! f32 rows over any processor's vectors: written once, compiled by a target for each instruction set that it has.
//!
//! [`Vector`] is an instruction set, as the proof that it may be executed: operations on registers are safe, loads and
//! stores have contracts. [`Row`] is the body of a kernel, [`Task`] work in a function of its own. Both are compiled for the
//! instruction set by [`Vector::enter`] and [`Vector::perform`], so everything they call is `inline(always)`; closures are
//! not compiled for it, and none are used where a vector passes.
//!
//! | module | what it is |
//! |---|---|
//! | `descent` | the moves of an optimizer |
//! | `gradients` | convolutions, depthwise convolutions, matrix products, softmax, normalization and functions made of an exponential, backward |
//! | `norm` | normalization of rows |
//! | `recurrent` | LSTM and GRU layers |
//! | `transcendental` | exponentials and what is made of them |
//!
//! A module's functions make rows: `norm::kernel::<Avx2>("norm_f32_f32__avx2")`. They are `unsafe`, as such a row executes
//! its instructions without asking: a target lets it out only against a proof.
#![no_std]

pub mod descent;
pub mod gradients;
pub mod memory;
pub mod norm;
pub mod recurrent;
pub mod transcendental;
mod vector;

pub use vector::{Row, Task, Vector};
