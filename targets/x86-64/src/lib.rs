//! The x86-64 targets: AVX-512 and AVX2 kernels behind proofs that the processor has them.
//!
//! [`target_avx512`] and [`target`] are the only doors to the rows of this crate, and their arguments can only be made
//! where the instructions exist ([`Avx512`], [`Avx2`]). Each target is a list of tables searched in order: the AVX-512
//! rows, the AVX2 rows, the scalar reference.
//!
//! Integer results equal the reference to the bit. Float results differ from it only in the order of sums, in fused
//! multiply-adds and in the polynomials of transcendental functions.
//!
//! # Kernel grammar
//!
//! | module | what it is |
//! |---|---|
//! | `features` | proofs of instructions |
//! | `simd` | the vector operations a product needs, as methods of a proof: safe but for loads and stores |
//! | `patches` | where the patches of a convolution lie: strides into the input, or into one padded copy of a sample |
//! | `columns` | output channels in chunks of one to four vectors, and the packed weights |
//! | `gemm` | patches by packed weights in register tiles; `Arithmetic` says what a step is, `Weights` where weights come from, `Finish` what becomes of the sums |
//! | `qconv`, `conv` | the rows: an `Arithmetic` and a `Finish` each; `qconv::terms` is the `Finish` with adapter terms |
//! | `qconv::factors`, `qconv::low_rank` | how factors are packed, and their two products |
//! | `qdepthwise`, `depthwise` | vectors along channels, and for int8 along neighboring pixels |
//! | `blocks` | 64 elements at a time, for everything element-wise |
//!
//! A row that cannot take a step says so in its `check`; one that meets a term it has no code for calls the next row.
//!
//! # Blocking
//!
//! | channels of a chunk | pixels of a tile | accumulators | loads per product |
//! |---|---|---|---|
//! | 64 | 6 | 24 | 10/24 |
//! | 48 | 8 | 24 | 11/24 |
//! | 32 | 12 | 24 | 14/24 |
//! | 16, segments in blocks of 16 bytes | 6 | 24 | 10/24 |
//! | 16 | 12 | 12 | 13/12 |
//!
//! With four weight and two activation vectors, 30 of the 32 registers are in use. A pass of up to 96 pixels reads a
//! chunk's weights once: `64·k` bytes for `96·64·k` multiply-accumulates, 48 cycles of products per 64-byte line.
//!
//! # Limit
//!
//! `vpdpbusd` and `vfmadd231ps` start twice a cycle on cores with two 512-bit multipliers (Zen 5, Ice Lake server):
//! 128 int8 or 32 f32 multiply-accumulates a cycle. A 1×1 layer of `P` pixels, `K` inputs and `N` outputs takes at
//! least `P·⌈N/16⌉·⌈K/4⌉/2` cycles (twice that on Zen 4, which starts one a cycle; `peak` measures it), its requantization `P·⌈N/16⌉·8/4` on four vector pipes: the products dominate from
//! `K = 16` on. A depthwise window of `T` taps takes `⌈T/4⌉·(8 shuffles + 4 products)` per 64 channels, shuffles on two
//! pipes: `4·⌈T/4⌉` cycles, of which the products are half.
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
pub mod peak;
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
