//! Adapters trained here, in HF PEFT's own layout: read back they compute the same.
//!
//! With `INGRAFT_PEFT_EXPORTS=FOLDER` they are left there, and `tests/golden/import/peft_loads.py FOLDER` has PEFT load them
//! and compares what it computes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ingraft_adapter::Adapter;
use ingraft_import::{
    Aligned, Base, Exported, Matching, Tensor, export_peft, import_native, import_peft, read_tensors,
};
use ingraft_kernel::Sites;
use ingraft_method::{TorchRng, build, declared};
use serde_json::{Value, json};

use crate::fixture::{Compiled, distance, outputs, run};
use crate::native::{file, returns};

/// Tensors made by hand: what a method trains, its places or its projection, and a head.
struct ByHand<'b> {
    base: &'b Base<'b>,
    method: &'b str,
    settings: &'b str,
    sites: &'b [usize],
    /// Classes of a head in place of the last layer; none for 0.
    classes: usize,
}

impl ByHand<'_> {
    /// The adapter file.
    fn adapter(&self) -> Vec<u8> {
        let settings: BTreeMap<String, Value> =
            serde_json::from_str(&format!("{{{}}}", self.settings)).expect("JSON");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let pairs: Vec<(String, String)> =
            settings.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let method = build(self.method, &pairs).expect("a method of the list");
        let (mut tensors, mut sites) = (Vec::new(), serde_json::Map::new());
        for site in self.sites.iter().map(|index| self.base.plan.site(*index).expect("a site")) {
            let wanted = declared(&*method, &site).expect("defined here");
            let kept = [
                "indices",
                "vera_A",
                "vera_B",
                "randlora_A",
                "randlora_B",
                "unilora_indices",
                "unilora_scales",
                "tinylora_P",
            ];
            for info in wanted
                .iter()
                .filter(|info| info.trained || kept.iter().any(|kept| info.name.starts_with(kept)))
            {
                let count: usize = info.dims.iter().product();
                let columns = info.dims.last().copied().unwrap_or(1);
                let near = ["magnitude", "scale", "lambda", "boft_s", "alpha", "vector_"]
                    .iter()
                    .any(|name| info.name.contains(name));
                let drawn = match self.method {
                    "fourierft" | "waveft" => TorchRng::new(777).permutation(site.out * site.row(), count),
                    _ => (0..count).map(|i| i * 2).collect(),
                };
                // Haar's spectrum has even sides.
                let padded = if self.method == "waveft" { site.row() % 2 } else { 0 };
                let value = |i: usize| match info.name {
                    "indices" => (drawn[i] + drawn[i] / site.row() * padded) as f32,
                    // One matrix for all sites, by place, scaled as if drawn for so many columns.
                    "vera_A" | "vera_B" => {
                        small((i / columns) * 53 + i % columns * 17) * (6.0 / columns as f32).sqrt()
                    }
                    "randlora_A" | "randlora_B" => small((i / columns) * 53 + i % columns * 17),
                    "unilora_indices_A" | "unilora_indices_B" => (i * 7 % 20) as f32,
                    _ => f32::from(u8::from(near)) + small(i * 37 + info.name.len() * 7),
                };
                let values = (0..count).map(value).collect();
                tensors.push((format!("{}.{}", site.name, info.name), info.dims.clone(), values));
            }
            sites.insert(site.name.to_owned(), json!({}));
        }
        let mut document = json!({ "method": self.method, "settings": settings, "sites": sites });
        if self.classes > 0 {
            let features = self.base.plan.head_features(ingraft_kernel::NO_SITE, 3).expect("features");
            let values = |count: usize| (0..count).map(|i| small(i * 29 + 3)).collect();
            tensors.push((
                "head/weight".into(),
                vec![self.classes, features],
                values(self.classes * features),
            ));
            tensors.push(("head/bias".into(), vec![self.classes], values(self.classes)));
            document["head"] = json!({ "pool": 3, "link": 0 });
        }
        let made = import_native(self.base, document.to_string().as_bytes(), &file(&tensors), "by hand");
        made.unwrap_or_else(|error| panic!("{}: {error}", self.method)).bytes
    }

    /// Exports the adapter, reads it back, compares, and leaves it for PEFT where it has a name; the config and tensors written.
    fn there_and_back(&self, name: &str, model: &str, input: &Tensor) -> Exported {
        let made = self.adapter();
        let plan = &self.base.plan;
        let written = export_peft(&made, plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        let json = written.json.as_bytes();
        let again = import_peft(self.base, json, &written.tensors, &Matching::default(), "back");
        let again = again.unwrap_or_else(|error| panic!("{name}: {error}"));
        let result = |bytes: &[u8]| {
            let held = Aligned::copy_of(bytes);
            run(*plan, input, &Adapter::attach(held.as_slice(), plan).expect("import checked it"))
        };
        let want = result(&made);
        let apart = distance(&result(&again.bytes), &want);
        assert!(apart < 1e-5, "{name} {}: {apart:.1e} apart", self.settings);
        self.leave(name, json!({ "model": model, "output": want }), &written);
        written
    }

    /// Leaves `written` for PEFT to load, with what is to come out.
    fn leave(&self, name: &str, output: Value, written: &Exported) {
        let folder = std::env::var_os("INGRAFT_PEFT_EXPORTS").filter(|_| !name.is_empty());
        if let Some(folder) = folder.map(PathBuf::from) {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("adapter_config.json"), &written.json).expect("written");
            std::fs::write(folder.join("adapter_model.safetensors"), &written.tensors).expect("written");
            std::fs::write(folder.join("output.json"), output.to_string()).expect("written");
        }
    }
}

