//! A generated layer with terms: the kernel's operands, and the same layer in f64.

use std::vec::Vec;

use ingraft_tensor::Shape;

use super::*;
use crate::attrs::{ConvAttrs, QConvAttrs, Window};
use crate::test_case::Random;
use crate::window::ConvShape;
use crate::{Affine, Factors, Sparse, SparseValues, TwoFactor};

/// Which layer to generate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    pub(super) seed: u64,
    pub(super) quantized: bool,
    pub(super) depthwise: bool,
    /// 1×1, one group, no padding; strides vary.
    pub(super) pointwise: bool,
    pub(super) clipped: bool,
    pub(super) low_rank: bool,
    pub(super) sparse: bool,
    pub(super) dense: bool,
    pub(super) affine: bool,
}

/// What can be differentiated, as an index into [`Naive::values`].
pub(super) const PARAMETERS: [&str; 7] = ["input", "weight", "down", "up", "sparse", "scale", "shift"];
pub(super) const INPUT: usize = 0;
pub(super) const WEIGHT: usize = 1;
pub(super) const DOWN: usize = 2;
pub(super) const UP: usize = 3;
pub(super) const SPARSE: usize = 4;
pub(super) const SCALE: usize = 5;
pub(super) const SHIFT: usize = 6;

/// The float surrogate of a layer: quantizers as identity, the clip kept.
///
/// `weight` and `delta` are `[out, kh, kw, in/groups]`, for depthwise layers too.
#[derive(Clone)]
pub(super) struct Naive {
    pub(super) shape: ConvShape,
    pub(super) values: [Vec<f64>; 7],
    pub(super) bias: Vec<f64>,
    /// The dense delta; its gradient is the weight's.
    delta: Vec<f64>,
    pub(super) rank: usize,
    pub(super) indptr: Vec<u32>,
    pub(super) indices: Vec<u16>,
    pub(super) lo: f64,
    pub(super) hi: f64,
}

impl Naive {
    /// The weight with every delta.
    fn effective_weight(&self) -> Vec<f64> {
        let (row, out_group) = (self.shape.row(), self.shape.out_group);
        let mut weight = self.values[WEIGHT].clone();
        weight.iter_mut().zip(&self.delta).for_each(|(w, delta)| *w += delta);
        for (o, weight) in weight.chunks_mut(row).enumerate() {
            for k in 0..self.rank {
                let up = self.values[UP][o * self.rank + k];
                let down = &self.values[DOWN][(o / out_group * self.rank + k) * row..][..row];
                weight.iter_mut().zip(down).for_each(|(w, d)| *w += up * d);
            }
            if !self.indptr.is_empty() {
                for j in self.indptr[o] as usize..self.indptr[o + 1] as usize {
                    weight[self.indices[j] as usize] += self.values[SPARSE][j];
                }
            }
        }
        weight
    }

    /// The output before the clip.
    pub(super) fn pre_clip(&self) -> Vec<f64> {
        let (s, weight, mut out) = (&self.shape, self.effective_weight(), Vec::new());
        let [n, oh, ow, channels] = s.output;
        for index in crate::test_case::indices(&[n as u32, oh as u32, ow as u32, channels as u32]) {
            let [n, y, x, o] = index[..] else { unreachable!() };
            let mut z = self.bias[o];
            for ky in 0..s.kernel[0] {
                for kx in 0..s.kernel[1] {
                    let iy = (y * s.stride[0] + ky * s.dilation[0]) as isize - s.pad[0] as isize;
                    let ix = (x * s.stride[1] + kx * s.dilation[1]) as isize - s.pad[1] as isize;
                    if iy < 0 || ix < 0 || iy >= s.input[1] as isize || ix >= s.input[2] as isize {
                        continue;
                    }
                    let pixel = (n * s.input[1] + iy as usize) * s.input[2] + ix as usize;
                    let first = pixel * s.input[3] + o / s.out_group * s.in_group;
                    let row = o * s.row() + (ky * s.kernel[1] + kx) * s.in_group;
                    z +=
                        (0..s.in_group).map(|i| weight[row + i] * self.values[INPUT][first + i]).sum::<f64>();
                }
            }
            let scale = self.values[SCALE].get(o).unwrap_or(&1.0);
            out.push(z * scale + self.values[SHIFT].get(o).unwrap_or(&0.0));
        }
        out
    }

