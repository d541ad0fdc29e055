//! Plans against outputs recorded from ONNX Runtime with graph optimizations off.

mod demo;
mod float;
mod nodes;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/targets.rs"]
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ingraft::adapter::Base;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, OpCode};
use ingraft::plan::{Phase, PlanView};
use ingraft_dataset::{Array, read_npz};
use nodes::Recording;
use support::{AlignedBytes, argmax, data, floats, infer};

/// A quantized model, and what its outputs are held to.
struct Quantized {
    stem: &'static str,
    /// Per output, how far ONNX Runtime's own optimized and unoptimized runs are apart on the recorded inputs.
    drift: &'static [(&'static str, f32)],
    /// Steps whose result is a tensor of the plan alone, judged through the next step.
    followed: usize,
}

const QUANTIZED: &[Quantized] = &[
    Quantized { stem: "mlperf_tiny_kws_dscnn_int8", drift: &[("output", 0.0)], followed: 0 },
    Quantized { stem: "mlperf_tiny_ic_resnet8_int8", drift: &[("output", 0.0)], followed: 0 },
    Quantized { stem: "yamnet_audioset521_int8", drift: &[("output", 0.0), ("embedding", 0.0)], followed: 0 },
    // The image is quantized in the order of the file, then brought to channels last.
    Quantized {
        stem: "efficientnet_lite0_int8_qdq",
        drift: &[("logits", 0.137_289_29), ("embedding", 0.133_599_4)],
        followed: 1,
    },
];

fn compiled(root: &Path, stem: &str) -> Vec<u8> {
    let model = fs::read(root.join("models/onnx").join(format!("{stem}.onnx"))).expect("the model is there");
    let mut options = CompileOptions::default();
    options.import.dims.insert("N".into(), 1);
    compile(&model, &options).unwrap_or_else(|e| panic!("{stem}: {e}")).plan
}

fn golden(root: &Path, stem: &str) -> BTreeMap<String, Array> {
    let path = root.join("models/golden").join(format!("{stem}.npz"));
    read_npz(&path).expect("the recording reads").into_iter().collect()
}

/// Row `row` of every recorded array.
fn sample(array: &Array, row: usize) -> Vec<f32> {
    let values = array.to_f32().expect("recordings are floats");
    let len = values.len() / array.shape()[0];
    values[row * len..(row + 1) * len].to_vec()
}

/// The step of output `tensor`: the scale of the codes it is dequantized from.
fn output_step(plan: &PlanView<'_>, tensor: u32) -> f32 {
    let mut steps = (0..plan.step_count(Phase::Infer)).filter_map(|i| plan.step(Phase::Infer, i));
    let producer = steps.rfind(|step| step.outputs.contains(&tensor)).expect("something computes it");
    let codes = plan.tensor(producer.inputs[0]).and_then(|t| t.qparams);
    codes.expect("it is dequantized from codes").scale
}

#[test]
fn quantized_models_agree_end_to_end() {
    let Some(root) = data() else { return };
    for Quantized { stem, drift, .. } in QUANTIZED {
        let plan_file = AlignedBytes::copy_of(&compiled(&root, stem));
        let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
        let (golden, recording) = (golden(&root, stem), Recording::of(stem));
        let input = &golden[&format!("in__{}", plan.inputs().next().expect("one input").name)];
        let samples = input.shape()[0];
        let ours: Vec<Vec<Vec<u8>>> = (0..samples)
            .map(|row| infer(plan, &Host::SCALAR, &[support::as_bytes(&sample(input, row))], &Base))
            .collect();
        for (index, io) in plan.outputs().enumerate() {
            let (_, drift) =
                drift.iter().find(|(name, _)| *name == io.name).expect("every output has a drift");
            let step = output_step(&plan, io.tensor);
            let recorded = &golden[&format!("out__{}", io.name)];
            let found: Vec<Vec<f32>> = ours.iter().map(|outputs| floats(&outputs[index])).collect();
            let wanted: Vec<Vec<f32>> = (0..samples).map(|row| sample(recorded, row)).collect();
            let pairs = wanted.iter().flatten().zip(found.iter().flatten());
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let same = found.iter().zip(&wanted).filter(|(f, w)| argmax(f) == argmax(w)).count();
            println!(
                "{stem} {}: worst difference {worst} = {:.2} steps, ONNX Runtime's own {drift} = {:.2} steps{}; \
                 top-1 identical on {same} of {samples}",
                io.name,
                worst / step,
                drift / step,
                recording.as_ref().map_or(String::new(), |r| format!(", here {}", r.drift(io.name, samples)))
            );
            // Half a hundredth of a step for the rounding of the differences themselves.
            assert!(worst <= drift.max(step) + 0.005 * step, "{stem} {}: {worst}", io.name);
            for (row, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let place = format!("{stem} {} sample {row}", io.name);
                let optimized = recording.as_ref().map(|r| floats(r.row("optimized", io.name, row).bytes()));
                assert_same_class(&place, found, wanted, optimized.as_deref(), *drift);
            }
        }
    }
}

/// The same class wins, or one that ONNX Runtime puts closer to it than its own runs are to each other. Where
/// those agree to the bit, nothing is forgiven. `optimized` is its other run on this machine, to be printed.
fn assert_same_class(place: &str, found: &[f32], wanted: &[f32], optimized: Option<&[f32]>, drift: f32) {
    let (ours, best) = (argmax(found), argmax(wanted));
    if ours == best {
        return;
    }
    let margin = wanted[best] - wanted[ours];
    println!("  {place}: {ours} wins, not {best}; ONNX Runtime puts {best} ahead by {margin}");
    if let Some(optimized) = optimized {
        println!("  {place}: with its graph optimizations on, by {}", optimized[best] - optimized[ours]);
    }
    assert!(margin <= drift, "{place}: the margin is larger than ONNX Runtime's own drift, {drift}");
}

#[test]
fn nothing_quantized_runs_in_float() {
    let Some(root) = data() else { return };
    for Quantized { stem, .. } in QUANTIZED {
        let plan_file = AlignedBytes::copy_of(&compiled(&root, stem));
        let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
        assert_eq!(plan.float_nodes(), "", "{stem}");
        for index in 0..plan.step_count(Phase::Infer) {
            let step = plan.step(Phase::Infer, index).expect("index is below the count");
            let integer = matches!(
                step.op,
                OpCode::QConv
                    | OpCode::QDepthwise
                    | OpCode::QAdd
                    | OpCode::QPool
                    | OpCode::QSoftmax
                    | OpCode::Lookup
                    | OpCode::Requantize
                    | OpCode::Quantize
                    | OpCode::Dequantize
                    | OpCode::Copy
            );
            assert!(integer, "{stem}: {} runs as {}", step.name, step.op);
            // Lite0's input is an image with its channels first.
            assert!(step.op != OpCode::Copy || stem.contains("lite0"), "{stem}: {} moves data", step.name);
        }
    }
}
