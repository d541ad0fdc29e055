//! Latency of whole models on every target of this machine, and the memory a session takes.
//!
//! The built-in model, and every model of the development data. Inputs are random: the time of
//! an inference does not depend on them.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use criterion::Criterion;
use ingraft::adapter::Base;
use ingraft::compile::{CompileError, CompileOptions, ImportOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{Host, Target};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::{DType, Rng};
use ingraft_dataset::read_npz;
use support::{AlignedBytes, SessionMemory, as_bytes};

fn main() {
    let mut criterion = support::criterion();
    bench(&mut criterion, "built-in", &support::built_in(None));
    if let Some(root) = support::data() {
        let folder = fs::read_dir(root.join("models/onnx")).expect("the data holds models");
        let mut files: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
        files.sort();
        for path in files {
            let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            let plan = recorded(&root, &path, &stem).unwrap_or_else(|e| panic!("{stem}: {e}"));
            bench(&mut criterion, &stem, &plan);
        }
    }
    criterion.final_summary();
}

/// The plan for one sample; where more dimensions are open, with the shapes of the recorded inputs.
fn recorded(root: &Path, path: &Path, stem: &str) -> Result<AlignedBytes, CompileError> {
    let onnx = fs::read(path).expect("the model is there");
    let arrays =
        read_npz(&root.join("models/golden").join(stem).with_extension("npz")).expect("the recording reads");
    let shapes =
        arrays.iter().filter_map(|(key, a)| Some((key.strip_prefix("in__")?.to_owned(), a.shape().to_vec())));
    let shapes = ImportOptions { shapes: shapes.collect(), ..ImportOptions::default() };
    let single = ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() };
    let attempt = |import| compile(&onnx, &CompileOptions { import, ..CompileOptions::default() });
    let compiled = attempt(single).or_else(|_| attempt(shapes))?;
    Ok(AlignedBytes::copy_of(&compiled.plan))
}

fn bench(criterion: &mut Criterion, name: &str, file: &AlignedBytes) {
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    for target in support::targets() {
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("the target runs every step");
        println!("{name} on {}: {}", target.name(), account(&plan, needs));
        let id = format!("{name}/{}", target.name());
        criterion.bench_function(&id, |bencher| infer(bencher, plan, &target, needs));
    }
}

fn infer(bencher: &mut criterion::Bencher<'_>, plan: PlanView<'_>, target: &Host, needs: MemoryNeeds) {
    let mut memory = SessionMemory::zeroed(needs.total());
    let mut session =
        Session::bind(plan, Phase::Infer, target, memory.as_mut_slice()).expect("memory suffices");
    let mut rng = Rng::new(0);
    let inputs: Vec<Vec<u8>> = plan
        .inputs()
        .map(|input| {
            let operand = plan.tensor(input.tensor).expect("an input is a tensor").operand;
            let elements = operand.shape.elements();
            match operand.dtype {
                DType::F32 => {
                    let values: Vec<f32> = (0..elements).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
                    as_bytes(&values).to_vec()
                }
                // Zeros are indices that every table has.
                dtype => vec![0; elements * dtype.size()],
            }
        })
        .collect();
    // Every time: a run may reuse the memory of its inputs.
    bencher.iter(|| {
        for (index, bytes) in inputs.iter().enumerate() {
            session.write_input(index, bytes).expect("the input has this length");
        }
        session.run(&Base).expect("bound steps run");
    });
}

fn account(plan: &PlanView<'_>, needs: MemoryNeeds) -> String {
    let MemoryNeeds { arena, workspace, head, packed } = needs;
    let (total, file) = (needs.total(), plan.bytes().len());
    format!(
        "peak {total} bytes (arena {arena}, workspace {workspace}, head {head}, packed {packed}), plan {file} bytes"
    )
}
