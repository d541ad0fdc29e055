//! The x86-64 targets: AVX-512, AVX-VNNI and AVX2 kernels behind proofs that the processor has them.
//!
//! [`target_avx512`], [`target_avx_vnni`] and [`target`] are the only doors to the rows of this crate, and their arguments can
//! only be made where the instructions exist ([`Avx512`], [`AvxVnni`], [`Avx2`]). Each target is a list of tables searched in
//! order: the AVX-512 rows or those of AVX-VNNI, the AVX2 rows, the scalar reference.
//!
//! Integer results equal the reference to the bit. Float results differ from it only in the order of sums, in fused
//! multiply-adds and in the polynomials of transcendental functions.
//!
//! # Kernel grammar
//!
//! | module | what it is |
//! |---|---|
//! | `features` | proofs of instructions |
//! | `simd` | the vector operations that rows of all instruction sets share, as methods of a proof: safe but for loads and stores; `simd::ymm` those of 256-bit vectors, whose sets differ in how they multiply codes |
//! | `patches` | where the patches of a convolution lie: strides into the input, into one padded copy of a sample, or into copies of one block after another |
//! | `columns` | output channels in chunks of one to four vectors, and the packed weights |
//! | `gemm` | patches by packed weights in register tiles; `Arithmetic` says what a step is, `Weights` where weights come from, `Finish` what becomes of the sums |
//! | `split` | weights of AVX2 in two parts, with which `vpmaddubsw` is exact |
//! | `qconv`, `conv` | the rows: an `Arithmetic` and a `Finish` each; `qconv::terms` and `conv::terms` are the `Finish` with adapter terms, `weights` the weights that deltas change |
//! | `qconv::factors`, `qconv::low_rank`, `qconv::ranks`, `qconv::eights`, `qconv::beside` | how factors are packed, and their two products |
//! | `real_factors`, `affine` | f32 factors, scale and shift, of f32 layers (`conv::terms`) and of those on codes (`qconv::real_terms`) |
//! | `qdepthwise` | vectors along channels and neighboring pixels; `taps` multiplies those of a window |
//! | `depthwise` | `strip`: one vector of channels by up to eight pixels, going down the lines of a band |
//! | `blocks` | four vectors at a time, for what maps element to element |
//! | `binary`, `reduce`, `pool` | f32 operands that repeat, and sums of results that lie side by side: gates and pools of whole images |
//! | `avx2` | rows that read weights in place: for weights that are no constants, and for terms |
//!
//! Gradients, normalization and recurrent layers are rows of [`ingraft_vector`], whose `Vector` has the f32 operations of `simd`.
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
//! | AVX2, AVX-VNNI: 16 | 6 | 12 | 8/12 |
//! | AVX2, AVX-VNNI: 8 | 12 | 12 | 13/12 |
//! | AVX2, split weights: 16 | 6 | 12 | 8/12 |
//! | AVX2, split weights: 8 | 8 | 8 | 9/8 |
//! | beside sums of factors: 64, 48, 32, 16 | 3, 4, 6, 12 | 12 and 12 | 7/12, 7/12, 8/12, 13/12 |
//!
//! With four weight and two activation vectors, 30 of the 32 registers are in use, and 15 of the 16 of 256 bits (16 with split
//! weights). A pass of up to
//! 96 pixels reads a chunk's weights once: `64·k` bytes for `96·64·k` multiply-accumulates, 48 cycles of products per
//! 64-byte line; of up to 384 where patches and rows of results are short.
//!
//! With AVX2 codes are multiplied as bytes moved to 0…255 where weights are split, else as 16-bit values. Patches hold them
//! so, in a copy: of one block of pixels after another (1×1), or of the image (larger windows). It is made once and read by
//! every chunk. Weights stay bytes, and become 16-bit values where they are loaded: once for the pixels of a tile.
//!
//! Weights are split at bind where at most 14 in 100 vectors are left over (`split`), in an order of their columns in which few are
//! (`split::order`); copies of patches are brought into that order behind adapter terms, which read them as they lie. What a pass reads
//! next is fetched ahead. Overlays that are packed are written into split weights (`split::overlay`), which have room for what
//! they leave over; where it does not suffice, into weights that are not split, as are overlays and fused weights that are not packed.
//!
//! An f32 depthwise strip has 8 accumulators, 3 or 5 weights of a row of the window, and each column of the input once: 10
//! and 3 loads for 24 products at 3×3, 12 and 5 for 40 at 5×5, both with stride 1.
//!
//! Vectors of 64 bytes that begin at no cache line lie in two and take two loads: memory for a session is best aligned
//! to 64 bytes, which took a quarter off depthwise layers. The plan's offsets keep 16.
//!
//! # Limit
//!
//! `vpdpbusd` and `vfmadd231ps` start twice a cycle on cores with two 512-bit multipliers (Zen 5, Ice Lake server):
//! 128 int8 or 32 f32 multiply-accumulates a cycle; once on Zen 4, which has 256-bit ones. `benches/peers/peak` measures
//! it. An f32 depthwise layer has the same limit, `P·⌈C/16⌉·T` products of `T` taps, and is bound by memory where
//! `16·T` products of a line of a tensor take less than fetching it: 3×3 with stride 2 on tensors beyond the second level. A 1×1 layer of `P` pixels, `K` inputs and `N` outputs takes at
//! least `P·⌈N/16⌉·⌈K/4⌉/2` cycles, its requantization `P·⌈N/16⌉·8/4` on four vector pipes: the products dominate from
//! `K = 16` on. Where conversions and packing share two pipes with the products (Intel), four vectors of outputs take 12 operations of
//! reals and 8 to pack, move and bound their codes: `P·⌈N/16⌉·(⌈K/4⌉ + 5)/2` cycles. A depthwise window of `T` taps takes `⌈T/4⌉·(8 shuffles + 4 products)` per 64 channels, shuffles on two
//! pipes: `4·⌈T/4⌉` cycles, of which the products are half.
//!
//! AVX-VNNI has `vpdpbusd` on 256 bits: 32 int8 multiply-accumulates an instruction, and rows as those of AVX-512 on half the
//! lanes.
//!
//! AVX2 has no product of bytes that does not saturate: 32 int8 multiply-accumulates take two `vpmaddwd` and two sums. A
//! tile of 6 pixels by 16 channels takes 24 of these for 192 multiply-accumulates and two operations for its weights: 6.5
//! cycles on four vector pipes (Zen), 8.7 on three (Intel). Split weights take `vpmaddubsw`, `vpmaddwd` and a sum, three
//! operations where 16-bit values take four, and four more for each vector left over, measured as six to seven with what it
//! costs to go there: with a share of `s` of them `3 + 7·s`, which is below 4 up to 14 in 100. Neighboring weights whose sum is
//! beyond ±128 are left over, 1 to 2 in 100 pairs in YAMNet: 10 to 16 vectors in 100 of its layers in the plan's order, 4 to 9 in
//! the one that is packed; 8 to 20 and 0 to 14 in EfficientNet-Lite0's, none in MiniLM-L6's, 30 and 7 to 20 in DS-CNN's, of which
//! most keep 16-bit values. A depthwise window of `T` taps takes `⌈T/2⌉·6` operations per 16 channels and
//! about 13 for their codes.
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

