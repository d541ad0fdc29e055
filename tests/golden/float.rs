//! Models that compute on reals, in whole or in part, against their recordings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ingraft::adapter::Base;
use ingraft::compile::{CompileOptions, Compiled, compile};
use ingraft::kernel::{Host, OpCode, SiteDesc, SiteKind, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft_dataset::Array;

use crate::golden;
use crate::support::{AlignedBytes, data, floats, infer};

/// A model, and by how much an output may differ, relative to its largest value.
struct Float {
    stem: &'static str,
    tolerance: f32,
}

const FLOAT: &[Float] = &[
    Float { stem: "efficientnet_lite0_f32", tolerance: 1e-4 },
    Float { stem: "mlperf_tiny_ic_resnet8_f32", tolerance: 1e-4 },
    Float { stem: "mlperf_tiny_kws_dscnn_weightonly_int8", tolerance: 1e-4 },
    Float { stem: "ppocr_textline_cls_mobilenetv3_f32", tolerance: 1e-4 },
    Float { stem: "silero_vad_16k_sequence", tolerance: 1e-4 },
    Float { stem: "kwt1_12labels_f32", tolerance: 1e-3 },
    Float { stem: "minilm_l6_int8_dynamic", tolerance: 1e-3 },
    Float { stem: "dnsmos_sig_bak_ovr_f32", tolerance: 1e-3 },
];

/// Compiled for the shapes of the recorded inputs.
fn compiled(root: &Path, stem: &str, golden: &BTreeMap<String, Array>) -> Compiled {
    let model = fs::read(root.join("models/onnx").join(format!("{stem}.onnx"))).expect("the model is there");
    let mut options = CompileOptions::default();
    for (name, array) in golden {
        if let Some(name) = name.strip_prefix("in__") {
            options.import.shapes.insert(name.to_owned(), array.shape().to_vec());
        }
    }
    compile(&model, &options).unwrap_or_else(|e| panic!("{stem}: {e}"))
}

/// The array recorded for `name`, whose punctuation the recording spells as underscores.
fn recorded<'a>(golden: &'a BTreeMap<String, Array>, side: &str, name: &str) -> &'a Array {
    &golden[&format!("{side}__{}", name.replace(['.', ':', '/'], "_"))]
}

/// Checks what `target` makes of the recorded inputs of `models`.
fn agree(models: &[Float], target: &Host) {
    let Some(root) = data() else { return };
    let mut failures = Vec::new();
    for Float { stem, tolerance } in models {
        let golden = golden(&root, stem);
        let plan_file = AlignedBytes::copy_of(&compiled(&root, stem, &golden).plan);
        let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
        let inputs: Vec<&[u8]> = plan.inputs().map(|io| recorded(&golden, "in", io.name).bytes()).collect();
        let outputs = infer(plan, target, &inputs, &Base);
        for (io, output) in plan.outputs().zip(&outputs) {
            let wanted = recorded(&golden, "out", io.name).to_f32().expect("recordings are floats");
            let found = floats(output);
            assert_eq!(wanted.len(), found.len(), "{stem} {}", io.name);
            let largest = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let worst = wanted.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            println!("{stem} {}: worst relative difference {:.2e}", io.name, worst / largest);
            let finite = found.iter().all(|v| v.is_finite());
            if !finite || worst > tolerance * largest {
                failures.push(format!("{stem} {}: {worst} of {largest}", io.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn float_models_agree_end_to_end() {
    agree(FLOAT, &Host::SCALAR);
}

/// The same by products in f16, where a processor has them: networks small enough for an emulator.
#[test]
#[cfg(target_arch = "aarch64")]
fn products_in_half_precision_keep_the_outputs() {
    let half = [
        ("mlperf_tiny_ic_resnet8_f32", 5e-3),
        ("ppocr_textline_cls_mobilenetv3_f32", 5e-3),
        // Recurrent: what a time step adds comes back in the next.
        ("silero_vad_16k_sequence", 5e-2),
    ];
    let half = half.map(|(stem, tolerance)| Float { stem, tolerance });
    for target in crate::targets::halves() {
        agree(&half, &target);
    }
}

#[test]
fn dynamic_quantization_keeps_its_products_in_int8() {
    let Some(root) = data() else { return };
    let stem = "minilm_l6_int8_dynamic";
    let compiled = compiled(&root, stem, &golden(&root, stem));
    let plan_file = AlignedBytes::copy_of(&compiled.plan);
    let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
    let ops = |wanted: OpCode| {
        let steps = (0..plan.step_count(Phase::Infer)).filter_map(|i| plan.step(Phase::Infer, i));
        steps.filter(|step| step.op == wanted).count()
    };
    assert_eq!(ops(OpCode::DynamicConv), 36, "every MatMulInteger is one step, its scales and bias included");
    assert_eq!(ops(OpCode::Conv), 0, "no constant weight is multiplied in float");
    assert_eq!((ops(OpCode::MatMulInteger), ops(OpCode::Cast)), (0, 1), "only the attention mask is cast");
    let sites = (0..plan.site_count()).filter_map(|i| plan.site(i));
    let (norms, layers): (Vec<_>, Vec<_>) = sites.partition(|site| site.kind.is_norm());
    assert_eq!(layers.len(), 36);
    assert!(layers.iter().all(|site| site.kind == SiteKind::Linear && site.transposed));
    // One behind the embeddings, two in each layer, by the names that PyTorch gave them.
    assert_eq!(norms.len(), 13);
    let named = |site: &SiteDesc<'_>| site.name.ends_with("LayerNorm.weight");
    assert!(norms.iter().all(|site| site.kind == SiteKind::Norm && site.out == 384 && named(site)));
    // What stays float says so: attention's products of two activations among it.
    assert!(plan.float_nodes().lines().any(|line| line.contains("MatMul")));
}
