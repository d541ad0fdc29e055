//! Adapters: terms on the sites of a frozen base, as checked bytes.
//!
//! An adapter is data, never code. [`Adapter::attach`] checks a file once, against
//! the base it names by content hash; after that its terms are found in constant
//! time and no accessor can panic. Attaching costs no memory: the terms are used
//! in place.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod attach;
mod encode;
mod error;
mod overlay;
mod parameters;
mod patch;
mod privacy;
mod record;
mod set;
mod source;
#[cfg(feature = "alloc")]
mod write;

pub use attach::{Adapter, HeadView};
pub use encode::{EncodeError, Encoder, FileFacts};
pub use error::{AdapterError, SiteName};
pub use ingraft_kernel::patch::log_words;
pub use parameters::{MemberView, ParameterSection, ParameterTensor, ParameterType, ParameterValues};
pub use patch::PatchedSite;
pub use privacy::{Privacy, PrivacyUnit};
pub use record::{FORMAT_VERSION, Link, MAGIC, MAX_DIMS};
pub use set::{AdapterId, AdapterSet, SetError};
pub use source::{Base, TermSource};
#[cfg(feature = "alloc")]
pub use write::{AdapterBuilder, AdapterFacts, HeadSpec, ParameterSpec, TermSpec};
