//! Recordings: fields of the format chunk, and lengths that fit the file.

use super::{Input, Own, change};

/// Changes a WAV file.
pub fn wav(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| {
        match input.random.below(4) {
            0 => input.own_whole(most),
            1 => field(input),
            2 => chunk(input),
            _ => samples(input),
        }
        if !input.once_in(8) {
            lengths(input);
        }
    })
}

/// One of the fields that say what a sample is: they must agree with each other, so several may change.
fn field(input: &mut Input<'_>) {
    let Some(format) = find(&input.bytes, b"fmt ") else { return };
    let code = input.one_of(&[1u16, 3, 0xfffe, 2, 0]);
    let channels = input.one_of(&[1u16, 2, 3, 8, 0, 0xffff]);
    let bits = input.one_of(&[8u16, 16, 24, 32, 12, 64, 0]);
    let rate = input.one_of(&[16_000u32, 8000, 44_100, 48_000, 1000, 1, 0, u32::MAX]);
    let bytes = bits.div_ceil(8).wrapping_mul(channels);
    let body = format + 8;
    let mut half = |at: usize, value: u16| {
        if let Some(chunk) = input.bytes.get_mut(body + at..).and_then(|rest| rest.first_chunk_mut()) {
            *chunk = value.to_le_bytes();
        }
    };
    half(0, code);
    half(2, channels);
    half(12, bytes);
    half(14, bits);
    input.put(body + 4, rate);
    input.put(body + 8, rate.wrapping_mul(u32::from(bytes)));
    if input.once_in(3) {
        let at = body + 2 * input.random.below(20);
        let word = input.word(input.word_at(at));
        input.put(at, word);
    }
}

/// Another chunk before the samples, or a name that is none.
fn chunk(input: &mut Input<'_>) {
    let Some(data) = find(&input.bytes, b"data") else { return };
    let name = input.one_of(&[b"LIST", b"fact", b"fmt ", b"junk", b"data"]);
    let len = input.random.below(9);
    let chunk = [&name[..], &(len as u32).to_le_bytes(), &vec![1; len + len % 2]].concat();
    input.bytes.splice(data..data, chunk);
}

fn samples(input: &mut Input<'_>) {
    let Some(data) = find(&input.bytes, b"data") else { return };
    let len = input.bytes.len().saturating_sub(data + 8);
    for _ in 0..1 + input.random.below(4) {
        let at = data + 8 + input.random.below(len.max(1));
        let word = input.word(input.word_at(at));
        input.put(at, word);
    }
    if input.once_in(3) {
        let more = input.random.below(17);
        input.bytes.extend(core::iter::repeat_n(0x40, more));
    }
}

/// What the outer chunk and the samples' say of their lengths.
fn lengths(input: &mut Input<'_>) {
    let len = input.bytes.len();
    input.put(4, len.saturating_sub(8) as u32);
    if let Some(data) = find(&input.bytes, b"data") {
        input.put(data + 4, len.saturating_sub(data + 8) as u32);
    }
}

fn find(bytes: &[u8], name: &[u8; 4]) -> Option<usize> {
    bytes.windows(4).position(|window| window == name)
}
