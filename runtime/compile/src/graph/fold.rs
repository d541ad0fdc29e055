//! Evaluation of constant expressions on the host.
//!
//! Covers what exporters leave to be computed once: arithmetic on shapes,
//! rearranged weights, derived scales. Weights behind `DequantizeLinear` are
//! left as they are, so that they stay in their stored type.

mod walk;

use ingraft_tensor::DType;

pub use self::walk::{Walk, broadcast_strides, strides};
use super::Tensor;
use super::tensor::f32_to_f16;
use crate::op::movement::SliceRange;
use crate::op::{Binary, Op, ReduceKind, Unary, ValueType};

/// Whether [`evaluate`] knows the operator.
pub fn is_foldable(op: &Op) -> bool {
    use Op::*;
    matches!(
        op,
        Unary(_)
            | Binary(_)
            | Where
            | Cast { .. }
            | Identity
            | Reshape { .. }
            | Transpose { .. }
            | Concat { .. }
            | Slice { .. }
            | Expand { .. }
            | Tile { .. }
            | Gather { .. }
            | Reduce { .. }
            | QuantizeLinear { .. }
    )
}

/// The results of `op` on constant operands, whose types were inferred to be `results`.
///
/// `None` where the operator is not one evaluated on the host, or where the
/// result is not defined (integer overflow, an index outside).
///
/// # Numerics
/// Sums, differences, products and quotients are rounded to binary32 each, as
/// ONNX defines them; see [`Unary::apply`] for functions.
pub fn evaluate(op: &Op, operands: &[Option<&Tensor>], results: &[ValueType]) -> Option<Vec<Tensor>> {
    let x = (*operands.first()?)?;
    let at = |i: usize| operands.get(i).copied().flatten();
    let result = results.first()?;
    let y = match op {
        Op::Unary(unary) => apply_unary(*unary, x, result)?,
        Op::Binary(binary) => apply_binary(*binary, x, at(1)?, result)?,
        Op::Where => select(x, at(1)?, at(2)?, result)?,
        Op::Cast { to } => cast(x, *to)?,
        Op::Identity => x.clone(),
        Op::Reshape { shape } => x.reshaped(shape.clone())?,
        Op::Transpose { perm } => {
            let strides = strides(x.shape());
            strided(
                x,
                &result.shape,
                0,
                &perm.iter().map(|&i| strides.get(i).copied()).collect::<Option<Vec<_>>>()?,
            )?
        }
        Op::Slice { ranges } => slice(x, ranges)?,
        Op::Expand { .. } => strided(x, &result.shape, 0, &broadcast_strides(x.shape(), &result.shape))?,
        Op::Tile { repeats } => tile(x, repeats)?,
        Op::Concat { axis } => concat(operands, *axis, result)?,
        Op::Gather { axis } => gather(x, at(1)?, *axis, result)?,
        Op::Reduce { kind, axes, .. } => reduce_integers(*kind, x, axes, result)?,
        Op::QuantizeLinear { axis, to } => quantize(x, at(1)?, at(2), *axis, *to)?,
        _ => return None,
    };
    Some(vec![y])
}

/// A tensor of one repeated element.
pub fn fill(shape: &[usize], element: &Tensor) -> Option<Tensor> {
    let count = super::tensor::elements(shape)?;
    Tensor::new(element.dtype(), shape.to_vec(), element.bytes().repeat(count))
}

/// The elements of `x` reached from `start` by these strides, in the order of `shape`.
///
/// `None` where that leaves the tensor.
pub fn strided(x: &Tensor, shape: &[usize], start: usize, strides: &[isize]) -> Option<Tensor> {
    let size = x.dtype().size();
    let mut data = Vec::with_capacity(super::tensor::elements(shape)? * size);
    for at in Walk::new(shape, isize::try_from(start).ok()?, strides)? {
        let from = usize::try_from(at).ok()? * size;
        data.extend_from_slice(x.bytes().get(from..from + size)?);
    }
    Tensor::new(x.dtype(), shape.to_vec(), data)
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}

