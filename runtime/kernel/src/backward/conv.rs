//! Gradient of a convolution or linear layer and of the terms at its site.
//!
//! The forward step is `y = clip(scale ⊙ z + shift)` with
//! `z = W·x + bias + up·(down·x) + Δ·x` per output pixel and group, Δ the sum of
//! a sparse and a dense delta. With
//! `dv = dy·mask` and `dz = dv ⊙ scale`:
//!
//! | gradient | per output pixel |
//! | --- | --- |
//! | input | `Wᵀdz + downᵀ(upᵀdz) + Δᵀdz` |
//! | down, up | `(upᵀdz)·xᵀ`, `dz·(down·x)ᵀ` |
//! | sparse values | `dz·x` at their positions |
//! | scale, shift | `dv ⊙ z`, `dv` |
//! | weight, dense delta | `dz·xᵀ` |
//!
//! `x` is the dequantized input, real zero in the padding; int8 weights are
//! dequantized on the fly with their scale per channel.

use ingraft_tensor::bytes::cast_mut;

use super::layer::{Layer, check_dynamic, check_quantized, check_real};
use super::rows::{Code, add, add_outer, add_rows, dot, rows};
use super::trained::Trained;
use super::{F32, gradient};
use crate::terms::MAX_TERM_RANK;
use crate::window::{ConvShape, Pixel, row, row_mut};
use crate::{Call, Kernel, KernelError, OpCode, SiteGrads};

/// Through an f32 layer.
///
/// # Shapes
/// Inputs `dy` `[N, OH, OW, O]`, optionally its mask, `x` `[N, H, W, C]`, `weight`
/// `[O, kh, kw, C/groups]`, `bias` `[O]`; output, if the input's gradient is
/// wanted, `[N, H, W, C]`.
///
/// # Numerics
/// f32 sums in the order of output pixels; agrees between targets within a bound.
///
/// # Errors
/// [`KernelError::Terms`] for terms with integer parameters.
pub const KERNEL: Kernel =
    Kernel::new("conv_backward_f32_f32_f32__scalar", OpCode::ConvBackward, F32, None, run)
        .checked(|step| check_real(step).map(|_| ()))
        .with_workspace(|step| check_real(step).map_or(0, |shape| Work::<f32>::bytes(&shape)));

/// Through an int8 layer.
///
/// # Shapes
/// As [`KERNEL`], with x and weight int8, bias i32, and a fifth forward operand,
/// the f32 multiplier `[O]`.
///
/// # Numerics
/// As [`KERNEL`]. The pre-affine value z is recomputed, only when the gradient
/// of the scale is wanted, from the forward step's exact integer sum.
///
/// # Errors
/// As [`KERNEL`].
pub const KERNEL_Q: Kernel =
    Kernel::new("conv_backward_f32_qc8w_f32__scalar", OpCode::ConvBackward, F32, None, run_quantized)
        .checked(|step| check_quantized(step).map(|_| ()))
        .with_workspace(|step| check_quantized(step).map_or(0, |shape| Work::<i8>::bytes(&shape)));

/// Through an int8 layer on codes whose parameters were found at run time.
///
/// # Shapes
/// Inputs `dy`, optionally its mask, then the seven operands of [`crate::qconv::KERNEL_DYNAMIC`]; outputs as [`KERNEL`].
///
/// # Numerics
/// As [`KERNEL`]. Scale and zero point count as constants.
///
/// # Errors
/// As [`KERNEL`].
pub const KERNEL_DYNAMIC: Kernel =
    Kernel::new("conv_backward_f32_qd8_qc8w_f32__scalar", OpCode::ConvBackward, F32, None, run_dynamic)
        .checked(|step| check_dynamic(step).map(|_| ()))
        .with_workspace(|step| check_dynamic(step).map_or(0, |shape| Work::<i8>::bytes(&shape)));

/// [`KERNEL`], for a target to compile with its own instructions.
///
/// # Errors
/// As [`KERNEL`].
#[inline(always)]
pub fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    backward(call, Layer::real(call)?)
}

/// [`KERNEL_Q`], for a target to compile with its own instructions.
///
/// # Errors
/// As [`KERNEL`].
#[inline(always)]
pub fn run_quantized(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    backward(call, Layer::quantized(call)?)
}

fn run_dynamic(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    backward(call, Layer::dynamic(call)?)
}

#[inline(always)]
fn backward<T: Code>(call: &mut Call<'_, '_>, layer: Layer<'_, T>) -> Result<(), KernelError> {
    let error = call.operands();
    let site = Site { layer, terms: Trained::new(call, &layer.shape)? };
    let grads = core::mem::take(&mut call.grads);
    let workspace = core::mem::take(&mut call.workspace);
    let dx = if call.outputs.is_empty() { None } else { Some(gradient(call)?) };
    let mut work = Work::new(workspace, &layer.shape, grads, dx).ok_or(error)?;
    site.backward_all(&mut work).ok_or(error)
}

/// Everything that is only read.
struct Site<'a, T> {
    layer: Layer<'a, T>,
    terms: Trained<'a>,
}

