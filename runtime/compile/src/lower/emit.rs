//! Writing a program, and its training schedule, as plan bytes.

use std::collections::BTreeMap;

use ingraft_kernel::SiteDesc;
use ingraft_plan::{
    ClipRule, IoSpec, Phase, PlanBuilder, PlanFacts, Role, SiteSpec, SiteTensors, StepSpec, TensorId,
    TensorSpec, TensorStorage,
};

use super::memory::{self, MemoryPlan};
use super::train::{self, TrainSchedule};
use super::{LowerError, Program, Storage, TensorRef, accept};

/// What the plan says beside its steps.
#[derive(Clone, Debug, Default)]
pub struct EmitOptions {
    /// Name of the model.
    pub model_name: String,
    /// Words of the front-end recipe of the first input.
    pub recipe: Vec<u32>,
    /// Class names of the first output.
    pub labels: Vec<String>,
    /// How patches become a clip.
    pub clip: Option<ClipRule>,
    /// Samples between patches; 0 for the recipe's own.
    pub hop: u32,
    /// Room for a head.
    pub head_classes: u32,
}

/// Places tensors, lays out the file and hashes it.
///
/// # Errors
/// [`LowerError::TooLarge`].
pub fn emit(
    program: &Program,
    schedule: Option<&TrainSchedule>,
    options: &EmitOptions,
) -> Result<Vec<u8>, LowerError> {
    let mut emitter = Emitter { builder: PlanBuilder::new(), constants: BTreeMap::new() };
    let infer_memory = memory::place(&memory::live_ranges(program, 0));
    let infer = emitter.tensors(program, &infer_memory, &BTreeMap::new())?;
    let mut facts = PlanFacts {
        model_name: options.model_name.clone(),
        float_nodes: program.notes.float_nodes.clone(),
        head_classes: options.head_classes,
        ..PlanFacts::default()
    };
    facts.arena_bytes[0] = to_u32(infer_memory.arena_bytes)?;
    facts.lower_bound_bytes[0] = to_u32(infer_memory.lower_bound_bytes)?;
    let mut train_ids = None;
    if let Some(schedule) = schedule {
        let memory = train::place_beside(schedule, &infer_memory);
        let ids = emitter.tensors(&schedule.program, &memory, &schedule.grads)?;
        facts.arena_bytes[1] = to_u32(memory.arena_bytes)?;
        facts.lower_bound_bytes[1] = to_u32(memory.lower_bound_bytes)?;
        facts.train_cut = to_u32(schedule.cut)?;
        facts.train_backward = to_u32(schedule.backward)?;
        train_ids = Some(ids);
    }
    emitter.sites(program, &infer, train_ids.as_deref(), schedule);
    emitter.steps(Phase::Infer, program, &infer);
    if let (Some(schedule), Some(ids)) = (schedule, &train_ids) {
        emitter.steps(Phase::Train, &schedule.program, ids);
    }
    emitter.io(program, &infer, options);
    let place = |found: Option<(TensorRef, usize)>, ids: Option<&[TensorId]>| {
        let ((tensor, step), ids) = (found?, ids?);
        Some((ids[tensor.0], step as u32))
    };
    let (features, logits) = (train::features(program), train::logits(program));
    facts.features = [place(features, Some(&infer)), place(features, train_ids.as_deref())];
    facts.logits = [place(logits, Some(&infer)), place(logits, train_ids.as_deref())];
    let plan = emitter.builder.finish(&facts);
    let training = schedule.map(|schedule| (Phase::Train, &schedule.program));
    let phases: Vec<_> = [(Phase::Infer, program)].into_iter().chain(training).collect();
    accept::check(&plan, &phases)?;
    Ok(plan)
}

struct Emitter {
    builder: PlanBuilder,
    /// Constants already in the file: both schedules share them.
    constants: BTreeMap<usize, TensorId>,
}

