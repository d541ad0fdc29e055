//! What `run` takes and gives.

use ingraft_models::demo::PATCH_SAMPLES;
use ingraft_models::demo::synth::Sound;
use serde_json::{Value, json};

use crate::fixture::{clip, floats, lay_out, npy, npz, pcm, picture, read_npy, read_npz, relu, wav};
use crate::process::Folder;

const COMPILE: &str = "compile base.onnx -o base.plan --dim N=1 --front-end yamnet";

fn prepared(test: &str) -> Folder {
    let folder = Folder::new(test);
    lay_out(&folder, 0);
    folder.run(COMPILE).ok();
    folder
}

#[test]
fn arrays_go_in_and_out() {
    let folder = prepared("arrays");
    let x = floats(&[1, 1, 96, 64]);
    folder.write("x.npy", &npy(&x));
    folder.write("x.npz", &npz(&[("patch", &x), ("unused", &floats(&[2]))]));
    folder.run("run base.plan --input x.npy -o y.npy").ok();
    let run = folder.run("run base.plan --input x.npz -o y.npz").ok();
    assert!(run.err.contains("no input is called \"unused\""), "{run:?}");
    let outputs = read_npz(&folder.read("y.npz"));
    let shapes: Vec<_> = outputs.iter().map(|(name, array)| (name.as_str(), array.shape())).collect();
    assert_eq!(shapes, [("logits", &[1, 9][..]), ("embedding", &[1, 144])]);
    assert_eq!(read_npy(&folder.read("y.npy")).1, outputs[0].1.to_f32().expect("floats"));
    // Several samples are as many runs.
    folder.write("many.npy", &npy(&floats(&[3, 1, 96, 64])));
    let run = folder.run("run base.plan --input many.npy --json -o many_y.npy").json();
    assert_eq!((&run["runs"], &run["outputs"][0]["shape"]), (&json!(3), &json!([3, 9])));
    assert_eq!(read_npy(&folder.read("many_y.npy")).0, [3, 9]);
}

#[test]
fn a_recording_and_the_same_samples_from_a_pipe_agree() {
    let folder = prepared("pipe");
    let samples = clip(Sound::TwoTone, 7, PATCH_SAMPLES);
    folder.write("one.wav", &wav(&samples));
    let whole = folder.run("run base.plan --input one.wav --json").json();
    let lines = folder.feed("run base.plan --input - --json", &pcm(&samples)).json_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["top"], whole["top"][0]);
    assert_eq!((&lines[0]["patch"], &lines[0]["seconds"]), (&json!(0), &json!(0.0)));
    // A new patch every 0.48 s, as long as there are samples for it.
    let long = clip(Sound::TwoTone, 7, PATCH_SAMPLES + 2 * 7680);
    let lines = folder.feed("run base.plan --input - --json", &pcm(&long)).json_lines();
    let seconds: Vec<f64> = lines.iter().filter_map(|line| line["seconds"].as_f64()).collect();
    assert_eq!(seconds, [0.0, 0.48, 0.96]);
    folder.write("long.wav", &wav(&long));
    let run = folder.run("run base.plan --input long.wav --json").json();
    assert_eq!((&run["runs"], &run["outputs"][0]["shape"]), (&json!(3), &json!([1, 9])));
    // For people, a line a patch.
    let text = folder.feed("run base.plan --input -", &pcm(&long)).ok().out;
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(
        folder.feed("run base.plan --input -", &[]).ok().out.lines().count(),
        1,
        "silence is one patch"
    );
}

#[test]
fn the_clip_rule_and_the_hop_are_the_plans() {
    let folder = prepared("rules");
    let long = clip(Sound::Siren, 2, PATCH_SAMPLES + 16_000);
    folder.write("long.wav", &wav(&long));
    let scores = |rule: &str| {
        folder
            .run(&format!(
                "compile base.onnx -o {rule}.plan --dim N=1 --front-end yamnet --hop 1s --clip {rule}"
            ))
            .ok();
        folder.run(&format!("run {rule}.plan --input long.wav -o {rule}.npy")).ok();
        read_npy(&folder.read(&format!("{rule}.npy"))).1
    };
    let (mean, max) = (scores("mean"), scores("max"));
    let run = folder.run("run max.plan --input long.wav --json").json();
    assert_eq!(run["runs"], json!(2), "a patch every second");
    assert!(mean.iter().zip(&max).all(|(mean, max)| mean <= max) && mean != max);
    let plan = folder.run("inspect max.plan --json").json();
    assert_eq!(
        (&plan["inputs"][0]["front_end"]["hop"], &plan["outputs"][0]["clip"]),
        (&json!(16_000), &json!("max"))
    );
}

