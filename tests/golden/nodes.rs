//! Every step of a quantized plan, fed with the tensors ONNX Runtime computed, against what it made of them.
//!
//! `ort_nodes.py` records the tensors into the folder that `INGRAFT_ORT_NODES` names. Steps run in order, and
//! each result is replaced by ONNX Runtime's before the next step, so that a step only ever sees what ONNX
//! Runtime gave the node it came from. Tensors that exist in the plan alone (a transposed image, say) are
//! followed: they stay as the plan computed them, from recorded tensors, until the next recorded one.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use ingraft::adapter::Base;
use ingraft::exec::{MemoryNeeds, Session, Silent};
use ingraft::kernel::{Host, OpCode, Target};
use ingraft::plan::{Phase, PlanView, StepView, TensorView};
use ingraft::tensor::DType;
use ingraft_dataset::{Array, read_npz};

use crate::support::{AlignedBytes, data, floats};
use crate::{QUANTIZED, Quantized, compiled};

/// What ONNX Runtime computed for one model, entry by sample along the first axis of every array.
#[derive(Debug)]
pub(crate) struct Recording {
    arrays: BTreeMap<String, Array>,
}

impl Recording {
    /// The recording of `stem`. Without the variable the test is skipped, except under CI.
    pub(crate) fn of(stem: &str) -> Option<Self> {
        let Some(folder) = env::var_os("INGRAFT_ORT_NODES").map(PathBuf::from) else {
            assert!(
                env::var_os("CI").is_none(),
                "INGRAFT_ORT_NODES is not set: run tests/golden/ort_nodes.py"
            );
            eprintln!("skipped: no recording (set INGRAFT_ORT_NODES, run tests/golden/ort_nodes.py)");
            return None;
        };
        let path = folder.join(stem).with_extension("npz");
        let arrays = read_npz(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Some(Self { arrays: arrays.into_iter().collect() })
    }

    /// `KIND__NAME`: `in`, `out` and `optimized` by input or output, `node` by tensor.
    pub(crate) fn array(&self, kind: &str, name: &str) -> &Array {
        self.arrays
            .get(&format!("{kind}__{name}"))
            .unwrap_or_else(|| panic!("{kind} {name} was not recorded"))
    }

    /// How far optimized and unoptimized runs are apart on the first `samples` of output `name`.
    pub(crate) fn drift(&self, name: &str, samples: usize) -> f32 {
        let rows = |kind| (0..samples).flat_map(move |i| floats(self.row(kind, name, i).bytes()));
        rows("out").zip(rows("optimized")).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Sample `index` of an array.
    pub(crate) fn row(&self, kind: &str, name: &str, index: usize) -> Array {
        self.array(kind, name).row(index).unwrap_or_else(|| panic!("{kind} {name} has no sample {index}"))
    }

    /// The bytes ONNX Runtime would hold where the plan holds `tensor`; `None` for a tensor of the plan alone.
    fn expected(&self, tensor: &TensorView<'_>, sample: usize) -> Option<Vec<u8>> {
        let kinds = ["node", "out"].map(|kind| format!("{kind}__{}", tensor.name));
        let array = kinds.iter().find_map(|key| self.arrays.get(key))?.row(sample)?;
        assert_eq!(array.dtype(), tensor.operand.dtype, "{}", tensor.name);
        let dims: Vec<usize> = tensor.operand.shape.dims().iter().skip(1).map(|d| *d as usize).collect();
        Some(in_plan_order(tensor.name, &array, &dims))
    }
}

/// The bytes of `array` in the order of a plan tensor of shape `dims`: as they are, or channels last.
fn in_plan_order(name: &str, array: &Array, dims: &[usize]) -> Vec<u8> {
    let same = array.shape() == dims;
    let (&[channels, height, width], &[h, w, c]) = (array.shape(), dims) else {
        assert!(same, "{name}: {:?} was recorded, the plan has {dims:?}", array.shape());
        return array.bytes().to_vec();
    };
    let moved = [height, width, channels] == [h, w, c];
    assert!(same || moved, "{name}: {:?} was recorded, the plan has {dims:?}", array.shape());
    // With one pixel or one channel both orders are the same bytes; elsewhere the shape must tell.
    let alike = channels == 1 || height * width == 1;
    assert!(alike || same != moved, "{name}: the shape {dims:?} does not tell its layout");
    if same || alike {
        return array.bytes().to_vec();
    }
    let (size, pixels) = (array.dtype().size(), height * width);
    let element = |i: usize| (i % channels) * pixels + i / channels;
    (0..channels * pixels).flat_map(|i| &array.bytes()[element(i) * size..][..size]).copied().collect()
}

/// How one step compares, over all samples.
#[derive(Debug)]
struct Agreement {
    name: String,
    op: OpCode,
    values: usize,
    different: usize,
    /// Largest difference in steps of the output, or of the codes a real output was dequantized from.
    worst: f32,
}

impl Agreement {
    fn identical(&self) -> f64 {
        100.0 * (1.0 - self.different as f64 / self.values as f64)
    }

    fn add(&mut self, found: &[u8], wanted: &[u8], output: &TensorView<'_>, input: Option<TensorView<'_>>) {
        let step = match output.operand.dtype {
            DType::I8 => 1.0,
            _ => input.and_then(|t| t.qparams).expect("a real output is dequantized from codes").scale,
        };
        let reals = |bytes: &[u8]| match output.operand.dtype {
            DType::I8 => bytes.iter().map(|b| f32::from(*b as i8)).collect(),
            _ => floats(bytes),
        };
        for (a, b) in reals(found).into_iter().zip(reals(wanted)) {
            self.values += 1;
            self.different += usize::from(a != b);
            self.worst = self.worst.max((a - b).abs() / step);
        }
    }
}

/// Runs every step of `plan` on every sample; gives the steps whose result was recorded.
fn compare(plan: PlanView<'_>, target: &Host, recording: &Recording) -> Vec<Agreement> {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target).expect("the target runs every step");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, target, memory.as_mut()).expect("memory suffices");
    let first = plan.inputs().next().expect("a model has inputs").name;
    let mut agreements = BTreeMap::new();
    for sample in 0..recording.array("in", first).shape()[0] {
        for (index, input) in plan.inputs().enumerate() {
            let row = recording.row("in", input.name, sample);
            session.write_input(index, row.bytes()).expect("the input has this length");
        }
        for index in 0..plan.step_count(Phase::Infer) {
            session.run_steps(index..index + 1, &[Base], &mut Silent).expect("bound steps run");
            let step = plan.step(Phase::Infer, index).expect("index is below the count");
            let Some(wanted) = result(&plan, &step, recording, sample) else { continue };
            let mut found = vec![0; wanted.len()];
            session.read_tensor(step.outputs[0], &mut found).expect("lengths agree");
            let output = plan.tensor(step.outputs[0]).expect("a step has an output");
            let entry = agreements.entry(index).or_insert_with(|| Agreement {
                name: step.name.to_owned(),
                op: step.op,
                values: 0,
                different: 0,
                worst: 0.0,
            });
            entry.add(&found, &wanted, &output, step.inputs.first().and_then(|t| plan.tensor(*t)));
            session.write_tensor(step.outputs[0], &wanted).expect("lengths agree");
        }
    }
    agreements.into_values().collect()
}

fn result(plan: &PlanView<'_>, step: &StepView<'_>, recording: &Recording, sample: usize) -> Option<Vec<u8>> {
    recording.expected(&plan.tensor(step.outputs[0])?, sample)
}

/// Steps by operator, as `9 QConv, 4 QDepthwise`.
fn census(ops: impl Iterator<Item = OpCode>) -> String {
    let mut counts = BTreeMap::new();
    ops.for_each(|op| *counts.entry(op).or_insert(0) += 1);
    counts.iter().map(|(op, n)| format!("{n} {op}")).collect::<Vec<_>>().join(", ")
}

fn report(stem: &str, target: &Host, agreements: &[Agreement]) {
    let (values, different) = agreements.iter().fold((0, 0), |(v, d), a| (v + a.values, d + a.different));
    let percent = 100.0 * (1.0 - different as f64 / values as f64);
    let worst = agreements.iter().map(|a| a.worst).fold(0.0, f32::max);
    let least = agreements.iter().min_by(|a, b| a.identical().total_cmp(&b.identical()));
    let least = least.map_or(String::new(), |a| format!("{} {:.4} %", a.name, a.identical()));
    println!(
        "{stem} on {}: {} steps ({})",
        target.name(),
        agreements.len(),
        census(agreements.iter().map(|a| a.op))
    );
    println!("  {values} values, {percent:.5} % identical, worst {worst} steps; least identical: {least}");
}

fn targets() -> Vec<Host> {
    let mut targets = vec![Host::SCALAR];
    #[cfg(target_arch = "x86_64")]
    targets.extend(ingraft::x86_64::available());
    targets
}

/// The node-by-node agreement that DESIGN section 8 promises: 99.9 % of the values, none further than one step.
#[test]
fn every_step_agrees_with_onnx_runtime() {
    let Some(root) = data() else { return };
    for Quantized { stem, followed, .. } in QUANTIZED {
        let Some(recording) = Recording::of(stem) else { return };
        let plan_file = AlignedBytes::copy_of(&compiled(&root, stem));
        let plan = PlanView::new(plan_file.as_slice()).expect("a plan we wrote is valid");
        for target in targets() {
            let agreements = compare(plan, &target, &recording);
            report(stem, &target, &agreements);
            for a in &agreements {
                let Agreement { name, op, values, different, worst } = a;
                let place =
                    format!("{stem}: {op} {name}: {different} of {values} differ, worst {worst} steps");
                assert!(different * 1000 <= *values && *worst <= 1.0, "{place}");
            }
            assert_eq!(agreements.len() + followed, plan.step_count(Phase::Infer), "{stem}: steps compared");
        }
    }
}
