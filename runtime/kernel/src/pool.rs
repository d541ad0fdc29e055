//! Maximum and average pooling over channels-last images.
//!
//! Maximum: the largest tap inside the input. Average: `Σ x / n`, n counting
//! the taps inside the input (kind 1) or inside the padded input (kind 2).
//!
//! Extents of the output are the output operand's, so that floor and ceiling
//! modes are the same kernel: taps past the end are padding.

use ingraft_tensor::arrays::arrays;
use ingraft_tensor::{DType, Shape};

use crate::attrs::{PoolAttrs, Window};
use crate::requantize::{clamp, passes, set_bit, to_code};
use crate::walk::BLOCK;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// f32 pooling, clamped to the fused activation.
///
/// # Shapes
/// Input `[N, H, W, C]`, output `[N, OH, OW, C]`.
pub const KERNEL: Kernel =
    Kernel::new("pool_f32_f32__scalar", OpCode::Pool, Some(DType::F32), Some(DType::F32), run_f32)
        .checked(check_f32);

/// int8 pooling.
///
/// # Shapes
/// As [`KERNEL`]; optionally a second output with the straight-through mask.
///
/// # Numerics
/// Maximum: `round(clamp(f32(max − zx)·ratio)) + zy`, the maximum itself for
/// equal parameters. Average: `round(clamp(f32(Σ(x − zx))·(ratio/n))) + zy`.
pub const KERNEL_Q: Kernel =
    Kernel::new("pool_qs8_qs8__scalar", OpCode::QPool, Some(DType::I8), Some(DType::I8), run_q)
        .checked(check_q);

/// [`PoolAttrs::kind`]: the maximum.
pub const MAX: u32 = 0;
/// [`PoolAttrs::kind`]: the average over the taps inside the input.
pub const AVERAGE: u32 = 1;
/// [`PoolAttrs::kind`]: the average over the taps inside the padded input.
pub const AVERAGE_PADDED: u32 = 2;

fn check_f32(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &PoolAttrs = step.attrs()?;
    check::operands(step, 1, 1)?;
    check::clamp(step, attrs.lo, attrs.hi)?;
    check_geometry(step, attrs)
}

fn check_q(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &PoolAttrs = step.attrs()?;
    check::operands_and_mask(step, 1)?;
    check::int8(step, attrs.in_zero_point)?;
    check::int8_clamp(step, attrs.lo, attrs.hi, attrs.out_zero_point)?;
    check::factor(step, attrs.ratio)?;
    check_geometry(step, attrs)
}

fn check_geometry(step: &Step<'_>, attrs: &PoolAttrs) -> Result<(), KernelError> {
    let images = Images::new(step.input(0)?.shape, step.output(0)?.shape, attrs.window);
    check::require(step, attrs.kind <= AVERAGE_PADDED && images.is_some())
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input, images) = operands::<f32>(call)?;
    images.pool(input, call.slice_mut(0)?, |region, out| pool_f32(attrs, region, out));
    Ok(())
}

fn run_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input, images) = operands::<i8>(call)?;
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    let mut index = 0usize;
    let mut emit = |v: f32| {
        if let Some(mask) = &mut mask {
            set_bit(mask, index, passes(v, attrs.lo, attrs.hi));
        }
        index = index.wrapping_add(1);
        to_code(v, attrs.lo, attrs.hi, attrs.out_zero_point)
    };
    images.pool(input, out, |region, out| match attrs.kind {
        MAX => max_q(attrs, region, out, &mut emit),
        _ => average_q(attrs, region, out, &mut emit),
    });
    Ok(())
}

fn operands<'c, T: ingraft_tensor::bytes::Element>(
    call: &mut Call<'c, '_>,
) -> Result<(&'c PoolAttrs, &'c [T], Images), KernelError> {
    let attrs: &PoolAttrs = call.attrs()?;
    let out = call.output(0)?.shape();
    let images = Images::new(call.input(0)?.shape(), out, attrs.window).ok_or(call.operands())?;
    Ok((attrs, call.slice(0)?, images))
}

fn pool_f32(attrs: &PoolAttrs, region: &Region<'_, f32>, out: &mut [f32]) {
    let channels = out.len();
    if attrs.kind == MAX {
        out.fill(f32::NEG_INFINITY);
        region.each(0, channels, |taps| {
            for (y, &x) in out.iter_mut().zip(taps) {
                *y = if x > *y { x } else { *y };
            }
        });
    } else {
        out.fill(0.0);
        region.each(0, channels, |taps| {
            for (y, &x) in out.iter_mut().zip(taps) {
                *y += x;
            }
        });
        let count = region.count(attrs.kind).max(1) as f32;
        for y in &mut *out {
            *y /= count;
        }
    }
    for y in out {
        *y = clamp(*y, attrs.lo, attrs.hi);
    }
}

fn max_q(attrs: &PoolAttrs, region: &Region<'_, i8>, out: &mut [i8], emit: &mut impl FnMut(f32) -> i8) {
    out.fill(i8::MIN);
    region.each(0, out.len(), |taps| {
        for (y, &x) in out.iter_mut().zip(taps) {
            *y = (*y).max(x);
        }
    });
    for y in out {
        *y = emit((*y as i32).wrapping_sub(attrs.in_zero_point) as f32 * attrs.ratio);
    }
}

