//! The base an adapter is made for: its sites, as they were before compilation folded anything into them.

use ingraft_adapter::AdapterBuilder;
use ingraft_kernel::attrs::{Attrs, NormAttrs};
use ingraft_kernel::{OpCode, SiteDesc, Sites, norm};
use ingraft_method::in_kernel;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes;
use ingraft_train::FrozenSite;

use crate::matrix::Matrix;
use crate::tensors::{Tensor, Tensors};
use crate::{Fault, ImportError};

/// A plan and, where they are at hand, the float initializers of the model it was compiled from.
#[derive(Clone, Debug)]
pub struct Base<'p> {
    /// The plan.
    pub plan: PlanView<'p>,
    /// Initializers by ONNX name; empty where only the plan is known.
    pub initializers: Tensors,
}

/// One site with its weight as the model file had it.
#[derive(Clone, Debug)]
pub(crate) struct Place<'p> {
    pub(crate) index: usize,
    /// The site in the plan.
    pub(crate) frozen: FrozenSite<'p>,
    /// `[out, row]` in published order, before batch norms were folded in and channels equalized.
    pub(crate) weight: Matrix,
    /// The factors with W_plan = diag(o)·W·diag(i), one per output and per input channel.
    pub(crate) output: Vec<f64>,
    pub(crate) input: Vec<f64>,
    /// The bias that belongs to `weight`; unknown where a batch norm was folded and no initializers are at hand.
    pub(crate) bias: Option<Vec<f64>>,
    /// The one that the initializers have beside `weight`.
    pub(crate) float_bias: Option<Vec<f64>>,
    /// Whether `weight` is the float one, not the quantized one read back.
    pub(crate) exact: bool,
    /// Those of a batch normalization that compilation left one.
    pub(crate) statistics: Option<Statistics>,
}

/// The statistics of a batch normalization, per channel.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    /// μ.
    pub(crate) centre: Vec<f64>,
    /// σ, with its ε.
    pub(crate) deviation: Vec<f64>,
    /// σ² without ε, where the initializers have it.
    pub(crate) variance: Option<Vec<f64>>,
}

impl<'p> Place<'p> {
    pub(crate) fn desc(&self) -> &SiteDesc<'p> {
        &self.frozen.desc
    }

    /// Output channels and elements of a row.
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.frozen.desc.out, self.frozen.desc.row())
    }

    /// The factor of input channel at `position` of a published row.
    pub(crate) fn input_factor(&self, position: usize) -> f64 {
        let window = self.frozen.desc.kernel.iter().product::<usize>().max(1);
        self.input.get(position / window).copied().unwrap_or(1.0)
    }

    /// What a folded batch norm adds per channel: bias_plan = o·b + t.
    pub(crate) fn folded_shift(&self) -> Option<Vec<f64>> {
        let bias = self.bias.as_ref()?;
        let plan = |channel| f64::from(self.frozen.real_bias(channel));
        Some((0..bias.len()).map(|c| plan(c) - self.output[c] * bias[c]).collect())
    }
}

