//! What fuzzing starts from and what it found, through all that a fuzz target does.

use std::fs;
use std::path::PathBuf;

use ingraft::adapter::Adapter;
use ingraft::plan::PlanView;

use crate::exercise::{TARGETS, plan_file};
use crate::support::AlignedBytes;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds")
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder().join(target)) else { return Vec::new() };
    let read = |path: PathBuf| (path.display().to_string(), fs::read(&path).expect("a file"));
    let mut seeds: Vec<_> = entries.map(|entry| read(entry.expect("an entry").path())).collect();
    seeds.sort();
    seeds
}

#[test]
fn every_seed_and_every_former_finding_is_answered() {
    let mut count = 0;
    for (target, exercise) in TARGETS {
        for (name, bytes) in seeds(target) {
            println!("{name}");
            exercise(&bytes);
            count += 1;
        }
    }
    assert!(count >= 36, "{count} seeds: run `cargo run --example seeds` in tests/fuzz");
}

/// Seeds of a format that has changed since would be refused at once, and hold nothing any more.
#[test]
fn seeds_are_of_the_formats_of_today() {
    let plan = PlanView::new(plan_file()).expect("we wrote it");
    for (name, bytes) in seeds("plan").iter().filter(|(name, _)| !name.contains("found-")) {
        let file = AlignedBytes::copy_of(bytes);
        assert!(
            PlanView::new(file.as_slice()).is_ok(),
            "{name}: run `cargo run --example seeds` in tests/fuzz"
        );
    }
    for (name, bytes) in seeds("adapter").iter().filter(|(name, _)| !name.contains("found-")) {
        let file = AlignedBytes::copy_of(bytes);
        let attached = Adapter::attach(file.as_slice(), &plan);
        assert!(attached.is_ok(), "{name}: {attached:?}; run `cargo run --example seeds` in tests/fuzz");
    }
}
