//! Position of the extreme element along an axis.

use ingraft_tensor::bytes::Element;
use ingraft_tensor::{DType, Shape};

use crate::attrs::ArgReduceAttrs;
use crate::walk::Rows;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// Position among f32 values; NaN is never the extreme.
///
/// # Shapes
/// Any input; output i64 with the elements of the other axes, in order.
pub const KERNEL_F32: Kernel =
    Kernel::new("arg_f32_s64__scalar", OpCode::ArgReduce, Some(DType::F32), Some(DType::I64), run::<f32>)
        .checked(check);

/// Position among int8 codes. Shapes as [`KERNEL_F32`].
pub const KERNEL_Q: Kernel =
    Kernel::new("arg_qs8_s64__scalar", OpCode::ArgReduce, Some(DType::I8), Some(DType::I64), run::<i8>)
        .checked(check);

/// Position among i32 values. Shapes as [`KERNEL_F32`].
pub const KERNEL_I32: Kernel =
    Kernel::new("arg_s32_s64__scalar", OpCode::ArgReduce, Some(DType::I32), Some(DType::I64), run::<i32>)
        .checked(check);

/// Position among i64 values. Shapes as [`KERNEL_F32`].
pub const KERNEL_I64: Kernel =
    Kernel::new("arg_s64_s64__scalar", OpCode::ArgReduce, Some(DType::I64), Some(DType::I64), run::<i64>)
        .checked(check);

/// Extents of the axis and of those within it.
fn extents(input: Shape, axis: u32) -> Option<(usize, usize)> {
    let (&extent, inner) = input.dims().get(axis as usize..)?.split_first()?;
    Some((extent as usize, inner.iter().fold(1usize, |n, &d| n.wrapping_mul(d as usize))))
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &ArgReduceAttrs = step.attrs()?;
    check::operands(step, 1, 1)?;
    check::require(step, attrs.smallest <= 1 && attrs.last <= 1)?;
    let (input, out) = (step.input(0)?.shape, step.output(0)?.shape);
    let (extent, _) = extents(input, attrs.axis).ok_or(KernelError::Operands(step.op))?;
    check::require(step, extent > 0 && out.elements().checked_mul(extent) == Some(input.elements()))
}

fn run<T: Element + PartialOrd>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let attrs: &ArgReduceAttrs = call.attrs()?;
    let input = call.slice::<T>(0)?;
    let (extent, inner) = extents(call.input(0)?.shape(), attrs.axis).ok_or(call.operands())?;
    let out = call.slice_mut::<i64>(0)?;
    let slices = Rows::new(input, extent.wrapping_mul(inner));
    for (out, slice) in out.chunks_exact_mut(inner.max(1)).zip(slices) {
        for (start, y) in out.iter_mut().enumerate() {
            *y = position(attrs, slice.iter().skip(start).step_by(inner.max(1)).copied());
        }
    }
    Ok(())
}

fn position<T: PartialOrd + Copy>(attrs: &ArgReduceAttrs, values: impl Iterator<Item = T>) -> i64 {
    let mut best: Option<(i64, T)> = None;
    for (index, value) in (0i64..).zip(values) {
        let better = best.is_none_or(|(_, have)| match attrs.smallest {
            0 => value > have,
            _ => value < have,
        });
        // The second condition replaces a NaN that came first.
        let ties = best.is_some_and(|(_, have)| (attrs.last == 1 && value == have) || unordered(have, value));
        if better || ties {
            best = Some((index, value));
        }
    }
    best.map_or(0, |(index, _)| index)
}

/// Whether `have` is a NaN and `value` is not.
fn unordered<T: PartialOrd>(have: T, value: T) -> bool {
    have.partial_cmp(&have).is_none() && value.partial_cmp(&value).is_some()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::test_case::{Random, Tensor, run};

    #[test]
    fn every_axis_and_both_tie_rules() {
        let mut random = Random(51);
        let dims = [3usize, 4, 5];
        // Few distinct values, so that ties are common.
        let codes: std::vec::Vec<i8> = (0..60).map(|_| random.int(-2, 2) as i8).collect();
        let floats: std::vec::Vec<f32> = codes.iter().map(|&c| c as f32).collect();
        for axis in 0..3 {
            let (outer, extent) = (dims[..axis].iter().product::<usize>(), dims[axis]);
            let inner = 60 / outer / extent;
            for (smallest, last) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let mut want = std::vec::Vec::new();
                for group in 0..outer * inner {
                    let at = |i: usize| codes[(group / inner * extent + i) * inner + group % inner];
                    let key = |i: usize| if smallest == 1 { -(at(i) as i32) } else { at(i) as i32 };
                    let best = (0..extent).map(key).max().unwrap();
                    let mut hits = (0..extent).filter(|&i| key(i) == best);
                    want.push(if last == 1 { hits.next_back() } else { hits.next() }.unwrap() as i64);
                }
                let attrs = ArgReduceAttrs { axis: axis as u32, smallest, last };
                let mut out = Tensor::zeros(DType::I64, &[want.len() as u32]);
                run(&KERNEL_Q, &attrs, &[&Tensor::new(&[3, 4, 5], &codes)], &mut [&mut out]).unwrap();
                assert_eq!(out.values::<i64>(), want);
                run(&KERNEL_F32, &attrs, &[&Tensor::new(&[3, 4, 5], &floats)], &mut [&mut out]).unwrap();
                assert_eq!(out.values::<i64>(), want);
            }
        }
    }

    #[test]
    fn nan_is_never_the_extreme() {
        let mut out = Tensor::zeros(DType::I64, &[1]);
        let attrs = ArgReduceAttrs { axis: 0, smallest: 0, last: 0 };
        for (x, want) in [([f32::NAN, -1.0, 2.0], 2), ([1.0, f32::NAN, 0.0], 0), ([f32::NAN; 3], 0)] {
            run(&KERNEL_F32, &attrs, &[&Tensor::new(&[3], &x)], &mut [&mut out]).unwrap();
            assert_eq!(out.values::<i64>(), [want]);
        }
        let empty = Tensor::zeros(DType::F32, &[0, 1]);
        assert!(run(&KERNEL_F32, &attrs, &[&empty], &mut [&mut out]).is_err());
    }
}
