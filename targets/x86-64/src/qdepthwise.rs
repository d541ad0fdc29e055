//! int8 depthwise convolution, 64 channels at a time.
//!
//! Four taps of 64 channels are interleaved so that every 32-bit lane holds one
//! channel's four codes, then multiplied and summed by `vpdpbusd`: eight shuffles
//! and four products for 256 multiply-accumulates, whatever stride and dilation.
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

use core::arch::x86_64::*;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::qdepthwise::{KERNEL as REFERENCE, QDepthwise, depthwise_shape};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Place, Step};
use ingraft_tensor::{DType, bytes};

use self::lines::{Lines, Ring};
use self::packing::{Blocks, LANES, Packed};
use crate::avx2::qdepthwise as avx2;
use crate::blocks::Rounding;

/// int8 output.
pub(crate) const AVX512: Kernel =
    Kernel::new("qdepthwise_qs8_qc8w_qs8__avx512", OpCode::QDepthwise, Some(DType::I8), Some(DType::I8), run)
        .checked(check)
        .with_workspace(workspace)
        .with_packed(packed_bytes, pack);

/// Most taps of a window: what the table of their places holds.
const MOST_TAPS: usize = 128;

/// Weights, bias and multipliers must stand in the plan, to be packed at bind.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let attrs: &QConvAttrs = step.attrs()?;
    let constant = |index| Ok(matches!(step.input(index)?.place, Place::Plan(_)));
    let constants = constant(1)? && constant(2)? && constant(3)?;
    let lines = shape(step).filter(|shape| shape.row() <= MOST_TAPS).and_then(|shape| Lines::new(&shape));
    (constants && attrs.fits_codes() && lines.is_some()).then_some(()).ok_or(KernelError::Operands(step.op))
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    depthwise_shape(step.attrs().ok()?, step.input(0).ok()?.shape, step.output(0).ok()?.shape)
}

/// The ring of lines, or what the row for active terms needs.
fn workspace(step: &Step<'_>) -> usize {
    let ring = shape(step).and_then(|shape| Lines::new(&shape)).map_or(0, |lines| lines.bytes());
    ring.max(avx2::workspace(step))
}

fn packed_bytes(step: &Step<'_>) -> usize {
    shape(step).map_or(0, |shape| Blocks::new(&shape).bytes())
}

