//! Gradients of depthwise convolutions, a vector of channels at a time.
//!
//! For one vector of channels, a row of the incoming gradient is copied into a line with room around it, and with
//! zeros between its pixels where the window strides: then every tap of a row of the window is a shift along the
//! line, and no pixel needs a case of its own. A line of the input with its padding serves the gradient of the weight
//! in the same way. The lines of a vector of channels stay in the first-level cache.
//!
//! # Limit
//! A window of `T` taps in `H` rows takes `T` multiply-adds per vector of channels and pixel, each with a load of the line and
//! a quarter of one of the weight, and `H` loads and stores of the gradient: 3×3 taps at one load a cycle take 14
//! cycles and more, of which the products are nine. Measured on one shared Zen 4 core with AVX-512: 19·10⁹ multiply-adds a
//! second for 3×3 over 48×32×32, 22·10⁹ for 5×5 over 14×14×672, 7·10⁹ over 6×4×512, where lines are short.

use core::ops::Range;

use ingraft_kernel::backward::gradient;
use ingraft_kernel::backward::layer::Layer;
use ingraft_kernel::backward::trained::Trained;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, KernelError, SiteGrads};

use super::incoming::bits;
use super::stored::Stored;
use crate::memory::take;
use crate::{Task, Vector};

/// The lines of a layer, in pixels.
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// Of the incoming gradient: the input's width with what windows reach beyond it.
    gradient: usize,
    /// Of the input with its padding, as far as windows reach.
    input: usize,
    /// Of the output.
    output: usize,
    /// From the first tap of a row of the window to the last.
    reach: usize,
    taps: usize,
}

impl Lines {
    fn new(shape: &ConvShape) -> Self {
        let reach = shape.kernel[1].saturating_sub(1) * shape.dilation[1];
        let last = shape.output[2].saturating_sub(1) * shape.stride[1];
        Self {
            gradient: (shape.input[2] + shape.pad[1] + reach).max(last + reach + 1),
            input: last + reach + 1,
            output: shape.output[2],
            reach,
            taps: shape.row(),
        }
    }

    /// Vectors of the workspace: the three lines, weights and their gradients.
    fn vectors(&self) -> usize {
        self.gradient + self.input + self.output + 2 * self.taps
    }
}

/// Bytes of workspace of a layer for vectors of `lanes`.
pub(super) fn workspace(shape: &ConvShape, lanes: usize) -> usize {
    Lines::new(shape).vectors() * lanes * size_of::<f32>()
}

/// Adds every gradient that `call` wants; a sparse delta is one of all taps, of which some are trained.
#[inline(always)]
pub(super) fn run<V: Vector, T: Stored>(
    v: V,
    call: &mut Call<'_, '_>,
    layer: Layer<'_, T>,
) -> Result<(), KernelError> {
    let (error, lines) = (KernelError::Memory(call.op), Lines::new(&layer.shape));
    let terms = Trained::new(call, &layer.shape)?;
    if terms.low_rank.is_some() {
        return Err(KernelError::Terms(call.op));
    }
    if layer.shape.in_group != 1 || layer.shape.out_group != 1 {
        return Err(call.operands());
    }
    let mut grads = core::mem::take(&mut call.grads);
    let mut memory = core::mem::take(&mut call.workspace);
    let mut dx = if call.outputs.is_empty() { None } else { Some(gradient(call)?) };
    let memory: &mut [f32] = take(&mut memory, lines.vectors() * V::LANES).ok_or(error)?;
    let channels = layer.shape.output[3];
    for first in (0..channels).step_by(V::LANES) {
        let count = V::LANES.min(channels - first);
        let dx = dx.as_deref_mut();
        let chunk = Chunk { layer, terms, lines, first, count, memory, grads: &mut grads, dx };
        v.perform(chunk).ok_or(error)?;
    }
    Ok(())
}

/// A vector of channels.
struct Chunk<'a, 'w, 'g, T> {
    layer: Layer<'a, T>,
    terms: Trained<'a>,
    lines: Lines,
    first: usize,
    count: usize,
    memory: &'w mut [f32],
    grads: &'w mut SiteGrads<'g>,
    dx: Option<&'w mut [f32]>,
}

/// What a chunk works on: pointers to whole vectors.
struct Work {
    line: *mut f32,
    x: *mut f32,
    z: *mut f32,
    weight: *mut f32,
    dweight: *mut f32,
}

