//! The store in a directory: the same states, and processes that are killed.
#![cfg(feature = "std")]

#[path = "../flash/cuts/model.rs"]
mod model;

mod kill;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ingraft_store::{Directory, DirectoryStore, Key, KeyState, Place, Policy, Refusal, Seal, StoreError};

/// An empty folder for the test called `test`.
fn folder(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store").join(test);
    if path.exists() {
        fs::remove_dir_all(&path).expect("the folder of an earlier run goes");
    }
    path
}

fn open(path: &Path, budget: u32) -> Result<DirectoryStore, StoreError<io::Error>> {
    DirectoryStore::open(Directory::open(path, budget)?, vec![Place::EMPTY; Place::places(20)])
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a name")
}

fn install(store: &mut DirectoryStore, name: &str, file: &[u8]) {
    let key = key(name);
    let seal = Seal::from_bytes([file.len() as u8; Seal::BYTES]);
    store.stage(key, file, Some(&seal), &Policy::ANY).expect("there is room");
    store.begin_trial(&key, 0).expect("staged");
    store.confirm(&key).expect("on trial");
}

/// A hint changes nothing that can be told, whatever becomes of the file behind it.
#[test]
fn what_was_prefetched_is_loaded_like_any_other() {
    let (folder, mut memory) = (folder("prefetch"), vec![0; 1000]);
    let mut store = open(&folder, 10_000).expect("it opens");
    install(&mut store, "a", &[1; 500]);
    store.stage(key("b"), &[2; 600], None, &Policy::ANY).expect("there is room");
    let before: Vec<_> = store.iter().copied().collect();
    for _ in 0..20 {
        store.prefetch(&key("a")).expect("a good one");
        assert_eq!(store.load(&key("a"), &mut memory).expect("good").bytes, [1; 500]);
    }
    assert!(matches!(store.prefetch(&key("b")), Err(StoreError::Refused(Refusal::NoAdapter))), "only staged");
    assert!(matches!(store.prefetch(&key("c")), Err(StoreError::Refused(Refusal::UnknownKey))));
    let told = |states: &[KeyState]| states.iter().map(|s| (s.key, s.good, s.candidate)).collect::<Vec<_>>();
    assert_eq!(told(&before), told(&store.iter().copied().collect::<Vec<_>>()));
    store.prefetch(&key("a")).expect("a good one");
    store.remove(&key("a")).expect("known");
    assert!(store.load(&key("a"), &mut memory).is_err(), "removed");
}

#[test]
fn what_was_confirmed_is_there_again_and_nothing_else() {
    let (folder, mut memory) = (folder("again"), vec![0; 1000]);
    let mut store = open(&folder, 10_000).expect("it opens");
    install(&mut store, "a", &[1; 500]);
    install(&mut store, "a", &[2; 600]);
    store.stage(key("a"), &[3; 700], None, &Policy::ANY).expect("there is room");
    store.stage(key("b"), &[4; 10], None, &Policy::ANY).expect("there is room");
    store.begin_trial(&key("b"), 0).expect("staged");
    assert_eq!(store.load(&key("b"), &mut memory).expect("on trial").bytes, [4; 10]);
    drop(store);
    fs::write(folder.join("00000063.adapter"), b"stray").expect("it can be written");
    fs::write(folder.join("key-a.state.partial"), b"cut").expect("it can be written");
    let mut store = open(&folder, 10_000).expect("it opens");
    assert!(store.find(&key("b")).is_none(), "not confirmed");
    assert_eq!(store.load(&key("a"), &mut memory).expect("good").bytes, [2; 600]);
    let seal = store.seal(&key("a")).expect("it reads").expect("one");
    assert_eq!(*seal.as_bytes(), [600_usize as u8; Seal::BYTES]);
    assert_eq!(fs::read(store.path(&key("a")).expect("known")).expect("it is a file"), [2; 600]);
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("it is a folder")
        .map(|entry| entry.expect("it reads").file_name().into_string().expect("our names"))
        .collect();
    names.sort();
    assert_eq!(names, ["00000001.adapter", "00000001.seal", "00000002.adapter", "key-a.state", "lock"]);
}

#[test]
fn a_budget_is_kept() {
    let folder = folder("budget");
    let mut store = open(&folder, 2000).expect("it opens");
    for name in ["a", "b", "c"] {
        install(&mut store, name, &[7; 400]);
    }
    store.touch(&key("a"));
    store.pin(&key("c"), true).expect("known");
    store.stage(key("d"), &[8; 700], None, &Policy::ANY).expect("room is made");
    let there: Vec<bool> = ["a", "b", "c"].map(|name| store.find(&key(name)).is_some()).to_vec();
    assert_eq!(there, [true, false, true]);
    match store.stage(key("e"), &[9; 2000], None, &Policy::ANY) {
        Err(StoreError::Refused(Refusal::Room { needed: 2000, most })) => assert_eq!(most, 2000 - 616 - 700),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_process_at_a_time() {
    let folder = folder("lock");
    let store = open(&folder, 100).expect("it opens");
    match open(&folder, 100) {
        Err(StoreError::Medium(error)) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        other => panic!("{other:?}"),
    }
    drop(store);
    open(&folder, 100).expect("it is free again");
}

#[test]
fn damage_is_refused_and_removes_nothing() {
    let (folder, mut memory) = (folder("damage"), vec![0; 1000]);
    let mut store = open(&folder, 10_000).expect("it opens");
    install(&mut store, "a", &[1; 500]);
    install(&mut store, "b", &[2; 500]);
    let path = store.path(&key("a")).expect("known");
    for bytes in [&[1; 499][..], &[0; 500], &[]] {
        fs::write(&path, bytes).expect("it can be written");
        match store.load(&key("a"), &mut memory) {
            Err(StoreError::Refused(Refusal::Damaged)) => {}
            other => panic!("{other:?}"),
        }
    }
    fs::remove_file(&path).expect("it is there");
    assert!(matches!(store.load(&key("a"), &mut memory), Err(StoreError::Refused(Refusal::Damaged))));
    drop(store);
    let state = folder.join("key-b.state");
    let mut record = fs::read(&state).expect("it is there");
    record[70] ^= 1;
    fs::write(&state, &record).expect("it can be written");
    let store = open(&folder, 10_000).expect("it opens");
    assert!(store.find(&key("b")).is_none());
    assert!(folder.join("00000001.adapter").exists(), "the record that cannot be read may name it");
    drop(store);
    fs::copy(folder.join("key-a.state"), folder.join("key-c.state")).expect("it can be copied");
    assert!(open(&folder, 10_000).expect("it opens").find(&key("c")).is_none(), "a record names its key");
}
