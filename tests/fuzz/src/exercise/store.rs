//! Flash as power cuts, time or an attacker left it: open, ask, go on living, open again.

#[allow(dead_code, reason = "power stays on here")]
#[path = "../../../../runtime/store/tests/flash/device.rs"]
mod device;

use ingraft_store::{
    Candidate, FlashStore, Guard, Key, KeyState, Nor, Observed, Place, Policy, Region, Seal, Stage,
    StoreError, Stored,
};
use ingraft_tensor::hash::blake3;

use self::device::Flash;

/// The region that a store takes: two banks of eight slots, files in eight sectors.
pub const REGION: Region = Region { offset: 0, bank_bytes: 1024, file_bytes: 8 * SECTOR as u32 };
/// Bytes of the flash.
pub const IMAGE_BYTES: usize = 12 * SECTOR;

const SECTOR: usize = 512;

/// Every byte before the last [`IMAGE_BYTES`] is something to do with the store; missing bytes read as erased.
pub fn store(bytes: &[u8]) {
    let (deeds, image) = bytes.split_at(bytes.len().saturating_sub(IMAGE_BYTES));
    let mut flash = Flash::<4, SECTOR>::new(12, 1);
    flash.bytes.fill(0xff);
    flash.bytes[..image.len()].copy_from_slice(image);
    let mut places = [Place::EMPTY; 8];
    let Ok(nor) = Nor::open(flash, REGION) else { return };
    let Ok(mut store) = FlashStore::open(nor, &mut places) else { return };
    let opened = sorted(store.iter());
    load_all(&mut store, &opened);
    let failed = deeds.iter().take(32).any(|deed| act(&mut store, *deed).is_err());
    if !failed {
        let states = sorted(store.iter());
        load_all(&mut store, &states);
    }
    // A candidate that did not verify is reverted by now.
    let lived = sorted(store.iter());
    let flash = store.close().into_inner();

    let mut places = [Place::EMPTY; 8];
    let nor = Nor::open(flash, REGION).expect("it was opened before");
    let store = FlashStore::open(nor, &mut places).expect("it was opened before");
    if failed {
        return;
    }
    // When a key was used goes with its next record, so it is not looked at.
    let wanted: Vec<Told> = lived.iter().map(restarted).filter(|told| !told.is_empty()).collect();
    let found: Vec<Told> = sorted(store.iter()).iter().map(Told::of).collect();
    assert_eq!(found, wanted, "what was done is there after a restart");
}

/// Images of stores that have lived, with more to do.
pub fn lived() -> Vec<(&'static str, Vec<u8>)> {
    let lives: [(&str, &[u8]); 4] = [
        ("fresh", &[]),
        ("one", &[0x00, 0x42, 0x03]),
        ("trial", &[0x20, 0x02, 0x03, 0x29, 0x8a, 0xc2]),
        ("long", &[0x01, 0x02, 0x03, 0x28, 0x0a, 0x0b, 0x55, 0x30, 0x72, 0x13, 0x60, 0xc2, 0x85, 0x8d]),
    ];
    let image = |deeds: &[u8]| {
        let nor = Nor::format(Flash::<4, SECTOR>::new(12, 5), REGION).expect("the region fits");
        let mut places = [Place::EMPTY; 8];
        let mut store = FlashStore::open(nor, &mut places).expect("it was formatted");
        deeds.iter().for_each(|deed| drop(act(&mut store, *deed)));
        [&[0x10, 0x52, 0x13][..], &store.close().into_inner().bytes].concat()
    };
    lives.into_iter().map(|(name, deeds)| (name, image(deeds))).collect()
}

type Opened<'p> = FlashStore<'p, Flash<4, SECTOR>>;

fn sorted<'s>(states: impl Iterator<Item = &'s KeyState>) -> Vec<KeyState> {
    let mut states: Vec<KeyState> = states.copied().collect();
    states.sort_by_key(|state| state.key.to_bytes());
    states
}

/// What a state says.
#[derive(Debug, PartialEq)]
struct Told {
    key: Key,
    good: Option<Stored>,
    candidate: Option<Candidate>,
    floor: u64,
    pinned: bool,
}

impl Told {
    fn of(state: &KeyState) -> Self {
        let KeyState { key, good, candidate, floor, pinned, .. } = *state;
        Self { key, good, candidate, floor, pinned }
    }

    fn is_empty(&self) -> bool {
        self.good.is_none() && self.candidate.is_none() && self.floor == 0 && !self.pinned
    }
}

/// What a restart makes of a state: a trial has one restart fewer, or is over.
fn restarted(state: &KeyState) -> Told {
    let candidate = state.candidate.and_then(|candidate| match candidate.stage {
        Stage::Staged => Some(candidate),
        Stage::Trial { restarts } => {
            let stage = Stage::Trial { restarts: restarts.checked_sub(1)? };
            Some(Candidate { stage, ..candidate })
        }
    });
    Told { candidate, ..Told::of(state) }
}

fn load_all(store: &mut Opened<'_>, states: &[KeyState]) {
    let mut memory = [0; 8 * SECTOR + 16];
    for state in states {
        let hashes = [state.good.map(|good| good.hash), state.candidate.map(|c| c.stored.hash)];
        match store.load(&state.key, &mut memory) {
            Ok(loaded) => {
                assert!(hashes.contains(&Some(blake3(loaded.bytes))), "only what was stored is loaded")
            }
            Err(StoreError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
        let _ = store.seal(&state.key).map(|seal| seal.map(|seal| seal.verify(&[]).is_ok()));
    }
}

/// One thing a device does with its store: the low three bits say which, the others with which key or file.
/// A store that fails must be opened again.
fn act(store: &mut Opened<'_>, deed: u8) -> Result<(), Failed> {
    let name = ["a", "b", "c", "fresh"][usize::from(deed >> 3) % 4];
    let key = Key::new(name).expect("a name");
    let file = [deed; 1100];
    let file = &file[..[1, 128, 500, 1100][usize::from(deed >> 5) % 4]];
    let seal = Seal::from_bytes([deed; Seal::BYTES]);
    let seen = Observed { clips: 9, right: u32::from(deed >> 4), ..Observed::default() };
    let guard = Guard { clips: 9, least_right: 700, most_lost: 20, most_saturated: 10 };
    let done = match deed % 8 {
        0 => store.stage(key, file, None, &Policy::ANY),
        1 => store.stage(key, file, Some(&seal), &Policy::ANY),
        2 => store.begin_trial(&key, deed >> 6),
        3 => store.confirm(&key),
        4 => store.revert(&key),
        5 => store.pin(&key, deed >> 7 != 0),
        6 => store.judge(&key, &seen, &guard).map(drop),
        _ if deed >> 7 != 0 => store.remove(&key),
        _ => store.forget(&key),
    };
    match done {
        Ok(()) | Err(StoreError::Refused(_)) => Ok(()),
        // A flash that is full of what cannot be written, or whose sequence numbers are used up.
        Err(StoreError::Unwritable { .. } | StoreError::Format) => Err(Failed),
        Err(error) => panic!("{error}"),
    }
}

struct Failed;
