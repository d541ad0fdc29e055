//! The options of `compile`.

use ingraft_models::demo::LABELS;
use serde_json::{Value, json};

use crate::fixture::{data, exponential, floats, lay_out, npz, picture, relu};
use crate::process::Folder;

fn prepared(test: &str) -> Folder {
    let folder = Folder::new(test);
    lay_out(&folder, 2);
    folder
}

#[test]
fn what_stays_in_float_is_listed_and_has_to_be_allowed() {
    let folder = prepared("float");
    let refused = folder.run("compile base_f32.onnx -o f.plan --dim N=1");
    let lines = refused.err.lines().filter(|line| line.starts_with("  ")).count();
    refused.refused(&[
        "nodes would run in float",
        "(Conv): the file holds it in float",
        "--allow-float",
        "--calibrate",
    ]);
    assert!(!folder.path("f.plan").exists(), "nothing is written");
    for allowed in ["--float", "--allow-float"] {
        let plan = folder.run(&format!("compile base_f32.onnx -o f.plan --dim N=1 {allowed} --json")).json();
        let nodes = plan["float_nodes"].as_array().expect("a list");
        assert_eq!(nodes.len(), lines);
        for node in nodes {
            assert!(["name", "op", "reason"].iter().all(|key| node[key].is_string()), "{node:#}");
        }
        assert_eq!(plan["float_nodes"], folder.run("inspect f.plan --json").json()["float_nodes"]);
    }
    let quantized = folder.run("compile base.onnx -o q.plan --dim N=1 --json").json();
    assert_eq!(quantized["float_nodes"], json!([]));
}

#[test]
fn a_float_model_is_quantized_by_samples() {
    let folder = prepared("calibrate");
    let compile = |options: &str| {
        let line = format!("compile base_f32.onnx -o c.plan --dim N=1 --front-end yamnet --json {options}");
        folder.run(&line).json()
    };
    let plan = compile("--calibrate clips");
    assert_eq!(plan["float_nodes"], json!([]));
    assert!(plan["ops"]["QConv"].as_u64() > Some(0) && plan["ops"]["Conv"].is_null(), "{:#}", plan["ops"]);
    assert_eq!(
        compile("--calibrate clips")["base_hash"],
        plan["base_hash"],
        "the same samples give the same plan"
    );
    assert_eq!(
        compile("--calibrate clips --range min-max")["base_hash"],
        plan["base_hash"],
        "min-max is the default"
    );
    let mut hashes = vec![plan["base_hash"].clone()];
    for option in ["--range mse", "--range percentile --percentile 99", "--equalize", "--no-bias-correction"]
    {
        let plan = compile(&format!("--calibrate clips {option}"));
        assert!(!hashes.contains(&plan["base_hash"]), "{option} changes the plan");
        hashes.push(plan["base_hash"].clone());
    }
    compile("--calibrate clips");
    let calibrated = folder.run("run c.plan --input clip.wav --json").json();
    compile("--float");
    let float = folder.run("run c.plan --input clip.wav --json").json();
    assert_eq!(calibrated["top"][0][0]["index"], float["top"][0][0]["index"]);
    // Arrays by input name, several runs in one.
    folder.write("samples.npz", &npz(&[("patch", &floats(&[4, 1, 96, 64]))]));
    assert_eq!(compile("--calibrate samples.npz")["float_nodes"], json!([]));
}

#[test]
fn what_calibration_leaves_in_float_has_to_be_allowed_too() {
    let folder = Folder::new("partial");
    folder.write("e.onnx", &exponential());
    folder.write("samples.npz", &npz(&[("x", &floats(&[8, 4]))]));
    let compile = "compile e.onnx -o e.plan --calibrate samples.npz";
    folder.run(compile).refused(&[
        "1 of the model's nodes would run in float",
        "exponential (Exp): its values do not fit 256 codes",
    ]);
    let plan = folder.run(&format!("{compile} --allow-float --json")).json();
    assert_eq!((&plan["float_nodes"][0]["op"], &plan["sites"][0]["dtype"]), (&json!("Exp"), &json!("int8")));
    assert!(plan["float_nodes"][1].is_null(), "{:#}", plan["float_nodes"]);
}

