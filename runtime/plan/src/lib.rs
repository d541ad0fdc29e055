//! The plan: the one file that crosses from host to device.
//!
//! A header, tables of fixed-size records, a string pool and 16-byte aligned
//! blobs, all little-endian and addressed by offset, so that the file is used in
//! place from flash. [`PlanView::new`] checks every offset, count, type and
//! hash once; after that no accessor can panic or read out of bounds.
//!
//! A plan holds up to two schedules ([`Phase`]): inference, and training when
//! it was compiled with `--train-from`. The training schedule is the forward
//! steps with straight-through masks as extra outputs, then the backward steps;
//! both are ordinary steps with their own memory plan.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod check;
#[cfg(feature = "alloc")]
mod closed;
mod error;
mod limits;
mod record;
mod view;
#[cfg(feature = "alloc")]
mod write;

#[cfg(feature = "alloc")]
pub use closed::closed;
pub use error::{Part, PlanError};
pub use limits::{Limits, Resource};
pub use record::{ClipRule, FORMAT_VERSION, MAGIC, NONE, Phase, RECIPE_WORDS, Role};
pub use view::{IoView, PlanView, SiteTensors, StepView, TensorView};
#[cfg(feature = "alloc")]
pub use write::{IoSpec, PlanBuilder, PlanFacts, SiteSpec, StepSpec, TensorId, TensorSpec, TensorStorage};
