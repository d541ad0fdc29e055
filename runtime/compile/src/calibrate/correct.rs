//! Empirical bias correction: rounding errors that shift the mean of a channel go into its bias.
//!
//! The layers are corrected in order, each on inputs that the layers before it, corrected already, give it. All runs
//! advance together from layer to layer, so that one pass over the samples does.
//!
//! Source: M. Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, 2019, section
//! 4.2 and appendix D.

use core::ops::Range;
use std::collections::BTreeMap;

use ingraft_adapter::Base;
use ingraft_exec::{ExecError, Session, Silent};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};

use super::CalibrateError;
use super::observe::{ChannelMeans, Statistic, floats, in_session, watchable};
use super::runs::Runs;
use crate::aligned::Aligned;
use crate::graph::{Graph, NodeId};
use crate::lower::emit::{EmitOptions, emit};
use crate::lower::memory::{LiveRange, live_ranges};
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
    let producers = program.producers();
    let stop = |((layer, tensor), wanted): ((&Layer, &TensorRef), &ChannelMeans)| {
        let tensor = program.root(*tensor);
        let means: Vec<f64> = wanted.means().collect();
        Some(Stop { layer: layer.node, step: producers[tensor.0]?, tensor, wanted: means })
    };
    let mut stops: Vec<Stop> = layers.iter().zip(&tensors).zip(wanted).filter_map(stop).collect();
    stops.sort_by_key(|stop| stop.step);
    let plan = Aligned::of(&emit(&program, None, &EmitOptions::default())?);
    in_session(&plan, target, |session| {
        let tensors = LiveTensor::all(&program, session.plan());
        march(session, &tensors, &stops, runs)
    })
}

/// Where the runs stop to have a layer corrected.
struct Stop {
    layer: NodeId,
    step: usize,
    /// What the layer makes.
    tensor: TensorRef,
    /// Its channel means in the float graph.
    wanted: Vec<f64>,
}

/// A tensor of the plan and when it matters.
struct LiveTensor {
    tensor: TensorRef,
    index: u32,
    bytes: usize,
    steps: Range<usize>,
}

impl LiveTensor {
    fn all(program: &Program, plan: &PlanView<'_>) -> Vec<Self> {
        let mut indices: BTreeMap<TensorRef, u32> = BTreeMap::new();
        for (index, step) in program.steps.iter().enumerate() {
            let view = plan.step(Phase::Infer, index);
            let written = view.iter().flat_map(|view| step.outputs.iter().zip(view.outputs));
            indices.extend(written.map(|(tensor, index)| (program.root(*tensor), *index)));
        }
        let inputs = program.inputs.iter().zip(plan.inputs());
        indices.extend(inputs.map(|((_, tensor), io)| (program.root(*tensor), io.tensor)));
        let live = |range: &LiveRange| {
            let (tensor, steps) = (range.tensor, range.first..range.last);
            Some(Self { tensor, index: *indices.get(&tensor)?, bytes: program.bytes(tensor), steps })
        };
        live_ranges(program, 0).iter().filter_map(live).collect()
    }
}

/// The tensors one run needs to go on from where it stands.
type Snapshot = BTreeMap<TensorRef, (u32, Vec<u8>)>;

/// Takes all runs from stop to stop and corrects a layer at each.
fn march(
    session: &mut Session<'_, '_, Host>,
    tensors: &[LiveTensor],
    stops: &[Stop],
    runs: &Runs,
) -> Result<Corrections, CalibrateError> {
    let mut snapshots: Vec<Snapshot> = runs.iter().map(|_| Snapshot::new()).collect();
    let mut corrections = Corrections::new();
    let mut begin = 0;
    for stop in stops {
        let mut found = ChannelMeans::default();
        for (run, snapshot) in runs.iter().zip(&mut snapshots) {
            if begin == 0 {
                run.iter().enumerate().try_for_each(|(index, bytes)| session.write_input(index, bytes))?;
            }
            for (index, bytes) in snapshot.values() {
                let error = ExecError::Io { index: *index, expected: bytes.len() };
                session.write_tensor(*index, bytes).ok_or(error)?;
            }
            session.run_steps(begin..stop.step + 1, &[Base], &mut Silent)?;
            *snapshot = take(session, tensors, stop.step)?;
            let made = snapshot.get(&stop.tensor).map_or(Vec::new(), |(_, bytes)| floats(bytes));
            found.add(&made, stop.wanted.len());
        }
        let shift: Vec<f32> = stop.wanted.iter().zip(found.means()).map(|(w, f)| (w - f) as f32).collect();
        for (_, bytes) in snapshots.iter_mut().filter_map(|snapshot| snapshot.get_mut(&stop.tensor)) {
            let values = floats(bytes).into_iter().zip(shift.iter().cycle()).map(|(v, s)| v + s);
            *bytes = values.flat_map(f32::to_le_bytes).collect();
        }
        corrections.insert(stop.layer, shift);
        begin = stop.step + 1;
    }
    Ok(corrections)
}

/// What is alive behind `step`.
fn take(
    session: &Session<'_, '_, Host>,
    tensors: &[LiveTensor],
    step: usize,
) -> Result<Snapshot, CalibrateError> {
    let mut snapshot = Snapshot::new();
    for live in tensors.iter().filter(|live| live.steps.contains(&step)) {
        let mut bytes = vec![0; live.bytes];
        let error = ExecError::Io { index: live.index, expected: live.bytes };
        session.read_tensor(live.index, &mut bytes).ok_or(error)?;
        snapshot.insert(live.tensor, (live.index, bytes));
    }
    Ok(snapshot)
}
