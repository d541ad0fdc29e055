//! What is refused, and by which name.

use ingraft_compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use ingraft_compile::{CompileOptions, Tensor as CompiledTensor, compile};
use ingraft_import::{
    Aligned, Base, Fault, ImportError, Matching, export_native, import_lycoris, import_native, import_peft,
    read_tensors,
};
use ingraft_plan::PlanView;
use ingraft_tensor::DType;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::fixture::{Compiled, checkpoint};

pub(crate) type Held = Vec<(String, Vec<usize>, Vec<f32>)>;

/// What is wrong with a file.
pub(crate) type Edit<'e> = &'e dyn Fn(&mut Held);

pub(crate) fn held(case: &str) -> (Value, Held) {
    let (config, tensors) = checkpoint(case);
    let tensors = read_tensors(&tensors).expect("whole").into_iter();
    let narrow = tensors.map(|(name, t)| (name, t.dims, t.values.iter().map(|v| *v as f32).collect()));
    (serde_json::from_slice(&config).expect("JSON"), narrow.collect())
}

pub(crate) fn file(tensors: &Held) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, v)| v.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, dims, _), data)| {
        (name.as_str(), TensorView::new(Dtype::F32, dims.clone(), data).expect("whole"))
    });
    safetensors::serialize(views, None).expect("whole")
}

pub(crate) fn import(config: &Value, model: &[u8]) -> Result<usize, ImportError> {
    let compiled = Compiled::new("linear", false);
    let config = serde_json::to_vec(config).expect("JSON");
    import_peft(&compiled.base(true), &config, model, &Matching::default(), "test")
        .map(|made| made.sites.len())
}

pub(crate) fn refused(config: &Value, tensors: &Held) -> ImportError {
    import(config, &file(tensors)).expect_err("refused")
}

#[test]
fn damaged_files_are_refused() {
    let (config, tensors) = held("lora");
    let whole = file(&tensors);
    assert_eq!(import(&config, &whole), Ok(2));
    for len in [0, 7, 8, 50, whole.len() - 1] {
        let error = import(&config, &whole[..len]).expect_err("truncated");
        assert!(matches!(error.fault, Fault::Safetensors(_)), "{len}: {error}");
    }
    let with_header = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let entry = |name: &str, shape: &str, from: usize, to: usize| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let cases = [
        ("duplicate names", format!("{{{},{}}}", entry("a", "[1]", 0, 4), entry("a", "[1]", 4, 8)), 8),
        ("overlapping ranges", format!("{{{},{}}}", entry("a", "[1]", 0, 4), entry("b", "[1]", 2, 6)), 6),
        ("huge extents", format!("{{{}}}", entry("a", "[4294967296,4294967296,4294967296]", 0, 4)), 4),
        ("more than there is", format!("{{{}}}", entry("a", "[2]", 0, 8)), 4),
        ("no JSON", "{".to_owned(), 0),
    ];
    for (what, header, data) in cases {
        let error = import(&config, &with_header(&header, data)).expect_err(what);
        assert!(matches!(error.fault, Fault::Safetensors(_)), "{what}: {error}");
    }
    let mut many = vec![0xff; 8];
    many.extend([0; 64]);
    assert!(matches!(
        import(&config, &many).expect_err("a header past the end").fault,
        Fault::Safetensors(_)
    ));
}

#[test]
fn pickles_are_refused_by_content() {
    let (config, _) = held("lora");
    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend([0; 30]);
    zip.extend(b"archive/data.pkl");
    for bytes in [b"\x80\x02}q\x00.".to_vec(), zip] {
        let error = import(&config, &bytes).expect_err("a pickle");
        assert!(matches!(error.fault, Fault::Pickle) && error.to_string().contains("safetensors"), "{error}");
    }
}

