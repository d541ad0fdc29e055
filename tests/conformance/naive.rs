//! Convolutions as their definition reads, in i64 and f64: an oracle that shares
//! nothing with the kernels.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{ConvAttrs, QConvAttrs, Window};
use ingraft::tensor::DType;

use crate::cases::{Case, LowRank, Outcome, Values};

/// The first output element of `outcome` that is not what the definition says.
pub(crate) fn difference(case: &Case, outcome: &Outcome) -> Option<String> {
    let quantized = matches!(case.op, OpCode::QConv | OpCode::QDepthwise);
    let layer = if quantized { Layer::integer(case) } else { Layer::real(case) };
    let out = &outcome.outputs[0];
    let mask = outcome.outputs.get(1).map(|mask| mask.values::<u8>());
    let [_, height, width, channels] = out.shape.nhwc()?;
    (0..out.shape.elements()).find_map(|at| {
        let (pixel, channel) = (at / channels, at % channels);
        let position = [pixel / width / height, pixel / width % height, pixel % width];
        let patch = layer.patch(position, channel);
        let Value { acc, v, slack } = layer.value(case, &patch, channel);
        let inside = v.clamp(layer.lo, layer.hi);
        let (have, good) = match out.dtype {
            DType::I8 => {
                let steps = f64::from(out.values::<i8>()[at]) - layer.out_zero_point;
                (steps, (steps - inside).abs() <= 0.5 + slack)
            }
            DType::I32 => (f64::from(out.values::<i32>()[at]), out.values::<i32>()[at] == acc),
            _ => (
                f64::from(out.values::<f32>()[at]),
                (f64::from(out.values::<f32>()[at]) - inside).abs() <= slack,
            ),
        };
        let near = (v - layer.lo).abs() <= slack || (v - layer.hi).abs() <= slack;
        let bit = mask
            .is_none_or(|mask| near || (mask[at / 8] >> (at % 8) & 1 == 1) == (v > layer.lo && v < layer.hi));
        (!good || !bit)
            .then(|| format!("element {at} is {have}, the definition says {v} (accumulator {acc})"))
    })
}

/// A layer in real numbers. Quantized: codes minus zero point, values in output steps.
struct Layer {
    window: Window,
    groups: usize,
    input: [usize; 4],
    /// Elements minus the zero point.
    x: Vec<f64>,
    weight: Vec<f64>,
    /// Weight strides along output channels and along the row.
    strides: [usize; 2],
    bias: Vec<f64>,
    multiplier: Vec<f64>,
    zero_point: f64,
    out_zero_point: f64,
    in_scale: f64,
    out_scale: f64,
    lo: f64,
    hi: f64,
    /// Whether sums are int32 and wrap.
    integer: bool,
}

/// One output element before the clamp.
struct Value {
    acc: i32,
    v: f64,
    /// What f32 arithmetic may be off by.
    slack: f64,
}

impl Layer {
    fn integer(case: &Case) -> Self {
        let attrs: &QConvAttrs = case.attrs();
        let zero_point = f64::from(attrs.in_zero_point);
        let wide = |codes: &[i8]| codes.iter().map(|c| f64::from(*c)).collect::<Vec<_>>();
        let (weight, bias) = match &case.terms.patched {
            Some((weight, bias)) => (wide(weight), bias.as_slice()),
            None => (wide(case.inputs[1].values()), case.inputs[2].values()),
        };
        Self {
            x: wide(case.inputs[0].values()).iter().map(|x| x - zero_point).collect(),
            weight,
            bias: bias.iter().map(|b| f64::from(*b)).collect(),
            multiplier: case.inputs[3].values::<f32>().iter().map(|m| f64::from(*m)).collect(),
            zero_point,
            out_zero_point: f64::from(attrs.out_zero_point),
            in_scale: f64::from(attrs.in_scale),
            out_scale: f64::from(attrs.out_scale),
            integer: true,
            ..Self::shaped(case, &attrs.window, attrs.groups, attrs.lo, attrs.hi)
        }
    }

    fn real(case: &Case) -> Self {
        let attrs: &ConvAttrs = case.attrs();
        let wide =
            |i: usize| case.inputs[i].values::<f32>().iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let (x, weight, bias) = (wide(0), wide(1), wide(2));
        let multiplier = vec![1.0; bias.len()];
        Self {
            x,
            weight,
            bias,
            multiplier,
            ..Self::shaped(case, &attrs.window, attrs.groups, attrs.lo, attrs.hi)
        }
    }

    fn shaped(case: &Case, window: &Window, groups: u32, lo: f32, hi: f32) -> Self {
        let input = case.inputs[0].shape.nhwc().expect("rank 4 or less");
        let out = case.inputs[2].shape.elements();
        let row = case.inputs[1].shape.elements() / out;
        let depthwise = matches!(case.op, OpCode::Depthwise | OpCode::QDepthwise);
        Self {
            window: *window,
            groups: groups as usize,
            input,
            strides: if depthwise { [1, out] } else { [row, 1] },
            lo: f64::from(lo),
            hi: f64::from(hi),
            x: Vec::new(),
            weight: Vec::new(),
            bias: Vec::new(),
            multiplier: Vec::new(),
            zero_point: 0.0,
            out_zero_point: 0.0,
            in_scale: 1.0,
            out_scale: 1.0,
            integer: false,
        }
    }

