//! The closed set of operators a [`Graph`](crate::Graph) is made of.
//!
//! One file per group holds, side by side, the attributes, the reading of the
//! ONNX form and the shape rule. The set is smaller than ONNX's: operators that
//! differ only in spelling are one variant, and those that are exactly a few
//! others are written as these (`Split` as slices, `GlobalAveragePool` as a mean,
//! `DepthToSpace` as reshape and transpose, `QLinearConv` as its quantize and
//! dequantize form, `Flatten`, `Squeeze` and `Unsqueeze` as reshape).

pub mod conv;
pub mod elementwise;
pub mod gather;
pub mod matmul;
pub mod movement;
pub mod norm;
pub mod pad;
pub mod pool;
pub mod quantize;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod shape;

use ingraft_tensor::DType;

pub use self::conv::{Conv, Layout, Window};
pub use self::elementwise::{Binary, Unary};
pub use self::movement::SliceRange;
pub use self::pad::{Pad, PadMode};
pub use self::pool::{Pool, PoolKind};
pub use self::recurrent::{Direction, Gru, Lstm};
pub use self::reduce::ReduceKind;
pub use self::resize::{Coordinates, NearestRounding, Resize, ResizeMode};
use crate::error::Fault;

/// One operator with its attributes. Each variant lists its operands and results.
///
/// Axes are non-negative and below the rank.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// `x -> y`: a function of one element, same shape.
    Unary(Unary),
    /// `lhs, rhs -> y`: a function of two elements with NumPy broadcasting.
    Binary(Binary),
    /// `condition, x, y -> z`: picks `x` where the condition holds, with NumPy broadcasting.
    Where,
    /// `x -> y`: another element type. Floats truncate toward zero to integers.
    Cast {
        /// The type of the result.
        to: DType,
    },
    /// `x -> x`.
    Identity,

    /// `x -> y`: the same data under another shape.
    Reshape {
        /// The shape of the result.
        shape: Vec<usize>,
    },
    /// `x -> y`: dimension `i` of the result is dimension `perm[i]` of the operand.
    Transpose {
        /// A permutation of the dimensions.
        perm: Vec<usize>,
    },
    /// `x0, x1, … -> y`.
    Concat {
        /// The dimension that adds up.
        axis: usize,
    },
    /// `x -> y`: a strided box, one range per dimension.
    Slice {
        /// One range per dimension.
        ranges: Vec<SliceRange>,
    },
    /// `x -> y`, adds borders.
    Pad(Pad),
    /// `x -> y`, repeats dimensions of extent 1; `x` may have lower rank.
    Expand {
        /// The shape of the result.
        shape: Vec<usize>,
    },
    /// `x -> y`, repeats whole dimensions.
    Tile {
        /// How often, per dimension.
        repeats: Vec<usize>,
    },
    /// `data, indices -> y`: slices of `data` along `axis`, one per index; negative indices count from the end.
    Gather {
        /// The dimension indexed.
        axis: usize,
    },
    /// `data, indices -> y`: one element per index, same shape as `indices`.
    GatherElements {
        /// The dimension indexed.
        axis: usize,
    },
    /// `x -> y`, running sum.
    CumSum {
        /// The dimension summed along.
        axis: usize,
        /// Whether an element leaves itself out.
        exclusive: bool,
        /// Whether the sum runs from the end.
        reverse: bool,
    },
    /// `x -> y`: keeps one triangle of the last two dimensions, zero elsewhere.
    Trilu {
        /// The upper triangle, else the lower.
        upper: bool,
        /// Diagonal the triangle starts from.
        diagonal: i64,
    },
    /// `x -> y`.
    Resize(Resize),

    /// `x -> y`: combines all elements along some dimensions.
    Reduce {
        /// How they combine.
        kind: ReduceKind,
        /// The dimensions that go away, ascending.
        axes: Vec<usize>,
        /// Whether they stay with extent 1.
        keep_dims: bool,
    },
    /// `x -> i64`: position of the largest element along a dimension.
    ArgMax {
        /// The dimension searched.
        axis: usize,
        /// Whether it stays with extent 1.
        keep_dims: bool,
        /// Whether the last of equal elements wins, else the first.
        last: bool,
    },
    /// `x -> y`: normalized exponentials along one dimension.
    Softmax {
        /// The dimension that sums to one.
        axis: usize,
        /// Whether the result is the logarithm.
        log: bool,
    },

    /// `lhs, rhs -> y`: matrix product over the last two dimensions, NumPy's rules for the rest.
    MatMul,
    /// `a, b, c? -> y`: `alpha·A·B + beta·C` on matrices, `C` broadcast.
    Gemm {
        /// Factor on the product.
        alpha: f32,
        /// Factor on `c`.
        beta: f32,
        /// Whether `a` is stored (k, m).
        trans_a: bool,
        /// Whether `b` is stored (n, k).
        trans_b: bool,
    },
    /// `lhs, rhs, lhs_zero_point?, rhs_zero_point? -> i32`: matrix product of 8-bit codes.
    MatMulInteger,
    /// `x, w, bias? -> y`: weights (out, in/groups, spatial…); layout of `x` and `y` see [`Conv`].
    Conv(Conv),
    /// `x, w, x_zero_point?, w_zero_point? -> i32`: convolution of 8-bit codes; padding is the zero point.
    ConvInteger(Conv),
    /// `x -> y`.
    Pool(Pool),

    /// `x, scale, bias, mean, variance -> y`, per channel; all but `x` are constants. Simplification leaves those that no
    /// convolution takes in.
    BatchNorm {
        /// The dimension of the channels.
        axis: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `x, scale, bias? -> y`: over the dimensions from `axis` on.
    LayerNorm {
        /// First dimension normalized over.
        axis: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `x, scale -> y`: by the root mean square over the dimensions from `axis` on.
    RmsNorm {
        /// First dimension normalized over.
        axis: usize,
        /// Added to the mean square.
        epsilon: f32,
    },
    /// `x, scale, bias -> y`: channels in groups, each over its channels and all positions; scale and bias per channel.
    /// With one channel per group this is instance normalization.
    GroupNorm {
        /// Number of groups.
        groups: usize,
        /// Added to the variance.
        epsilon: f32,
        /// The layout of input and output.
        layout: Layout,
    },

    /// `x, w, r, b?, lengths?, h?, c?, peepholes? -> y, h, c`.
    Lstm(Lstm),
    /// `x, w, r, b?, lengths?, h? -> y, h`.
    Gru(Gru),

    /// `x, scale, zero_point? -> codes`.
    QuantizeLinear {
        /// The dimension of a one-dimensional scale.
        axis: usize,
        /// The type of the codes.
        to: DType,
    },
    /// `codes, scale, zero_point? -> y`.
    DequantizeLinear {
        /// The dimension of a one-dimensional scale.
        axis: usize,
    },
    /// `x -> codes u8, scale, zero_point u8`, from the range of `x` extended to zero.
    DynamicQuantizeLinear,
}

/// The element type and extents of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl ValueType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: Vec<usize>) -> Self {
        Self { dtype, shape }
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }
}

