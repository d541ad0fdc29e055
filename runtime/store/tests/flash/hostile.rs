//! Flash as an attacker, or time, leaves it: whatever stands there, nothing panics and no wrong byte is loaded.

use crate::device::{Fault, Flash};
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use ingraft_store::record::RECORD_BYTES;
use ingraft_store::{FlashStore, Key, KeyState, Nor, Place, Policy, PublicKey, Region, Seal, StoreError};
use ingraft_tensor::hash::blake3;
use proptest::prelude::*;

type Nor4 = Flash<4, 512>;

const REGION: Region = Region { offset: 0, bank_bytes: 1536, file_bytes: 10 * 512 };
const SECTORS: usize = 16;

/// A store with a past: good adapters, one staged, one on trial, and banks that were changed.
fn lived() -> Nor4 {
    let nor = Nor::format(Flash::new(SECTORS, 5), REGION).expect("it can be formatted");
    let mut places = [Place::EMPTY; 8];
    let mut store = FlashStore::open(nor, &mut places).expect("it was formatted");
    for round in 0..6u8 {
        for name in ["a", "b", "c"] {
            let key = Key::new(name).expect("a name");
            let seal = Seal::from_bytes([round; Seal::BYTES]);
            let file = vec![round; 300 + usize::from(round)];
            store.stage(key, &file, (round % 2 == 0).then_some(&seal), &Policy::ANY).expect("there is room");
            store.begin_trial(&key, 9).expect("staged");
            if round < 5 || name == "a" {
                store.confirm(&key).expect("on trial");
            }
        }
    }
    store.close().into_inner()
}

/// Opens whatever this is and asks it everything.
fn exercise(flash: Nor4) {
    let mut places = [Place::EMPTY; 8];
    let Ok(nor) = Nor::open(flash, REGION) else { return };
    let Ok(mut store) = FlashStore::open(nor, &mut places) else { return };
    let states: Vec<KeyState> = store.iter().copied().collect();
    let mut memory = vec![0; 8192];
    for state in &states {
        let hashes = [state.good.map(|good| good.hash), state.candidate.map(|c| c.stored.hash)];
        match store.load(&state.key, &mut memory) {
            Ok(loaded) => {
                assert!(hashes.contains(&Some(blake3(loaded.bytes))), "only what was stored is loaded")
            }
            Err(StoreError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
        let _ = store.seal(&state.key).expect("no cell fails").map(|seal| seal.verify(&[]));
    }
    for state in &states {
        let _ = (store.confirm(&state.key), store.pin(&state.key, true), store.pin(&state.key, false));
    }
    let fresh = Key::new("fresh").expect("a name");
    for key in states.iter().map(|state| state.key).chain([fresh]) {
        match store.stage(key, &[1; 700], None, &Policy::ANY) {
            Ok(()) | Err(StoreError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(store.iter().count() <= store.most_keys());
}

#[test]
fn any_one_bit_flips() {
    let flash = lived();
    for bit in 0..8 * flash.bytes.len() {
        let mut flipped = flash.clone();
        flipped.bytes[bit / 8] ^= 1 << (bit % 8);
        // In a file all bits are alike.
        if bit / 8 < 2 * REGION.bank_bytes as usize || bit % 61 == 0 {
            exercise(flipped);
        }
    }
}

/// The record at `at` of the flash, with the check made right for a bank of this sequence number.
fn forge(flash: &mut Nor4, at: usize, salt: u64) {
    let record = &mut flash.bytes[at..at + RECORD_BYTES];
    record[..8].copy_from_slice(&salt.to_le_bytes());
    let check = blake3(record);
    record[..8].copy_from_slice(&check[..8]);
}

/// The sequence number of the bank at `offset`, whatever stands there.
fn sequence(flash: &Nor4, offset: usize) -> u64 {
    let bytes = flash.bytes[offset + 20..offset + 24].try_into().expect("four bytes");
    u64::from(u32::from_le_bytes(bytes))
}

fn bytes_to_write() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(0xff), Just(1), Just(0x7f), any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Records with fields of any value under checks that are right.
    #[test]
    fn forged_records(
        edits in prop::collection::vec((0..24usize, 8..RECORD_BYTES, bytes_to_write()), 1..30),
    ) {
        let mut flash = lived();
        for &(slot, at, byte) in &edits {
            flash.bytes[slot * RECORD_BYTES + at] = byte;
        }
        for &(slot, _, _) in &edits {
            let bank = slot / 12 * 1536;
            let salt = if slot % 12 < 2 { u64::MAX } else { sequence(&flash, bank) };
            forge(&mut flash, slot * RECORD_BYTES, salt);
        }
        exercise(flash);
    }

    #[test]
    fn noise(seed: u64, from in 0..SECTORS * 512, len in 0..4096usize) {
        let mut flash = lived();
        let noise = Nor4::new(SECTORS, seed);
        let to = (from + len).min(flash.bytes.len());
        flash.bytes[from..to].copy_from_slice(&noise.bytes[from..to]);
        exercise(flash);
    }

    #[test]
    fn seals_and_keys_of_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 200..230), key: [u8; 32], honest: bool) {
        if honest {
            let start = b"INGRSEAL\x01\0\0\0\0\0\0\0";
            bytes[..start.len()].copy_from_slice(start);
        }
        let trusted: Vec<PublicKey> = PublicKey::new(&key).into_iter().collect();
        if let (Some(trusted), Some(bytes)) = (trusted.first(), bytes.get_mut(144..152)) {
            bytes.copy_from_slice(&trusted.id());
        }
        let seal = Seal::read(&bytes);
        prop_assert_eq!(seal.is_some(), bytes.len() == Seal::BYTES);
        prop_assert!(seal.is_none_or(|seal| seal.verify(&trusted).is_err()));
    }
}

/// A hostile bank cannot make opening longer than its slots.
#[test]
fn opening_reads_each_record_once() {
    struct Counting(Nor4, usize);
    impl embedded_storage::nor_flash::ErrorType for Counting {
        type Error = Fault;
    }
    impl ReadNorFlash for Counting {
        const READ_SIZE: usize = 1;
        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
            self.1 += bytes.len();
            self.0.read(offset, bytes)
        }
        fn capacity(&self) -> usize {
            self.0.capacity()
        }
    }
    impl NorFlash for Counting {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 512;
        fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
            self.0.erase(from, to)
        }
        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
            self.0.write(offset, bytes)
        }
    }
    let nor = Nor::open(Counting(Nor::format(lived(), REGION).expect("fits").into_inner(), 0), REGION);
    let mut places = [Place::EMPTY; 8];
    let store = FlashStore::open(nor.expect("formatted"), &mut places).expect("formatted");
    assert!(store.close().into_inner().1 <= (4 + 12) * RECORD_BYTES);
}
