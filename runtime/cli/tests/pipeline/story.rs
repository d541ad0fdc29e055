//! Compile, look, run, learn, judge, switch, and find the base as it was.

use core::time::Duration;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fixture::{SOUNDS, lay_out, read_npy};
use crate::process::Folder;

const COMPILE: &str =
    "compile base.onnx -o base.plan --dim N=1 --front-end yamnet --train-from all --head-classes 4";
const CLASSES: [&str; 3] = ["beeper", "normal", "siren"];

/// A folder with a plan and the adapters `head.adapter` and `lora.adapter`, and what `train` said of each.
fn trained(test: &str) -> (Folder, [Value; 2]) {
    let folder = Folder::new(test);
    lay_out(&folder, 6);
    folder.run(COMPILE).ok();
    let reports = ["head --epochs 60", "lora --set rank=2 --sites late --epochs 20 --seed 3"].map(|method| {
        let name = method.split(' ').next().expect("a name comes first");
        let report =
            folder.run(&format!("train base.plan --data clips --method {method} -o {name}.adapter --json"));
        report.json()
    });
    (folder, reports)
}

#[test]
fn an_adapter_is_learned_and_judged_as_it_is_deployed() {
    let (folder, reports) = trained("judged");
    for (report, name) in reports.iter().zip(["head", "lora"]) {
        let bytes = folder.read(&format!("{name}.adapter")).len();
        assert_eq!(report["adapter_bytes"], json!(bytes), "{name}");
        assert_eq!((&report["n"], &report["train_clips"]), (&json!(18), &json!(18)), "{name}");
        assert!(report["accuracy"].as_f64().expect("a share") >= 0.9, "{name}: {report:#}");
        assert!(
            report["loss"].as_f64().expect("a loss").is_finite()
                && report["trained_parameters"].as_u64() > Some(0)
        );
        let judged =
            folder.run(&format!("eval base.plan --data clips --adapter {name}.adapter --json")).json();
        assert_eq!(judged["accuracy"], report["accuracy"], "{name}");
        assert_eq!(judged["adapter_hash"], report["adapter_hash"], "{name}");
        let classes: Vec<&str> = judged["per_class"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|c| c["class"].as_str())
            .collect();
        assert_eq!(classes, CLASSES);
        let inspected = folder.run(&format!("inspect {name}.adapter --json")).json();
        assert_eq!(inspected["adapter_hash"], report["adapter_hash"]);
        assert_eq!(inspected["base_hash"], report["base_hash"]);
        assert_eq!(inspected["head"]["labels"], json!(CLASSES));
        assert_eq!(inspected["method"], json!(name));
    }
    let [head, lora] = reports;
    assert_eq!(head["sites"], json!([]));
    assert!(!lora["sites"].as_array().expect("a list").is_empty());
    assert!(lora["trained_parameters"].as_u64() > head["trained_parameters"].as_u64());
}

#[test]
fn the_same_seed_learns_the_same_bytes() {
    let folder = Folder::new("seeds");
    lay_out(&folder, 3);
    folder.run(COMPILE).ok();
    let learn = |options: &str| {
        let line = "train base.plan --data clips --method lora --set rank=1 --epochs 3 --augment noise=10..20 --views 2";
        folder.run(&format!("{line} {options} -o a.adapter")).ok();
        folder.read("a.adapter")
    };
    let (first, again, other) = (learn("--seed 5"), learn("--seed 5"), learn("--seed 6"));
    assert!(first == again, "the same seed gives the same file");
    assert!(first != other, "another seed gives another");
    let by_default = learn("--seed 5 --schedule cosine");
    assert!(first == by_default, "rates fall as a cosine unless told otherwise");
    let courses = ["constant", "linear", "linear --warmup 2"];
    let mut files = courses.map(|course| learn(&format!("--seed 5 --schedule {course}"))).to_vec();
    files.push(first);
    let distinct: BTreeSet<&Vec<u8>> = files.iter().collect();
    assert_eq!(distinct.len(), files.len(), "each course of the rates leads elsewhere");
}

