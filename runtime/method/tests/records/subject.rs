//! A method of ours at the site of a case.

use ingraft_kernel::elementwise::UnaryFn;
use ingraft_kernel::{SiteDesc, SiteGrads, SiteKind};
use ingraft_method::{Saliency, Score, build, build_on, score_for};
use ingraft_tensor::{DType, Rng};
use ingraft_train::{
    FrozenSite, Latent, LatentGradients, LatentHolder, LatentTensor, Method, SiteValues, TermLayout, Unfit,
};

use crate::case::{Array, Case};
use crate::net;
use crate::table::{Entry, Place};

/// A method with its memory, holding the values of a case.
pub(crate) struct Subject<'c> {
    entry: &'c Entry,
    case: &'c Case,
    method: Box<dyn Method>,
    site: SiteDesc<'static>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    layout: TermLayout,
    tensors: Vec<LatentTensor>,
    constants: Vec<f64>,
    workspace: Vec<f64>,
    indptr: Vec<u32>,
    indices: Vec<u16>,
    values: Vectors,
}

/// What is trained, and the terms.
#[derive(Clone, Default)]
struct Vectors {
    decaying: Vec<f32>,
    steady: Vec<f32>,
    down: Vec<f32>,
    up: Vec<f32>,
    sparse: Vec<f32>,
    dense: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl<'c> Subject<'c> {
    /// The method that `entry` names at the site of `case`, started, then filled with its values.
    pub(crate) fn new(
        entry: &'c Entry,
        case: &'c Case,
        settings: &[(String, String)],
    ) -> Result<Self, String> {
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(k, v)| (entry.renamed(k), v.as_str())).collect();
        let site = site(case);
        let mut weight = vec![0.0; case.weight.data.len()];
        for (place, value) in case.weight.data.iter().enumerate() {
            weight[stored(&site, place)] = *value as f32;
        }
        let made = match score_for(entry.method, &settings).map_err(|e| e.to_string())? {
            // What is measured there is but where values start.
            None | Some(Score::Rounding) => build(entry.method, &settings),
            Some(score) => {
                let unmeasured = build(entry.method, &settings).map(|method| method.layout(&site));
                assert!(matches!(unmeasured, Ok(Err(Unfit::Unmeasured))), "{} guesses", entry.method);
                let saliency = measured(case, site, &weight, score);
                scores_agree(case, site.name, &saliency)?;
                build_on(entry.method, &settings, &saliency)
            }
        };
        let method = made.map_err(|e| e.to_string())?;
        let layout = method.layout(&site).map_err(|e| e.to_string())?;
        let mut tensors = Vec::new();
        method.tensors(&site, &mut |tensor| tensors.push(tensor));
        let (latent, rank) = (layout.latent, layout.rank as usize);
        let per_channel = |trained: bool| if trained { site.out } else { 0 };
        let values = Vectors {
            decaying: vec![0.0; latent.decaying as usize],
            steady: vec![0.0; latent.steady as usize],
            down: vec![0.0; site.groups * rank * site.row()],
            up: vec![0.0; site.out * rank],
            sparse: vec![0.0; layout.nnz as usize],
            dense: vec![0.0; if layout.dense { site.out * site.row() } else { 0 }],
            scale: vec![1.0; per_channel(layout.scale)],
            shift: vec![0.0; per_channel(layout.shift)],
        };
        let mut subject = Self {
            entry,
            case,
            method,
            weight,
            bias: case.bias.iter().flat_map(|bias| &bias.data).map(|v| *v as f32).collect(),
            layout,
            tensors,
            constants: vec![0.0; latent.constants as usize],
            workspace: vec![0.0; latent.workspace as usize],
            indptr: vec![0; if layout.nnz == 0 { 0 } else { site.out + 1 }],
            indices: vec![0; layout.nnz as usize],
            values,
            site,
        };
        subject.start();
        subject.fill()?;
        if subject.is_latent() {
            subject.run(|method, site, latent, terms| method.compute(site, latent, terms));
        }
        Ok(subject)
    }

    fn is_latent(&self) -> bool {
        self.layout.latent.decaying != 0 || self.layout.latent.steady != 0
    }

    fn position(&self, place: usize) -> usize {
        position(&self.site, place)
    }

