//! Gradients of convolutions and linear layers as matrix products.
//!
//! Some output pixels at a time: their incoming gradients and their patches, dequantized, become two matrices of
//! f32, `dz` and `x`, and every gradient a product of them with the weight, the factors or each other
//! ([`ingraft_kernel::backward::conv`] has the equations). Where the patch of a pixel is a run of the input, products go
//! into its gradient directly; elsewhere they are added to it tap by tap.
//!
//! # Limit
//! `P` pixels, rows of `K`, `N` channels: `P·K·N` multiply-adds each for the gradient of the input and of a whole
//! weight, `P·r·(K + N)` for each of the four products of a rank `r`. A dense gradient of `N·K` is read and
//! written once per [`MOST`] pixels.

use ingraft_kernel::backward::conv::scatter;
use ingraft_kernel::backward::gradient;
use ingraft_kernel::backward::layer::Layer;
use ingraft_kernel::backward::trained::{LowRank, SparseRows, Trained};
use ingraft_kernel::window::{ConvShape, row, row_mut};
use ingraft_kernel::{Call, KernelError, SiteGrads};
use ingraft_tensor::arrays::arrays;

use super::incoming::Read;
use super::product::{Dots, Left, Outer, Output, Right};
use super::sparse::{Entries, OfInput, OfValues};
use super::stored::Stored;
use crate::Vector;
use crate::memory::take;

/// Most pixels of a block: whole tiles of six.
pub(super) const MOST: usize = 48;

/// Elements of a block's patches: half of a second-level cache of 512 KiB.
const PATCHES: usize = 1 << 16;

/// Values in rank space per pixel of a block; of a greater rank, blocks have fewer pixels.
const RANK: usize = 32;

/// Floats between the ends of one row and the start of the next: rows of a power of two would meet in one cache set.
const GAP: usize = 16;

/// The sizes of a layer's blocks.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Pixels.
    most: usize,
    /// Pitch of the patches, and of the incoming gradient.
    x: usize,
    dz: usize,
    /// Whether patches are runs of the input.
    in_place: bool,
}

impl Plan {
    fn new(shape: &ConvShape) -> Self {
        let pitch = |len: usize| len.next_multiple_of(16) + GAP;
        let (x, dz) = (pitch(shape.row()), pitch(shape.out_group));
        let most = (PATCHES / x / 6 * 6).clamp(6, MOST);
        let in_place = shape.kernel == [1, 1]
            && shape.stride == [1, 1]
            && shape.pad == [0, 0]
            && shape.input[1..3] == shape.output[1..3];
        Self { most, x, dz, in_place }
    }

    /// Elements of the workspace.
    fn elements(&self) -> usize {
        let patches = if self.in_place { 1 } else { 2 };
        self.most * (self.x * patches + self.dz + 2 * RANK)
    }
}

/// Bytes of workspace of a layer.
pub(super) fn workspace(shape: &ConvShape) -> usize {
    Plan::new(shape).elements() * size_of::<f32>()
}

/// Adds every gradient that `call` wants.
#[inline(always)]
pub(super) fn run<V: Vector, T: Stored>(
    v: V,
    call: &mut Call<'_, '_>,
    layer: Layer<'_, T>,
) -> Result<(), KernelError> {
    let (error, plan) = (KernelError::Memory(call.op), Plan::new(&layer.shape));
    let terms = Trained::new(call, &layer.shape)?;
    let grads = core::mem::take(&mut call.grads);
    let mut memory = core::mem::take(&mut call.workspace);
    let overwrite = call.accumulate & 1 == 0;
    let dx = match call.outputs.first() {
        None => None,
        Some(_) if plan.in_place => Some(call.slice_mut(0)?),
        Some(_) => Some(gradient(call)?),
    };
    let mut floats = |count: usize| take(&mut memory, count).ok_or(error);
    let mut work = Work {
        dz: floats(plan.most * plan.dz)?,
        x: floats(plan.most * plan.x)?,
        dpatch: floats(if plan.in_place { 0 } else { plan.most * plan.x })?,
        t: floats(plan.most * RANK)?,
        dt: floats(plan.most * RANK)?,
        grads,
        dx,
        overwrite,
    };
    Site { v, layer, terms, plan }.all(&mut work).ok_or(error)
}

