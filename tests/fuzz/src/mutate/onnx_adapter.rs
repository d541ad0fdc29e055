//! FlatBuffers: offsets that lead somewhere.

use super::{Own, change};

/// Changes an `.onnx_adapter`.
pub fn onnx_adapter(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| {
        let words = input.bytes.len() / 4;
        if words == 0 || input.once_in(3) {
            return input.own_whole(most);
        }
        for _ in 0..1 + input.random.below(3) {
            let (to, from) = (4 * input.random.below(words), 4 * input.random.below(words));
            match input.random.below(5) {
                // An offset to another table, vector or text.
                0 => input.put(to, (from as u32).wrapping_sub(to as u32)),
                1 => {
                    let word = input.word(input.word_at(to));
                    input.put(to, word);
                }
                2 => {
                    let len = input.one_of(&[2, 4, 8, 16, 48]);
                    input.copy(from, to, len);
                }
                // Small numbers: extents, types, slots of a vtable.
                3 => {
                    let value = input.random.below(20) as u32;
                    input.put(to, value);
                }
                _ => {
                    let half = input.one_of(&[0u16, 4, 6, 8, 12, 16, 0xffff]);
                    if let Some(chunk) =
                        input.bytes.get_mut(to + 2 * (from % 2)..).and_then(|r| r.first_chunk_mut())
                    {
                        *chunk = half.to_le_bytes();
                    }
                }
            }
        }
        if !input.once_in(16)
            && let Some(mark) = input.bytes.get_mut(4..8)
        {
            mark.copy_from_slice(b"TORT");
        }
    })
}
