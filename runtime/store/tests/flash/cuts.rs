//! The power goes at every point of a long random life, and the store holds the old state or the new.
//!
//! A life is a row of sessions: the store is opened and asked a few things. Every session is lived once in peace and
//! then once for every word that it writes and every sector that it erases, with the power gone there. Then the store is
//! opened again, and every key must be as it was before the operation that was cut, or as after it; every file that
//! any key has must be there to the byte. Life goes on from the end of a session, or from one of its cuts.

mod model;

use std::collections::BTreeMap;

use embedded_storage::nor_flash::{ErrorType, NorFlash};
use ingraft_store::{FlashStore, Key, Nor, Place, Policy, Refusal, Region, Seal, Stage, StoreError};
use ingraft_tensor::Rng;
use ingraft_tensor::hash::blake3;

use crate::device::{Fault, Flash};
use model::{Entry, Op, View, after_restart, applied, entry, restarted, with};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Room for one key fewer than there are.
const PLACES: usize = Place::places(KEYS.len() - 1);
const FILE_SECTORS: usize = 15;

#[test]
fn words_of_4_bytes() {
    life::<4, 512>(1, 50_000);
}

#[test]
fn words_of_32_bytes() {
    life::<32, 1024>(2, 40_000);
}

#[test]
fn words_of_8_bytes() {
    life::<8, 256>(3, 30_000);
}

/// A short life, because a byte is a cut.
#[test]
fn words_of_1_byte() {
    life::<1, 256>(4, 10_000);
}

/// Lives through `cuts` cuts.
fn life<const WRITE: usize, const ERASE: usize>(seed: u64, cuts: u64) {
    let mut world = World::<WRITE, ERASE>::new(seed);
    let (mut flash, mut view) = world.born();
    let mut sessions = 0;
    while world.cuts < cuts {
        (flash, view) = world.session(flash, view);
        sessions += 1;
    }
    let World { cuts, operations, evictions, again, .. } = world;
    println!(
        "words of {WRITE}, sectors of {ERASE} bytes: {cuts} cuts in {operations} operations of {sessions} sessions, \
         {evictions} evictions, {again} cuts while recovering"
    );
    assert!(operations < 100 || evictions > operations / 50 && again > cuts / 10, "the life was too quiet");
    wear(&flash, world.region);
}

/// Sectors of files wear evenly.
fn wear<const WRITE: usize, const ERASE: usize>(flash: &Flash<WRITE, ERASE>, region: Region) {
    let first = (region.offset + 2 * region.bank_bytes) as usize / ERASE;
    let erased = &flash.erased[first..first + FILE_SECTORS];
    let (most, sum) = (erased.iter().max().copied().unwrap_or(0), erased.iter().sum::<u32>());
    let mean = f64::from(sum) / FILE_SECTORS as f64;
    println!("erasures of a sector of files: {mean:.0} in the mean, {most} at most");
    assert!(f64::from(most) < 2.0 * mean + 10.0, "{erased:?}");
}

struct World<const WRITE: usize, const ERASE: usize> {
    rng: Rng,
    region: Region,
    files: Vec<Vec<u8>>,
    by_hash: BTreeMap<[u8; 32], usize>,
    cuts: u64,
    again: u64,
    operations: u64,
    evictions: u64,
}

/// How far a session came: the views after each thing done, the first before it was opened.
struct Lived<const WRITE: usize, const ERASE: usize> {
    flash: Flash<WRITE, ERASE>,
    views: Vec<View>,
    whole: bool,
}

