//! The closed list of operators a plan is made of.

macro_rules! op_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What a step computes. The discriminant is the code used in plan files.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum OpCode { $($(#[$doc])* $name = $code,)* }

        impl OpCode {
            /// Every operator, in order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The operator with file code `code`, or `None`.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The operator's name as printed by `inspect`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

op_codes! {
    /// f32 convolution or linear layer, bias and clip fused ([`crate::conv`]).
    Conv = 1,
    /// f32 depthwise convolution ([`crate::depthwise`]).
    Depthwise = 2,
    /// int8 convolution or linear layer to int8, i32 or f32 ([`crate::qconv`]).
    QConv = 3,
    /// int8 depthwise convolution ([`crate::qdepthwise`]).
    QDepthwise = 4,
    /// Batched f32 matrix product of two activations.
    MatMul = 5,
    /// Batched int8 matrix product to i32, zero points as operands.
    MatMulInteger = 6,
    /// int8 convolution or linear layer to f32, input scale and zero point as operands ([`crate::qconv`]).
    DynamicConv = 7,
    /// f32 average or maximum pooling ([`crate::pool`]).
    Pool = 10,
    /// int8 average or maximum pooling ([`crate::pool`]).
    QPool = 11,
    /// Reduction over a set of axes.
    Reduce = 12,
    /// Elementwise binary operator with broadcasting, f32 or integer ([`crate::elementwise`]).
    Binary = 20,
    /// int8 addition with two input scales ([`crate::elementwise`]).
    QAdd = 21,
    /// int8 multiplication ([`crate::elementwise`]).
    QMul = 22,
    /// Elementwise unary f32 function ([`crate::elementwise`]).
    Unary = 23,
    /// 256-entry int8 to int8 table ([`crate::lookup`]).
    Lookup = 24,
    /// Elementwise choice between two operands.
    Where = 25,
    /// f32 softmax over the innermost axis ([`crate::softmax`]).
    Softmax = 30,
    /// int8 softmax over the innermost axis ([`crate::softmax`]).
    QSoftmax = 31,
    /// Normalization over the innermost axes with scale and shift.
    Norm = 32,
    /// f32 to int8 ([`crate::quantize`]).
    Quantize = 40,
    /// int8 or i32 to f32 ([`crate::quantize`]).
    Dequantize = 41,
    /// f32 to int8 with range found at run time.
    DynamicQuantize = 42,
    /// Conversion between element types.
    Cast = 43,
    /// int8 to int8 with other quantization parameters ([`crate::quantize`]).
    Requantize = 44,
    /// uint8 to the int8 minus 128 that a plan stores it as, and back ([`crate::cast`]).
    Recode = 45,
    /// Strided copy: transpose, slice, pad interior, concat part, broadcast ([`crate::copy`]).
    Copy = 50,
    /// Writes one value everywhere ([`crate::copy`]).
    Fill = 51,
    /// Picks slices along an axis by integer index.
    Gather = 52,
    /// Index of the extreme element along an axis.
    ArgReduce = 53,
    /// Interpolation on the spatial axes.
    Resize = 54,
    /// Picks elements along an axis, one per index ([`crate::gather`]).
    GatherElements = 55,
    /// Long short-term memory layer.
    Lstm = 60,
    /// Gated recurrent unit layer.
    Gru = 61,
    /// Classifier head on a pooled tensor ([`crate::head`]).
    Head = 70,
    /// Gradient of [`Self::Conv`], [`Self::QConv`] and [`Self::DynamicConv`] with respect to the input and the site's terms.
    ConvBackward = 100,
    /// Gradient of [`Self::Depthwise`] and [`Self::QDepthwise`].
    DepthwiseBackward = 101,
    /// Gradient of [`Self::Pool`] and [`Self::QPool`].
    PoolBackward = 102,
    /// Gradient of additions and of rounding steps: the incoming gradient through
    /// the mask, summed over broadcast axes.
    AddBackward = 103,
    /// Gradient of [`Self::Lookup`] through a derivative table.
    LookupBackward = 104,
    /// Gradient of [`Self::Copy`]: the copy run backwards.
    CopyBackward = 105,
    /// Gradient of [`Self::Unary`].
    UnaryBackward = 106,
    /// Gradient of [`Self::Binary`] and [`Self::QMul`] with respect to one operand.
    BinaryBackward = 107,
    /// Gradient of [`Self::Reduce`].
    ReduceBackward = 108,
    /// Gradient of [`Self::MatMul`] with respect to one operand.
    MatMulBackward = 109,
    /// Gradient of [`Self::Softmax`] and [`Self::QSoftmax`].
    SoftmaxBackward = 110,
    /// Gradient of [`Self::Norm`] with respect to what is normalized.
    NormBackward = 111,
    /// Gradient of [`Self::Where`] with respect to one choice.
    WhereBackward = 112,
    /// Gradient of [`Self::Gather`] with respect to the data.
    GatherBackward = 113,
    /// Gradient of [`Self::GatherElements`] with respect to the data.
    GatherElementsBackward = 114,
    /// Gradient of [`Self::Resize`].
    ResizeBackward = 115,
    /// Gradient of [`Self::Lstm`] with respect to the sequence and the initial state.
    LstmBackward = 116,
    /// Gradient of [`Self::Gru`] with respect to the sequence and the initial state.
    GruBackward = 117,
}

impl core::fmt::Display for OpCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_are_sorted() {
        for op in OpCode::ALL {
            assert_eq!(OpCode::from_code(*op as u16), Some(*op));
        }
        assert!(OpCode::ALL.is_sorted());
    }
}
