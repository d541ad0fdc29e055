//! The x86-64 target: AVX2 kernels behind a proof that the processor has them.
//!
//! [`target`] is the only door to the rows of this crate, and its argument can
//! only be made where AVX2 and FMA exist ([`Avx2`]); what the rows do not
//! compute is inherited from the scalar reference.
//!
//! Integer results equal the reference to the bit. Float results differ from
//! it only in the order of sums and in fused multiply-adds.
//!
//! # Examples
//!
//! ```
//! use ingraft_kernel::Host;
//! use ingraft_x86_64::{Avx2, target};
//!
//! let target = Avx2::detect().map_or(Host::SCALAR, target);
//! ```
#![no_std]
#![cfg(target_arch = "x86_64")]

mod backward;
mod conv;
mod depthwise;
mod dot;
mod features;
mod lanes;
mod qconv;
mod qdepthwise;
mod qdot;
mod requantize;
mod tile;

use ingraft_kernel::{Host, Kernel};

pub use features::Avx2;

/// The target `x86-64`: the rows of this crate, then the scalar reference.
pub const fn target(_proof: Avx2) -> Host {
    Host::new("x86-64", AVX2, &[])
}

/// Rows that execute AVX2 and FMA instructions. They must not leave this crate
/// except through [`target`].
const AVX2: &[Kernel] = &[
    conv::KERNEL,
    depthwise::KERNEL,
    qconv::KERNEL,
    qconv::KERNEL_F32,
    qconv::KERNEL_I32,
    qdepthwise::KERNEL,
    backward::CONV,
    backward::CONV_Q,
    backward::DEPTHWISE,
    backward::DEPTHWISE_Q,
];
