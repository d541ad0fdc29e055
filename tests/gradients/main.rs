//! Whole models: the gradient that the planned backward steps give is the slope of the loss.
//!
//! One adapter on every site of every float model, moved along its own gradient: the five-point difference of the
//! loss has to be the gradient's squared length. Single operators are held to 1e-5 where they are defined.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::train::{
    AdamW, Clip, LearningRate, Loss, Moves, Readout, Schedule, ScheduleShape, Setup, Trainer, Truth,
};
use ingraft_dataset::{Array, read_npz};
use support::{AlignedBytes, Lcg, data};

/// What a model's gradient is checked with.
struct Subject {
    stem: &'static str,
    method: &'static str,
    /// How far the slope may be from the gradient's squared length, relative to it: the loss itself is f32.
    tolerance: f64,
    /// Whether the recording is one sample as it is, not a batch of which the first is taken.
    whole: bool,
    /// The first site trained, by name; the first there is by default.
    from: Option<&'static str>,
}

const SUBJECTS: &[Subject] = &[
    Subject { stem: "mlperf_tiny_ic_resnet8_f32", method: "lora", tolerance: 0.01, whole: false, from: None },
    Subject { stem: "mlperf_tiny_ic_resnet8_f32", method: "bias", tolerance: 0.01, whole: false, from: None },
    Subject {
        stem: "mlperf_tiny_kws_dscnn_weightonly_int8",
        method: "ia3",
        tolerance: 0.01,
        whole: false,
        from: None,
    },
    Subject {
        stem: "ppocr_textline_cls_mobilenetv3_f32",
        method: "bias",
        tolerance: 0.01,
        whole: false,
        from: None,
    },
    Subject { stem: "kwt1_12labels_f32", method: "lora", tolerance: 0.01, whole: false, from: None },
    Subject { stem: "kwt1_12labels_f32", method: "ln", tolerance: 0.01, whole: false, from: None },
    Subject { stem: "efficientnet_lite0_f32", method: "lora", tolerance: 0.01, whole: false, from: None },
    // Behind the spectrum: the recording begins in silence, where the root of a power has no slope.
    Subject {
        stem: "silero_vad_16k_sequence",
        method: "lora",
        tolerance: 0.01,
        whole: true,
        from: Some("encoder.0.weight"),
    },
];