#[test]
fn normalizations_take_their_own_parameters_and_no_others() {
    let compiled = Compiled::new("norm", false);
    let base = compiled.base(true);
    let refused = |config: &Value, tensors: &Held| {
        let config = serde_json::to_vec(config).expect("JSON");
        import_peft(&base, &config, &file(tensors), &Matching::default(), "test")
            .expect_err("refused")
            .to_string()
    };
    let (config, tensors) = held("ln");
    let name = |module: &str, part: &str| format!("base_model.model.{module}.ln_tuning_layers.{part}");
    let renamed = |from: String, to: String| {
        let mut tensors = tensors.clone();
        tensors.iter_mut().filter(|(name, ..)| *name == from).for_each(|(name, ..)| *name = to.clone());
        tensors
    };
    let mut anywhere = config.clone();
    anywhere["target_modules"] = json!(["norm0", "norm1", "lin0"]);
    // On a linear layer; a bias where there is none; one that is missing; one too short.
    let on_linear = renamed(name("norm1", "weight"), name("lin0", "weight"));
    assert!(refused(&anywhere, &on_linear).contains("lin0"), "{}", refused(&anywhere, &on_linear));
    let with_bias = renamed(name("norm0", "bias"), name("norm1", "bias"));
    let said = refused(&config, &with_bias);
    assert!(said.contains("norm0") && said.contains("bias is missing"), "{said}");
    let mut extra = tensors.clone();
    extra.push((name("norm1", "bias"), vec![15], vec![0.5; 15]));
    assert!(refused(&config, &extra).contains("has no bias"));
    let mut short = tensors.clone();
    short[0].1[0] -= 1;
    short[0].2.pop();
    assert!(refused(&config, &short).contains("10 values"), "{}", refused(&config, &short));
    // Factors on one.
    let (mut lora, mut factors) = held("lora");
    lora["target_modules"] = json!(["norm0"]);
    factors.retain(|(name, ..)| name.contains("lin0"));
    for (name, dims, values) in &mut factors {
        *name = name.replace("lin0", "norm0");
        if name.contains("lora_A") {
            (*dims, *values) = (vec![3, 1], vec![0.5; 3]);
        }
    }
    let said = refused(&lora, &factors);
    assert!(said.contains("norm0") && said.contains("a scale and a shift"), "{said}");
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let (mut config, tensors) = held("lora");
    config["target_modules"] = json!(["lin0", "lin1", "other"]);
    let edited = |edit: &dyn Fn(&mut Held)| {
        let mut tensors = tensors.clone();
        edit(&mut tensors);
        refused(&config, &tensors).to_string()
    };
    let push = |name: &str, dims: &[usize]| {
        let (name, dims) = (name.to_owned(), dims.to_vec());
        move |tensors: &mut Held| tensors.push((name.clone(), dims.clone(), vec![0.0; dims.iter().product()]))
    };
    let cases: [(&str, String, &[&str]); 8] = [
        (
            "a module too many",
            edited(&push("base_model.model.other.lora_A.weight", &[3, 12])),
            &["other", "sites without"],
        ),
        (
            "a tensor of another method",
            edited(&push("base_model.model.lin0.hada_w1_a.weight", &[3])),
            &["hada_w1_a"],
        ),
        ("an unknown tensor", edited(&push("base_model.model.lin0.mystery", &[3])), &["mystery"]),
        (
            "a missing pair",
            edited(&|t| t.retain(|(name, ..)| !name.contains("lin0.lora_B"))),
            &["lin0", "lora_B"],
        ),
        ("NaN", edited(&|t| t[0].2[0] = f32::NAN), &["lora_A", "finite"]),
        ("infinity", edited(&|t| t[0].2[0] = f32::INFINITY), &["lora_A", "finite"]),
        (
            "rank 0",
            edited(&|t| {
                t.iter_mut().for_each(|t| {
                    let axis = usize::from(t.0.contains("lora_B"));
                    (t.1[axis], t.2) = (0, Vec::new());
                })
            }),
            &["lora_A", "shape"],
        ),
        (
            "another shape",
            edited(&|t| {
                t.iter_mut().filter(|t| t.0.contains("lin0.lora_A")).for_each(|t| {
                    (t.1, t.2) = (vec![3, 11], vec![0.0; 33]);
                })
            }),
            &["lin0", "[3, 11]"],
        ),
    ];
    for (what, error, parts) in cases {
        assert!(parts.iter().all(|part| error.contains(part)), "{what}: {error}");
    }
}

