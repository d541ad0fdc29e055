//! The built-in model against the outputs recorded when it was made; needs no data.

use ingraft::adapter::Base;
use ingraft::compile::{CompileOptions, compile};
use ingraft::kernel::Host;
use ingraft::plan::PlanView;
use ingraft_models::demo::{BASE_INT8, golden};

use crate::support::{AlignedBytes, as_bytes, floats, infer};

#[test]
fn the_built_in_model_agrees_with_its_recording() {
    let mut options = CompileOptions::default();
    options.import.dims.insert("N".into(), golden::BATCH);
    let compiled = compile(BASE_INT8, &options).expect("the built-in model compiles");
    let file = AlignedBytes::copy_of(&compiled.plan);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let patches: Vec<f32> = golden::patches().collect();
    let outputs = infer(plan, &Host::SCALAR, &[as_bytes(&patches)], &Base);
    let recorded = [golden::int8_logits().collect::<Vec<f32>>(), golden::int8_embedding().collect()];
    for ((io, output), wanted) in plan.outputs().zip(&outputs).zip(&recorded) {
        let found = floats(output);
        assert_eq!(found.len(), wanted.len(), "{}", io.name);
        let step = step_of(wanted);
        let worst = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{}: worst difference {worst}, one step {step}", io.name);
        assert!(worst <= step * 1.001, "{}: {worst} is more than one step of {step}", io.name);
    }
}

/// The smallest distance between two recorded values: one output step.
fn step_of(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let gaps = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1e-6);
    gaps.fold(f32::INFINITY, f32::min)
}