    /// The elements under an output position in weight-row order, real zero in the padding.
    fn patch(&self, [n, y, x]: [usize; 3], channel: usize) -> Vec<f64> {
        let [_, height, width, channels] = self.input;
        let in_group = channels / self.groups;
        let first = channel * self.groups / self.bias.len() * in_group;
        let [kh, kw] = self.window.kernel;
        let at = |out: usize, axis: usize, tap: u32| {
            let Window { stride, dilation, pad, .. } = self.window;
            out as i64 * i64::from(stride[axis]) + i64::from(tap * dilation[axis]) - i64::from(pad[axis])
        };
        let mut patch = Vec::new();
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let (iy, ix) = (at(y, 0, ky), at(x, 1, kx));
            let inside = (0..height as i64).contains(&iy) && (0..width as i64).contains(&ix);
            for c in 0..in_group {
                let index = ((n as i64 * height as i64 + iy) * width as i64 + ix) * channels as i64;
                patch.push(if inside { self.x[index as usize + first + c] } else { 0.0 });
            }
        }
        patch
    }

    /// Base and terms of one output element.
    fn value(&self, case: &Case, patch: &[f64], channel: usize) -> Value {
        let row = patch.iter().enumerate();
        let products = row.map(|(i, x)| {
            self.weight[channel * self.strides[0] + i * self.strides[1]] * (x + self.zero_point)
        });
        let (mut sum, mut size) = (self.bias[channel], self.bias[channel].abs());
        products.for_each(|p| (sum, size) = (sum + p, size + p.abs()));
        let (integer, mut real) = sparse(case, patch, channel);
        if let Some(delta) = &case.terms.dense {
            let at = |i: usize| f64::from(delta[channel * self.strides[0] + i * self.strides[1]]);
            real += patch.iter().enumerate().map(|(i, x)| at(i) * x).sum::<f64>();
        }
        // Every sum of an int8 layer is an integer below 2⁵³, so f64 holds it exactly.
        let acc = (sum + integer) as i64 as i32;
        let mut v = if self.integer { f64::from(acc) } else { sum } * self.multiplier[channel];
        v += self.low_rank(case, patch, channel) + real * self.in_scale / self.out_scale;
        if let Some([scale, shift]) = &case.terms.affine {
            v = v * f64::from(scale[channel]) + f64::from(shift[channel]) / self.out_scale;
        }
        let slack = if self.integer { 1e-5 * v.abs().max(100.0) } else { 1e-5 * size.max(v.abs()).max(1.0) };
        Value { acc, v, slack }
    }

    /// `up·(down·x)` in output steps.
    fn low_rank(&self, case: &Case, patch: &[f64], channel: usize) -> f64 {
        let group = channel * self.groups / self.bias.len();
        match &case.terms.two_factor {
            None => 0.0,
            Some(LowRank::Real { rank, down, up }) => {
                let latent = |k: usize| -> f64 {
                    let down = &down[(group * rank + k) * patch.len()..];
                    patch.iter().zip(down).map(|(x, a)| x * f64::from(*a)).sum::<f64>() * self.in_scale
                };
                let terms = (0..*rank).map(|k| latent(k) * f64::from(up[channel * rank + k]));
                terms.sum::<f64>() / self.out_scale
            }
            Some(LowRank::Integer { rank, down, up, down_scale, up_scale }) => {
                let latent = |k: usize| -> f64 {
                    let k = group * rank + k;
                    let sum: f64 =
                        patch.iter().zip(&down[k * patch.len()..]).map(|(x, a)| x * f64::from(*a)).sum();
                    let scaled = sum as i32 as f32 * down_scale[k];
                    f64::from(scaled.round_ties_even().clamp(-32768.0, 32767.0))
                };
                let terms = (0..*rank).map(|k| latent(k) * f64::from(up[channel * rank + k]));
                terms.sum::<f64>() * f64::from(up_scale[channel])
            }
        }
    }
}

/// `Δ·x` of integer and of real deltas.
fn sparse(case: &Case, patch: &[f64], channel: usize) -> (f64, f64) {
    let Some(delta) = &case.terms.sparse else { return (0.0, 0.0) };
    let span = delta.indptr[channel] as usize..delta.indptr[channel + 1] as usize;
    let x = |at: usize| patch[usize::from(delta.indices[at])];
    match &delta.values {
        Values::Integer(values) => (span.map(|at| f64::from(values[at]) * x(at)).sum(), 0.0),
        Values::Real(values) => (0.0, span.map(|at| f64::from(values[at]) * x(at)).sum()),
    }
}