    fn run(&mut self, act: impl FnOnce(&dyn Method, &FrozenSite<'_>, &mut Latent<'_>, &mut SiteValues<'_>)) {
        let site = FrozenSite::of_layer(self.site, &self.weight, &self.bias).expect("the site's own size");
        let mut latent = Latent {
            decaying: &mut self.values.decaying,
            steady: &mut self.values.steady,
            constants: &mut self.constants,
            workspace: &mut self.workspace,
        };
        let mut terms = SiteValues {
            down: &mut self.values.down,
            up: &mut self.values.up,
            sparse: &mut self.values.sparse,
            dense: &mut self.values.dense,
            indptr: &mut self.indptr,
            indices: &mut self.indices,
            scale: &mut self.values.scale,
            shift: &mut self.values.shift,
        };
        act(&*self.method, &site, &mut latent, &mut terms);
    }

    /// As the trainer starts a site.
    fn start(&mut self) {
        let mut rng = Rng::new(7);
        self.run(|method, site, _, terms| method.initialize(site, &mut rng, terms));
        if self.is_latent() {
            self.run(|method, site, latent, _| method.start(site, &mut rng, latent));
        }
        if let Some(places) = (self.entry.chosen)(self.case) {
            self.choose(&places);
        }
    }

    /// Takes over places that the other implementation drew, as many as were drawn here.
    fn choose(&mut self, places: &[usize]) {
        let row = self.site.row();
        let mut chosen: Vec<_> = places.iter().map(|place| (place / row, self.position(*place))).collect();
        chosen.sort_unstable();
        for (channel, end) in self.indptr.iter_mut().enumerate() {
            *end = chosen.iter().filter(|(of, _)| *of < channel).count() as u32;
        }
        self.indices.iter_mut().zip(&chosen).for_each(|(to, (_, position))| *to = *position as u16);
    }

    /// Takes the case's values over. Every trained value here must get one, and no other.
    fn fill(&mut self) -> Result<(), String> {
        for tensor in self.tensors.clone() {
            if tensor.holder == LatentHolder::Constants
                && let Some(given) = (self.entry.constant)(self.case, tensor.name)
            {
                let range = tensor.first..tensor.first + tensor.rows * tensor.columns;
                if given.len() != range.len() {
                    return Err(format!(
                        "constant {} has {} values, not {}",
                        tensor.name,
                        range.len(),
                        given.len()
                    ));
                }
                self.constants[range].copy_from_slice(&given);
            }
        }
        let mut filled = self.values.clone();
        let blank = |values: &mut Vec<f32>| values.fill(f32::NAN);
        if self.is_latent() {
            [&mut filled.decaying, &mut filled.steady].into_iter().for_each(blank);
        } else {
            let Vectors { down, up, sparse, dense, scale, shift, .. } = &mut filled;
            [down, up, sparse, dense, scale, shift].into_iter().for_each(blank);
        }
        for (name, array) in &self.case.tensors {
            for (i, value) in array.data.iter().enumerate() {
                for place in (self.entry.places)(self.case, name, i) {
                    let (vector, at) = self.locate(&mut filled, &place)?;
                    vector[at] = (value * place.factor + place.offset) as f32;
                }
            }
        }
        let trained = self.trained(&filled);
        let missing = trained.iter().filter(|v| v.is_nan()).count();
        if self.entry.padded {
            let Vectors { decaying, steady, shift, .. } = &mut filled;
            decaying.iter_mut().chain(steady).chain(shift).filter(|v| v.is_nan()).for_each(|v| *v = 0.0);
        } else if missing != 0 {
            return Err(format!(
                "{missing} of {} trained values are in no tensor of the case",
                trained.len()
            ));
        }
        self.values = filled;
        Ok(())
    }

    /// The trained values among `values`.
    fn trained(&self, values: &Vectors) -> Vec<f32> {
        let Vectors { decaying, steady, down, up, sparse, dense, scale, shift } = values;
        if self.is_latent() {
            return [decaying, steady].into_iter().flatten().copied().collect();
        }
        [down, up, sparse, dense, scale, shift].into_iter().flatten().copied().collect()
    }

    /// The vector and the place in it that `place` names.
    fn locate<'v>(
        &self,
        values: &'v mut Vectors,
        place: &Place,
    ) -> Result<(&'v mut Vec<f32>, usize), String> {
        let vector = match self.entry.renamed(&place.tensor) {
            "down" => return Ok((&mut values.down, self.published(place.index))),
            "up" => return Ok((&mut values.up, place.index)),
            "scale" => return Ok((&mut values.scale, place.index)),
            "shift" => return Ok((&mut values.shift, place.index)),
            "delta" => {
                let at = self.entry_at(place.index).ok_or(format!("place {} was not chosen", place.index))?;
                return Ok((&mut values.sparse, at));
            }
            name => self.tensors.iter().find(|tensor| tensor.name == name),
        };
        let tensor = vector.ok_or(format!("there is no tensor {} here", place.tensor))?;
        if place.index >= tensor.rows * tensor.columns {
            let shape = (tensor.rows, tensor.columns);
            return Err(format!("tensor {} has no element {}: it is {shape:?}", place.tensor, place.index));
        }
        let vector = match tensor.holder {
            LatentHolder::Decaying => &mut values.decaying,
            LatentHolder::Steady => &mut values.steady,
            LatentHolder::Constants => return Err(format!("tensor {} is a constant here", place.tensor)),
        };
        Ok((vector, tensor.first + place.index))
    }

