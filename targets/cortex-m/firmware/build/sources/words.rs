//! Recorded words (Speech Commands; codes as the data's README says) for MLPerf Tiny's keyword spotter.

use std::fs;
use std::path::Path;

use super::Source;

/// The keyword spotter, in the development data.
pub(super) const MODEL: &str = "models/onnx/mlperf_tiny_kws_dscnn_int8.onnx";
/// The words that are told apart: go, left, right, stop, yes.
const WORDS: [usize; 5] = [1, 2, 6, 7, 9];

/// Five words.
pub(super) fn source(data: &Path) -> Source {
    let read = |name: &str| fs::read(data.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let codes = read("features/speech_commands_kws01/mfcc_int8.bin");
    let table = String::from_utf8(read("features/speech_commands_kws01/labels.csv")).expect("a text");
    let row = |line: &str| -> Option<(usize, String)> {
        let mut fields = line.split(',').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.trim().to_owned()))
    };
    let rows: Vec<_> = table.lines().skip(1).map(|line| row(line).expect("a row has a label")).collect();
    let real = |code: &u8| (f32::from(*code as i8) - 83.0) * 0.584_702_9;
    let clips = |word: usize| -> Vec<Vec<Vec<f32>>> {
        let of_word = codes.chunks_exact(490).zip(&rows).filter(|(_, row)| row.0 == word);
        of_word.map(|(clip, _)| vec![clip.iter().map(real).collect()]).collect()
    };
    let label = |word: usize| rows.iter().find(|row| row.0 == word).expect("the word was recorded").1.clone();
    Source {
        name: "MLPerf Tiny's keyword spotter, five words",
        onnx: read(MODEL),
        labels: WORDS.map(label).to_vec(),
        frames: 49,
        frame: 10,
        classes: WORDS.map(clips).to_vec(),
        drift: 3.0,
    }
}
