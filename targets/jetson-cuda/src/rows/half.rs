//! Convolutions and linear layers by products in f16, for who asks for them ([`Cuda::with_halves`](crate::Cuda::with_halves));
//! depthwise layers with weights in f16.
//!
//! # Numerics
//! Below, sums are over the `len` products of a result, and so is the largest.
//!
//! *Convolutions and linear layers.* An activation is rounded to f16 as it is read, a weight at bind, multiplied with a power of two that brings the largest of its
//! channel to ½…1. Products are exact, and summed in f32 on tensor cores, sixteen at a time. A result is within
//! `(2⁻¹⁰ + (len/16 + 12)·2⁻²²)·Σ|x·w| + len·max|w|·(2⁻²⁵ + 2⁻²⁴·max|x|)` of the exact sum. Activations beyond 65504 become
//! infinite. Factors of an adapter, and what they are multiplied with, are rounded to TF32 instead: as many bits, at any
//! size; sparse terms, scale and shift are f32.
//!
//! *Depthwise layers.* Weights are rounded at bind, as above; activations, products and sums are f32: a tensor core has no use for them, and
//! what is gained is room for all weights of a window ahead of the wait. A result is within
//! `(2⁻¹¹ + (len + 2)·2⁻²³)·Σ|x·w| + len·max|w|·2⁻²⁴·max|x|` of the exact sum.
//!
//! Products of two activations: [`product`](super::product).
//!
//! # Limits
//! A warp reads 4 KB of operands for 16 pixels by 32 channels of depth 32, 8 KB for 32 by 64: 512 and 1024 multiplications
//! a cycle of a multiprocessor whose first-level cache gives 128 bytes, where its f32 units do 128.

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{KernelError, Place, Step};

use crate::launch::{Launch, int};
use crate::params::float::{HalfConv, HalfPack};
use crate::rows::conv::ENOUGH;
use crate::rows::real::{self, ROWS};

/// Depth that a warp takes in one turn: packed rows are padded to it.
const DEPTH: usize = 32;
/// Channels of a tensor-core product: with fewer, most of it is for nothing.
pub(super) const COLUMNS: usize = 8;
/// Channels from which tiles of 64 are not mostly empty.
const BROAD: usize = 48;
/// Warps that share out the depth of a tile, and those with tiles of their own.
const SHARES: u32 = 8;
const WARPS: u32 = 4;

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
}

/// Whether the weights of a layer are constant and a tensor core has use for its channels.
pub(crate) fn takes(step: &Step<'_>) -> bool {
    let constant = step.input(1).is_ok_and(|weight| matches!(weight.place, Place::Plan(_)));
    constant && shape(step).is_some_and(|shape| shape.out_group >= COLUMNS)
}

/// Bytes of a layer's weights in f16, each channel with a factor.
pub(crate) fn packed(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| {
        let row = shape.row().next_multiple_of(DEPTH).saturating_mul(2).saturating_add(4);
        row.saturating_mul(shape.output[3])
    })
}

/// Packs them.
pub(crate) fn pack(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    let rows = int(step, shape.output[3])?;
    let record =
        HalfPack { weight: launch.input(1)?, packed: launch.packed()?, rows, row: int(step, shape.row())? };
    launch.grid("pack_f16", (rows as u32, 1, 1), 32, &record)
}

/// Launches a dense or grouped convolution.
pub(crate) fn convolve(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let shape = real::shape(launch)?;
    let conv = real::record(launch, &shape)?;
    let (lo, hi) = (conv.lo, conv.hi);
    let record = HalfConv { conv, packed: launch.packed()? };
    let cut = Cut::new(&shape, conv.linear == 1);
    launch.grid(cut.kernel, cut.grid, cut.threads, &record)?;
    real::mask(launch, lo, hi)
}

