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
//! let fastest = ingraft_x86_64::available().next().unwrap_or(Host::SCALAR);
//! ```
#![no_std]
#![cfg(target_arch = "x86_64")]

mod avx2;
mod blocks;
mod columns;
mod conv;
mod copy;
mod depthwise;
mod elementwise;
mod features;
mod gemm;
mod lookup;
mod matmul;
mod patches;
mod pool;
mod qconv;
mod qdepthwise;
mod quantize;
mod simd;
mod softmax;
mod transcendental;
mod unary;

use ingraft_kernel::{Host, Kernel};

pub use features::{Avx2, Avx512};

/// The target `x86-64`: the AVX2 rows of this crate, then the scalar reference.
pub const fn target(_proof: Avx2) -> Host {
    Host::new("x86-64", AVX2, &[])
}

/// The target `x86-64-avx512`: the AVX-512 rows of this crate, its AVX2 rows, then the scalar reference.
pub const fn target_avx512(_proof: Avx512) -> Host {
    Host::new("x86-64-avx512", AVX512, AVX2)
}

/// The targets this machine can run, fastest first.
#[cfg(feature = "std")]
pub fn available() -> impl Iterator<Item = Host> {
    let targets = [Avx512::detect().map(target_avx512), Avx2::detect().map(target)];
    targets.into_iter().flatten()
}

/// Rows that execute AVX-512 instructions. They must not leave this crate except through
/// [`target_avx512`].
const AVX512: &[Kernel] = &[
    conv::AVX512,
    depthwise::AVX512,
    qconv::AVX512,
    qconv::AVX512_F32,
    qconv::AVX512_I32,
    qconv::dynamic::AVX512,
    qdepthwise::AVX512,
    elementwise::ADD_AVX512,
    quantize::QUANTIZE_AVX512,
    quantize::DEQUANTIZE_AVX512,
    quantize::REQUANTIZE_AVX512,
    quantize::DYNAMIC_AVX512,
    lookup::AVX512,
    pool::AVX512,
    matmul::AVX512,
    softmax::AVX512,
    unary::AVX512,
];

/// Rows that execute AVX2 and FMA instructions. They must not leave this crate
/// except through [`target`].
const AVX2: &[Kernel] = &[
    avx2::conv::KERNEL,
    avx2::depthwise::KERNEL,
    avx2::qconv::KERNEL,
    avx2::qconv::KERNEL_F32,
    avx2::qconv::KERNEL_I32,
    avx2::qdepthwise::KERNEL,
    copy::KERNEL,
    avx2::backward::CONV,
    avx2::backward::CONV_Q,
    avx2::backward::DEPTHWISE,
    avx2::backward::DEPTHWISE_Q,
];
