//! int8 depthwise convolution, many channels at a time.
//!
//! Taps are interleaved so that every 32-bit lane holds one channel's codes of four of them, or of two as 16-bit values,
//! then multiplied and summed: eight shuffles and four products for 256 multiply-accumulates with `vpdpbusd`, two
//! shuffles and two products for 32 with `vpmaddwd`, whatever stride and dilation.
//! Lines of the input pass once through a ring of padded lines, where codes are
//! moved to 0…255 on the way; no pixel needs a case of its own.
//!
//! Along a line with stride 1, elements of neighboring pixels follow each other
//! as channels do, so the lanes of a vector need not stop at a pixel's last
//! channel: weights repeat with the least common multiple of channels and lanes.
//!
//! # Numerics
//! Sums are exact modulo 2³²; what follows them is the reference's arithmetic
//! in its order, so results equal it to the bit.

mod lines;
mod packing;
pub(crate) mod taps;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qdepthwise::{QDepthwise, depthwise_shape};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Place, Step};
use ingraft_tensor::{DType, bytes};

use self::lines::{Lines, Ring};
use self::packing::{Blocks, Order, Packed};
use self::taps::Taps;
use crate::avx2::qdepthwise as avx2;
use crate::features::{Avx2, Avx512, AvxVnni};
use crate::qconv::Bounds;
use crate::simd::{Row, Simd, entry};

/// int8 output.
pub(crate) const AVX512: Kernel = Kernel::new(
    "qdepthwise_qs8_qc8w_qs8__avx512",
    OpCode::QDepthwise,
    Some(DType::I8),
    Some(DType::I8),
    run::<Avx512>,
)
.checked(check::<Avx512>)
.with_workspace(workspace::<Avx512>)
.with_packed(packed_bytes::<Avx512>, pack::<Avx512>);

/// As [`AVX512`], on vectors of 256 bits with `vpdpbusd`.
pub(crate) const AVX_VNNI: Kernel =
    Kernel { name: "qdepthwise_qs8_qc8w_qs8__avxvnni", run: run::<AvxVnni>, ..AVX512 }
        .checked(check::<AvxVnni>)
        .with_workspace(workspace::<AvxVnni>)
        .with_packed(packed_bytes::<AvxVnni>, pack::<AvxVnni>);

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel =
    Kernel { name: "qdepthwise_qs8_qc8w_qs8__avx2packed", run: run::<Avx2>, ..AVX512 }
        .checked(check::<Avx2>)
        .with_workspace(workspace::<Avx2>)
        .with_packed(packed_bytes::<Avx2>, pack::<Avx2>);

/// Most taps of a window: what the table of their places holds.
const MOST_TAPS: usize = 128;

/// Weights, bias and multipliers must stand in the plan, to be packed at bind.
fn check<S: Simd + Taps>(step: &Step<'_>) -> Result<(), KernelError> {
    (avx2::KERNEL.check)(step)?;
    let attrs: &QConvAttrs = step.attrs()?;
    let constant = |index| Ok(matches!(step.input(index)?.place, Place::Plan(_)));
    let constants = constant(1)? && constant(2)? && constant(3)?;
    let lines = shape(step)
        .filter(|shape| shape.row() <= MOST_TAPS)
        .and_then(|shape| Lines::new(&shape, order::<S>()));
    (constants && attrs.fits_codes() && lines.is_some()).then_some(()).ok_or(KernelError::Operands(step.op))
}

fn order<S: Simd + Taps>() -> Order {
    Order { block: S::BLOCK, together: S::TOGETHER, lanes: S::LANES, wide: S::WIDE }
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    depthwise_shape(step.attrs().ok()?, step.input(0).ok()?.shape, step.output(0).ok()?.shape)
}

/// The ring of lines, or what the row for active terms needs.
fn workspace<S: Simd + Taps>(step: &Step<'_>) -> usize {
    let ring =
        shape(step).and_then(|shape| Lines::new(&shape, order::<S>())).map_or(0, |lines| lines.bytes());
    ring.max(avx2::workspace(step))
}

fn packed_bytes<S: Simd + Taps>(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| Blocks::new(&shape, order::<S>()).bytes())
}

