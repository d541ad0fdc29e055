//! Empirical bias correction: rounding errors that shift the mean of a channel go into its bias.
//!
//! The layers are corrected in order, each on inputs that the layers before it, corrected already, give it. All runs
//! advance together from layer to layer, so that one pass over the samples does.
//!
//! Source: M. Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, 2019, section
//! 4.2 and appendix D.

use std::collections::BTreeMap;

use ingraft_adapter::Base;
use ingraft_exec::{Session, Silent};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};

use super::CalibrateError;
use super::observe::{Aligned, ChannelMeans, Statistic, floats, in_session, watchable};
use super::runs::Runs;
use crate::graph::Graph;
use crate::lower::emit::{EmitOptions, emit};
use crate::lower::memory::live_ranges;
use crate::lower::{Program, TensorRef};
use crate::quantize::{Corrections, Layer};

/// What to add to the biases of `layers` so that `simulated`, which computes on reals what the quantized graph does
/// on codes, has the channel means of the float graph, `wanted`.
pub(super) fn corrections(
    simulated: &Graph,
    layers: &[Layer],
    wanted: &[ChannelMeans],
    runs: &Runs,
    target: &Host,
) -> Result<Corrections, CalibrateError> {
    let outputs: Vec<_> = layers.iter().map(|layer| layer.output).collect();
    let (program, tensors) = watchable(simulated, &outputs)?;
    let mut stops: Vec<Stop<'_>> = Vec::new();
    let producers = program.producers();
    for ((layer, tensor), wanted) in layers.iter().zip(&tensors).zip(wanted) {
        if let Some(step) = producers[program.root(*tensor).0] {
            stops.push(Stop { layer, step, tensor: program.root(*tensor), wanted });
        }
    }
    stops.sort_by_key(|stop| stop.step);
    let plan = Aligned::of(&emit(&program, None, &EmitOptions::default())?);
    in_session(&plan, target, |session| {
        let march = March { tensors: Tensors::of(&program, session.plan()), stops: &stops };
        march.run(session, runs)
    })
}

/// Where the runs stop to have a layer corrected.
struct Stop<'l> {
    layer: &'l Layer,
    step: usize,
    /// What the layer makes.
    tensor: TensorRef,
    wanted: &'l ChannelMeans,
}

/// The tensors of the plan that are alive behind each step.
struct Tensors {
    /// Plan index, length, first and last step.
    ranges: Vec<(TensorRef, u32, usize, core::ops::Range<usize>)>,
}

impl Tensors {
    fn of(program: &Program, plan: &PlanView<'_>) -> Self {
        let mut indices: BTreeMap<TensorRef, u32> = BTreeMap::new();
        for (step, operands) in program.steps.iter().enumerate() {
            let view = plan.step(Phase::Infer, step);
            let written = view.iter().flat_map(|view| operands.outputs.iter().zip(view.outputs));
            indices.extend(written.map(|(tensor, index)| (program.root(*tensor), *index)));
        }
        let inputs = program.inputs.iter().zip(plan.inputs());
        indices.extend(inputs.map(|((_, tensor), io)| (program.root(*tensor), io.tensor)));
        let alive = |range: &crate::lower::memory::LiveRange| {
            let index = indices.get(&range.tensor)?;
            Some((range.tensor, *index, program.bytes(range.tensor), range.first..range.last))
        };
        Self { ranges: live_ranges(program, 0).iter().filter_map(alive).collect() }
    }
}