impl<const WRITE: usize, const ERASE: usize> World<WRITE, ERASE> {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let files: Vec<Vec<u8>> =
            (0..40).map(|_| (0..1 + rng.below(3 * ERASE)).map(|_| rng.next_u64() as u8).collect()).collect();
        let by_hash = files.iter().enumerate().map(|(at, file)| (blake3(file), at)).collect();
        // Slots for two heads and twice the keys, and a few more to append to.
        let bank_bytes = (128 * (2 + 2 * KEYS.len() + 3)).next_multiple_of(ERASE) as u32;
        let region = Region { offset: ERASE as u32, bank_bytes, file_bytes: (FILE_SECTORS * ERASE) as u32 };
        Self { rng, region, files, by_hash, cuts: 0, again: 0, operations: 0, evictions: 0 }
    }

    /// A formatted flash, cut while it was being formatted before.
    fn born(&mut self) -> (Flash<WRITE, ERASE>, View) {
        let sectors = 2 + (2 * self.region.bank_bytes as usize) / ERASE + FILE_SECTORS;
        let blank = Flash::new(sectors, self.rng.next_u64());
        assert!(matches!(Nor::open(blank.clone(), self.region), Err(StoreError::Unformatted)));
        let mut flash = Nor::format(blank.clone(), self.region).expect("it can be formatted").into_inner();
        for cut in 0..flash.units {
            let mut cut_short = if self.rng.below(2) == 0 { blank.clone() } else { flash.clone() };
            cut_short.cut_after(cut, self.rng.next_u64());
            assert!(matches!(
                Nor::format(&mut cut_short, self.region),
                Err(StoreError::Medium(Fault::Power))
            ));
            cut_short.restore();
            match Nor::open(cut_short.clone(), self.region) {
                Ok(_) | Err(StoreError::Unformatted) => {}
                Err(error) => panic!("{error:?}"),
            }
            flash = Nor::format(cut_short, self.region).expect("it can be formatted").into_inner();
        }
        (flash, View::new())
    }

    /// Lives one session in peace and once for every cut; gives what life goes on from.
    fn session(&mut self, flash: Flash<WRITE, ERASE>, view: View) -> (Flash<WRITE, ERASE>, View) {
        let ops = self.ops(&view);
        let begun = flash.units;
        let peace = self.live(flash.clone(), view.clone(), &ops);
        assert!(peace.whole);
        self.operations += ops.len() as u64;
        let units = peace.flash.units - begun;
        let goes_on = self.rng.below(2 * units as usize + 1) as u64;
        let mut chosen = (peace.flash.clone(), peace.views.last().cloned().unwrap_or_default());
        for cut in 0..units {
            let mut lived = flash.clone();
            lived.cut_after(cut, self.rng.next_u64());
            let lived = self.live(lived, view.clone(), &ops);
            assert!(!lived.whole, "the power went");
            self.cuts += 1;
            let (recovered, seen) = self.recover(lived, &peace.views, &ops);
            if self.rng.below(4) == 0 {
                self.again(recovered.clone(), seen.clone());
            }
            if cut == goes_on {
                chosen = (recovered, seen);
            }
        }
        chosen
    }

    /// The power goes again soon after.
    fn again(&mut self, flash: Flash<WRITE, ERASE>, view: View) {
        let ops = self.ops(&view);
        let begun = flash.units;
        let peace = self.live(flash.clone(), view.clone(), &ops);
        let units = peace.flash.units - begun;
        if units > 0 {
            let mut cut = flash;
            cut.cut_after(self.rng.below(units as usize) as u64, self.rng.next_u64());
            let lived = self.live(cut, view, &ops);
            self.again += 1;
            self.recover(lived, &peace.views, &ops);
        }
    }

    /// Opens the store and does what is asked, until the power goes; what is done must be what the model says.
    fn live(&mut self, flash: Flash<WRITE, ERASE>, view: View, ops: &[Op]) -> Lived<WRITE, ERASE> {
        let mut flash = flash;
        let mut views = vec![view];
        let mut places = [Place::EMPTY; PLACES];
        let mut memory = vec![0; 3 * ERASE + 16];
        let mut whole = false;
        let opened = Nor::open(&mut flash, self.region).and_then(|nor| FlashStore::open(nor, &mut places));
        match opened {
            Ok(mut store) => {
                let before = views.last().cloned().unwrap_or_default();
                let now = see(&store);
                assert_eq!(now, after_restart(&before), "opened");
                views.push(now);
                whole = true;
                for op in ops {
                    let before = views.last().cloned().unwrap_or_default();
                    match self.ask(&mut store, op, &mut memory) {
                        Err(StoreError::Medium(Fault::Power)) => {
                            whole = false;
                            assert!(store.forget(&op.key()).is_err(), "the power is gone");
                            break;
                        }
                        result => {
                            let after = see(&store);
                            self.judge(&before, &after, op, result);
                            views.push(after);
                        }
                    }
                }
            }
            Err(StoreError::Medium(Fault::Power)) => {}
            Err(error) => panic!("{error:?}"),
        }
        Lived { flash, views, whole }
    }

    fn ask<F: NorFlash + ErrorType<Error = Fault>>(
        &self,
        store: &mut FlashStore<'_, F>,
        op: &Op,
        memory: &mut [u8],
    ) -> Result<(), StoreError<Fault>> {
        match *op {
            Op::Stage { key, file, sealed } => {
                let seal = Seal::from_bytes([file as u8; Seal::BYTES]);
                store.stage(key, &self.files[file], sealed.then_some(&seal), &Policy::ANY)
            }
            Op::BeginTrial { key, restarts } => store.begin_trial(&key, restarts),
            Op::Confirm(key) => store.confirm(&key),
            Op::Revert(key) => store.revert(&key),
            Op::Pin(key, pinned) => store.pin(&key, pinned),
            Op::Remove(key) => store.remove(&key),
            Op::Forget(key) => store.forget(&key),
            Op::Load(key) => {
                let wanted = store.find(&key).copied();
                let loaded = store.load(&key, memory)?;
                let state = wanted.expect("what is loaded is known");
                let candidate = state.candidate.filter(|_| state.is_on_trial());
                let stored = candidate.map(|candidate| candidate.stored).or(state.good).expect("a file");
                assert_eq!(loaded.bytes, self.files[self.by_hash[&stored.hash]]);
                assert_eq!(loaded.on_trial, candidate.is_some());
                let seal = store.seal(&key)?;
                assert_eq!(seal.is_some(), stored.sealed);
                let byte = self.by_hash[&stored.hash] as u8;
                assert!(seal.is_none_or(|seal| *seal.as_bytes() == [byte; Seal::BYTES]));
                Ok(())
            }
        }
    }

    /// Holds what an operation did to the model.
    fn judge(&mut self, before: &View, after: &View, op: &Op, result: Result<(), StoreError<Fault>>) {
        let key = op.key();
        let known = before.get(&key).copied();
        match (applied(known, op, self.hash_of(op)), result) {
            (Some(entry), Ok(())) => {
                let mut wanted = with(before.clone(), key, entry);
                if matches!(op, Op::Stage { .. }) {
                    for gone in evicted(before, after, &key) {
                        let entry = before[&gone];
                        assert!(!entry.pinned && entry.candidate.is_none(), "{gone} may not go: {entry:?}");
                        wanted = with(wanted, gone, Entry { good: None, ..entry });
                        self.evictions += 1;
                    }
                }
                assert_eq!(*after, wanted, "{op:?}");
            }
            (Some(_), Err(StoreError::Refused(Refusal::Room { .. } | Refusal::Keys { .. }))) => {
                assert_eq!(after, before, "nothing goes for what has no room: {op:?}");
                assert!(matches!(op, Op::Stage { .. }));
            }
            (None, Err(StoreError::Refused(_))) => assert_eq!(after, before, "{op:?}"),
            (wanted, got) => panic!("{op:?} on {known:?}: {got:?}, wanted {wanted:?}"),
        }
    }

    /// Opens the store after a cut and holds it to what was before and after the operation that was cut.
    fn recover(
        &mut self,
        lived: Lived<WRITE, ERASE>,
        peace: &[View],
        ops: &[Op],
    ) -> (Flash<WRITE, ERASE>, View) {
        let Lived { mut flash, views, .. } = lived;
        flash.restore();
        let done = views.len() - 1;
        assert_eq!(views, peace[..=done], "the same things were done");
        let mut places = [Place::EMPTY; PLACES];
        let nor = Nor::open(flash, self.region).expect("a cut leaves a store");
        let mut store = FlashStore::open(nor, &mut places).expect("a cut leaves a store");
        let seen = see(&store);
        let op = done.checked_sub(1).and_then(|done| ops.get(done));
        self.between(&views[done], peace.get(done + 1), op, &seen);
        let mut memory = vec![0; 3 * ERASE + 16];
        let states: Vec<_> = store.iter().copied().collect();
        for state in &states {
            if state.is_on_trial() || state.good.is_some() {
                self.ask(&mut store, &Op::Load(state.key), &mut memory).expect("it loads");
            }
        }
        assert_eq!(see(&store), seen, "loading changes nothing");
        let nor = store.close();
        let offsets: Vec<_> = states
            .iter()
            .flat_map(|state| state.good.into_iter().chain(state.candidate.map(|candidate| candidate.stored)))
            .map(|stored| (nor.offset(&stored) as usize, stored))
            .collect();
        let flash = nor.into_inner();
        for (offset, stored) in offsets {
            let file = &self.files[self.by_hash[&stored.hash]];
            assert_eq!(flash.bytes[offset..][..stored.len as usize], **file, "every file of a key is whole");
        }
        (flash, seen)
    }

    /// Whether `seen`, after a restart, is `old` or `new`, or with evictions done and the file not yet staged.
    fn between(&self, old: &View, new: Option<&View>, op: Option<&Op>, seen: &View) {
        let new = new.unwrap_or(old);
        let entry = |view: &View, key| view.get(key).copied().unwrap_or_default();
        let keys: Vec<Key> = KEYS.iter().map(|name| Key::new(name).expect("a name")).collect();
        let mut is_old = true;
        let mut is_new = true;
        for key in &keys {
            let (old, new, seen) = (restarted(entry(old, key)), restarted(entry(new, key)), entry(seen, key));
            assert!(seen == old || seen == new, "{op:?}: {key}: {seen:?} is neither {old:?} nor {new:?}");
            is_old &= seen == old;
            is_new &= seen == new;
        }
        // Opening, and making room before staging, go key by key; all else is one step.
        match op {
            None => {}
            Some(Op::Stage { key, .. }) => {
                let staged = entry(seen, key) != restarted(entry(old, key));
                assert!(is_new || !staged, "{op:?}: evictions come first");
            }
            Some(_) => assert!(is_old || is_new, "{op:?}: half done"),
        }
    }

    fn hash_of(&self, op: &Op) -> [u8; 32] {
        match op {
            Op::Stage { file, .. } => blake3(&self.files[*file]),
            _ => [0; 32],
        }
    }

    /// A few things to ask of a store that holds `view`; most make sense.
    fn ops(&mut self, view: &View) -> Vec<Op> {
        let mut view = after_restart(view);
        let mut ops = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            let key = Key::new(KEYS[self.rng.below(KEYS.len())]).expect("a name");
            let known = view.get(&key).copied();
            let stage =
                Op::Stage { key, file: self.rng.below(self.files.len()), sealed: self.rng.below(3) == 0 };
            let likely = match known.and_then(|entry| entry.candidate) {
                None => stage,
                Some((_, Stage::Staged)) => Op::BeginTrial { key, restarts: self.rng.below(3) as u8 },
                Some((_, Stage::Trial { .. })) => Op::Confirm(key),
            };
            let op = match self.rng.below(24) {
                0 => Op::Revert(key),
                1 => Op::Pin(key, true),
                2 | 3 => Op::Pin(key, false),
                4 => Op::Remove(key),
                5 => Op::Forget(key),
                6 | 7 => Op::Load(key),
                8 => stage,
                9 => Op::Confirm(key),
                _ => likely,
            };
            if let Some(entry) = applied(known, &op, self.hash_of(&op)) {
                view = with(view, key, entry);
            }
            ops.push(op);
        }
        ops
    }
}

/// Keys other than `key` whose good adapter went.
fn evicted(before: &View, after: &View, key: &Key) -> Vec<Key> {
    let gone = |other: &&Key| {
        let now = after.get(*other).and_then(|entry| entry.good);
        *other != key && before[*other].good.is_some() && now.is_none()
    };
    before.keys().filter(gone).copied().collect()
}

fn see<F: NorFlash>(store: &FlashStore<'_, F>) -> View {
    store.iter().map(|state| (state.key, entry(state))).collect()
}
