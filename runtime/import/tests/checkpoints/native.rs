//! Our own directories: every adapter comes back byte by byte, and checkpoints made by hand run as given.

use std::collections::BTreeMap;

use ingraft_adapter::{Adapter, AdapterBuilder, AdapterFacts, HeadSpec, Link, TermSource, TermSpec};
use ingraft_import::{
    Aligned, Base, Fault, ImportError, Matching, export_native, export_peft, import_native, import_peft,
    read_tensors,
};
use ingraft_kernel::{Factors, Sites};
use ingraft_method::{METHODS, ValuesError, build, declared};
use safetensors::tensor::{Dtype, TensorView};

use crate::fixture::{Compiled, cases, checkpoint, models, outputs, run};

pub(crate) fn returns(base: &Base<'_>, bytes: &[u8], what: &str) {
    let exported = export_native(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let again = import_native(base, exported.json.as_bytes(), &exported.tensors, "another provenance");
    let again = again.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(again.bytes == bytes, "{what}: other bytes came back");
}

#[test]
fn every_imported_checkpoint_returns_to_the_same_bytes() {
    for quantized in [false, true] {
        let models = models(quantized);
        for (case, model) in cases(&outputs()) {
            let base = models.iter().find(|(name, _)| *name == model).expect("one of them").1.base(true);
            let (config, tensors) = checkpoint(&case);
            let imported = import_peft(&base, &config, &tensors, &Matching::default(), "test");
            if quantized && model == "batch" {
                // Calibration computes a batch normalization on codes: there is no pair to stand in place of.
                let error = imported.expect_err("no such site").to_string();
                assert!(error.contains("batch0"), "{error}");
                continue;
            }
            returns(&base, &imported.unwrap_or_else(|error| panic!("{case}: {error}")).bytes, &case);
        }
    }
}

#[test]
fn what_came_from_peft_goes_back_to_it_tensor_by_tensor() {
    let models = models(false);
    for (case, model) in cases(&outputs()) {
        let base = models.iter().find(|(name, _)| *name == model).expect("one of them").1.base(true);
        let (config, tensors) = checkpoint(&case);
        let imported = import_peft(&base, &config, &tensors, &Matching::default(), "test").expect("agrees");
        let exported =
            export_peft(&imported.bytes, &base.plan).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(read_tensors(&exported.tensors), read_tensors(&tensors), "{case}");
        let parsed = |bytes: &[u8]| {
            serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(bytes).expect("JSON")
        };
        assert_eq!(parsed(exported.json.as_bytes()), parsed(&config), "{case}");
    }
}

#[test]
fn every_kind_of_term_and_a_head_return() {
    let compiled = Compiled::new("linear", true);
    let base = compiled.base(false);
    let mut builder = AdapterBuilder::new(&base.plan);
    let site = base.plan.site(0).expect("a site");
    let (out, row) = (site.out, site.row());
    let terms = [
        TermSpec::TwoFactorI8 {
            rank: 2,
            down: (0..2 * row).map(|i| i as i8 - 9).collect(),
            up: vec![-128; 2 * out],
            down_scale: vec![0.1; 2],
            up_scale: vec![1e-3; out],
        },
        TermSpec::SparseI16 {
            indptr: (0..=out as u32).collect(),
            indices: vec![1; out],
            values: vec![-300; out],
        },
        TermSpec::Affine { scale: vec![0.3; out], shift: vec![-1.5; out] },
        TermSpec::FusedI8 { weight: vec![3; out * row], bias: vec![-70_000_001; out] },
    ];
    terms.into_iter().for_each(|term| builder.term(0, &site, term));
    let features = base.plan.head_features(ingraft_kernel::NO_SITE, 3).expect("features");
    if base.plan.head_classes() > 1 {
        builder.head(HeadSpec {
            site: None,
            pool: 3,
            weight: vec![0.25; 2 * features],
            bias: vec![1.0, -1.0],
            labels: vec!["a".into(), "b".into()],
            link: Link::Sigmoid,
        });
    }
    let facts = AdapterFacts {
        method: "made by hand".into(),
        provenance: "a test".into(),
        ..AdapterFacts::default()
    };
    returns(&base, &builder.finish(&facts), "built");
}

type Held = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Tensors as safetensors, f32.
pub(crate) fn file(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, dims, values)| {
            (name.clone(), dims.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let view =
        |(name, dims, data): &'_ (String, Vec<usize>, Vec<u8>)| (name.clone(), dims.clone(), data.clone());
    let held: Vec<_> = data.iter().map(view).collect();
    let views = held.iter().map(|(name, dims, data)| {
        (name.as_str(), TensorView::new(Dtype::F32, dims.clone(), data).expect("whole"))
    });
    safetensors::serialize(views, None).expect("whole")
}

/// The tensors of `method` at site 0, small numbers: what it trains, and the constants of these names.
fn by_hand(base: &Base<'_>, method: &str, constants: &[String]) -> Option<Held> {
    let site = base.plan.site(0)?;
    let tensors = declared(&*build(method, &[]).expect("a method of the list"), &site).ok()?;
    let mut at = 0u32;
    let mut value = |scale: f32| {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((at >> 16) as f32 / 65536.0 - 0.5) * scale
    };
    let wanted = tensors.iter().filter(|info| info.trained || constants.iter().any(|name| name == info.name));
    let held: Held = wanted
        .map(|info| {
            let count = info.dims.iter().product();
            let values = match info.name.contains("indices") {
                true => (0..count).map(|i| i as f32).collect(),
                false => {
                    (0..count).map(|_| value(0.5) + if info.dims.len() == 1 { 1.0 } else { 0.0 }).collect()
                }
            };
            (format!("{}.{}", site.name, info.name), info.dims.clone(), values)
        })
        .collect();
    (!held.is_empty()).then_some(held)
}

#[test]
fn a_checkpoint_of_any_method_is_made_by_hand() {
    let outputs = outputs();
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(false);
    let input = &outputs["linear/input"];
    let unadapted = run(base.plan, input, &ingraft_adapter::Base);
    let site = base.plan.site(0).expect("a site").name;
    let mut made = 0;
    for row in METHODS {
        let json = format!("{{\"method\": \"{}\", \"sites\": {{\"{site}\": {{}}}}}}", row.name);
        let import = |tensors: &Held| import_native(&base, json.as_bytes(), &file(tensors), "by hand");
        let mut constants = Vec::new();
        let Some(mut tensors) = by_hand(&base, row.name, &constants) else { continue };
        // Constants that follow from the weight may be left out; those that were drawn are asked for by name.
        while let Err(ImportError { fault: Fault::Values(ValuesError::Missing(name)), .. }) = import(&tensors)
        {
            assert!(!constants.contains(&name.to_owned()), "{}: {name} is there", row.name);
            constants.push(name.to_owned());
            tensors = by_hand(&base, row.name, &constants).expect("it was there");
        }
        let imported = import(&tensors).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        let held = Aligned::copy_of(&imported.bytes);
        let adapter = Adapter::attach(held.as_slice(), &base.plan).expect("import checked it");
        assert_ne!(run(base.plan, input, &adapter), unadapted, "{}", row.name);
        returns(&base, &imported.bytes, row.name);
        for at in 0..tensors.len() {
            let mut fewer = tensors.clone();
            let (left, ..) = fewer.remove(at);
            let error = if fewer.is_empty() { None } else { Some(import(&fewer).expect_err(&left)) };
            assert!(
                error.is_none_or(|error| left.contains("alues") || error.to_string().contains("missing")),
                "{left}"
            );
        }
        made += 1;
    }
    assert!(made > 15, "{made} methods");
}

/// As `methods --json` lists it: `head/weight` `[classes, features]`, `head/bias` `[classes]`.
#[test]
fn a_head_alone_is_made_by_hand() {
    let outputs = outputs();
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(false);
    let features = base.plan.head_features(ingraft_kernel::NO_SITE, 3).expect("features");
    let values = |count: usize| (0..count).map(|i| (i % 7) as f32 * 0.25 - 0.5).collect::<Vec<f32>>();
    let held: Held = vec![
        ("head/weight".into(), vec![5, features], values(5 * features)),
        ("head/bias".into(), vec![5], values(5)),
    ];
    let json = r#"{"method": "head", "sites": {}, "head": {"pool": 3}}"#;
    let import = |tensors: &Held| import_native(&base, json.as_bytes(), &file(tensors), "by hand");
    let made = import(&held).expect("a head");
    returns(&base, &made.bytes, "head");
    let bytes = Aligned::copy_of(&made.bytes);
    let adapter = Adapter::attach(bytes.as_slice(), &base.plan).expect("import checked it");
    let logits = run(base.plan, &outputs["linear/input"], &adapter);
    assert_eq!(logits.len() % 5, 0);
    // Alike inputs of the head differ by the biases alone.
    assert!(logits.iter().any(|logit| *logit != logits[0]), "{logits:?}");
    let fewer = import(&held[..1].to_vec()).expect_err("no bias").to_string();
    assert!(fewer.contains("head/bias"), "{fewer}");
}

#[test]
fn the_factors_of_a_checkpoint_made_by_hand_are_those_that_run() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(false);
    let site = base.plan.site(0).expect("a site");
    let (a, b) = (vec![0.5f32; 3 * site.row()], vec![0.25f32; site.out * 3]);
    let tensors = [
        (format!("{}.lora_A", site.name), vec![3, site.row()], a.clone()),
        (format!("{}.lora_B", site.name), vec![site.out, 3], b),
    ];
    let json = format!(
        "{{\"method\": \"lora\", \"settings\": {{\"alpha\": 6}}, \"sites\": {{\"{}\": {{\"rank\": 3}}}}}}",
        site.name
    );
    let imported = import_native(&base, json.as_bytes(), &file(&tensors), "by hand").expect("fits");
    let held = Aligned::copy_of(&imported.bytes);
    let adapter = Adapter::attach(held.as_slice(), &base.plan).expect("import checked it");
    let Some(Factors::F32 { down, up }) = adapter.terms(0).two_factor.map(|term| term.factors) else {
        panic!("two factors")
    };
    assert_eq!((down, up), (&a[..], &vec![0.5f32; site.out * 3][..]));
    let wrong = json.replace("\"method\"", "\"base_hash\": \"00ff\", \"method\"");
    let error = import_native(&base, wrong.as_bytes(), &file(&tensors), "by hand").expect_err("another base");
    assert!(matches!(error.fault, Fault::WrongBase { .. }), "{error}");
    let error = import_native(&base, json.replace("rank", "rang").as_bytes(), &file(&tensors), "by hand");
    assert!(error.expect_err("no such setting").to_string().contains("no setting rang"));
}