fn pack(step: &Step<'_>, packed: &mut [u8]) -> Result<(), KernelError> {
    let constant = |index| match step.input(index)?.place {
        Place::Plan(constant) => Ok(constant),
        Place::Memory(_) => Err(KernelError::Operands(step.op)),
    };
    let (weight, bias, multiplier) = (constant(1)?, constant(2)?, constant(3)?);
    let filled = shape(step).and_then(|shape| {
        Blocks::new(&shape).pack(bytes::cast(weight)?, bytes::cast(bias)?, bytes::cast(multiplier)?, packed)
    });
    filled.ok_or(KernelError::Memory(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() || call.outputs.len() > 1 {
        return (avx2::KERNEL.run)(call);
    }
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (conv, error) = (QDepthwise::new(call)?, KernelError::Memory(call.op));
    let (memory, packed) = (core::mem::take(&mut call.workspace), call.packed);
    let (out, _) = call.out_and_mask::<i8>()?;
    layer(&conv, memory, packed, out).ok_or(error)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn layer(conv: &QDepthwise<'_>, memory: &mut [u8], packed: &[u8], out: &mut [i8]) -> Option<()> {
    let shape = &conv.shape;
    let [samples, height, width, channels] = shape.output;
    if out.is_empty() {
        return Some(());
    }
    let (lines, blocks) = (Lines::new(shape)?, Blocks::new(shape));
    let packed = blocks.view(packed)?;
    let mut rows = out.chunks_exact_mut(width * channels);
    for sample in 0..samples {
        let mut ring = Ring::new(lines, memory)?;
        let input = conv.input.get(sample * shape.input[1] * shape.input[2] * channels..)?;
        for y in 0..height {
            ring.advance(shape, bytes::of(input), y, conv.attrs.in_zero_point as u8)?;
            let mut taps = [0usize; MOST_TAPS];
            let taps = taps.get_mut(..blocks.quads * 4)?;
            ring.taps(shape, y, taps);
            row(conv, &blocks, &packed, ring.bytes(), taps, rows.next()?)?;
        }
    }
    Some(())
}

/// One line of the output.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn row(
    conv: &QDepthwise<'_>,
    blocks: &Blocks,
    packed: &Packed<'_>,
    lines: &[u8],
    taps: &[usize],
    out: &mut [i8],
) -> Option<()> {
    let channels = conv.shape.output[3];
    let (ahead, along) = (blocks.pixels * conv.shape.stride[1] * channels, blocks.pixels * channels);
    let positions = out.len().div_ceil(along);
    let furthest = taps.iter().max()? + (positions - 1) * ahead + blocks.count * LANES;
    if furthest > lines.len() {
        return None;
    }
    for block in 0..blocks.count {
        let weights = packed.weights_of(block)?;
        let scale = Scale::new(conv.attrs, packed, block)?;
        for (position, out) in out.chunks_mut(along).enumerate() {
            let Some(out) = out.get_mut(block * LANES..) else { continue };
            // SAFETY: no tap of this position and block reaches past `furthest`, which lies within `lines`;
            // `weights_of` gives four vectors for every four taps.
            let sums = unsafe {
                let from = lines.as_ptr().add(position * ahead + block * LANES);
                products(from, taps, weights, scale.bias)
            };
            scale.store(sums, out);
        }
    }
    Some(())
}

/// The sums of 64 channels.
///
/// # Safety
/// - 64 bytes lie at each of `taps` from `from`.
/// - `weights` holds four vectors for every four taps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn products(
    from: *const u8,
    taps: &[usize],
    weights: &[[i8; LANES]],
    bias: [__m512i; 4],
) -> [__m512i; 4] {
    let [mut a, mut b, mut c, mut d] = bias;
    for (taps, weights) in taps.as_chunks::<4>().0.iter().zip(weights.as_chunks::<4>().0) {
        // SAFETY: the caller's contract; the loads need no alignment.
        let [t0, t1, t2, t3] = taps.map(|tap| unsafe { _mm512_loadu_si512(from.add(tap).cast()) });
        // SAFETY: each reference covers the 64 bytes read.
        let [w0, w1, w2, w3] = weights.each_ref().map(|w| unsafe { _mm512_loadu_si512(w.as_ptr().cast()) });
        let (low, high) = (_mm512_unpacklo_epi8(t0, t1), _mm512_unpackhi_epi8(t0, t1));
        let (low2, high2) = (_mm512_unpacklo_epi8(t2, t3), _mm512_unpackhi_epi8(t2, t3));
        a = _mm512_dpbusd_epi32(a, _mm512_unpacklo_epi16(low, low2), w0);
        b = _mm512_dpbusd_epi32(b, _mm512_unpackhi_epi16(low, low2), w1);
        c = _mm512_dpbusd_epi32(c, _mm512_unpacklo_epi16(high, high2), w2);
        d = _mm512_dpbusd_epi32(d, _mm512_unpackhi_epi16(high, high2), w3);
    }
    [a, b, c, d]
}

/// What turns the sums of a block into codes.
struct Scale {
    bias: [__m512i; 4],
    multiplier: [__m512; 4],
    rounding: Rounding,
}

impl Scale {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn new(attrs: &QConvAttrs, packed: &Packed<'_>, block: usize) -> Option<Self> {
        let (bias, multiplier) = packed.scale_of(block)?;
        // SAFETY: each reference covers the 64 bytes read.
        let bias = bias.each_ref().map(|b| unsafe { _mm512_loadu_si512(b.as_ptr().cast()) });
        // SAFETY: as above.
        let multiplier = multiplier.each_ref().map(|m| unsafe { _mm512_loadu_ps(m.as_ptr()) });
        Some(Self { bias, multiplier, rounding: Rounding::new(attrs.lo, attrs.hi, attrs.out_zero_point) })
    }

    /// Writes the first codes, as many as fit, at most 64.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn store(&self, sums: [__m512i; 4], out: &mut [i8]) {
        let mut values = self.multiplier;
        for (v, sum) in values.iter_mut().zip(sums) {
            *v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), *v);
        }
        let codes = self.rounding.interleaved(values);
        let mask = if out.len() >= LANES { u64::MAX } else { (1 << out.len()) - 1 };
        // SAFETY: the mask selects only bytes that `out` has.
        unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr(), mask, codes) };
    }
}