#[test]
fn places_are_whole_numbers_that_their_type_tells_apart() {
    let (config, tensors) = held("shira_float");
    assert_eq!(import(&config, &file(&tensors)), Ok(2));
    for (value, why) in [
        (0.5, "no whole number"),
        (16_777_216.0, "2^24"),
        (-1.0, "outside the weight"),
        (15.0, "outside the weight"),
    ] {
        let mut tensors = tensors.clone();
        let (_, _, places) = tensors.iter_mut().find(|(name, ..)| name.ends_with("indices")).expect("places");
        places[0] = value;
        let error = refused(&config, &tensors).to_string();
        assert!(error.contains(why), "{value}: {error}");
    }
}

/// Places in a row are written in 16 bits: one beyond was another weight's.
#[test]
fn single_weights_of_rows_too_long_are_refused_and_factors_are_not() {
    const ROW: usize = 65_540;
    let weight = CompiledTensor::from_f32(&[2, ROW], &vec![0.5; 2 * ROW]).expect("as many values");
    let graph = GraphProto::new("long")
        .with_input("x", DType::F32, &[1.into(), ROW.into()])
        .with_constant(TensorProto::new("long.weight", &weight))
        .with_node(NodeProto::new("Gemm", &["x", "long.weight"], &["y"]).with_int("transB", 1))
        .with_output("y", DType::F32);
    let plan = compile(&ModelProto::new(13, graph).to_bytes(), &CompileOptions::default()).expect("compiles");
    let plan = Aligned::copy_of(&plan.plan);
    let base = Base {
        plan: PlanView::new(plan.as_slice()).expect("a plan we wrote is valid"),
        initializers: Default::default(),
    };
    let import = |config: Value, tensors: Held| {
        let config = config.to_string();
        import_peft(&base, config.as_bytes(), &file(&tensors), &Matching::default(), "test")
    };
    let key = |leaf: &str| format!("base_model.model.long.{leaf}");
    let sparse = vec![
        (key("shira_weight"), vec![1], vec![1.0]),
        (key("shira_indices"), vec![2, 1], vec![1.0, 65_537.0]),
    ];
    let error = import(json!({ "peft_type": "SHIRA", "r": 1 }), sparse).expect_err("one weight").to_string();
    assert!(error.contains("65536"), "{error}");
    let factors = vec![
        (key("lora_A.weight"), vec![1, ROW], vec![0.25; ROW]),
        (key("lora_B.weight"), vec![2, 1], vec![1.0, -1.0]),
    ];
    import(json!({ "peft_type": "LORA", "r": 1 }), factors).expect("factors have no places");
}

