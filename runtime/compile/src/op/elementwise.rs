//! Functions of one, two or three elements.

mod function;

use ingraft_tensor::DType;

use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::graph::{Tensor, ValueId};
use crate::onnx::NodeReader;

/// A function of one element.
///
/// # Numerics
/// [`Unary::apply`] computes in binary64 and rounds once, so that it is the
/// same on every host and right to half a unit in the last place of binary32.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unary {
    /// |x|.
    Abs,
    /// Smallest integer not below x.
    Ceil,
    /// x kept inside bounds; infinite where the file gives none. Bounds are exact for every f32 and for integers
    /// up to 2⁵³. Where `min > max` the result is `max`.
    Clip {
        /// Lower bound.
        min: f64,
        /// Upper bound.
        max: f64,
    },
    /// x above zero, `alpha·(exp(x) − 1)` below.
    Elu {
        /// Limit below.
        alpha: f32,
    },
    /// Gauss error function.
    Erf,
    /// exp(x).
    Exp,
    /// Largest integer not above x.
    Floor,
    /// `x·Φ(x)`, exactly or by the tanh approximation.
    Gelu {
        /// Whether the tanh approximation is meant.
        tanh: bool,
    },
    /// `clamp(alpha·x + beta, 0, 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at zero.
        beta: f32,
    },
    /// `x·clamp(x/6 + 1/2, 0, 1)`.
    HardSwish,
    /// x above zero, `alpha·x` below.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// Natural logarithm.
    Log,
    /// `x·tanh(ln(1 + exp(x)))`.
    Mish,
    /// −x.
    Neg,
    /// Logical negation.
    Not,
    /// 1/x.
    Reciprocal,
    /// max(x, 0).
    Relu,
    /// To the nearest integer, ties to even.
    Round,
    /// `gamma·x` above zero, `gamma·alpha·(exp(x) − 1)` below.
    Selu {
        /// Limit below.
        alpha: f32,
        /// Factor.
        gamma: f32,
    },
    /// `1/(1 + exp(−x))`.
    Sigmoid,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x/(1 + |x|)`.
    Softsign,
    /// √x.
    Sqrt,
    /// `x·sigmoid(alpha·x)`.
    Swish {
        /// Steepness.
        alpha: f32,
    },
    /// Hyperbolic tangent.
    Tanh,
}

/// A function of two elements, broadcast as NumPy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binary {
    /// Sum.
    Add,
    /// Logical and.
    And,
    /// Quotient; integers truncate toward zero.
    Div,
    /// Whether equal.
    Equal,
    /// Whether lhs is above rhs.
    Greater,
    /// Whether lhs is not below rhs.
    GreaterOrEqual,
    /// Whether lhs is below rhs.
    Less,
    /// Whether lhs is not above rhs.
    LessOrEqual,
    /// The larger.
    Max,
    /// The smaller.
    Min,
    /// Product.
    Mul,
    /// Logical or.
    Or,
    /// lhs to the power rhs; the result has the type of lhs.
    Pow,
    /// lhs above zero, lhs·rhs below; rhs broadcasts to lhs.
    PRelu,
    /// Difference.
    Sub,
    /// Logical exclusive or.
    Xor,
}

impl Unary {
    /// The ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abs => "Abs",
            Self::Ceil => "Ceil",
            Self::Clip { .. } => "Clip",
            Self::Elu { .. } => "Elu",
            Self::Erf => "Erf",
            Self::Exp => "Exp",
            Self::Floor => "Floor",
            Self::Gelu { .. } => "Gelu",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Log => "Log",
            Self::Mish => "Mish",
            Self::Neg => "Neg",
            Self::Not => "Not",
            Self::Reciprocal => "Reciprocal",
            Self::Relu => "Relu",
            Self::Round => "Round",
            Self::Selu { .. } => "Selu",
            Self::Sigmoid => "Sigmoid",
            Self::Softplus => "Softplus",
            Self::Softsign => "Softsign",
            Self::Sqrt => "Sqrt",
            Self::Swish { .. } => "Swish",
            Self::Tanh => "Tanh",
        }
    }

    fn takes_integers(self) -> bool {
        matches!(self, Self::Abs | Self::Clip { .. } | Self::Neg | Self::Relu)
    }
}

impl Binary {
    /// The ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::And => "And",
            Self::Div => "Div",
            Self::Equal => "Equal",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Mul => "Mul",
            Self::Or => "Or",
            Self::Pow => "Pow",
            Self::PRelu => "PRelu",
            Self::Sub => "Sub",
            Self::Xor => "Xor",
        }
    }

    /// Whether the result is a truth value.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::Greater | Self::GreaterOrEqual | Self::Less | Self::LessOrEqual)
    }

    /// Whether operands and result are truth values.
    pub fn is_logic(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Xor)
    }

    /// Whether the operands may be swapped.
    pub fn commutes(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::Max | Self::Min | Self::Equal) || self.is_logic()
    }
}

/// The shape two operands broadcast to, or `None` where they do not.
pub fn broadcast(lhs: &[usize], rhs: &[usize]) -> Option<Vec<usize>> {
    let rank = lhs.len().max(rhs.len());
    let extent = |shape: &[usize], i: usize| {
        (i + shape.len()).checked_sub(rank).and_then(|i| shape.get(i)).copied().unwrap_or(1)
    };
    let join = |i| match (extent(lhs, i), extent(rhs, i)) {
        (a, b) if a == b => Some(a),
        (1, b) => Some(b),
        (a, 1) => Some(a),
        _ => None,
    };
    (0..rank).map(join).collect()
}

pub(super) fn infer_unary(unary: Unary, x: Operands<'_>) -> Result<ValueType, Fault> {
    let operand = x.at(0)?;
    let fits = match (unary, operand.dtype) {
        (Unary::Not, dtype) => dtype == DType::Bool,
        (_, DType::F32 | DType::F16) => true,
        (_, DType::Bool) => false,
        _ => unary.takes_integers(),
    };
    if fits { Ok(operand.clone()) } else { Err(Fault::DType { index: 0, dtype: operand.dtype }) }
}

pub(super) fn infer_binary(binary: Binary, x: Operands<'_>) -> Result<ValueType, Fault> {
    let lhs = x.at(0)?;
    let rhs = if binary == Binary::Pow { x.at(1)? } else { x.like_first(1)? };
    let fits = if binary.is_logic() {
        lhs.dtype == DType::Bool
    } else {
        lhs.dtype != DType::Bool || binary == Binary::Equal
    };
    if !fits {
        return Err(Fault::DType { index: 0, dtype: lhs.dtype });
    }
    let shape = broadcast(&lhs.shape, &rhs.shape).ok_or(Fault::shape("the operands do not broadcast"))?;
    if binary == Binary::PRelu && shape != lhs.shape {
        return Err(Fault::shape("the slope does not broadcast to the input"));
    }
    let dtype = if binary.is_comparison() { DType::Bool } else { lhs.dtype };
    Ok(ValueType::new(dtype, shape))
}

pub(super) fn infer_where(x: Operands<'_>) -> Result<ValueType, Fault> {
    let condition = x.typed(0, &[DType::Bool])?;
    let (on, off) = (x.at(1)?, x.at(2)?);
    if on.dtype != off.dtype {
        return Err(Fault::DType { index: 2, dtype: off.dtype });
    }
    let shape = broadcast(&on.shape, &off.shape)
        .and_then(|s| broadcast(&s, &condition.shape))
        .ok_or(Fault::shape("the operands do not broadcast"))?;
    Ok(ValueType::new(on.dtype, shape))
}

/// Reads every operator of one operand whose attributes are at most a few floats.
pub(crate) fn unary(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let op = match node.op_type() {
        "Abs" => Unary::Abs,
        "Ceil" => Unary::Ceil,
        "Elu" => Unary::Elu { alpha: node.float("alpha", 1.0)? },
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Floor" => Unary::Floor,
        "Gelu" => Unary::Gelu { tanh: gelu_approximation(node)? },
        "HardSigmoid" => {
            Unary::HardSigmoid { alpha: node.float("alpha", 0.2)?, beta: node.float("beta", 0.5)? }
        }
        "HardSwish" => Unary::HardSwish,
        "LeakyRelu" => Unary::LeakyRelu { alpha: node.float("alpha", 0.01)? },
        "Log" => Unary::Log,
        "Mish" => Unary::Mish,
        "Neg" => Unary::Neg,
        "Not" => Unary::Not,
        "Reciprocal" => Unary::Reciprocal,
        "Relu" => Unary::Relu,
        "Round" => Unary::Round,
        "Selu" => {
            Unary::Selu { alpha: node.float("alpha", 1.673_263_2)?, gamma: node.float("gamma", 1.050_701)? }
        }
        "Sigmoid" => Unary::Sigmoid,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Sqrt" => Unary::Sqrt,
        "Swish" => Unary::Swish { alpha: node.float("alpha", 1.0)? },
        "Tanh" => Unary::Tanh,
        _ => return Err(Fault::UnknownOperator { domain: String::new() }),
    };
    let x = node.input(0)?;
    node.finish(Op::Unary(op), &[Some(x)])
}

fn gelu_approximation(node: &mut NodeReader<'_>) -> Result<bool, Fault> {
    match node.string("approximate", "none")? {
        "none" => Ok(false),
        "tanh" => Ok(true),
        _ => Err(Fault::Attribute { attribute: "approximate", reason: "must be none or tanh" }),
    }
}

/// Reads every operator of exactly two operands.
pub(crate) fn binary(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let op = match node.op_type() {
        "Add" => Binary::Add,
        "And" => Binary::And,
        "Div" => Binary::Div,
        "Equal" => Binary::Equal,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Mul" => Binary::Mul,
        "Or" => Binary::Or,
        "Pow" => Binary::Pow,
        "PRelu" => Binary::PRelu,
        "Sub" => Binary::Sub,
        "Xor" => Binary::Xor,
        _ => return Err(Fault::UnknownOperator { domain: String::new() }),
    };
    let (lhs, rhs) = (node.input(0)?, node.input(1)?);
    node.finish(Op::Binary(op), &[Some(lhs), Some(rhs)])
}

/// `Max`, `Min`, `Sum` and `Mean` of any number of operands, as a chain of pairs.
pub(crate) fn variadic(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let op = match node.op_type() {
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        _ => Binary::Add,
    };
    let operands: Vec<ValueId> = (0..node.input_count()).map(|i| node.input(i)).collect::<Result<_, _>>()?;
    let [first, rest @ ..] = operands.as_slice() else {
        return Err(Fault::MissingInput { index: 0 });
    };
    let mut sum = *first;
    for &operand in rest {
        sum = node.emit(Op::Binary(op), &[Some(sum), Some(operand)])?;
    }
    if node.op_type() == "Mean" && !rest.is_empty() {
        let count = node.scalar_like(sum, operands.len() as f64)?;
        sum = node.emit(Op::Binary(Binary::Div), &[Some(sum), Some(count)])?;
    }
    node.finish_with(sum)
}

/// `Clip`: bounds known at compile time become attributes, as they are before opset 11, others a maximum and a
/// minimum.
pub(crate) fn clip(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    if node.opset() < 11 {
        let mut bound = |name, open| Ok(node.optional_float(name)?.map_or(open, f64::from));
        let op = Unary::Clip { min: bound("min", f64::NEG_INFINITY)?, max: bound("max", f64::INFINITY)? };
        return node.finish(Op::Unary(op), &[Some(x)]);
    }
    let bounds = [node.optional(1), node.optional(2)];
    let known = [1, 2].map(|i| node.optional_constant(i));
    if bounds.iter().zip(&known).all(|(bound, known)| bound.is_none() || known.is_some()) {
        let bound = |i: usize, open: f64| known[i].as_ref().and_then(Tensor::scalar_f64).unwrap_or(open);
        let op = Unary::Clip { min: bound(0, f64::NEG_INFINITY), max: bound(1, f64::INFINITY) };
        return node.finish(Op::Unary(op), &[Some(x)]);
    }
    let mut y = x;
    for (bound, op) in bounds.into_iter().zip([Binary::Max, Binary::Min]) {
        if let Some(bound) = bound {
            y = node.emit(Op::Binary(op), &[Some(y), Some(bound)])?;
        }
    }
    node.finish_with(y)
}

/// `Where`.
pub(crate) fn select(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let operands = [node.input(0)?, node.input(1)?, node.input(2)?];
    node.finish(Op::Where, &operands.map(Some))
}

/// `Cast`. Double precision is computed in single.
pub(crate) fn cast(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    let to = node.dtype("to")?;
    // These two concern the 8-bit float formats, which are refused as types.
    node.ignore(&["saturate", "round_mode"]);
    node.finish(Op::Cast { to }, &[Some(x)])
}

/// `CastLike`.
pub(crate) fn cast_like(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let (x, like) = (node.input(0)?, node.input(1)?);
    let to = node.value_type(like).dtype;
    node.ignore(&["saturate", "round_mode"]);
    node.finish(Op::Cast { to }, &[Some(x)])
}

/// `Identity`, and `Dropout`, which at inference is the same.
pub(crate) fn identity(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let x = node.input(0)?;
    if node.op_type() == "Dropout" {
        node.ignore(&["ratio", "seed"]);
        if node.optional(2).is_some() && node.flag_operand(2)? {
            return Err(Fault::Operand { index: 2, reason: "asks for training mode" });
        }
    }
    node.finish(Op::Identity, &[Some(x)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_the_right() {
        assert_eq!(broadcast(&[2, 1, 4], &[3, 1]), Some(vec![2, 3, 4]));
        assert_eq!(broadcast(&[], &[3]), Some(vec![3]));
        assert_eq!(broadcast(&[0], &[1]), Some(vec![0]));
        assert_eq!(broadcast(&[2], &[3]), None);
    }
}
