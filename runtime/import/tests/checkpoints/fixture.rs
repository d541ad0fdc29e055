//! The golden checkpoints and the bases they were made on.

use std::fs;
use std::path::PathBuf;

use ingraft_adapter::TermSource;
use ingraft_compile::{CalibrateOptions, CompileOptions, compile, initializers};
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_import::{Aligned, Base, Tensor, Tensors, read_tensors};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::DType;
use zerocopy::IntoBytes;

/// The folder of the goldens.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/import")
}

/// What PEFT computed.
pub(crate) fn outputs() -> Tensors {
    read_tensors(&fs::read(folder().join("outputs.safetensors")).expect("goldens are committed"))
        .expect("whole")
}

/// Config and tensors of a checkpoint.
pub(crate) fn checkpoint(case: &str) -> (Vec<u8>, Vec<u8>) {
    let read = |name: &str| fs::read(folder().join(case).join(name)).expect("goldens are committed");
    (read("adapter_config.json"), read("adapter_model.safetensors"))
}

/// Every case, with the model it was made on.
pub(crate) fn cases(outputs: &Tensors) -> Vec<(String, &'static str)> {
    let names = outputs.keys().filter_map(|name| name.strip_suffix("/output"));
    let model = |case: &str| {
        let (_, model) = checkpoint(case);
        let held = read_tensors(&model).expect("whole");
        let has = |part: &str| held.keys().any(|name| name.contains(part));
        let marks = [
            (".conv", "conv"),
            (".point", "conv"),
            (".norm", "norm"),
            (".batch", "batch"),
            (".emb.", "tokens"),
            (".attn.", "attention"),
            (".line", "line"),
            (".mix", "groups"),
            (".far", "groups"),
        ];
        marks.into_iter().find(|(mark, _)| has(mark)).map_or("linear", |(_, model)| model)
    };
    let whole = names.filter(|case| !MODELS.contains(case) && !ASKING.contains(case));
    whole.map(|case| (case.to_owned(), model(case))).collect()
}

/// Cases that are not read as they are: another test has them.
const ASKING: [&str; 2] = ["lora_groups_all", "tinylora_untied"];

/// The models that checkpoints were made on.
pub(crate) const MODELS: [&str; 8] =
    ["linear", "conv", "norm", "batch", "tokens", "line", "attention", "groups"];

/// Every model, compiled.
pub(crate) fn models(quantized: bool) -> [(&'static str, Compiled); MODELS.len()] {
    MODELS.map(|model| (model, Compiled::new(model, quantized)))
}

/// A compiled model.
pub(crate) struct Compiled {
    plan: Aligned,
    initializers: Tensors,
}

impl Compiled {
    /// `model` as floats, or quantized by what it computes on the goldens' input.
    pub(crate) fn new(model: &str, quantized: bool) -> Self {
        let bytes = fs::read(folder().join(format!("{model}.onnx"))).expect("goldens are committed");
        let input = &outputs()[&format!("{model}/input")];
        let calibrate = quantized.then(|| {
            let samples = vec![vec![("x".to_owned(), elements(input, model == "tokens"))]];
            CalibrateOptions { samples, equalize: true, ..CalibrateOptions::default() }
        });
        let plan =
            compile(&bytes, &CompileOptions { calibrate, head_classes: 6, ..CompileOptions::default() })
                .expect("compiles")
                .plan;
        let wide = |tensor: ingraft_compile::Tensor| Tensor {
            dims: tensor.shape().to_vec(),
            values: tensor.to_f32().iter().map(|v| f64::from(*v)).collect(),
        };
        let initializers = initializers(&bytes).expect("a model");
        let initializers = initializers.into_iter().map(|(name, tensor)| (name, wide(tensor))).collect();
        Self { plan: Aligned::copy_of(&plan), initializers }
    }

    /// The base, with or without the float weights.
    pub(crate) fn base(&self, weights: bool) -> Base<'_> {
        let plan = PlanView::new(self.plan.as_slice()).expect("a plan we wrote is valid");
        let initializers = if weights { self.initializers.clone() } else { Tensors::new() };
        Base { plan, initializers }
    }
}

/// The elements of an input as its model takes them: whole numbers or reals.
fn elements(input: &Tensor, whole: bool) -> Vec<u8> {
    match whole {
        true => input.values.iter().flat_map(|v| (*v as i64).to_le_bytes()).collect(),
        false => input.values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
    }
}

/// What the head of `source` says of the goldens' input, or the first output.
pub(crate) fn run(plan: PlanView<'_>, input: &Tensor, source: &dyn TermSource) -> Vec<f64> {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("fits");
    let mut memory = vec![0u128; needs.total().div_ceil(16)];
    let mut session =
        Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.as_mut_bytes()).expect("memory suffices");
    let dtype = plan.inputs().next().and_then(|io| plan.tensor(io.tensor)).map(|tensor| tensor.operand.dtype);
    session.write_input(0, &elements(input, dtype == Some(DType::I64))).expect("the input's size");
    session.run(&source).expect("bound sessions run");
    let mut out = vec![0f32; session.output(0).expect("an output").shape().elements()];
    match source.head() {
        Some(head) => {
            out = vec![0f32; session.batch() * head.classes];
            let samples = out.chunks_exact_mut(head.classes).enumerate();
            samples.for_each(|(sample, row)| session.read_logits(sample, row).expect("room for the head"));
        }
        None => session.read_output(0, out.as_mut_bytes()).expect("the output's size"),
    }
    out.iter().map(|v| f64::from(*v)).collect()
}

/// The largest difference, relative to the largest value.
pub(crate) fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
    assert!(largest > 0.0 && got.iter().all(|v| v.is_finite()), "nothing to compare");
    got.iter().zip(want).fold(0.0f64, |furthest, (g, w)| furthest.max((g - w).abs())) / largest
}
