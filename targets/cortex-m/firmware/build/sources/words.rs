//! Five recorded words for MLPerf Tiny's keyword spotter.

use std::path::Path;

use ingraft_tensor::bytes;

use super::Source;
use crate::recorded::{CODES, FRAME, FRAMES, MODEL, Words, read};

/// The words that are told apart: go, left, right, stop, yes.
const WORDS: [usize; 5] = [1, 2, 6, 7, 9];

/// Five words.
pub(super) fn source(data: &Path) -> Source {
    let Words { codes, classes } = Words::read(data);
    let window = |clip: &[u8]| {
        let mut values = vec![0.0; clip.len()];
        CODES.read(bytes::cast(clip).expect("bytes are codes"), &mut values);
        values
    };
    let clips = |word: usize| -> Vec<Vec<Vec<f32>>> {
        let of_word = codes.chunks_exact(FRAMES * FRAME).zip(&classes).filter(|(_, class)| class.0 == word);
        of_word.map(|(clip, _)| vec![window(clip)]).collect()
    };
    let label =
        |word: usize| classes.iter().find(|class| class.0 == word).expect("the word was recorded").1.clone();
    Source {
        name: "MLPerf Tiny's keyword spotter, five words",
        onnx: read(data, MODEL),
        labels: WORDS.map(label).to_vec(),
        frames: FRAMES,
        frame: FRAME,
        classes: WORDS.map(clips).to_vec(),
        drift: 3.0,
    }
}