impl Op {
    /// The name of the operator, for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unary(unary) => unary.name(),
            Self::Binary(binary) => binary.name(),
            Self::Where => "Where",
            Self::Cast { .. } => "Cast",
            Self::Identity => "Identity",
            Self::Reshape { .. } => "Reshape",
            Self::Transpose { .. } => "Transpose",
            Self::Concat { .. } => "Concat",
            Self::Slice { .. } => "Slice",
            Self::Pad(_) => "Pad",
            Self::Expand { .. } => "Expand",
            Self::Tile { .. } => "Tile",
            Self::Gather { .. } => "Gather",
            Self::GatherElements { .. } => "GatherElements",
            Self::CumSum { .. } => "CumSum",
            Self::Trilu { .. } => "Trilu",
            Self::Resize(_) => "Resize",
            Self::Reduce { kind, .. } => kind.name(),
            Self::ArgMax { .. } => "ArgMax",
            Self::Softmax { log: false, .. } => "Softmax",
            Self::Softmax { log: true, .. } => "LogSoftmax",
            Self::MatMul => "MatMul",
            Self::Gemm { .. } => "Gemm",
            Self::MatMulInteger => "MatMulInteger",
            Self::Conv(_) => "Conv",
            Self::ConvInteger(_) => "ConvInteger",
            Self::Pool(Pool { kind: PoolKind::Max, .. }) => "MaxPool",
            Self::Pool(Pool { kind: PoolKind::Average { .. }, .. }) => "AveragePool",
            Self::BatchNorm { .. } => "BatchNormalization",
            Self::LayerNorm { .. } => "LayerNormalization",
            Self::RmsNorm { .. } => "RMSNormalization",
            Self::GroupNorm { .. } => "GroupNormalization",
            Self::Lstm(_) => "LSTM",
            Self::Gru(_) => "GRU",
            Self::QuantizeLinear { .. } => "QuantizeLinear",
            Self::DequantizeLinear { .. } => "DequantizeLinear",
            Self::DynamicQuantizeLinear => "DynamicQuantizeLinear",
        }
    }

    /// The types of the results for operands of these types.
    ///
    /// # Errors
    /// A [`Fault`] where the operands do not fit the operator.
    pub fn infer(&self, operands: &[Option<ValueType>]) -> Result<Vec<ValueType>, Fault> {
        let x = Operands(operands);
        let one = |result: Result<ValueType, Fault>| result.map(|t| vec![t]);
        match self {
            Self::Unary(unary) => one(elementwise::infer_unary(*unary, x)),
            Self::Binary(binary) => one(elementwise::infer_binary(*binary, x)),
            Self::Where => one(elementwise::infer_where(x)),
            Self::Cast { to } => Ok(vec![ValueType::new(*to, x.at(0)?.shape.clone())]),
            Self::Identity => Ok(vec![x.at(0)?.clone()]),
            Self::Reshape { shape } => one(movement::infer_reshape(shape, x)),
            Self::Transpose { perm } => one(movement::infer_transpose(perm, x)),
            Self::Concat { axis } => one(movement::infer_concat(*axis, x)),
            Self::Slice { ranges } => one(movement::infer_slice(ranges, x)),
            Self::Pad(pad) => one(pad.infer(x)),
            Self::Expand { shape } => one(movement::infer_expand(shape, x)),
            Self::Tile { repeats } => one(movement::infer_tile(repeats, x)),
            Self::Gather { axis } => one(gather::infer_gather(*axis, x)),
            Self::GatherElements { axis } => one(gather::infer_gather_elements(*axis, x)),
            Self::CumSum { axis, .. } => one(reduce::infer_cumsum(*axis, x)),
            Self::Trilu { .. } => one(movement::infer_trilu(x)),
            Self::Resize(resize) => one(resize.infer(x)),
            Self::Reduce { axes, keep_dims, .. } => one(reduce::infer_reduce(axes, *keep_dims, x)),
            Self::ArgMax { axis, keep_dims, .. } => one(reduce::infer_argmax(*axis, *keep_dims, x)),
            Self::Softmax { axis, .. } => one(reduce::infer_softmax(*axis, x)),
            Self::MatMul => one(matmul::infer_matmul(x)),
            Self::Gemm { trans_a, trans_b, .. } => one(matmul::infer_gemm(*trans_a, *trans_b, x)),
            Self::MatMulInteger => one(matmul::infer_matmul_integer(x)),
            Self::Conv(conv) => one(conv.infer(x)),
            Self::ConvInteger(conv) => one(conv.infer_integer(x)),
            Self::Pool(pool) => one(pool.infer(x)),
            Self::BatchNorm { axis, .. } => one(norm::infer_batch_norm(*axis, x)),
            Self::LayerNorm { axis, .. } | Self::RmsNorm { axis, .. } => {
                one(norm::infer_layer_norm(*axis, x))
            }
            Self::GroupNorm { groups, layout, .. } => one(norm::infer_group_norm(*groups, *layout, x)),
            Self::Lstm(lstm) => lstm.infer(x),
            Self::Gru(gru) => gru.infer(x),
            Self::QuantizeLinear { axis, to } => one(quantize::infer_quantize(*axis, *to, x)),
            Self::DequantizeLinear { axis } => one(quantize::infer_dequantize(*axis, x)),
            Self::DynamicQuantizeLinear => quantize::infer_dynamic(x),
        }
    }
}

