//! How much memory plans need: no more than the planner of TensorFlow Lite Micro would take for the same
//! tensors, and to the byte what a session is said to need.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/targets.rs"]
mod targets;
mod training;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ingraft::adapter::Base;
use ingraft::compile::lower::memory::{LiveRange, largest_first_bytes, live_ranges};
use ingraft::compile::lower::train::{TrainFrom, derive};
use ingraft::compile::{CompileError, CompileOptions, Compiled, ImportOptions, compile};
use ingraft::exec::{ExecError, MemoryNeeds, Session};
use ingraft::kernel::{Host, Place, Target};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::bytes::align_up;
use ingraft_dataset::{Array, read_npz};
use support::{AlignedBytes, data};
use targets::targets;

/// A compiled model.
struct Model {
    name: String,
    compiled: Compiled,
}

/// The built-in model, and every model of the development data.
static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let options = CompileOptions { import: one_sample(), ..CompileOptions::default() };
    let built_in = trainable(ingraft_models::demo::BASE_INT8, &options).expect("the built-in model compiles");
    let mut models = vec![Model { name: "built-in model".into(), compiled: built_in }];
    let Some(root) = data() else { return models };
    let folder = fs::read_dir(root.join("models/onnx")).expect("the data holds models");
    let mut files: Vec<PathBuf> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    files.sort();
    models.extend(files.iter().filter_map(|path| Model::recorded(&root, path)));
    models
});

/// Trainable from the late sites on where the model has such, else for inference alone.
fn trainable(bytes: &[u8], options: &CompileOptions) -> Result<Compiled, CompileError> {
    let late = CompileOptions { train_from: Some(TrainFrom::Late), ..options.clone() };
    compile(bytes, &late).or_else(|_| compile(bytes, options))
}

fn one_sample() -> ImportOptions {
    ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() }
}

impl Model {
    /// For one sample; where more dimensions are open, with the shapes of the recorded inputs.
    fn recorded(root: &Path, path: &Path) -> Option<Self> {
        let name = path.file_stem()?.to_string_lossy().into_owned();
        let bytes = fs::read(path).expect("the model is there");
        let recording = root.join("models/golden").join(&name).with_extension("npz");
        let arrays = read_npz(&recording).expect("the recording reads");
        let shape = |(key, array): &(String, Array)| {
            Some((key.strip_prefix("in__")?.to_owned(), array.shape().to_vec()))
        };
        let shapes =
            ImportOptions { shapes: arrays.iter().filter_map(shape).collect(), ..ImportOptions::default() };
        let attempt = |import| trainable(&bytes, &CompileOptions { import, ..CompileOptions::default() });
        let compiled = attempt(one_sample()).or_else(|_| attempt(shapes));
        Some(Self { compiled: compiled.unwrap_or_else(|e| panic!("{name}: {e}")), name })
    }

    fn phases(&self) -> Vec<Usage> {
        let file = AlignedBytes::copy_of(&self.compiled.plan);
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        let program = &self.compiled.program;
        let mut usages = vec![Usage::of(&plan, Phase::Infer, &live_ranges(program, 0))];
        if plan.can_train() {
            let schedule = derive(program, &TrainFrom::Late).expect("it was derived before");
            usages.push(Usage::of(&plan, Phase::Train, &live_ranges(&schedule.program, schedule.backward)));
        }
        usages
    }
}

/// What one phase of a plan needs for its tensors.
struct Usage {
    phase: Phase,
    arena: usize,
    /// The largest sum of tensors alive at once: no placement needs less.
    lower_bound: usize,
    /// What TensorFlow Lite Micro's greedy planner needs: largest tensor first, each in the lowest gap.
    largest_first: usize,
}

impl Usage {
    fn of(plan: &PlanView<'_>, phase: Phase, ranges: &[LiveRange]) -> Self {
        let (arena, lower_bound) = (plan.arena_bytes(phase), plan.lower_bound_bytes(phase));
        Self { phase, arena, lower_bound, largest_first: largest_first_bytes(ranges) }
    }
}

