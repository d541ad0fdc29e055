//! Flash images: records and heads under checks that are right.

use ingraft_store::record::RECORD_BYTES;

use super::{Input, Own, change};
use crate::exercise::IMAGE_BYTES;

/// Changes what is done with a store, or its image.
pub fn store(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| {
        let deeds = input.bytes.len().saturating_sub(IMAGE_BYTES);
        match input.random.below(6) {
            0 => input.own_whole(most),
            1 => {
                let image = input.bytes.split_off(deeds);
                let mut deeds = core::mem::take(&mut input.bytes);
                input.own(&mut deeds, most.saturating_sub(image.len()).min(32));
                input.bytes = [deeds, image].concat();
            }
            _ => (0..1 + input.random.below(3)).for_each(|_| slot(input, deeds)),
        }
    })
}

/// Changes one record or head and makes its check right.
fn slot(input: &mut Input<'_>, deeds: usize) {
    let number = input.random.below(SLOTS);
    let at = deeds + number * RECORD_BYTES;
    let Some(record) = input.bytes.get(at..at + RECORD_BYTES) else { return };
    let erased = record.iter().all(|byte| *byte == 0xff);
    let head = number % BANK_SLOTS < 2;
    if erased || input.once_in(4) {
        let from = deeds + input.random.below(SLOTS) * RECORD_BYTES;
        input.copy(from, at, RECORD_BYTES);
    }
    for _ in 0..input.random.below(3) {
        let field = at + input.one_of(if head { &HEAD_FIELDS } else { &RECORD_FIELDS });
        match input.random.below(3) {
            0 => {
                let word = input.word(input.word_at(field));
                input.put(field, word);
            }
            1 => {
                let value = input.one_of(&[0, 1, 2, 3, 4, 7, 0xff]);
                if let Some(byte) = input.bytes.get_mut(field) {
                    *byte = value;
                }
            }
            _ => {
                let from = deeds + input.random.below(SLOTS) * RECORD_BYTES + field % RECORD_BYTES;
                input.copy(from, field, 4);
            }
        }
    }
    let bank = deeds + number / BANK_SLOTS * BANK_SLOTS * RECORD_BYTES;
    let salt = if head { u64::MAX } else { u64::from(input.word_at(bank + SEQUENCE)) };
    let Some(record) = input.bytes.get_mut(at..at + RECORD_BYTES) else { return };
    record[..8].copy_from_slice(&salt.to_le_bytes());
    let check = blake3::hash(record);
    record[..8].copy_from_slice(&check.as_bytes()[..8]);
}

/// Slots of a bank, and of both.
const BANK_SLOTS: usize = 8;
const SLOTS: usize = 16;
/// Where a head has its bank's sequence number.
const SEQUENCE: usize = 20;
/// First bytes of the fields of a head and of a record.
const HEAD_FIELDS: [usize; 9] = [16, 20, 24, 28, 32, 36, 40, 44, 100];
const RECORD_FIELDS: [usize; 12] = [8, 12, 16, 24, 28, 29, 30, 32, 36, 40, 44, 48];