/// Floats stored as `dtype`.
fn from_floats(dtype: DType, shape: &[usize], values: &[f32]) -> Option<Tensor> {
    match dtype {
        DType::F32 => Tensor::from_f32(shape, values),
        DType::F16 => {
            let data: Vec<u8> = values.iter().flat_map(|&v| f32_to_f16(v).to_le_bytes()).collect();
            Tensor::new(dtype, shape.to_vec(), data)
        }
        DType::Bool => {
            Tensor::new(dtype, shape.to_vec(), values.iter().map(|&v| u8::from(v != 0.0)).collect::<Vec<_>>())
        }
        _ => None,
    }
}

fn apply_unary(unary: Unary, x: &Tensor, result: &ValueType) -> Option<Tensor> {
    if is_float(x.dtype()) {
        let values: Vec<f32> = x.to_f32().into_iter().map(|v| unary.apply(v)).collect();
        return from_floats(result.dtype, &result.shape, &values);
    }
    let values: Option<Vec<i64>> = x.to_i64().into_iter().map(|v| unary.apply_integer(v)).collect();
    Tensor::from_i64(result.dtype, &result.shape, &values?)
}

fn apply_binary(binary: Binary, lhs: &Tensor, rhs: &Tensor, result: &ValueType) -> Option<Tensor> {
    let (ls, rs) =
        (broadcast_strides(lhs.shape(), &result.shape), broadcast_strides(rhs.shape(), &result.shape));
    let pairs = Walk::new(&result.shape, 0, &ls)?.zip(Walk::new(&result.shape, 0, &rs)?);
    if is_float(lhs.dtype()) {
        let (a, b) = (lhs.to_f32(), rhs.to_f32());
        let value = |(i, j): (isize, isize)| Some(binary.apply(*a.get(i as usize)?, *b.get(j as usize)?));
        return from_floats(result.dtype, &result.shape, &pairs.map(value).collect::<Option<Vec<_>>>()?);
    }
    let (a, b) = (lhs.to_i64(), rhs.to_i64());
    let value = |(i, j): (isize, isize)| binary.apply_integer(*a.get(i as usize)?, *b.get(j as usize)?);
    Tensor::from_i64(result.dtype, &result.shape, &pairs.map(value).collect::<Option<Vec<_>>>()?)
}

fn select(condition: &Tensor, on: &Tensor, off: &Tensor, result: &ValueType) -> Option<Tensor> {
    let wide = |t: &Tensor| strided(t, &result.shape, 0, &broadcast_strides(t.shape(), &result.shape));
    let (condition, on, off) = (wide(condition)?, wide(on)?, wide(off)?);
    let size = result.dtype.size();
    let pairs = on.bytes().chunks(size).zip(off.bytes().chunks(size));
    let picked = condition.bytes().iter().zip(pairs).flat_map(|(&c, (a, b))| if c != 0 { a } else { b });
    Tensor::new(result.dtype, result.shape.clone(), picked.copied().collect::<Vec<_>>())
}

/// The elements converted to another type; `None` where one does not fit.
pub fn cast(x: &Tensor, to: DType) -> Option<Tensor> {
    // A fraction is true, though it truncates to zero.
    if is_float(to) || (is_float(x.dtype()) && to == DType::Bool) {
        from_floats(to, x.shape(), &x.to_f32())
    } else {
        Tensor::from_i64(to, x.shape(), &x.to_i64())
    }
}

fn slice(x: &Tensor, ranges: &[SliceRange]) -> Option<Tensor> {
    let shape: Vec<usize> = ranges.iter().map(|r| r.len).collect();
    if shape.contains(&0) {
        return Tensor::new(x.dtype(), shape, Vec::new());
    }
    let own = strides(x.shape());
    let start = ranges
        .iter()
        .zip(&own)
        .try_fold(0usize, |sum, (r, &s)| sum.checked_add(r.start.checked_mul(s as usize)?))?;
    let steps: Option<Vec<isize>> = ranges.iter().zip(&own).map(|(r, &s)| r.step.checked_mul(s)).collect();
    strided(x, &shape, start, &steps?)
}

/// Every dimension is split into (copies, extent), the copies with stride zero.
fn tile(x: &Tensor, repeats: &[usize]) -> Option<Tensor> {
    let own = strides(x.shape());
    let split: Vec<usize> = repeats.iter().zip(x.shape()).flat_map(|(&r, &extent)| [r, extent]).collect();
    let steps: Vec<isize> = own.iter().flat_map(|&stride| [0, stride]).collect();
    let shape = repeats.iter().zip(x.shape()).map(|(&r, &extent)| r * extent).collect();
    strided(x, &split, 0, &steps)?.reshaped(shape)
}