#[test]
fn settings_that_change_the_mathematics_are_honoured_or_refused() {
    let (config, tensors) = held("lora");
    let with = |name: &str, value: Value| {
        let mut config = config.clone();
        config[name] = value;
        config
    };
    // Each of these means other numbers; ignoring one would be an adapter that is silently wrong.
    let cases = [
        ("peft_type", json!("XLORA"), "two passes"),
        ("peft_type", json!("POLY"), "mixes its skills by task"),
        ("peft_type", json!("LILY"), "what a sample gets depends on its neighbours"),
        ("peft_type", json!("SHADOW"), "a second model beside the base"),
        ("peft_type", json!("CARTRIDGE"), "no weight"),
        ("peft_type", json!("PROMPT_TUNING"), "no weight"),
        ("peft_type", json!("MULTITASK_PROMPT_TUNING"), "no weight"),
        ("peft_type", json!("P_TUNING"), "no weight"),
        ("peft_type", json!("PREFIX_TUNING"), "no weight"),
        ("peft_type", json!("CPT"), "no weight"),
        ("peft_type", json!("ADAPTION_PROMPT"), "no weight"),
        ("peft_type", json!("TRAINABLE_TOKENS"), "honours"),
        ("peft_type", json!("NEXT_YEARS_METHOD"), "no method this version knows"),
        ("use_dora", json!(true), "lora_magnitude_vector is missing"),
        ("r", json!(4), "in place of rank 4"),
        ("rank_pattern", json!({"lin0": 2}), "in place of rank 2"),
        ("rank_pattern", json!({"(": 2}), "regular expressions"),
        ("lora_alpha", json!("much"), "a number"),
        ("init_lora_weights", json!("pissa_niter_4"), "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", json!("corda"), "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", json!("loftq"), "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", json!("lora_ga"), "path_initial_model_for_weight_conversion"),
        ("use_qalora", json!(true), "use_qalora"),
        ("use_bdlora", json!({"nblocks": 2}), "use_bdlora"),
        ("alora_invocation_tokens", json!([1, 2]), "alora_invocation_tokens"),
        ("kasa_config", json!({"beta": 1}), "kasa_config"),
        ("arrow_config", json!({"top_k": 1}), "arrow_config"),
        ("layer_replication", json!([[0, 2]]), "layer_replication"),
        ("target_parameters", json!(["experts"]), "target_parameters"),
        ("trainable_token_indices", json!([1]), "token_adapter.trainable_tokens_delta is missing"),
        ("a_setting_of_next_year", json!(0.5), "a_setting_of_next_year"),
        ("target_modules", json!(["lin1"]), "not adapted"),
        ("exclude_modules", json!(["lin0"]), "not adapted"),
        ("layers_to_transform", json!([7]), "lora"),
    ];
    for (name, value, reason) in cases {
        let config = with(name, value);
        match import(&config, &file(&tensors)) {
            Err(error) => assert!(error.to_string().contains(reason), "{name}: {error}"),
            // Modules without a number in their path belong to no layer.
            Ok(_) => assert_eq!(name, "layers_to_transform", "{config}"),
        }
    }
}

#[test]
fn settings_that_are_honoured_change_the_result() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let (config, tensors) = held("lora");
    let bytes = |config: &Value| {
        let config = serde_json::to_vec(config).expect("JSON");
        import_peft(&base, &config, &file(&tensors), &Matching::default(), "test").expect("fits").bytes
    };
    let plain = bytes(&config);
    for (name, value) in
        [("use_rslora", json!(true)), ("lora_alpha", json!(7)), ("alpha_pattern", json!({"lin0": 1.5}))]
    {
        let mut config = config.clone();
        config[name] = value;
        assert_ne!(bytes(&config), plain, "{name}");
    }
}

#[test]
fn a_network_over_the_weight_is_read_whole_or_refused() {
    let (config, tensors) = held("peanut_deep");
    for (name, value, reason) in [
        ("act_fn", json!("prelu"), "none of the activations"),
        ("depth", json!(1), "as many encoders and decoders as depth says"),
        ("depth", json!(3), "as many encoders and decoders as depth says"),
    ] {
        let mut config = config.clone();
        config[name] = value;
        let error = import(&config, &file(&tensors)).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let mut fewer = tensors.clone();
    fewer.retain(|tensor| !tensor.0.contains("decoders.1"));
    let error = import(&config, &file(&fewer)).expect_err("one is missing").to_string();
    assert!(error.contains("as many encoders and decoders"), "{error}");
}

#[test]
fn what_no_name_leads_to_is_proposed_and_not_taken() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let (mut config, mut tensors) = held("lora");
    config["target_modules"] = json!(["first", "second"]);
    for (name, ..) in &mut tensors {
        *name = name.replace("block.lin1", "second").replace("lin0", "first");
    }
    let import = |matching: &Matching| {
        let config = serde_json::to_vec(&config).expect("JSON");
        import_peft(&base, &config, &file(&tensors), matching, "test")
    };
    let error = import(&Matching::default()).expect_err("nothing is called so");
    let Fault::Unmatched { proposal, tensors: lost, .. } = &error.fault else { panic!("{error}") };
    let pair = |module: &str, site: &str| (module.to_owned(), site.to_owned());
    assert_eq!(*proposal, [pair("first", "lin0.weight"), pair("second", "block.lin1.weight")]);
    assert_eq!(lost.len(), 4);
    let accepted = import(&Matching { accept_proposal: true, ..Matching::default() }).expect("shapes fit");
    let map = Matching::parse("# by hand\nfirst lin0.weight\nsecond block.lin1.weight\n").expect("two lines");
    let mapped = import(&Matching { map, accept_proposal: false }).expect("every site is there");
    assert_eq!(accepted.bytes, mapped.bytes);
    assert!(Matching::parse("first lin0.weight and more").is_err());
    assert!(Matching::parse("a b\na c").is_err());
    let nowhere = Matching { map: [("first".into(), "nowhere".into())].into(), accept_proposal: true };
    assert!(import(&nowhere).expect_err("no such site").to_string().contains("nowhere"));
}

