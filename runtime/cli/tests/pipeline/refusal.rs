//! Refusals: exit codes, messages that say what to do, and nothing half-done.

use crate::fixture::{floats, lay_out, npy, picture, relu};
use crate::process::Folder;

const COMPILE: &str =
    "compile base.onnx -o base.plan --dim N=1 --front-end yamnet --train-from all --head-classes 4";
const TRAIN: &str = "train base.plan --data clips --method head --epochs 1 -o a.adapter";

fn prepared(test: &str) -> Folder {
    let folder = Folder::new(test);
    lay_out(&folder, 1);
    folder.run(COMPILE).ok();
    folder
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = prepared("usage");
    folder.run("run base.plan").misused(&["--input"]);
    folder.run("fly").misused(&["unrecognized subcommand 'fly'"]);
    folder.run("compile base.onnx -o b.plan --dim N").misused(&["NAME=VALUE"]);
    folder.run("compile base.onnx -o b.plan --dim N=0").misused(&["at least one element"]);
    folder
        .run("compile base.onnx -o b.plan --dim N=1 --front-end ear")
        .misused(&["--front-end ear", "yamnet"]);
    folder.run("compile base.onnx -o b.plan --dim N=1 --hop 0.5").misused(&["--front-end"]);
    folder
        .run("compile base.onnx -o b.plan --dim N=1 --front-end yamnet --hop soon")
        .misused(&["--hop soon"]);
    folder
        .run("compile base.onnx -o b.plan --dim N=1 --float --calibrate clips")
        .misused(&["--calibrate", "--float"]);
    folder.run("compile base.onnx -o b.plan --dim N=1 --range mse").misused(&["--calibrate"]);
    folder
        .run("compile base.onnx -o b.plan --dim N=1 --calibrate clips --range percentile --percentile 5")
        .misused(&["50 to 100"]);
    folder
        .run("train base.plan --data clips --method telepathy -o a.adapter")
        .misused(&["telepathy", "lora"]);
    folder.run("train base.plan --data clips --method lora --sites ( -o a.adapter").misused(&["regex"]);
    folder.run("inspect base.plan --target abacus").misused(&["abacus", "scalar"]);
    folder.run("inspect base.plan --method telepathy").misused(&["telepathy"]);
    folder.run("bench base.plan --threads 0").misused(&["--threads"]);
    assert_eq!(folder.run("").code, Some(2));
}

#[test]
fn help_and_version_are_data() {
    let folder = Folder::new("help");
    for line in ["--help", "--version", "train --help"] {
        let done = folder.run(line).ok();
        assert!(!done.out.is_empty() && done.err.is_empty(), "{done:#?}");
    }
}

#[test]
fn files_that_are_not_there_or_not_what_they_seem() {
    let folder = prepared("files");
    folder.write("text.txt", b"hello");
    folder.write("text.plan", b"hello");
    folder.write("text.onnx", b"hello");
    folder.write("text.wav", b"hello");
    folder.run("compile none.onnx -o b.plan").refused(&["none.onnx: No such file"]);
    folder.run("compile text.onnx -o b.plan").refused(&["text.onnx: not an ONNX file"]);
    folder.run("inspect none.plan").refused(&["none.plan: No such file"]);
    folder.run("inspect text.plan").refused(&["neither a plan nor an adapter", "ingraft compile"]);
    folder.run("run text.plan --input clip.wav").refused(&["text.plan"]);
    folder.run("run base.plan --input none.wav").refused(&["none.wav: No such file"]);
    folder.run("run base.plan --input text.wav").refused(&["text.wav"]);
    folder.run("run base.plan --input text.txt").refused(&["text.txt: give .npy, .npz"]);
    folder.run("run base.plan --input clip.wav -o y.csv").refused(&["y.csv", ".npy", ".npz"]);
    folder.run("eval base.plan --data none").refused(&["none", "No such file"]);
    folder.run("compile base_f32.onnx -o b.plan --dim N=1 --calibrate none").refused(&["none: No such file"]);
    let plan = folder.read("base.plan");
    folder.write("cut.plan", &plan[..plan.len() - 16]);
    folder.run("run cut.plan --input clip.wav").refused(&["cut.plan"]);
}

#[test]
fn inputs_of_another_kind_or_shape() {
    let folder = prepared("inputs");
    folder.write("x.npy", &npy(&floats(&[1, 1, 96, 63])));
    folder.write("p.png", &picture(8, 8));
    folder.write("relu.onnx", &relu(&[1.into(), 4.into()]));
    folder.run("compile relu.onnx -o relu.plan --float").ok();
    folder.run("run base.plan --input x.npy").refused(&["\"patch\"", "[1, 1, 96, 64]", "[1, 1, 96, 63]"]);
    folder.run("run base.plan --input p.png").refused(&["recordings, not pictures"]);
    folder.run("run relu.plan --input clip.wav").refused(&["--front-end"]);
    folder.feed("run relu.plan --input -", &[0; 64]).refused(&["--front-end"]);
    folder.run("compile relu.onnx -o relu.plan --float --front-end yamnet").refused(&["yamnet", "[96, 64]"]);
    folder.run("run base.plan --input clip.wav --dump base.plan").refused(&["base.plan"]);
}

