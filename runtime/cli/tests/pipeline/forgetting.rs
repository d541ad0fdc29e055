//! What training costs of what was known before, as `train --old` tells it.

use serde_json::{Value, json};

use crate::fixture::{SOUNDS, lay_out};
use crate::process::Folder;

const COMPILE: &str = "compile base.onnx -o base.plan --dim N=1 --front-end yamnet --labels labels.txt \
                       --train-from all --head-classes 4";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn move_folder(folder: &Folder, from: &str, to: &str) {
    std::fs::create_dir_all(folder.path(to).parent().expect("a folder lies in one"))
        .expect("a folder can be made");
    std::fs::rename(folder.path(from), folder.path(to)).expect("a folder moves");
}

#[test]
fn a_new_head_keeps_what_it_has_and_forgets_what_it_lacks() {
    let folder = Folder::new("forgetting");
    lay_out(&folder, 6);
    folder.run(COMPILE).ok();
    let [first, siren, beeper] = SOUNDS.map(|sound| sound.name());
    // Known at first: the first sound and sirens. Learned then: sirens and beeps.
    move_folder(&folder, &format!("clips/{beeper}"), &format!("new/{beeper}"));
    folder.run("train base.plan --data clips --method head --epochs 30 -o old.adapter").ok();
    let known = folder.run("eval base.plan --data clips --adapter old.adapter --json").json();
    let line = "train base.plan --data new --method head --epochs 30 -o new.adapter";
    let old = "--old clips --old-adapter old.adapter";
    (0..6).for_each(|clip| {
        let name = format!("{siren}/{clip}.wav");
        folder.write(format!("new/{name}"), &folder.read(&format!("clips/{name}")));
    });
    let report = folder.run(&format!("{line} {old} --json")).json();
    let told = &report["forgetting"];
    let learned = folder.run("eval base.plan --data new --adapter new.adapter --json").json();
    let accuracy = |report: &Value, name: &str, field: &str| {
        let classes = report["per_class"].as_array().expect("a list");
        number(&classes.iter().find(|class| class["class"] == json!(name)).expect("a class")[field])
    };
    for name in [first, siren] {
        assert_eq!(accuracy(told, name, "before"), accuracy(&known, name, "accuracy"), "{told:#}");
        assert_eq!(accuracy(told, name, "n"), 6.0);
    }
    assert_eq!(accuracy(told, first, "after"), 0.0, "a head without it");
    assert_eq!(accuracy(told, siren, "after"), accuracy(&learned, siren, "accuracy"));
    let (before, after) = (number(&told["before"]), number(&told["after"]));
    assert_eq!((number(&told["forgotten"]), &told["n"]), (before - after, &json!(12)));
    assert!(before > 0.9 && after > 0.3 && after <= 0.5, "{told:#}");

    // Kept among what is learned, it is not forgotten.
    (0..6).for_each(|clip| {
        let name = format!("{first}/{clip}.wav");
        folder.write(format!("new/{name}"), &folder.read(&format!("clips/{name}")));
    });
    let kept = folder.run(&format!("{line} {old} --json")).json();
    assert!(number(&kept["forgetting"]["after"]) > 0.8, "{kept:#}");
    let text = folder.run(&format!("{line} {old}")).ok().out;
    assert!(text.contains("old classes") && text.contains("old class ") && text.contains(first), "{text}");
    assert_eq!(folder.run(&format!("{line} --json")).json()["forgetting"], Value::Null);

    folder.run(&format!("{line} --old-adapter old.adapter")).misused(&["--old"]);
    // The base knows other classes.
    folder.run(&format!("{line} --old clips")).refused(&["class", "not among those of the model"]);
}

/// An adapter that was not trained leaves the model's own classes where they were.
#[test]
fn nothing_learned_is_nothing_forgotten() {
    let folder = Folder::new("nothing_forgotten");
    lay_out(&folder, 3);
    folder.run(COMPILE).ok();
    for (sound, name) in SOUNDS.iter().zip(["rain", "drone", "helicopter"]) {
        move_folder(&folder, &format!("clips/{}", sound.name()), &format!("own/{name}"));
    }
    let line =
        "train base.plan --data own --method lora --sites late --head none --old own -o a.adapter --json";
    let idle = folder.run(&format!("{line} --epochs 0")).json();
    let base = folder.run("eval base.plan --data own --json").json();
    let told = &idle["forgetting"];
    assert_eq!((number(&told["forgotten"]), &told["before"]), (0.0, &told["after"]));
    assert!((number(&told["before"]) - number(&base["accuracy"])).abs() < 1e-12, "classes of as many clips");
    let moved = folder.run(&format!("{line} --epochs 20")).json();
    assert!(number(&moved["forgetting"]["forgotten"]) < 0.0, "what is learned is what is judged: {moved:#}");
}