impl Emitter {
    /// Writes the tensors of one schedule; gives their plan indices in order.
    fn tensors(
        &mut self,
        program: &Program,
        memory: &MemoryPlan,
        grads: &BTreeMap<TensorRef, TensorRef>,
    ) -> Result<Vec<TensorId>, LowerError> {
        let mut ids = Vec::with_capacity(program.tensors.len());
        for (index, tensor) in program.tensors.iter().enumerate() {
            let root = program.root(TensorRef(index));
            let storage = match &program.tensors[root.0].storage {
                Storage::Constant(data) => match self.constants.get(&index) {
                    Some(id) => {
                        ids.push(*id);
                        continue;
                    }
                    None => TensorStorage::Blob(data.clone()),
                },
                _ => TensorStorage::Arena(to_u32(memory.offsets.get(&root).copied().unwrap_or(0))?),
            };
            let constant = matches!(storage, TensorStorage::Blob(_));
            let id = self.builder.tensor(&TensorSpec {
                name: tensor.name.clone(),
                dtype: tensor.dtype,
                shape: tensor.shape,
                qparams: tensor.qparams,
                storage,
            });
            if constant {
                self.constants.insert(index, id);
            }
            ids.push(id);
        }
        for (index, id) in ids.iter().enumerate() {
            if let Some(grad) = grads.get(&program.root(TensorRef(index))) {
                self.builder.set_grad(*id, ids[grad.0]);
            }
        }
        Ok(ids)
    }

    fn steps(&mut self, phase: Phase, program: &Program, ids: &[TensorId]) {
        for step in &program.steps {
            let map = |tensors: &[TensorRef]| tensors.iter().map(|t| ids[t.0]).collect();
            self.builder.step(
                phase,
                &StepSpec {
                    op: step.op,
                    attrs: step.attrs.clone(),
                    inputs: map(&step.inputs),
                    outputs: map(&step.outputs),
                    site: step.site.map(|s| s as u32),
                    forward: step.forward.map(|f| f as u32),
                    name: step.name.clone(),
                },
            );
        }
    }

    fn sites(
        &mut self,
        program: &Program,
        infer: &[TensorId],
        train: Option<&[TensorId]>,
        schedule: Option<&TrainSchedule>,
    ) {
        let late = train::late_sites(program);
        let place = |step: usize, steps: &[super::ProgStep], ids: &[TensorId]| {
            let (input, output) = steps.get(step).map(|s| (s.inputs[0], s.outputs[0]))?;
            Some(SiteTensors { step: step as u32, input: ids[input.0].0, output: ids[output.0].0 })
        };
        for (index, site) in program.sites.iter().enumerate() {
            let forward = |s: &TrainSchedule| s.program.steps.get(..s.backward).map(<[_]>::to_vec);
            let trained = schedule.and_then(forward).zip(train);
            let diagonal = program.diagonals.of(&site.name).cloned().unwrap_or_default();
            self.builder.site(&SiteSpec {
                desc: SiteDesc {
                    name: &site.name,
                    kind: site.kind,
                    dtype: site.dtype,
                    out: site.out,
                    inputs: site.inputs,
                    kernel: site.kernel,
                    groups: site.groups,
                    transposed: site.transposed,
                },
                late: late.contains(&index),
                infer: place(site.step, &program.steps, infer),
                train: trained.and_then(|(steps, ids)| place(site.step, &steps, ids)),
                out_diagonal: diagonal.output,
                in_diagonal: diagonal.input,
            });
        }
    }

    fn io(&mut self, program: &Program, ids: &[TensorId], options: &EmitOptions) {
        for (index, (name, tensor)) in program.inputs.iter().enumerate() {
            self.builder.io(&IoSpec {
                name: name.clone(),
                role: Role::Input,
                tensor: ids[tensor.0],
                labels: Vec::new(),
                clip: ClipRule::Mean,
                hop: if index == 0 { options.hop } else { 0 },
                recipe: if index == 0 { options.recipe.clone() } else { Vec::new() },
            });
        }
        for (index, (name, tensor)) in program.outputs.iter().enumerate() {
            self.builder.io(&IoSpec {
                name: name.clone(),
                role: Role::Output,
                tensor: ids[tensor.0],
                labels: if index == 0 { options.labels.clone() } else { Vec::new() },
                clip: options.clip.unwrap_or(ClipRule::Mean),
                hop: options.hop,
                recipe: Vec::new(),
            });
        }
    }
}

fn to_u32(value: usize) -> Result<u32, LowerError> {
    u32::try_from(value).map_err(|_| LowerError::TooLarge)
}
