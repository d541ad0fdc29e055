//! Training on the GPU against the scalar trainer, step by step.
//!
//! The int8 forward pass gives the reference's codes as long as no term is real; with real ones a value that differs in
//! its last places may round to the other side, and the runs drift apart as two float trainers do; models of reals are compared
//! over one step. Hence the bounds:
//! every loss within [`BOUND`] of the reference's, relative to 1 + the largest; gradients of the last step within
//! [`GRADIENTS`] of the largest.

use std::fs;

use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, NO_SITE, Target};
use ingraft::method::{Bias, DepthwiseTerm, Full, Head, Ia3, Ln, Lora, Shira};
use ingraft::plan::PlanView;
use ingraft::tensor::DType;
use ingraft::train::{AdamW, Clip, LearningRate, Method, Readout, Setup, Trainer, Truth};
use ingraft_dataset::read_npz;
use ingraft_jetson_cuda::Cuda;
use ingraft_models::demo::BASE_INT8;

use crate::gpu;
use crate::support::{AlignedBytes, Lcg, as_bytes, data};

/// The largest difference; that of lengths or of something that is no number is infinite.
fn furthest(a: &[f32], b: &[f32]) -> f32 {
    let far = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    if a.len() == b.len() { a.iter().zip(b).map(far).fold(0.0, f32::max) } else { f32::INFINITY }
}

pub(crate) const CLASSES: usize = 5;
pub(crate) const READOUT: Readout = Readout::Head { site: NO_SITE, pool: 0, classes: CLASSES as u32 };
/// Of losses, relative to 1 + loss.
const BOUND: f32 = 5e-3;
/// Of the gradients of the last step, relative to the largest.
const GRADIENTS: f32 = 1e-2;
pub(crate) const LORA: Lora =
    Lora { rank: 8, alpha: 8.0, rank_stabilized: false, depthwise: DepthwiseTerm::Skip };

/// What became of a run.
#[derive(Debug, PartialEq)]
struct Run {
    losses: Vec<f32>,
    /// Gradients of the sites' terms in the last step; of the head where nothing else is trained.
    gradients: Vec<f32>,
    values: Vec<f32>,
}

pub(crate) fn compiled(model: &[u8], from: TrainFrom) -> AlignedBytes {
    compiled_for(model, from, &[])
}

/// The same for inputs of these shapes.
fn compiled_for(model: &[u8], from: TrainFrom, shapes: &[(String, Vec<usize>)]) -> AlignedBytes {
    let train_from = Some(from);
    let mut options =
        CompileOptions { head_classes: CLASSES as u32, train_from, ..CompileOptions::default() };
    if shapes.is_empty() {
        options.import.dims.insert("N".into(), 1);
    }
    options.import.shapes.extend(shapes.iter().cloned());
    AlignedBytes::copy_of(&compile(model, &options).unwrap_or_else(|error| panic!("{error}")).plan)
}

pub(crate) fn clips(plan: &PlanView<'_>) -> Vec<Vec<u8>> {
    let mut random = Lcg::new(7);
    let mut clip = || {
        let inputs = plan.inputs().flat_map(|io| {
            let operand = plan.tensor(io.tensor).expect("inputs are tensors").operand;
            let count = operand.shape.elements();
            // Integers are tokens, or say which count: 0 and 1 serve for both.
            if operand.dtype == DType::I64 {
                let tokens: Vec<i64> = (0..count).map(|_| i64::from(random.real() < 0.8)).collect();
                return tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            }
            as_bytes(&(0..count).map(|_| random.real() * 4.0 - 2.0).collect::<Vec<f32>>()).to_vec()
        });
        inputs.collect()
    };
    (0..2).map(|_| clip()).collect()
}

/// A run of training.
#[derive(Clone, Copy)]
struct Course<'c> {
    method: &'c dyn Method,
    steps: usize,
    /// Clips in pieces of one step of the plan.
    pieces: bool,
    /// From parameters a little away from where training starts: there one factor of each pair is zero, and with it half of
    /// the gradient.
    moved: bool,
}

fn setup<'s>(method: &'s dyn Method, sites: &'s [u32]) -> Setup<'s> {
    Setup::new(method, sites, READOUT, &AdamW::DEFAULT, LearningRate { rate: 1e-3, weight_decay: 0.01 })
}