mod affine;
mod avx2;
mod binary;
mod blocks;
mod columns;
mod conv;
mod copy;
mod depthwise;
mod elementwise;
mod features;
mod gemm;
mod lookup;
mod mask;
mod matmul;
mod patches;
pub mod peak;
mod pool;
mod qconv;
mod qdepthwise;
mod quantize;
mod real_factors;
mod reduce;
mod simd;
mod softmax;
mod split;
mod unary;

use ingraft_kernel::{Host, Kernel};
use ingraft_vector::{descent, gradients, norm, recurrent};

pub use features::{Avx2, Avx512, AvxVnni};

/// The target `x86-64`: the AVX2 rows of this crate, then the scalar reference.
pub const fn target(_proof: Avx2) -> Host {
    // SAFETY: the argument proves AVX2 and FMA.
    Host::new("x86-64", AVX2, &[]).descending(unsafe { descent::kernel::<Avx2>() })
}

/// The target `x86-64-avxvnni`: the rows of this crate that multiply bytes on 256-bit vectors, its AVX2 rows, then the
/// scalar reference.
pub const fn target_avx_vnni(_proof: AvxVnni) -> Host {
    // SAFETY: the argument proves AVX2 and FMA with the rest.
    Host::new("x86-64-avxvnni", AVX_VNNI, AVX2).descending(unsafe { descent::kernel::<Avx2>() })
}

/// The target `x86-64-avx512`: the AVX-512 rows of this crate, its AVX2 rows, then the scalar reference.
pub const fn target_avx512(_proof: Avx512) -> Host {
    // SAFETY: the argument proves AVX-512.
    Host::new("x86-64-avx512", AVX512, AVX2).descending(unsafe { descent::kernel::<Avx512>() })
}

