//! Changes of element type, and quantization with a range found at run time.

use ingraft_kernel::{KernelError, Step};
use ingraft_tensor::DType;

use crate::launch::{Launch, int};
use crate::params::float::{Cast, DynamicQuantize};

/// Elements up to which one block finds the range and writes the codes.
const SMALL: usize = 16 * 1024;
/// Elements of a block beyond, and the most blocks.
const SHARE: usize = 4 * 1024;
const MOST: usize = 128;
/// Threads of these blocks.
const THREADS: u32 = 1024;
const WARP: u32 = 32;
/// Elements of a thread of a block that is alone, until the block is full.
const EACH: u32 = 8;

fn parts(step: &Step<'_>) -> usize {
    let count = step.input(0).map_or(0, |input| input.shape.elements());
    if count <= SMALL { 0 } else { count.div_ceil(SHARE).min(MOST) }
}

/// Scratch bytes: a minimum and a maximum a block.
pub(crate) fn ranges(step: &Step<'_>) -> usize {
    parts(step).saturating_mul(8)
}

/// Launches a quantization with a range found at run time.
pub(crate) fn dynamic_quantize(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let parts = parts(launch.step);
    let record = DynamicQuantize {
        input: launch.input(0)?,
        output: launch.output(0)?,
        scale: launch.output(1)?,
        zero_point: launch.output(2)?,
        partials: launch.workspace()?,
        count: int(launch.step, launch.step.input(0)?.shape.elements())?,
        parts: parts as i32,
    };
    if parts == 0 {
        let warps = (record.count as u32).div_ceil(EACH * WARP).clamp(1, THREADS / WARP);
        return launch.grid("quantize_f32_qd8_one", (1, 1, 1), warps * WARP, &record);
    }
    launch.grid("quantize_f32_qd8_range", (parts as u32, 1, 1), THREADS, &record)?;
    launch.grid("quantize_f32_qd8_codes", (parts as u32, 1, 1), THREADS, &record)
}

/// Launches a change of element type.
pub(crate) fn cast(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    convert(launch, "cast_x_x")
}

/// Launches a move by 128.
pub(crate) fn recode(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    convert(launch, "recode_x8_x8")
}

fn convert(launch: &mut Launch<'_, '_>, kernel: &str) -> Result<(), KernelError> {
    let step = launch.step;
    let code = |dtype| scalar(dtype).ok_or(KernelError::Unsupported(step.op));
    let count = step.output(0)?.shape.elements();
    let record = Cast {
        input: launch.input(0)?,
        output: launch.output(0)?,
        count: int(step, count)?,
        from: code(step.input(0)?.dtype)?,
        to: code(step.output(0)?.dtype)?,
        reserved: 0,
    };
    launch.elements(kernel, count, &record)
}

/// The code of an element type in `Scalar` of `cu/cast.cu`.
fn scalar(dtype: DType) -> Option<i32> {
    Some(match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::I8 => 2,
        DType::U8 => 3,
        DType::Bool => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        _ => return None,
    })
}
