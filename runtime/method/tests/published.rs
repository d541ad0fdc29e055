//! Methods against implementations that are not ours: effective weights and parameter gradients of HF PEFT,
//! and effective weights of a second implementation in NumPy.

use std::collections::BTreeMap;
use std::path::Path;

use ingraft_kernel::{SiteDesc, SiteGrads, SiteKind};
use ingraft_method::build;
use ingraft_tensor::{DType, Rng};
use ingraft_train::{
    FrozenSite, Latent, LatentGradients, LatentHolder, LatentTensor, Method, SiteValues, TermLayout,
};
use serde::Deserialize;

/// One case of a golden file.
#[derive(Deserialize)]
struct Golden {
    method: String,
    settings: BTreeMap<String, String>,
    out: usize,
    inputs: usize,
    /// Side of the square kernel.
    kernel: usize,
    /// `[out, row]`, rows in published order.
    weight: Vec<f64>,
    /// Trained tensors.
    tensors: BTreeMap<String, Vec<f64>>,
    /// Constants that the other implementation drew.
    constants: BTreeMap<String, Vec<f64>>,
    /// The effective weight less the base's.
    delta: Vec<f64>,
    /// The base's bias, where it counts.
    #[serde(default)]
    bias: Vec<f64>,
    /// What is added to the bias.
    #[serde(default)]
    shift: Vec<f64>,
    /// Gradient of the effective weight; its first column is that of the shift.
    #[serde(default)]
    direction: Vec<f64>,
    /// Gradients of the trained tensors; absent where only the weight is compared.
    #[serde(default)]
    gradient: BTreeMap<String, Vec<f64>>,
}

