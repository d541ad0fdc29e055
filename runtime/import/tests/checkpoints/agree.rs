//! HF PEFT's own outputs.

use ingraft_adapter::Adapter;
use ingraft_import::{Aligned, Matching, import_lycoris, import_onnx_adapter, import_peft, read_tensors};

use crate::fixture::{Compiled, cases, checkpoint, distance, folder, models, outputs, run};

#[test]
fn every_checkpoint_computes_what_peft_computes() {
    let outputs = outputs();
    let models = models(false);
    let mut failures = Vec::new();
    let mut count = 0;
    for (case, model) in cases(&outputs) {
        let compiled = &models.iter().find(|(name, _)| *name == model).expect("one of them").1;
        let (input, want) = (&outputs[&format!("{model}/input")], &outputs[&format!("{case}/output")]);
        // Where the head has classes of its own there is nothing to compare with.
        let base = &outputs[&format!("{model}/output")];
        let unadapted = if base.dims == want.dims { distance(&base.values, &want.values) } else { 1.0 };
        assert!(unadapted > 1e-2, "{case}: the checkpoint does next to nothing ({unadapted:.1e})");
        let (config, tensors) = checkpoint(&case);
        for weights in [true, false] {
            let base = compiled.base(weights);
            let matching = Matching::default();
            // Where a folded batch norm hides the bias, or statistics moved, the weights have to be at hand.
            let imported = match import_peft(&base, &config, &tensors, &matching, "test") {
                Err(error) if !weights && ["ia3_conv", "ln_batch_moved"].contains(&case.as_str()) => {
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

#[test]
fn every_checkpoint_computes_what_lycoris_computes() {
    let folder = folder().join("lycoris");
    let read = |name: &str| {
        std::fs::read(folder.join(format!("{name}.safetensors"))).expect("goldens are committed")
    };
    let (outputs, wanted) = (outputs(), read_tensors(&read("outputs")).expect("whole"));
    let models = [("linear", Compiled::new("linear", false)), ("conv", Compiled::new("conv", false))];
    for (name, want) in &wanted {
        let case = name.trim_end_matches("/output");
        let (model, compiled) = &models[usize::from(want.dims[0] == 2)];
        let base = compiled.base(true);
        let imported = import_lycoris(&base, &read(case), &Matching::default(), "test");
        let imported = imported.unwrap_or_else(|error| panic!("{case}: {error}"));
        let file = Aligned::copy_of(&imported.bytes);
        let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("import checked it");
        let apart = distance(&run(base.plan, &outputs[&format!("{model}/input")], &adapter), &want.values);
        assert!(apart < 1e-5, "{case}: {apart:.1e} apart");
    }
    assert_eq!(wanted.len(), 11);
}

#[test]
fn an_onnx_adapter_is_the_lora_it_was_made_from() {
    let (outputs, bytes) = (outputs(), std::fs::read(folder().join("lora.onnx_adapter")).expect("committed"));
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(false);
    let imported = import_onnx_adapter(&base, &bytes, &Matching::default(), "test").expect("a LoRA");
    let file = Aligned::copy_of(&imported.bytes);
    let adapter = Adapter::attach(file.as_slice(), &base.plan).expect("import checked it");
    let apart = distance(&run(base.plan, &outputs["linear/input"], &adapter), &outputs["lora/output"].values);
    // One module came in half precision.
    assert!(apart < 1e-3, "{apart:.1e} apart");
    // The last bytes are padding: the format keeps no length.
    for len in 0..bytes.len() - 8 {
        assert!(
            import_onnx_adapter(&base, &bytes[..len], &Matching::default(), "test").is_err(),
            "{len} bytes"
        );
    }
    // Whatever a damaged file says, it is read within its bounds, to the end or to a reason.
    let mut accepted = 0;
    for round in 0..20_000usize {
        let mut bytes = bytes.clone();
        let at = round.wrapping_mul(2_654_435_761) % bytes.len();
        bytes[at] = [0, 1, 4, 0x7f, 0x80, 0xff][round % 6];
        accepted += usize::from(import_onnx_adapter(&base, &bytes, &Matching::default(), "test").is_ok());
    }
    println!("{accepted} of 20000 damaged files were still well formed");
}
