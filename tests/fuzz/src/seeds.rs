//! What fuzzing starts from: small files of every kind, written by this project's own writers.

mod models;

use std::fs;
use std::io;
use std::path::Path;

use ingraft_adapter::{
    AdapterBuilder, AdapterFacts, HeadSpec, Link, ParameterSpec, Privacy, PrivacyUnit, TermSpec,
};
use ingraft_compile::lower::train::TrainFrom;
use ingraft_compile::onnx::operators;
use ingraft_compile::{CompileOptions, compile};
use ingraft_dataset::{Array, to_npy_bytes, to_npz_bytes};
use ingraft_kernel::Sites;
use ingraft_plan::PlanView;
use ingraft_signal::Recipe;
use ingraft_tensor::{DType, Rng};

use crate::exercise;

/// Target, name and bytes of the seeds that are committed.
pub fn written() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes| seeds.push((target, name.to_owned(), bytes));
    for (name, bytes) in adapters() {
        add("adapter", name, bytes);
    }
    for (name, model) in models::all() {
        let bytes = model.to_bytes();
        add("plan", name, plan(&bytes, name));
        add("onnx_import", name, bytes);
    }
    add("plan", "int8", exercise::plan_file().to_vec());
    for (name, array) in arrays() {
        add("npy", name, to_npy_bytes(&array));
    }
    let archive: Vec<(String, Array)> =
        arrays().into_iter().map(|(name, array)| (name.to_owned(), array)).collect();
    add("npy", "archive", to_npz_bytes(&archive).expect("small"));
    for (bits, float) in [(8, false), (16, false), (24, false), (32, false), (32, true)] {
        add("wav", &format!("{bits}{}", if float { "f" } else { "" }), wav(bits, float));
    }
    for (name, bytes) in exercise::lived() {
        add("store_recovery", name, bytes);
    }
    seeds
}

/// Target, name and bytes of the seeds that are packed from what is committed elsewhere, or too many to commit: the
/// importer's goldens below `golden`, and every operator of ONNX by itself.
///
/// # Errors
/// That of reading a golden.
pub fn packed(golden: &Path) -> io::Result<Vec<(&'static str, String, Vec<u8>)>> {
    let mut seeds = vec![("onnx_adapter", "lora".to_owned(), fs::read(golden.join("lora.onnx_adapter"))?)];
    for entry in fs::read_dir(golden)? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (Ok(config), Ok(tensors)) = (
            fs::read(folder.join("adapter_config.json")),
            fs::read(folder.join("adapter_model.safetensors")),
        ) else {
            continue;
        };
        // On the model it was made for, whose weights some methods need.
        for choice in (0..exercise::MODELS.len()).map(exercise::on) {
            let bytes = exercise::joined(choice, &config, &tensors);
            if exercise::fits(&bytes) {
                seeds.push(("safetensors_peft", format!("{name}-{choice}"), bytes));
            }
        }
    }
    for entry in fs::read_dir(golden.join("lycoris"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            for choice in [0x34, 0x35] {
                let bytes = exercise::joined(choice, b"{}", &fs::read(&path)?);
                seeds.push(("safetensors_peft", format!("lycoris-{name}-{choice}"), bytes));
            }
        }
    }
    for operator in operators() {
        for operands in 1..5 {
            let bytes = models::single(operator, operands).to_bytes();
            seeds.push(("onnx_import", format!("{operator}-{operands}"), bytes));
        }
    }
    Ok(seeds)
}

/// A plan that trains where the model has gradients, with a front end of the kind that `name` brings to mind.
fn plan(model: &[u8], name: &str) -> Vec<u8> {
    let recipe = match name {
        "convolutions" => Recipe::preset("yamnet", &[1, 1, 96, 64]).ok(),
        "recurrent" => Recipe::preset("mfcc", &[1, 49, 10]).ok(),
        _ => None,
    };
    let mut options = CompileOptions {
        train_from: Some(TrainFrom::All),
        recipe: recipe.map_or(Vec::new(), |recipe| recipe.to_words().to_vec()),
        labels: vec!["yes".to_owned(), "no".to_owned()],
        model_name: name.to_owned(),
        head_classes: 4,
        ..CompileOptions::default()
    };
    if name == "shapes" {
        options.import.dims.insert("N".to_owned(), 1);
    }
    if compile(model, &options).is_err() {
        options.train_from = None;
    }
    compile(model, &options).expect("a seed compiles").plan
}

