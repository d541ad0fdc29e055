//! Matrix products.

use ingraft_tensor::DType;

use super::elementwise::broadcast;
use super::{Op, Operands, ValueType};
use crate::error::Fault;
use crate::onnx::NodeReader;

pub(super) fn infer_matmul(x: Operands<'_>) -> Result<ValueType, Fault> {
    let (lhs, rhs) = (x.at(0)?, x.like_first(1)?);
    if !matches!(lhs.dtype, DType::F32 | DType::F16 | DType::I32 | DType::I64) {
        return Err(Fault::DType { index: 0, dtype: lhs.dtype });
    }
    Ok(ValueType::new(lhs.dtype, product_shape(&lhs.shape, &rhs.shape)?))
}

pub(super) fn infer_matmul_integer(x: Operands<'_>) -> Result<ValueType, Fault> {
    let codes = [DType::I8, DType::U8];
    let (lhs, rhs) = (x.typed(0, &codes)?, x.typed(1, &codes)?);
    for (index, operand) in [(2, lhs), (3, rhs)] {
        if x.get(index).is_some_and(|zero_point| zero_point.dtype != operand.dtype) {
            return Err(Fault::DType { index, dtype: operand.dtype });
        }
    }
    Ok(ValueType::new(DType::I32, product_shape(&lhs.shape, &rhs.shape)?))
}

pub(super) fn infer_gemm(trans_a: bool, trans_b: bool, x: Operands<'_>) -> Result<ValueType, Fault> {
    let (a, b) = (x.at(0)?, x.like_first(1)?);
    let ([a0, a1], [b0, b1]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(Fault::shape("the operands are not matrices"));
    };
    let (m, k) = if trans_a { (*a1, *a0) } else { (*a0, *a1) };
    let (kb, n) = if trans_b { (*b1, *b0) } else { (*b0, *b1) };
    let shape = vec![m, n];
    let bias_fits = match x.get(2) {
        None => true,
        Some(_) => broadcast(&x.like_first(2)?.shape, &shape).as_ref() == Some(&shape),
    };
    if k != kb || !bias_fits {
        return Err(Fault::shape("the operands do not multiply"));
    }
    Ok(ValueType::new(a.dtype, shape))
}

/// The shape of a product, by NumPy's rules: vectors gain a dimension that the result does not have.
fn product_shape(lhs: &[usize], rhs: &[usize]) -> Result<Vec<usize>, Fault> {
    let refused = || Fault::shape("the operands do not multiply");
    let (lhs_batch, m, k) = match lhs {
        [k] => (&[][..], None, *k),
        [batch @ .., m, k] => (batch, Some(*m), *k),
        [] => return Err(refused()),
    };
    let (rhs_batch, rhs_k, n) = match rhs {
        [k] => (&[][..], *k, None),
        [batch @ .., k, n] => (batch, *k, Some(*n)),
        [] => return Err(refused()),
    };
    let mut shape = broadcast(lhs_batch, rhs_batch).filter(|_| k == rhs_k).ok_or_else(refused)?;
    shape.extend(m);
    shape.extend(n);
    Ok(shape)
}

/// `MatMul`.
pub(crate) fn matmul(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let operands = [node.input(0)?, node.input(1)?];
    node.finish(Op::MatMul, &operands.map(Some))
}

/// `MatMulInteger`.
pub(crate) fn matmul_integer(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let operands = [Some(node.input(0)?), Some(node.input(1)?), node.optional(2), node.optional(3)];
    node.finish(Op::MatMulInteger, &operands)
}

/// `Gemm`.
pub(crate) fn gemm(node: &mut NodeReader<'_>) -> Result<(), Fault> {
    let operands = [Some(node.input(0)?), Some(node.input(1)?), node.optional(2)];
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let (trans_a, trans_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    node.finish(Op::Gemm { alpha, beta, trans_a, trans_b }, &operands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_shapes_follow_numpy() {
        type Shape = &'static [usize];
        let cases: [(Shape, Shape, Option<Shape>); 7] = [
            (&[2, 3], &[3, 4], Some(&[2, 4])),
            (&[3], &[3], Some(&[])),
            (&[3], &[5, 3, 4], Some(&[5, 4])),
            (&[5, 2, 3], &[3], Some(&[5, 2])),
            (&[5, 1, 2, 3], &[6, 3, 4], Some(&[5, 6, 2, 4])),
            (&[2, 3], &[4, 3], None),
            (&[], &[3], None),
        ];
        for (lhs, rhs, want) in cases {
            assert_eq!(product_shape(lhs, rhs).ok().as_deref(), want, "{lhs:?} {rhs:?}");
        }
    }
}
