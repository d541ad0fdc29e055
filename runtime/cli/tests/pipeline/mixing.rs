//! Clips that are mixed with others, and their labels with theirs.

use ingraft_dataset::{Dataset, split};
use ingraft_models::demo::SAMPLE_RATE;
use ingraft_models::demo::synth::Sound;

use crate::fixture::{clip, lay_out, wav};
use crate::process::Folder;

const COMPILE: &str =
    "compile base.onnx -o base.plan --dim N=1 --front-end yamnet --train-from all --head-classes 4";
const TRAIN: &str = "train base.plan --data clips --method head --epochs 1 --views 3 -o a.adapter";
const SEED: u64 = 5;

fn prepared(test: &str) -> Folder {
    let folder = Folder::new(test);
    lay_out(&folder, 6);
    folder.run(COMPILE).ok();
    folder
}

fn train(folder: &Folder, options: &str) -> Vec<u8> {
    folder.run(&format!("{TRAIN} --seed {SEED} {options}")).ok();
    folder.read("a.adapter")
}

/// What is not learned from may sound like anything: a head learns the same to the bit. What is learned from may not.
#[test]
fn what_is_kept_aside_is_mixed_into_nothing() {
    let folder = prepared("kept_aside");
    let open = || Dataset::open(&folder.path("clips")).expect("the clips are there");
    let dataset = open();
    let sides = split::hold_out(&dataset.labels().expect("a label each"), &dataset.groups(), 0.34, SEED);
    let inner = sides.expect("there are enough clips");
    let path = |item: usize| dataset.items()[item].path.clone();
    let mut rows = "file,fold\n".to_owned();
    (0..dataset.items().len()).for_each(|item| {
        let fold = if inner.test.contains(&item) { "test" } else { "train" };
        rows += &format!("{},{fold}\n", path(item));
    });
    folder.write("split.csv", rows.as_bytes());
    let noise = wav(&clip(Sound::TwoTone, 77, SAMPLE_RATE as usize));
    for options in [
        "--augment mixup=1 --hold-out 0.34",
        "--augment mix=0 --hold-out 0.34",
        "--augment mixup=1 --split split.csv",
    ] {
        let changed = |items: &[usize], step: usize| {
            let kept: Vec<(usize, Vec<u8>)> = items
                .iter()
                .step_by(step)
                .map(|&item| (item, folder.read(&format!("clips/{}", path(item)))))
                .collect();
            kept.iter().for_each(|(item, _)| folder.write(format!("clips/{}", path(*item)), &noise));
            let file = train(&folder, options);
            kept.iter().for_each(|(item, bytes)| folder.write(format!("clips/{}", path(*item)), bytes));
            file
        };
        let file = train(&folder, options);
        assert!(changed(&inner.test, 1) == file, "{options}: a clip kept aside was heard");
        assert!(changed(&inner.train, usize::MAX) != file, "{options}: a clip to learn from was not");
    }
}

#[test]
fn mixtures_are_their_seeds() {
    let folder = prepared("mixtures");
    let files =
        ["", "--augment mixup=0.4", "--augment mixup=0.4 --loss bce", "--augment mixup=2"].map(|options| {
            let file = train(&folder, options);
            assert!(train(&folder, options) == file, "{options}: the same seed learns the same");
            file
        });
    for (index, file) in files.iter().enumerate() {
        assert!(files[..index].iter().all(|other| other != file), "run {index} is one of those before");
    }
    folder.run(&format!("{TRAIN} --seed 6 --augment mixup=0.4")).ok();
    assert!(folder.read("a.adapter") != files[1], "another seed mixes otherwise");
    let refused = |options: &str, words: &[&str]| {
        folder.run(&format!("{TRAIN} {options}")).misused(words);
    };
    refused("--augment mixup=0", &["mixup=0"]);
    folder.run(&format!("{TRAIN} --augment mixup=1,mixup=2")).refused(&["mixup=2", "second"]);
    refused("--augment mixup=1 --loss distill --head none", &["mixup=1", "distill"]);
}

/// Two versions in three are mixtures: with their labels the other way round, or as one of the two, less would be learned.
#[test]
fn mixtures_teach_what_is_in_them() {
    let folder = prepared("taught_by_mixtures");
    for loss in ["cross-entropy", "bce"] {
        let line = "train base.plan --data clips --method head --epochs 40 --views 3 --augment mixup=1 -o a.adapter --json";
        let report = folder.run(&format!("{line} --loss {loss}")).json();
        let accuracy = report["accuracy"].as_f64().expect("a number");
        assert!(accuracy > 0.85, "{loss}: {accuracy}");
    }
}