impl<T: Stored, V: Vector> Task<V> for Chunk<'_, '_, '_, T> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(mut self, v: V) -> Option<()> {
        let (shape, lines) = (self.layer.shape, self.lines);
        let [samples, height, width, channels] = shape.output;
        let pixels = samples * height * width;
        let inputs = shape.input.iter().product::<usize>();
        // A frozen layer keeps no input: only the gradients of its terms read one.
        let reads = self.of_taps() || self.grads.scale.is_some();
        let inside = self.memory.len() >= lines.vectors() * V::LANES
            && self.first + self.count <= channels
            && self.layer.incoming.gradient.len() >= pixels * channels
            && (!reads || self.layer.input.len() >= inputs)
            && self.dx.as_ref().is_none_or(|dx| dx.len() >= inputs);
        if !inside {
            return None;
        }
        self.memory.fill(0.0);
        let memory = self.memory.as_mut_ptr();
        let at = |vectors: usize| memory.wrapping_add(vectors * V::LANES);
        let work = Work {
            line: at(0),
            x: at(lines.gradient),
            z: at(lines.gradient + lines.input),
            weight: at(lines.gradient + lines.input + lines.output),
            dweight: at(lines.gradient + lines.input + lines.output + lines.taps),
        };
        let weights = self.weights(v, &work)?;
        let mut sums = [v.splat(0.0); 2];
        for n in 0..samples {
            for y in 0..height {
                // SAFETY: lengths were compared above; rows and taps lie inside the shape.
                unsafe { self.row(v, &work, (n, y), weights, &mut sums) };
            }
        }
        self.finish(v, &work, sums)
    }
}

/// Constants of the channels, a lane each.
#[derive(Clone, Copy)]
struct Constants<R> {
    /// What the pre-activation value begins with, and what it is multiplied by.
    bias: R,
    affine: Option<R>,
}

