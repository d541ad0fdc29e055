//! Classifier heads: pooled features of any tensor, then a linear layer.
//!
//! A head reads a channels-last tensor, averages it over the axes in `pool`
//! (1 height, 2 width) and keeps the rest as features, so a spectrogram can be
//! pooled over time with frequency kept.

use ingraft_tensor::{DType, Shape, View};

use crate::attrs::HeadAttrs;
use crate::{Call, Kernel, KernelError, OpCode, Step};

/// Logits of a head: operands tensor, weight `[classes, features]`, bias `[classes]`; output f32 `[N, classes]`.
pub const KERNEL: Kernel =
    Kernel::new("head__scalar", OpCode::Head, None, Some(DType::F32), run).checked(check);

/// Average over height.
pub const POOL_HEIGHT: u32 = 1;
/// Average over width.
pub const POOL_WIDTH: u32 = 2;

/// Number of features of a tensor `[N, H, W, C]` pooled over the axes in `pool`.
pub fn feature_count(dims: [usize; 4], pool: u32) -> usize {
    let [_, h, w, c] = dims;
    let h = if pool & POOL_HEIGHT != 0 { 1 } else { h };
    let w = if pool & POOL_WIDTH != 0 { 1 } else { w };
    h.wrapping_mul(w).wrapping_mul(c)
}

/// The extents of a tensor as a head sees it: `[N, H, W, C]`, where the outermost
/// extent counts samples whatever the rank; `None` above rank 4.
pub fn sample_dims(shape: Shape) -> Option<[usize; 4]> {
    Some(
        match *shape.dims() {
            [n, h, w, c] => [n, h, w, c],
            [n, w, c] => [n, 1, w, c],
            [n, c] => [n, 1, 1, c],
            [n] => [n, 1, 1, 1],
            [] => [1; 4],
            _ => return None,
        }
        .map(|d| d as usize),
    )
}

/// A tensor seen as features.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    attrs: &'a HeadAttrs,
    dims: [usize; 4],
    input: View<'a>,
}

impl<'a> Features<'a> {
    /// The features of `input`, or `None` for a rank above 4 or an element type that is not int8 or f32.
    pub fn new(attrs: &'a HeadAttrs, input: View<'a>) -> Option<Self> {
        let known = matches!(input.dtype(), DType::I8 | DType::F32);
        known.then_some(Self { attrs, dims: sample_dims(input.shape())?, input })
    }

    /// Number of features per sample.
    pub fn count(&self) -> usize {
        feature_count(self.dims, self.attrs.pool)
    }

    /// Calls `visit(feature, value)` for every feature of sample `n`.
    ///
    /// # Numerics
    /// int8 codes are summed exactly, then scaled once; f32 values are summed in
    /// height-major order.
    pub fn for_each(&self, n: usize, mut visit: impl FnMut(usize, f32)) -> Option<()> {
        let [_, h, w, c] = self.dims;
        let kept =
            |axis: u32, extent: usize| if self.attrs.pool & axis != 0 { (1, extent) } else { (extent, 1) };
        let ((keep_h, pool_h), (keep_w, pool_w)) = (kept(POOL_HEIGHT, h), kept(POOL_WIDTH, w));
        let count = pool_h.wrapping_mul(pool_w) as f32;
        let mut feature = 0usize;
        for y in 0..keep_h {
            for x in 0..keep_w {
                for channel in 0..c {
                    let at = |py: usize, px: usize| {
                        let row = n.wrapping_mul(h).wrapping_add(y).wrapping_add(py);
                        row.wrapping_mul(w)
                            .wrapping_add(x)
                            .wrapping_add(px)
                            .wrapping_mul(c)
                            .wrapping_add(channel)
                    };
                    visit(feature, self.sum(pool_h, pool_w, at)? / count);
                    feature = feature.wrapping_add(1);
                }
            }
        }
        Some(())
    }

    #[inline(always)]
    fn sum(&self, pool_h: usize, pool_w: usize, at: impl Fn(usize, usize) -> usize) -> Option<f32> {
        let taps = || (0..pool_h).flat_map(|y| (0..pool_w).map(move |x| (y, x)));
        if let Some(codes) = self.input.as_slice::<i8>() {
            let mut sum = 0i32;
            for (y, x) in taps() {
                let code = i32::from(*codes.get(at(y, x))?);
                sum = sum.wrapping_add(code.wrapping_sub(self.attrs.zero_point));
            }
            return Some(sum as f32 * self.attrs.scale);
        }
        let values = self.input.as_slice::<f32>()?;
        let mut sum = 0.0f32;
        for (y, x) in taps() {
            sum += values.get(at(y, x))?;
        }
        Some(sum)
    }
}

fn dims_of(shape: Shape) -> Option<(usize, usize)> {
    match *shape.dims() {
        [n, features] => Some((n as usize, features as usize)),
        _ => None,
    }
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let fits = || {
        let attrs: &HeadAttrs = step.attrs().ok()?;
        let dims = sample_dims(step.input(0).ok()?.shape)?;
        let (n, classes) = dims_of(step.output(0).ok()?.shape)?;
        let weight = feature_count(dims, attrs.pool).checked_mul(classes)?;
        let sizes = n == dims[0]
            && step.input(1).ok()?.shape.elements() == weight
            && step.input(2).ok()?.shape.elements() == classes;
        let types = step.input_dtype(1) == Some(DType::F32) && step.input_dtype(2) == Some(DType::F32);
        (sizes && types && readable(step)).then_some(())
    };
    fits().ok_or(KernelError::Operands(step.op))
}

fn readable(step: &Step<'_>) -> bool {
    matches!(step.input_dtype(0), Some(DType::I8 | DType::F32))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let features = Features::new(call.attrs()?, call.input(0)?).ok_or(error)?;
    let (weight, bias): (&[f32], &[f32]) = (call.slice(1)?, call.slice(2)?);
    let (count, classes) = (features.count(), bias.len());
    let out: &mut [f32] = call.slice_mut(0)?;
    for n in 0..features.dims[0] {
        let logits = crate::window::row_mut(out, n, classes).ok_or(error)?;
        logits.iter_mut().zip(bias).for_each(|(y, b)| *y = *b);
        features
            .for_each(n, |feature, value| {
                let column = weight.get(feature..).unwrap_or(&[]).iter().step_by(count.max(1));
                for (y, w) in logits.iter_mut().zip(column) {
                    *y += w * value;
                }
            })
            .ok_or(error)?;
    }
    Ok(())
}
