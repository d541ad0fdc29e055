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

/// Clips of the first session are learned again in the second, from a file of bounded size.
#[test]
fn replay_keeps_old_classes() {
    let folder = Folder::new("replay");
    lay_out(&folder, 6);
    folder.run(COMPILE).ok();
    let [first, siren, beeper] = SOUNDS.map(|sound| sound.name());
    move_folder(&folder, &format!("clips/{beeper}"), &format!("new/{beeper}"));
    let line = "train base.plan --method lora --sites late --epochs 20 --lr 0.01";
    let begin = "--data clips --replay s.replay --replay-clips 8 -o old.adapter";
    let begun = folder.run(&format!("{line} {begin} --json")).json();
    let kept = |report: &Value| -> Vec<(String, u64, u64)> {
        let classes = report["replay"]["per_class"].as_array().expect("a list").iter();
        let of = |class: &Value, field: &str| class[field].as_u64().expect("a count");
        let named = |class: &Value| class["class"].as_str().expect("a name").to_owned();
        classes.map(|class| (named(class), of(class, "kept"), of(class, "seen"))).collect()
    };
    assert_eq!((&begun["replay"]["clips"], &begun["replay"]["kept"]), (&json!(0), &json!(8)));
    let mut known = kept(&begun);
    known.sort();
    let mut expected = [(first.to_owned(), 4, 6), (siren.to_owned(), 4, 6)];
    expected.sort();
    assert_eq!(known, expected);
    let file = folder.read("s.replay");
    assert_eq!(begun["replay"]["file_bytes"], json!(file.len()));

    let go_on = "--data new --from old.adapter --old clips --old-adapter old.adapter -o new.adapter";
    let alone = folder.run(&format!("{line} {go_on} --json")).json();
    let mixed = folder.run(&format!("{line} {go_on} --replay s.replay --json")).json();
    assert_eq!((&mixed["replay"]["clips"], &mixed["train_clips"]), (&json!(8), &json!(14)));
    let after = |report: &Value| number(&report["forgetting"]["after"]);
    assert!(after(&alone) == 0.0 && after(&mixed) > 0.9, "{alone:#} {mixed:#}");
    for report in [&alone, &mixed] {
        assert_eq!(number(&report["accuracy"]), 1.0, "the new class is learned: {report:#}");
    }
    let now = kept(&mixed);
    assert!(now.iter().all(|(_, kept, seen)| *kept >= 2 && *seen == 6), "{now:?}");
    assert_eq!(now.iter().map(|(_, kept, _)| kept).sum::<u64>(), 8);

    // Learned again, clips that are kept are neither doubled nor counted twice.
    let beeps = now.iter().find(|(class, ..)| class == beeper).expect("the new class").1;
    let again = folder.run(&format!("{line} {go_on} --replay s.replay --json")).json();
    assert_eq!(again["replay"]["clips"], json!(8 - beeps));
    let seen = kept(&again).into_iter().find(|(class, ..)| class == beeper).expect("the new class").2;
    assert_eq!(seen, 12 - beeps);

    // Without --from too.
    folder.write("s.replay", &file);
    let anew = "--data new --old clips --old-adapter old.adapter --replay s.replay -o b.adapter";
    let told = folder.run(&format!("{line} {anew} --json")).json();
    assert!(told["replay"]["clips"] == json!(8) && after(&told) > 0.4, "{told:#}");
    let text = folder.run(&format!("{line} {anew}")).ok().out;
    assert!(text.contains("clips learned again"), "{text}");
}

#[test]
fn replay_refuses_what_it_cannot_keep() {
    let folder = Folder::new("replay_refused");
    lay_out(&folder, 2);
    folder.run(COMPILE).ok();
    let line = "train base.plan --data clips --method head --epochs 1 -o a.adapter";
    folder.run(&format!("{line} --replay s.replay --replay-clips 3")).ok();
    folder.run(&format!("{line} --replay s.replay --replay-clips 4")).misused(&["--replay-clips", "3"]);
    folder.run(&format!("{line} --replay t.replay --loss bce")).misused(&["--replay", "one class"]);
    folder.run(&format!("{line} --replay-clips 4")).misused(&["--replay"]);
    let private = "train base.plan --data clips --private --yes --epochs 1 -o p.adapter --replay s.replay";
    folder.run(private).refused(&["--private", "--replay"]);
    let mut file = folder.read("s.replay");
    file[40] ^= 1;
    folder.write("damaged.replay", &file);
    folder.run(&format!("{line} --replay damaged.replay")).refused(&["damaged.replay", "damaged"]);
    // Clips are cut into patches elsewhere.
    folder.run(&COMPILE.replace("base.plan", "other.plan --hop 4000")).ok();
    let other = line.replace("base.plan", "other.plan");
    folder.run(&format!("{other} --replay s.replay")).refused(&["s.replay", "front end"]);
}
