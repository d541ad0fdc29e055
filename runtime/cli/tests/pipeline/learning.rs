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

/// What was learned is the start, whatever the seed: without an epoch it is the adapter itself.
#[test]
fn training_goes_on_from_an_adapter() {
    let folder = prepared("from", 4);
    let line = |options: &str| format!("train base.plan --data clips {options} --json");
    let train = |options: &str| folder.run(&line(options)).json();
    let first = train("--method lora --set rank=3 --sites late --epochs 4 -o a.adapter");
    let same = train("--from a.adapter --seed 5 --epochs 0 -o b.adapter");
    let parts = ["accuracy", "trained_parameters", "arena_bytes"];
    assert!(parts.iter().all(|part| first[part] == same[part]), "{first:#} {same:#}");
    let held = |name: &str| {
        folder.run(&format!("export {name}.adapter -o {name}")).ok();
        let mut tensors = ingraft_import::read_tensors(&folder.read(&format!("{name}/adapter.safetensors")))
            .expect("what was exported reads");
        // Features are standardized anew, and that is folded in again.
        tensors.retain(|name, _| !name.starts_with("head/"));
        tensors
    };
    assert!(held("a") == held("b"), "the same parameters and the same terms");
    // It learns on: less is left to learn after one epoch than after a first one.
    let fresh = train("--method lora --set rank=3 --sites late --epochs 1 -o c.adapter");
    let on = train("--from a.adapter --epochs 1 -o c.adapter");
    assert!(number(&on["loss"]) < 0.8 * number(&fresh["loss"]), "{} {}", on["loss"], fresh["loss"]);
    assert_ne!(folder.read("c.adapter"), folder.read("b.adapter"));

    // Other classes have a head of their own.
    let told =
        |epochs: u32| folder.run(&line(&format!("--from a.adapter --epochs {epochs} -o d.adapter"))).ok().err;
    assert!(told(0).contains("and its head"));
    std::fs::rename(folder.path("clips/siren"), folder.path("clips/whistle")).expect("a folder moves");
    assert!(told(1).contains("and a new head"));

    let refused = |options: &str, words: &[&str]| folder.run(&line(options)).refused(words);
    refused("--from a.adapter --method bias -o e.adapter", &["--from", "lora", "leave --method out"]);
    refused("--from a.adapter --set rank=2 -o e.adapter", &["rank=3", "rank=2", "leave --set out"]);
    refused("--from a.adapter --sites block4 -o e.adapter", &["site ", "leave --sites out"]);
    train("--method lora --sites late --epochs 1 --terms-only -o terms.adapter");
    refused("--from terms.adapter -o e.adapter", &["--terms-only"]);
    train("--method speft --sites late --epochs 1 -o chosen.adapter");
    refused("--from chosen.adapter -o e.adapter", &["speft chose"]);
    folder.run("compose a.adapter --base base.plan -o sum.adapter").ok();
    refused("--from sum.adapter -o e.adapter", &["(sum)", "combined"]);
    folder.run("train base.plan --data clips -o e.adapter").misused(&["--method"]);
}