    /// Where element `index` in published order of rows as long as the weight's stands in the kernel's.
    fn published(&self, index: usize) -> usize {
        index / self.site.row() * self.site.row() + self.position(index)
    }

    /// The entry of the sparse term at place `place` of the weight, if it has one there.
    fn entry_at(&self, place: usize) -> Option<usize> {
        let (channel, position) = (place / self.site.row(), self.position(place));
        let range = *self.indptr.get(channel)? as usize..*self.indptr.get(channel + 1)? as usize;
        let found = self.indices[range.clone()].iter().position(|index| usize::from(*index) == position);
        found.map(|at| range.start + at)
    }

    /// Everything in which the method and the case are apart.
    pub(crate) fn compare(mut self) -> Vec<String> {
        let case = self.case;
        let mut failures = Vec::new();
        let trained = self.trained(&self.values).len();
        if trained != (self.entry.parameters)(case) && !self.entry.padded {
            failures.push(format!("{trained} parameters, not {}", case.parameters));
        }
        let (weight, bias) = self.effective();
        let mut apart = |what: &str, got: &[f64], want: &Array| {
            let distance = distance(got, &want.data);
            if distance.is_nan() || distance > TOLERANCE {
                failures.push(format!("{what}: {distance:.1e} apart"));
            }
        };
        apart("weight", &weight, &case.effective_weight);
        if let Some(want) = &case.effective_bias {
            apart("bias", &bias, want);
        }
        let mut gradients = self.gradients();
        for (name, want) in &case.gradients {
            let got: Vec<f64> = (0..want.data.len())
                .map(|i| {
                    let places = (self.entry.places)(case, name, i);
                    let each = places.iter().map(|place| match self.locate(&mut gradients, place) {
                        Ok((vector, at)) => f64::from(vector[at]) * place.factor,
                        Err(_) => f64::NAN,
                    });
                    each.sum()
                })
                .collect();
            apart(&format!("gradients of {name}"), &got, want);
        }
        failures
    }

    /// The delta of the weight at place `place`, before the scale.
    fn delta(&self, place: usize) -> f64 {
        let (row, rank) = (self.site.row(), self.layout.rank as usize);
        let (channel, position) = (place / row, self.position(place));
        let first = channel / (self.site.out / self.site.groups) * rank;
        let product = |k: usize| {
            let down = self.values.down[(first + k) * row + position];
            f64::from(self.values.up[channel * rank + k]) * f64::from(down)
        };
        let sparse = self.entry_at(place).map_or(0.0, |at| f64::from(self.values.sparse[at]));
        let dense = self.values.dense.get(stored(&self.site, place)).map_or(0.0, |delta| f64::from(*delta));
        (0..rank).map(product).sum::<f64>() + sparse + dense
    }

    fn scale(&self, channel: usize) -> f64 {
        self.values.scale.get(channel).map_or(1.0, |scale| f64::from(*scale))
    }

