//! int8 convolution, dense and depthwise.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::window::ConvShape;
use ingraft_tensor::DType;

use crate::launch::Launch;
use crate::params::QConv;
use crate::rows::KERNELS;

/// Threads of a block of a dense convolution: four warps.
const THREADS: u32 = 128;
/// Pixels of a warp.
const PIXELS: usize = 16;
/// Output channels of a block.
const CHANNELS: usize = 32;
/// Positions of a weight row in one tensor-core product.
const STEP: usize = 32;
/// Blocks from which pixels alone fill a GPU: a Jetson Orin has 8 to 16 multiprocessors, an H200 132.
const ENOUGH: usize = 264;

fn record(launch: &mut Launch<'_, '_>) -> Result<(QConv, ConvShape), KernelError> {
    let step = launch.step;
    let attrs: &QConvAttrs = step.attrs()?;
    let shape =
        ConvShape::new(&attrs.window, attrs.groups as usize, step.input(0)?.shape, step.output(0)?.shape)
            .ok_or(KernelError::Operands(step.op))?;
    let record = QConv {
        input: launch.input(0)?,
        weight: launch.input(1)?,
        bias: launch.input(2)?,
        multiplier: launch.input(3)?,
        output: launch.output()?,
        terms: launch.terms()?,
        ..QConv::new(attrs, &shape)
    };
    Ok((record, shape))
}

/// Launches a dense convolution.
///
/// The reduction is shared out among the warps of a block where it is long enough to feed them and pixels are too few
/// to fill the GPU.
pub(crate) fn qconv(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let (mut record, shape) = record(launch)?;
    record.out_kind = match launch.step.output_dtype(0) {
        Some(DType::I8) => 0,
        Some(DType::F32) => 1,
        _ => 2,
    };
    record.mask = launch.mask()?;
    dense(launch, &record, &shape)
}

/// Launches what `record` says, whatever its output is.
pub(super) fn dense(
    launch: &mut Launch<'_, '_>,
    record: &QConv,
    shape: &ConvShape,
) -> Result<(), KernelError> {
    let [n, oh, ow, _] = shape.output;
    let pixels = n.saturating_mul(oh).saturating_mul(ow);
    let columns = shape.out_group.div_ceil(CHANNELS);
    let wide_blocks = pixels.div_ceil(4 * PIXELS).saturating_mul(columns).saturating_mul(shape.groups);
    let split = shape.row() > STEP && wide_blocks < ENOUGH;
    let words = shape.in_group.is_multiple_of(4) && shape.input[3].is_multiple_of(4);
    let unit = words && shape.kernel == [1, 1];
    let trains = record.mask != 0 || record.raw != 0 || launch.terms.dense.is_some();
    let kernel = match (words, unit, split) {
        (_, true, false) => "qconv_unit_wide",
        (_, true, true) => "qconv_unit_split",
        (true, false, false) => "qconv_words_wide",
        (true, false, true) => "qconv_words_split",
        (false, false, false) => "qconv_bytes_wide",
        (false, false, true) => "qconv_bytes_split",
    };
    let rows = pixels.div_ceil(if split { PIXELS } else { 4 * PIXELS });
    let [rows, columns, groups] = [rows, columns, shape.groups].map(|v| v as u32);
    launch.grid(kernel_of(kernel, trains), (rows, columns, groups), THREADS, record)
}

/// Launches a depthwise convolution.
pub(crate) fn qdepthwise(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    if launch.terms.two_factor.is_some() {
        return Err(KernelError::Terms(launch.step.op));
    }
    let (mut record, shape) = record(launch)?;
    record.mask = launch.mask()?;
    let count = launch.step.output(0)?.shape.elements();
    let trains = record.mask != 0 || launch.terms.dense.is_some();
    let words = match shape.kernel {
        [3, 3] => "qdepthwise_qs8_three",
        [5, 5] => "qdepthwise_qs8_five",
        _ => "qdepthwise_qs8_words",
    };
    if record.c % 4 == 0 {
        launch.elements(kernel_of(words, trains), count / 4, &record)
    } else {
        launch.elements(kernel_of("qdepthwise_qs8_bytes", trains), count, &record)
    }
}

/// The name of `kernel`, or of the one like it that training wants: those of inference carry none of that.
fn kernel_of(kernel: &'static str, trains: bool) -> &'static str {
    let mut names = KERNELS.iter().filter(|name| name.strip_suffix("_train") == Some(kernel));
    if trains { names.next().copied().unwrap_or(kernel) } else { kernel }
}
