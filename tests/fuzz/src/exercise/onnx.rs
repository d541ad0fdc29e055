//! A model: import, compile as it is and for training, quantize, and hold what comes out to its own promises.

use ingraft_compile::lower::train::TrainFrom;
use ingraft_compile::{CompileOptions, ImportOptions, compile, import, initializers};
use ingraft_exec::{ExecError, MemoryNeeds, Session};
use ingraft_import::Aligned;
use ingraft_kernel::{Host, KernelError};
use ingraft_plan::{Phase, PlanView};

use super::base::calibration;
use super::room;

/// Most bytes of a model that is tried.
pub const MODEL_BYTES: usize = 8192;

/// Whatever `bytes` are as a model.
pub fn onnx(bytes: &[u8]) {
    if bytes.len() > MODEL_BYTES {
        return;
    }
    let _ = initializers(bytes).map(|held| held.len());
    let mut options = CompileOptions { head_classes: 4, ..CompileOptions::default() };
    options.import = ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() };
    if import(bytes, &options.import).is_err() {
        // Without the name that no input may have.
        options.import = ImportOptions::default();
    }
    let Ok(graph) = import(bytes, &options.import) else { return };
    // What a value takes is the model's to say and the caller's to refuse.
    let elements = |shape: &[usize]| shape.iter().fold(1usize, |count, dim| count.saturating_mul(*dim));
    if graph.values.iter().any(|value| elements(&value.shape) > 1 << 16) {
        return;
    }
    options.train_from = Some(TrainFrom::All);
    for options in [&options, &CompileOptions { train_from: None, ..options.clone() }] {
        let Ok(compiled) = compile(bytes, options) else { continue };
        let file = Aligned::copy_of(&compiled.plan);
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        let ran = run(plan);
        if !ran || options.train_from.is_some() || plan.io().any(|io| plan.tensor(io.tensor).is_none()) {
            continue;
        }
        let options = CompileOptions { calibrate: Some(calibration(&plan)), ..options.clone() };
        if let Ok(compiled) = compile(bytes, &options) {
            let file = Aligned::copy_of(&compiled.plan);
            run(PlanView::new(file.as_slice()).expect("a plan we wrote is valid"));
        }
    }
}

/// Whether the plan ran; one that asks for more memory than there is does not.
fn run(plan: PlanView<'_>) -> bool {
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("steps we wrote are ones we run");
    let ran = room(needs.total(), |memory| {
        memory.fill(0);
        let mut session =
            Session::bind(plan, Phase::Infer, &Host::SCALAR, memory).expect("a plan we wrote binds");
        match session.run(&ingraft_adapter::Base) {
            // What a model computes as an index may lie outside what it indexes.
            Ok(()) | Err(ExecError::Step { error: KernelError::Index(_), .. }) => {}
            Err(error) => panic!("bound steps run: {error}"),
        }
    });
    ran.is_some()
}