fn train<T: Target>(
    plan: PlanView<'_>,
    target: &T,
    device: &mut T::Memory,
    Course { method, steps, pieces, moved }: Course<'_>,
) -> Run {
    let sites: Vec<u32> =
        if method.name() == "head" { Vec::new() } else { READOUT.adapted(&plan, method).collect() };
    let setup = setup(method, &sites);
    let needs = Trainer::memory(&plan, target, &setup).expect("the plan can be trained");
    let mut beside = AlignedBytes::zeroed(needs.beside());
    let mut trainer = Trainer::bind_apart(plan, target, setup, device, beside.as_mut())
        .unwrap_or_else(|error| panic!("{}: {error}", method.name()));
    let clips = clips(&plan);
    if moved {
        let mut random = Lcg::new(11);
        let mut values = trainer.parameters().values().to_vec();
        values.iter_mut().for_each(|value| *value += 0.02 * (random.real() - 0.5));
        trainer.restore(&values).expect("as many values");
        // Of features that are nothing but rounding, standardizing makes as much as of any other, and nets of reals have them.
        trainer.standardize_as(0.0, 1.0);
    } else {
        clips.iter().for_each(|clip| trainer.observe(Clip::Inputs(clip)).expect("a clip of this plan"));
        trainer.standardize();
    }
    let mut run = Run { losses: Vec::new(), gradients: Vec::new(), values: Vec::new() };
    for step in 0..steps {
        for (index, clip) in clips.iter().enumerate() {
            let (clip, truth) = (Clip::Inputs(clip), Truth::Class(index));
            let loss = if pieces {
                let piece = || trainer.advance(clip, truth, 1).expect("a clip of this plan");
                core::iter::repeat_with(piece).find_map(|loss| loss).expect("it ends")
            } else {
                trainer.accumulate(clip, truth).expect("a clip of this plan")
            };
            run.losses.push(loss);
        }
        if step + 1 == steps {
            let head = trainer.head().map_or(0, |head| head.weight.len() + head.bias.len());
            let first = if sites.is_empty() { 0 } else { head };
            run.gradients = trainer.gradients()[first..].to_vec();
        }
        trainer.step().expect("gradients are finite");
    }
    run.values = trainer.parameters().values().to_vec();
    run
}

/// Memory of the GPU for training with `method`.
fn on_gpu(plan: PlanView<'_>, cuda: &Cuda, course: Course<'_>) -> Run {
    let sites: Vec<u32> = if course.method.name() == "head" {
        Vec::new()
    } else {
        READOUT.adapted(&plan, course.method).collect()
    };
    let needs = Trainer::memory(&plan, cuda, &setup(course.method, &sites));
    let needs = needs.unwrap_or_else(|error| panic!("{}: {error}", course.method.name()));
    let mut memory = cuda.allocate(needs.device()).expect("the GPU has room");
    train(plan, cuda, &mut memory, course)
}

fn on_host(plan: PlanView<'_>, course: Course<'_>) -> Run {
    let sites: Vec<u32> = if course.method.name() == "head" {
        Vec::new()
    } else {
        READOUT.adapted(&plan, course.method).collect()
    };
    let needs = Trainer::memory(&plan, &Host::SCALAR, &setup(course.method, &sites)).expect("it trains");
    train(plan, &Host::SCALAR, AlignedBytes::zeroed(needs.device()).as_mut(), course)
}

/// Trains `model` with every method of `methods` on both, and says how far apart they are.
fn compare(name: &str, model: &[u8], methods: &[&dyn Method], steps: usize) {
    compare_plans(name, compiled(model, TrainFrom::All), methods, (steps, false));
}

