//! One key as the 128 bytes that are written of it.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | check: the first bytes of BLAKE3 over the record with the salt in the place of this field |
//! | 8 | 8 | floor: the highest version that was ever good |
//! | 16 | 8 | version of the candidate |
//! | 24 | 4 | when it was used last, on a clock that counts uses |
//! | 28 | 1 | flags: 1 pinned, 2 the good file is sealed, 4 the candidate is |
//! | 29 | 1 | candidate: 0 none, 1 staged, 2 on trial |
//! | 30 | 1 | restarts that the trial may outlive |
//! | 31 | 1 | 0 |
//! | 32 | 8 | good file: first sector, bytes; 0 bytes where there is none |
//! | 40 | 8 | candidate: the same |
//! | 48 | 16 | key, padded with zeros |
//! | 64 | 32 | BLAKE3 of the good file |
//! | 96 | 32 | BLAKE3 of the candidate |
//!
//! Integers are little-endian. The salt is the sequence number of the bank that the record stands in, so that a
//! record of an earlier life of the same bytes is none. Fields without meaning are 0: a state has one record.

use ingraft_tensor::hash::blake3;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::Key;
use crate::state::{Candidate, KeyState, Stage, Stored};

/// Bytes of a record.
pub const RECORD_BYTES: usize = 128;

/// Bytes of a record or of the head of a bank.
pub(crate) type Bytes = [u8; RECORD_BYTES];

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    check: [u8; 8],
    floor: u64,
    version: u64,
    used: u32,
    flags: u8,
    stage: u8,
    restarts: u8,
    reserved: u8,
    good: File,
    candidate: File,
    key: [u8; Key::BYTES],
    good_hash: [u8; 32],
    candidate_hash: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct File {
    sector: u32,
    len: u32,
}

/// The record of `state`.
pub(crate) fn encode(state: &KeyState, salt: u64) -> Bytes {
    let mut record = Record::new_zeroed();
    record.floor = state.floor;
    record.used = state.used;
    record.key = state.key.to_bytes();
    record.flags = if state.pinned { PINNED } else { 0 };
    if let Some(good) = &state.good {
        (record.good, record.good_hash) = (File { sector: good.sector, len: good.len }, good.hash);
        record.flags |= if good.sealed { GOOD_SEALED } else { 0 };
    }
    if let Some(Candidate { stored, version, stage }) = &state.candidate {
        record.candidate = File { sector: stored.sector, len: stored.len };
        record.candidate_hash = stored.hash;
        record.version = *version;
        record.flags |= if stored.sealed { CANDIDATE_SEALED } else { 0 };
        (record.stage, record.restarts) = match stage {
            Stage::Staged => (1, 0),
            Stage::Trial { restarts } => (2, *restarts),
        };
    }
    let mut bytes = [0; RECORD_BYTES];
    bytes.iter_mut().zip(record.as_bytes()).for_each(|(to, byte)| *to = *byte);
    with_check(bytes, salt)
}

/// The state that `bytes` are the record of; `None` where they are no record.
pub(crate) fn decode(bytes: &Bytes, salt: u64) -> Option<KeyState> {
    (with_check(*bytes, salt) == *bytes).then_some(())?;
    let record = Record::read_from_bytes(bytes).ok()?;
    let file = |file: File, hash, sealed: u8| {
        let stored = Stored { hash, len: file.len, sector: file.sector, sealed: record.flags & sealed != 0 };
        (file.len != 0).then_some(stored)
    };
    let stored = file(record.candidate, record.candidate_hash, CANDIDATE_SEALED);
    let stage = match (record.stage, record.restarts) {
        (1, 0) => Some(Stage::Staged),
        (2, restarts) => Some(Stage::Trial { restarts }),
        _ => None,
    };
    let candidate =
        stored.zip(stage).map(|(stored, stage)| Candidate { stored, version: record.version, stage });
    let state = KeyState {
        key: Key::from_bytes(record.key)?,
        good: file(record.good, record.good_hash, GOOD_SEALED),
        candidate,
        floor: record.floor,
        pinned: record.flags & PINNED != 0,
        used: record.used,
    };
    // Whatever a state does not say must be zero.
    (encode(&state, salt) == *bytes).then_some(state)
}

/// `bytes` with the check that they should have.
pub(crate) fn with_check(mut bytes: Bytes, salt: u64) -> Bytes {
    let mut put = |check: &[u8]| {
        bytes.iter_mut().zip(check).for_each(|(to, byte)| *to = *byte);
        bytes
    };
    let [a, b, c, d, e, f, g, h, ..] = blake3(&put(&salt.to_le_bytes()));
    put(&[a, b, c, d, e, f, g, h])
}

const PINNED: u8 = 1;
const GOOD_SEALED: u8 = 2;
const CANDIDATE_SEALED: u8 = 4;

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    fn stored() -> impl Strategy<Value = Stored> {
        (any::<[u8; 32]>(), 1u32..=u32::MAX, any::<u32>(), any::<bool>())
            .prop_map(|(hash, len, sector, sealed)| Stored { hash, len, sector, sealed })
    }

    fn state() -> impl Strategy<Value = KeyState> {
        let stage =
            prop_oneof![Just(Stage::Staged), any::<u8>().prop_map(|restarts| Stage::Trial { restarts })];
        let candidate = (stored(), any::<u64>(), stage).prop_map(|(stored, version, stage)| Candidate {
            stored,
            version,
            stage,
        });
        let rest = ("[a-z0-9][a-z0-9._-]{0,15}", any::<u64>(), any::<bool>(), any::<u32>());
        (rest, proptest::option::of(stored()), proptest::option::of(candidate)).prop_map(
            |((key, floor, pinned, used), good, candidate)| {
                let key = Key::new(&key).expect("a name");
                KeyState { key, good, candidate, floor, pinned, used }
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_reads_as_it_was_written(state in state(), salt: u64) {
            prop_assert_eq!(decode(&encode(&state, salt), salt), Some(state));
            prop_assert_eq!(decode(&encode(&state, salt), salt ^ 1), None);
        }

        #[test]
        fn one_bit_makes_it_none(state in state(), bit in 0..8 * RECORD_BYTES) {
            let mut bytes = encode(&state, 7);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes, 7), None);
        }

        /// With the check made right, whatever is accepted is the one record of its state.
        #[test]
        fn any_bytes_are_one_record_or_none(bytes: [u8; RECORD_BYTES], state in state(), at in 8..RECORD_BYTES) {
            for bytes in [bytes, {
                let mut near = encode(&state, 7);
                near[at] = bytes[at];
                near
            }] {
                let bytes = with_check(bytes, 7);
                if let Some(state) = decode(&bytes, 7) {
                    prop_assert_eq!(encode(&state, 7), bytes);
                }
            }
        }
    }
}
