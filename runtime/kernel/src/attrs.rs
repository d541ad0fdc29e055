//! Operator attributes as they stand in plan files.
//!
//! Each record is a row of 32-bit words, so it can be read in place. Fields
//! hold what the kernel needs at run time, computed once at compile time.

use tensor::MAX_RANK;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use ingraft_tensor as tensor;

/// Attribute records: fixed rows of 32-bit words.
pub trait Attrs: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// The record in `bytes`, or `None` when the length or alignment is wrong.
    fn read(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_bytes(bytes).ok()
    }
}

macro_rules! attrs {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
            impl Attrs for $name {}
        )*
    };
}

attrs! {
    /// Sliding-window geometry shared by convolution and pooling. Order: height, width.
    pub struct Window {
        /// Kernel extents.
        kernel: [u32; 2],
        /// Steps between windows.
        stride: [u32; 2],
        /// Distances between taps.
        dilation: [u32; 2],
        /// Padding: top, left, bottom, right.
        pad: [u32; 4],
    }

    /// [`OpCode::Conv`](crate::OpCode::Conv), [`OpCode::Depthwise`](crate::OpCode::Depthwise) and
    /// [`OpCode::DynamicConv`](crate::OpCode::DynamicConv).
    ///
    /// Operands of the first two: input `[N, H, W, C]` f32, weight f32, bias `[O]` f32; output f32.
    pub struct ConvAttrs {
        /// Geometry.
        window: Window,
        /// Number of groups; 1 for dense.
        groups: u32,
        /// Fused activation: smallest output.
        lo: f32,
        /// Fused activation: largest output.
        hi: f32,
    }

    /// [`OpCode::QConv`](crate::OpCode::QConv) and [`OpCode::QDepthwise`](crate::OpCode::QDepthwise).
    ///
    /// Operands: input int8, weight int8, bias `[O]` i32 with the zero-point term
    /// folded in (`bias − zx·Σw`), multiplier `[O]` f32; output int8, f32 or i32.
    /// An int8 output is `round(clamp(f32(acc)·m, lo, hi)) + zero_point`, an f32
    /// output `f32(acc)·m` (m = sx·sw), an i32 output the accumulator itself.
    pub struct QConvAttrs {
        /// Geometry.
        window: Window,
        /// Number of groups; 1 for dense.
        groups: u32,
        /// Code of real zero in the input; also the padding value.
        in_zero_point: i32,
        /// Code of real zero in the output.
        out_zero_point: i32,
        /// Lower clamp in output steps, before the zero point is added.
        lo: f32,
        /// Upper clamp in output steps, before the zero point is added.
        hi: f32,
        /// Real value of one input step.
        in_scale: f32,
        /// Real value of one output step; 1 for an f32 output.
        out_scale: f32,
    }

    /// [`OpCode::Pool`](crate::OpCode::Pool) and [`OpCode::QPool`](crate::OpCode::QPool).
    ///
    /// Operands: input, output of the same type. Integer average:
    /// `round(clamp(f32(Σ(x−zx))·(ratio/n))) + zy`, n the count of taps.
    pub struct PoolAttrs {
        /// Geometry.
        window: Window,
        /// 0 maximum, 1 average over the taps inside the input, 2 average over the taps inside the padded input.
        kind: u32,
        /// Code of real zero in the input.
        in_zero_point: i32,
        /// Code of real zero in the output.
        out_zero_point: i32,
        /// sx / sy.
        ratio: f32,
        /// Lower clamp in output steps.
        lo: f32,
        /// Upper clamp in output steps.
        hi: f32,
    }

    /// [`OpCode::QAdd`](crate::OpCode::QAdd) and [`OpCode::QMul`](crate::OpCode::QMul).
    ///
    /// Operands: two int8 inputs that broadcast to the output, int8 output. Add:
    /// `f32(a−za)·ka + f32(b−zb)·kb`; multiply: `f32((a−za)·(b−zb))·ka`; then
    /// clamp, round, add the zero point.
    pub struct QBinaryAttrs {
        /// Zero points of the inputs.
        zero_points: [i32; 2],
        /// sa/sy and sb/sy for addition; sa·sb/sy and 0 for multiplication.
        factors: [f32; 2],
        /// Code of real zero in the output.
        out_zero_point: i32,
        /// Lower clamp in output steps.
        lo: f32,
        /// Upper clamp in output steps.
        hi: f32,
    }

    /// [`OpCode::Binary`](crate::OpCode::Binary): see [`crate::elementwise::BinaryFn`],
    /// [`CompareFn`](crate::elementwise::CompareFn) and [`LogicFn`](crate::elementwise::LogicFn).
    pub struct BinaryAttrs {
        /// Code of the function.
        function: u32,
        /// Fused activation on f32: smallest output.
        lo: f32,
        /// Fused activation on f32: largest output.
        hi: f32,
    }

    /// [`OpCode::BinaryBackward`](crate::OpCode::BinaryBackward).
    pub struct BinaryBackwardAttrs {
        /// Code of the forward function.
        function: u32,
        /// 0 for the gradient of the left operand, 1 for that of the right.
        operand: u32,
        /// Fused activation: smallest output.
        lo: f32,
        /// Fused activation: largest output.
        hi: f32,
        /// Real value of one step of each int8 operand; f32 operands ignore it.
        scales: [f32; 2],
        /// Code of real zero in each int8 operand.
        zero_points: [i32; 2],
    }

    /// [`OpCode::MatMulBackward`](crate::OpCode::MatMulBackward).
    pub struct MatMulBackwardAttrs {
        /// 0 for the gradient of the left operand, 1 for that of the right.
        operand: u32,
    }

    /// [`OpCode::WhereBackward`](crate::OpCode::WhereBackward).
    pub struct WhereBackwardAttrs {
        /// 0 for the gradient of what is taken where the condition holds, 1 for that of the other.
        operand: u32,
    }

    /// [`OpCode::LstmBackward`](crate::OpCode::LstmBackward) and [`OpCode::GruBackward`](crate::OpCode::GruBackward).
    pub struct RecurrentBackwardAttrs {
        /// As the forward step's.
        direction: u32,
        /// As the forward step's.
        linear_before_reset: u32,
        /// The forward output whose gradient comes in: 0 all states, 1 the last, 2 the last cell (LSTM).
        incoming: u32,
        /// What the outputs are the gradients of, in this order: bit 0 the sequence, bit 1 the initial state, bit 2
        /// the initial cell (LSTM).
        wanted: u32,
    }

    /// [`OpCode::Unary`](crate::OpCode::Unary): see [`crate::elementwise::UnaryFn`].
    pub struct UnaryAttrs {
        /// Code of the function.
        function: u32,
        /// First parameter (alpha, lower bound).
        alpha: f32,
        /// Second parameter (beta, upper bound).
        beta: f32,
    }

    /// [`OpCode::Quantize`](crate::OpCode::Quantize), [`OpCode::Dequantize`](crate::OpCode::Dequantize)
    /// and [`OpCode::Requantize`](crate::OpCode::Requantize).
    pub struct QuantizeAttrs {
        /// Input scale (1 for a float input).
        in_scale: f32,
        /// Input zero point (0 for a float input).
        in_zero_point: i32,
        /// Output scale (1 for a float output).
        out_scale: f32,
        /// Output zero point (0 for a float output).
        out_zero_point: i32,
        /// Lower clamp in output steps.
        lo: f32,
        /// Upper clamp in output steps.
        hi: f32,
    }

    /// [`OpCode::Softmax`](crate::OpCode::Softmax): operates on the innermost axis.
    pub struct SoftmaxAttrs {
        /// 1 for the logarithm of the softmax.
        log: u32,
    }

    /// [`OpCode::QSoftmax`](crate::OpCode::QSoftmax). Operands: input int8,
    /// `[256]` i32 table of exponentials `round(exp(−d·sx)·2³⁰)`
    /// ([`crate::softmax::exp_table`]); output int8. The exponentials are summed in 64 bits.
    pub struct QSoftmaxAttrs {
        /// Code of real zero in the output.
        out_zero_point: i32,
        /// 1 / sy.
        inv_scale: f32,
    }

    /// [`OpCode::Head`](crate::OpCode::Head).
    pub struct HeadAttrs {
        /// Axes averaged: [`crate::head::POOL_HEIGHT`] and [`crate::head::POOL_WIDTH`].
        pool: u32,
        /// Scale of an int8 tensor; 1 for f32.
        scale: f32,
        /// Zero point of an int8 tensor; 0 for f32.
        zero_point: i32,
    }

    /// [`OpCode::Copy`](crate::OpCode::Copy): `out[out_offset + Σ i·out_stride] = in[in_offset + Σ i·in_stride]`
    /// over all indices below `extents`. Offsets and strides in elements.
    pub struct CopyAttrs {
        /// Number of dimensions used.
        rank: u32,
        /// Extents of the copied block.
        extents: [u32; MAX_RANK],
        /// Strides in the input; 0 broadcasts, negative reverses.
        in_strides: [i32; MAX_RANK],
        /// Strides in the output.
        out_strides: [u32; MAX_RANK],
        /// First element read.
        in_offset: u32,
        /// First element written.
        out_offset: u32,
    }

    /// [`OpCode::Fill`](crate::OpCode::Fill): the element's bytes, little-endian.
    pub struct FillAttrs {
        /// Element value as two words; narrower types use the low bytes.
        value: [u32; 2],
    }

    /// [`OpCode::Reduce`](crate::OpCode::Reduce): see [`crate::reduce::ReduceFn`]. The quantization
    /// fields belong to int8 operands; others ignore them.
    pub struct ReduceAttrs {
        /// Code of the function.
        function: u32,
        /// Bit `i` set when axis `i` of the input is reduced.
        axes: u32,
        /// Code of real zero in the input.
        in_zero_point: i32,
        /// Code of real zero in the output.
        out_zero_point: i32,
        /// sx / sy.
        ratio: f32,
        /// Lower clamp in output steps.
        lo: f32,
        /// Upper clamp in output steps.
        hi: f32,
    }

    /// [`OpCode::Norm`](crate::OpCode::Norm).
    pub struct NormAttrs {
        /// 0 layer normalization, 1 root mean square.
        kind: u32,
        /// Number of innermost axes normalized together.
        axes: u32,
        /// Added to the variance.
        epsilon: f32,
    }

    /// [`OpCode::Gather`](crate::OpCode::Gather) and [`OpCode::GatherElements`](crate::OpCode::GatherElements).
    pub struct GatherAttrs {
        /// Axis of the data that the indices count along.
        axis: u32,
    }

    /// [`OpCode::ArgReduce`](crate::OpCode::ArgReduce).
    pub struct ArgReduceAttrs {
        /// Axis searched.
        axis: u32,
        /// 0 the largest element, 1 the smallest.
        smallest: u32,
        /// Among equals: 0 the first index, 1 the last.
        last: u32,
    }

    /// [`OpCode::Resize`](crate::OpCode::Resize): the input position of output position `o` is
    /// `(o + before) · numerator / denominator + after`. Order: height, width.
    pub struct ResizeAttrs {
        /// 0 nearest, 1 linear.
        mode: u32,
        /// Nearest: 0 half down, 1 half up, 2 floor, 3 ceiling.
        rounding: u32,
        /// Added to the output position.
        before: [f32; 2],
        /// Factor.
        numerator: [f32; 2],
        /// Divisor.
        denominator: [f32; 2],
        /// Added to the quotient.
        after: [f32; 2],
    }

    /// [`OpCode::Lstm`](crate::OpCode::Lstm) and [`OpCode::Gru`](crate::OpCode::Gru).
    pub struct RecurrentAttrs {
        /// 0 forward, 1 reverse, 2 both.
        direction: u32,
        /// GRU only: 1 applies the reset gate after the recurrent product.
        linear_before_reset: u32,
    }
}

impl Window {
    /// A 1×1 window: a linear layer.
    pub const UNIT: Self = Self { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };

    /// Output extent along `axis` (0 height, 1 width) for an input extent, or
    /// `None` when the window does not fit or a field is zero.
    pub fn output(&self, axis: usize, input: usize) -> Option<usize> {
        let kernel = *self.kernel.get(axis)? as usize;
        let stride = *self.stride.get(axis)? as usize;
        let dilation = *self.dilation.get(axis)? as usize;
        let pad = (*self.pad.get(axis)? as usize).checked_add(*self.pad.get(axis + 2)? as usize)?;
        let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        if dilation == 0 {
            return None;
        }
        input.checked_add(pad)?.checked_sub(reach)?.checked_div(stride)?.checked_add(1)
    }
}

impl QConvAttrs {
    /// Whether the bounds are ordered and lead, rounded and with the zero point, to int8 codes: what a target may then leave
    /// out of its epilogue.
    pub fn fits_codes(&self) -> bool {
        let zero = self.out_zero_point as f32;
        (-128..=127).contains(&self.out_zero_point)
            && self.lo <= self.hi
            && self.lo + zero >= -128.0
            && self.hi + zero <= 127.0
    }
}