#[test]
fn a_checkpoint_of_another_model_is_refused_whole() {
    let (conv, linear) = (Compiled::new("conv", false), Compiled::new("linear", false));
    let (config, tensors) = checkpoint("lora");
    let error = import_peft(&conv.base(true), &config, &tensors, &Matching::default(), "test");
    let error = error.expect_err("no such modules");
    let Fault::Unmatched { tensors: lost, sites, .. } = &error.fault else { panic!("{error}") };
    // Every tensor, and every site that has none.
    assert_eq!((lost.len(), sites.len()), (4, 4), "{error}");
    // Called alike, and of another shape.
    let (config, mut held) = held("lora");
    for (name, dims, values) in held.iter_mut().filter(|(name, ..)| name.contains("lin0.lora_B")) {
        (dims[0], *name) = (dims[0] + 1, name.clone());
        values.resize(dims.iter().product(), 0.5);
    }
    let error = refused(&config, &held).to_string();
    assert!(error.contains("lin0") && error.contains("[11, 3] in place of [10, 3]"), "{error}");
    // An adapter directory of ours names its base.
    let made = import_peft(
        &linear.base(true),
        &serde_json::to_vec(&config).expect("JSON"),
        &checkpoint("lora").1,
        &Matching::default(),
        "test",
    );
    let exported = export_native(&made.expect("it fits").bytes).expect("whole");
    let error = import_native(&conv.base(true), exported.json.as_bytes(), &exported.tensors, "test");
    assert!(matches!(error.expect_err("another base").fault, Fault::WrongBase { .. }));
}

#[test]
fn projections_of_a_category_are_whole_and_used_or_refused() {
    let (config, tensors) = held("frod");
    let edited = |edit: &dyn Fn(&mut Held)| {
        let mut tensors = tensors.clone();
        edit(&mut tensors);
        refused(&config, &tensors).to_string()
    };
    let without = edited(&|t| t.retain(|(name, ..)| !name.contains("frod_V") && !name.contains("frod_s_")));
    assert!(without.contains("save it with save_projection"), "{without}");
    let fewer = edited(&|t| t.retain(|(name, ..)| !name.contains("frod_s_indices.lin0")));
    assert!(fewer.contains("frod_s_indices.lin0 is missing"), "{fewer}");
    let flat = edited(&|t| {
        let v = t.iter_mut().filter(|(name, ..)| name.ends_with("frod_V.lin0"));
        v.for_each(|(_, dims, values)| values[dims[1]..].fill(0.0));
    });
    assert!(flat.contains("has no inverse"), "{flat}");
    let foreign = edited(&|t| t.push(("base_model.frod_V.elsewhere".into(), vec![2, 2], vec![0.5; 4])));
    assert!(foreign.contains("elsewhere") && foreign.contains("there are none"), "{foreign}");
    let outside = edited(&|t| {
        let places = t.iter_mut().filter(|(name, ..)| name.contains("frod_s_indices.lin0"));
        places.for_each(|(.., values)| values[0] = 12.0);
    });
    assert!(outside.contains("outside the weight"), "{outside}");
    let compiled = Compiled::new("linear", true);
    let (config, tensors) = checkpoint("frod");
    let error = import_peft(&compiled.base(false), &config, &tensors, &Matching::default(), "test");
    assert!(error.expect_err("rounded").to_string().contains("--onnx"));
}