fn concat(operands: &[Option<&Tensor>], axis: usize, result: &ValueType) -> Option<Tensor> {
    let outer: usize = result.shape.get(..axis)?.iter().product();
    let inner: usize = result.shape.get(axis + 1..)?.iter().product::<usize>() * result.dtype.size();
    let parts: Vec<(&Tensor, usize)> = operands
        .iter()
        .map(|part| Some(((*part)?, part.as_ref()?.shape().get(axis)? * inner)))
        .collect::<Option<_>>()?;
    let mut data = Vec::with_capacity(outer * inner * result.shape.get(axis)?);
    for row in 0..outer {
        for (part, bytes) in &parts {
            data.extend_from_slice(part.bytes().get(row * bytes..(row + 1) * bytes)?);
        }
    }
    Tensor::new(result.dtype, result.shape.clone(), data)
}

fn gather(x: &Tensor, indices: &Tensor, axis: usize, result: &ValueType) -> Option<Tensor> {
    let extent = *x.shape().get(axis)? as i64;
    let outer: usize = x.shape().get(..axis)?.iter().product();
    let inner: usize = x.shape().get(axis + 1..)?.iter().product::<usize>() * x.dtype().size();
    let indices = indices.to_i64();
    let mut data = Vec::with_capacity(outer * indices.len() * inner);
    for row in 0..outer {
        for &index in &indices {
            let index = if index < 0 { index.checked_add(extent)? } else { index };
            let at = (row * extent as usize
                + usize::try_from(index).ok().filter(|&i| i < extent as usize)?)
                * inner;
            data.extend_from_slice(x.bytes().get(at..at + inner)?);
        }
    }
    Tensor::new(result.dtype, result.shape.clone(), data)
}

/// Sum, product and extremes of integers, which is what shape arithmetic uses.
fn reduce_integers(kind: ReduceKind, x: &Tensor, axes: &[usize], result: &ValueType) -> Option<Tensor> {
    if is_float(x.dtype()) || x.elements() == 0 {
        return None;
    }
    let kept: Vec<usize> =
        x.shape().iter().enumerate().map(|(i, &e)| if axes.contains(&i) { 1 } else { e }).collect();
    let mut sums: Vec<Option<i64>> = vec![None; super::tensor::elements(&kept)?];
    let to = broadcast_strides(&kept, x.shape());
    for (at, value) in Walk::new(x.shape(), 0, &to)?.zip(x.to_i64()) {
        let slot = sums.get_mut(at as usize)?;
        *slot = match (*slot, kind) {
            (None, _) => Some(value),
            (Some(sum), ReduceKind::Sum) => Some(sum.checked_add(value)?),
            (Some(sum), ReduceKind::Prod) => Some(sum.checked_mul(value)?),
            (Some(sum), ReduceKind::Max) => Some(sum.max(value)),
            (Some(sum), ReduceKind::Min) => Some(sum.min(value)),
            _ => return None,
        };
    }
    let known = matches!(kind, ReduceKind::Sum | ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min);
    let sums: Vec<i64> = sums.into_iter().collect::<Option<_>>().filter(|_| known)?;
    Tensor::from_i64(result.dtype, &result.shape, &sums)
}