/// A run that is killed goes on from its last epoch to the file that it would have written.
#[test]
fn a_killed_run_is_gone_on_with() {
    let folder = Folder::new("killed");
    lay_out(&folder, 4);
    folder.run(COMPILE).ok();
    let line = "train base.plan --data clips --method lora --set rank=2 --epochs 40 --seed 9";
    folder.run(&format!("{line} -o whole.adapter")).ok();
    let interrupted = format!("{line} --checkpoint run.ckpt --resume -o a.adapter");
    let mut child = folder.start(&interrupted);
    while !folder.path("run.ckpt").exists() {
        assert!(
            child.try_wait().expect("a process can be asked").is_none(),
            "it ended before its first epoch did"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("a process can be killed");
    child.wait().expect("a killed process ends");
    assert!(!folder.path("a.adapter").exists(), "it was killed before its end");
    let left = folder.read("run.ckpt");
    let epochs = u32::from_le_bytes(left[8..12].try_into().expect("four bytes"));
    assert!((1..40).contains(&epochs), "{epochs} epochs are kept");
    folder.run(&interrupted).ok();
    assert!(folder.read("a.adapter") == folder.read("whole.adapter"), "to the same adapter");
    folder.write("run.ckpt", &left[..left.len() / 2]);
    folder.run(&interrupted).refused(&["damaged"]);
    folder.write("run.ckpt", &left);
    folder.run(&interrupted.replace("--seed 9", "--seed 10")).refused(&["another run"]);
}

#[test]
fn a_trainer_is_held_to_its_budget() {
    let folder = Folder::new("budget");
    lay_out(&folder, 2);
    folder.run(COMPILE).ok();
    let line = "train base.plan --data clips --method lora --epochs 1 -o a.adapter --json";
    let needed = folder.run(line).json()["arena_bytes"].as_u64().expect("a count of bytes");
    folder.run(&format!("{line} --memory {needed}")).ok();
    folder
        .run(&format!("{line} --memory {}", needed - 1))
        .refused(&[&format!("training needs {needed} bytes, 1 more")]);
    let compile = COMPILE.replace("--train-from all", "--train-from all --train-memory 90000");
    folder.run(&compile.replace("base.plan", "small.plan")).ok();
    let arena = |plan: &str| {
        let report = folder.run(&format!("inspect {plan} --json")).json();
        report["arena_bytes"]["train"].as_u64().expect("a count of bytes")
    };
    assert!(arena("small.plan") <= 90000 && arena("base.plan") > 90000);
    folder.run(&compile.replace("90000", "100")).refused(&["more than 100"]);
}

#[test]
fn switching_leads_back_to_the_base() {
    let (folder, _) = trained("switching");
    let run = |adapter: &str, output: &str| {
        let attach = if adapter.is_empty() { String::new() } else { format!(" --adapter {adapter}.adapter") };
        folder.run(&format!("run base.plan --input clip.wav -o {output}{attach}")).ok();
        folder.read(output)
    };
    let plan = folder.read("base.plan");
    let base = run("", "y0.npy");
    let (head, lora) = (run("head", "y1.npy"), run("lora", "y2.npy"));
    assert!(head != lora, "two adapters say two things");
    assert_eq!((read_npy(&base).0, read_npy(&lora).0), (vec![1, 9], vec![1, 3]));
    assert!(run("head", "y3.npy") == head && run("", "y4.npy") == base && folder.read("base.plan") == plan);
    let shared = "run base.plan --input clip.wav --adapter lora.adapter --threads 2 -o y5.npy";
    folder.run(shared).ok();
    assert!(folder.read("y5.npy") == lora, "threads change no bit");
    let top = folder.run("run base.plan --input clip.wav --adapter lora.adapter --json").json();
    assert_eq!(top["top"][0][0]["label"], json!("siren"));
    let sum: f64 = (0..3).filter_map(|class| top["top"][0][class]["score"].as_f64()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "a head's scores are probabilities: {sum}");
}

#[test]
fn the_base_knows_its_classes_by_name() {
    let folder = Folder::new("names");
    lay_out(&folder, 1);
    let labelled = format!("{COMPILE} --labels labels.txt");
    folder.run(&labelled).ok();
    folder.run("eval base.plan --data clips").refused(&["\"beeper\"", "chainsaw", "train an adapter"]);
    std::fs::rename(folder.path("clips/siren"), folder.path("clips/helicopter")).expect("a folder moves");
    std::fs::rename(folder.path("clips/beeper"), folder.path("clips/rain")).expect("a folder moves");
    std::fs::rename(folder.path("clips/normal"), folder.path("clips/drone")).expect("a folder moves");
    let judged = folder.run("eval base.plan --data clips --json").json();
    assert_eq!(judged["n"], json!(3));
    let run = folder.run("run base.plan --input clip.wav --json").json();
    assert!(run["top"][0][0]["label"].is_string(), "{run:#}");
}

#[test]
fn sites_are_chosen_by_name() {
    let folder = Folder::new("sites");
    lay_out(&folder, 2);
    folder.run(COMPILE).ok();
    let sites = folder.run("inspect base.plan --json").json()["sites"].clone();
    let names: Vec<&str> =
        sites.as_array().expect("a list").iter().filter_map(|site| site["name"].as_str()).collect();
    let wanted = names[names.len() - 2];
    let line = format!(
        "train base.plan --data clips --method bias --sites ^{wanted}$ --epochs 1 -o a.adapter --json"
    );
    let trained = folder.run(&line).json();
    let found: Vec<&str> = trained["sites"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|site| site["name"].as_str())
        .collect();
    assert_eq!(found, [wanted]);
}

#[test]
fn a_split_keeps_the_test_clips_apart() {
    let folder = Folder::new("split");
    lay_out(&folder, 4);
    folder.run(COMPILE).ok();
    let mut split = "fold,file\n".to_owned();
    for sound in SOUNDS {
        (0..4).for_each(|seed| split += &format!("{},{}/{seed}.wav\n", seed % 2, sound.name()));
    }
    folder.write("split.csv", split.as_bytes());
    let line = "train base.plan --data clips --method head --split split.csv --fold 1 -o a.adapter --json";
    let trained = folder.run(line).json();
    assert_eq!((&trained["train_clips"], &trained["n"]), (&json!(6), &json!(6)));
    assert_eq!(trained["accuracy_of"], json!("test"));
    let judged = folder
        .run("eval base.plan --data clips --adapter a.adapter --split split.csv --fold 1 --json")
        .json();
    assert_eq!((&judged["accuracy"], &judged["n"]), (&trained["accuracy"], &json!(6)));
    folder
        .run("eval base.plan --data clips --adapter a.adapter --split split.csv --fold 2")
        .refused(&["--fold 2", "folds 0 to 1"]);
}

#[test]
fn memory_is_known_before_training() {
    let (folder, [_, lora]) = trained("memory");
    let plan = folder.run("inspect base.plan --target scalar --method lora --json").json();
    let [memory] = plan["training"].as_array().expect("a list").as_slice() else { panic!("{plan:#}") };
    let parts = [
        "session",
        "packed",
        "parameters",
        "gradients",
        "optimizer",
        "head",
        "constants",
        "latent",
        "tables",
    ];
    for memory in [&memory["memory"], &lora["memory"]] {
        let sum: u64 = parts.iter().filter_map(|part| memory[part].as_u64()).sum();
        assert_eq!(memory["total"].as_u64(), Some(sum), "{memory:#}");
    }
    assert_eq!(lora["arena_bytes"], lora["memory"]["total"]);
    let infer =
        plan["memory"].as_array().expect("a list").iter().find(|m| m["phase"] == "infer").expect("a phase");
    let bench = |adapter: &str| {
        folder.run(&format!("bench base.plan --target scalar --sessions 2 {adapter} --json")).json()
    };
    let base = infer["total"].as_u64().map(|bytes| 2 * bytes);
    assert_eq!(bench("")["peak_bytes"].as_u64(), base);
    // What is packed of an adapter counts: for the reference where its sites' terms stand, and nothing more of factors.
    let bench = bench("--adapter lora.adapter");
    let packed = bench["peak_bytes"].as_u64().zip(base).map(|(all, base)| all - base);
    assert!(packed.is_some_and(|bytes| bytes > 0 && bytes < 2 * 1024), "{packed:?}");
    assert_eq!(
        (&bench["sessions"], &bench["target"], &bench["macs"]),
        (&json!(2), &json!("scalar"), &plan["macs"])
    );
    let time = |key: &str| bench[key].as_f64().expect("a time");
    assert!(
        0.0 < time("min_us") && time("min_us") <= time("median_us") && time("median_us") <= time("p99_us")
    );
    assert!(time("bind_us") > 0.0);
}

#[test]
fn methods_say_how_to_set_them() {
    let folder = Folder::new("methods");
    let methods = folder.run("methods --json").json();
    let names: Vec<&str> =
        methods.as_array().expect("a list").iter().filter_map(|m| m["name"].as_str()).collect();
    for name in ["bias", "head", "ia3", "lora", "shira"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for method in methods.as_array().expect("a list") {
        assert!(
            ["verified", "inferred"].contains(&method["definition"].as_str().expect("a text")),
            "{method:#}"
        );
        assert!(method["starts_as_base"].is_boolean(), "{method:#}");
        for key in ["family", "deploy", "source"] {
            assert!(method[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {method:#}");
        }
        for parameter in method["parameters"].as_array().expect("a list") {
            for key in ["name", "default", "expected"] {
                assert!(parameter[key].is_string(), "{key} of {method:#}");
            }
        }
    }
    let table = folder.run("methods").ok().out;
    names.iter().for_each(|name| assert!(table.contains(name), "{name}"));
    // At a size: what a checkpoint made by hand has to hold.
    let lokr = folder.run("methods --method lokr --at 12x10 --set rank=2 --json").json();
    let shapes: Vec<String> = lokr[0]["tensors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tensor| format!("{} {}", tensor["name"], tensor["shape"]))
        .collect();
    assert!(!shapes.is_empty() && !shapes.concat().contains('…'), "{shapes:?}");
    folder.run("methods --set rank=2").misused(&["--at"]);
    folder.run("methods --at 12x10 --set colour=red").misused(&["colour", "ingraft methods"]);
}
