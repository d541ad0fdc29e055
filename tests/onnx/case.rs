//! One node test: its files, its run, its verdict.

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use ingraft::adapter::Base;
use ingraft::compile::{CompileOptions, Tensor, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::Host;
use ingraft::kernel::cast::f16_to_f32;
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::DType;
use ingraft_dataset::{Array, read_npz};

use crate::support::AlignedBytes;

/// Stands for the operator of tests in which a function is written out in other operators.
pub(crate) const EXPANDED: &str = "expanded";

/// A test as `node_tests.py` wrote it.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The operator of its only node, or [`EXPANDED`].
    pub(crate) operator: String,
    folder: PathBuf,
    relative: f64,
    absolute: f64,
    data_sets: usize,
}

/// What became of a test.
pub(crate) enum Verdict {
    Passed,
    Failed(String),
    /// The compiler's reason, without the names of nodes and values.
    Refused(String),
}

type Arrays = BTreeMap<String, Array>;

impl Case {
    /// Every test in `folder`.
    pub(crate) fn list(folder: &Path) -> Vec<Self> {
        let table = fs::read_to_string(folder.join("cases.tsv")).expect("node_tests.py wrote the table");
        let case = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, operator, relative, absolute, data_sets] = fields[..] else { panic!("{line:?}") };
            Self {
                name: name.to_owned(),
                operator: operator.to_owned(),
                folder: folder.join(name),
                relative: relative.parse().expect("a number"),
                absolute: absolute.parse().expect("a number"),
                data_sets: data_sets.parse().expect("a number"),
            }
        };
        table.lines().map(case).collect()
    }

    /// Compiles and runs the test on each of its data sets.
    pub(crate) fn run(&self) -> Verdict {
        for set in 0..self.data_sets {
            match catch_unwind(|| self.run_on(set)) {
                Ok(Verdict::Passed) => {}
                Ok(verdict) => return verdict,
                Err(_) => return Verdict::Failed("panicked".to_owned()),
            }
        }
        Verdict::Passed
    }

    fn run_on(&self, set: usize) -> Verdict {
        let model = fs::read(self.folder.join("model.onnx")).expect("every test has a model");
        let inputs = self.arrays(set, "in");
        let mut options = CompileOptions::default();
        for (name, array) in &inputs {
            options.import.shapes.insert(name.clone(), array.shape().to_vec());
            let tensor = Tensor::new(array.dtype(), array.shape().to_vec(), array.bytes());
            options.import.operands.extend(tensor.map(|tensor| (name.clone(), tensor)));
        }
        let compiled = match compile(&model, &options) {
            Ok(compiled) => compiled,
            Err(error) => return Verdict::Refused(without_names(&error.to_string())),
        };
        match execute(&compiled.plan, &inputs) {
            Ok(outputs) => self.judge(&outputs, &self.arrays(set, "out")),
            Err(reason) => Verdict::Failed(reason),
        }
    }

    /// The arrays of one side; none where the file holds none or of a type that no plan has.
    fn arrays(&self, set: usize, side: &str) -> Arrays {
        let path = self.folder.join(format!("{set}_{side}.npz"));
        read_npz(&path).map_or_else(|_| Arrays::new(), |arrays| arrays.into_iter().collect())
    }

    fn judge(&self, outputs: &[(String, Array)], wanted: &Arrays) -> Verdict {
        for (name, found) in outputs {
            let Some(wanted) = wanted.get(name) else {
                return Verdict::Failed(format!("{name}: no recording"));
            };
            if (found.shape(), found.dtype()) != (wanted.shape(), wanted.dtype()) {
                let (have, want) = ((found.dtype(), found.shape()), (wanted.dtype(), wanted.shape()));
                return Verdict::Failed(format!("{name}: is {have:?}, should be {want:?}"));
            }
            let far = |(a, b): (&f64, &f64)| {
                let same = a == b || (a.is_nan() && b.is_nan());
                !(same || (a - b).abs() <= self.absolute + self.relative * b.abs())
            };
            let (found, wanted) = (numbers(found), numbers(wanted));
            if let Some(at) = found.iter().zip(&wanted).position(far) {
                let (a, b) = (found[at], wanted[at]);
                return Verdict::Failed(format!("{name}: element {at} is {a}, should be {b}"));
            }
        }
        Verdict::Passed
    }
}

/// Runs a plan and gives its outputs by name.
fn execute(plan: &[u8], inputs: &Arrays) -> Result<Vec<(String, Array)>, String> {
    let file = AlignedBytes::copy_of(plan);
    let plan = PlanView::new(file.as_slice()).map_err(|e| e.to_string())?;
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).map_err(|e| e.to_string())?;
    let mut memory = AlignedBytes::zeroed(needs.total());
    let bound = Session::bind(plan, Phase::Infer, &Host::SCALAR, memory.as_mut());
    let mut session = bound.map_err(|e| e.to_string())?;
    for (index, io) in plan.inputs().enumerate() {
        let array = inputs.get(io.name).ok_or_else(|| format!("{}: no recording", io.name))?;
        session.write_input(index, array.bytes()).map_err(|e| e.to_string())?;
    }
    session.run(&Base).map_err(|e| e.to_string())?;
    let output = |(index, name): (usize, &str)| {
        let view = session.output(index)?;
        let shape = view.shape().dims().iter().map(|d| *d as usize).collect();
        Some((name.to_owned(), Array::new(view.dtype(), shape, view.bytes().to_vec())?))
    };
    let outputs: Option<Vec<_>> = plan.outputs().map(|io| io.name).enumerate().map(output).collect();
    outputs.ok_or_else(|| "an output cannot be read".to_owned())
}

/// The elements as numbers; every type but int64 beyond 2⁵³ is exact.
fn numbers(array: &Array) -> Vec<f64> {
    let halves =
        || array.bytes().as_chunks::<2>().0.iter().map(|b| f16_to_f32(u16::from_le_bytes(*b)).into());
    match array.dtype() {
        DType::F16 => halves().collect(),
        DType::I32 => array.to_vec::<i32>().expect("the type").into_iter().map(f64::from).collect(),
        DType::I64 => array.to_vec::<i64>().expect("the type").into_iter().map(|v| v as f64).collect(),
        _ => array.to_f32().expect("not half precision").into_iter().map(f64::from).collect(),
    }
}

/// A message without the names of nodes and values in it, so that equal reasons read alike; attributes keep theirs.
fn without_names(message: &str) -> String {
    let mut text = String::new();
    for (index, part) in message.split(['"', '\'']).enumerate() {
        let quoted = index % 2 == 1;
        text.push_str(if quoted && !text.ends_with("attribute ") { "_" } else { part });
    }
    text.replace('|', "/")
}