/// Quantization of a constant, as quantization-aware training leaves it before the weights' `DequantizeLinear`.
fn quantize(
    x: &Tensor,
    scale: &Tensor,
    zero_point: Option<&Tensor>,
    axis: usize,
    to: DType,
) -> Option<Tensor> {
    let (lo, hi) = match to {
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        DType::I16 => (-32768, 32767),
        _ => return None,
    };
    let (scales, zeros) = (scale.to_f32(), zero_point.map(Tensor::to_i64));
    let inner: usize = x.shape().get(axis + 1..).unwrap_or_default().iter().product();
    let code = |(i, v): (usize, f32)| {
        let channel = if scales.len() == 1 { 0 } else { i.checked_div(inner)? % scales.len() };
        let zero = zeros.as_ref().map_or(Some(0), |z| z.get(channel).copied())?;
        let real = v / scales.get(channel)?;
        // Saturates; NaN becomes the zero point.
        Some((libm::rintf(real) as i64).saturating_add(zero).clamp(lo, hi))
    };
    let codes: Option<Vec<i64>> = x.to_f32().into_iter().enumerate().map(code).collect();
    Tensor::from_i64(to, x.shape(), &codes?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::from_i64(DType::I64, shape, values).unwrap()
    }

    fn run(op: Op, operands: &[&Tensor]) -> Option<Tensor> {
        let types: Vec<_> =
            operands.iter().map(|t| Some(ValueType::new(t.dtype(), t.shape().to_vec()))).collect();
        let results = op.infer(&types).unwrap();
        let operands: Vec<_> = operands.iter().copied().map(Some).collect();
        let y = evaluate(&op, &operands, &results)?.remove(0);
        assert_eq!((y.dtype(), y.shape()), (results[0].dtype, results[0].shape.as_slice()));
        Some(y)
    }

    #[test]
    fn moves_elements() {
        let x = ints(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let cases = [
            (Op::Transpose { perm: vec![1, 0] }, vec![1, 4, 2, 5, 3, 6]),
            (Op::Tile { repeats: vec![2, 1] }, vec![1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]),
            (Op::Tile { repeats: vec![1, 2] }, vec![1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]),
            (Op::Expand { shape: vec![2, 2, 3] }, vec![1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]),
            (
                Op::Slice { ranges: vec![SliceRange::full(2), SliceRange { start: 2, step: -2, len: 2 }] },
                vec![3, 1, 6, 4],
            ),
            (
                Op::Slice { ranges: vec![SliceRange { start: 0, step: 1, len: 0 }, SliceRange::full(3)] },
                vec![],
            ),
            (Op::Reduce { kind: ReduceKind::Prod, axes: vec![1], keep_dims: false }, vec![6, 120]),
            (Op::Reduce { kind: ReduceKind::Max, axes: vec![0], keep_dims: true }, vec![4, 5, 6]),
        ];
        for (op, want) in cases {
            assert_eq!(run(op.clone(), &[&x]).unwrap().to_i64(), want, "{op:?}");
        }
    }

    #[test]
    fn joins_and_picks() {
        let (x, y) = (ints(&[2, 1], &[1, 2]), ints(&[2, 2], &[3, 4, 5, 6]));
        assert_eq!(run(Op::Concat { axis: 1 }, &[&x, &y]).unwrap().to_i64(), [1, 3, 4, 2, 5, 6]);
        assert_eq!(run(Op::Gather { axis: 1 }, &[&y, &ints(&[2], &[-1, 0])]).unwrap().to_i64(), [4, 3, 6, 5]);
        assert!(run(Op::Gather { axis: 1 }, &[&y, &ints(&[], &[2])]).is_none());
        let below = run(Op::Binary(Binary::Less), &[&x, &ints(&[2], &[2, 3])]).unwrap();
        assert_eq!(below.to_i64(), [1, 1, 0, 1]);
        assert_eq!(run(Op::Where, &[&below, &x, &y]).unwrap().to_i64(), [1, 1, 5, 2]);
        assert!(run(Op::Binary(Binary::Add), &[&x, &ints(&[1], &[i64::MAX])]).is_none());
    }

    #[test]
    fn converts() {
        let x = Tensor::from_f32(&[2, 2], &[0.5, -2.7, 3.0, 400.0]).unwrap();
        assert_eq!(run(Op::Cast { to: DType::I64 }, &[&x]).unwrap().to_i64(), [0, -2, 3, 400]);
        assert_eq!(run(Op::Cast { to: DType::Bool }, &[&x]).unwrap().to_i64(), [1, 1, 1, 1]);
        assert!(run(Op::Cast { to: DType::U8 }, &[&x]).is_none());
        let scale = Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap();
        let codes = run(Op::QuantizeLinear { axis: 1, to: DType::I8 }, &[&x, &scale]).unwrap();
        assert_eq!(codes.to_i64(), [0, -1, 3, 127]);
        let half = run(Op::Cast { to: DType::F16 }, &[&x]).unwrap();
        assert_eq!((half.dtype(), half.to_f32()[1]), (DType::F16, -2.699_218_8));
    }
}