/// A method at a golden's site, with its memory.
struct Subject<'g> {
    golden: &'g Golden,
    method: Box<dyn Method>,
    site: SiteDesc<'static>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    layout: TermLayout,
    tensors: Vec<LatentTensor>,
    decaying: Vec<f32>,
    steady: Vec<f32>,
    constants: Vec<f64>,
    workspace: Vec<f64>,
    down: Vec<f32>,
    up: Vec<f32>,
    delta: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl<'g> Subject<'g> {
    fn new(golden: &'g Golden) -> Self {
        let settings: Vec<(&str, &str)> =
            golden.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let method = build(&golden.method, &settings).unwrap();
        let (out, inputs, kernel) = (golden.out, golden.inputs, [golden.kernel; 2]);
        let kind = if golden.kernel == 1 { SiteKind::Linear } else { SiteKind::Conv };
        let dtype = DType::F32;
        let site = SiteDesc { name: "layer", kind, dtype, out, inputs, kernel, groups: 1, transposed: false };
        let layout = method.layout(&site).unwrap();
        let mut tensors = Vec::new();
        method.tensors(&site, &mut |tensor| tensors.push(tensor));
        let (latent, rank) = (layout.latent, layout.rank as usize);
        let mut subject = Self {
            golden,
            method,
            weight: vec![0.0; out * site.row()],
            bias: golden.bias.iter().map(|b| *b as f32).collect(),
            layout,
            tensors,
            decaying: vec![0.0; latent.decaying as usize],
            steady: vec![0.0; latent.steady as usize],
            constants: vec![0.0; latent.constants as usize],
            workspace: vec![0.0; latent.workspace as usize],
            down: vec![0.0; rank * site.row()],
            up: vec![0.0; out * rank],
            delta: vec![0.0; if layout.dense { out * site.row() } else { 0 }],
            scale: vec![1.0; if layout.scale { out } else { 0 }],
            shift: vec![0.0; if layout.shift { out } else { 0 }],
            site,
        };
        for (i, value) in golden.weight.iter().enumerate() {
            let at = subject.in_kernel(i);
            subject.weight[at] = *value as f32;
        }
        subject.run(|method, site, latent, _| method.start(site, &mut Rng::new(0), latent));
        subject.fill();
        subject.run(|method, site, latent, terms| method.compute(site, latent, terms));
        subject
    }

    /// Where element `i` of a matrix in published order stands in a kernel's.
    fn in_kernel(&self, i: usize) -> usize {
        let (row, window) = (self.site.row(), self.golden.kernel * self.golden.kernel);
        let position = i % row;
        i / row * row + position % window * self.golden.inputs + position / window
    }

    fn run(&mut self, act: impl FnOnce(&dyn Method, &FrozenSite<'_>, &mut Latent<'_>, &mut SiteValues<'_>)) {
        let site = FrozenSite::of_layer(self.site, &self.weight, &self.bias).unwrap();
        let mut latent = Latent {
            decaying: &mut self.decaying,
            steady: &mut self.steady,
            constants: &mut self.constants,
            workspace: &mut self.workspace,
        };
        let mut terms = SiteValues {
            down: &mut self.down,
            up: &mut self.up,
            sparse: &mut [],
            indptr: &mut [],
            indices: &mut [],
            dense: &mut self.delta,
            scale: &mut self.scale,
            shift: &mut self.shift,
        };
        act(&*self.method, &site, &mut latent, &mut terms);
    }

    /// Takes the golden's tensors over; every trained one must be there, and no other.
    fn fill(&mut self) {
        let golden = self.golden;
        let (mut taken, mut fixed) = (0, 0);
        for tensor in &self.tensors {
            let range = tensor.first..tensor.first + tensor.rows * tensor.columns;
            match (golden.tensors.get(tensor.name), tensor.holder) {
                (Some(values), LatentHolder::Decaying) => copy(&mut self.decaying[range], values),
                (Some(values), LatentHolder::Steady) => copy(&mut self.steady[range], values),
                (None, LatentHolder::Constants) => {
                    if let Some(values) = golden.constants.get(tensor.name) {
                        self.constants[range].copy_from_slice(values);
                        fixed += 1;
                    }
                    continue;
                }
                _ => panic!("{}: tensor {} is not in the golden", golden.method, tensor.name),
            }
            taken += 1;
        }
        assert_eq!(taken, golden.tensors.len(), "{}", golden.method);
        assert_eq!(fixed, golden.constants.len(), "{}: constants", golden.method);
    }

    /// The delta of the weight that its terms are, in published order.
    fn effective(&self) -> Vec<f64> {
        let (row, rank) = (self.site.row(), self.layout.rank as usize);
        let entry = |i: usize| {
            let at = self.in_kernel(i);
            let factors = (0..rank)
                .map(|k| f64::from(self.up[at / row * rank + k]) * f64::from(self.down[k * row + at % row]));
            let delta = self.delta.get(at).map_or_else(|| factors.sum(), |delta| f64::from(*delta));
            let (weight, scale) =
                (self.golden.weight[i], self.scale.get(at / row).map_or(1.0, |s| f64::from(*s)));
            scale * (weight + delta) - weight
        };
        (0..self.golden.delta.len()).map(entry).collect()
    }

    /// What is added to the bias.
    fn shifted(&self) -> Vec<f64> {
        let scale = |channel: usize| self.scale.get(channel).map_or(1.0, |s| f64::from(*s));
        let bias = |channel: usize| self.bias.get(channel).map_or(0.0, |b| f64::from(*b));
        let shift = |channel: usize| self.shift.get(channel).map_or(0.0, |s| f64::from(*s));
        (0..self.golden.shift.len()).map(|o| scale(o) * bias(o) + shift(o) - bias(o)).collect()
    }

    /// The gradients of the trained tensors, given that of the weight.
    fn gradients(&mut self) -> BTreeMap<String, Vec<f64>> {
        let (row, rank) = (self.site.row(), self.layout.rank as usize);
        let mut whole = vec![0.0f32; self.golden.direction.len()];
        for (i, value) in self.golden.direction.iter().enumerate() {
            whole[self.in_kernel(i)] = *value as f32;
        }
        // What a scale multiplies of its row, and what is left of the gradient below it.
        let mut scale = vec![0.0f32; self.scale.len()];
        for (o, sum) in scale.iter_mut().enumerate() {
            for j in 0..row {
                let factors = |k| self.up[o * rank + k] * self.down[k * row + j];
                let delta = self.delta.get(o * row + j).copied();
                let moved = self.weight[o * row + j] + delta.unwrap_or_else(|| (0..rank).map(factors).sum());
                *sum += whole[o * row + j] * moved;
                whole[o * row + j] *= self.scale[o];
            }
        }
        let (mut down, mut up) = (vec![0.0f32; self.down.len()], vec![0.0f32; self.up.len()]);
        for (i, (o, k)) in (0..self.site.out).flat_map(|o| (0..rank).map(move |k| (o, k))).enumerate() {
            for j in 0..row {
                up[i] += whole[o * row + j] * self.down[k * row + j];
                down[k * row + j] += whole[o * row + j] * self.up[i];
            }
        }
        let (mut decaying, mut steady) = (vec![0.0; self.decaying.len()], vec![0.0; self.steady.len()]);
        let mut gradients = LatentGradients { decaying: &mut decaying, steady: &mut steady };
        let shifts = if self.golden.shift.is_empty() { 0 } else { self.shift.len() };
        let mut first: Vec<f32> =
            self.golden.direction.chunks(row).take(shifts).map(|along| along[0] as f32).collect();
        let present = |values| -> Option<&mut [f32]> { Some(values) };
        let mut terms = if rank == 0 {
            SiteGrads { dense: present(&mut whole), ..SiteGrads::default() }
        } else {
            SiteGrads { down: Some(&mut down), up: Some(&mut up), ..SiteGrads::default() }
        };
        terms.dense = terms.dense.filter(|_| !self.delta.is_empty());
        terms.scale = (!scale.is_empty()).then_some(&mut scale);
        terms.shift = (!first.is_empty()).then_some(&mut first);
        self.run(|method, site, latent, _| method.pull_back(site, latent, &terms, &mut gradients));
        let held = self.tensors.iter().filter_map(|tensor| {
            let range = tensor.first..tensor.first + tensor.rows * tensor.columns;
            let values = match tensor.holder {
                LatentHolder::Decaying => &decaying[range],
                LatentHolder::Steady => &steady[range],
                LatentHolder::Constants => return None,
            };
            Some((tensor.name.to_string(), values.iter().map(|v| f64::from(*v)).collect()))
        });
        held.collect()
    }
}

fn copy(to: &mut [f32], from: &[f64]) {
    assert_eq!(to.len(), from.len(), "a tensor has another size");
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
}

/// The largest difference, relative to the largest value.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
    assert!(largest > 0.0 && got.iter().all(|v| v.is_finite()), "nothing to compare");
    got.iter().zip(want).fold(0.0f64, |furthest, (g, w)| furthest.max((g - w).abs())) / largest
}

