//! Plans against outputs recorded from ONNX Runtime with graph optimizations off.

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ingraft::adapter::Base;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::{Host, OpCode};
use ingraft::plan::{Phase, PlanView};
use ingraft_dataset::{Array, read_npz};
use support::{AlignedBytes, argmax, data, floats, infer};

/// A quantized model, and by how much an end-to-end output may drift.
struct Quantized {
    stem: &'static str,
    /// Largest drift in output steps or, for Lite0, what ONNX Runtime shows
    /// between its own optimized and unoptimized runs.
    drift: f32,
}

const QUANTIZED: &[Quantized] = &[
    Quantized { stem: "mlperf_tiny_kws_dscnn_int8", drift: 0.00390625 },
    Quantized { stem: "mlperf_tiny_ic_resnet8_int8", drift: 0.00390625 },
    Quantized { stem: "yamnet_audioset521_int8", drift: 0.00390625 },
    Quantized { stem: "efficientnet_lite0_int8_qdq", drift: 0.137_289_1 },
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

#[test]
fn quantized_models_agree_end_to_end() {
    let Some(root) = data() else { return };
    for Quantized { stem, drift } in QUANTIZED {
        let plan_file = AlignedBytes::copy_of(&compiled(&root, stem));
        let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
        let golden = golden(&root, stem);
        let input = plan.inputs().next().expect("one input").name;
        let input = &golden[&format!("in__{input}")];
        for row in 0..input.shape()[0] {
            let bytes = sample(input, row);
            let outputs = infer(plan, &Host::SCALAR, &[support::as_bytes(&bytes)], &Base);
            for (io, output) in plan.outputs().zip(&outputs) {
                let wanted = sample(&golden[&format!("out__{}", io.name)], row);
                let found = floats(output);
                let worst = wanted.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                println!("{stem} {} sample {row}: worst difference {worst}", io.name);
                if io.name != "embedding" {
                    // Two classes closer than the drift have no order: ONNX Runtime's own
                    // optimized run ties what its unoptimized run tells apart.
                    let (best, ours) = (argmax(&wanted), argmax(&found));
                    let margin = wanted[best] - wanted[ours];
                    println!("{stem} {} sample {row}: top-1 {best}, ours {ours}, margin {margin}", io.name);
                    assert!(margin <= *drift * 1.001, "{stem} {} sample {row}: {best} {ours}", io.name);
                    assert!(worst <= *drift * 1.001, "{stem} {} sample {row}: {worst} > {drift}", io.name);
                }
            }
        }
    }
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
                OpCode::QConv | OpCode::QDepthwise | OpCode::QAdd | OpCode::QPool | OpCode::QSoftmax
                    | OpCode::Lookup | OpCode::Requantize | OpCode::Quantize | OpCode::Dequantize | OpCode::Copy
            );
            assert!(integer, "{stem}: {} runs as {}", step.name, step.op);
            // Lite0's input is an image with its channels first.
            assert!(step.op != OpCode::Copy || stem.contains("lite0"), "{stem}: {} moves data", step.name);
        }
    }
}
