//! Training privately, sharing what was, refusing what was not, and attacking it.

use ingraft_dataset::Array;
use serde_json::{Value, json};

use crate::fixture::{clip, data, lay_out, npy, wav};
use crate::process::Folder;
use ingraft_models::demo::SAMPLE_RATE;
use ingraft_models::demo::synth::Sound;

/// The built-in model and clips to learn from.
fn prepared(name: &str, count: u64) -> Folder {
    let folder = Folder::new(name);
    lay_out(&folder, count);
    folder.run("compile base.onnx -o base.plan --dim N=1 --front-end yamnet --train-from late --labels labels.txt").ok();
    folder
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

const PRIVATE: &str = "train base.plan --data clips --private --yes";

#[test]
fn a_private_adapter_says_so_and_is_shared() {
    let folder = prepared("private", 4);
    let trained = folder.run(&format!("{PRIVATE} --epsilon 6 -o a.adapter --json")).json();
    let privacy = &trained["privacy"];
    assert!(number(&privacy["epsilon"]) <= 6.0 && number(&privacy["epsilon"]) > 5.9, "{trained:#}");
    assert!((number(&privacy["delta"]) - 1.0 / 144.0).abs() < 1e-9, "{trained:#}");
    assert_eq!(
        (&privacy["unit"], &privacy["units"], &privacy["runs"]),
        (&json!("clip"), &json!(12), &json!(1))
    );
    // A head alone, and steps of half of the units each.
    assert_eq!((&trained["sites"], &trained["steps"]), (&json!([]), &json!(40)));
    assert_eq!(folder.run("inspect a.adapter --json").json()["privacy"], *privacy);

    let shared = folder.run("export a.adapter --share -o shared.adapter").ok();
    assert!(shared.out.contains("differentially private for each clip of 12"), "{}", shared.out);
    assert_eq!(folder.read("shared.adapter"), folder.read("a.adapter"));
    let told = folder.run("export a.adapter --share -o shared.adapter --json").json();
    assert_eq!((&told["privacy"], &told["files"]), (privacy, &json!(["shared.adapter"])));
    // Where the clips lay is not told.
    assert!(!String::from_utf8_lossy(&folder.read("a.adapter")).contains("clips"));

    // Nobody draws the same noise again, whatever the seed.
    folder.run(&format!("{PRIVATE} --epsilon 6 --seed 0 -o b.adapter")).ok();
    assert_ne!(folder.read("a.adapter"), folder.read("b.adapter"));
}

#[test]
fn what_was_not_trained_privately_never_says_so() {
    let folder = prepared("open", 4);
    folder.run("train base.plan --data clips --method head --epochs 2 -o open.adapter").ok();
    let refused = |adapter: &str| {
        let line = format!("export {adapter} --share -o shared.adapter");
        folder.run(&line).refused(&[adapter, "--private", "train again"]);
        assert!(!folder.path("shared.adapter").exists());
    };
    refused("open.adapter");
    let line = "train base.plan --data clips --private --yes --from open.adapter -o c.adapter";
    folder.run(line).refused(&["--private: --from", "start anew"]);
    // Neither does what is made of private ones by other ways: only training vouches for it.
    folder.run(&format!("{PRIVATE} -o private.adapter")).ok();
    folder.run("train base.plan --data clips --from private.adapter --epochs 1 -o on.adapter").ok();
    refused("on.adapter");
    folder.run("export private.adapter -o exported").ok();
    folder.run("import exported --base base.plan -o imported.adapter").ok();
    refused("imported.adapter");
    folder.run(&format!("{PRIVATE} --method lora --sites late -o lora.adapter")).ok();
    folder.run("export lora.adapter --share -o lora.shared").ok();
    folder.run("compose lora.adapter --base base.plan -o sum.adapter").ok();
    refused("sum.adapter");
}

#[test]
fn going_on_privately_adds_up() {
    let folder = prepared("adding", 4);
    folder.run(&format!("{PRIVATE} --epsilon 3 -o a.adapter")).ok();
    let on = folder.run(&format!("{PRIVATE} --epsilon 2 --from a.adapter -o b.adapter --json")).json();
    let privacy = &on["privacy"];
    assert!(number(&privacy["epsilon"]) > 4.98 && number(&privacy["epsilon"]) <= 5.0, "{on:#}");
    assert!((number(&privacy["delta"]) - 2.0 / 144.0).abs() < 1e-9 && privacy["runs"] == json!(2), "{on:#}");
}

#[test]
fn whatever_else_looks_at_the_clips_is_refused() {
    let folder = prepared("looks", 2);
    for (options, words) in [
        ("--prototypes", "--prototypes"),
        ("--balance", "--balance"),
        ("--hold-out 0.2", "--hold-out"),
        ("--patience 3", "--patience"),
        ("--augment mix=5..20", "--augment"),
        ("--method speft", "--method"),
        ("--checkpoint run.chk", "--checkpoint"),
    ] {
        folder.run(&format!("{PRIVATE} -o a.adapter {options}")).refused(&["--private: ", words]);
    }
    for (options, words) in [
        ("--epsilon 0", "--epsilon"),
        ("--epsilon nan", "--epsilon"),
        ("--delta 0.5", "--delta"),
        ("--clip-norm inf", "--clip-norm"),
        ("--unit group", "column `group`"),
    ] {
        folder.run(&format!("{PRIVATE} -o a.adapter {options}")).misused(&[words]);
    }
    folder.run("train base.plan --data clips --method head --epsilon 3 -o a.adapter").misused(&["--private"]);
    assert!(!folder.path("a.adapter").exists());
}

/// Few units cost accuracy: it is said, and somebody has to agree.
#[test]
fn few_units_want_a_yes() {
    let folder = prepared("few", 2);
    let line = "train base.plan --data clips --private -o a.adapter";
    folder.run(line).refused(&["6 units are few", "uav_detect", "--yes"]);
    folder.feed(line, b"n\n").refused(&["--yes"]);
    assert!(!folder.path("a.adapter").exists());
    assert!(folder.feed(line, b"y\n").ok().err.contains("6 units are few"));
    assert!(folder.path("a.adapter").exists());
}

#[test]
fn a_group_is_one_unit() {
    let folder = prepared("group", 1);
    let mut table = String::from("file,label,group\n");
    for (sound, label) in [(Sound::Normal, "normal"), (Sound::Siren, "siren")] {
        for seed in 0..6 {
            folder.write(format!("told/{label}{seed}.wav"), &wav(&clip(sound, seed, SAMPLE_RATE as usize)));
            table += &format!("{label}{seed}.wav,{label},day{}\n", seed / 2);
        }
    }
    folder.write("told/labels.csv", table.as_bytes());
    let line = "train base.plan --data told --private --yes --unit group -o a.adapter --json";
    let privacy = &folder.run(line).json()["privacy"];
    assert_eq!((&privacy["unit"], &privacy["units"]), (&json!("group"), &json!(3)));
    assert!((number(&privacy["delta"]) - 1.0 / 9.0).abs() < 1e-9);
    let by_clip = "train base.plan --data told --private --yes --from a.adapter -o b.adapter";
    folder.run(by_clip).refused(&["--private: --unit"]);
}

/// Features, of enough units that nobody has to agree: they are learned.
#[test]
fn enough_units_are_learned_privately() {
    let folder = prepared("enough", 1);
    let plan = folder.run("inspect base.plan --json").json();
    let input = plan["inputs"][0]["shape"].as_array().expect("a shape").clone();
    let shape: Vec<usize> = input.iter().map(|dim| dim.as_u64().expect("a count") as usize).collect();
    let len: usize = shape.iter().product();
    // Two classes of constant spectrograms with a little of their own.
    let (count, mut values, mut table) = (500, Vec::new(), String::from("label\n"));
    for row in 0..count {
        let level = if row % 2 == 0 { 0.5 } else { -4.0 };
        values.extend((0..len).map(|i| level + ((i * 7 + row * 13) % 17) as f32 / 17.0));
        table += if row % 2 == 0 { "loud\n" } else { "quiet\n" };
    }
    let mut rows = vec![count];
    rows.extend(shape.iter().skip(1));
    folder.write("rows/features.npy", &npy(&Array::from_values(&rows, &values).expect("rows")));
    folder.write("rows/labels.csv", table.as_bytes());
    let trained = folder.run("train base.plan --data rows --private -o a.adapter --json").json();
    println!("{count} units: {}", trained["accuracy"]);
    assert!(number(&trained["accuracy"]) > 0.95, "{trained:#}");
    assert!((number(&trained["privacy"]["delta"]) - 4e-6).abs() < 1e-12);
}

/// On fewer records and adapters than its defaults: raw gradients are read, adapters without privacy tell members better.
#[test]
fn attacks_read_raw_gradients() {
    let folder = prepared("audit", 1);
    let line = "audit base.plan --records 300 --runs 8 --examples 40";
    let told = folder.run(&format!("{line} --json")).json();
    assert_eq!(told["trials"], json!(2400));
    assert!(number(&told["inversion"]["raw"]) > 0.9, "{told:#}");
    assert!(number(&told["inversion"]["private"]) < 0.1 && number(&told["inversion"]["adapter"]) < 0.1);
    let auc = |side: &str| number(&told[side]["likelihood"]["auc"]);
    assert!(auc("membership_plain") > auc("membership"), "{told:#}");
    assert!(number(&told["membership"]["upper_bound"]) < 0.65, "{told:#}");
    assert_eq!(told["token_span"], Value::Null);
    let table = folder.run(line).ok().out;
    assert!(table.contains("raw gradient of one") && table.contains("2400 trials"), "{table}");
    folder.run("audit base.plan --text base.plan").misused(&["--text", "a table of tokens"]);
}

/// On MiniLM, with every token of its vocabulary tried at every place.
#[test]
fn the_words_of_a_sentence_lie_in_its_raw_gradient() {
    let Some(data) = data() else { return };
    let folder = prepared("words", 1);
    let model = data.join("models/onnx/minilm_l6_int8_dynamic.onnx");
    let options = "--dim B=1 --dim L=4 --allow-float --train-from all";
    folder.run(&format!("compile {} -o text.plan {options}", model.display())).ok();
    let line = "audit base.plan --text text.plan --records 40 --runs 4 --examples 2 --json";
    let span = &folder.run(line).json()["token_span"];
    println!("{span:#}");
    assert_eq!(
        (&span["vocabulary"], &span["tokens"], &span["examples"]),
        (&json!(30522), &json!(4), &json!(2))
    );
    assert!(number(&span["raw"]) > 0.9 && number(&span["private"]) < 0.1, "{span:#}");
}