impl<T: Stored> Chunk<'_, '_, '_, T> {
    /// Whether the gradients of taps are wanted.
    #[inline(always)]
    fn of_taps(&self) -> bool {
        self.grads.dense.is_some() || self.grads.sparse.is_some()
    }

    /// Writes the real weights, delta included.
    #[inline(always)]
    fn weights<V: Vector>(&mut self, v: V, work: &Work) -> Option<Constants<V::Real>> {
        let channels = self.layer.shape.output[3];
        let (mut bias, mut affine) = ([0.0f32; MOST_LANES], [0.0f32; MOST_LANES]);
        for local in 0..self.count {
            let channel = self.first + local;
            let (scale, mut sum) = (self.layer.weight_scale(channel), 0.0);
            for tap in 0..self.lines.taps {
                let stored: f32 = (*self.layer.weight.get(tap * channels + channel)?).into();
                sum += stored;
                let delta = match self.terms.dense {
                    Some(delta) => *delta.get(tap * channels + channel)?,
                    None => 0.0,
                };
                // SAFETY: a vector for every tap.
                unsafe { *work.weight.add(tap * V::LANES + local) = stored * scale + delta };
            }
            if let Some(sparse) = self.terms.sparse {
                for delta in sparse.deltas(channel)?.filter(|delta| delta.index < self.lines.taps) {
                    // SAFETY: as above.
                    unsafe { *work.weight.add(delta.index * V::LANES + local) += delta.value };
                }
            }
            *bias.get_mut(local)? = self.layer.value(channel, sum * self.layer.zero.into())?;
            if let Some(term) = self.terms.affine {
                *affine.get_mut(local)? = *term.scale.get(channel)?;
            }
        }
        // SAFETY: both arrays hold the longest vector.
        let (bias, affine) = unsafe { (v.load(bias.as_ptr()), v.load(affine.as_ptr())) };
        Some(Constants { bias, affine: self.terms.affine.map(|_| affine) })
    }

    /// Adds the gradients of output row `y` of sample `n`; `sums` are those of shift and scale.
    ///
    /// # Safety
    /// The operands have the lengths of the shape, and the lines those of [`Lines`].
    #[inline(always)]
    unsafe fn row<V: Vector>(
        &mut self,
        v: V,
        work: &Work,
        (n, y): (usize, usize),
        constants: Constants<V::Real>,
        sums: &mut [V::Real; 2],
    ) {
        let (shape, lines) = (self.layer.shape, self.lines);
        let (stride, start) = (shape.stride[1], lines.reach);
        let width = shape.output[2];
        // SAFETY: the caller's contract.
        unsafe {
            for x in 0..width {
                let element = ((n * shape.output[1] + y) * width + x) * shape.output[3] + self.first;
                let mut dz = v.load_some(self.layer.incoming.gradient.as_ptr().add(element), self.count);
                if let Some(mask) = self.layer.incoming.mask {
                    dz = v.keep(dz, bits(mask, element));
                }
                v.store(work.line.add((x * stride + start) * V::LANES), dz);
            }
            if self.grads.shift.is_some() || self.grads.scale.is_some() {
                for x in 0..width {
                    sums[0] = v.add(sums[0], v.load(work.line.add((x * stride + start) * V::LANES)));
                }
            }
            if self.grads.scale.is_some() {
                sums[1] = self.scale_sum(v, work, (n, y), constants.bias, sums[1]);
            }
            if let Some(affine) = constants.affine {
                for x in 0..width {
                    let at = work.line.add((x * stride + start) * V::LANES);
                    v.store(at, v.mul(v.load(at), affine));
                }
            }
            for ky in 0..shape.kernel[0] {
                let Some(line) = self.line(n, y, ky) else { continue };
                let taps = ky * shape.kernel[1];
                if self.of_taps() {
                    self.input_line(v, work, line);
                    self.weight_gradient(v, work, taps);
                }
                self.input_gradient(v, work, taps, line);
            }
        }
    }

    /// The first pixel of the input row under row `ky` of the window, counted over samples; `None` in the padding.
    #[inline(always)]
    fn line(&self, n: usize, y: usize, ky: usize) -> Option<usize> {
        let shape = &self.layer.shape;
        let line = (y * shape.stride[0] + ky * shape.dilation[0]).checked_sub(shape.pad[0])?;
        (line < shape.input[1]).then_some((n * shape.input[1] + line) * shape.input[2])
    }

    /// Dequantizes the input row that begins with pixel `line`, padding as 0.
    ///
    /// # Safety
    /// As [`Self::row`].
    #[inline(always)]
    unsafe fn input_line<V: Vector>(&self, v: V, work: &Work, line: usize) {
        let shape = &self.layer.shape;
        let (zero, scale) = (v.splat(-self.layer.zero.into()), v.splat(self.layer.input_scale()));
        let left = shape.pad[1];
        for place in left..self.lines.input.min(left + shape.input[2]) {
            let element = (line + place - left) * shape.input[3] + self.first;
            // SAFETY: the caller's contract; what lies outside stays 0.
            unsafe {
                let x = T::load_first(v, self.layer.input.as_ptr().add(element), self.count);
                v.store(work.x.add(place * V::LANES), v.mul(v.add(x, zero), scale));
            }
        }
    }

    /// Adds the gradient of a row of the window, whose taps begin at `taps`.
    ///
    /// # Safety
    /// As [`Self::row`].
    #[inline(always)]
    unsafe fn weight_gradient<V: Vector>(&self, v: V, work: &Work, taps: usize) {
        let shape = &self.layer.shape;
        let (stride, width) = (shape.stride[1], shape.output[2]);
        for kx in 0..shape.kernel[1] {
            let shift = kx * shape.dilation[1];
            let mut sums = [v.splat(0.0); 4];
            // SAFETY: the caller's contract.
            unsafe {
                let product = |x: usize, sum: V::Real| {
                    let dz = v.load(work.line.add((x * stride + self.lines.reach) * V::LANES));
                    v.mul_add(dz, v.load(work.x.add((x * stride + shift) * V::LANES)), sum)
                };
                let whole = width - width % 4;
                for x in (0..whole).step_by(4) {
                    sums = [
                        product(x, sums[0]),
                        product(x + 1, sums[1]),
                        product(x + 2, sums[2]),
                        product(x + 3, sums[3]),
                    ];
                }
                for x in whole..width {
                    sums[0] = product(x, sums[0]);
                }
                let sum = v.add(v.add(sums[0], sums[1]), v.add(sums[2], sums[3]));
                let to = work.dweight.add((taps + kx) * V::LANES);
                v.store(to, v.add(v.load(to), sum));
            }
        }
    }

    /// Adds the gradient of the input row that begins with pixel `line`, through the row of the window whose taps begin
    /// at `taps`.
    ///
    /// # Safety
    /// As [`Self::row`].
    #[inline(always)]
    unsafe fn input_gradient<V: Vector>(&mut self, v: V, work: &Work, taps: usize, line: usize) {
        let (shape, count) = (self.layer.shape, self.count);
        let Some(dx) = self.dx.as_deref_mut() else { return };
        let (width, channels) = (shape.input[2], shape.input[3]);
        // SAFETY: the caller's contract.
        unsafe {
            let dx = dx.as_mut_ptr().add(line * channels + self.first);
            let mut x = 0;
            while x + RUN <= width {
                let mut sums = [v.splat(0.0); RUN];
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = v.load_some(dx.add((x + i) * channels), count);
                }
                for kx in 0..shape.kernel[1] {
                    let weight = v.load(work.weight.add((taps + kx) * V::LANES));
                    let at = x + shape.pad[1] + self.lines.reach - kx * shape.dilation[1];
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = v.mul_add(v.load(work.line.add((at + i) * V::LANES)), weight, *sum);
                    }
                }
                for (i, sum) in sums.iter().enumerate() {
                    v.store_some(dx.add((x + i) * channels), *sum, count);
                }
                x += RUN;
            }
            for x in x..width {
                let to = dx.add(x * channels);
                let mut sum = v.load_some(to, count);
                for kx in 0..shape.kernel[1] {
                    let weight = v.load(work.weight.add((taps + kx) * V::LANES));
                    let at = x + shape.pad[1] + self.lines.reach - kx * shape.dilation[1];
                    sum = v.mul_add(v.load(work.line.add(at * V::LANES)), weight, sum);
                }
                v.store_some(to, sum, count);
            }
        }
    }

    /// `sum` and the incoming gradient times the recomputed values before the affine term, of one row.
    ///
    /// # Safety
    /// As [`Self::row`].
    #[inline(always)]
    unsafe fn scale_sum<V: Vector>(
        &self,
        v: V,
        work: &Work,
        (n, y): (usize, usize),
        bias: V::Real,
        mut sum: V::Real,
    ) -> V::Real {
        let shape = &self.layer.shape;
        let (stride, width) = (shape.stride[1], shape.output[2]);
        // SAFETY: the caller's contract.
        unsafe {
            for x in 0..width {
                v.store(work.z.add(x * V::LANES), bias);
            }
            for ky in 0..shape.kernel[0] {
                let Some(line) = self.line(n, y, ky) else { continue };
                self.input_line(v, work, line);
                for x in 0..width {
                    let z = work.z.add(x * V::LANES);
                    let mut value = v.load(z);
                    for kx in 0..shape.kernel[1] {
                        let weight = v.load(work.weight.add((ky * shape.kernel[1] + kx) * V::LANES));
                        let at = x * stride + kx * shape.dilation[1];
                        value = v.mul_add(weight, v.load(work.x.add(at * V::LANES)), value);
                    }
                    v.store(z, value);
                }
            }
            for x in 0..width {
                let dv = v.load(work.line.add((x * stride + self.lines.reach) * V::LANES));
                sum = v.mul_add(dv, v.load(work.z.add(x * V::LANES)), sum);
            }
        }
        sum
    }

    /// Adds the sums to the gradients.
    #[inline(always)]
    fn finish<V: Vector>(self, v: V, work: &Work, [shift, scale]: [V::Real; 2]) -> Option<()> {
        let (channels, count) = (self.layer.shape.output[3], self.count);
        if let Some(gradient) = &mut self.grads.shift {
            add(v, gradient, self.first..self.first + count, shift)?;
        }
        if let Some(gradient) = &mut self.grads.scale {
            add(v, gradient, self.first..self.first + count, scale)?;
        }
        if let Some(gradient) = &mut self.grads.dense {
            for tap in 0..self.lines.taps {
                // SAFETY: a vector for every tap.
                let sum = unsafe { v.load(work.dweight.add(tap * V::LANES)) };
                let first = tap * channels + self.first;
                add(v, gradient, first..first + count, sum)?;
            }
        }
        if let (Some(gradient), Some(sparse)) = (&mut self.grads.sparse, self.terms.sparse) {
            for local in 0..count {
                for delta in sparse.deltas(self.first + local)?.filter(|delta| delta.index < self.lines.taps)
                {
                    // SAFETY: a vector for every tap.
                    *gradient.get_mut(delta.at)? +=
                        unsafe { *work.dweight.add(delta.index * V::LANES + local) };
                }
            }
        }
        Some(())
    }
}

/// Adds the first lanes to part of a gradient. No closure: those are not compiled for the instruction set.
#[inline(always)]
fn add<V: Vector>(v: V, gradient: &mut [f32], at: Range<usize>, sum: V::Real) -> Option<()> {
    let part = gradient.get_mut(at)?;
    let (to, count) = (part.as_mut_ptr(), part.len().min(V::LANES));
    // SAFETY: the slice has `count` values.
    unsafe { v.store_some(to, v.add(v.load_some(to, count), sum), count) };
    Some(())
}

/// Pixels whose sums are in registers together.
const RUN: usize = 4;

/// Lanes of the longest vector.
const MOST_LANES: usize = 16;