/// A domain first, then a task beside it: the first adapter stays, the second learns, and the file acts as both.
#[test]
fn an_adapter_is_trained_beside_another() {
    let folder = prepared("beside", 4);
    let line = |options: &str| format!("train base.plan --data clips {options} --json");
    folder.run(&line("--method lora --set rank=4 --sites late --epochs 6 -o domain.adapter")).json();
    let task = "--method lora --set rank=2 --sites late";
    let start = folder.run(&line(&format!("{task} --on domain.adapter --epochs 0 -o start.adapter"))).ok();
    assert!(start.err.contains("beside domain.adapter, merged"), "{}", start.err);
    // Before a step it is the first, merged; its outputs are those of the merged file.
    folder.run("merge domain.adapter --base base.plan -o merged.adapter").ok();
    let scores = |name: &str| {
        // Each has a head of its own: look at the model's scores, which have none.
        folder.run(&format!("export {name}.adapter -o {name}")).ok();
        let tensors = folder.read(&format!("{name}/adapter.safetensors"));
        let mut tensors = ingraft_import::read_tensors(&tensors).expect("what was exported reads");
        tensors.retain(|name, _| name.starts_with("terms/") && !name.contains("two_factor"));
        tensors
    };
    assert!(!scores("merged").is_empty() && scores("merged") == scores("start"), "the first, as it was");
    let trained = folder.run(&line(&format!("{task} --on domain.adapter --epochs 6 -o task.adapter"))).json();
    assert!(scores("merged") == scores("task"), "the first, as it was");
    assert!(number(&trained["accuracy"]) > 0.8, "{trained:#}");
    let refused = |options: &str, words: &[&str]| folder.run(&line(options)).refused(words);
    refused("--method full --sites late --on domain.adapter -o e.adapter", &["site ", "no room"]);
    // What came of it is a stack: its second member is trained on, and the first stays.
    let members = |name: &str| {
        let shown = folder.run(&format!("inspect {name} --json")).json();
        let list = shown["members"].as_array().expect("a list").clone();
        let state = |m: &serde_json::Value| if m["frozen"] == true { "frozen" } else { "trained" };
        list.iter()
            .map(|m| format!("{} {}", m["name"].as_str().expect("a text"), state(m)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let both = "domain frozen, task trained";
    assert_eq!(members("task.adapter"), both);
    assert_eq!(members("domain.adapter"), "");
    folder.run(&line("--from task.adapter --seed 3 --epochs 0 -o same.adapter")).ok();
    folder.run("export same.adapter -o same").ok();
    folder.run("export task.adapter -o task").ok();
    let terms = |name: &str| {
        let tensors = folder.read(&format!("{name}/adapter.safetensors"));
        let mut tensors = ingraft_import::read_tensors(&tensors).expect("what was exported reads");
        tensors.retain(|name, _| name.starts_with("terms/"));
        tensors
    };
    assert!(terms("same") == terms("task"), "without a step it is what it was");
    let on = folder.run(&line("--from task.adapter --epochs 2 -o on.adapter")).ok();
    assert!(on.err.contains("going on from") && on.err.contains("and its head"), "{}", on.err);
    assert_eq!(members("on.adapter"), both);
    assert!(scores("merged") == scores("on") && terms("on") != terms("task"), "the second alone moved");
    // Flags are changed, and members taken out, by composing anew.
    let stack =
        |options: &str| folder.run(&format!("compose on.adapter --base base.plan --by stack {options}"));
    stack("--freeze task -o turned.adapter").ok();
    assert_eq!(members("turned.adapter"), "domain trained, task frozen");
    folder.run(&line("--from turned.adapter --epochs 1 -o domain-on.adapter")).ok();
    stack("--freeze= -o thawed.adapter").ok();
    let thawed = folder.run(&line("--from thawed.adapter -o e.adapter"));
    thawed.misused(&["one method is trained at a time", "domain, task"]);
    stack("--features task -o alone.adapter").ok();
    assert_eq!(members("alone.adapter"), "task trained");
    stack("--features nobody -o e.adapter").misused(&["--features", "domain, task"]);
    stack("--weights 2 -o e.adapter").misused(&["--weights", "stack"]);
    folder.run("compose on.adapter --base base.plan --freeze task -o e.adapter").misused(&["--by stack"]);
    folder.run("compose on.adapter --base base.plan -o one.adapter").ok();
    assert_eq!(members("one.adapter"), "");
    let both = "--from domain.adapter --on domain.adapter -o e.adapter";
    folder.run(&line(both)).misused(&["--from"]);
}

/// The weights from before rounding: of a base of codes the model file has them, of one of reals the plan.
#[test]
fn real_weights_are_asked_for_where_the_plan_has_none() {
    let folder = prepared("real-weights", 3);
    folder.run(&COMPILE.replace("base.onnx -o base.plan", "base_f32.onnx -o real.plan --allow-float")).ok();
    let train = |plan: &str, settings: &str| {
        folder.run(&format!(
            "train {plan} --data clips --method l4q {settings} --sites late --epochs 1 -o a.adapter"
        ))
    };
    train("base.plan", "--set weights=float").misused(&["weights=float", "--onnx"]);
    train("real.plan", "--set weights=float").ok();
    let given = folder.read("a.adapter");
    train("real.plan", "--set weights=float --onnx base_f32.onnx").ok();
    assert!(folder.read("a.adapter") == given, "the plan has the same weights");
}

/// Useful sites are some of all, fit, and are the same again; with room for all that are worth anything, none is left out.
#[test]
fn useful_sites_are_chosen_within_the_memory() {
    let folder = prepared("useful", 2);
    let line = "train base.plan --data clips --set rank=4 --epochs 1 --json -o";
    let arena = |report: &Value| report["arena_bytes"].as_u64().expect("a count of bytes");
    let names = |report: &Value| -> Vec<String> {
        let sites = report["sites"].as_array().expect("a list").iter();
        sites.map(|site| site["name"].as_str().expect("a name").to_owned()).collect()
    };
    let all = folder.run(&format!("{line} all.adapter --method lora --sites all")).json();
    let useful = |budget: u64, out: &str| {
        folder.run(&format!("{line} {out} --method lora --sites useful --memory {budget}")).json()
    };
    assert_eq!(names(&useful(arena(&all), "whole.adapter")), names(&all));
    let (mut budget, mut offered) = (arena(&all) - 1, names(&all));
    for _ in 0..3 {
        let some = useful(budget, "some.adapter");
        assert!(arena(&some) <= budget, "{} of {budget}", arena(&some));
        let chosen = names(&some);
        assert!(!chosen.is_empty() && chosen.len() < offered.len(), "{chosen:?} of {offered:?}");
        assert!(chosen.iter().all(|site| names(&all).contains(site)), "{chosen:?}");
        (budget, offered) = (arena(&some) - 1, chosen);
    }
    let budget = arena(&all) - 1;
    useful(budget, "some.adapter");
    useful(budget, "again.adapter");
    assert!(folder.read("some.adapter") == folder.read("again.adapter"));

    let refused = format!("{line} none.adapter --method lora --sites useful");
    folder.run(&refused).misused(&["--sites useful", "--memory"]);
    folder.run(&format!("{refused} --memory 1000")).refused(&["more than --memory gives"]);
    folder.run(&format!("{refused} --memory 9000000 --private --yes")).refused(&["--sites", "by the clips"]);
    assert!(!folder.path("none.adapter").exists());
}