#[test]
fn arenas_are_no_larger_than_those_of_tensorflow_lite_micro() {
    println!("{:<40} {:>6} {:>12} {:>12} {:>14}", "model", "phase", "lower bound", "arena", "largest first");
    for model in MODELS.iter() {
        for Usage { phase, arena, lower_bound, largest_first } in model.phases() {
            println!(
                "{:<40} {:>6} {lower_bound:>12} {arena:>12} {largest_first:>14}",
                model.name,
                format!("{phase:?}")
            );
            assert!(lower_bound <= arena && arena <= largest_first, "{} {phase:?}", model.name);
        }
    }
}

/// The end of the highest tensor that a step of `phase` touches.
fn tensors_end(plan: &PlanView<'_>, phase: Phase) -> usize {
    let steps = (0..plan.step_count(phase)).map(|i| plan.resolve(phase, i).expect("a checked plan resolves"));
    let ends = steps.flat_map(|step| {
        let operands: Vec<_> = step.inputs().iter().chain(step.outputs()).copied().collect();
        operands.into_iter().map(|operand| match operand.place {
            Place::Memory(span) => span.end(),
            Place::Plan(_) => 0,
        })
    });
    ends.max().unwrap_or(0)
}

/// The account of [`MemoryNeeds`], made again from the plan and the target's answers step by step.
fn counted(plan: &PlanView<'_>, phase: Phase, target: &Host) -> MemoryNeeds {
    let steps = || (0..plan.step_count(phase)).filter_map(|i| plan.resolve(phase, i).ok());
    let samples = plan.features(phase).and_then(|(tensor, _)| plan.tensor(tensor));
    let samples = samples.map_or(1, |tensor| tensor.operand.shape.dim(0));
    let weights: usize = steps().map(|step| align_up(target.packed_bytes(&step))).sum();
    // Targets that pack keep 16 bytes per step of what bind settled.
    let records = if weights == 0 { 0 } else { 16 * plan.step_count(phase) };
    MemoryNeeds {
        arena: align_up(tensors_end(plan, phase)),
        workspace: steps().map(|step| align_up(target.workspace_bytes(&step))).max().unwrap_or(0),
        head: align_up(samples * ingraft::kernel::Sites::head_classes(plan) * 4),
        packed: weights + records,
    }
}

#[test]
fn sessions_need_exactly_what_was_said() {
    for model in MODELS.iter() {
        let file = AlignedBytes::copy_of(&model.compiled.plan);
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        for (target, phase) in targets().iter().flat_map(|t| [(t, Phase::Infer), (t, Phase::Train)]) {
            if plan.step_count(phase) == 0 {
                continue;
            }
            let place = format!("{} {phase:?} on {}", model.name, target.name());
            let needs = MemoryNeeds::new(&plan, phase, target).expect("the target runs every step");
            assert_eq!(needs, counted(&plan, phase, target), "{place}");
            let mut memory = AlignedBytes::zeroed(needs.total());
            let less = &mut memory.as_mut()[..needs.total() - 1];
            let wanted = ExecError::MemoryTooSmall { needed: needs.total(), supplied: less.len() };
            assert_eq!(Session::bind(plan, phase, target, less).err(), Some(wanted), "{place}");
            assert!(Session::bind(plan, phase, target, memory.as_mut()).is_ok(), "{place}");
        }
    }
}

/// One inference of every model in exactly its memory, between guard bands.
#[test]
fn runs_stay_inside_their_memory() {
    // The fastest of this machine, or else the reference.
    let target = targets().into_iter().nth(1).unwrap_or(Host::SCALAR);
    for model in MODELS.iter() {
        let file = AlignedBytes::copy_of(&model.compiled.plan);
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("the target runs every step");
        let mut storage = AlignedBytes::zeroed(needs.total() + 2 * GUARD);
        let (before, rest) = storage.as_mut().split_at_mut(GUARD);
        let (memory, after) = rest.split_at_mut(needs.total());
        before.fill(GUARD_BYTE);
        after.fill(GUARD_BYTE);
        let mut session =
            Session::bind(plan, Phase::Infer, &target, memory).expect("exactly this much suffices");
        session.run(&Base).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        assert!(before.iter().chain(after.iter()).all(|byte| *byte == GUARD_BYTE), "{}", model.name);
    }
}

const GUARD: usize = 4096;
const GUARD_BYTE: u8 = 0xa5;
