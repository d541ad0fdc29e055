//! Convolutions on reals, and on codes whose scale is found at run time.

use ingraft_kernel::KernelError;
use ingraft_kernel::attrs::{ConvAttrs, QConvAttrs};
use ingraft_kernel::conv::check_float_terms;
use ingraft_kernel::window::ConvShape;

use crate::launch::{Launch, int};
use crate::params::QConv;
use crate::params::float::{Conv, DynamicConv, Mask};
use crate::rows::conv::{self, Cut as CodesCut, ENOUGH};

/// Threads of a group, which takes one tile.
const TILE_THREADS: u32 = 64;
/// Groups that share out a tile's depth.
const SLICES: u32 = 8;
/// Depth of one step of a group.
const DEPTH: usize = 16;
/// Tiles of 32 by 32 below which smaller ones keep more of a GPU busy.
const FEW: usize = 66;
/// Columns from which tiles of 64 by 64 are not mostly empty.
const BROAD: usize = 48;
/// Rows up to which a linear layer takes a warp a channel, and the channels of a block.
pub(super) const ROWS: usize = 4;
const ROW_WARPS: usize = 8;

pub(super) fn shape(launch: &Launch<'_, '_>) -> Result<ConvShape, KernelError> {
    let step = launch.step;
    let attrs: &ConvAttrs = step.attrs()?;
    check_float_terms(step.op, &launch.terms)?;
    if launch.terms.dense.is_some() {
        return Err(KernelError::Terms(step.op));
    }
    let (input, output) = (step.input(0)?.shape, step.output(0)?.shape);
    ConvShape::new(&attrs.window, attrs.groups as usize, input, output).ok_or(KernelError::Operands(step.op))
}

pub(super) fn pixels(shape: &ConvShape) -> usize {
    shape.output.iter().take(3).product()
}

pub(super) fn record(launch: &mut Launch<'_, '_>, shape: &ConvShape) -> Result<Conv, KernelError> {
    int(launch.step, pixels(shape))?;
    Ok(Conv {
        input: launch.input(0)?,
        weight: launch.input(1)?,
        bias: launch.input(2)?,
        output: launch.output(0)?,
        terms: launch.terms()?,
        ..Conv::new(launch.step.attrs()?, shape)
    })
}

/// Launches a dense or grouped convolution.
pub(crate) fn convolve(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let shape = shape(launch)?;
    let record = record(launch, &shape)?;
    tiles(launch, &record)?;
    mask(launch, record.lo, record.hi)
}

/// Launches the product that `record` is: in tiles, or a warp a channel where there are few rows.
pub(crate) fn tiles(launch: &mut Launch<'_, '_>, record: &Conv) -> Result<(), KernelError> {
    let [n, oh, ow, outputs, row, groups, out_group, in_group, channels] = [
        record.n,
        record.oh,
        record.ow,
        record.o,
        record.row,
        record.groups,
        record.out_group,
        record.in_group,
        record.c,
    ]
    .map(|v| v as usize);
    let pixels = n.saturating_mul(oh).saturating_mul(ow);
    if record.linear == 1 && groups == 1 && pixels <= ROWS && pixels != 0 {
        let blocks = outputs.div_ceil(ROW_WARPS) as u32;
        return launch.grid("conv_f32_rows", (blocks, 1, 1), ROW_WARPS as u32 * 32, record);
    }
    let cut = Cut::new([pixels, out_group, row], groups);
    let fours = in_group.is_multiple_of(4) && channels.is_multiple_of(4);
    let cut = if fours { cut } else { cut.plain() };
    let reading = match fours {
        true if record.window.kernel == [1, 1] => "unit",
        true => "fours",
        false => "single",
    };
    let (rows, columns) = (pixels.div_ceil(cut.tile), out_group.div_ceil(cut.tile));
    let grid = (rows as u32, columns as u32, groups as u32);
    launch.grid(&format!("conv_f32_{reading}_{}", cut.name), grid, cut.threads, record)
}

/// How a product is cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// As kernels are named.
    pub(crate) name: &'static str,
    /// Rows and columns of a tile.
    pub(crate) tile: usize,
    /// Threads of a block.
    pub(crate) threads: u32,
}

impl Cut {
    const LARGE: Self = Self { name: "large", tile: 64, threads: TILE_THREADS };
    const WIDE: Self = Self { name: "wide", tile: 32, threads: TILE_THREADS };
    const SPLIT: Self = Self { name: "split", tile: 32, threads: SLICES * TILE_THREADS };
    const SMALL: Self = Self { name: "small", tile: 16, threads: SLICES * TILE_THREADS };

