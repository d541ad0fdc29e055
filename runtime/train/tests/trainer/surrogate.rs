//! The float surrogate of the small network: the oracle of gradients.
//!
//! Every quantizer is the identity plus the rounding it committed at the point
//! where gradients are taken, and clips are kept: an element that was clipped
//! stays at its limit. This function equals the int8 network at that point, is
//! smooth around it, and its derivative is what straight-through gradients are
//! defined to be. All in f64, written apart from the kernels.

use ingraft_kernel::{Factors, SiteTerms, SparseValues};
use ingraft_tensor::QParams;

use crate::tiny::{INNER, INPUT, Layer, MIXED, Net};

/// The terms of one site in f64.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    pub(crate) rank: usize,
    pub(crate) down: Vec<f64>,
    pub(crate) up: Vec<f64>,
    /// (channel, position, value).
    pub(crate) sparse: Vec<(usize, usize, f64)>,
    /// In the layout of the weight.
    pub(crate) dense: Vec<f64>,
    pub(crate) scale: Vec<f64>,
    pub(crate) shift: Vec<f64>,
}

impl Terms {
    pub(crate) fn new(terms: &SiteTerms<'_>) -> Self {
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let mut out = Self::default();
        if let Some(term) = terms.two_factor
            && let Factors::F32 { down, up } = term.factors
        {
            (out.rank, out.down, out.up) = (term.rank, wide(down), wide(up));
        }
        if let Some(sparse) = terms.sparse
            && let SparseValues::F32(values) = sparse.values
        {
            for (channel, ends) in sparse.indptr.windows(2).enumerate() {
                let range = ends[0] as usize..ends[1] as usize;
                let entries = sparse.indices[range.clone()].iter().zip(&values[range]);
                out.sparse
                    .extend(entries.map(|(index, value)| (channel, *index as usize, f64::from(*value))));
            }
        }
        out.dense = terms.dense.map_or_else(Vec::new, wide);
        if let Some(affine) = terms.affine {
            (out.scale, out.shift) = (wide(affine.scale), wide(affine.shift));
        }
        out
    }
}

/// What one quantizer did to one element: the rounding it added, or the real value it was clipped to.
#[derive(Clone, Copy)]
enum Rounding {
    Kept(f64),
    Clipped(f64),
}

/// The roundings of one patch, in the order in which quantizers ran.
#[derive(Clone, Default)]
pub(crate) struct Roundings(Vec<Vec<Rounding>>);

/// Quantizes pre-activation values: their range, and the clamp in output steps.
type Quantize<'q> = dyn FnMut(&[f64], QParams, f32, f32) -> Vec<f64> + 'q;

/// Real values of the tensors a test looks at.
pub(crate) struct Tensors {
    pub(crate) stem: Vec<f64>,
    pub(crate) mix: Vec<f64>,
    pub(crate) pool: Vec<f64>,
    pub(crate) logits: Vec<f64>,
}

impl Net {
    /// Runs one patch as the int8 network does and records its roundings.
    pub(crate) fn record(&self, patch: &[u8], terms: &[Terms; 5]) -> (Tensors, Roundings) {
        let mut roundings = Roundings::default();
        let tensors = self.run(patch, terms, &mut |values, q, lo, hi| {
            let record: Vec<_> = values.iter().map(|z| rounding(*z, q, lo, hi)).collect();
            let out = apply(values, &record);
            roundings.0.push(record);
            out
        });
        (tensors, roundings)
    }

    /// Runs one patch with the roundings recorded before.
    pub(crate) fn replay(&self, patch: &[u8], terms: &[Terms; 5], roundings: &Roundings) -> Tensors {
        let mut records = roundings.0.iter();
        self.run(patch, terms, &mut |values, _, _, _| apply(values, records.next().unwrap()))
    }

    fn run(&self, patch: &[u8], terms: &[Terms; 5], quantize: &mut Quantize<'_>) -> Tensors {
        let layer = |index: usize, dims: [usize; 3], x: &[f64], quantize: &mut Quantize<'_>| {
            let layer = &self.layers[index];
            let z = pre_activation(layer, dims, x, &terms[index]);
            let (lo, hi) = layer.clamp();
            layer.output.map_or(z.clone(), |q| quantize(&z, q, lo, hi))
        };
        let limits = |q: QParams| ((-128 - q.zero_point) as f32, (127 - q.zero_point) as f32);
        let input = crate::tiny::dequantize(patch, self.layers[0].input);
        let stem = layer(0, INPUT, &input, quantize);
        let point = layer(1, INNER, &stem, quantize);
        let depth = layer(2, INNER, &point, quantize);
        let sum: Vec<f64> = point.iter().zip(&depth).map(|(a, b)| a + b).collect();
        let (lo, hi) = limits(self.add);
        let sum = quantize(&sum, self.add, lo, hi);
        let mix = layer(3, INNER, &sum, quantize);
        let [h, w, c] = MIXED;
        let mean: Vec<f64> =
            (0..c).map(|i| mix.iter().skip(i).step_by(c).sum::<f64>() / (h * w) as f64).collect();
        let (lo, hi) = limits(self.pool);
        let pool = quantize(&mean, self.pool, lo, hi);
        let logits = layer(4, [1, 1, 6], &pool, quantize);
        Tensors { stem, mix, pool, logits }
    }
}

fn rounding(z: f64, q: QParams, lo: f32, hi: f32) -> Rounding {
    let (scale, lo, hi) = (f64::from(q.scale), f64::from(lo), f64::from(hi));
    let v = z / scale;
    if v > lo && v < hi {
        Rounding::Kept((v.round_ties_even() - v) * scale)
    } else {
        Rounding::Clipped(v.clamp(lo, hi).round_ties_even() * scale)
    }
}

fn apply(values: &[f64], record: &[Rounding]) -> Vec<f64> {
    let one = |(z, rounding): (&f64, &Rounding)| match rounding {
        Rounding::Kept(added) => z + added,
        Rounding::Clipped(limit) => *limit,
    };
    values.iter().zip(record).map(one).collect()
}

fn pre_activation(layer: &Layer, dims: [usize; 3], x: &[f64], terms: &Terms) -> Vec<f64> {
    let row = layer.row();
    let mut out = Vec::new();
    layer.for_each(dims, |_, channel, taps| {
        let at = |position: usize| taps[position].1.map_or(0.0, |at| x[at]);
        let mut z = layer.bias(channel) + (0..row).map(|p| layer.weight(channel, p) * at(p)).sum::<f64>();
        for k in 0..terms.rank {
            let first = channel / (layer.out / layer.groups) * terms.rank;
            let t: f64 = (0..row).map(|p| terms.down[(first + k) * row + p] * at(p)).sum();
            z += terms.up[channel * terms.rank + k] * t;
        }
        if !terms.dense.is_empty() {
            z += (0..row).map(|p| terms.dense[layer.offset(channel, p)] * at(p)).sum::<f64>();
        }
        z += terms.sparse.iter().filter(|s| s.0 == channel).map(|s| s.2 * at(s.1)).sum::<f64>();
        out.push(match terms.scale.is_empty() {
            true => z,
            false => z * terms.scale[channel] + terms.shift[channel],
        });
    });
    out
}
