//! Whole models on the GPU.

use std::fs;

use ingraft::adapter::{Adapter, Base, TermSource};
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::{MemoryNeeds, Session, Silent};
use ingraft::kernel::Host;
use ingraft::plan::{Phase, PlanView};
use ingraft_jetson_cuda::Cuda;
use ingraft_models::demo::BASE_INT8;

use crate::build::{self, Terms};
use crate::gpu;
use crate::support::{AlignedBytes, Lcg, as_bytes, data, infer};

const QUANTIZED: &[&str] = &[
    "mlperf_tiny_kws_dscnn_int8",
    "mlperf_tiny_ic_resnet8_int8",
    "yamnet_audioset521_int8",
    "efficientnet_lite0_int8_qdq",
];

pub(crate) fn plan(model: &[u8], batch: usize) -> AlignedBytes {
    let mut options = CompileOptions { head_classes: 8, ..CompileOptions::default() };
    options.import.dims.insert("N".into(), batch);
    AlignedBytes::copy_of(&compile(model, &options).unwrap_or_else(|error| panic!("{error}")).plan)
}

pub(crate) fn input(plan: &PlanView<'_>, seed: u64) -> Vec<f32> {
    let tensor = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).expect("one input");
    let mut random = Lcg::new(seed);
    (0..tensor.operand.shape.elements()).map(|_| random.real() * 4.0 - 2.0).collect()
}

/// The bytes of every output.
pub(crate) fn outputs(session: &Session<'_, '_, Cuda>, plan: &PlanView<'_>) -> Vec<Vec<u8>> {
    let each = plan.outputs().enumerate().map(|(index, io)| {
        let operand = plan.tensor(io.tensor).expect("outputs are tensors").operand;
        let mut bytes = vec![0; operand.shape.elements() * operand.dtype.size()];
        session.read_output(index, &mut bytes).expect("the output has this length");
        bytes
    });
    each.collect()
}

/// Terms of every kind on every site that takes them.
fn adapters(plan: &PlanView<'_>) -> Vec<(&'static str, AlignedBytes)> {
    let fused: Terms = build::sites(plan).map(|(index, _)| (index, build::fused(plan, index))).collect();
    vec![
        ("integer factors, overlay and scale", build::adapter(plan, &build::random_terms(plan, 0))),
        ("others of them", build::adapter(plan, &build::random_terms(plan, 1))),
        ("the base's weights, fused", build::adapter(plan, &fused)),
    ]
}

