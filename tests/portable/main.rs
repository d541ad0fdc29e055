//! One artifact, every board: the same plan and adapter give the same bytes on
//! every processor and every target, and so does training.
//!
//! The digests below were recorded on x86-64 with the scalar reference. A change
//! of the arithmetic on purpose changes them on all processors alike: the
//! failure prints what to write here.

#[path = "../adapters/build.rs"]
#[allow(dead_code, reason = "this suite uses a part")]
mod build;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/targets.rs"]
mod targets;
#[path = "../bare-metal/src/training.rs"]
#[allow(unreachable_pub, reason = "on the device it is a module of a library")]
mod training;

use std::fs;

use ingraft::adapter::{Adapter, Base, TermSource};
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::{CompileOptions, compile};
use ingraft::exec::Pool;
use ingraft::kernel::{Host, HostMemory, Parallel, Target};
use ingraft::plan::PlanView;
use ingraft::signal::Recipe;
use ingraft::tensor::hash::blake3;
use ingraft_dataset::read_npz;
use ingraft_models::demo::{BASE_INT8, golden};
use support::{AlignedBytes, as_bytes, data, infer};
use targets::targets;

/// A quantized model and the digests of its outputs.
struct Recorded {
    stem: &'static str,
    base: &'static str,
    adapted: &'static str,
}

const BUILT_IN: Recorded = Recorded {
    stem: "built-in",
    base: "58494a118bce100d4d9cbe8cc64f671b",
    adapted: "08a607dd62ada5e4ab4a84c786ae9d01",
};

const QUANTIZED: &[Recorded] = &[
    Recorded {
        stem: "mlperf_tiny_kws_dscnn_int8",
        base: "1866da75e43f80b74010d4cf89462322",
        adapted: "a13f552367a0e54f60f7e9131e7afb5f",
    },
    Recorded {
        stem: "mlperf_tiny_ic_resnet8_int8",
        base: "7f64ee6340b17d76748f0b3638598afb",
        adapted: "ffc34fef3b556af66681a77869ea0387",
    },
    Recorded {
        stem: "yamnet_audioset521_int8",
        base: "cf2b0dfc39856ed997534886897db772",
        adapted: "2a4ff0c46b60bcba89994293dd22cd1f",
    },
    Recorded {
        stem: "efficientnet_lite0_int8_qdq",
        base: "0fe70e3757b88180099beb02b9d26d25",
        adapted: "9dfb643c3b71fd9137a1876f29137406",
    },
];

/// Digests of the front end's patches and of the parameters that [`training`] ends in.
const PATCHES: &str = "1cd236cf23fc5a9d644c9242947bb302";
const PARAMETERS: &str = "1d049ecad400988fc0a27b5be41af4f0";

#[test]
fn the_built_in_model_gives_the_recorded_bytes() {
    let patch: Vec<f32> = golden::patches().take(96 * 64).collect();
    assert_eq!(differences(&BUILT_IN, BASE_INT8, &patch), "");
}

#[test]
fn quantized_models_give_the_recorded_bytes() {
    let Some(root) = data() else { return };
    let mut failures = String::new();
    for recorded in QUANTIZED {
        let folder = root.join("models");
        let model =
            fs::read(folder.join("onnx").join(format!("{}.onnx", recorded.stem))).expect("it is there");
        let arrays =
            read_npz(&folder.join("golden").join(format!("{}.npz", recorded.stem))).expect("it reads");
        let (_, inputs) = arrays.iter().find(|(name, _)| name.starts_with("in__")).expect("one input");
        let values = inputs.to_f32().expect("recordings are floats");
        let first = &values[..values.len() / inputs.shape()[0]];
        failures += &differences(recorded, &model, first);
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn training_gives_the_recorded_bytes() {
    let recipe = Recipe::preset("yamnet", &[96, 64]).expect("the model takes YAMNet's patches");
    let file = plan(
        BASE_INT8,
        CompileOptions {
            train_from: Some(TrainFrom::Late),
            recipe: recipe.to_words().to_vec(),
            head_classes: 4,
            ..CompileOptions::default()
        },
    );
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let needed = training::memory(&plan, &Host::SCALAR).unwrap_or_else(|failure| panic!("{failure}"));
    let mut memory = AlignedBytes::zeroed(needed);
    let learned =
        training::train(plan, &Host::SCALAR, memory.as_mut()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!([hex(&learned.patches), hex(&learned.parameters)], [PATCHES, PARAMETERS]);
}

/// What differs between the outputs of `model` on `input`, on any target, and their record.
fn differences(recorded: &Recorded, model: &[u8], input: &[f32]) -> String {
    let file = plan(model, CompileOptions::default());
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let adapter = build::adapter(&plan, &build::random_terms(&plan, 0));
    let adapter = Adapter::attach(adapter.as_slice(), &plan).expect("it fits");
    let mut found = String::new();
    let pool = &Pool::new(3).expect("threads can be started");
    for target in targets() {
        let mut check = |what: &str, digest: String, wanted: &str| {
            if digest != wanted {
                found += &format!(
                    "{} {what} on {}: {digest}\n",
                    recorded.stem,
                    ingraft::kernel::Target::name(&target)
                );
            }
        };
        check("base", digest(plan, &target, input, &Base), recorded.base);
        check("adapted", digest(plan, &target, input, &adapter), recorded.adapted);
        let shared = Parallel::new(target, pool).with_grain(1 << 12);
        check("shared base", digest(plan, &shared, input, &Base), recorded.base);
        check("shared adapted", digest(plan, &shared, input, &adapter), recorded.adapted);
    }
    found
}

fn digest<S: TermSource, T: Target<Memory = HostMemory>>(
    plan: PlanView<'_>,
    target: &T,
    input: &[f32],
    source: &S,
) -> String {
    hex(&blake3(&infer(plan, target, &[as_bytes(input)], source).concat()))
}

fn plan(model: &[u8], mut options: CompileOptions) -> AlignedBytes {
    options.import.dims.insert("N".into(), 1);
    let compiled = compile(model, &options).unwrap_or_else(|error| panic!("{error}"));
    AlignedBytes::copy_of(&compiled.plan)
}

/// The first half of a hash: more than enough to tell outputs apart.
fn hex(hash: &[u8]) -> String {
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