fn pack<S: Simd + Taps>(step: &Step<'_>, packed: &mut [u8]) -> Result<(), KernelError> {
    let constant = |index| match step.input(index)?.place {
        Place::Plan(constant) => Ok(constant),
        Place::Memory(_) => Err(KernelError::Operands(step.op)),
    };
    let (weight, bias, multiplier) = (constant(1)?, constant(2)?, constant(3)?);
    let filled = shape(step).and_then(|shape| {
        let blocks = Blocks::new(&shape, order::<S>());
        blocks.pack(bytes::cast(weight)?, bytes::cast(bias)?, bytes::cast(multiplier)?, packed)
    });
    filled.ok_or(KernelError::Memory(step.op))
}

fn run<S: Simd + Taps>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() || call.outputs.len() > 1 {
        return (avx2::KERNEL.run)(call);
    }
    entry::<S, Lanes>(call)
}

/// The layer without terms.
struct Lanes;

impl<S: Simd + Taps> Row<S> for Lanes {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (conv, error) = (QDepthwise::new(call)?, KernelError::Memory(call.op));
        let (memory, packed) = (core::mem::take(&mut call.workspace), call.packed);
        let (out, _) = call.out_and_mask::<i8>()?;
        layer(simd, &conv, memory, packed, out).ok_or(error)
    }
}

#[inline(always)]
fn layer<S: Simd + Taps>(
    simd: S,
    conv: &QDepthwise<'_>,
    memory: &mut [u8],
    packed: &[u8],
    out: &mut [i8],
) -> Option<()> {
    let shape = &conv.shape;
    let [samples, height, width, channels] = shape.output;
    if out.is_empty() {
        return Some(());
    }
    let (lines, blocks) = (Lines::new(shape, order::<S>())?, Blocks::new(shape, order::<S>()));
    let packed = blocks.view(packed)?;
    let mut rows = out.chunks_exact_mut(width * channels);
    for sample in 0..samples {
        let mut ring = Ring::new(lines, memory)?;
        let input = conv.input.get(sample * shape.input[1] * shape.input[2] * channels..)?;
        for y in 0..height {
            ring.advance(shape, bytes::of(input), y, conv.attrs.in_zero_point as u8)?;
            let mut taps = [0usize; MOST_TAPS];
            let taps = taps.get_mut(..blocks.groups * S::TOGETHER)?;
            ring.taps(shape, y, taps);
            row(simd, conv, &blocks, &packed, ring.bytes(), taps, rows.next()?)?;
        }
    }
    Some(())
}

/// One line of the output.
#[inline(always)]
fn row<S: Simd + Taps>(
    simd: S,
    conv: &QDepthwise<'_>,
    blocks: &Blocks,
    packed: &Packed<'_>,
    lines: &[u8],
    taps: &[usize],
    out: &mut [i8],
) -> Option<()> {
    let channels = conv.shape.output[3];
    let pixel = channels * S::WIDE;
    let (ahead, along) = (blocks.pixels * conv.shape.stride[1] * pixel, blocks.pixels * channels);
    let positions = out.len().div_ceil(along);
    let furthest = taps.iter().max()? + (positions - 1) * ahead + blocks.count * S::BLOCK * S::WIDE;
    if furthest > lines.len() {
        return None;
    }
    let QConvAttrs { lo, hi, out_zero_point, .. } = *conv.attrs;
    let bounds = Bounds::new(simd, lo, hi, out_zero_point);
    for block in 0..blocks.count {
        let (weights, bias, multiplier) = packed.block(block)?;
        let scale = simd.scale_of(bias, multiplier)?;
        let at = |position: usize| lines.as_ptr().wrapping_add(position * ahead + block * S::BLOCK * S::WIDE);
        let mut rows = out.chunks_mut(along).map(|row| row.get_mut(block * S::BLOCK..).unwrap_or(&mut []));
        let mut position = 0;
        // SAFETY: no tap of these positions and this block reaches past `furthest`, which lies within `lines`;
        // `block` gives the weights of every tap.
        unsafe {
            if S::PAIRS {
                while position + 2 <= positions {
                    let from = [at(position), at(position + 1)];
                    for sums in simd.sum_taps(from, taps, weights.as_ptr(), &scale) {
                        simd.store_sums(sums, &scale, &bounds, rows.next().unwrap_or(&mut []));
                    }
                    position += 2;
                }
            }
            for position in position..positions {
                let [sums] = simd.sum_taps([at(position)], taps, weights.as_ptr(), &scale);
                simd.store_sums(sums, &scale, &bounds, rows.next().unwrap_or(&mut []));
            }
        }
    }
    Some(())
}