    /// `Σ dy·y`.
    pub(super) fn loss(&self, dy: &[f64]) -> f64 {
        self.pre_clip().iter().zip(dy).map(|(z, dy)| z.clamp(self.lo, self.hi) * dy).sum()
    }
}

/// The operands of a layer for the kernels.
pub(super) struct Layer {
    pub(super) attrs: LayerAttrs,
    pub(super) naive: Naive,
    pub(super) x: Tensor,
    /// Weight, bias and, for int8, multiplier.
    pub(super) constants: Vec<Tensor>,
    /// f32 term parameters in the order of [`PARAMETERS`]; input and weight stay empty.
    terms: [Vec<f32>; 7],
    /// The dense delta as the kernel stores it.
    delta: Vec<f32>,
    recipe: Recipe,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum LayerAttrs {
    Integer(QConvAttrs),
    Real(ConvAttrs),
}

/// Gradients of every parameter, as a kernel accumulates them.
pub(super) struct Grads(pub(super) [Vec<f32>; 7]);

impl Grads {
    pub(super) fn as_site(&mut self) -> SiteGrads<'_> {
        let [_, dense, down, up, sparse, scale, shift] = &mut self.0;
        let some = |grad: &mut Vec<f32>| if grad.is_empty() { None } else { Some(()) };
        SiteGrads {
            down: some(down).map(|()| &mut down[..]),
            up: some(up).map(|()| &mut up[..]),
            sparse: some(sparse).map(|()| &mut sparse[..]),
            scale: some(scale).map(|()| &mut scale[..]),
            shift: some(shift).map(|()| &mut shift[..]),
            dense: some(dense).map(|()| &mut dense[..]),
        }
    }
}

impl Layer {
    pub(super) fn new(recipe: Recipe) -> Self {
        let mut random = Random(recipe.seed);
        let (window, shape) = geometry(&mut random, recipe);
        let (row, out) = (shape.row(), shape.output[3]);
        let rank = if recipe.low_rank { random.int(1, 3) as usize } else { 0 };
        let (indptr, indices) =
            if recipe.sparse { pattern(&mut random, row, out) } else { Default::default() };
        let count = |on: bool| if on { out } else { 0 };
        let mut floats = |n: usize, lo: f32, hi: f32| random.floats(n, lo, hi);
        let terms = [
            Vec::new(),
            Vec::new(),
            floats(shape.groups * rank * row, -1.0, 1.0),
            floats(out * rank, -1.0, 1.0),
            floats(indices.len(), -1.0, 1.0),
            floats(count(recipe.affine), 0.5, 1.5),
            floats(count(recipe.affine), -0.5, 0.5),
        ];
        let (lo, hi) = if recipe.clipped { (-1.0, 2.0) } else { (f64::NEG_INFINITY, f64::INFINITY) };
        let values = terms.clone().map(|term| term.iter().map(|v| *v as f64).collect());
        let delta = floats(if recipe.dense { row * out } else { 0 }, -1.0, 1.0);
        let naive = Naive {
            shape,
            values,
            bias: Vec::new(),
            delta: delta.iter().map(|v| *v as f64).collect(),
            rank,
            indptr,
            indices,
            lo,
            hi,
        };
        let mut layer = Self {
            attrs: LayerAttrs::Real(ConvAttrs {
                window,
                groups: shape.groups as u32,
                lo: lo as f32,
                hi: hi as f32,
            }),
            naive,
            x: Tensor::zeros(DType::F32, &[0]),
            constants: Vec::new(),
            terms,
            delta: Vec::new(),
            recipe,
        };
        layer.delta = layer.stored(&delta).values();
        if recipe.quantized {
            layer.fill_codes(&mut random, window)
        } else {
            layer.fill_floats(&mut random)
        }
        layer
    }