/// An adapter with one term of each kind per site, and one with nothing but a head.
fn adapters() -> Vec<(&'static str, Vec<u8>)> {
    let plan = PlanView::new(exercise::plan_file()).expect("we wrote it");
    let mut random = Rng::new(3);
    let mut reals =
        |count: usize| -> Vec<f32> { (0..count).map(|_| random.uniform(-0.1, 0.1) as f32).collect() };
    let facts = |method: &str| AdapterFacts {
        method: method.to_owned(),
        method_version: 1,
        hyper: vec![("rank".to_owned(), "2".to_owned())],
        provenance: "a seed".to_owned(),
        privacy: None,
    };
    let sites: Vec<_> = (0..plan.site_count()).filter_map(|index| plan.site(index)).collect();
    let mut made = Vec::new();
    for kind in ["factors_i8", "factors_f32", "sparse_i16", "sparse_f32", "affine", "fused"] {
        let mut builder = AdapterBuilder::new(&plan);
        for (index, site) in sites.iter().enumerate() {
            let (out, row, rank) = (site.out, site.row(), 2);
            let rows = rank * site.groups;
            let depthwise = site.kind == ingraft_kernel::SiteKind::Depthwise;
            let indptr = (0..=out as u32).collect();
            let term = match kind {
                "factors_i8" | "factors_f32" if depthwise => continue,
                "factors_i8" => TermSpec::TwoFactorI8 {
                    rank,
                    down: vec![3; rows * row],
                    up: vec![-5; out * rank],
                    down_scale: vec![0.01; rows],
                    up_scale: vec![0.02; out],
                },
                "factors_f32" => {
                    TermSpec::TwoFactorF32 { rank, down: reals(rows * row), up: reals(out * rank) }
                }
                "sparse_i16" => TermSpec::SparseI16 { indptr, indices: vec![0; out], values: vec![1; out] },
                "sparse_f32" => TermSpec::SparseF32 { indptr, indices: vec![0; out], values: reals(out) },
                "affine" => TermSpec::Affine { scale: vec![1.25; out], shift: reals(out) },
                _ => TermSpec::FusedI8 { weight: vec![7; out * row], bias: vec![-9; out] },
            };
            builder.term(index, site, term);
        }
        made.push((kind, builder.finish(&facts(kind))));
    }
    let mut builder = AdapterBuilder::new(&plan);
    let site = &sites[sites.len() - 1];
    let features = plan.head_features(ingraft_kernel::NO_SITE, 0).expect("the features of the last layer");
    builder.head(HeadSpec {
        site: None,
        pool: 0,
        weight: reals(3 * features),
        bias: reals(3),
        labels: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
        link: Link::Softmax,
    });
    let index = sites.len() - 1;
    let values = vec![0.5, 1e-300];
    builder.parameter(
        index,
        site.name,
        ParameterSpec { name: "lora_A".to_owned(), dims: vec![1, 2], values },
    );
    builder.site_settings(index, site.name, &[("rank".to_owned(), "1".to_owned())]);
    builder.member("first", true, made[0].1.clone());
    builder.member("second", false, made[4].1.clone());
    let privacy = Privacy {
        epsilon: 8.0,
        delta: 1e-6,
        unit: PrivacyUnit::Group,
        units: 1000,
        steps: 40,
        rate: 0.5,
        noise: 1.9,
        bound: 1.0,
        runs: 1,
    };
    made.push(("head", builder.finish(&AdapterFacts { privacy: Some(privacy), ..facts("head") })));
    made
}

fn arrays() -> Vec<(&'static str, Array)> {
    let array = |dtype: DType, shape: &[usize]| {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Array::new(dtype, shape.to_vec(), vec![1; bytes]).expect("as many bytes")
    };
    vec![
        ("f32", array(DType::F32, &[2, 3])),
        ("i8", array(DType::I8, &[5])),
        ("i64", array(DType::I64, &[])),
        ("bool", array(DType::Bool, &[2, 0, 1])),
    ]
}

/// A recording of two channels and four frames.
fn wav(bits: u16, float: bool) -> Vec<u8> {
    let width = usize::from(bits / 8);
    let sample = if float { 0.5f32.to_le_bytes().to_vec() } else { vec![0x21; width] };
    let data = sample.repeat(8);
    let mut file =
        [&b"RIFF"[..], &(36 + data.len() as u32).to_le_bytes(), b"WAVEfmt ", &16u32.to_le_bytes()].concat();
    for half in [if float { 3 } else { 1 }, 2u16] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [16_000u32, 16_000 * 2 * width as u32] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for half in [2 * width as u16, bits] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(b"data");
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file.extend_from_slice(&data);
    file
}
