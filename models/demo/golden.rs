//! Two log-mel patches and what ONNX Runtime answered to them, graph optimizations off.
//!
//! The patches come from two recordings that the shipped network was not trained on (named in `CARD.md`).
//! Layout of `golden.bin`, little-endian: patches as i16 in 1/1024, then f32 outputs, in the order of the
//! functions here.

use super::LABELS;

/// Number of recorded patches, the batch dimension of everything here.
pub const BATCH: usize = 2;

/// The inputs, `[2, 1, 96, 64]`, row-major. Exact in f32.
pub fn patches() -> impl ExactSizeIterator<Item = f32> {
    pairs(&GOLDEN[..INPUT_BYTES]).map(|code| f32::from(code) / 1024.0)
}

/// `logits` `[2, 9]` of [`BASE_F32`](super::BASE_F32).
pub fn f32_logits() -> impl ExactSizeIterator<Item = f32> {
    output(0, LOGITS)
}

/// `embedding` `[2, 144]` of [`BASE_F32`](super::BASE_F32).
pub fn f32_embedding() -> impl ExactSizeIterator<Item = f32> {
    output(LOGITS, EMBEDDING)
}

/// `logits` `[2, 9]` of [`BASE_INT8`](super::BASE_INT8).
pub fn int8_logits() -> impl ExactSizeIterator<Item = f32> {
    output(LOGITS + EMBEDDING, LOGITS)
}

/// `embedding` `[2, 144]` of [`BASE_INT8`](super::BASE_INT8).
pub fn int8_embedding() -> impl ExactSizeIterator<Item = f32> {
    output(2 * LOGITS + EMBEDDING, EMBEDDING)
}

fn pairs(bytes: &'static [u8]) -> impl ExactSizeIterator<Item = i16> {
    bytes.as_chunks().0.iter().map(|&pair| i16::from_le_bytes(pair))
}

/// `count` f32 outputs after the first `skip`.
fn output(skip: usize, count: usize) -> impl ExactSizeIterator<Item = f32> {
    let start = INPUT_BYTES + 4 * skip;
    GOLDEN[start..start + 4 * count].as_chunks().0.iter().map(|&word| f32::from_le_bytes(word))
}

const LOGITS: usize = BATCH * LABELS.len();
const EMBEDDING: usize = BATCH * 144;
const INPUT_BYTES: usize = BATCH * 96 * 64 * 2;

/// The array length makes a record of any other size a compile error, so the ranges above are inside it.
static GOLDEN: [u8; INPUT_BYTES + 8 * (LOGITS + EMBEDDING)] = *include_bytes!("golden.bin");

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn log_mel_values_lie_in_the_range_of_the_front_end() {
        let silence = 0.001_f32.ln();
        assert_eq!(patches().len(), BATCH * 96 * 64);
        assert!(patches().all(|value| value >= silence - 1.0 / 1024.0 && value < 10.0));
    }

    #[test]
    fn int8_outputs_follow_the_float_outputs() {
        let cosine = |a: Vec<f32>, b: Vec<f32>| {
            let dot = |x: &[f32], y: &[f32]| -> f32 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        };
        assert!(cosine(f32_logits().collect(), int8_logits().collect()) > 0.99);
        assert!(cosine(f32_embedding().collect(), int8_embedding().collect()) > 0.99);
    }
}