#[test]
fn dimensions_are_fixed_by_name_or_by_arrays() {
    let folder = prepared("dimensions");
    folder.write("relu.onnx", &relu(&["N".into(), "T".into()]));
    folder.run("compile relu.onnx -o a.plan --float").refused(&["dimension 0 ('N')", "--dim N=<extent>"]);
    let shape = |options: &str| {
        let plan = folder.run(&format!("compile relu.onnx -o a.plan --float --json {options}")).json();
        plan["inputs"][0]["shape"].clone()
    };
    assert_eq!(shape("--dim N=2 --dim T=5"), json!([2, 5]));
    let superfluous = folder.run("compile relu.onnx -o a.plan --float --dim N=2 --dim T=5 --dim t=5");
    superfluous.refused(&["no input has a dimension 't'", "'N', 'T'"]);
    folder.write("in.npz", &npz(&[("x", &floats(&[3, 4]))]));
    assert_eq!(shape("--shapes in.npz"), json!([3, 4]));
    folder.write("wrong.npz", &npz(&[("x_", &floats(&[3, 4]))]));
    folder
        .run("compile relu.onnx -o a.plan --float --shapes wrong.npz")
        .refused(&["no input 'x_'", "it has 'x'"]);
    assert_eq!(folder.run("run a.plan --input in.npz --json").json()["outputs"][0]["shape"], json!([3, 4]));
}

/// Every preset, on an input it fits.
#[test]
fn front_ends_go_by_name() {
    let folder = prepared("presets");
    let front_end = |dims: &[usize], name: &str| {
        let dims: Vec<_> = dims.iter().map(|&extent| extent.into()).collect();
        folder.write("relu.onnx", &relu(&dims));
        let plan =
            folder.run(&format!("compile relu.onnx -o {name}.plan --float --front-end {name} --json")).json();
        plan["inputs"][0]["front_end"].clone()
    };
    let audio = |kind: &str, patch: u32, hop: u32| json!({"kind": kind, "sample_rate": 16_000, "patch": patch, "hop": hop});
    assert_eq!(front_end(&[1, 96, 64], "yamnet"), audio("log-mel", 15_600, 7680));
    assert_eq!(front_end(&[1, 49, 10], "kws-mfcc"), audio("mfcc", 16_000, 8000));
    assert_eq!(front_end(&[1, 1, 64, 96], "logmel-image"), audio("log-mel", 15_600, 7680));
    assert_eq!(front_end(&[1, 4000], "waveform"), audio("waveform", 4000, 2000));
    let image = json!({"kind": "image", "sample_rate": null, "patch": 288, "hop": 0});
    assert_eq!(front_end(&[1, 3, 8, 12], "image"), image);
    assert_eq!(front_end(&[1, 3], "none"), Value::Null);
    for name in ["yamnet", "kws-mfcc", "logmel-image", "waveform"] {
        let run = folder.run(&format!("run {name}.plan --input clip.wav --json")).json();
        assert!(run["runs"].as_u64() > Some(0), "{name}");
    }
    folder.write("p.png", &picture(9, 9));
    folder.run("run image.plan --input p.png").ok();
}

#[test]
fn a_front_end_file_can_say_what_a_preset_does() {
    let folder = prepared("file");
    folder.write(
        "yamnet.toml",
        b"kind = 'log-mel'\nsample_rate = 16000\npatch = 15600\nhop = 7680\nframe = 400\nstride = 160\nfft = 512\n\
          window = 'hann'\nspectrum = 'magnitude'\nbands = 64\nlow_hz = 125\nhigh_hz = 7500.0\noffset = 0.001\n",
    );
    let hash = |front_end: &str| {
        let line = format!("compile base.onnx -o a.plan --dim N=1 --front-end {front_end} --json");
        folder.run(&line).json()["base_hash"].clone()
    };
    assert_eq!(hash("yamnet.toml"), hash("yamnet"));
    folder.write("broken.toml", b"kind = 'log-mel'\nbands = 'many'\n");
    folder
        .run("compile base.onnx -o a.plan --dim N=1 --front-end broken.toml")
        .refused(&["broken.toml", "\"many\""]);
}

