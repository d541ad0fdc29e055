//! Processes that are killed while they change a store.
//!
//! A child opens the store, does a row of operations that a seed decides, and says when each is done. The parent kills it
//! at some moment and holds what it finds to what was said: the operation in work is done or not begun.

use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io, thread};

use ingraft_store::{DirectoryStore, Key, Policy, Stage, StoreError};
use ingraft_tensor::Rng;
use ingraft_tensor::hash::blake3;

use crate::model::{Op, View, after_restart, applied, entry, restarted, with};
use crate::{folder, open};

const ROUNDS: u64 = 100;
const BUDGET: u32 = 1 << 20;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// Where the child finds its folder and its seed.
const CHILD: &str = "INGRAFT_STORE_CHILD";

#[test]
fn a_killed_process_leaves_the_old_state_or_the_new() {
    let folder = folder("kill");
    let (mut rng, mut view) = (Rng::new(9), View::new());
    let (mut in_work, mut operations) = (0, 0);
    for round in 0..ROUNDS {
        let ops = ops(round, &after_restart(&view));
        let mut views = vec![view.clone(), after_restart(&view)];
        for op in &ops {
            let before = views.last().cloned().unwrap_or_default();
            let known = before.get(&op.key()).copied();
            views.push(match applied(known, op, hash_of(op)) {
                Some(entry) => with(before, op.key(), entry),
                None => before,
            });
        }
        let done = live_and_die(&folder, round, &mut rng, ops.len() + 1);
        operations += done;
        let (seen, changed) = found(&folder, &views[done], views.get(done + 1));
        in_work += u64::from(changed);
        view = seen;
    }
    println!(
        "{ROUNDS} processes killed in {operations} operations; {in_work} had done one without saying so"
    );
    assert!(operations > ROUNDS as usize, "they were killed too early");
}

/// Runs a child until it is killed, and gives how many things it said it had done.
fn live_and_die(folder: &Path, seed: u64, rng: &mut Rng, most: usize) -> usize {
    let exe = env::current_exe().expect("a test has a file");
    let mut child = Command::new(exe)
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{seed} {}", folder.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
    let said = |lines: &mut dyn Iterator<Item = io::Result<String>>| {
        lines.map_while(Result::ok).find(|line| line.ends_with("did")).is_some()
    };
    let (wanted, mut done) = (rng.below(most + 1), 0);
    while done < wanted && said(&mut lines) {
        done += 1;
    }
    thread::sleep(Duration::from_micros(rng.below(3000) as u64));
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    // What it said before it died is still in the pipe.
    while said(&mut lines) {
        done += 1;
    }
    done
}

/// What a child does; nothing where this is no child.
#[test]
fn child() {
    let Ok(told) = env::var(CHILD) else { return };
    let (seed, folder) = told.split_once(' ').expect("a seed and a folder");
    let (seed, folder) = (seed.parse().expect("a number"), PathBuf::from(folder));
    let mut store = open(&folder, BUDGET).expect("it opens");
    let say = || {
        println!("did");
        io::stdout().flush().expect("somebody listens");
    };
    say();
    let view = store.iter().map(|state| (state.key, entry(state))).collect();
    for op in ops(seed, &view) {
        match ask(&mut store, &op) {
            Ok(()) | Err(StoreError::Refused(_)) => say(),
            Err(error) => panic!("{error}"),
        }
    }
    thread::sleep(Duration::from_secs(60));
}

fn ask(store: &mut DirectoryStore, op: &Op) -> Result<(), StoreError<io::Error>> {
    match *op {
        Op::Stage { key, file, .. } => store.stage(key, &bytes(file), None, &Policy::ANY),
        Op::BeginTrial { key, restarts } => store.begin_trial(&key, restarts),
        Op::Confirm(key) => store.confirm(&key),
        Op::Revert(key) => store.revert(&key),
        Op::Pin(key, pinned) => store.pin(&key, pinned),
        Op::Remove(key) => store.remove(&key),
        Op::Forget(key) => store.forget(&key),
        Op::Load(key) => store.load(&key, &mut [0; 8192]).map(drop),
    }
}

/// Opens what a child left: what is seen, and whether the operation in work was done.
fn found(folder: &Path, old: &View, new: Option<&View>) -> (View, bool) {
    let mut store = open(folder, BUDGET).expect("a killed process leaves a store");
    let seen: View = store.iter().map(|state| (state.key, entry(state))).collect();
    let new = new.unwrap_or(old);
    let mut changed = false;
    for key in KEYS.map(|name| Key::new(name).expect("a name")) {
        let entry = |view: &View| view.get(&key).copied().unwrap_or_default();
        let (before, after, seen) = (restarted(entry(old)), restarted(entry(new)), entry(&seen));
        assert!(seen == before || seen == after, "{key}: {seen:?} is neither {before:?} nor {after:?}");
        changed |= seen != before;
        if let Some(hash) = seen.good.or(seen.candidate.map(|(hash, _)| hash)) {
            let mut memory = [0; 8192];
            match store.load(&key, &mut memory) {
                Ok(loaded) => {
                    let wanted = seen.candidate.filter(|_| loaded.on_trial).map_or(hash, |(hash, _)| hash);
                    assert_eq!(blake3(loaded.bytes), wanted, "{key}");
                }
                Err(error) => assert!(
                    seen.good.is_none() && !matches!(seen.candidate, Some((_, Stage::Trial { .. }))),
                    "{key}: {error}"
                ),
            }
        }
    }
    (seen, changed)
}

/// What the child of this seed does to a store that holds `view`.
fn ops(seed: u64, view: &View) -> Vec<Op> {
    let (mut rng, mut view) = (Rng::stream(77, seed), view.clone());
    let mut ops = Vec::new();
    for _ in 0..12 {
        let key = Key::new(KEYS[rng.below(KEYS.len())]).expect("a name");
        let known = view.get(&key).copied();
        let op = match (rng.below(12), known.and_then(|entry| entry.candidate)) {
            (0, _) => Op::Revert(key),
            (1, _) => Op::Pin(key, true),
            (2, _) => Op::Remove(key),
            (3, _) => Op::Forget(key),
            (4, _) => Op::Load(key),
            (_, None) => Op::Stage { key, file: rng.below(1000), sealed: false },
            (_, Some((_, Stage::Staged))) => Op::BeginTrial { key, restarts: rng.below(3) as u8 },
            (_, Some(_)) => Op::Confirm(key),
        };
        if let Some(entry) = applied(known, &op, hash_of(&op)) {
            view = with(view, key, entry);
        }
        ops.push(op);
    }
    ops
}

/// The file numbered `file`.
fn bytes(file: usize) -> Vec<u8> {
    let mut rng = Rng::new(file as u64);
    (0..1 + rng.below(8000)).map(|_| rng.next_u64() as u8).collect()
}

fn hash_of(op: &Op) -> [u8; 32] {
    match op {
        Op::Stage { file, .. } => blake3(&bytes(*file)),
        _ => [0; 32],
    }
}