#[test]
fn gradients_of_float_models_are_slopes() {
    let Some(root) = data() else { return };
    let target = targets::targets().pop().unwrap_or(Host::SCALAR);
    let mut failures = Vec::new();
    for subject in SUBJECTS {
        let (slope, square) = subject.measure(&root, &target);
        let error = (slope / square - 1.0).abs();
        println!(
            "{} {}: slope {slope:.6e}, gradient {square:.6e}, {error:.1e} apart",
            subject.stem, subject.method
        );
        if error.is_nan() || error > subject.tolerance {
            failures.push(format!("{} {}: {slope} is not {square}", subject.stem, subject.method));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What is quantized at run time has no slopes to compare with: every layer rounds anew. Its gradients have to lower
/// the loss instead.
#[test]
fn a_transformer_on_codes_quantized_at_run_time_learns() {
    let Some(root) = data() else { return };
    let target = targets::targets().pop().unwrap_or(Host::SCALAR);
    let subject =
        Subject { stem: "minilm_l6_int8_dynamic", method: "lora", tolerance: 0.0, whole: true, from: None };
    let (plan_file, input) = subject.plan(&root);
    let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
    let method = ingraft::method::build(subject.method, &[]).expect("a method of the list");
    let sites = reached(&plan);
    let rate = LearningRate { rate: 1e-3, weight_decay: 0.0 };
    let setup = Setup { adapter: rate, ..still(&*method, &sites) };
    let memory = Trainer::memory(&plan, &target, &setup).expect("every site can be trained");
    let mut arena = AlignedBytes::zeroed(memory.total());
    let mut trainer = Trainer::bind(plan, &target, setup, arena.as_mut()).expect("memory suffices");
    let (clip, truth) = (Clip::Inputs(&input), Truth::Class(0));
    let losses: Vec<f32> = (0..12)
        .map(|_| {
            let loss = trainer.accumulate(clip, truth).expect("one whole patch");
            trainer.step().expect("gradients are finite");
            loss
        })
        .collect();
    println!("{}: {} sites, losses {losses:?}", subject.stem, sites.len());
    assert!(sites.len() >= 36 && losses[11] < 0.8 * losses[0], "{losses:?}");
}

/// The sites that the training schedule reaches.
fn reached(plan: &PlanView<'_>) -> Vec<u32> {
    let reached = |site: &u32| {
        let place = plan.site_tensors(Phase::Train, *site as usize);
        place.is_some_and(|place| place.step as usize >= plan.train_cut())
    };
    (0..plan.site_count() as u32).filter(reached).collect()
}

/// A setup under which nothing moves.
fn still<'s>(method: &'s dyn ingraft::train::Method, sites: &'s [u32]) -> Setup<'s> {
    let still = LearningRate { rate: 0.0, weight_decay: 0.0 };
    Setup {
        method,
        sites,
        readout: Readout::Logits,
        loss: Loss::CrossEntropy { smoothing: 0.1 },
        optimizer: &AdamW::DEFAULT,
        adapter: still,
        head: still,
        moves: Moves::PLAIN,
        schedule: Schedule { shape: ScheduleShape::Constant, warm_up: 0 },
        clip_norm: None,
        seed: 1,
    }
}

impl Subject {
    /// The slope of the loss along the gradient, over the gradient's length, and the gradient's squared length.
    fn measure(&self, root: &Path, target: &Host) -> (f64, f64) {
        let (plan_file, input) = self.plan(root);
        let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
        let method = ingraft::method::build(self.method, &[]).expect("a method of the list");
        let sites = reached(&plan);
        let setup = still(&*method, &sites);
        let memory = Trainer::memory(&plan, target, &setup).expect("every site can be trained");
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer = Trainer::bind(plan, target, setup, arena.as_mut()).expect("memory suffices");
        let mut random = Lcg::new(7);
        // Away from the start, where one factor of each pair is zero and with it half of the gradient.
        let start: Vec<f32> =
            trainer.fetched().values().iter().map(|v| v + 0.02 * (random.real() - 0.5)).collect();
        let (clip, truth) = (Clip::Inputs(&input), Truth::Class(0));
        trainer.restore(&start).expect("as many values");
        trainer.discard();
        let here = f64::from(trainer.accumulate(clip, truth).expect("one whole patch"));
        let gradient: Vec<f64> = trainer.gradients().iter().map(|g| f64::from(*g)).collect();
        let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        // As long a step as changes the loss enough to be seen in f32, and no longer: kinks are everywhere.
        let step = RISE * here / length;
        let mut loss = |steps: f64| {
            let along = |(v, g): (&f32, &f64)| (f64::from(*v) + steps * step * g / length) as f32;
            let moved: Vec<f32> = start.iter().zip(&gradient).map(along).collect();
            trainer.restore(&moved).expect("as many values");
            f64::from(trainer.evaluate(clip, truth).expect("one whole patch").loss)
        };
        let rise = 8.0 * (loss(1.0) - loss(-1.0)) - (loss(2.0) - loss(-2.0));
        (rise / (12.0 * step) * length, length * length)
    }

    fn plan(&self, root: &Path) -> (AlignedBytes, Vec<u8>) {
        let recording = root.join("models/golden").join(self.stem).with_extension("npz");
        let arrays = read_npz(&recording).expect("the recording reads");
        let inputs: Vec<(&str, &Array)> =
            arrays.iter().filter_map(|(key, array)| Some((key.strip_prefix("in__")?, array))).collect();
        let train_from = Some(self.from.map_or(TrainFrom::All, |site| TrainFrom::Site(site.to_owned())));
        let mut options = CompileOptions { train_from, ..CompileOptions::default() };
        for (name, array) in &inputs {
            let mut shape = array.shape().to_vec();
            if let Some(batch) = shape.first_mut().filter(|_| !self.whole) {
                *batch = 1;
            }
            options.import.shapes.insert((*name).to_owned(), shape);
        }
        let model =
            fs::read(root.join("models/onnx").join(format!("{}.onnx", self.stem))).expect("it is there");
        let compiled = compile(&model, &options).unwrap_or_else(|error| panic!("{}: {error}", self.stem));
        let plan_file = AlignedBytes::copy_of(&compiled.plan);
        let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
        let recorded = plan.inputs().flat_map(|io| {
            let operand = plan.tensor(io.tensor).expect("inputs are tensors").operand;
            let (_, array) =
                inputs.iter().find(|(name, _)| *name == io.name).expect("every input is recorded");
            array.bytes()[..operand.shape.elements() * operand.dtype.size()].iter().copied()
        });
        let bytes = recorded.collect();
        (plan_file, bytes)
    }
}

/// What one step adds to the loss, as a part of it: its last place is 6e-8, and a model's rounding errors are some of them.
const RISE: f64 = 5e-4;
