//! From a float graph and sample inputs to a quantized graph.
//!
//! Batch normalizations that no convolution took in become products and sums. The graph is equalized, run on the samples by
//! the executor, rounded where its operators have integer forms, and its biases are corrected for what rounding did. Each step
//! takes the result of the one before and changes none.

mod correct;
mod equalize;
mod histogram;
mod observe;
mod range;
mod runs;

use std::collections::BTreeMap;

use ingraft_exec::ExecError;
use ingraft_kernel::Host;
use ingraft_plan::PlanError;

use self::equalize::Equalized;
use self::histogram::Histogram;
use self::observe::{ChannelMeans, Watch, observe};
pub use self::range::RangeMethod;
use self::runs::Runs;
use crate::graph::diagonal::Diagonals;
use crate::graph::simplify::batch_norm;
use crate::graph::{Graph, ValueId};
use crate::lower::LowerError;
use crate::op::Op;
use crate::quantize::{Corrections, Placement, Ranges, Role, Weights, insert};

/// How to quantize a float model after training.
#[derive(Clone, Debug)]
pub struct CalibrateOptions {
    /// Sample inputs: per sample, for every model input its name and the bytes of one or several runs, back to back.
    pub samples: Vec<Vec<(String, Vec<u8>)>>,
    /// How ranges follow from the values seen.
    pub method: RangeMethod,
    /// Whether the ranges of channels between convolutions are equalized first.
    pub equalize: bool,
    /// Whether biases are corrected by the mean error that rounding makes on the samples.
    pub bias_correction: bool,
    /// What runs the samples.
    pub target: Host,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        Self {
            samples: Vec::new(),
            // The least that adapters, which move activations, can run into.
            method: RangeMethod::MinMax,
            // Weights have a scale per channel already, so this helps few models and harms others.
            equalize: false,
            bias_correction: true,
            target: Host::SCALAR,
        }
    }
}

/// A quantized graph, and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The graph, rounded by `QuantizeLinear` and `DequantizeLinear` nodes.
    pub graph: Graph,
    /// What was multiplied into weights, here and before.
    pub diagonals: Diagonals,
    /// Per node that was left to compute on reals, why.
    pub float_reasons: FloatReasons,
}

/// Why nodes compute on reals, by name.
pub type FloatReasons = BTreeMap<String, &'static str>;

/// Why a model was not quantized.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CalibrateError {
    /// There is nothing to run the model on.
    NoSamples,
    /// A sample does not fit a model input.
    Input {
        /// Index of the sample.
        sample: usize,
        /// Name of the model input.
        input: String,
        /// Bytes of one run.
        expected: usize,
        /// Bytes given, which are no multiple of that or another number of runs than those of other inputs; `None`
        /// where the sample lacks the input.
        found: Option<usize>,
    },
    /// The model has quantized parts already.
    AlreadyQuantized {
        /// The first node that rounds.
        node: String,
    },
    /// A value is infinite or not a number on the samples.
    NotFinite {
        /// Name of the value.
        value: String,
    },
    /// The float model has no plan.
    Lower(LowerError),
    /// The float plan could not be read.
    Plan(PlanError),
    /// The float plan could not be run.
    Exec(ExecError),
}

impl core::fmt::Display for CalibrateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoSamples => f.write_str("there are no sample inputs to calibrate with"),
            Self::Input { sample, input, expected, found: None } => {
                write!(f, "sample {sample} lacks input {input:?} of {expected} bytes")
            }
            Self::Input { sample, input, expected, found: Some(found) } => write!(
                f,
                "sample {sample} has {found} bytes for input {input:?}; one run takes {expected}, and every input \\
                 needs as many runs"
            ),
            Self::AlreadyQuantized { node } => {
                write!(f, "the model is quantized already, at node {node:?}; compile it without calibration")
            }
            Self::NotFinite { value } => {
                write!(f, "value {value:?} is infinite or not a number on the samples; check their scale")
            }
            Self::Lower(error) => error.fmt(f),
            Self::Plan(error) => error.fmt(f),
            Self::Exec(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CalibrateError {}

impl From<LowerError> for CalibrateError {
    fn from(error: LowerError) -> Self {
        Self::Lower(error)
    }
}

impl From<PlanError> for CalibrateError {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<ExecError> for CalibrateError {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}

/// Quantizes `graph`, which has its channels last.
///
/// # Numerics
/// Weights become int8 in −127…127 with a scale per output channel, activations int8 with one scale and a zero point.
///
/// # Errors
/// [`CalibrateError`].
pub fn calibrate(
    graph: Graph,
    diagonals: Diagonals,
    options: &CalibrateOptions,
) -> Result<Calibrated, CalibrateError> {
    if let Some(node) = graph.nodes.iter().find(|node| matches!(node.op, Op::QuantizeLinear { .. })) {
        return Err(CalibrateError::AlreadyQuantized { node: node.name.clone() });
    }
    let graph = batch_norm::written_out(graph);
    let runs = Runs::new(&graph, &options.samples)?;
    let Equalized { graph, diagonals } = match options.equalize {
        true => equalize::equalize(graph, diagonals, &runs, &options.target)?,
        false => Equalized { graph, diagonals },
    };
    let placement = Placement::of(&graph);
    let (ranges, means) = survey(&graph, &placement, &runs, options)?;
    let quantized =
        |corrections: &Corrections, weights| insert(&graph, &placement, &ranges, corrections, weights);
    let mut corrections = Corrections::new();
    if options.bias_correction {
        let simulated = quantized(&corrections, Weights::Simulated);
        corrections = correct::corrections(&simulated, &placement.layers, &means, &runs, &options.target)?;
    }
    let float_reasons = graph.nodes.iter().zip(&placement.roles).filter_map(|(node, role)| match role {
        Role::Float(reason) => Some((node.name.clone(), *reason)),
        _ => None,
    });
    Ok(Calibrated {
        float_reasons: float_reasons.collect(),
        graph: quantized(&corrections, Weights::Codes),
        diagonals,
    })
}

/// The ranges of the rounded values and the channel means of the layers, on the samples.
fn survey(
    graph: &Graph,
    placement: &Placement,
    runs: &Runs,
    options: &CalibrateOptions,
) -> Result<(Ranges, Vec<ChannelMeans>), CalibrateError> {
    let observed: Vec<ValueId> = placement.observed().collect();
    let mut histograms = vec![Histogram::new(); observed.len()];
    let layers = if options.bias_correction { placement.layers.as_slice() } else { &[] };
    let mut means = vec![ChannelMeans::default(); layers.len()];
    let mut watched: Vec<Watch<'_>> = Vec::new();
    for (value, histogram) in observed.iter().zip(&mut histograms) {
        watched.push((*value, histogram));
    }
    for (layer, means) in layers.iter().zip(&mut means) {
        watched.push((layer.output, means));
    }
    observe(graph, runs, &options.target, &mut watched)?;
    let mut ranges = Ranges::new();
    for (value, histogram) in observed.into_iter().zip(&histograms) {
        if !histogram.is_finite() {
            return Err(CalibrateError::NotFinite { value: graph[value].name.clone() });
        }
        ranges.insert(value, options.method.range(histogram));
    }
    Ok((ranges, means))
}

#[cfg(test)]
mod tests;
