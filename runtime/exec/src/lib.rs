//! Runs a plan on a target with an adapter, in memory the caller supplies.
//!
//! [`MemoryNeeds`] says beforehand how many bytes that is; [`Session::bind`]
//! checks every step once and packs weights; after that nothing allocates.
#![no_std]
#![forbid(unsafe_code)]

mod error;
mod memory;
mod resident;
mod session;
#[cfg(feature = "threads")]
mod threads;
mod trace;

pub use error::ExecError;
pub use memory::MemoryNeeds;
pub use resident::{Patch, PatchedCopy, Resident};
pub use session::{GradSink, Session};
#[cfg(feature = "threads")]
pub use threads::{Pool, ThreadsError};
pub use trace::{Silent, StepEvent, Trace};
