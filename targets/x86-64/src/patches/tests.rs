//! Patches of images that are copied in bands, byte by byte against the image with its padding.

extern crate std;

use std::vec;
use std::vec::Vec;

use ingraft_kernel::window::ConvShape;

use super::{Patches, STEP};

const FILL: u8 = 0x5a;
const MOVED: u8 = 0x80;

fn shape(input: [usize; 4], output: [usize; 2], stride: [usize; 2], groups: usize) -> ConvShape {
    let [samples, _, _, channels] = input;
    ConvShape {
        input,
        output: [samples, output[0], output[1], groups],
        kernel: [3, 5],
        stride,
        dilation: [2, 1],
        pad: [3, 2],
        groups,
        in_group: channels / groups,
        out_group: 1,
    }
}

/// Byte `byte` of `pixel` at a row and column of the image with its padding, as the copy holds it.
fn wanted(input: &[u8], shape: &ConvShape, size: usize, at: [usize; 4], byte: usize) -> u8 {
    let [sample, y, x, offset] = at;
    let [_, height, width, channels] = shape.input;
    let inside = y.checked_sub(shape.pad[0]).zip(x.checked_sub(shape.pad[1]));
    match inside.filter(|(y, x)| *y < height && *x < width) {
        Some((y, x)) => input[((sample * height + y) * width + x) * channels * size + offset + byte] ^ MOVED,
        None => FILL ^ MOVED,
    }
}

/// Compares every byte of every patch; how many bands a sample took.
fn compare(shape: &ConvShape, size: usize, wide: usize) -> usize {
    let [samples, height, width, channels] = shape.input;
    let bytes = samples * height * width * channels * size;
    let input: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    let patches = Patches::new(shape, size, wide, wide > 1).expect("the image may be copied");
    let mut copy = vec![0xff; patches.copy_bytes()];
    for sample in 0..samples {
        for (band, before) in (0..patches.pixels).step_by(patches.band).enumerate() {
            let (bytes, _) =
                patches.of_band(&input, [sample, band], [FILL, MOVED], &mut copy).expect("it fits");
            for pixel in 0..patches.band.min(patches.pixels - before) {
                let (line, column) = ((before + pixel) / shape.output[2], (before + pixel) % shape.output[2]);
                for group in 0..shape.groups {
                    for segment in 0..patches.segments.count {
                        let (row, tap) = (segment / patches.inner, segment % patches.inner);
                        let from = patches.offset(pixel)
                            + group * patches.group
                            + row * patches.outer_step
                            + tap * patches.inner_step;
                        for byte in 0..patches.segments.len {
                            let (tap, byte) = match patches.inner {
                                1 => (byte / (shape.in_group * size), byte % (shape.in_group * size)),
                                _ => (tap, byte),
                            };
                            let y = line * shape.stride[0] + row * shape.dilation[0];
                            let x = column * shape.stride[1] + tap * shape.dilation[1];
                            let offset = group * shape.in_group * size;
                            let at = from
                                + (if patches.inner == 1 { tap * shape.in_group * size } else { 0 } + byte)
                                    * wide;
                            let found = bytes[at];
                            assert_eq!(found, wanted(&input, shape, size, [sample, y, x, offset], byte));
                            assert!(wide == 1 || bytes[at + 1] == 0, "the upper half of a widened byte");
                        }
                    }
                }
            }
            assert!(bytes.len() >= STEP, "room to read a last step whole");
        }
    }
    patches.pixels.div_ceil(patches.band)
}

#[test]
fn an_image_that_fits_is_one_band() {
    assert_eq!(compare(&shape([2, 9, 11, 4], [4, 11], [2, 1], 1), 4, 1), 1);
}

#[test]
fn bands_hold_what_the_whole_image_would() {
    assert_eq!(compare(&shape([2, 97, 61, 24], [50, 61], [2, 1], 1), 4, 1), 2);
    assert_eq!(compare(&shape([1, 97, 61, 24], [50, 30], [2, 2], 2), 4, 1), 2);
    assert_eq!(compare(&shape([1, 150, 61, 64], [147, 30], [1, 2], 1), 1, 2), 3);
}

#[test]
fn a_line_beyond_a_band_is_a_band_of_its_own() {
    assert_eq!(compare(&shape([1, 5, 3000, 16], [2, 3000], [3, 1], 1), 4, 1), 2);
}