#[test]
fn quantized_models_give_the_bytes_of_the_reference() {
    let Some(cuda) = gpu() else { return };
    let mut models = vec![("built-in", BASE_INT8.to_vec())];
    if let Some(root) = data() {
        for stem in QUANTIZED {
            models
                .push((stem, fs::read(root.join(format!("models/onnx/{stem}.onnx"))).expect("it is there")));
        }
    }
    for (name, model) in &models {
        let resident = cuda.keep(plan(model, 1).as_slice()).expect("the GPU has room");
        let plan = PlanView::new(resident.bytes()).expect("a plan we wrote is valid");
        let x = input(&plan, 1);
        let files = adapters(&plan);
        let residents: Vec<_> =
            files.iter().map(|(_, file)| cuda.keep(file.as_slice()).expect("the GPU has room")).collect();
        let attached: Vec<_> =
            residents.iter().map(|r| Adapter::attach(r.bytes(), &plan).expect("it fits")).collect();
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
        let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
        let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
        let host = ingraft_host();
        let base = infer(plan, &host, &[as_bytes(&x)], &Base);
        // The first run records, the others replay; each with other terms.
        for (round, source) in attached.iter().map(Some).chain([None]).cycle().take(9).enumerate() {
            session.write_input(0, as_bytes(&x)).expect("the input has this length");
            session.run(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
            let found = outputs(&session, &plan);
            let wanted = source.map_or_else(|| base.clone(), |a| infer(plan, &host, &[as_bytes(&x)], a));
            assert_eq!(found, wanted, "{name}, round {round}");
        }
    }
}

/// What is resident nowhere is copied for the run, and gives the same.
#[test]
fn files_that_are_not_resident_are_brought_along() {
    let Some(cuda) = gpu() else { return };
    let file = plan(BASE_INT8, 1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 2);
    let file = build::adapter(&plan, &build::random_terms(&plan, 3));
    let adapter = Adapter::attach(file.as_slice(), &plan).expect("it fits");
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
    for source in [Some(&adapter), None, Some(&adapter)] {
        session.write_input(0, as_bytes(&x)).expect("the input has this length");
        session.run(&source).expect("it runs");
        assert_eq!(outputs(&session, &plan), infer(plan, &Host::SCALAR, &[as_bytes(&x)], &source));
    }
}

#[test]
fn ten_thousand_switches_lead_back_to_the_base() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(plan(BASE_INT8, 1).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("valid");
    let x = input(&plan, 3);
    let files: Vec<_> = (0..4)
        .map(|seed| cuda.keep(build::adapter(&plan, &build::random_terms(&plan, seed)).as_slice()))
        .collect::<Result<_, _>>()
        .expect("the GPU has room");
    let attached: Vec<_> =
        files.iter().map(|r| Adapter::attach(r.bytes(), &plan).expect("it fits")).collect();
    let sources: Vec<_> = attached.iter().map(Some).chain([None]).collect();
    let wanted: Vec<_> =
        sources.iter().map(|source| infer(plan, &Host::SCALAR, &[as_bytes(&x)], source)).collect();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
    let mut random = Lcg::new(4);
    for _ in 0..10_000 {
        let choice = random.below(sources.len());
        session.write_input(0, as_bytes(&x)).expect("the input has this length");
        session.run(&sources[choice]).expect("it runs");
        assert_eq!(outputs(&session, &plan), wanted[choice]);
    }
    session.write_input(0, as_bytes(&x)).expect("the input has this length");
    session.run(&Base).expect("it runs");
    assert_eq!(outputs(&session, &plan), wanted[sources.len() - 1]);
}

/// A replay leaves nothing behind that a step launched by itself would take for its own.
#[test]
fn steps_behind_a_replay_are_as_before_it() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(plan(BASE_INT8, 1).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("valid");
    let x = input(&plan, 8);
    let file = cuda.keep(build::adapter(&plan, &build::random_terms(&plan, 2)).as_slice()).expect("room");
    let adapter = Adapter::attach(file.bytes(), &plan).expect("it fits");
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
    let wanted = infer(plan, &Host::SCALAR, &[as_bytes(&x)], &adapter);
    let (steps, adapters) = (plan.step_count(Phase::Infer), core::slice::from_ref(&adapter));
    let sites = (0..steps).filter(|step| plan.step(Phase::Infer, *step).is_some_and(|s| s.site.is_some()));
    for middle in sites {
        // The second time what comes before is a replay, whatever the step behind it is.
        for round in 0..2 {
            session.write_input(0, as_bytes(&x)).expect("the input has this length");
            session.run_range(0..middle, &adapter).expect("it runs");
            session.run_steps(middle..steps, adapters, &mut Silent).expect("they run");
            assert_eq!(outputs(&session, &plan), wanted, "step {middle}, round {round}");
        }
    }
}

#[test]
fn every_sample_of_a_batch_may_have_its_own_adapter() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(plan(BASE_INT8, 3).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("valid");
    let x = input(&plan, 5);
    let files: Vec<_> = (0..2)
        .map(|seed| cuda.keep(build::adapter(&plan, &build::random_terms(&plan, seed)).as_slice()))
        .collect::<Result<_, _>>()
        .expect("the GPU has room");
    let attached: Vec<_> =
        files.iter().map(|r| Adapter::attach(r.bytes(), &plan).expect("it fits")).collect();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &cuda).expect("the GPU runs every step");
    let mut memory = cuda.allocate(needs.total()).expect("the GPU has room");
    let mut session = Session::bind(plan, Phase::Infer, &cuda, &mut memory).expect("memory suffices");
    for sources in [[Some(&attached[0]), None, Some(&attached[1])], [None, Some(&attached[1]), None]] {
        session.write_input(0, as_bytes(&x)).expect("the input has this length");
        session.run_batch(&sources).expect("it runs");
        let found = outputs(&session, &plan);
        for (sample, source) in sources.iter().enumerate() {
            // A sample of a batch is what the whole batch gives with its adapter alone.
            let alone = infer(plan, &Host::SCALAR, &[as_bytes(&x)], source);
            let len = found[0].len() / 3;
            let part = sample * len..(sample + 1) * len;
            assert_eq!(found[0][part.clone()], alone[0][part], "sample {sample}");
        }
    }
}

#[test]
fn a_head_reads_what_the_recorded_steps_left() {
    let Some(cuda) = gpu() else { return };
    let resident = cuda.keep(plan(BASE_INT8, 1).as_slice()).expect("the GPU has room");
    let plan = PlanView::new(resident.bytes()).expect("valid");
    let x = input(&plan, 6);
    let (tensor, _) = plan.features(Phase::Infer).expect("the model has features");
    let features = plan.tensor(tensor).expect("it is a tensor").operand.shape.elements();
    let file = build::head(&plan, 5, features);
    let kept = cuda.keep(file.as_slice()).expect("the GPU has room");
    let head = Adapter::attach(kept.bytes(), &plan).expect("it fits");
    let wanted = logits(&plan, &Host::SCALAR, AlignedBytes::zeroed, |m| m.as_mut(), &x, &head);
    let found = logits(&plan, &cuda, |bytes| cuda.allocate(bytes).expect("room"), |m| m, &x, &head);
    let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let most = wanted.iter().map(|v| v.abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-5 * most, "{found:?} {wanted:?}");
}

fn logits<T: ingraft::kernel::Target, M>(
    plan: &PlanView<'_>,
    target: &T,
    allocate: impl FnOnce(usize) -> M,
    memory: impl FnOnce(&mut M) -> &mut T::Memory,
    x: &[f32],
    head: &impl TermSource,
) -> Vec<f32> {
    let needs = MemoryNeeds::new(plan, Phase::Infer, target).expect("the target runs every step");
    let mut owner = allocate(needs.total());
    let mut session =
        Session::bind(*plan, Phase::Infer, target, memory(&mut owner)).expect("memory suffices");
    let mut logits = vec![0.0; 5];
    for _ in 0..2 {
        session.write_input(0, as_bytes(x)).expect("the input has this length");
        session.run(head).expect("it runs");
    }
    session.read_logits(0, &mut logits).expect("five classes");
    logits
}

/// The fastest target of this machine that every other agrees with.
fn ingraft_host() -> Host {
    #[cfg(target_arch = "x86_64")]
    if let Some(host) = ingraft::x86_64::available().next() {
        return host;
    }
    Host::SCALAR
}