fn average_q(attrs: &PoolAttrs, region: &Region<'_, i8>, out: &mut [i8], emit: &mut impl FnMut(f32) -> i8) {
    let factor = attrs.ratio / region.count(attrs.kind).max(1) as f32;
    let mut start = 0usize;
    for block in out.chunks_mut(BLOCK) {
        let (mut sums, mut zeros) = ([[0i32; 4]; BLOCK / 4], 0i32);
        region.each(start, block.len(), |taps| {
            zeros = zeros.wrapping_add(attrs.in_zero_point);
            add(&mut sums, taps);
        });
        for (y, sum) in block.iter_mut().zip(sums.as_flattened()) {
            *y = emit(sum.wrapping_sub(zeros) as f32 * factor);
        }
        start = start.wrapping_add(BLOCK);
    }
}

/// Adds codes to sums, four at a time: compiled for size, half of the loop would be counting.
#[inline(always)]
fn add(sums: &mut [[i32; 4]; BLOCK / 4], codes: &[i8]) {
    let (fours, rest) = arrays::<_, 4>(codes);
    let mut slots = sums.iter_mut();
    // In this order: who ends first must not have taken one from the other.
    for ([w, x, y, z], [a, b, c, d]) in fours.iter().zip(slots.by_ref()) {
        *a = a.wrapping_add(i32::from(*w));
        *b = b.wrapping_add(i32::from(*x));
        *c = c.wrapping_add(i32::from(*y));
        *d = d.wrapping_add(i32::from(*z));
    }
    for (sum, code) in slots.flatten().zip(rest) {
        *sum = sum.wrapping_add(i32::from(*code));
    }
}

/// A batch of images and the windows over them, all ranges proven representable.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    input: [usize; 4],
    output: [usize; 4],
    window: Window,
}

impl Images {
    /// The batch, or `None` when shapes and window disagree.
    pub fn new(input: Shape, output: Shape, window: Window) -> Option<Self> {
        let images = Self { input: input.nhwc()?, output: output.nhwc()?, window };
        let ([n, _, _, c], [on, oh, ow, oc]) = (images.input, images.output);
        let some = window.kernel.iter().chain(&window.stride).chain(&window.dilation).all(|&x| x != 0);
        let reachable = images.taps(0, oh).is_some() && images.taps(1, ow).is_some();
        (n == on && c == oc && some && reachable).then_some(images)
    }

    /// Taps of window `index` along `axis` (0 height, 1 width).
    fn taps(&self, axis: usize, index: usize) -> Option<Taps> {
        let [_, h, w, _] = self.input;
        let extent = if axis == 0 { h } else { w };
        let Window { kernel, stride, dilation, pad } = self.window;
        let kernel = *kernel.get(axis)? as usize;
        let step = (*dilation.get(axis)? as usize).max(1);
        let (before, after) = (*pad.get(axis)? as usize, *pad.get(axis.checked_add(2)?)? as usize);
        let begin = index.checked_mul(*stride.get(axis)? as usize)?;
        let end = before.checked_add(extent)?;
        let first = before.saturating_sub(begin).div_ceil(step);
        let last = end.saturating_sub(begin).div_ceil(step).min(kernel);
        let padded = end.checked_add(after)?.saturating_sub(begin).div_ceil(step).min(kernel);
        let position = begin.checked_add(first.checked_mul(step)?)?.wrapping_sub(before);
        Some(Taps { position, step, count: last.saturating_sub(first), padded })
    }

    /// Calls `pixel` with the taps of each window and the output channels it fills.
    #[inline(always)]
    pub fn pool<T>(&self, input: &[T], out: &mut [T], mut pixel: impl FnMut(&Region<'_, T>, &mut [T])) {
        let ([_, h, w, c], [_, oh, ow, _]) = (self.input, self.output);
        let image = h.wrapping_mul(w).wrapping_mul(c);
        let mut pixels = out.chunks_exact_mut(c.max(1));
        for data in input.chunks_exact(image.max(1)) {
            for rows in (0..oh).filter_map(|y| self.taps(0, y)) {
                for cols in (0..ow).filter_map(|x| self.taps(1, x)) {
                    if let Some(out) = pixels.next() {
                        pixel(&Region { data, width: w, channels: c, rows, cols }, out);
                    }
                }
            }
        }
    }
}

/// The taps of one window along one axis.
#[derive(Clone, Copy, Debug)]
struct Taps {
    /// Input position of the first tap inside the input.
    position: usize,
    step: usize,
    /// Taps inside the input.
    count: usize,
    /// Taps inside the padded input.
    padded: usize,
}

impl Taps {
    fn positions(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |i| self.position.wrapping_add(i.wrapping_mul(self.step)))
    }
}

/// One window over one image.
#[derive(Debug)]
pub struct Region<'a, T> {
    data: &'a [T],
    width: usize,
    channels: usize,
    rows: Taps,
    cols: Taps,
}

impl<T> Region<'_, T> {
    /// Calls `tap` with `len` channels from `start` of every tap inside the input, row by row.
    #[inline(always)]
    pub fn each(&self, start: usize, len: usize, mut tap: impl FnMut(&[T])) {
        for y in self.rows.positions() {
            for x in self.cols.positions() {
                let pixel = y.wrapping_mul(self.width).wrapping_add(x);
                let first = pixel.wrapping_mul(self.channels).wrapping_add(start);
                if let Some(channels) = self.data.get(first..first.wrapping_add(len)) {
                    tap(channels);
                }
            }
        }
    }

    /// The number of taps an average of `kind` divides by.
    pub fn count(&self, kind: u32) -> usize {
        match kind {
            AVERAGE_PADDED => self.rows.padded.wrapping_mul(self.cols.padded),
            _ => self.rows.count.wrapping_mul(self.cols.count),
        }
    }
}

#[cfg(test)]
mod tests;