/// Whether the weights of a depthwise layer are constant, of a window that has a kernel and of channels in fours.
pub(crate) fn takes_depthwise(step: &Step<'_>) -> bool {
    let constant = step.input(1).is_ok_and(|weight| matches!(weight.place, Place::Plan(_)));
    constant && shape(step).is_some_and(|shape| window(&shape).is_some() && shape.output[3].is_multiple_of(4))
}

/// The kernel for a depthwise layer's window.
fn window(shape: &ConvShape) -> Option<&'static str> {
    match shape.kernel {
        [3, 3] => Some("depthwise_f16_three"),
        [5, 5] => Some("depthwise_f16_five"),
        _ => None,
    }
}

/// Bytes of a depthwise layer's weights in f16, each channel with a factor.
pub(crate) fn packed_taps(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| {
        let channel = shape.row().saturating_mul(2).saturating_add(4);
        channel.saturating_mul(shape.output[3])
    })
}

/// Packs them.
pub(crate) fn pack_taps(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let step = launch.step;
    let shape = shape(step).ok_or(KernelError::Operands(step.op))?;
    let (rows, row) = (int(step, shape.output[3])?, int(step, shape.row())?);
    let record = HalfPack { weight: launch.input(1)?, packed: launch.packed()?, rows, row };
    launch.elements("pack_f16_taps", shape.output[3], &record)
}

/// Launches a depthwise convolution.
pub(crate) fn depthwise(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    let shape = real::shape(launch)?;
    let kernel = window(&shape).ok_or(KernelError::Operands(launch.step.op))?;
    let (conv, count) = real::depthwise_record(launch, &shape)?;
    let (lo, hi) = (conv.lo, conv.hi);
    let record = HalfConv { conv, packed: launch.packed()? };
    launch.elements(kernel, count / 4, &record)?;
    real::mask(launch, lo, hi)
}

/// How a layer is cut into tiles.
struct Cut {
    kernel: &'static str,
    grid: (u32, u32, u32),
    threads: u32,
}

impl Cut {
    /// The largest tiles of which there are enough to fill a GPU; those of small ones share out their depth.
    fn new(shape: &ConvShape, linear: bool) -> Self {
        let (pixels, row) = (real::pixels(shape), shape.row());
        let fours = shape.in_group.is_multiple_of(4) && shape.input[3].is_multiple_of(4);
        let unit = fours && shape.kernel == [1, 1];
        if linear && fours && shape.groups == 1 && (1..=ROWS).contains(&pixels) {
            let blocks = shape.output[3].div_ceil(SHARES as usize) as u32;
            return Self { kernel: "conv_f16_rows", grid: (blocks, 1, 1), threads: SHARES * 32 };
        }
        let grid = |rows: usize, columns: usize| {
            let (rows, columns) = (pixels.div_ceil(rows), shape.out_group.div_ceil(columns));
            (rows.saturating_mul(columns).saturating_mul(shape.groups), (rows as u32, columns as u32))
        };
        let kernel = |names: [&'static str; 3]| {
            names[if unit {
                0
            } else if fours {
                1
            } else {
                2
            }]
        };
        let of = |kernel, (_, (rows, columns)): (usize, (u32, u32)), warps: u32| Self {
            kernel,
            grid: (rows, columns, shape.groups as u32),
            threads: warps * 32,
        };
        let (large, wide) = (grid(128, 64), grid(64, 32));
        if fours && shape.out_group >= BROAD && large.0 >= ENOUGH {
            let name = if unit { "conv_f16_unit_large" } else { "conv_f16_fours_large" };
            of(name, large, WARPS)
        } else if row <= DEPTH || wide.0 >= ENOUGH {
            of(kernel(["conv_f16_unit_wide", "conv_f16_fours_wide", "conv_f16_single_wide"]), wide, WARPS)
        } else {
            let names = ["conv_f16_unit_split", "conv_f16_fours_split", "conv_f16_single_split"];
            of(kernel(names), grid(16, 32), SHARES)
        }
    }
}
