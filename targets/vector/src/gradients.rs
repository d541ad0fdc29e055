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
mod sparse;
mod stored;
mod unary;

use ingraft_kernel::backward::layer::{Layer, check_dynamic, check_quantized, check_real};
use ingraft_kernel::backward::{conv as conv_reference, depthwise as depthwise_reference};
use ingraft_kernel::backward::{
    matmul as matmul_reference, norm as norm_reference, softmax as softmax_reference,
    unary as unary_reference,
};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::vector::entry;
use crate::{Row, Vector};

macro_rules! rows {
    ($($(#[$doc:meta])* $function:ident: $row:ident, $reference:expr, |$call:ident, $v:ident| $body:expr, [$($with:tt)*];)*) => {$(
        struct $row;

        impl<V: Vector> Row<V> for $row {
            #[inline(always)]
            fn run($call: &mut Call<'_, '_>, $v: V) -> Result<(), KernelError> {
                $body
            }
        }

        $(#[$doc])*
        ///
        /// # Safety
        /// The row runs only where the instructions of `V` are.
        pub const unsafe fn $function<V: Vector>(name: &'static str) -> Kernel {
            Kernel { name, run: entry::<V, $row>, ..$reference } $($with)*
        }
    )*};
}

rows! {
    /// Through an f32 convolution.
    conv: Conv, conv_reference::KERNEL, |call, v| conv::run(v, call, Layer::real(call)?),
        [.with_workspace(|step| check_real(step).map_or(0, |shape| conv::workspace(&shape)))];
    /// Through an int8 convolution.
    conv_quantized: ConvQuantized, conv_reference::KERNEL_Q, |call, v| conv::run(v, call, Layer::quantized(call)?),
        [.with_workspace(|step| check_quantized(step).map_or(0, |shape| conv::workspace(&shape)))];
    /// Through an int8 convolution of codes whose parameters were found at run time.
    conv_dynamic: ConvDynamic, conv_reference::KERNEL_DYNAMIC, |call, v| conv::run(v, call, Layer::dynamic(call)?),
        [.with_workspace(|step| check_dynamic(step).map_or(0, |shape| conv::workspace(&shape)))];
    /// Through an f32 depthwise convolution.
    depthwise: Depthwise, depthwise_reference::KERNEL, |call, v| depthwise::run(v, call, Layer::real(call)?),
        [.with_workspace(depthwise_workspace::<V>)];
    /// Through an int8 depthwise convolution.
    depthwise_quantized: DepthwiseQuantized, depthwise_reference::KERNEL_Q,
        |call, v| depthwise::run(v, call, Layer::quantized(call)?), [.with_workspace(depthwise_workspace::<V>)];
    /// Of a product of two activations.
    matmul: MatMul, matmul_reference::KERNEL, |call, v| matmul::run(v, call), [];
    /// Of an f32 softmax and its logarithm.
    softmax: Softmax, softmax_reference::KERNEL, |call, v| softmax::run(v, call), [];
    /// Of a normalization.
    norm: Norm, norm_reference::KERNEL, |call, v| norm::run(v, call), [];
    /// Of the functions of one operand that are made of an exponential.
    unary: Unary, unary_reference::KERNEL, |call, v| unary::run(v, call), [.checked(unary::check)];
}

/// The lines of a vector of channels.
fn depthwise_workspace<V: Vector>(step: &Step<'_>) -> usize {
    let shape = check_real(step).or_else(|_| check_quantized(step));
    shape.map_or(0, |shape| depthwise::workspace(&shape, V::LANES))
}