/// Everything that is written, reused for each group of each output pixel.
struct Work<'w, T> {
    grads: SiteGrads<'w>,
    /// Gradient of the layer's input.
    dx: Option<&'w mut [f32]>,
    /// Gradient of the group's output channels, `[out/groups]`.
    dz: &'w mut [f32],
    /// The dequantized patch, `[row]`.
    x: &'w mut [f32],
    /// The stored patch, `[row]`; empty where it lies contiguous in the input.
    stored: &'w mut [T],
    /// Gradient of the patch, `[row]`; empty where the patch lies contiguous in the input.
    dpatch: &'w mut [f32],
    /// `down·x`.
    t: [f32; MAX_TERM_RANK],
    /// `upᵀdz`.
    dt: [f32; MAX_TERM_RANK],
}

impl<'w, T: Code> Work<'w, T> {
    fn new(
        workspace: &'w mut [u8],
        shape: &ConvShape,
        grads: SiteGrads<'w>,
        dx: Option<&'w mut [f32]>,
    ) -> Option<Self> {
        let gathered = Self::gathered(shape);
        let (floats, rest) = workspace.split_at_mut_checked(Self::floats(shape).wrapping_mul(4))?;
        let (dz, floats) = cast_mut(floats)?.split_at_mut_checked(shape.out_group)?;
        let (x, dpatch) = floats.split_at_mut_checked(shape.row())?;
        let stored = cast_mut(rest.get_mut(..gathered.wrapping_mul(size_of::<T>()))?)?;
        let (t, dt) = ([0.0; MAX_TERM_RANK], [0.0; MAX_TERM_RANK]);
        Some(Self { grads, dx, dz, x, stored, dpatch, t, dt })
    }

    fn bytes(shape: &ConvShape) -> usize {
        let stored = Self::gathered(shape).wrapping_mul(size_of::<T>());
        Self::floats(shape).wrapping_mul(4).wrapping_add(stored)
    }

    fn floats(shape: &ConvShape) -> usize {
        shape.out_group.wrapping_add(shape.row()).wrapping_add(Self::gathered(shape))
    }

    /// Elements of a patch that has to be gathered and scattered.
    fn gathered(shape: &ConvShape) -> usize {
        if shape.is_pointwise() { 0 } else { shape.row() }
    }
}