    /// Weight and bias with the terms, in published order.
    fn effective(&self) -> (Vec<f64>, Vec<f64>) {
        if self.site.kind.is_norm() {
            // In place of the base's.
            let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect();
            return (wide(&self.values.scale), wide(&self.values.shift));
        }
        let row = self.site.row();
        let base = self.case.weight.data.iter().enumerate();
        let weight = base.map(|(i, base)| self.scale(i / row) * (base + self.delta(i))).collect();
        let bias = self.case.bias.iter().flat_map(|bias| bias.data.iter().enumerate());
        let shift = |channel: usize| self.values.shift.get(channel).map_or(0.0, |shift| f64::from(*shift));
        (weight, bias.map(|(o, bias)| self.scale(o) * bias + shift(o)).collect())
    }

    /// The gradients of everything trained, given those of weight and bias.
    fn gradients(&mut self) -> Vectors {
        let (row, rank, case) = (self.site.row(), self.layout.rank as usize, self.case);
        let zeros = |values: &Vec<f32>| vec![0.0f32; values.len()];
        let mut into = Vectors {
            decaying: zeros(&self.values.decaying),
            steady: zeros(&self.values.steady),
            down: zeros(&self.values.down),
            up: zeros(&self.values.up),
            sparse: zeros(&self.values.sparse),
            dense: zeros(&self.values.dense),
            scale: zeros(&self.values.scale),
            shift: zeros(&self.values.shift),
        };
        for (place, upstream) in case.upstream.data.iter().enumerate() {
            let (channel, position) = (place / row, self.position(place));
            let below = (upstream * self.scale(channel)) as f32;
            let first = channel / (self.site.out / self.site.groups) * rank;
            for k in 0..rank {
                let (up, down) = (channel * rank + k, (first + k) * row + position);
                into.up[up] += below * self.values.down[down];
                into.down[down] += below * self.values.up[up];
            }
            if let Some(at) = self.entry_at(place) {
                into.sparse[at] = below;
            }
            if let Some(dense) = into.dense.get_mut(stored(&self.site, place)) {
                *dense = below;
            }
            if let Some(scale) = into.scale.get_mut(channel) {
                let value = match self.site.kind.is_norm() {
                    true => 1.0,
                    false => case.weight.data[place] + self.delta(place),
                };
                *scale += (upstream * value) as f32;
            }
        }
        if let (Some(upstream), Some(bias)) = (&case.upstream_bias, &case.bias) {
            let pairs = upstream.data.iter().zip(&bias.data);
            for (channel, (upstream, bias)) in pairs.enumerate() {
                let bias = if self.site.kind.is_norm() { &0.0 } else { bias };
                into.scale.get_mut(channel).into_iter().for_each(|g| *g += (upstream * bias) as f32);
                into.shift.get_mut(channel).into_iter().for_each(|g| *g += *upstream as f32);
            }
        }
        if self.is_latent() {
            self.pull_back(&mut into);
        }
        into
    }

    fn pull_back(&mut self, into: &mut Vectors) {
        let Vectors { decaying, steady, down, up, sparse, dense, scale, shift } = into;
        let some = |values| -> Option<&mut [f32]> {
            let values: &mut Vec<f32> = values;
            (!values.is_empty()).then_some(&mut values[..])
        };
        let terms = SiteGrads {
            down: some(down),
            up: some(up),
            sparse: some(sparse),
            scale: some(scale),
            shift: some(shift),
            dense: some(dense),
        };
        let mut gradients = LatentGradients { decaying, steady };
        self.run(|method, site, latent, _| method.pull_back(site, latent, &terms, &mut gradients));
    }
}

/// Where place `place` of the weight in published order lies in the kernel's row.
fn position(site: &SiteDesc<'_>, place: usize) -> usize {
    let window = site.kernel.iter().product::<usize>();
    let position = place % site.row();
    position % window * site.inputs + position / window
}

/// Where it lies in the stored weight: depthwise weights have the channel innermost.
fn stored(site: &SiteDesc<'_>, place: usize) -> usize {
    let (channel, position) = (place / site.row(), position(site, place));
    match site.kind {
        SiteKind::Depthwise => position * site.out + channel,
        _ => channel * site.row() + position,
    }
}

