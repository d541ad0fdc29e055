//! int8 convolution, dense and depthwise.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::window::ConvShape;
use ingraft_tensor::DType;

use crate::launch::{Launch, int};
use crate::params::QConv;
use crate::rows::KERNELS;

/// Threads of a block of a dense convolution: four warps.
pub(crate) const THREADS: u32 = 128;
/// Pixels of a warp.
const PIXELS: usize = 16;
/// Output channels of a block.
const CHANNELS: usize = 32;
/// Positions of a weight row in one tensor-core product.
const STEP: usize = 32;
/// Row length from which eight warps share out a reduction, four below.
const DEEP: usize = 16 * STEP;
/// Threads of a block of those.
const DEEP_THREADS: u32 = 256;
/// Blocks from which pixels alone fill a GPU: a Jetson Orin has 8 to 16 multiprocessors, an H200 132.
pub(crate) const ENOUGH: usize = 264;

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
        output: launch.output(0)?,
        samples: int(step, launch.samples())?,
        terms: launch.terms()?,
        ..QConv::new(attrs, &shape)
    };
    Ok((record, shape))
}

/// How a dense convolution of codes is cut and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Rows are read as words.
    pub(crate) words: bool,
    /// Words of a window of one tap.
    pub(crate) unit: bool,
    /// The reduction is shared out among the warps of a block.
    pub(crate) split: bool,
}

impl Cut {
    pub(crate) fn new(shape: &ConvShape) -> Self {
        let wide_blocks = pixels(shape)
            .div_ceil(4 * PIXELS)
            .saturating_mul(shape.out_group.div_ceil(CHANNELS))
            .saturating_mul(shape.groups);
        let words = shape.in_group.is_multiple_of(4) && shape.input[3].is_multiple_of(4);
        let split = shape.row() > STEP && wide_blocks < ENOUGH;
        Self { words, unit: words && shape.kernel == [1, 1], split }
    }

    /// Blocks of pixels, of channels, groups.
    pub(crate) fn grid(&self, shape: &ConvShape) -> (u32, u32, u32) {
        let rows = pixels(shape).div_ceil(if self.split { PIXELS } else { 4 * PIXELS });
        (rows as u32, shape.out_group.div_ceil(CHANNELS) as u32, shape.groups as u32)
    }
}

fn pixels(shape: &ConvShape) -> usize {
    let [n, oh, ow, _] = shape.output;
    n.saturating_mul(oh).saturating_mul(ow)
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

/// A kernel, and what a block of it covers.
#[derive(Clone, Copy, Debug)]
struct Block {
    kernel: &'static str,
    pixels: usize,
    channels: usize,
    threads: u32,
}

impl Block {
    /// The one for a layer: how much of a row a lane reads at once depends on channels and addresses.
    fn new(record: &QConv, shape: &ConvShape, trains: bool) -> Self {
        let at = (record.input | record.weight) as usize;
        let read = |bytes: usize| {
            [shape.in_group, shape.input[3], at].iter().all(|value| value.is_multiple_of(bytes))
        };
        let (split, unit) = (Cut::new(shape).split, shape.kernel == [1, 1]);
        let kernels = match (read(16), read(8), read(4), unit) {
            (true, _, _, true) if split && trains => {
                let kernel = "qconv_unit_slim_train";
                return Self { kernel, pixels: PIXELS, channels: CHANNELS / 2, threads: THREADS };
            }
            (true, _, _, true) if split => return Self::shared(shape),
            (true, _, _, true) => ["qconv_unit_wide"; 2],
            (true, _, _, false) if !trains => ["qconv_window_wide", "qconv_window_split"],
            (_, true, _, true) => ["qconv_eights_wide", "qconv_eights_split"],
            (_, _, true, _) => ["qconv_words_wide", "qconv_words_split"],
            _ => ["qconv_bytes_wide", "qconv_bytes_split"],
        };
        let pixels = if split { PIXELS } else { 4 * PIXELS };
        let kernel = kernel_of(kernels[usize::from(split)], trains);
        Self { kernel, pixels, channels: CHANNELS, threads: THREADS }
    }

    /// The one that shares out the reduction of a window of one tap, by more warps where it is long.
    fn shared(shape: &ConvShape) -> Self {
        let (kernel, threads) = if shape.row() > DEEP {
            ("qconv_unit_deep", DEEP_THREADS)
        } else {
            ("qconv_unit_split", THREADS)
        };
        Self { kernel, pixels: PIXELS, channels: CHANNELS, threads }
    }

    /// Blocks of pixels of a sample that has terms of its own, of channels, and groups of each sample.
    fn grid(&self, shape: &ConvShape, samples: usize) -> (u32, u32, u32) {
        let rows = pixels(shape).div_ceil(samples.max(1)).div_ceil(self.pixels);
        let columns = shape.out_group.div_ceil(self.channels);
        (rows as u32, columns as u32, shape.groups.saturating_mul(samples) as u32)
    }
}

/// Launches what `record` says, whatever its output is.
pub(super) fn dense(
    launch: &mut Launch<'_, '_>,
    record: &QConv,
    shape: &ConvShape,
) -> Result<(), KernelError> {
    let trains = record.mask != 0 || record.raw != 0 || launch.terms.dense.is_some();
    let block = Block::new(record, shape, trains);
    launch.grid(block.kernel, block.grid(shape, record.samples as usize), block.threads, record)
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
    if trains { trained(kernel) } else { kernel }
}

fn trained(kernel: &'static str) -> &'static str {
    let mut names = KERNELS.iter().filter(|name| name.strip_suffix("_train") == Some(kernel));
    names.next().copied().unwrap_or(kernel)
}
