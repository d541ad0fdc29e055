//! Pictures of clothes (Fashion-MNIST) for MLPerf Tiny's image classifier, which learned other things.

use std::fs;
use std::path::Path;

use super::Source;

/// The image classifier, in the development data.
const MODEL: &str = "models/onnx/mlperf_tiny_ic_resnet8_int8.onnx";
/// What is told apart, by its number in the data.
const CLOTHES: [(u8, &str); 5] =
    [(1, "trouser"), (3, "dress"), (7, "sneaker"), (8, "bag"), (9, "ankle boot")];
/// Pixels of a line, in the data.
const SIDE: usize = 28;
/// The same of the model, which takes red, green and blue in 0…255.
const FRAMES: usize = 32;
/// Bytes before pictures and before labels.
const HEADERS: [usize; 2] = [16, 8];

/// Five kinds of clothes.
pub(super) fn source(data: &Path) -> Source {
    let read = |name: &str| fs::read(data.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let pictures = read("images/fashion_mnist/images-idx3-ubyte");
    let labels = read("images/fashion_mnist/labels-idx1-ubyte");
    let pictures = pictures[HEADERS[0]..].chunks_exact(SIDE * SIDE).zip(&labels[HEADERS[1]..]);
    let of = |(number, _): (u8, &str)| {
        let chosen = pictures.clone().filter(|(_, label)| **label == number);
        chosen.map(|(picture, _)| vec![framed(picture)]).collect()
    };
    Source {
        name: "MLPerf Tiny's image classifier, five kinds of clothes",
        onnx: read(MODEL),
        labels: CLOTHES.map(|(_, name)| name.to_owned()).to_vec(),
        frames: FRAMES,
        frame: 3 * FRAMES,
        classes: CLOTHES.map(of).to_vec(),
        drift: 1.0,
    }
}

/// A grey picture in the middle of a black one, line by line.
fn framed(picture: &[u8]) -> Vec<f32> {
    let border = (FRAMES - SIDE) / 2;
    let mut pixels = vec![0.0; 3 * FRAMES * FRAMES];
    for (y, line) in picture.chunks_exact(SIDE).enumerate() {
        let start = 3 * ((y + border) * FRAMES + border);
        for (pixel, grey) in pixels[start..].chunks_exact_mut(3).zip(line) {
            pixel.fill(f32::from(*grey));
        }
    }
    pixels
}