fn small(i: usize) -> f32 {
    ((i % 101) as f32 / 101.0 - 0.5) * 0.8
}

#[test]
fn methods_that_peft_has_are_written_in_its_layout() {
    let outputs = outputs();
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let cases: [(&str, &str); 38] = [
        ("lora", r#""rank": 3, "alpha": 5"#),
        ("rslora", r#""rank": 4, "alpha": 3"#),
        ("dora", r#""rank": 2, "alpha": 3"#),
        ("loha", r#""rank": 2, "alpha": 3"#),
        ("lokr", r#""rank": 1, "alpha": 2, "decompose_both": true"#),
        ("lokr", r#""rank": 8, "alpha": 2"#),
        ("hira", r#""rank": 2"#),
        ("hra", r#""rank": 4"#),
        ("miss", r#""rank": 5"#),
        ("bone", r#""rank": 2"#),
        ("ia3", ""),
        ("delora", r#""rank": 3, "lambda": 2"#),
        ("oft", r#""block": 4"#),
        ("oft", r#""block": 5, "neumann_terms": 4"#),
        ("shira", r#""density": 0.4"#),
        ("vera", r#""rank": 6"#),
        ("adalora", r#""rank": 5, "target_rank": 3, "alpha": 4"#),
        ("boft", r#""block": 3"#),
        ("gralora", r#""grid": 2, "rank": 4, "alpha": 3"#),
        ("gralora", r#""grid": 2, "rank": 6, "hybrid_rank": 3, "alpha": 5"#),
        ("fourierft", r#""frequencies": 17, "scale": 40"#),
        ("waveft", r#""coefficients": 17, "scale": 3"#),
        ("beft", ""),
        ("deft", r#""rank": 3"#),
        ("deft", r#""rank": 2, "decomposition": "relu""#),
        ("road", r#""group": 4"#),
        ("road", r#""variant": 2, "group": 10"#),
        ("road", r#""variant": 4, "group": 10"#),
        ("randlora", r#""rank": 3, "alpha": 5"#),
        ("vblora", r#""rank": 3, "vectors": 7, "vector_length": 2"#),
        ("unilora", r#""rank": 3, "theta_d_length": 20"#),
        ("pissa", r#""rank": 3, "alpha": 5"#),
        // Above the smaller side of the weight.
        ("pissa", r#""rank": 16, "alpha": 4"#),
        ("psoft", r#""rank": 4"#),
        ("psoft", r#""rank": 5, "neumann_terms": 4"#),
        ("tinylora", r#""rank": 2, "coefficients": 5"#),
        ("supertuning", r#""sparsity": 0.9"#),
        ("supertuning", r#""sparsity": 0.8, "select_top": false, "rank": 2, "alpha": 3"#),
    ];
    for (number, (method, settings)) in cases.into_iter().enumerate() {
        let made = ByHand { base: &base, method, settings, sites: &[0], classes: 0 };
        made.there_and_back(&format!("{method}-{number}"), "linear", &outputs["linear/input"]);
    }
}

#[test]
fn what_differs_between_modules_is_written_by_path() {
    let outputs = outputs();
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let two = |method: &str, settings: &str, name: &str| {
        let made = ByHand { base: &base, method, settings, sites: &[0, 1], classes: 0 };
        let written = made.there_and_back(name, "linear", &outputs["linear/input"]);
        serde_json::from_str::<Value>(&written.json).expect("JSON")
    };
    // 10 by 12 and 15 by 10: blocks of 2 and 5; more coefficients than the first has weights.
    let config = two("c3a", r#""block": 8"#, "c3a-two");
    assert_eq!(
        (&config["block_size"], &config["block_size_pattern"]),
        (&json!(2), &json!({ "block.lin1": 5 }))
    );
    for (method, count) in [("fourierft", "frequencies"), ("waveft", "coefficients")] {
        let config = two(method, &format!(r#""{count}": 130, "scale": 2"#), &format!("{method}-two"));
        let counts = (&config["n_frequency"], &config["n_frequency_pattern"]);
        assert_eq!(counts, (&json!(120), &json!({ "block.lin1": 130 })));
    }
    // One block size for all: 2 divides 12 and 10, 3 does not.
    let config = two("boft", r#""block": 2"#, "boft-two");
    assert_eq!(config["boft_block_size"], 2);
    let made = ByHand { base: &base, method: "boft", settings: r#""block": 4"#, sites: &[0, 1], classes: 0 };
    let error = export_peft(&made.adapter(), &base.plan).expect_err("two sizes");
    assert!(error.to_string().contains("different sizes"), "{error}");
    // Of several factors PEFT makes one without its CUDA extension: the file is its own, and read back here.
    let made = ByHand {
        base: &base,
        method: "boft",
        settings: r#""block": 2, "factors": 2"#,
        sites: &[0],
        classes: 0,
    };
    let written = made.there_and_back("", "linear", &outputs["linear/input"]);
    assert_eq!(
        read_tensors(&written.tensors).expect("whole")["base_model.model.lin0.boft_R"].dims,
        [2, 6, 2, 2]
    );
}

#[test]
fn skills_are_written_in_its_layout_and_mixed_by_task() {
    let outputs = outputs();
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    for (method, settings, task) in [
        ("poly", r#""rank": 3, "skills": 4, "tasks": 3, "task": 2"#, 2),
        ("mhr", r#""rank": 2, "skills": 3, "splits": 2, "tasks": 2, "task": 1"#, 1),
    ] {
        let made = ByHand { base: &base, method, settings, sites: &[0], classes: 0 };
        let adapter = made.adapter();
        let written = export_peft(&adapter, &base.plan).expect("PEFT has it");
        // Of all tasks, so that it is no weight to be read here.
        let error =
            import_peft(&base, written.json.as_bytes(), &written.tensors, &Matching::default(), "back");
        assert!(error.expect_err("of all tasks").to_string().contains("by task"));
        let held = Aligned::copy_of(&adapter);
        let attached = Adapter::attach(held.as_slice(), &base.plan).expect("import checked it");
        let want = run(base.plan, &outputs["linear/input"], &attached);
        made.leave(method, json!({ "model": "linear", "output": want, "task": task }), &written);
    }
}

#[test]
fn convolutions_are_written_in_its_layout() {
    let outputs = outputs();
    let compiled = Compiled::new("conv", false);
    let base = compiled.base(true);
    // The one that no batch norm was folded into.
    let named = |index: &usize| base.plan.site(*index).is_some_and(|site| site.name == "point.weight");
    let point = (0..base.plan.site_count()).find(named).expect("a site");
    for (method, settings) in [
        ("adalora", r#""rank": 3, "target_rank": 2, "steps": 20"#),
        ("boft", r#""block": 4"#),
        ("dora", r#""rank": 2"#),
        ("pissa", r#""rank": 2, "alpha": 3"#),
        ("psoft", r#""rank": 3"#),
    ] {
        let made = ByHand { base: &base, method, settings, sites: &[point], classes: 0 };
        made.there_and_back(&format!("{method}-conv"), "conv", &outputs["conv/input"]);
    }
    // Behind folded batch norms, and behind equalization on int8: what is not told apart from a LoRA is taken out of them.
    for quantized in [false, true] {
        let compiled = Compiled::new("conv", quantized);
        let base = compiled.base(true);
        for method in ["pissa", "psoft"] {
            let made =
                ByHand { base: &base, method, settings: r#""rank": 2"#, sites: &[0, 1, 2], classes: 0 };
            let name = if quantized { String::new() } else { format!("{method}-folded") };
            made.there_and_back(&name, "conv", &outputs["conv/input"]);
        }
    }
}

#[test]
fn pairs_of_grouped_convolutions_are_written_over_all_groups() {
    let outputs = outputs();
    let compiled = Compiled::new("groups", false);
    let base = compiled.base(true);
    let named = |name: &str| {
        let named = |index: &usize| base.plan.site(*index).is_some_and(|site| site.name == name);
        (0..base.plan.site_count()).find(named).expect("a site")
    };
    let (mix, fc) = (named("mix.weight"), named("fc.weight"));
    for (method, settings) in [
        ("lora", r#""rank": 2, "alpha": 3"#),
        ("rslora", r#""rank": 2, "alpha": 3"#),
        ("pissa", r#""rank": 2, "alpha": 3"#),
        ("psoft", r#""rank": 3"#),
        ("loha", r#""rank": 2"#),
        ("lokr", r#""rank": 1"#),
        ("ia3", ""),
    ] {
        // Three groups, and none: ranks of their own.
        let made = ByHand { base: &base, method, settings, sites: &[mix, fc], classes: 0 };
        made.there_and_back(&format!("{method}-groups"), "groups", &outputs["groups/input"]);
    }
    let made = ByHand { base: &base, method: "hira", settings: r#""rank": 2"#, sites: &[mix], classes: 0 };
    let error = export_peft(&made.adapter(), &base.plan).expect_err("not in PEFT").to_string();
    assert!(error.contains("without groups"), "{error}");
}

#[test]
fn what_its_file_would_not_say_is_not_written() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let site = base.plan.site(0).expect("a site");
    let refused = |json: Value, tensors: &[(String, Vec<usize>, Vec<f32>)]| {
        let made =
            import_native(&base, json.to_string().as_bytes(), &file(tensors), "by hand").expect("fits");
        export_peft(&made.bytes, &base.plan).expect_err("not in PEFT's file").to_string()
    };
    let put = |name: &str, dims: &[usize], values: &dyn Fn(usize) -> f32| {
        let count = dims.iter().product::<usize>();
        (format!("{}.{name}", site.name), dims.to_vec(), (0..count).map(values).collect())
    };
    // Places that were not drawn from the seed, and a seed they were not drawn from.
    let spectrum = put("fourierft_spectrum", &[1, 4], &small);
    let first = TorchRng::new(777).permutation(site.out * site.row(), 4);
    for (seed, places) in [(777, [3, 9, 27, 81]), (778, first.try_into().expect("four"))] {
        let json = json!({ "method": "fourierft", "settings": { "frequencies": 4, "random_loc_seed": seed },
            "sites": { site.name: {} } });
        let indices = put("indices", &[1, 4], &|i| places[i] as f32);
        let error = refused(json, &[spectrum.clone(), indices]);
        assert!(error.contains("random_loc_seed"), "{error}");
    }
    // A rank of its own at one site.
    let json = json!({ "method": "lora", "settings": { "rank": 4 }, "sites": { site.name: { "rank": 2 } } });
    let factors = [put("lora_A", &[2, site.row()], &small), put("lora_B", &[site.out, 2], &small)];
    let error = refused(json, &factors);
    assert!(error.contains("settings of its own"), "{error}");
}

#[test]
fn normalizations_are_written_in_its_layout() {
    let outputs = outputs();
    for quantized in [false, true] {
        let compiled = Compiled::new("norm", quantized);
        let base = compiled.base(true);
        let norms: Vec<usize> = (0..base.plan.site_count())
            .filter(|index| base.plan.site(*index).is_some_and(|site| site.kind.is_norm()))
            .collect();
        let made = ByHand { base: &base, method: "ln", settings: "", sites: &norms, classes: 0 };
        let name = if quantized { "" } else { "ln" };
        let written = made.there_and_back(name, "norm", &outputs["norm/input"]);
        let held: Vec<String> = read_tensors(&written.tensors).expect("whole").into_keys().collect();
        let key = |module: &str, part| format!("base_model.model.{module}.ln_tuning_layers.{part}");
        assert_eq!(held, [key("norm0", "bias"), key("norm0", "weight"), key("norm1", "weight")]);
    }
}

#[test]
fn a_projection_that_sites_share_is_written_once() {
    let outputs = outputs();
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let made = ByHand { base: &base, method: "vera", settings: r#""rank": 5"#, sites: &[0, 1], classes: 0 };
    made.there_and_back("vera-two", "linear", &outputs["linear/input"]);
    let written = export_peft(&made.adapter(), &base.plan).expect("written above");
    let held = read_tensors(&written.tensors).expect("whole");
    let [first, second] = [0, 1].map(|index| base.plan.site(index).expect("a site"));
    assert_ne!(first.row(), second.row(), "cuts of two widths");
    let dims = |name: &str| held[name].dims.clone();
    assert_eq!(dims("base_model.vera_A"), [5, first.row().max(second.row())]);
    assert_eq!(dims("base_model.vera_B"), [first.out.max(second.out), 5]);
    let two = |method: &str, settings: &str| {
        let made = ByHand { base: &base, method, settings, sites: &[0, 1], classes: 0 };
        let written = made.there_and_back(&format!("{method}-two"), "linear", &outputs["linear/input"]);
        read_tensors(&written.tensors).expect("whole")
    };
    // PEFT's widest of either side: 12 inputs and 15 outputs, which no site has both of.
    let held = two("randlora", r#""rank": 5, "alpha": 3"#);
    assert_eq!(held["base_model.randlora_A"].dims, [5, 1, 12]);
    assert_eq!(held["base_model.randlora_B"].dims, [15, 3, 5]);
    // One vector of both sites' coefficients, of which each module's projections read its own.
    let held = two("tinylora", r#""rank": 2, "coefficients": 5"#);
    assert_eq!(held["base_model.tinylora_v.0"].dims, [10]);
    assert_eq!(held["base_model.model.lin0.tinylora_P"].dims, [10, 2, 2]);
    two("supertuning", r#""sparsity": 0.9"#);
    two("pissa", r#""rank": 3"#);
    let held = two("vblora", r#""rank": 2, "vectors": 7, "vector_length": 1"#);
    assert_eq!(held["base_model.vblora_vector_bank"].dims, [7, 1]);
    assert_eq!(two("unilora", r#""rank": 2, "theta_d_length": 20"#)["base_model.unilora_theta_d"].dims, [20]);
    // Sites that drew from seeds of their own have no projection in common.
    let mut tensors = Vec::new();
    for (seed, site) in [first, second].into_iter().enumerate() {
        let mut put = |name: &str, dims: Vec<usize>| {
            let values = (0..dims.iter().product()).map(|i: usize| small(i * 31 + seed * 7 + 1)).collect();
            tensors.push((format!("{}.{name}", site.name), dims, values));
        };
        put("vera_A", vec![5, site.row()]);
        put("vera_B", vec![site.out, 5]);
        put("vera_lambda_b", vec![site.out, 1]);
        put("vera_lambda_d", vec![5, 1]);
    }
    let json = json!({ "method": "vera", "settings": { "rank": 5 },
        "sites": { first.name: {}, second.name: {} } });
    let made = import_native(&base, json.to_string().as_bytes(), &file(&tensors), "by hand").expect("fits");
    let error = export_peft(&made.bytes, &base.plan).expect_err("two projections");
    assert!(error.to_string().contains("different seeds"), "{error}");
}

#[test]
fn heads_are_written_as_the_last_layer_whole() {
    let outputs = outputs();
    for (model, sites, last) in [("linear", &[0, 1][..], "score"), ("conv", &[0, 1, 2], "fc")] {
        let (float, int8) = (Compiled::new(model, false), Compiled::new(model, true));
        let (float, int8) = (float.base(true), int8.base(true));
        let input = &outputs[&format!("{model}/input")];
        let head = |base, settings, name: &str| {
            let made = ByHand { base, method: "lora", settings, sites, classes: 6 };
            made.there_and_back(name, model, input)
        };
        let written = head(&float, r#""rank": 2"#, &format!("head-{model}"));
        head(&int8, r#""rank": 2"#, "");
        let config: Value = serde_json::from_str(&written.json).expect("JSON");
        assert_eq!(config["modules_to_save"], json!([last]));
        // One checkpoint on the float base and on the int8 one, its factors too small to leave the ranges.
        let written = head(&float, r#""rank": 2, "alpha": 0.02"#, "");
        let [want, got] = [&float, &int8].map(|base| {
            let json = written.json.as_bytes();
            let read = import_peft(base, json, &written.tensors, &Matching::default(), "back").expect("fits");
            returns(base, &read.bytes, last);
            let held = Aligned::copy_of(&read.bytes);
            run(base.plan, input, &Adapter::attach(held.as_slice(), &base.plan).expect("import checked it"))
        });
        let apart = distance(&got, &want);
        println!("{model}: {apart:.1e} apart on int8");
        assert!(apart < 0.05, "{model}: {apart:.1e} apart");
    }
}
