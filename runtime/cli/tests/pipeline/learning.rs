//! What can be learned for, with which optimizer, and from which start.

use serde_json::{Value, json};

use crate::fixture::{SOUNDS, lay_out};
use crate::process::Folder;

const COMPILE: &str = "compile base.onnx -o base.plan --dim N=1 --front-end yamnet --labels labels.txt \
                       --train-from all --head-classes 4";

fn prepared(test: &str, count: u64) -> Folder {
    let folder = Folder::new(test);
    lay_out(&folder, count);
    folder.run(COMPILE).ok();
    folder
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn optimizers_differ_in_memory_and_in_what_they_learn() {
    let folder = prepared("optimizers", 3);
    let train = |options: &str| {
        let line =
            "train base.plan --data clips --method lora --set rank=8 --sites late --epochs 3 -o a.adapter";
        let report = folder.run(&format!("{line} {options} --json")).json();
        (number(&report["memory"]["optimizer"]), folder.read("a.adapter"))
    };
    let (adam, by_adam) = train("");
    let (bf16, by_bf16) = train("--optimizer adamw-bf16");
    let (int8, by_int8) = train("--optimizer adamw-int8");
    // A half and 17/64 of it, but for blocks that are not full.
    assert!(bf16 < 0.54 * adam && bf16 >= 0.5 * adam, "{bf16} of {adam}");
    assert!(int8 < 0.29 * adam && int8 >= 17.0 / 64.0 * adam, "{int8} of {adam}");
    let (_, by_ratio) = train("--up-ratio 16");
    let (_, by_threshold) = train("--soft-threshold 0.5");
    let files = [&by_adam, &by_bf16, &by_int8, &by_ratio, &by_threshold];
    for (index, file) in files.iter().enumerate() {
        assert!(files[..index].iter().all(|other| other != file), "run {index} is one of those before");
    }

    let full = |options: &str| {
        let line = "train base.plan --data clips --method full --sites late --epochs 1 -o a.adapter --json";
        number(&folder.run(&format!("{line} {options}")).json()["memory"]["optimizer"])
    };
    assert!(full("--optimizer galore --subspace 2") < 0.5 * full(""));
    let refused = |options: &str, words: &[&str]| {
        let line = format!("train base.plan --data clips --method lora -o b.adapter {options}");
        folder.run(&line).misused(words);
    };
    refused("--subspace 2", &["--subspace 2", "galore"]);
    refused("--up-ratio 0", &["--up-ratio 0", "above 0"]);
    refused("--loss distill", &["--loss distill", "--head none"]);
    refused("--prototypes --head none", &["--prototypes", "--head none"]);
    folder
        .run("train base.plan --data clips --method bias --up-ratio 16 -o b.adapter")
        .refused(&["factors", "at 1"]);
}

#[test]
fn class_means_are_a_start() {
    let folder = prepared("prototypes", 6);
    let line = "train base.plan --data clips --method head --prototypes -o a.adapter --json";
    let means = folder.run(&format!("{line} --epochs 0")).json();
    let nothing = folder.run(&line.replace("--prototypes", "--epochs 0")).json();
    // Three classes of as many clips.
    assert!((number(&nothing["accuracy"]) - 1.0 / 3.0).abs() < 1e-9, "{nothing:#}");
    assert!(number(&means["accuracy"]) > 0.75 && number(&means["auroc"]) > 0.95, "{means:#}");
    assert_eq!((&means["steps"], &means["loss"]), (&json!(0), &Value::Null));
    let one = folder.run(&format!("{line} --epochs 1")).json();
    let zero = folder.run(&line.replace("--prototypes", "--epochs 1")).json();
    assert!(number(&one["loss"]) < number(&zero["loss"]), "{} {}", one["loss"], zero["loss"]);
    assert_eq!(one["arena_bytes"], zero["arena_bytes"]);
}

/// Clips with several labels, and with none: two overlapping ones here, each with both kinds of clips.
#[test]
fn labels_that_do_not_exclude_each_other_are_learned() {
    let folder = prepared("several", 6);
    let mut table = "file,label\n".to_owned();
    for (sound, label) in SOUNDS.iter().zip(["odd;loud", "", "loud"]) {
        (0..6).for_each(|seed| table += &format!("{}/{seed}.wav,{label}\n", sound.name()));
    }
    folder.write("clips/labels.csv", table.as_bytes());
    let line = "train base.plan --data clips --method head -o a.adapter --json";
    folder.run(line).refused(&["labels", "multi-label loss"]);
    for loss in ["bce", "mse"] {
        let trained = folder.run(&format!("{line} --loss {loss}")).json();
        let judged = folder.run("eval base.plan --data clips --adapter a.adapter --json").json();
        assert_eq!(trained["auroc"], judged["auroc"]);
        assert!(number(&judged["auroc"]) > 0.95, "{loss}: {judged:#}");
        // Those without a label are judged by the area alone.
        assert_eq!(judged["n"], json!(12), "{loss}");
        let classes = judged["per_class"].as_array().expect("a list");
        assert!(classes.iter().all(|class| number(&class["auroc"]) > 0.9), "{loss}: {judged:#}");
    }
}

/// Learning only from the model itself, an adapter has nothing to change.
#[test]
fn a_model_is_its_own_teacher() {
    let folder = prepared("teacher", 3);
    for (sound, name) in SOUNDS.iter().zip(["rain", "drone", "helicopter"]) {
        let (from, to) = (format!("clips/{}", sound.name()), format!("clips/{name}"));
        std::fs::rename(folder.path(from), folder.path(to)).expect("a folder moves");
    }
    let train = |options: &str| {
        let line =
            "train base.plan --data clips --method lora --sites late --head none --epochs 4 -o a.adapter";
        folder.run(&format!("{line} {options} --json")).json()
    };
    let base = folder.run("eval base.plan --data clips --json").json();
    let taught = train("--loss distill --teacher-share 1");
    let judged = folder.run("eval base.plan --data clips --adapter a.adapter --json").json();
    assert_eq!(judged["confusion"], base["confusion"]);
    assert!(number(&taught["loss"]) < 1e-3, "{taught:#}");
    let (both, alone) = (train("--loss distill --teacher-share 0.5"), train(""));
    assert!(number(&both["loss"]) > 0.0 && both["adapter_hash"] != alone["adapter_hash"]);
}

#[test]
fn what_is_changed_is_what_there_is() {
    let folder = prepared("changes", 3);
    let line = "train base.plan --data clips --method lora --set rank=1 --sites late --epochs 2 --views 2 -o a.adapter";
    let train = |options: &str| {
        folder.run(&format!("{line} {options}")).ok();
        folder.read("a.adapter")
    };
    let files =
        ["", "--augment time-mask=0.4", "--augment frequency-mask=0.4", "--augment gain=-6..6"].map(train);
    for (index, file) in files.iter().enumerate() {
        assert!(files[..index].iter().all(|other| other != file), "run {index} is one of those before");
    }
    assert!(train("--augment time-mask=0.4") == files[1], "the same seed masks the same");
    for step in ["flip", "colour=0.2", "window=0.5..1"] {
        folder.run(&format!("{line} --augment {step}")).misused(&["--augment", step, "recordings"]);
    }
    folder.run(&format!("{line} --augment time-mask=3")).misused(&["time-mask=3"]);

    // One clip of a class, three of each other: balanced, it is seen as often as theirs together.
    (1..3).for_each(|seed| {
        std::fs::remove_file(folder.path(format!("clips/siren/{seed}.wav"))).expect("a clip was there");
    });
    assert!(train("") != train("--balance"));
}
