//! Adaptation methods.
//!
//! One file per method: which terms a site gets, how they start, how fast they
//! move. [`METHODS`] lists them with their settings; [`build`] makes one by
//! name. [`export`] turns what a trainer learned into an adapter file, with
//! integer terms on int8 sites.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod bias;
#[cfg(feature = "alloc")]
mod error;
#[cfg(feature = "alloc")]
mod export;
mod full;
mod head;
mod ia3;
#[cfg(feature = "alloc")]
mod list;
mod lora;
mod mask;
#[cfg(feature = "alloc")]
mod quantize;
#[cfg(feature = "alloc")]
mod ranges;
#[cfg(feature = "alloc")]
mod saturation;
mod shira;

pub use bias::Bias;
#[cfg(feature = "alloc")]
pub use error::{ExportError, MethodError};
#[cfg(feature = "alloc")]
pub use export::{Export, ExportOptions, FactorFormat, SiteReport, export};
pub use full::Full;
pub use head::Head;
pub use ia3::Ia3;
#[cfg(feature = "alloc")]
pub use list::{Family, METHODS, MethodRow, SettingRow, build};
pub use lora::{DepthwiseTerm, Lora};
pub use mask::Mask;
#[cfg(feature = "alloc")]
pub use ranges::Ranges;
#[cfg(feature = "alloc")]
pub use saturation::Saturation;
pub use shira::Shira;