/// The operand types of a node, for shape rules.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a>(&'a [Option<ValueType>]);

impl<'a> Operands<'a> {
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(self, index: usize) -> Option<&'a ValueType> {
        self.0.get(index)?.as_ref()
    }

    pub(crate) fn at(self, index: usize) -> Result<&'a ValueType, Fault> {
        self.get(index).ok_or(Fault::MissingInput { index })
    }

    /// Operand `index`, which must have one of these types.
    pub(crate) fn typed(self, index: usize, dtypes: &[DType]) -> Result<&'a ValueType, Fault> {
        let operand = self.at(index)?;
        if dtypes.contains(&operand.dtype) {
            Ok(operand)
        } else {
            Err(Fault::DType { index, dtype: operand.dtype })
        }
    }

    /// Operand `index`, which must hold floats.
    pub(crate) fn float(self, index: usize) -> Result<&'a ValueType, Fault> {
        self.typed(index, &[DType::F32, DType::F16])
    }

    /// Operand `index`, which must have the same element type as operand 0.
    pub(crate) fn like_first(self, index: usize) -> Result<&'a ValueType, Fault> {
        let dtype = self.at(0)?.dtype;
        self.typed(index, &[dtype])
    }

    /// Requires operand `index`, where present, to be a vector of `len` elements of the first operand's type.
    pub(crate) fn vector(self, index: usize, len: usize) -> Result<(), Fault> {
        match self.get(index) {
            None => Ok(()),
            Some(_) if self.like_first(index)?.shape == [len] => Ok(()),
            Some(_) => Err(Fault::shape("a per-channel operand has the wrong length")),
        }
    }
}