#[test]
fn tokens_are_rows_of_a_table_each_once() {
    let compiled = Compiled::new("tokens", false);
    let base = compiled.base(true);
    let refused = |case: &str, name: &str, value: Value| {
        let (mut config, tensors) = held(case);
        config[name] = value;
        let config = serde_json::to_vec(&config).expect("JSON");
        let made = import_peft(&base, &config, &file(&tensors), &Matching::default(), "test");
        made.expect_err("refused").to_string()
    };
    for (value, reason) in [
        (json!([1, 9]), "[3, 6] in place of [2, 6]"),
        (json!([1, 9, 11]), "outside the table"),
        (json!([1, 9, 9]), "two rows"),
        (json!([1, 9, -1]), "whole numbers"),
        (json!([]), "[3, 6] in place of [0, 6]"),
        (json!(null), "token_indices"),
        (json!({"other": [1, 9, 3]}), "of the rows of emb"),
    ] {
        let said = refused("tokens", "token_indices", value);
        assert!(said.contains(reason), "{reason}: {said}");
    }
    let (mut config, mut tensors) = held("tokens");
    config["target_modules"] = json!(["lin0"]);
    tensors.iter_mut().for_each(|(name, ..)| *name = name.replace("emb", "lin0"));
    let config = serde_json::to_vec(&config).expect("JSON");
    let made = import_peft(&base, &config, &file(&tensors), &Matching::default(), "test");
    assert!(made.expect_err("no table").to_string().contains("which this is not"));
}

/// The same for kohya's and LyCORIS's files.
#[test]
fn flattened_checkpoints_are_refused_by_name() {
    let compiled = Compiled::new("linear", false);
    let base = compiled.base(true);
    let bytes = std::fs::read(crate::fixture::folder().join("lycoris/lora.safetensors")).expect("committed");
    let whole: Held = read_tensors(&bytes)
        .expect("whole")
        .into_iter()
        .map(|(name, t)| (name, t.dims, t.values.iter().map(|v| *v as f32).collect()))
        .collect();
    let import = |tensors: &Held| import_lycoris(&base, &file(tensors), &Matching::default(), "test");
    assert!(import(&whole).is_ok());
    for len in [0, 8, bytes.len() / 2, bytes.len() - 1] {
        let error = import_lycoris(&base, &bytes[..len], &Matching::default(), "test").expect_err("cut off");
        assert!(matches!(error.fault, Fault::Safetensors(_)), "{len}: {error}");
    }
    let first = |name: &str| name.contains("lin0.");
    let cases: [(&str, Edit<'_>, &str); 6] = [
        ("NaN", &|t| t[1].2[0] = f32::NAN, "finite"),
        ("a missing pair", &|t| t.retain(|(name, ..)| !name.ends_with("lin0.lora_down.weight")), "lora_down"),
        ("an extra tensor", &|t| t.push(("lycoris_lin0.mystery".into(), vec![1], vec![0.5])), "mystery"),
        ("another module", &|t| t[0].0 = "lycoris_elsewhere.alpha".into(), "elsewhere"),
        (
            "a method that is not read",
            &|t| t.push(("lycoris_lin0.oft_blocks".into(), vec![1], vec![0.5])),
            "oft",
        ),
        (
            "rank 0",
            &|t| {
                for (name, dims, values) in
                    t.iter_mut().filter(|(name, ..)| first(name) && name.contains("lora_"))
                {
                    (dims[usize::from(name.contains("lora_up"))], *values) = (0, Vec::new());
                }
            },
            "lin0",
        ),
    ];
    for (what, edit, reason) in cases {
        let mut tensors = whole.clone();
        edit(&mut tensors);
        let error = import(&tensors).expect_err(what).to_string();
        assert!(error.contains(reason), "{what}: {error}");
    }
}
