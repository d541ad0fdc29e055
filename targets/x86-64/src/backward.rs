//! Backward steps.
//!
//! # Numerics
//! Sums run in a fixed order with fused multiply-adds: the same bits in every run, and within a few units of the last
//! place of `Σ|a·b|` of the reference.

mod conv;
mod depthwise;
mod incoming;
mod matmul;
mod norm;
mod product;
mod row;
mod softmax;
mod vector;

use ingraft_kernel::backward::layer::{Layer, check_dynamic, check_quantized, check_real};
use ingraft_kernel::backward::{conv as conv_reference, depthwise as depthwise_reference};
use ingraft_kernel::backward::{
    matmul as matmul_reference, norm as norm_reference, softmax as softmax_reference,
};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use self::vector::Vector;
use crate::features::{Avx2, Avx512};

macro_rules! rows {
    ($isa:ty, $suffix:literal, $features:literal: $conv:ident, $conv_q:ident, $conv_dynamic:ident, $depthwise:ident, $depthwise_q:ident, $matmul:ident, $softmax:ident, $norm:ident) => {
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
            workspace: |step| check_real(step).map_or(0, |shape| conv::workspace(&shape)),
            ..conv_reference::KERNEL
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
            workspace: |step| check_quantized(step).map_or(0, |shape| conv::workspace(&shape)),
            ..conv_reference::KERNEL_Q
        };

        /// Through an int8 convolution of codes whose parameters were found at run time.
        pub(crate) const $conv_dynamic: Kernel = Kernel {
            name: concat!("conv_backward_f32_qd8_qc8w_f32__", $suffix),
            run: |call| {
                #[target_feature(enable = $features)]
                fn run(call: &mut Call<'_, '_>, v: $isa) -> Result<(), KernelError> {
                    conv::run(v, call, Layer::dynamic(call)?)
                }
                // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
                unsafe { run(call, <$isa>::assume()) }
            },
            workspace: |step| check_dynamic(step).map_or(0, |shape| conv::workspace(&shape)),
            ..conv_reference::KERNEL_DYNAMIC
        };

        /// Through an f32 depthwise convolution; a sparse delta takes the reference.
        pub(crate) const $depthwise: Kernel = Kernel {
            name: concat!("depthwise_backward_f32_f32_f32__", $suffix),
            run: |call| {
                #[target_feature(enable = $features)]
                fn run(call: &mut Call<'_, '_>, v: $isa) -> Result<(), KernelError> {
                    if call.terms.sparse.is_some() {
                        return depthwise_reference::run(call);
                    }
                    depthwise::run(v, call, Layer::real(call)?)
                }
                // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
                unsafe { run(call, <$isa>::assume()) }
            },
            workspace: depthwise_workspace::<$isa>,
            ..depthwise_reference::KERNEL
        };

        /// Through an int8 depthwise convolution; a sparse delta takes the reference.
        pub(crate) const $depthwise_q: Kernel = Kernel {
            name: concat!("depthwise_backward_f32_qc8w_f32__", $suffix),
            run: |call| {
                #[target_feature(enable = $features)]
                fn run(call: &mut Call<'_, '_>, v: $isa) -> Result<(), KernelError> {
                    if call.terms.sparse.is_some() {
                        return depthwise_reference::run_quantized(call);
                    }
                    depthwise::run(v, call, Layer::quantized(call)?)
                }
                // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
                unsafe { run(call, <$isa>::assume()) }
            },
            workspace: depthwise_workspace::<$isa>,
            ..depthwise_reference::KERNEL_Q
        };

        /// Of a product of two activations.
        pub(crate) const $matmul: Kernel = Kernel {
            name: concat!("matmul_backward_f32_f32__", $suffix),
            // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
            run: |call| matmul::run(unsafe { <$isa>::assume() }, call),
            ..matmul_reference::KERNEL
        };

        /// Of an f32 softmax; its logarithm takes the reference.
        pub(crate) const $softmax: Kernel = Kernel {
            name: concat!("softmax_backward_f32_f32__", $suffix),
            // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
            run: |call| softmax::run(unsafe { <$isa>::assume() }, call),
            ..softmax_reference::KERNEL
        }
        .checked(softmax::check);

        /// Of a normalization; gradients of a scale and shift take the reference.
        pub(crate) const $norm: Kernel = Kernel {
            name: concat!("norm_backward_f32_f32__", $suffix),
            // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
            run: |call| norm::run(unsafe { <$isa>::assume() }, call),
            ..norm_reference::KERNEL
        };
    };
}

rows!(
    Avx512, "avx512", "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl":
    CONV_AVX512, CONV_Q_AVX512, CONV_DYNAMIC_AVX512, DEPTHWISE_AVX512, DEPTHWISE_Q_AVX512,
    MATMUL_AVX512, SOFTMAX_AVX512, NORM_AVX512
);
rows!(
    Avx2, "avx2", "avx2,fma":
    CONV_AVX2, CONV_Q_AVX2, CONV_DYNAMIC_AVX2, DEPTHWISE_AVX2, DEPTHWISE_Q_AVX2, MATMUL_AVX2, SOFTMAX_AVX2, NORM_AVX2
);

/// The lines of a vector of channels, or what the reference needs.
fn depthwise_workspace<V: Vector>(step: &Step<'_>) -> usize {
    let (reference, shape) = match check_real(step) {
        Ok(shape) => (depthwise_reference::KERNEL.workspace, Ok(shape)),
        Err(_) => (depthwise_reference::KERNEL_Q.workspace, check_quantized(step)),
    };
    shape.map_or(0, |shape| depthwise::workspace(&shape, V::LANES)).max(reference(step))
}
