//! The values of elementwise functions.

use super::{Binary, Unary};

impl Unary {
    /// The function of a real number. `Not` maps zero to one and everything else to zero.
    pub fn apply(self, x: f32) -> f32 {
        self.evaluate(f64::from(x)) as f32
    }

    /// The function of a real number, in binary64.
    pub fn evaluate(self, x: f64) -> f64 {
        match self {
            Self::Abs => x.abs(),
            Self::Ceil => libm::ceil(x),
            // Not `clamp`, which panics on crossed bounds; NaN stays NaN.
            Self::Clip { min, max } => {
                let raised = if x < min { min } else { x };
                if raised > max { max } else { raised }
            }
            Self::Elu { alpha } => elu(x, f64::from(alpha)),
            Self::Erf => libm::erf(x),
            Self::Exp => libm::exp(x),
            Self::Floor => libm::floor(x),
            Self::Gelu { tanh: false } => 0.5 * x * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2),
            Self::Gelu { tanh: true } => {
                let inner = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
            Self::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::LeakyRelu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x
                } else {
                    x
                }
            }
            Self::Log => libm::log(x),
            Self::Mish => x * libm::tanh(softplus(x)),
            Self::Neg => -x,
            Self::Not => f64::from(u8::from(x == 0.0)),
            Self::Reciprocal => 1.0 / x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Round => libm::rint(x),
            Self::Selu { alpha, gamma } => f64::from(gamma) * elu(x, f64::from(alpha)),
            Self::Sigmoid => sigmoid(x),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Sqrt => libm::sqrt(x),
            Self::Swish { alpha } => x * sigmoid(f64::from(alpha) * x),
            Self::Tanh => libm::tanh(x),
        }
    }

    /// The function of an integer, where the operator takes integers and the result fits.
    pub fn apply_integer(self, x: i64) -> Option<i64> {
        match self {
            Self::Abs => x.checked_abs(),
            Self::Clip { min, max } => {
                let raised = if (x as f64) < min { min as i64 } else { x };
                Some(if raised as f64 > max { max as i64 } else { raised })
            }
            Self::Neg => x.checked_neg(),
            Self::Not => Some((x == 0) as i64),
            Self::Relu => Some(x.max(0)),
            _ => None,
        }
    }
}

impl Binary {
    /// The function of two floats. Comparisons give one or zero; logic takes nonzero as true.
    pub fn apply(self, lhs: f32, rhs: f32) -> f32 {
        let truth = |b: bool| f32::from(u8::from(b));
        match self {
            Self::Add => lhs + rhs,
            Self::And => truth(lhs != 0.0 && rhs != 0.0),
            Self::Div => lhs / rhs,
            Self::Equal => truth(lhs == rhs),
            Self::Greater => truth(lhs > rhs),
            Self::GreaterOrEqual => truth(lhs >= rhs),
            Self::Less => truth(lhs < rhs),
            Self::LessOrEqual => truth(lhs <= rhs),
            // NaN wins over numbers, as in NumPy and ONNX Runtime.
            Self::Max => {
                if lhs.is_nan() || lhs > rhs {
                    lhs
                } else {
                    rhs
                }
            }
            Self::Min => {
                if lhs.is_nan() || lhs < rhs {
                    lhs
                } else {
                    rhs
                }
            }
            Self::Mul => lhs * rhs,
            Self::Or => truth(lhs != 0.0 || rhs != 0.0),
            Self::Pow => libm::pow(f64::from(lhs), f64::from(rhs)) as f32,
            Self::PRelu => {
                if lhs < 0.0 {
                    lhs * rhs
                } else {
                    lhs
                }
            }
            Self::Sub => lhs - rhs,
            Self::Xor => truth((lhs != 0.0) != (rhs != 0.0)),
        }
    }

    /// The function of two integers, where the result exists and fits. Comparisons give one or zero.
    pub fn apply_integer(self, lhs: i64, rhs: i64) -> Option<i64> {
        Some(match self {
            Self::Add => lhs.checked_add(rhs)?,
            Self::And => (lhs != 0 && rhs != 0) as i64,
            Self::Div => lhs.checked_div(rhs)?,
            Self::Equal => (lhs == rhs) as i64,
            Self::Greater => (lhs > rhs) as i64,
            Self::GreaterOrEqual => (lhs >= rhs) as i64,
            Self::Less => (lhs < rhs) as i64,
            Self::LessOrEqual => (lhs <= rhs) as i64,
            Self::Max => lhs.max(rhs),
            Self::Min => lhs.min(rhs),
            Self::Mul => lhs.checked_mul(rhs)?,
            Self::Or => (lhs != 0 || rhs != 0) as i64,
            Self::Pow => lhs.checked_pow(u32::try_from(rhs).ok()?)?,
            Self::PRelu if lhs < 0 => lhs.checked_mul(rhs)?,
            Self::PRelu => lhs,
            Self::Sub => lhs.checked_sub(rhs)?,
            Self::Xor => ((lhs != 0) != (rhs != 0)) as i64,
        })
    }
}

fn elu(x: f64, alpha: f64) -> f64 {
    if x < 0.0 { alpha * libm::expm1(x) } else { x }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_known_values() {
        let cases = [
            (Unary::Gelu { tanh: false }, 1.0, 0.841_344_7),
            (Unary::Gelu { tanh: true }, 1.0, 0.841_192),
            (Unary::Erf, 0.5, 0.520_499_9),
            (Unary::Mish, 2.0, 1.943_959),
            (Unary::Softplus, -1.0, 0.313_261_7),
            (Unary::HardSwish, 1.0, 0.666_666_7),
            (Unary::Elu { alpha: 2.0 }, -1.0, -1.264_241),
            (Unary::Selu { alpha: 1.673_263_2, gamma: 1.050_701 }, -1.0, -1.111_330_7),
            (Unary::Swish { alpha: 1.0 }, 3.0, 2.857_722_3),
            (Unary::Round, 2.5, 2.0),
            (Unary::Clip { min: 3.0, max: 1.0 }, 0.0, 1.0),
        ];
        for (op, x, want) in cases {
            let got = op.apply(x);
            assert!((got - want).abs() <= 2e-7 * want.abs().max(1.0), "{op:?}({x}) = {got}, want {want}");
        }
    }

    #[test]
    fn integers_do_not_overflow() {
        assert_eq!(Binary::Add.apply_integer(i64::MAX, 1), None);
        assert_eq!(Binary::Div.apply_integer(i64::MIN, -1), None);
        assert_eq!(Binary::Div.apply_integer(-7, 2), Some(-3));
        assert_eq!(Unary::Neg.apply_integer(i64::MIN), None);
    }
}
