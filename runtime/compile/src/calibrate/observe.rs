//! Running a graph on the samples and watching its values.

use std::collections::BTreeMap;

use ingraft_adapter::Base;
use ingraft_exec::{MemoryNeeds, Session, StepEvent, Trace};
use ingraft_kernel::{Host, Place};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::bytes::{ALIGN, aligned_mut};

use super::CalibrateError;
use super::runs::Runs;
use crate::aligned::Aligned;
use crate::graph::{Graph, ValueId};
use crate::lower::emit::{EmitOptions, emit};
use crate::lower::{Program, TensorRef, select};

/// Something gathered from the values of a tensor over all runs.
pub(super) trait Statistic {
    /// Takes the values of one run, the channel of `channels` changing fastest.
    fn add(&mut self, values: &[f32], channels: usize);
}

/// The mean of every channel.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelMeans {
    sums: Vec<f64>,
    rows: usize,
}

impl ChannelMeans {
    /// One mean per channel.
    pub(super) fn means(&self) -> impl Iterator<Item = f64> + '_ {
        self.sums.iter().map(|sum| sum / self.rows.max(1) as f64)
    }
}

impl Statistic for ChannelMeans {
    fn add(&mut self, values: &[f32], channels: usize) {
        self.sums.resize(channels, 0.0);
        for row in values.chunks_exact(channels.max(1)) {
            self.sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
            self.rows += 1;
        }
    }
}

/// The largest magnitude of every channel.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelPeaks(pub(super) Vec<f32>);

impl Statistic for ChannelPeaks {
    fn add(&mut self, values: &[f32], channels: usize) {
        self.0.resize(channels, 0.0);
        for row in values.chunks_exact(channels.max(1)) {
            self.0.iter_mut().zip(row).for_each(|(peak, v)| *peak = peak.max(v.abs()));
        }
    }
}

/// A value and what is gathered from it.
pub(super) type Watch<'w> = (ValueId, &'w mut dyn Statistic);

/// Runs `graph` on every run of `runs` and shows each value of `watched` to its statistic.
///
/// The graph is lowered to a plan and runs as any plan does.
pub(super) fn observe(
    graph: &Graph,
    runs: &Runs,
    target: &Host,
    watched: &mut [Watch<'_>],
) -> Result<(), CalibrateError> {
    let values: Vec<ValueId> = watched.iter().map(|(value, _)| *value).collect();
    let (program, tensors) = watchable(graph, &values)?;
    let places = Places::of(&program, &tensors);
    let channels: Vec<usize> = values.iter().map(|v| graph[*v].shape.last().copied().unwrap_or(1)).collect();
    let plan = Aligned::of(&emit(&program, None, &EmitOptions::default())?);
    in_session(&plan, target, |session| {
        let mut observer = Observer { places: &places, channels: &channels, watched };
        for run in runs.iter() {
            for (index, bytes) in run.iter().enumerate() {
                session.write_input(index, bytes)?;
                observer.input(index, bytes);
            }
            session.run_traced(&[Base], &mut observer)?;
        }
        Ok(())
    })
}

/// The program of `graph` in which each of `values` has a tensor, and these tensors.
pub(super) fn watchable(
    graph: &Graph,
    values: &[ValueId],
) -> Result<(Program, Vec<TensorRef>), CalibrateError> {
    let mut wide = graph.clone();
    wide.outputs.extend(values);
    let mut program = select(&wide)?;
    // Only now, that nothing has been fused past them, need they not outlive their last reader.
    let watched = program.outputs.split_off(graph.outputs.len());
    Ok((program, watched.into_iter().map(|(_, tensor)| tensor).collect()))
}

/// Calls `work` with `plan` bound to `target` and to memory of its own.
pub(super) fn in_session<R>(
    plan: &Aligned,
    target: &Host,
    work: impl FnOnce(&mut Session<'_, '_, Host>) -> Result<R, CalibrateError>,
) -> Result<R, CalibrateError> {
    let plan = PlanView::new(plan.bytes())?;
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target)?;
    let mut memory = vec![0; needs.total() + ALIGN];
    work(&mut Session::bind(plan, Phase::Infer, target, aligned_mut(&mut memory))?)
}

/// Where watched tensors come into being.
struct Places {
    /// By step, output and index of the watch.
    steps: BTreeMap<usize, Vec<(usize, usize)>>,
    /// Model input and index of the watch.
    inputs: Vec<(usize, usize)>,
}

impl Places {
    fn of(program: &Program, tensors: &[TensorRef]) -> Self {
        let producers = program.producers();
        let mut places = Self { steps: BTreeMap::new(), inputs: Vec::new() };
        for (index, tensor) in tensors.iter().enumerate() {
            let root = program.root(*tensor);
            let same = |other: &TensorRef| program.root(*other) == root;
            if let Some(step) = producers[root.0] {
                let output = program.steps[step].outputs.iter().position(same).unwrap_or(0);
                places.steps.entry(step).or_default().push((output, index));
            } else if let Some(input) = program.inputs.iter().position(|(_, t)| same(t)) {
                places.inputs.push((input, index));
            }
        }
        places
    }
}

struct Observer<'o, 'w> {
    places: &'o Places,
    channels: &'o [usize],
    watched: &'o mut [Watch<'w>],
}

impl Observer<'_, '_> {
    fn input(&mut self, input: usize, bytes: &[u8]) {
        for (_, watch) in self.places.inputs.iter().filter(|(index, _)| *index == input) {
            self.watched[*watch].1.add(&floats(bytes), self.channels[*watch]);
        }
    }
}

impl Trace<[u8]> for Observer<'_, '_> {
    fn before(&mut self, _: StepEvent<'_, '_>) {}

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) {
        for (output, watch) in self.places.steps.get(&event.index).into_iter().flatten() {
            let place = event.step.outputs().get(*output).map(|operand| operand.place);
            if let Some(Place::Memory(span)) = place
                && let Some(bytes) = memory.get(span.offset..span.end())
            {
                self.watched[*watch].1.add(&floats(bytes), self.channels[*watch]);
            }
        }
    }
}

/// Little-endian floats, wherever they start.
pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