    fn fill_floats(&mut self, random: &mut Random) {
        let shape = self.naive.shape;
        let (row, out) = (shape.row(), shape.output[3]);
        let x = random.floats(shape.input.iter().product(), -1.0, 1.0);
        let (weight, bias) = (random.floats(row * out, -1.0, 1.0), random.floats(out, -1.0, 1.0));
        self.naive.values[INPUT] = x.iter().map(|v| *v as f64).collect();
        self.naive.values[WEIGHT] = weight.iter().map(|v| *v as f64).collect();
        self.naive.bias = bias.iter().map(|v| *v as f64).collect();
        self.x = Tensor::new(&shape.input.map(|d| d as u32), &x);
        self.constants = std::vec![self.stored(&weight), Tensor::new(&[out as u32], &bias)];
    }

    fn fill_codes(&mut self, random: &mut Random, window: Window) {
        let shape = self.naive.shape;
        let (row, out) = (shape.row(), shape.output[3]);
        let (in_scale, out_scale, in_zero_point) = (0.011f32, 0.07f32, random.int(-128, 127));
        let x = random.codes(shape.input.iter().product());
        let weight = random.codes(row * out);
        let weight_scale = random.floats(out, 0.002, 0.01);
        let bias: Vec<i32> = (0..out).map(|_| random.int(-9000, 9000)).collect();
        let real = |code: i8| (code as i32 - in_zero_point) as f64 * in_scale as f64;
        self.naive.values[INPUT] = x.iter().map(|code| real(*code)).collect();
        let rows = weight.chunks(row).zip(&weight_scale);
        self.naive.values[WEIGHT] =
            rows.clone().flat_map(|(row, s)| row.iter().map(|w| *w as f64 * *s as f64)).collect();
        let accumulator = in_scale as f64;
        self.naive.bias =
            bias.iter().zip(&weight_scale).map(|(b, s)| *b as f64 * accumulator * *s as f64).collect();
        let folded: Vec<i32> = bias
            .iter()
            .zip(rows)
            .map(|(b, (row, _))| b - in_zero_point * row.iter().map(|w| *w as i32).sum::<i32>())
            .collect();
        let multiplier: Vec<f32> = weight_scale.iter().map(|s| in_scale * s / out_scale).collect();
        self.attrs = LayerAttrs::Integer(QConvAttrs {
            window,
            groups: shape.groups as u32,
            in_zero_point,
            out_zero_point: 3,
            lo: self.naive.lo as f32 / out_scale,
            hi: self.naive.hi as f32 / out_scale,
            in_scale,
            out_scale,
        });
        self.x = Tensor::new(&shape.input.map(|d| d as u32), &x);
        let per_channel = [out as u32];
        self.constants = std::vec![
            self.stored(&weight),
            Tensor::new(&per_channel, &folded),
            Tensor::new(&per_channel, &multiplier)
        ];
    }

    /// A weight given as `[out, row]`, as the kernel stores it.
    fn stored<T: ingraft_tensor::bytes::Element>(&self, weight: &[T]) -> Tensor {
        let (row, out) = (self.naive.shape.row(), self.naive.shape.output[3]);
        let transposed: Vec<T> = (0..weight.len())
            .map(|i| weight[if self.recipe.depthwise { i % out * row + i / out } else { i }])
            .collect();
        Tensor::new(&[transposed.len() as u32], &transposed)
    }