/// Compares the scores themselves, where they come of a whole net; others are sums over examples where the record has means.
fn scores_agree(case: &Case, site: &str, saliency: &Saliency) -> Result<(), String> {
    // A product with a Hessian is found by differences, in f32.
    let bound = match saliency.score() {
        Score::SynFlow => 1e-9,
        Score::Grasp => 5e-4,
        _ => return Ok(()),
    };
    let wanted = &case.expected["score"];
    let found = saliency.scores(site).ok_or("no scores")?;
    let largest = wanted.data.iter().fold(0.0f64, |largest, score| largest.max(score.abs()));
    let apart = found.iter().zip(&wanted.data).map(|(f, w)| (f - w).abs() / largest).fold(0.0, f64::max);
    println!("{}: {} apart by {apart:.1e} of the largest", case.title(), saliency.score().name());
    (found.len() == wanted.data.len() && apart <= bound)
        .then_some(())
        .ok_or_else(|| format!("scores differ by {apart:e} of the largest: {found:?} {:?}", wanted.data))
}

/// What the gradients that a case gives say of its site, and of another where it has two.
fn measured(case: &Case, site: SiteDesc<'static>, weight: &[f32], score: Score) -> Saliency {
    let frozen = |site, weight| FrozenSite::of_weight(site, weight).expect("the weight of the site");
    if let Score::Attribution(_) = score {
        let mut saliency = Saliency::of_sites(&[frozen(site, weight)], score);
        let path = &case.constants["path_gradients"];
        let [points, out] = [path.shape[1], path.shape[2]];
        for clip in path.data.chunks(points * out) {
            let mean = |o: usize| (0..points).map(|k| clip[k * out + o]).sum::<f64>() / points as f64;
            assert!(
                saliency.observe_outputs(site.name, &(0..out).map(mean).collect::<Vec<_>>()),
                "the site was given"
            );
        }
        return saliency;
    }
    if let Score::SynFlow | Score::Grasp = score {
        return net::measured(case, site, score, UnaryFn::Tanh).expect("a net of sums and activations");
    }
    let given = |names: &[&str]| names.iter().find_map(|name| case.constants.get(*name));
    let own = given(&["gradients", "gradient_sum", "gradient_stack"])
        .expect("a case of a score of gradients has them");
    let other = given(&["other_gradients", "other_gradient_sum"]);
    let sides = other.map_or([1, 1], |array| *array.shape.last_chunk().expect("matrices"));
    let blank = vec![0.0; sides[0] * sides[1]];
    let beside = SiteDesc { name: "other", kind: SiteKind::Linear, out: sides[0], inputs: sides[1], ..site };
    let beside = SiteDesc { kernel: [1, 1], groups: 1, ..beside };
    let mut sites = vec![frozen(site, weight)];
    sites.extend(other.map(|_| frozen(beside, &blank)));
    let mut saliency = Saliency::of_sites(&sites, score);
    for (site, array) in [(site, Some(own)), (beside, other)] {
        let Some(array) = array else { continue };
        for batch in array.data.chunks(site.out * site.row()) {
            let mut turned = vec![0.0f32; batch.len()];
            for (place, value) in batch.iter().enumerate() {
                turned[stored(&site, place)] = *value as f32;
            }
            assert!(saliency.observe_site(site.name, &turned), "the site was given");
        }
    }
    saliency
}

/// The site of a case.
pub(crate) fn site(case: &Case) -> SiteDesc<'static> {
    let (out, groups) = (case.site.out, case.site.groups);
    let kernel = <[usize; 2]>::try_from(&case.site.kernel[..]).unwrap_or([1, 1]);
    let inputs = case.site.inputs / groups;
    let kind = match &*case.site.kind {
        "linear" => SiteKind::Linear,
        "conv" if groups == out && inputs == 1 => SiteKind::Depthwise,
        "conv" => SiteKind::Conv,
        "norm" => SiteKind::Norm,
        other => panic!("cases of {other} sites are not for one site"),
    };
    SiteDesc { name: "layer", kind, dtype: DType::F32, out, inputs, kernel, groups, transposed: false }
}

/// The largest difference, relative to the largest value or 1 where all are smaller.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    let largest = want.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
    let furthest = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    furthest.fold(0.0f64, |a, b| if b.is_nan() { b } else { a.max(b) })
        / if largest == 0.0 { 1.0 } else { largest }
}

/// Trained values are f32.
const TOLERANCE: f64 = 1e-5;
