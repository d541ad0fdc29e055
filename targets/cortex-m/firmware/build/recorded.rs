//! Recorded words (Speech Commands; codes as the data's README says) and the model that knows them, in the development data.

use std::fs;
use std::path::{Path, PathBuf};

use crate::learn::Codes;

/// MLPerf Tiny's keyword spotter.
pub(crate) const MODEL: &str = "models/onnx/mlperf_tiny_kws_dscnn_int8.onnx";
/// Frames of a word, and values of a frame.
pub(crate) const FRAMES: usize = 49;
pub(crate) const FRAME: usize = 10;
/// What the codes stand for.
pub(crate) const CODES: Codes = Codes { scale: 0.584_702_9, zero_point: 83 };

/// Where the development data is: `INGRAFT_DATA`, or `../shared/data` beside the repository in `root`.
pub(crate) fn folder(root: &Path) -> PathBuf {
    std::env::var("INGRAFT_DATA").map_or_else(|_| root.join("../shared/data"), PathBuf::from)
}

/// Codes of all words, one behind the other, and of each its class and what was said.
pub(crate) struct Words {
    pub(crate) codes: Vec<u8>,
    pub(crate) classes: Vec<(usize, String)>,
}

impl Words {
    pub(crate) fn read(data: &Path) -> Self {
        let codes = read(data, "features/speech_commands_kws01/mfcc_int8.bin");
        let table = read(data, "features/speech_commands_kws01/labels.csv");
        let table = String::from_utf8(table).expect("a text");
        let row = |line: &str| -> Option<(usize, String)> {
            let mut fields = line.split(',').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.trim().to_owned()))
        };
        let classes: Vec<_> =
            table.lines().skip(1).map(|line| row(line).expect("a row has a label")).collect();
        assert_eq!(codes.len(), classes.len() * FRAMES * FRAME, "a class for every word");
        Self { codes, classes }
    }
}

/// A file of the data.
pub(crate) fn read(data: &Path, name: &str) -> Vec<u8> {
    fs::read(data.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