#[test]
fn training_reaches_as_far_as_asked() {
    let folder = prepared("reach");
    let compile = |from: &str| {
        folder.run(&format!("compile base.onnx -o {from}.plan --dim N=1 --train-from {from} --json")).json()
    };
    let trainable = |plan: &Value| {
        let sites = plan["sites"].as_array().expect("a list").iter();
        sites.filter(|site| site["trainable"] == json!(true)).count()
    };
    let all = compile("all");
    let sites = all["sites"].as_array().expect("a list");
    let third = sites[2]["name"].as_str().expect("a name");
    let (late, site) = (compile("late"), compile(third));
    assert_eq!((trainable(&all), trainable(&site)), (sites.len(), sites.len() - 2));
    assert!((1..sites.len()).contains(&trainable(&late)));
    let bytes = |plan: &Value| plan["arena_bytes"]["train"].as_u64().expect("bytes");
    assert!(bytes(&late) <= bytes(&site) && bytes(&site) <= bytes(&all));
    assert!(bytes(&late) >= late["train_lower_bound_bytes"].as_u64().expect("bytes"));
    assert_eq!(all["head_classes"], json!(32), "room for a head unless told otherwise");
    let plain = folder.run("compile base.onnx -o p.plan --dim N=1 --head-classes 5 --json").json();
    assert_eq!((&plain["head_classes"], &plain["arena_bytes"]["train"]), (&json!(5), &Value::Null));
    assert_eq!(trainable(&plain), 0);
}

#[test]
fn labels_name_the_scores() {
    let folder = prepared("labels");
    let plan = folder.run("compile base.onnx -o a.plan --dim N=1 --labels labels.txt --json").json();
    assert_eq!(plan["outputs"][0]["labels"], json!(LABELS));
    folder.write("few.txt", b"a\nb\n");
    folder.run("compile base.onnx -o b.plan --dim N=1 --labels few.txt").refused(&["2 names for 9 classes"]);
    assert!(!folder.path("b.plan").exists());
}

/// Every model of the development data.
#[test]
fn real_models_compile() {
    let Some(data) = data() else { return };
    let folder = Folder::new("models");
    folder.write("line.npz", &npz(&[("x", &floats(&[1, 3, 48, 192]))]));
    for (model, options, float) in [
        ("efficientnet_lite0_int8_qdq", "--dim N=1 --front-end image", false),
        ("mlperf_tiny_ic_resnet8_int8", "--dim N=1 --front-end image", false),
        ("mlperf_tiny_kws_dscnn_int8", "--dim N=1 --front-end kws-mfcc", false),
        ("yamnet_audioset521_int8", "--dim N=1 --front-end yamnet", false),
        ("efficientnet_lite0_f32", "--dim N=1 --float", true),
        ("mlperf_tiny_ic_resnet8_f32", "--dim N=1 --float", true),
        ("mlperf_tiny_kws_dscnn_weightonly_int8", "--dim N=1 --allow-float", true),
        ("ppocr_textline_cls_mobilenetv3_f32", "--shapes line.npz --float", true),
        ("kwt1_12labels_f32", "--float --front-end waveform", true),
        ("dnsmos_sig_bak_ovr_f32", "--dim N=1 --float --front-end waveform", true),
        ("silero_vad_16k_sequence", "--dim sequence_length=4 --float", true),
        ("minilm_l6_int8_dynamic", "--dim B=1 --dim L=16 --allow-float", true),
    ] {
        let onnx = data.join("models/onnx").join(format!("{model}.onnx"));
        let plan = folder.run(&format!("compile {} -o {model}.plan {options} --json", onnx.display())).json();
        let count = |key: &str| plan[key].as_array().map_or(0, Vec::len);
        let number = |value: &Value| value.as_u64().expect("a number");
        println!(
            "{model}: {} in float, {} sites, {} MAC",
            count("float_nodes"),
            count("sites"),
            plan["macs"]
        );
        assert_eq!(count("float_nodes") > 0, float, "{model}");
        assert!(number(&plan["macs"]) > 0 && count("sites") > 0, "{model}");
        assert!(number(&plan["arena_bytes"]["infer"]) >= number(&plan["lower_bound_bytes"]), "{model}");
        if float {
            let strict = options.replace("--float", "").replace("--allow-float", "");
            let line = format!("compile {} -o strict.plan {strict}", onnx.display());
            folder.run(&line).refused(&["nodes would run in float"]);
        }
    }
    assert!(!folder.path("strict.plan").exists());
}
