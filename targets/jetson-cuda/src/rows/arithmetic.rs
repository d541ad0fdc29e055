//! Functions of one, two and three operands on reals, integers and bools.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::{BinaryAttrs, UnaryAttrs};
use ingraft_tensor::DType;

use crate::launch::{Launch, int};
use crate::params::float::{Binary, Select, Unary};
use crate::rows::walk::Walk;

/// Launches a function of two operands.
pub(crate) fn binary(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &BinaryAttrs = step.attrs()?;
    let out = step.output(0)?;
    let kernel = match (step.input(0)?.dtype, out.dtype) {
        (DType::F32, DType::F32) => "binary_f32",
        (DType::I32, DType::I32) => "binary_s32",
        (DType::I64, DType::I64) => "binary_s64",
        (DType::F32, DType::Bool) => "compare_f32",
        (DType::I32, DType::Bool) => "compare_s32",
        (DType::I64, DType::Bool) => "compare_s64",
        (DType::Bool, DType::Bool) => "binary_bool",
        _ => return Err(KernelError::Unsupported(step.op)),
    };
    let walk = Walk::broadcast(out.shape, [step.input(0)?.shape, step.input(1)?.shape]);
    let count = out.shape.elements();
    let record = Binary {
        lhs: launch.input(0)?,
        rhs: launch.input(1)?,
        output: launch.output(0)?,
        count: int(step, count)?,
        rank: walk.rank,
        extents: walk.extents,
        lhs_strides: walk.strides[0],
        rhs_strides: walk.strides[1],
        function: attrs.function as i32,
        lo: attrs.lo,
        hi: attrs.hi,
        reserved: 0,
    };
    launch.elements(kernel, count, &record)
}

/// Launches a function of one operand.
pub(crate) fn unary(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &UnaryAttrs = step.attrs()?;
    let count = step.output(0)?.shape.elements();
    let kernel = if step.input(0)?.dtype == DType::Bool { "not_bool" } else { "unary_f32" };
    let record = Unary {
        input: launch.input(0)?,
        output: launch.output(0)?,
        count: int(step, count)?,
        function: attrs.function as i32,
        alpha: attrs.alpha,
        beta: attrs.beta,
    };
    launch.elements(kernel, count, &record)
}

/// Launches a choice between two operands.
pub(crate) fn choose(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let out = step.output(0)?;
    let shapes = [step.input(0)?.shape, step.input(1)?.shape, step.input(2)?.shape];
    let walk = Walk::broadcast(out.shape, shapes);
    let count = out.shape.elements();
    let record = Select {
        condition: launch.input(0)?,
        lhs: launch.input(1)?,
        rhs: launch.input(2)?,
        output: launch.output(0)?,
        count: int(step, count)?,
        rank: walk.rank,
        extents: walk.extents,
        condition_strides: walk.strides[0],
        lhs_strides: walk.strides[1],
        rhs_strides: walk.strides[2],
        size: out.dtype.size() as i32,
        reserved: 0,
    };
    launch.elements("where_x", count, &record)
}
