//! Methods side by side.

use serde_json::{Value, json};

use crate::fixture::{SOUNDS, lay_out};
use crate::process::Folder;

const COMPILE: &str =
    "compile base.onnx -o base.plan --dim N=1 --front-end yamnet --train-from all --head-classes 4";

/// A folder with a plan, `count` clips of each class, and a split file of two folds.
fn prepared(test: &str, count: u64) -> Folder {
    let folder = Folder::new(test);
    lay_out(&folder, count);
    folder.run(COMPILE).ok();
    let mut split = "fold,file\n".to_owned();
    for sound in SOUNDS {
        (0..count).for_each(|seed| split += &format!("{},{}/{seed}.wav\n", seed % 2, sound.name()));
    }
    folder.write("split.csv", split.as_bytes());
    folder
}

fn method<'r>(report: &'r Value, name: &str) -> &'r Value {
    let mut methods = report["methods"].as_array().expect("a list").iter();
    methods.find(|method| method["method"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// A study says what training and judging one by one say, of a method that chooses by gradients too.
#[test]
fn figures_are_those_of_single_runs() {
    let folder = prepared("study", 4);
    let course = "--epochs 4 --sites late --split split.csv";
    let report = folder
        .run(&format!("study base.plan --data clips --methods lora,speft,head --set lora.rank=2 {course} --seeds 2 --jobs 2 --json"))
        .json();
    assert_eq!((&report["runs"], &report["clips"], &report["epochs"]), (&json!(4), &json!(12), &json!(4)));
    for (name, settings) in [("head", ""), ("lora", "--set rank=2"), ("speft", "")] {
        let found = method(&report, name);
        assert_eq!((&found["refused"], &found["n"]), (&Value::Null, &json!(12)), "{name}");
        let mut single = Vec::new();
        for (seed, fold) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let line =
                format!("train base.plan --data clips --method {name} {settings} {course} --fold {fold}");
            single.push(folder.run(&format!("{line} --seed {seed} --terms-only -o a.adapter --json")).json());
        }
        let by_run: Vec<f64> = single.iter().filter_map(|run| run["accuracy"].as_f64()).collect();
        assert_eq!(found["by_run"], json!(by_run), "{name}");
        let mean = by_run.iter().sum::<f64>() / 4.0;
        assert!((found["accuracy"].as_f64().expect("a share") - mean).abs() < 1e-9, "{name}: {found:#}");
        let interval =
            [&found["interval"][0], &found["interval"][1]].map(|end| end.as_f64().expect("an end"));
        assert!(interval[0] <= mean && mean <= interval[1], "{name}: {found:#}");
        assert_eq!(found["trained_parameters"], single[0]["trained_parameters"], "{name}");
        // The files differ in their provenance.
        let bytes = single.iter().filter_map(|run| run["adapter_bytes"].as_u64()).max().expect("a size");
        assert!(found["adapter_bytes"].as_u64().expect("a size").abs_diff(bytes) <= 64, "{name}");
        assert!(found["arena_bytes"].as_u64() >= single[0]["arena_bytes"].as_u64(), "{name}");
        assert_eq!(found["losses"].as_array().map(Vec::len), Some(4), "{name}");
        let judged: u64 = found["confusion"]
            .as_array()
            .expect("rows")
            .iter()
            .flat_map(|row| row.as_array().expect("counts"))
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!(judged, 24, "{name}");
        assert!(found["infer_us"].as_f64() > Some(0.0) && found["seconds"].as_f64() > Some(0.0), "{name}");
    }
    // What is measured takes the memory of `full`.
    let full = folder
        .run(&format!("train base.plan --data clips --method full {course} -o a.adapter --json"))
        .json();
    assert_eq!(method(&report, "speft")["arena_bytes"], full["arena_bytes"]);
}

/// A study goes on from the runs that are kept, whichever study made them, and says what one made at once says.
#[test]
fn runs_that_are_kept_are_not_made_again() {
    let folder = prepared("study_runs", 2);
    let figures = |options: &str| {
        let line = "study base.plan --data clips --methods lora,head --epochs 2 --split split.csv --json";
        let mut report = folder.run(&format!("{line} {options}")).json();
        for method in report["methods"].as_array_mut().expect("a list") {
            for measured in ["seconds", "infer_us", "overhead"] {
                assert!(method[measured].as_f64().is_some(), "{measured}: {method:#}");
                method[measured] = Value::Null;
            }
        }
        report
    };
    let whole = figures("--seeds 2");
    assert_eq!(figures("--seeds 1 --runs runs")["runs"], 2);
    // Two methods on two folds, and the adapter of each on the first.
    let first = folder.files("runs");
    assert_eq!(first.len(), 6, "{first:?}");
    let written = || -> Vec<_> { first.iter().map(|name| folder.written(&format!("runs/{name}"))).collect() };
    let times = written();
    assert_eq!(figures("--seeds 2 --runs runs"), whole);
    assert_eq!(folder.files("runs").len(), 10);
    assert_eq!(written(), times);
    // What was kept is what is told: a run that is judged wrong on all counts so.
    let path =
        first.iter().find(|name| name.ends_with(".json")).map(|name| format!("runs/{name}")).expect("a run");
    let kept = folder.read(&path);
    let mut verdict: Value = serde_json::from_slice(&kept).expect("JSON");
    for clip in verdict["clips"].as_array_mut().expect("a list") {
        clip[2] = json!((clip[1].as_u64().expect("a class") + 1) % 3);
    }
    folder.write(&path, verdict.to_string().as_bytes());
    assert_ne!(figures("--seeds 2 --runs runs"), whole);
    // What cannot be read is made again, and so is what differs.
    folder.write(&path, &kept[..kept.len() / 2]);
    assert_eq!(figures("--seeds 2 --runs runs"), whole);
    assert_ne!(figures("--seeds 2 --runs runs --lr 1e-3"), whole);
    assert_eq!(folder.files("runs").len(), 20);
    folder
        .run("study base.plan --data clips --methods lora --folds 2 --runs base.plan")
        .refused(&["base.plan"]);
}

#[test]
fn a_budget_decides_ranks_and_refuses_the_rest() {
    let folder = prepared("study_budget", 2);
    let line = "study base.plan --data clips --methods all --folds 2 --epochs 1 --sites late --jobs 2 --parameters 3000 --html page.html --json";
    let report = folder.run(line).json();
    let listed = folder.run("methods --json").json();
    assert_eq!(
        report["methods"].as_array().map(Vec::len),
        listed.as_array().map(Vec::len),
        "every method is a row"
    );
    let lora = method(&report, "lora");
    let trained = |rank: u64| {
        let line =
            format!("train base.plan --data clips --method lora --set rank={rank} --epochs 1 --sites late");
        folder.run(&format!("{line} -o a.adapter --json")).json()["trained_parameters"].as_u64()
    };
    let rank: u64 = lora["settings"]["rank"].as_str().and_then(|rank| rank.parse().ok()).expect("a rank");
    assert_eq!(lora["trained_parameters"].as_u64(), trained(rank));
    assert!(trained(rank) <= Some(3000) && trained(rank + 1) > Some(3000), "{lora:#}");
    let full = method(&report, "full");
    let reason = full["refused"].as_str().expect("a reason");
    assert!(reason.contains("--parameters") && full["accuracy"].is_null(), "{full:#}");
    for row in report["methods"].as_array().expect("a list") {
        assert!(row["refused"].is_string() || row["trained_parameters"].as_u64() <= Some(3000), "{row:#}");
        assert_eq!(row["refused"].is_null(), row["accuracy"].is_number(), "{row:#}");
    }
    let page = String::from_utf8(folder.read("page.html")).expect("a page is text");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let plots = page.matches("<svg").count();
    let measured =
        report["methods"].as_array().expect("a list").iter().filter(|row| row["refused"].is_null()).count();
    // Accuracy, memory and time, then a curve and a matrix for each method.
    assert_eq!(plots, 3 + 2 * measured);
    assert!(!page.contains("http") && !page.contains("<script") && page.contains("--parameters allows"));
}

#[test]
fn a_method_that_cannot_be_used_is_a_row_with_its_reason() {
    let folder = prepared("study_refused", 2);
    let sites = folder.run("inspect base.plan --json").json()["sites"].clone();
    let depthwise = sites.as_array().expect("a list").iter().find(|site| site["kind"] == "depthwise");
    let name = depthwise.expect("the model has one")["name"].as_str().expect("a name");
    let line =
        format!("study base.plan --data clips --methods bias,gralora --folds 2 --epochs 1 --sites ^{name}$");
    let report = folder.run(&format!("{line} --json")).json();
    assert!(method(&report, "bias")["accuracy"].is_number());
    let refused = method(&report, "gralora")["refused"].as_str().expect("a reason");
    let alone = folder.run(&format!(
        "train base.plan --data clips --method gralora --epochs 1 --sites ^{name}$ -o a.adapter"
    ));
    assert_eq!((alone.code, alone.err.lines().last()), (Some(1), Some(format!("error: {refused}").as_str())));
    let table = folder.run(&line).ok().out;
    assert!(table.contains(refused) && table.starts_with("method"), "{table}");
}

#[test]
fn studies_that_make_no_sense() {
    let folder = prepared("study_misused", 2);
    let study = |options: &str| folder.run(&format!("study base.plan --data clips {options}"));
    study("").misused(&["--methods"]);
    study("--methods lora,telepathy").misused(&["telepathy"]);
    study("--methods lora --folds 1").misused(&["--folds"]);
    study("--methods lora --folds 2 --split split.csv").misused(&["--split"]);
    study("--methods lora,head --set colour=red").misused(&["colour=red", "none of the methods"]);
    study("--methods lora,head --set dora.rank=2").misused(&["dora.rank=2"]);
    study("--methods lora --folds 7").refused(&["7 folds"]);
    study("--methods lora --folds 2 --html none/page.html").refused(&["none: No such file"]);
}