fn compare(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/methods").join(file);
    let text = std::fs::read_to_string(path).expect("goldens are committed");
    let goldens: Vec<Golden> = serde_json::from_str(&text).expect("goldens are what their script writes");
    let mut failures = Vec::new();
    for golden in &goldens {
        let mut subject = Subject::new(golden);
        let title = format!("{} {:?} {}x{}", golden.method, golden.settings, golden.out, subject.site.row());
        let still = golden.delta.iter().all(|delta| *delta == 0.0);
        let apart = if still && subject.effective() == golden.delta {
            0.0
        } else {
            distance(&subject.effective(), &golden.delta)
        };
        if apart > TOLERANCE {
            failures.push(format!("{title}: weights {apart:.1e} apart"));
        }
        let apart = if golden.shift.is_empty() { 0.0 } else { distance(&subject.shifted(), &golden.shift) };
        if apart > TOLERANCE {
            failures.push(format!("{title}: biases {apart:.1e} apart"));
        }
        let gradients = if golden.gradient.is_empty() { BTreeMap::new() } else { subject.gradients() };
        for (name, want) in &golden.gradient {
            let apart = distance(&gradients[name], want);
            if apart > TOLERANCE {
                failures.push(format!("{title}: gradients of {name} {apart:.1e} apart"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), goldens.len(), failures.join("\n"));
}

#[test]
fn peft_computes_the_same_weights_and_gradients() {
    compare("peft.json");
}

#[test]
fn a_second_implementation_computes_the_same_weights() {
    compare("numpy.json");
}

/// Relative to the largest value.
const TOLERANCE: f64 = 1e-5;