    pub(super) fn kernel(&self) -> &'static Kernel {
        match (self.recipe.depthwise, self.recipe.quantized) {
            (false, false) => &conv::KERNEL,
            (false, true) => &conv::KERNEL_Q,
            (true, false) => &depthwise::KERNEL,
            (true, true) => &depthwise::KERNEL_Q,
        }
    }

    pub(super) fn terms(&self) -> SiteTerms<'_> {
        let [_, _, down, up, values, scale, shift] = &self.terms;
        let (indptr, indices) = (&self.naive.indptr, &self.naive.indices);
        let factors = Factors::F32 { down, up };
        SiteTerms {
            two_factor: self.recipe.low_rank.then_some(TwoFactor { rank: self.naive.rank, factors }),
            sparse: self.recipe.sparse.then_some(Sparse {
                indptr,
                indices,
                values: SparseValues::F32(values),
            }),
            dense: self.recipe.dense.then_some(&self.delta),
            affine: self.recipe.affine.then_some(Affine { scale, shift }),
            ..SiteTerms::NONE
        }
    }

    /// A gradient of the weight as the kernel stores it, as `[out, row]`.
    pub(super) fn rows(&self, stored: &[f32]) -> Vec<f32> {
        let (row, out) = (self.naive.shape.row(), self.naive.shape.output[3]);
        let at = |i: usize| if self.recipe.depthwise { i % row * out + i / row } else { i };
        (0..stored.len()).map(|i| stored[at(i)]).collect()
    }

    /// Zeroed accumulators of every parameter.
    pub(super) fn grads(&self) -> Grads {
        let mut grads = self.naive.values.clone().map(|v| std::vec![0.0; v.len()]);
        grads[INPUT].clear();
        Grads(grads)
    }

    /// Runs the backward step on `dy` and `mask`.
    pub(super) fn backward(
        &self,
        dy: &[f32],
        mask: Option<&Tensor>,
        dx: Option<&mut Tensor>,
        grads: SiteGrads<'_>,
        accumulate: u32,
    ) -> Result<(), KernelError> {
        let dy = Tensor::new(&self.naive.shape.output.map(|d| d as u32), dy);
        let inputs: Vec<&Tensor> =
            [&dy].into_iter().chain(mask).chain([&self.x]).chain(&self.constants).collect();
        let mut outputs: Vec<&mut Tensor> = dx.into_iter().collect();
        let site = Site { terms: self.terms(), grads, accumulate };
        match self.attrs {
            LayerAttrs::Integer(attrs) => run(self.kernel(), &attrs, &inputs, &mut outputs, site),
            LayerAttrs::Real(attrs) => run(self.kernel(), &attrs, &inputs, &mut outputs, site),
        }
    }

    pub(super) fn dx(&self) -> Tensor {
        Tensor::zeros(DType::F32, &self.naive.shape.input.map(|d| d as u32))
    }
}

fn geometry(random: &mut Random, recipe: Recipe) -> (Window, ConvShape) {
    loop {
        let mut pair = |hi| [random.int(1, hi) as u32, random.int(1, hi) as u32];
        let (kernel, stride, dilation) = (pair(3), pair(2), pair(2));
        let pad = core::array::from_fn(|_| random.int(0, 2) as u32);
        let mut window = Window { kernel, stride, dilation, pad };
        let groups = if recipe.depthwise { random.int(1, 9) } else { random.int(1, 3) } as u32;
        let (mut input, mut output) = (groups * random.int(1, 4) as u32, groups * random.int(1, 4) as u32);
        let mut conv_groups = groups;
        if recipe.depthwise {
            (input, output) = (groups, groups);
        }
        if recipe.pointwise {
            window = Window { stride, ..Window::UNIT };
            conv_groups = 1;
        }
        let (n, h, w) = (random.int(1, 2) as u32, random.int(2, 6) as u32, random.int(2, 6) as u32);
        let (Some(oh), Some(ow)) = (window.output(0, h as usize), window.output(1, w as usize)) else {
            continue;
        };
        let input = Shape::new(&[n, h, w, input]).unwrap();
        let output = Shape::new(&[n, oh as u32, ow as u32, output]).unwrap();
        if let Some(shape) = ConvShape::new(&window, conv_groups as usize, input, output) {
            return (window, shape);
        }
    }
}

/// About a third of the positions of every row; some rows stay empty.
fn pattern(random: &mut Random, row: usize, out: usize) -> (Vec<u32>, Vec<u16>) {
    let (mut indptr, mut indices) = (std::vec![0], Vec::new());
    for _ in 0..out {
        let chance = random.int(0, 2);
        indices.extend((0..row as u16).filter(|_| random.int(0, 2) < chance));
        indptr.push(indices.len() as u32);
    }
    (indptr, indices)
}