/// What is only read.
struct Site<'a, V, T> {
    v: V,
    layer: Layer<'a, T>,
    terms: Trained<'a>,
    plan: Plan,
}

/// What is written, for one block of pixels and one group at a time.
struct Work<'w> {
    /// The gradient of the pre-activation values, `[pixels, out/groups]`.
    dz: &'w mut [f32],
    /// The patches, `[pixels, row]`; for a sparse delta afterwards their columns, or those of their gradients.
    x: &'w mut [f32],
    /// Their gradients, where patches are no runs of the input.
    dpatch: &'w mut [f32],
    /// `x·downᵀ` and `dz·up`, `[pixels, rank]`.
    t: &'w mut [f32],
    dt: &'w mut [f32],
    grads: SiteGrads<'w>,
    dx: Option<&'w mut [f32]>,
    /// Whether what `dx` holds is of no interest.
    overwrite: bool,
}

/// Some pixels of one group.
#[derive(Clone, Copy, Debug)]
struct Block {
    group: usize,
    /// First pixel, counted over the whole output, and pixels.
    first: usize,
    count: usize,
}

impl<V: Vector, T: Stored> Site<'_, V, T> {
    #[inline(always)]
    fn all(&self, work: &mut Work<'_>) -> Option<()> {
        let [samples, height, width, _] = self.layer.shape.output;
        let pixels = samples * height * width;
        let rank = self.terms.low_rank.map_or(0, |term| term.rank);
        let most = if rank > RANK { (self.plan.most * RANK / rank).max(1) } else { self.plan.most };
        for group in 0..self.layer.shape.groups {
            for first in (0..pixels).step_by(most) {
                self.block(work, Block { group, first, count: most.min(pixels - first) })?;
            }
        }
        Some(())
    }

    #[inline(always)]
    fn block(&self, work: &mut Work<'_>, block: Block) -> Option<()> {
        let shape = &self.layer.shape;
        let channels = block.group * shape.out_group..(block.group + 1) * shape.out_group;
        self.v.perform(Read {
            incoming: self.layer.incoming,
            first: block.first * shape.output[3] + channels.start,
            stride: shape.output[3],
            len: shape.out_group,
            rows: block.count,
            out: work.dz,
            pitch: self.plan.dz,
        })?;
        let SiteGrads { down, up, scale, dense, .. } = &work.grads;
        if [down, up, scale, dense].iter().any(|grad| grad.is_some()) {
            self.patches(work.x, block)?;
            self.latent(work, block)?;
        }
        let dz = || work.dz.chunks_exact(self.plan.dz).take(block.count);
        if let Some(shift) = &mut work.grads.shift {
            let shift = shift.get_mut(channels.clone())?;
            dz().for_each(|dz| shift.iter_mut().zip(dz).for_each(|(s, dz)| *s += dz));
        }
        self.scale(work, block)?;
        if let Some(affine) = self.terms.affine {
            let scale = affine.scale.get(channels)?;
            for dz in work.dz.chunks_exact_mut(self.plan.dz).take(block.count) {
                dz.iter_mut().zip(scale).for_each(|(dz, scale)| *dz *= scale);
            }
        }
        self.parameters(work, block)?;
        self.input(work, block)
    }

    /// The dequantized patches of a block, `[row, pixels]`.
    #[inline(always)]
    fn columns(&self, columns: &mut [f32], block: Block) -> Option<()> {
        let (shape, layer, pixels) = (&self.layer.shape, &self.layer, block.count);
        let channels = shape.input[3];
        let own = block.group * shape.in_group;
        for (pixel, index) in (block.first..).enumerate().take(pixels) {
            let at = shape.pixel(index)?;
            let mut first = pixel;
            for ky in 0..shape.kernel[0] {
                for kx in 0..shape.kernel[1] {
                    let column = columns.get_mut(first..)?.iter_mut().step_by(pixels).take(shape.in_group);
                    match shape.tap(at, ky, kx) {
                        Some(at) => {
                            let stored = layer.input.get(at * channels + own..)?.get(..shape.in_group)?;
                            column.zip(stored).for_each(|(x, stored)| *x = layer.dequantized(*stored));
                        }
                        None => column.for_each(|x| *x = 0.0),
                    }
                    first += shape.in_group * pixels;
                }
            }
        }
        Some(())
    }

    /// The dequantized patches of a block.
    #[inline(always)]
    fn patches(&self, x: &mut [f32], block: Block) -> Option<()> {
        let (shape, layer) = (&self.layer.shape, &self.layer);
        let channels = shape.input[3];
        let own = block.group * shape.in_group;
        for (index, x) in (block.first..).zip(x.chunks_exact_mut(self.plan.x)).take(block.count) {
            let x = x.get_mut(..shape.row())?;
            if self.plan.in_place {
                let stored = layer.input.get(index * channels + own..)?.get(..shape.in_group)?;
                layer.dequantize(stored, x);
                continue;
            }
            let pixel = shape.pixel(index)?;
            let mut taps = x.chunks_exact_mut(shape.in_group.max(1));
            for ky in 0..shape.kernel[0] {
                for kx in 0..shape.kernel[1] {
                    let x = taps.next()?;
                    match shape.tap(pixel, ky, kx) {
                        Some(at) => {
                            let stored = layer.input.get(at * channels + own..)?.get(..shape.in_group)?;
                            layer.dequantize(stored, x);
                        }
                        None => x.fill(0.0),
                    }
                }
            }
        }
        Some(())
    }

    /// `x·downᵀ`, for the gradients that need it.
    #[inline(always)]
    fn latent(&self, work: &mut Work<'_>, block: Block) -> Option<()> {
        let Some(term) = self.terms.low_rank else { return Some(()) };
        if work.grads.up.is_none() && work.grads.scale.is_none() {
            return Some(());
        }
        let (shape, Block { group, count, .. }) = (&self.layer.shape, block);
        self.v.perform(Dots {
            left: Right { values: work.x, stride: self.plan.x },
            right: Right { values: term.down(shape, group)?, stride: shape.row() },
            rows: count,
            columns: term.rank,
            depth: shape.row(),
            output: Output { values: work.t, stride: term.rank, add: false },
        })
    }

    /// The gradient of the affine scale: the incoming gradient times the recomputed value before it.
    #[inline(always)]
    fn scale(&self, work: &mut Work<'_>, block: Block) -> Option<()> {
        let Some(scale) = &mut work.grads.scale else { return Some(()) };
        let (shape, row_len) = (&self.layer.shape, self.layer.shape.row());
        let first = block.group * shape.out_group;
        for strip in (0..shape.out_group).step_by(STRIP) {
            let count = STRIP.min(shape.out_group - strip);
            let mut z = [[0.0f32; STRIP]; MOST];
            self.values(work.x, work.t, block, first + strip, count, z.as_flattened_mut())?;
            let scale = scale.get_mut(first + strip..)?.get_mut(..count)?;
            for (channel, scale) in (first + strip..).zip(scale) {
                let local = channel - first;
                let weight = row(self.layer.weight, channel, row_len)?;
                let zero = self.layer.zero.into();
                let base = self.layer.value(channel, if zero == 0.0 { 0.0 } else { total(weight) * zero })?;
                let sparse = self.terms.sparse;
                for (pixel, z) in z.iter().enumerate().take(block.count) {
                    let mut z = base + z.get(local - strip)?;
                    if let Some(sparse) = sparse {
                        let x = work.x.get(pixel * self.plan.x..)?;
                        for delta in sparse.deltas(channel)? {
                            z += delta.value * x.get(delta.index)?;
                        }
                    }
                    *scale += work.dz.get(pixel * self.plan.dz + local)? * z;
                }
            }
        }
        Some(())
    }

    /// `z` of some channels without bias and sparse delta, `[pixels, STRIP]`.
    #[inline(always)]
    fn values(
        &self,
        x: &[f32],
        t: &[f32],
        block: Block,
        channel: usize,
        count: usize,
        z: &mut [f32],
    ) -> Option<()> {
        let len = self.layer.shape.row();
        let left = Right { values: x, stride: self.plan.x };
        self.v.perform(Dots {
            left,
            right: Right { values: self.layer.weight.get(channel * len..)?, stride: len },
            rows: block.count,
            columns: count,
            depth: len,
            output: Output { values: z, stride: STRIP, add: false },
        })?;
        for z in z.chunks_exact_mut(STRIP).take(block.count) {
            let scales = (channel..).map(|channel| self.layer.weight_scale(channel));
            z.iter_mut().zip(scales).take(count).for_each(|(z, scale)| *z *= scale);
        }
        if let Some(delta) = self.terms.dense {
            self.v.perform(Dots {
                left,
                right: Right { values: delta.get(channel * len..)?, stride: len },
                rows: block.count,
                columns: count,
                depth: len,
                output: Output { values: z, stride: STRIP, add: true },
            })?;
        }
        let Some(LowRank { rank, .. }) = self.terms.low_rank else { return Some(()) };
        let up = self.terms.low_rank?.up(&self.layer.shape, block.group)?;
        let local = channel - block.group * self.layer.shape.out_group;
        self.v.perform(Dots {
            left: Right { values: t, stride: rank },
            right: Right { values: up.get(local * rank..)?, stride: rank },
            rows: block.count,
            columns: count,
            depth: rank,
            output: Output { values: z, stride: STRIP, add: true },
        })
    }

    /// Gradients of factors, sparse values and the weight.
    #[inline(always)]
    fn parameters(&self, work: &mut Work<'_>, block: Block) -> Option<()> {
        let (shape, len) = (&self.layer.shape, self.layer.shape.row());
        let Work { dz, x, t, dt, grads, dx, .. } = work;
        let columns = |values, row, step| Left { values, row, step };
        let patches = Right { values: x, stride: self.plan.x };
        if let Some(term) = self.terms.low_rank {
            let rank = term.rank;
            if grads.down.is_some() || dx.is_some() {
                self.v.perform(Outer {
                    left: columns(dz, self.plan.dz, 1),
                    right: Right { values: term.up(shape, block.group)?, stride: rank },
                    rows: block.count,
                    columns: rank,
                    depth: shape.out_group,
                    output: Output { values: dt, stride: rank, add: false },
                })?;
            }
            if let Some(down) = &mut grads.down {
                self.v.perform(Outer {
                    left: columns(dt, 1, rank),
                    right: patches,
                    rows: rank,
                    columns: len,
                    depth: block.count,
                    output: Output {
                        values: row_mut(down, block.group, rank * len)?,
                        stride: len,
                        add: true,
                    },
                })?;
            }
            if let Some(up) = &mut grads.up {
                let values = row_mut(up, block.group, rank * shape.out_group)?;
                self.v.perform(Outer {
                    left: columns(dz, 1, self.plan.dz),
                    right: Right { values: t, stride: rank },
                    rows: shape.out_group,
                    columns: rank,
                    depth: block.count,
                    output: Output { values, stride: rank, add: true },
                })?;
            }
        }
        if let Some(dense) = &mut grads.dense {
            let values = row_mut(dense, block.group, shape.out_group * len)?;
            self.v.perform(Outer {
                left: columns(dz, 1, self.plan.dz),
                right: patches,
                rows: shape.out_group,
                columns: len,
                depth: block.count,
                output: Output { values, stride: len, add: true },
            })?;
        }
        if let (Some(sparse), Some(values)) = (self.terms.sparse, &mut grads.sparse) {
            self.columns(x, block)?;
            let entries = self.entries(sparse, dz, block);
            self.v.perform(OfValues { entries, columns: x, values })?;
        }
        Some(())
    }

    fn entries<'e>(&self, sparse: SparseRows<'e>, dz: &'e [f32], block: Block) -> Entries<'e> {
        let channels = self.layer.shape.out_group;
        let (first, pitch, pixels) = (block.group * channels, self.plan.dz, block.count);
        Entries { sparse, dz, pitch, pixels, first, channels }
    }

    /// The gradient of the input, where it is wanted.
    #[inline(always)]
    fn input(&self, work: &mut Work<'_>, block: Block) -> Option<()> {
        let shape = &self.layer.shape;
        let Work { dz, x, dt, dpatch, dx, overwrite, .. } = work;
        let Some(dx) = dx else { return Some(()) };
        if self.plan.in_place {
            let channels = shape.input[3];
            let values = dx.get_mut(block.first * channels + block.group * shape.in_group..)?;
            return self.patch_gradients(
                (dz, x, dt),
                block,
                Output { values, stride: channels, add: !*overwrite },
            );
        }
        let output = Output { values: dpatch, stride: self.plan.x, add: false };
        self.patch_gradients((dz, x, dt), block, output)?;
        for (index, patch) in (block.first..).zip(dpatch.chunks_exact(self.plan.x)).take(block.count) {
            scatter(shape, patch.get(..shape.row())?, shape.pixel(index)?, block.group, dx)?;
        }
        Some(())
    }

    /// `dt·down + dz·Δ + dz·W`; `dz` is in steps of the weight thereafter.
    #[inline(always)]
    fn patch_gradients(
        &self,
        (dz, columns, dt): (&mut [f32], &mut [f32], &[f32]),
        block: Block,
        output: Output<'_>,
    ) -> Option<()> {
        let (shape, len) = (&self.layer.shape, self.layer.shape.row());
        let Output { values, stride, mut add } = output;
        let rows = block.count;
        if let Some(term) = self.terms.low_rank {
            self.v.perform(Outer {
                left: Left { values: dt, row: term.rank, step: 1 },
                right: Right { values: term.down(shape, block.group)?, stride: len },
                rows,
                columns: len,
                depth: term.rank,
                output: Output { values, stride, add },
            })?;
            add = true;
        }
        if let Some(delta) = self.terms.dense {
            self.v.perform(Outer {
                left: Left { values: dz, row: self.plan.dz, step: 1 },
                right: Right { values: row(delta, block.group, shape.out_group * len)?, stride: len },
                rows,
                columns: len,
                depth: shape.out_group,
                output: Output { values, stride, add },
            })?;
            add = true;
        }
        if let Some(sparse) = self.terms.sparse {
            let columns = columns.get_mut(..len * rows)?;
            columns.fill(0.0);
            self.v.perform(OfInput { entries: self.entries(sparse, dz, block), columns })?;
            for (pixel, row) in values.chunks_mut(stride).enumerate().take(rows) {
                let column = columns.get(pixel..)?.iter().step_by(rows);
                for (to, value) in row.get_mut(..len)?.iter_mut().zip(column) {
                    *to = if add { *to + value } else { *value };
                }
            }
            add = true;
        }
        for dz in dz.chunks_exact_mut(self.plan.dz).take(rows) {
            let scales = (block.group * shape.out_group..).map(|channel| self.layer.weight_scale(channel));
            dz.iter_mut().zip(scales).take(shape.out_group).for_each(|(dz, scale)| *dz *= scale);
        }
        self.v.perform(Outer {
            left: Left { values: dz, row: self.plan.dz, step: 1 },
            right: Right { values: row(self.layer.weight, block.group, shape.out_group * len)?, stride: len },
            rows,
            columns: len,
            depth: shape.out_group,
            output: Output { values, stride, add },
        })
    }
}

/// Channels whose values are recomputed together.
const STRIP: usize = 16;

/// The sum of `values`, eight side by side: of codes, which f32 sums exactly in any order.
#[inline(always)]
fn total<T: Stored>(values: &[T]) -> f32 {
    let (sets, rest) = arrays::<T, 8>(values);
    let mut sums = [0.0f32; 8];
    for set in sets {
        sums.iter_mut().zip(set).for_each(|(sum, value)| *sum += (*value).into());
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| (*value).into()).sum::<f32>()
}
