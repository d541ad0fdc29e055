//! The contract between plans and hardware.
//!
//! A [`Step`] says what to compute on which operands; a [`Target`] computes it.
//! Every operator has a scalar reference here, which is the definition of
//! correct; other targets list faster rows in a table of the same type and
//! inherit the rest ([`Host`]).
//!
//! Layouts: activations are channels-last (`[N, H, W, C]`), convolution
//! weights `[out, kh, kw, in/groups]`, depthwise weights `[kh, kw, C]`. A
//! linear layer is a 1×1 convolution over its rows.
#![no_std]
#![forbid(unsafe_code)]

pub mod arg_reduce;
pub mod attrs;
pub mod backward;
mod band;
pub mod cast;
mod check;
mod codes;
pub mod conv;
pub mod copy;
pub mod depthwise;
pub mod descent;
pub mod elementwise;
mod error;
pub mod gather;
pub mod head;
mod host;
pub mod in_place;
mod integer;
pub mod lookup;
pub mod matmul;
pub mod norm;
mod op;
mod packed_terms;
mod parallel;
pub mod patch;
pub mod pool;
pub mod qconv;
pub mod qdepthwise;
pub mod quantize;
pub mod recurrent;
pub mod reduce;
pub mod requantize;
pub mod resize;
mod site;
pub mod softmax;
mod step;
mod table;
mod target;
pub mod terms;
#[cfg(test)]
mod test_case;
mod walk;
pub mod window;

pub use error::KernelError;
pub use host::{Host, HostMemory};
pub use op::OpCode;
pub use packed_terms::{TermsBytes, overlaid};
pub use parallel::{Job, MAX_WORKERS, Parallel, Workers};
pub use site::{NO_SITE, SiteDesc, SiteKind, Sites};
pub use step::{Call, Choice, MAX_INPUTS, MAX_OUTPUTS, Operand, Place, Span, Step};
pub use table::{Kernel, REFERENCE, find};
pub use target::{Replay, Target};
pub use terms::{
    Affine, Factors, PackedTerms, Patched, SiteGrads, SiteTerms, Sparse, SparseValues, TwoFactor,
};
