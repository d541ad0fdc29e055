//! Backward steps.
//!
//! # Numerics
//! Sums run in a fixed order with fused multiply-adds: the same bits in every run, and within a few units of the last
//! place of `Σ|a·b|` of the reference.

mod conv;
mod incoming;
mod product;
mod vector;

use ingraft_kernel::backward::layer::{Layer, check_quantized, check_real};
use ingraft_kernel::backward::{conv as reference, depthwise};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError};

use crate::features::{Avx2, Avx512};

macro_rules! rows {
    ($isa:ty, $suffix:literal, $features:literal: $conv:ident, $conv_q:ident) => {
        /// Through an f32 convolution.
        pub(crate) const $conv: Kernel = Kernel {
            name: concat!("conv_backward_f32_f32_f32__", $suffix),
            run: |call| {
                #[target_feature(enable = $features)]
                fn run(call: &mut Call<'_, '_>, v: $isa) -> Result<(), KernelError> {
                    conv::run(v, call, Layer::real(call)?)
                }
                // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
                unsafe { run(call, <$isa>::assume()) }
            },
            workspace: |step| workspace(check_real(step)),
            ..reference::KERNEL
        };

        /// Through an int8 convolution.
        pub(crate) const $conv_q: Kernel = Kernel {
            name: concat!("conv_backward_f32_qc8w_f32__", $suffix),
            run: |call| {
                #[target_feature(enable = $features)]
                fn run(call: &mut Call<'_, '_>, v: $isa) -> Result<(), KernelError> {
                    conv::run(v, call, Layer::quantized(call)?)
                }
                // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
                unsafe { run(call, <$isa>::assume()) }
            },
            workspace: |step| workspace(check_quantized(step)),
            ..reference::KERNEL_Q
        };
    };
}

rows!(Avx512, "avx512", "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl": CONV_AVX512, CONV_Q_AVX512);
rows!(Avx2, "avx2", "avx2,fma": CONV_AVX2, CONV_Q_AVX2);

fn workspace(shape: Result<ConvShape, KernelError>) -> usize {
    shape.map_or(0, |shape| conv::workspace(&shape))
}

/// Through an f32 depthwise convolution.
pub(crate) const DEPTHWISE: Kernel =
    Kernel { name: "depthwise_backward_f32_f32_f32__avx2", run: run_depthwise, ..depthwise::KERNEL };

/// Through an int8 depthwise convolution.
pub(crate) const DEPTHWISE_Q: Kernel =
    Kernel { name: "depthwise_backward_f32_qc8w_f32__avx2", run: run_depthwise_q, ..depthwise::KERNEL_Q };

fn run_depthwise(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { depthwise_f32(call) }
}

fn run_depthwise_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { depthwise_q(call) }
}

#[target_feature(enable = "avx2")]
fn depthwise_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    depthwise::run(call)
}

#[target_feature(enable = "avx2")]
fn depthwise_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    depthwise::run_quantized(call)
}
