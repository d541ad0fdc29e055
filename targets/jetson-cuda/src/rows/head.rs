//! Classifier heads.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::HeadAttrs;
use ingraft_kernel::head::{POOL_HEIGHT, POOL_WIDTH, feature_count, sample_dims};
use ingraft_tensor::DType;

use crate::launch::{Launch, int};
use crate::params::Head;

/// Threads of a block: a block a sample and class.
const THREADS: u32 = 128;

/// Launches a head.
pub(crate) fn head(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let attrs: &HeadAttrs = step.attrs()?;
    let dims = sample_dims(step.input(0)?.shape).ok_or(KernelError::Operands(step.op))?;
    let [n, h, w, c] = dims;
    let classes = step.input(2)?.shape.elements();
    let record = Head {
        input: launch.input(0)?,
        weight: launch.input(1)?,
        bias: launch.input(2)?,
        output: launch.output(0)?,
        n: int(step, n)?,
        h: int(step, h)?,
        w: int(step, w)?,
        c: int(step, c)?,
        classes: int(step, classes)?,
        features: int(step, feature_count(dims, attrs.pool))?,
        pool_h: i32::from(attrs.pool & POOL_HEIGHT != 0),
        pool_w: i32::from(attrs.pool & POOL_WIDTH != 0),
        is_code: i32::from(step.input_dtype(0) == Some(DType::I8)),
        zero_point: attrs.zero_point,
        scale: attrs.scale,
        reserved: 0.0,
    };
    launch.grid("head_x_f32", (n as u32, classes as u32, 1), THREADS, &record)
}