#[test]
fn adapters_of_another_base_or_damaged() {
    let folder = prepared("adapters");
    folder.run(TRAIN).ok();
    folder
        .run(
            "compile base.onnx -o other.plan --dim N=1 --front-end yamnet --train-from late --head-classes 4",
        )
        .ok();
    for command in ["run other.plan --input clip.wav", "eval other.plan --data clips", "bench other.plan"] {
        folder
            .run(&format!("{command} --adapter a.adapter"))
            .refused(&["a.adapter: adapter belongs to base"]);
    }
    let adapter = folder.read("a.adapter");
    folder.write("cut.adapter", &adapter[..adapter.len() - 1]);
    folder.run("run base.plan --input clip.wav --adapter cut.adapter").refused(&["cut.adapter", "truncated"]);
    folder.run("inspect cut.adapter").refused(&["cut.adapter", "truncated"]);
    let mut damaged = adapter.clone();
    *damaged.last_mut().expect("a byte") ^= 1;
    folder.write("damaged.adapter", &damaged);
    folder.run("run base.plan --input clip.wav --adapter damaged.adapter").refused(&["hash does not match"]);
    folder.run("run base.plan --input clip.wav --adapter base.plan").refused(&["not an adapter"]);
    folder.run("run a.adapter --input clip.wav").refused(&["a.adapter"]);
}

#[test]
fn models_that_cannot_become_what_was_asked() {
    let folder = prepared("models");
    folder
        .run("compile base.onnx -o b.plan --dim N=1 --front-end yamnet --calibrate clips")
        .refused(&["quantized already", "without calibration"]);
    folder.run("compile base_f32.onnx -o b.plan --dim N=1 --calibrate clips").refused(&["--front-end"]);
    std::fs::create_dir(folder.path("empty")).expect("a folder can be made");
    folder
        .run("compile base_f32.onnx -o b.plan --dim N=1 --front-end yamnet --calibrate empty")
        .refused(&["no sample inputs"]);
    folder
        .run("compile base.onnx -o b.plan --dim N=1 --train-from nowhere")
        .refused(&["\"nowhere\"", "ingraft inspect"]);
    assert!(!folder.path("b.plan").exists());
}

#[test]
fn training_that_cannot_start() {
    let folder = prepared("training");
    let train = |options: &str| folder.run(&format!("train base.plan --data clips -o a.adapter {options}"));
    train("--method lora --sites nothing_is_called_so").refused(&["--sites", "ingraft inspect"]);
    train("--method lora --set rank=0").refused(&["rank=0", "1..=256"]);
    train("--method lora --set colour=red").refused(&["colour", "ingraft methods"]);
    train("--method head --head nowhere").misused(&["--head", "nowhere"]);
    train("--method head --split none.csv").refused(&["none.csv"]);
    folder.run("compile base.onnx -o still.plan --dim N=1 --front-end yamnet").ok();
    folder.run("train still.plan --data clips --method lora -o a.adapter").refused(&["--train-from"]);
    folder
        .run("compile base.onnx -o few.plan --dim N=1 --front-end yamnet --train-from all --head-classes 2")
        .ok();
    folder
        .run("train few.plan --data clips --method head -o a.adapter")
        .refused(&["3 classes", "--head-classes"]);
    assert!(!folder.path("a.adapter").exists());
}

#[test]
fn results_appear_whole_or_not_at_all() {
    let folder = prepared("whole");
    for line in [
        "compile base.onnx -o none/b.plan --dim N=1",
        "run base.plan --input clip.wav -o none/y.npy",
        "train base.plan --data clips --method head -o none/a.adapter",
    ] {
        let done = folder.run(line);
        assert!(!done.err.contains("training head"), "told before the work: {done:#?}");
        done.refused(&["none: No such file"]);
    }
    folder.run(TRAIN).ok();
    let (plan, adapter) = (folder.read("base.plan"), folder.read("a.adapter"));
    folder.run("compile base.onnx -o base.plan").refused(&["--dim"]);
    folder.run("train base.plan --data none --method head -o a.adapter").refused(&["none"]);
    assert!(folder.read("base.plan") == plan && folder.read("a.adapter") == adapter, "what was there stays");
    let left: Vec<String> = folder.files(".").into_iter().filter(|name| name.contains("partial")).collect();
    assert!(left.is_empty(), "{left:?}");
}
