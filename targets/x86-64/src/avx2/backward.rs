//! Backward steps of convolutions: the reference's row arithmetic, compiled for AVX2.
//!
//! # Numerics
//! The operations and their order are the reference's, so gradients equal its to the bit.

use ingraft_kernel::backward::{conv, depthwise};
use ingraft_kernel::{Call, Kernel, KernelError};

/// Through an f32 convolution.
pub(crate) const CONV: Kernel =
    Kernel { name: "conv_backward_f32_f32_f32__avx2", run: run_conv, ..conv::KERNEL };

/// Through an int8 convolution.
pub(crate) const CONV_Q: Kernel =
    Kernel { name: "conv_backward_f32_qc8w_f32__avx2", run: run_conv_q, ..conv::KERNEL_Q };

/// Through an f32 depthwise convolution.
pub(crate) const DEPTHWISE: Kernel =
    Kernel { name: "depthwise_backward_f32_f32_f32__avx2", run: run_depthwise, ..depthwise::KERNEL };

/// Through an int8 depthwise convolution.
pub(crate) const DEPTHWISE_Q: Kernel =
    Kernel { name: "depthwise_backward_f32_qc8w_f32__avx2", run: run_depthwise_q, ..depthwise::KERNEL_Q };

fn run_conv(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { conv_f32(call) }
}

fn run_conv_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { conv_q(call) }
}

fn run_depthwise(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { depthwise_f32(call) }
}

fn run_depthwise_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through `target`, whose argument proves AVX2.
    unsafe { depthwise_q(call) }
}

#[target_feature(enable = "avx2")]
fn conv_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    conv::run(call)
}

#[target_feature(enable = "avx2")]
fn conv_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    conv::run_quantized(call)
}

#[target_feature(enable = "avx2")]
fn depthwise_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    depthwise::run(call)
}

#[target_feature(enable = "avx2")]
fn depthwise_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    depthwise::run_quantized(call)
}
