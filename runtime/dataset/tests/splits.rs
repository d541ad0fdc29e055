//! The committed split files: reproducible, complete, and no group on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ingraft_dataset::Dataset;
use ingraft_dataset::split::{Split, read_splits};

#[path = "../examples/splits.rs"]
#[allow(dead_code, reason = "the example's main is not called here")]
mod splits;

/// The development data, or `None` where it is absent and that is no error.
fn data() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let data = std::env::var_os("INGRAFT_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if data.exists() {
        return Some(data);
    }
    assert!(std::env::var_os("CI").is_none(), "no data in {}; set INGRAFT_DATA", data.display());
    println!("skipped: no data in {}; set INGRAFT_DATA", data.display());
    None
}

fn committed() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/splits")).to_path_buf()
}

/// The names in a data set and the splits of one committed file.
fn open(data: &Path, dataset: &str, file: &str) -> (Vec<String>, Vec<Split>) {
    let dataset = Dataset::open(&data.join(dataset)).unwrap();
    let names: Vec<String> = dataset.items().iter().map(|item| item.path.clone()).collect();
    let splits = read_splits(&committed().join(file), names.iter().map(String::as_str)).unwrap();
    (names, splits)
}

/// Every name is tested once and trains in every other fold; `group` never lies on both sides;
/// every class is on both.
fn check(names: &[String], splits: &[Split], group: impl Fn(&str) -> String) {
    let mut tested = vec![0; names.len()];
    let class = |&item: &usize| names[item].rsplit_once('/').unwrap().0;
    let classes: BTreeSet<&str> = (0..names.len()).map(|item| class(&item)).collect();
    for split in splits {
        split.test.iter().for_each(|&item| tested[item] += 1);
        let all: BTreeSet<usize> = split.train.iter().chain(&split.test).copied().collect();
        assert_eq!((all.len(), split.train.len() + split.test.len()), (names.len(), names.len()));
        let groups = |side: &[usize]| side.iter().map(|&item| group(&names[item])).collect::<BTreeSet<_>>();
        let shared: Vec<String> = groups(&split.train).intersection(&groups(&split.test)).cloned().collect();
        assert!(shared.is_empty(), "{shared:?} on both sides");
        assert_eq!(split.test.iter().map(class).collect::<BTreeSet<_>>(), classes);
    }
    assert!(tested.iter().all(|&times| times == 1));
}

#[test]
fn the_example_writes_what_is_committed() {
    let Some(data) = data() else { return };
    let files = splits::split_files(&data).unwrap();
    for (name, text) in &files {
        let stored = std::fs::read_to_string(committed().join(name)).unwrap_or_default();
        assert_eq!(&stored, text, "{name} differs; run the example `splits`");
    }
    let stored = std::fs::read_dir(committed()).unwrap().count();
    assert_eq!(stored, files.len(), "a split file that the example does not write");
}

#[test]
fn esc10_folds_keep_uploads_together() {
    let Some(data) = data() else { return };
    let (names, splits) = open(&data, "audio/esc10_cc0", "esc10_cc0.csv");
    assert_eq!((names.len(), splits.len()), (98, 5));
    check(&names, &splits, |name| name.split('-').nth(1).unwrap().to_owned());
}

#[test]
fn uav_detect_folds_keep_near_repeats_together() {
    let Some(data) = data() else { return };
    let (names, splits) = open(&data, "audio/uav_detect", "uav_detect.csv");
    assert_eq!((names.len(), splits.len()), (59, 5));
    let repeats = BTreeMap::from([
        ("drone/drone_011.wav", "drone/drone_009.wav"),
        ("background/background_016.wav", "background/background_008.wav"),
        ("helicopter/helicopter_009.wav", "helicopter/helicopter_003.wav"),
    ]);
    assert!(repeats.iter().flat_map(|(a, b)| [a, b]).all(|name| names.iter().any(|n| n == name)));
    check(&names, &splits, |name| (*repeats.get(name).unwrap_or(&name)).to_owned());
}

#[test]
fn uav_motor_prop_folds_are_even_and_blocks_contiguous() {
    let Some(data) = data() else { return };
    let (names, splits) = open(&data, "audio/uav_motor_prop", "uav_motor_prop.csv");
    assert_eq!((names.len(), splits.len()), (66, 4));
    check(&names, &splits, str::to_owned);

    let (names, splits) = open(&data, "audio/uav_motor_prop", "uav_motor_prop_blocks.csv");
    check(&names, &splits, str::to_owned);
    for split in &splits {
        // Item order is the order of recording, so within a class a block is a run without gaps.
        for pair in split.test.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|item| names[item].rsplit_once('/').unwrap().0);
            assert!(a != b || pair[1] == pair[0] + 1, "{} and {}", names[pair[0]], names[pair[1]]);
        }
    }
}

#[test]
fn spoken_digits_learn_five_takes_of_one_speaker() {
    let Some(data) = data() else { return };
    for speaker in ["jackson", "nicolas", "theo", "yweweler"] {
        let of_seed = |seed: u64| {
            let (names, splits) =
                open(&data, "audio/spoken_digits", &format!("spoken_digits_{speaker}_{seed}.csv"));
            let [split] = &splits[..] else { panic!("{} splits", splits.len()) };
            assert_eq!((split.train.len(), split.test.len()), (50, 200));
            let all: BTreeSet<usize> = split.train.iter().chain(&split.test).copied().collect();
            assert!(
                all.len() == 250 && all.iter().all(|&item| names[item].contains(&format!("_{speaker}_")))
            );
            for digit in 0..10 {
                let prefix = format!("{digit}/");
                assert_eq!(split.train.iter().filter(|&&item| names[item].starts_with(&prefix)).count(), 5);
            }
            split.train.clone()
        };
        assert!(of_seed(0) != of_seed(1) && of_seed(1) != of_seed(2) && of_seed(0) != of_seed(2));
    }
}

#[test]
fn keywords_are_halved() {
    let Some(data) = data() else { return };
    let rows: Vec<String> = (0..600).map(|row| row.to_string()).collect();
    let file = committed().join("speech_commands_kws01.csv");
    let splits = read_splits(&file, rows.iter().map(String::as_str)).unwrap();
    let [split] = &splits[..] else { panic!("{} splits", splits.len()) };
    assert_eq!((split.train.len(), split.test.len()), (300, 300));
    let labels = std::fs::read_to_string(data.join("features/speech_commands_kws01/labels.csv")).unwrap();
    let labels: Vec<&str> = labels.lines().skip(1).map(|line| line.rsplit(',').next().unwrap()).collect();
    for class in labels.iter().collect::<BTreeSet<_>>() {
        let count = |side: &[usize]| side.iter().filter(|&&item| labels[item] == *class).count();
        assert!(count(&split.train).abs_diff(count(&split.test)) <= 1, "{class}");
    }
}
