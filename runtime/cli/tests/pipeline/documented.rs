//! What `--json` prints is what the README of this package says, field by field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::fixture::{clip, lay_out, pcm};
use crate::process::Folder;
use ingraft_models::demo::PATCH_SAMPLES;
use ingraft_models::demo::synth::Sound;

/// Fields by the heading they stand under; a map with names of its own in place of fields ends in `.*`.
type Schemas = BTreeMap<String, BTreeSet<String>>;

/// The first column of the tables under headings that end in `--json`.
fn documented() -> Schemas {
    let mut schemas = Schemas::new();
    let mut heading = None;
    for line in include_str!("../../README.md").lines() {
        if let Some(title) = line.strip_prefix('#') {
            let title = title.trim_start_matches('#').trim().replace('`', "");
            heading = Some(title).filter(|title| title.ends_with("--json"));
        } else if let Some(title) = &heading {
            let fields = schemas.entry(title.clone()).or_default();
            let field = line.strip_prefix("| `").and_then(|rest| rest.split('`').next());
            fields.extend(field.map(str::to_owned));
        }
    }
    schemas
}

/// Collects the paths of the leaves of `value`.
fn leaves(value: &Value, path: &str, maps: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let any = if path.is_empty() { "*".to_owned() } else { format!("{path}.*") };
                let own = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, if maps.contains(&any) { &any } else { &own }, maps, found);
            }
        }
        Value::Array(values) if values.iter().any(|v| v.is_object() || v.is_array()) => {
            values.iter().for_each(|value| leaves(value, &format!("{path}[]"), maps, found));
        }
        Value::Array(_) => drop(found.insert(format!("{path}[]"))),
        _ => drop(found.insert(path.to_owned())),
    }
}

/// What commands print, by the heading that documents it.
fn printed(folder: &Folder) -> [(&'static str, Vec<Value>); 16] {
    let json = |line: &str| folder.run(&format!("{line} --json")).json();
    let float = json("compile base_f32.onnx -o float.plan --dim N=1 --float");
    let options = "--dim N=1 --front-end yamnet --train-from all --labels labels.txt";
    let base = json(&format!("compile base.onnx -o base.plan {options}"));
    let plans = vec![json("inspect float.plan"), json("inspect base.plan --method lora")];
    let train = "train base.plan --data clips --method lora --set rank=1 --epochs 2 -o a.adapter";
    let private = "train base.plan --data clips --private --yes --epochs 1 -o p.adapter";
    let trained = vec![
        json(private),
        json(train),
        json(&format!("{train} --old clips --old-adapter a.adapter --replay a.replay")),
    ];
    folder.run("compose a.adapter --base base.plan --by stack -o stack.adapter").ok();
    let stack = json("inspect stack.adapter");
    let samples = pcm(&clip(Sound::Siren, 1, PATCH_SAMPLES));
    [
        ("compile --json", vec![float, base]),
        ("inspect BASE.plan --json", plans),
        ("train --json", trained),
        ("inspect A.adapter --json", vec![json("inspect a.adapter"), json("inspect p.adapter"), stack]),
        ("run --json", vec![json("run base.plan --input clip.wav --profile")]),
        ("run --input - --json", folder.feed("run base.plan --input - --json", &samples).json_lines()),
        ("eval --json", vec![json("eval base.plan --data clips --adapter a.adapter")]),
        (
            "study --json",
            vec![json("study base.plan --data clips --methods lora --set rank=1 --epochs 1 --folds 3")],
        ),
        ("bench --json", vec![json("bench base.plan")]),
        (
            "export --json",
            vec![json("export a.adapter -o exported"), json("export p.adapter --share -o shared.adapter")],
        ),
        ("import --json", vec![json("import exported --base base.plan -o again.adapter")]),
        ("keygen --json", vec![json("keygen -o key")]),
        ("sign --json", vec![json("sign a.adapter --key key --version 1 --expires 2999-01-01")]),
        ("verify --json", vec![json("verify a.adapter --trust key.pub")]),
        ("audit --json", vec![json("audit base.plan --records 40 --runs 4 --examples 2")]),
        ("methods --json", vec![json("methods")]),
    ]
}

#[test]
fn every_field_printed_is_documented_and_the_other_way_round() {
    let folder = Folder::new("documented");
    lay_out(&folder, 3);
    let printed = printed(&folder);
    let mut documented = documented();
    let of_plans = documented["inspect BASE.plan --json"].iter();
    let of_plans: Vec<String> = of_plans.filter(|field| !field.starts_with("training")).cloned().collect();
    documented.entry("compile --json".to_owned()).or_default().extend(of_plans);
    let titles: BTreeSet<&str> = printed.iter().map(|(title, _)| *title).collect();
    assert_eq!(documented.keys().map(String::as_str).collect::<BTreeSet<_>>(), titles);
    for (title, values) in printed {
        let fields = &documented[title];
        let mut found = BTreeSet::new();
        values.iter().for_each(|value| leaves(value, "", fields, &mut found));
        // A list may be empty and an object null, here once and there always.
        let shows_more = |path: &str| found.iter().any(|other| is_below(other, path));
        let found: BTreeSet<&str> =
            found.iter().map(String::as_str).filter(|path| !shows_more(path)).collect();
        let could_show_more = |path: &str| fields.iter().any(|field| is_below(field, path));
        let hidden = |field: &str| found.iter().any(|path| is_below(field, path));
        let wanted: BTreeSet<&str> =
            fields.iter().map(String::as_str).filter(|field| !hidden(field)).collect();
        let found: BTreeSet<&str> = found.iter().copied().filter(|path| !could_show_more(path)).collect();
        assert_eq!(found, wanted, "{title}");
    }
}

/// Whether `path` is a field of the object or of the list of objects at `above`.
fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]."))
}

/// The options under `## COMMAND`, and those that `--help` lists.
#[test]
fn every_option_is_documented_and_the_other_way_round() {
    let folder = Folder::new("options");
    let readme = include_str!("../../README.md");
    for command in [
        "compile", "inspect", "run", "train", "eval", "study", "bench", "import", "export", "compose",
        "compress", "slice", "merge", "keygen", "sign", "verify", "audit", "methods", "demo",
    ] {
        let heading = format!("\n## `{command}`\n");
        let (_, section) = readme.split_once(&heading).unwrap_or_else(|| panic!("no section on {command}"));
        let section = section.split("\n## ").next().expect("a first part");
        let options = |lines: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
            let option = |line: &str| {
                let (_, rest) = line.split_once("--")?;
                Some(rest.split(|c: char| c != '-' && !c.is_ascii_lowercase()).next()?.to_owned())
            };
            lines.filter_map(option).filter(|name| name != "help").collect()
        };
        let documented = options(&mut section.lines().filter(|line| line.starts_with("| `--")));
        let help = folder.run(&format!("{command} --help")).ok().out;
        let listed = options(&mut help.lines().filter(|line| line.trim_start().starts_with('-')));
        assert_eq!(documented, listed, "{command}");
    }
}