fn compare_plans(name: &str, plan: AlignedBytes, methods: &[&dyn Method], (steps, moved): (usize, bool)) {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(plan.as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let mut failures = Vec::new();
    for method in methods {
        let course = Course { method: *method, steps, pieces: false, moved };
        let (have, want) = (on_gpu(plan, &cuda, course), on_host(plan, course));
        let scale = want.losses.iter().fold(0.0f32, |most, loss| most.max(loss.abs()));
        let worst = furthest(&have.losses, &want.losses) / (1.0 + scale);
        let largest = want.gradients.iter().fold(0.0f32, |most, g| most.max(g.abs()));
        let apart = furthest(&have.gradients, &want.gradients) / largest;
        let moved = furthest(&have.values, &want.values);
        let ends = (want.losses.first().copied(), want.losses.last().copied());
        println!(
            "{name} {}: {} losses {ends:?} within {worst:.1e}, last gradients within {apart:.1e} of {largest:.1e}, parameters within {moved:.1e}",
            method.name(),
            want.losses.len()
        );
        if !(worst <= BOUND && apart <= GRADIENTS && largest > 0.0) {
            failures.push(format!("{name} {}: {worst} {apart}", method.name()));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

fn model(stem: &str) -> Option<Vec<u8>> {
    Some(fs::read(data()?.join(format!("models/onnx/{stem}.onnx"))).expect("it is there"))
}

#[test]
fn the_built_in_model_trains_as_on_the_host() {
    compare("built-in", BASE_INT8, &[&Head, &LORA, &Bias, &Ia3, &Shira::default(), &Full], 8);
}

#[test]
fn ds_cnn_trains_as_on_the_host() {
    let Some(bytes) = model("mlperf_tiny_kws_dscnn_int8") else { return };
    compare("DS-CNN", &bytes, &[&Head, &LORA, &Bias, &Ia3, &Shira::default(), &Full], 6);
}

#[test]
fn resnet_8_trains_as_on_the_host() {
    let Some(bytes) = model("mlperf_tiny_ic_resnet8_int8") else { return };
    compare("ResNet-8", &bytes, &[&LORA, &Bias, &Ia3, &Shira::default()], 4);
}

#[test]
fn yamnet_trains_as_on_the_host() {
    let Some(bytes) = model("yamnet_audioset521_int8") else { return };
    compare("YAMNet", &bytes, &[&Head, &LORA, &Bias, &Ia3, &Shira::default()], 4);
}

#[test]
fn efficientnet_lite0_trains_as_on_the_host() {
    let Some(bytes) = model("efficientnet_lite0_int8_qdq") else { return };
    compare("EfficientNet-Lite0", &bytes, &[&LORA, &Bias, &Ia3], 4);
}

/// One step of a model of reals, for inputs as they were recorded. Of one step alone: where a gradient is nothing but rounding,
/// AdamW moves as far as anywhere, in whichever direction it points, so that runs part as two float trainers do.
fn compare_recorded(stem: &str, methods: &[&dyn Method]) {
    let (Some(bytes), Some(root)) = (model(stem), data()) else { return };
    let recording = read_npz(&root.join(format!("models/golden/{stem}.npz"))).expect("the recording reads");
    let inputs = recording.into_iter().filter_map(|(name, array)| {
        let mut shape = array.shape().to_vec();
        // One sample of those recorded.
        *shape.first_mut()? = 1;
        Some((name.strip_prefix("in__")?.to_owned(), shape))
    });
    let shapes: Vec<_> = inputs.collect();
    compare_plans(stem, compiled_for(&bytes, TrainFrom::All, &shapes), methods, (1, true));
}

#[test]
fn a_float_convolution_net_trains_as_on_the_host() {
    compare_recorded("mlperf_tiny_ic_resnet8_f32", &[&LORA, &Bias, &Ia3]);
    compare_recorded("mlperf_tiny_kws_dscnn_weightonly_int8", &[&LORA]);
}

#[test]
fn efficientnet_lite0_of_reals_trains_as_on_the_host() {
    compare_recorded("efficientnet_lite0_f32", &[&LORA]);
}

#[test]
fn mobilenet_v3_trains_as_on_the_host() {
    compare_recorded("ppocr_textline_cls_mobilenetv3_f32", &[&LORA]);
}

#[test]
fn a_keyword_transformer_trains_as_on_the_host() {
    compare_recorded("kwt1_12labels_f32", &[&LORA, &Ln]);
}

/// Without factors: a term of theirs that differs in its last place moves codes of the next range, and six layers amplify it.
#[test]
fn a_transformer_on_codes_found_at_run_time_trains_as_on_the_host() {
    compare_recorded("minilm_l6_int8_dynamic", &[&Bias, &Ln]);
}

/// The same run gives the same bytes, as graphs or step by step.
#[test]
fn a_run_is_the_same_whenever_and_however_it_is_made() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(compiled(BASE_INT8, TrainFrom::All).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
    let shira = Shira::default();
    let methods: [&dyn Method; 4] = [&LORA, &Ia3, &shira, &Full];
    for method in methods {
        let course = Course { method, steps: 4, pieces: false, moved: false };
        let first = on_gpu(plan, &cuda, course);
        assert_eq!(first, on_gpu(plan, &cuda, course), "{}", method.name());
        let pieces = on_gpu(plan, &cuda, Course { pieces: true, ..course });
        assert_eq!(first, pieces, "{} in pieces", method.name());
    }
}
