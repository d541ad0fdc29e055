//! The 64-bit Arm target: NEON kernels, and tables of faster rows behind proofs
//! of `dotprod` and `i8mm`, and of `fp16` for who asks for it.
//!
//! `neon`, `dotprod`, `i8mm` and `fp16` are the only doors to the rows of this
//! crate, and their arguments can only be made where the processor has the
//! extensions; what the rows do not compute is inherited from the scalar
//! reference.
//!
//! # Kernels
//! A convolution or linear layer is a product of rows of activations with rows of
//! weights. Weights are packed once at bind into panels of sixteen channels
//! (`panel`); activations of 1×1 layers are read in place, others are gathered for
//! 32 pixels at a time (`tile`, `patch`). Four pixels by sixteen channels of sums
//! stay in registers (`dot`, `fma`; eight pixels in `half`), and without adapter terms but integer low-rank ones
//! become codes there. Where the compiler would copy or spill, the instructions of a tile are one block (`asm::tile`).
//! Depthwise windows run along output rows with their weights in registers (`qdepthwise`; along two at a time with `SDOT`), or
//! with the sums of eight neighboring pixels there
//! (`depthwise`). Additions, pools and tables of int8 take sixteen codes at a time (`codes`; `lookup` holds the 256
//! entries in sixteen registers). Rows of steps that a compiler vectorizes by itself are inherited: NEON is part of what it
//! compiles for. Gradients, normalization and recurrent layers are rows of [`ingraft_vector`] on four lanes
//! (`vector`), products of recurrent layers also in f16 (`recurrent`).
//!
//! # Figures
//! `benches/instructions` counts instructions under QEMU and models the cycles of
//! the inner loops; `benches/record` has the results. On LLVM's model of Neoverse N1
//! the `SDOT` loop reaches 91 % of the issue limit.
//!
//! Integer results equal the reference to the bit. Float results differ from
//! it only in the order of sums and in fused multiply-adds, but for the target `arm-fp16`.
//!
//! # Examples
//!
//! ```
//! # #[cfg(target_arch = "aarch64")] {
//! use ingraft_arm_neon::{Neon, neon};
//! use ingraft_kernel::Host;
//!
//! let target = Neon::detect().map_or(Host::SCALAR, neon);
//! # }
//! ```
#![no_std]
#![cfg(target_arch = "aarch64")]

mod add;
mod asm;
mod codes;
mod conv;
mod depthwise;
mod dot;
mod elementwise;
mod features;
mod fma;
mod half;
mod lanes;
mod lookup;
mod math;
mod matmul;
mod panel;
mod patch;
mod pool;
mod qconv;
mod qdepthwise;
mod quantize;
mod rank;
mod recurrent;
mod requantize;
mod softmax;
mod tile;
mod vector;

use ingraft_kernel::{Host, Kernel};
use ingraft_vector::recurrent::{gru, lstm};
use ingraft_vector::{gradients, norm};

pub use features::{DotProd, Fp16, I8mm, Neon};

/// The target `arm-neon`: rows of baseline NEON, then the scalar reference.
pub const fn neon(_proof: Neon) -> Host {
    Host::new("arm-neon", NEON, &[])
}

/// The target `arm-dotprod`: rows with `SDOT`, then those of baseline NEON, then the scalar reference.
pub const fn dotprod(_proof: DotProd) -> Host {
    Host::new("arm-dotprod", DOTPROD, NEON)
}

/// The target `arm-i8mm`: rows with `SMMLA`, then those of baseline NEON, then the scalar reference.
pub const fn i8mm(_proof: I8mm) -> Host {
    Host::new("arm-i8mm", I8MM, NEON)
}

/// The target `arm-fp16`: f32 convolutions, linear, depthwise and recurrent layers and products of activations by products in
/// f16, within the bound that `half` states, then what `over` has, one of the targets above. Never what a command takes by itself.
///
/// ```
/// # #[cfg(target_arch = "aarch64")] {
/// use ingraft_arm_neon::{Fp16, Neon, fp16, neon};
///
/// let target = Neon::detect().map(neon);
/// let target = target.map(|over| Fp16::detect().map_or(over, |proof| fp16(proof, over)));
/// # }
/// ```
pub const fn fp16(_proof: Fp16, over: Host) -> Host {
    over.under("arm-fp16", FP16)
}

/// Rows that execute NEON instructions. No row may leave this crate except
/// through the functions above.
// SAFETY: as said above.
const NEON: &[Kernel] = unsafe {
    &[
        qconv::CODES_NEON,
        qconv::REALS_NEON,
        qconv::SUMS_NEON,
        qconv::dynamic::NEON,
        qdepthwise::KERNEL,
        conv::KERNEL,
        depthwise::KERNEL,
        matmul::KERNEL,
        matmul::integer::NEON,
        elementwise::KERNEL,
        softmax::KERNEL,
        quantize::DYNAMIC,
        add::KERNEL,
        lookup::KERNEL,
        pool::KERNEL,
        norm::kernel::<Neon>("norm_f32_f32__neon"),
        lstm::<Neon>("lstm_f32_f32_f32__neon"),
        gru::<Neon>("gru_f32_f32_f32__neon"),
        gradients::conv::<Neon>("conv_backward_f32_f32_f32__neon"),
        gradients::conv_quantized::<Neon>("conv_backward_f32_qc8w_f32__neon"),
        gradients::conv_dynamic::<Neon>("conv_backward_f32_qd8_qc8w_f32__neon"),
        gradients::depthwise::<Neon>("depthwise_backward_f32_f32_f32__neon"),
        gradients::depthwise_quantized::<Neon>("depthwise_backward_f32_qc8w_f32__neon"),
        gradients::matmul::<Neon>("matmul_backward_f32_f32__neon"),
        gradients::softmax::<Neon>("softmax_backward_f32_f32__neon"),
        gradients::norm::<Neon>("norm_backward_f32_f32__neon"),
        gradients::unary::<Neon>("unary_backward_f32_f32__neon"),
    ]
};

/// Rows that execute `SDOT` too.
const DOTPROD: &[Kernel] = &[
    qconv::CODES_DOTPROD,
    qconv::REALS_DOTPROD,
    qconv::SUMS_DOTPROD,
    qconv::dynamic::DOTPROD,
    qdepthwise::quads::KERNEL,
    matmul::integer::DOTPROD,
];

/// Rows that execute `SMMLA` too.
const I8MM: &[Kernel] = &[
    qconv::CODES_I8MM,
    qconv::REALS_I8MM,
    qconv::SUMS_I8MM,
    qconv::dynamic::I8MM,
    qdepthwise::quads::KERNEL,
    matmul::integer::I8MM,
];

/// Rows that execute f16 arithmetic too.
const FP16: &[Kernel] =
    &[conv::half::KERNEL, depthwise::half::KERNEL, matmul::half::KERNEL, recurrent::LSTM, recurrent::GRU];