impl<T: Code> Site<'_, T> {
    /// Adds the gradients of every output pixel. Plain loops: a closure handed
    /// on would not be compiled with the instructions of the calling target.
    #[inline(always)]
    fn backward_all(&self, work: &mut Work<'_, T>) -> Option<()> {
        let [samples, height, width, _] = self.layer.shape.output;
        let mut index = 0usize;
        for n in 0..samples {
            for y in 0..height {
                for x in 0..width {
                    for group in 0..self.layer.shape.groups {
                        self.backward(work, index, Pixel { n, y, x }, group)?;
                    }
                    index = index.wrapping_add(1);
                }
            }
        }
        Some(())
    }

    /// Adds the gradients of `group` of output pixel `index`; `None` for operands out of range.
    #[inline(always)]
    fn backward(&self, work: &mut Work<'_, T>, index: usize, pixel: Pixel, group: usize) -> Option<()> {
        let shape = &self.layer.shape;
        let first = group.wrapping_mul(shape.out_group);
        let start = index.wrapping_mul(shape.output[3]).wrapping_add(first);
        if !self.layer.incoming.read(start, work.dz)? {
            return Some(());
        }
        let SiteGrads { down, up, sparse, scale, dense, .. } = &work.grads;
        if [down, up, sparse, scale, dense].iter().any(|grad| grad.is_some()) {
            self.recompute(work, pixel, group)?;
        }
        if let Some(shift) = &mut work.grads.shift {
            add(shift.get_mut(first..)?, work.dz);
        }
        if let Some(affine) = self.terms.affine {
            work.dz.iter_mut().zip(affine.scale.get(first..)?).for_each(|(dz, scale)| *dz *= scale);
        }
        if let Some(term) = self.terms.low_rank {
            let dt = work.dt.get_mut(..term.rank)?;
            dt.fill(0.0);
            add_rows(dt, work.dz.iter().copied().zip(rows(term.up(shape, group)?, term.rank)));
        }
        self.parameters(work, group)?;
        self.input(work, pixel, group)
    }

    /// What the forward step saw: the dequantized patch and `down·x`; from them the gradient of the scale.
    #[inline(always)]
    fn recompute(&self, work: &mut Work<'_, T>, pixel: Pixel, group: usize) -> Option<()> {
        let shape = &self.layer.shape;
        let Work { grads, dz, x, stored, t, .. } = work;
        let stored = shape.patch(self.layer.input, self.layer.zero, pixel, group, stored)?;
        self.layer.dequantize(stored, x);
        if let Some(term) = self.terms.low_rank {
            let down = rows(term.down(shape, group)?, shape.row());
            t.iter_mut().zip(down).for_each(|(t, a)| *t = dot(a, x));
        }
        if let Some(scale) = &mut grads.scale {
            let first = group.wrapping_mul(shape.out_group);
            let channels = scale.get_mut(first..)?.iter_mut().zip(dz.iter());
            for (channel, (scale, dv)) in (first..).zip(channels).filter(|(_, (_, dv))| **dv != 0.0) {
                *scale += dv * self.pre_affine(channel, stored, x, t)?;
            }
        }
        Some(())
    }

    /// z of `channel`.
    #[inline(always)]
    fn pre_affine(&self, channel: usize, stored: &[T], x: &[f32], t: &[f32]) -> Option<f32> {
        let mut z =
            self.layer.value(channel, T::dot(row(self.layer.weight, channel, stored.len())?, stored))?;
        if let Some(term) = self.terms.low_rank {
            z += dot(term.up_row(channel)?, t.get(..term.rank)?);
        }
        if let Some(sparse) = self.terms.sparse {
            for delta in sparse.deltas(channel)? {
                z += delta.value * x.get(delta.index)?;
            }
        }
        if let Some(delta) = self.terms.dense {
            z += dot(row(delta, channel, x.len())?, x);
        }
        Some(z)
    }

    /// Gradients of factors, sparse values and the weight.
    #[inline(always)]
    fn parameters(&self, work: &mut Work<'_, T>, group: usize) -> Option<()> {
        let shape = &self.layer.shape;
        let Work { grads, dz, x, t, dt, .. } = work;
        if let Some(term) = self.terms.low_rank {
            if let Some(down) = &mut grads.down {
                add_outer(row_mut(down, group, term.rank.wrapping_mul(x.len()))?, dt.get(..term.rank)?, x);
            }
            if let Some(up) = &mut grads.up {
                add_outer(row_mut(up, group, term.rank.wrapping_mul(dz.len()))?, dz, t.get(..term.rank)?);
            }
        }
        if let (Some(sparse), Some(values)) = (self.terms.sparse, &mut grads.sparse) {
            let first = group.wrapping_mul(shape.out_group);
            for (channel, dz) in (first..).zip(dz.iter()).filter(|(_, dz)| **dz != 0.0) {
                for delta in sparse.deltas(channel)? {
                    *values.get_mut(delta.at)? += dz * x.get(delta.index)?;
                }
            }
        }
        if let Some(dense) = &mut grads.dense {
            add_outer(row_mut(dense, group, dz.len().wrapping_mul(x.len()))?, dz, x);
        }
        Some(())
    }

    /// Gradient of the input, where it is wanted.
    #[inline(always)]
    fn input(&self, work: &mut Work<'_, T>, pixel: Pixel, group: usize) -> Option<()> {
        let shape = &self.layer.shape;
        let Work { dx, dz, dpatch, dt, .. } = work;
        let Some(dx) = dx else { return Some(()) };
        if shape.is_pointwise() {
            let patch = row_mut(dx, shape.tap(pixel, 0, 0)?, shape.row())?;
            return self.patch(patch, dz, dt, group);
        }
        dpatch.fill(0.0);
        self.patch(dpatch, dz, dt, group)?;
        scatter(shape, dpatch, pixel, group, dx)
    }

    /// Adds `Wᵀdz + downᵀdt + Δᵀdz` to the gradient of a patch.
    #[inline(always)]
    fn patch(&self, patch: &mut [f32], dz: &[f32], dt: &[f32], group: usize) -> Option<()> {
        let shape = &self.layer.shape;
        let first = group.wrapping_mul(shape.out_group);
        let weight = row(self.layer.weight, group, shape.out_group.wrapping_mul(shape.row()))?;
        let factors = (first..).zip(dz).map(|(channel, dz)| dz * self.layer.weight_scale(channel));
        add_rows(patch, factors.zip(rows(weight, shape.row())));
        if let Some(delta) = self.terms.dense {
            let delta = row(delta, group, shape.out_group.wrapping_mul(shape.row()))?;
            add_rows(patch, dz.iter().copied().zip(rows(delta, shape.row())));
        }
        if let Some(term) = self.terms.low_rank {
            add_rows(patch, dt.iter().copied().zip(rows(term.down(shape, group)?, shape.row())));
        }
        if let Some(sparse) = self.terms.sparse {
            for (channel, dz) in (first..).zip(dz).filter(|(_, dz)| **dz != 0.0) {
                for delta in sparse.deltas(channel)? {
                    *patch.get_mut(delta.index)? += dz * delta.value;
                }
            }
        }
        Some(())
    }
}

/// Adds the gradient of a patch to the input elements it was gathered from; `None` past the end of either.
#[inline(always)]
pub fn scatter(shape: &ConvShape, patch: &[f32], pixel: Pixel, group: usize, dx: &mut [f32]) -> Option<()> {
    let mut taps = rows(patch, shape.in_group);
    for ky in 0..shape.kernel[0] {
        for kx in 0..shape.kernel[1] {
            let tap = taps.next()?;
            let Some(at) = shape.tap(pixel, ky, kx) else { continue };
            let start = at.wrapping_mul(shape.input[3]).wrapping_add(group.wrapping_mul(shape.in_group));
            add(dx.get_mut(start..)?.get_mut(..shape.in_group)?, tap);
        }
    }
    Some(())
}