    /// For `count` products of `[rows, columns, depth]`: the largest tiles of which there are enough to fill a GPU.
    pub(crate) fn new([rows, columns, depth]: [usize; 3], count: usize) -> Self {
        let tiles = |cut: Self| {
            rows.div_ceil(cut.tile).saturating_mul(columns.div_ceil(cut.tile)).saturating_mul(count)
        };
        if columns >= BROAD && tiles(Self::LARGE) >= ENOUGH {
            Self::LARGE
        } else if depth <= DEPTH || tiles(Self::WIDE) >= ENOUGH {
            Self::WIDE
        } else if tiles(Self::SPLIT) >= FEW {
            Self::SPLIT
        } else {
            Self::SMALL
        }
    }

    /// The same of the two that every kernel has: tiles of 32 by 32.
    fn plain(self) -> Self {
        if self == Self::LARGE || self == Self::WIDE { Self::WIDE } else { Self::SPLIT }
    }

    /// The same of tiles whose depth is not shared out, or small ones.
    pub(crate) fn of_product(self) -> Self {
        if self == Self::LARGE || self == Self::WIDE { Self::WIDE } else { Self::SMALL }
    }
}

/// The record of a depthwise convolution, and the elements of its output.
pub(super) fn depthwise_record(
    launch: &mut Launch<'_, '_>,
    shape: &ConvShape,
) -> Result<(Conv, usize), KernelError> {
    if launch.terms.two_factor.is_some() {
        return Err(KernelError::Terms(launch.step.op));
    }
    let count = launch.step.output(0)?.shape.elements();
    int(launch.step, count)?;
    Ok((record(launch, shape)?, count))
}

/// Launches a depthwise convolution.
pub(crate) fn depthwise(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let shape = shape(launch)?;
    let (record, count) = depthwise_record(launch, &shape)?;
    let fours = match shape.kernel {
        [3, 3] => "depthwise_f32_three",
        [5, 5] => "depthwise_f32_five",
        _ => "depthwise_f32_fours",
    };
    if record.c % 4 == 0 {
        launch.elements(fours, count / 4, &record)?;
    } else {
        launch.elements("depthwise_f32_single", count, &record)?;
    }
    mask(launch, record.lo, record.hi)
}

/// Launches an int8 convolution to f32 whose input's parameters are operands.
pub(crate) fn dynamic_conv(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let shape = shape(launch)?;
    let attrs: &ConvAttrs = launch.step.attrs()?;
    int(launch.step, pixels(&shape))?;
    let quantized = QConvAttrs {
        window: attrs.window,
        groups: attrs.groups,
        in_zero_point: 0,
        out_zero_point: 0,
        lo: attrs.lo,
        hi: attrs.hi,
        in_scale: 1.0,
        out_scale: 1.0,
    };
    let record = DynamicConv {
        conv: QConv {
            input: launch.input(0)?,
            weight: launch.input(1)?,
            multiplier: launch.input(3)?,
            output: launch.output(0)?,
            terms: launch.terms()?,
            ..QConv::new(&quantized, &shape)
        },
        sums: launch.input(2)?,
        shift: launch.input(4)?,
        scale: launch.input(5)?,
        zero_point: launch.input(6)?,
    };
    let cut = CodesCut::new(&shape);
    let kernel = match (cut.words, cut.unit, cut.split) {
        (_, true, false) => "dynamic_conv_unit_wide",
        (_, true, true) => "dynamic_conv_unit_split",
        (true, ..) => "dynamic_conv_words_split",
        _ => "dynamic_conv_bytes_split",
    };
    let cut = CodesCut { split: cut.split || !cut.unit, ..cut };
    launch.grid(kernel, cut.grid(&shape), conv::THREADS, &record)?;
    mask(launch, attrs.lo, attrs.hi)
}

/// Launches the straight-through mask of output 0, where the step writes one.
pub(super) fn mask(launch: &mut Launch<'_, '_>, lo: f32, hi: f32) -> Result<(), KernelError> {
    if launch.step.outputs().len() < 2 {
        return Ok(());
    }
    let count = launch.step.output(0)?.shape.elements();
    let record = Mask {
        values: launch.output(0)?,
        mask: launch.output(1)?,
        count: int(launch.step, count)?,
        lo,
        hi,
        reserved: 0,
    };
    launch.elements("mask_f32", count.div_ceil(8), &record)
}
