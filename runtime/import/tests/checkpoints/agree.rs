//! HF PEFT's own outputs.

use ingraft_adapter::Adapter;
use ingraft_import::{Aligned, Matching, import_peft};

use crate::fixture::{Compiled, cases, checkpoint, distance, outputs, run};

#[test]
fn every_checkpoint_computes_what_peft_computes() {
    let outputs = outputs();
    let models = [("linear", Compiled::new("linear", false)), ("conv", Compiled::new("conv", false))];
    let mut failures = Vec::new();
    let mut count = 0;
    for (case, model) in cases(&outputs) {
        let compiled = &models.iter().find(|(name, _)| *name == model).expect("one of two").1;
        let (input, want) = (&outputs[&format!("{model}/input")], &outputs[&format!("{case}/output")]);
        let unadapted = distance(&outputs[&format!("{model}/output")].values, &want.values);
        assert!(unadapted > 1e-2, "{case}: the checkpoint does next to nothing ({unadapted:.1e})");
        let (config, tensors) = checkpoint(&case);
        for weights in [true, false] {
            let base = compiled.base(weights);
            let matching = Matching::default();
            // Where a folded batch norm hides the bias, the weights have to be at hand.
            let imported = match import_peft(&base, &config, &tensors, &matching, "test") {
                Err(error) if !weights && case == "ia3_conv" => {
                    assert!(error.to_string().contains("--onnx"), "{error}");
                    continue;
                }
                Err(error) => {
                    failures.push(format!("{case}: {error}"));
                    continue;
                }
                Ok(imported) => imported,
            };
            let file = Aligned::copy_of(&imported.bytes);
            let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("import checked it");
            let apart = distance(&run(base.plan, input, &adapter), &want.values);
            if apart > 1e-5 {
                failures.push(format!("{case} (weights {weights}): {apart:.1e} apart"));
            }
            count += 1;
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    println!("{count} imports agree");
}
