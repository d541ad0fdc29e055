//! Plans and adapters: records of tables, under a length and a hash that are right.

use super::{Input, Own, change};
use crate::exercise::sealed;

/// Changes a plan.
pub fn plan(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| tables(input, most, 48..192, &PLAN_TABLES))
}

/// Changes an adapter.
pub fn adapter(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| tables(input, most, 80..200, &ADAPTER_TABLES))
}

/// Changes the header, a record or anything, and seals the file.
fn tables(input: &mut Input<'_>, most: usize, header: core::ops::Range<usize>, tables: &[usize]) {
    if input.once_in(3) {
        input.own_whole(most);
    } else {
        for _ in 0..1 + input.random.below(4) {
            let place = match input.random.below(6) {
                0 => header.clone(),
                _ => {
                    let table = input.one_of(tables);
                    table_at(input, table)
                }
            };
            edit(input, place);
        }
        if input.once_in(12) {
            let len = input.bytes.len();
            input.bytes.truncate(len - input.random.below(len.max(1)).min(64));
        }
    }
    if !input.once_in(64) {
        input.bytes = sealed(&input.bytes);
    }
}

/// The bytes of a table, as far as where the next one may begin.
fn table_at(input: &Input<'_>, table: usize) -> core::ops::Range<usize> {
    let start = (input.word_at(table) as usize).min(input.bytes.len());
    start..start.saturating_add(input.word_at(table + 4) as usize * 64).min(input.bytes.len())
}

fn edit(input: &mut Input<'_>, place: core::ops::Range<usize>) {
    let words = place.len() / 4;
    if words == 0 {
        return;
    }
    let mut at = || place.start + 4 * input.random.below(words);
    let (to, from) = (at(), at());
    match input.random.below(8) {
        // A whole record, or a part of one, over another.
        0 => {
            let len = input.one_of(&[4, 8, 16, 28, 32, 64, 72]);
            input.copy(from, to, len);
        }
        1 => {
            let word = input.word_at(from);
            input.put(to, word);
        }
        2 => {
            let byte = to + input.random.below(4);
            let value = input.random.next_u64() as u8;
            if let Some(place) = input.bytes.get_mut(byte) {
                *place = value;
            }
        }
        _ => {
            let word = input.word(input.word_at(to));
            input.put(to, word);
        }
    }
}

/// Where the header of a plan says where its tables are.
const PLAN_TABLES: [usize; 8] = [48, 56, 64, 72, 80, 88, 96, 104];
/// The same for an adapter: strings, declared sites, index, terms, parameters, settings.
const ADAPTER_TABLES: [usize; 6] = [104, 112, 120, 128, 176, 184];
