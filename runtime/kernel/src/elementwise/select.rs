//! `Where`: an elementwise choice between two operands.

use ingraft_tensor::DType;
use ingraft_tensor::arrays::{arrays, arrays_mut};

use crate::walk::{BLOCK, Walk, lane};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `y = if condition { a } else { b }` for elements of any type.
///
/// # Shapes
/// Inputs: bool condition, then `a` and `b` of the output's type; all three
/// broadcast to the output.
pub const KERNEL: Kernel =
    Kernel::new("where_bool_x_x__scalar", OpCode::Where, Some(DType::Bool), None, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 3, 1)?;
    let (condition, a, b, out) = (step.input(0)?, step.input(1)?, step.input(2)?, step.output(0)?);
    let walk = Walk::broadcast(out.shape, [condition.shape, a.shape, b.shape]);
    check::require(step, a.dtype == out.dtype && b.dtype == out.dtype && walk.is_some())
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    match call.output(0)?.dtype().size() {
        1 => select::<1>(call),
        2 => select::<2>(call),
        4 => select::<4>(call),
        _ => select::<8>(call),
    }
    .ok_or(error)
}

fn select<const N: usize>(call: &mut Call<'_, '_>) -> Option<()> {
    let (condition, a, b) = (call.input(0).ok()?, call.input(1).ok()?, call.input(2).ok()?);
    let out = call.output(0).ok()?;
    let walk = Walk::broadcast(out.shape(), [condition.shape(), a.shape(), b.shape()])?;
    let (condition, a, b) = (condition.bytes(), arrays::<_, N>(a.bytes()).0, arrays::<_, N>(b.bytes()).0);
    let mut out = arrays_mut::<_, N>(out.bytes()).0.iter_mut();
    let [condition_step, a_step, b_step] = walk.steps;
    let (mut flags, mut left, mut right) = ([0u8; BLOCK], [[0u8; N]; BLOCK], [[0u8; N]; BLOCK]);
    walk.blocks(|[at, from_a, from_b], len| {
        let flags = lane(condition, at, condition_step, len, &mut flags)?;
        let left = lane(a, from_a, a_step, len, &mut left)?;
        let right = lane(b, from_b, b_step, len, &mut right)?;
        for ((flag, a), b) in flags.iter().zip(left).zip(right) {
            *out.next()? = if *flag != 0 { *a } else { *b };
        }
        Some(())
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::attrs::FillAttrs;
    use crate::test_case::{Random, Tensor, indices, position, run};

    #[test]
    fn broadcasts_all_three() {
        let mut random = Random(5);
        let dims: [&[u32]; 3] = [&[3, 1, 67], &[5, 1], &[]];
        let flags: std::vec::Vec<u8> = (0..201).map(|_| (random.word() & 1) as u8).collect();
        let condition = Tensor::new(dims[0], &flags).cast(DType::Bool);
        for dtype in [DType::I8, DType::F16, DType::F32, DType::I64] {
            let mut operand = |d: &[u32]| {
                let mut tensor = Tensor::zeros(dtype, d);
                tensor.bytes_mut().iter_mut().for_each(|b| *b = random.word() as u8);
                tensor
            };
            let (a, b) = (operand(dims[1]), operand(dims[2]));
            let mut out = Tensor::zeros(dtype, &[3, 5, 67]);
            run(&KERNEL, &FillAttrs { value: [0; 2] }, &[&condition, &a, &b], &mut [&mut out]).unwrap();
            let size = dtype.size();
            for (index, y) in indices(&[3, 5, 67]).iter().zip(out.bytes().chunks(size)) {
                let pick = flags[position(dims[0], index)] != 0;
                let (source, d) = if pick { (&a, dims[1]) } else { (&b, dims[2]) };
                assert_eq!(y, &source.bytes()[position(d, index) * size..][..size]);
            }
        }
    }
}