#[test]
fn pictures_are_fitted_to_the_input() {
    let folder = Folder::new("pictures");
    folder.write("relu.onnx", &relu(&[1.into(), 3.into(), 8.into(), 12.into()]));
    folder.write("p.png", &picture(40, 30));
    folder.run("compile relu.onnx -o relu.plan --float --front-end image").ok();
    folder.run("run relu.plan --input p.png -o y.npy").ok();
    let (shape, values) = read_npy(&folder.read("y.npy"));
    assert_eq!(shape, [1, 3, 8, 12]);
    assert!(values.iter().all(|v| (0.0..=1.0).contains(v)) && values.iter().any(|v| *v > 0.0), "{values:?}");
}

#[test]
fn a_profile_times_every_step_and_a_dump_holds_every_tensor() {
    let folder = prepared("trace");
    let steps = folder.run("inspect base.plan --json").json()["steps"]["infer"].clone();
    let run = folder.run("run base.plan --input clip.wav --json --profile --dump tensors").json();
    let profile = run["profile"].as_array().expect("a list");
    assert_eq!(json!(profile.len()), steps);
    let total: u64 = profile.iter().filter_map(|step| step["macs"].as_u64()).sum();
    assert_eq!(json!(total), folder.run("inspect base.plan --json").json()["macs"]);
    for step in profile {
        assert!(step["time_us"].as_f64() >= Some(0.0) && step["bytes"].as_u64() > Some(0), "{step:#}");
    }
    let index: Value =
        serde_json::from_slice(&folder.read("tensors/tensors.json")).expect("the index of a dump is JSON");
    for tensor in index.as_array().expect("a list") {
        let file = format!("tensors/{}", tensor["file"].as_str().expect("a name"));
        assert!(folder.read(&file).starts_with(b"\x93NUMPY"), "{file}");
    }
    let table = folder.run("run base.plan --input clip.wav --profile").ok().out;
    assert!(table.contains("qconv_qs8_qc8w_qs8") && table.contains("total"), "{table}");
}

#[test]
fn targets_give_the_same_bytes() {
    let folder = prepared("targets");
    let run = |target: &str| {
        let run =
            folder.run(&format!("run base.plan --input clip.wav --target {target} -o {target}.npz --json"));
        (run.json()["target"].clone(), folder.read(&format!("{target}.npz")))
    };
    let ((scalar, reference), (native, found)) = (run("scalar"), run("native"));
    assert_eq!(scalar, json!("scalar"));
    println!("native is {native}");
    assert!(reference == found, "the integer path is exact on every target");
}

/// With `INGRAFT_CUDA=required` there has to be one.
#[test]
fn a_gpu_gives_the_same_bytes_or_says_that_there_is_none() {
    let folder = prepared("gpu");
    folder.run("run base.plan --input clip.wav -o native.npz").ok();
    folder.run("bench base.plan --target cuda --threads 2").misused(&["--threads 2", "--target cuda"]);
    let done = folder.run("run base.plan --input clip.wav --target cuda -o cuda.npz");
    if done.code != Some(0) && std::env::var_os("INGRAFT_CUDA").is_none_or(|value| value != "required") {
        done.refused(&["target cuda: ", "CUDA d"]);
        assert!(!folder.path("cuda.npz").exists());
        return;
    }
    done.ok();
    assert!(
        folder.read("native.npz") == folder.read("cuda.npz"),
        "the integer path is exact on every target"
    );
    folder.run("run base.plan --input clip.wav --target cuda --profile --dump tensors").ok();
    assert!(folder.files("tensors").iter().any(|file| file.ends_with("tensors.json")));
    let bench = folder.run("bench base.plan --target cuda --json").json();
    let device = &bench["device"];
    assert!(device["image"].as_str().is_some_and(|image| image.starts_with("sm_")), "{bench}");
    assert!(
        device["load_us"].as_f64().is_some_and(|load| load > 0.0) && device["board"].is_null(),
        "{bench}"
    );
}