/// The targets this machine can run, fastest first.
#[cfg(feature = "std")]
pub fn available() -> impl Iterator<Item = Host> {
    let vnni = AvxVnni::detect().map(target_avx_vnni);
    let targets = [Avx512::detect().map(target_avx512), vnni, Avx2::detect().map(target)];
    targets.into_iter().flatten()
}

/// Rows that execute AVX-512 instructions. They must not leave this crate except through
/// [`target_avx512`].
// SAFETY: as said above.
const AVX512: &[Kernel] = unsafe {
    &[
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
        norm::kernel::<Avx512>("norm_f32_f32__avx512"),
        recurrent::lstm::<Avx512>("lstm_f32_f32_f32__avx512"),
        recurrent::gru::<Avx512>("gru_f32_f32_f32__avx512"),
        unary::AVX512,
        gradients::conv::<Avx512>("conv_backward_f32_f32_f32__avx512"),
        gradients::conv_quantized::<Avx512>("conv_backward_f32_qc8w_f32__avx512"),
        binary::AVX512,
        reduce::AVX512,
        pool::AVX512_F32,
        gradients::conv_dynamic::<Avx512>("conv_backward_f32_qd8_qc8w_f32__avx512"),
        gradients::depthwise::<Avx512>("depthwise_backward_f32_f32_f32__avx512"),
        gradients::depthwise_quantized::<Avx512>("depthwise_backward_f32_qc8w_f32__avx512"),
        gradients::matmul::<Avx512>("matmul_backward_f32_f32__avx512"),
        gradients::softmax::<Avx512>("softmax_backward_f32_f32__avx512"),
        gradients::norm::<Avx512>("norm_backward_f32_f32__avx512"),
        gradients::unary::<Avx512>("unary_backward_f32_f32__avx512"),
    ]
};

/// Rows that execute `vpdpbusd` on 256-bit vectors. They must not leave this crate except through
/// [`target_avx_vnni`].
const AVX_VNNI: &[Kernel] = &[
    qconv::AVX_VNNI,
    qconv::AVX_VNNI_F32,
    qconv::AVX_VNNI_I32,
    qconv::dynamic::AVX_VNNI,
    qdepthwise::AVX_VNNI,
];

/// Rows that execute AVX2 and FMA instructions. They must not leave this crate
/// except through [`target`].
// SAFETY: as said above.
const AVX2: &[Kernel] = unsafe {
    &[
        conv::AVX2,
        qconv::AVX2,
        qconv::AVX2_F32,
        qconv::AVX2_I32,
        qconv::dynamic::AVX2,
        matmul::AVX2,
        softmax::AVX2,
        norm::kernel::<Avx2>("norm_f32_f32__avx2"),
        recurrent::lstm::<Avx2>("lstm_f32_f32_f32__avx2"),
        recurrent::gru::<Avx2>("gru_f32_f32_f32__avx2"),
        unary::AVX2,
        elementwise::ADD_AVX2,
        quantize::QUANTIZE_AVX2,
        quantize::DEQUANTIZE_AVX2,
        quantize::REQUANTIZE_AVX2,
        quantize::DYNAMIC_AVX2,
        pool::AVX2,
        pool::AVX2_F32,
        binary::AVX2,
        reduce::AVX2,
        avx2::conv::KERNEL,
        depthwise::AVX2,
        avx2::depthwise::KERNEL,
        avx2::qconv::KERNEL,
        avx2::qconv::KERNEL_F32,
        avx2::qconv::KERNEL_I32,
        qdepthwise::AVX2,
        avx2::qdepthwise::KERNEL,
        copy::KERNEL,
        gradients::conv::<Avx2>("conv_backward_f32_f32_f32__avx2"),
        gradients::conv_quantized::<Avx2>("conv_backward_f32_qc8w_f32__avx2"),
        gradients::conv_dynamic::<Avx2>("conv_backward_f32_qd8_qc8w_f32__avx2"),
        gradients::depthwise::<Avx2>("depthwise_backward_f32_f32_f32__avx2"),
        gradients::depthwise_quantized::<Avx2>("depthwise_backward_f32_qc8w_f32__avx2"),
        gradients::matmul::<Avx2>("matmul_backward_f32_f32__avx2"),
        gradients::softmax::<Avx2>("softmax_backward_f32_f32__avx2"),
        gradients::norm::<Avx2>("norm_backward_f32_f32__avx2"),
        gradients::unary::<Avx2>("unary_backward_f32_f32__avx2"),
    ]
};