impl<'p> Base<'p> {
    /// The sites by name.
    pub(crate) fn sites(&'p self) -> impl Iterator<Item = (usize, SiteDesc<'p>)> + 'p {
        (0..self.plan.site_count()).filter_map(|index| Some((index, self.plan.site(index)?)))
    }

    /// The site called `name`.
    pub(crate) fn site(&'p self, name: &str) -> Option<usize> {
        self.sites().find(|(_, site)| site.name == name).map(|(index, _)| index)
    }

    /// Name of the ONNX node that applies site `index`.
    pub(crate) fn node(&self, index: usize) -> &'p str {
        let place = self.plan.site_tensors(Phase::Infer, index);
        let step = place.and_then(|place| self.plan.step(Phase::Infer, place.step as usize));
        step.map_or("", |step| step.name)
    }

    /// A builder of an adapter for this base.
    pub(crate) fn builder(&self) -> AdapterBuilder {
        AdapterBuilder::new(&self.plan)
    }

    /// Site `index` with its weight.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] where the site has no weight of a linear layer, convolution, normalization or table.
    pub(crate) fn place(&'p self, index: usize) -> Result<Place<'p>, ImportError> {
        let name = self.plan.site(index).map_or("?", |site| site.name);
        let unsupported = "only linear layers, convolutions, normalizations and tables take imported terms";
        let frozen = FrozenSite::new(&self.plan, index)
            .ok_or_else(|| ImportError::at(name, Fault::Unsupported(unsupported)))?;
        let (out, row) = (frozen.desc.out, frozen.desc.row());
        let (output, input) = self.plan.site_diagonals(index);
        let folded = output.is_some();
        let factors = |held: Option<&[f32]>, count: usize| -> Vec<f64> {
            held.map_or_else(|| vec![1.0; count], |held| held.iter().map(|v| f64::from(*v)).collect())
        };
        let (output, input) = (factors(output, out), factors(input, frozen.desc.inputs));
        let mut place = Place {
            index,
            frozen,
            weight: Matrix::zeros(out, row),
            output,
            input,
            bias: None,
            float_bias: None,
            exact: false,
            statistics: None,
        };
        place.statistics = self.statistics(index);
        match self.initializers.get(name).and_then(|tensor| published(tensor, &place.frozen.desc)) {
            Some(weight) => (place.weight, place.exact) = (weight, true),
            None => place.weight = read_back(&place),
        }
        let bias = name.strip_suffix("weight").and_then(|stem| self.initializers.get(&format!("{stem}bias")));
        place.float_bias = bias.map(|bias| bias.values.clone()).filter(|values| values.len() == out);
        place.bias = self.bias(&place, folded);
        Ok(place)
    }

    /// The float weight of site `index` on the scales of the plan, what compilation folded in folded in: `[out, row]`, rows in
    /// published order; `None` where the initializers do not have it.
    pub fn float_weight(&'p self, index: usize) -> Option<Vec<f64>> {
        let place = self.place(index).ok().filter(|place| place.exact)?;
        let (out, row) = place.shape();
        let carried = |channel: usize, position: usize| {
            place.output[channel] * place.weight.at(channel, position) * place.input_factor(position)
        };
        Some((0..out * row).map(|i| carried(i / row, i % row)).collect())
    }

    /// The statistics of site `index`: the constants of the step before it, where it is a batch normalization.
    fn statistics(&self, index: usize) -> Option<Statistics> {
        let last = self.plan.site_tensors(Phase::Infer, index)?.step as usize;
        let read =
            *self.plan.step(Phase::Infer, last).filter(|step| step.op == OpCode::Norm)?.inputs.first()?;
        let mut before = (0..last).rev().filter_map(|step| self.plan.step(Phase::Infer, step));
        let step = before.find(|step| step.outputs.contains(&read))?;
        let affine = NormAttrs::read(step.attrs).is_some_and(|attrs| attrs.kind == norm::AFFINE);
        (step.op == OpCode::Norm && affine && step.site.is_none()).then_some(())?;
        let vector = |at: usize| match self.plan.tensor(*step.inputs.get(at)?)?.operand.place {
            ingraft_kernel::Place::Plan(held) => bytes::cast::<f32>(held),
            ingraft_kernel::Place::Memory(_) => None,
        };
        let deviation: Vec<f64> = vector(1)?.iter().map(|inverse| 1.0 / f64::from(*inverse)).collect();
        let centre =
            vector(2)?.iter().zip(&deviation).map(|(shift, deviation)| -f64::from(*shift) * deviation);
        let name = self.plan.site(index)?.name.strip_suffix("weight")?;
        let variance = self.initializers.get(&format!("{name}running_var")).map(|held| held.values.clone());
        let variance = variance.filter(|held| held.len() == deviation.len());
        Some(Statistics { centre: centre.collect(), deviation, variance })
    }

    /// The bias beside the weight of `place`, which is called like it.
    fn bias(&self, place: &Place<'_>, folded: bool) -> Option<Vec<f64>> {
        let out = place.frozen.desc.out;
        if !folded {
            return Some((0..out).map(|channel| f64::from(place.frozen.real_bias(channel))).collect());
        }
        place.float_bias.clone().or_else(|| place.exact.then(|| vec![0.0; out]))
    }
}

/// The weight of the plan, with what compilation multiplied it by taken out again.
fn read_back(place: &Place<'_>) -> Matrix {
    let desc = &place.frozen.desc;
    Matrix::from_fn(desc.out, desc.row(), |channel, position| {
        let held = f64::from(place.frozen.weight(channel, in_kernel(desc, position)));
        let factor = place.output[channel] * place.input_factor(position);
        if factor == 0.0 { 0.0 } else { held / factor }
    })
}

/// An initializer as rows of published order; `None` when it has not the shape of the site.
fn published(tensor: &Tensor, site: &SiteDesc<'_>) -> Option<Matrix> {
    let (out, row) = (site.out, site.row());
    (tensor.values.len() == out * row).then_some(())?;
    let matrix = |rows, columns| Matrix::new(rows, columns, tensor.values.clone());
    Some(if site.transposed { matrix(row, out).transpose() } else { matrix(out, row) })
}
