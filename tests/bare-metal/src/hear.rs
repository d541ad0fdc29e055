//! What the keyword spotter hears in a word, the same code on the host and on the device.

use ingraft_adapter::Base;
use ingraft_exec::Session;
use ingraft_kernel::Host;
use ingraft_tensor::bytes;

/// Values of a word: 49 frames of 10.
pub const WINDOW: usize = 490;
/// What codes of words stand for, as the README of the data says: `SCALE · (code − ZERO_POINT)`.
const SCALE: f32 = 0.584_702_9;
const ZERO_POINT: i32 = 83;

/// The class of `word`, codes of [`WINDOW`] values; the first of the likeliest.
pub fn hear(session: &mut Session<'_, '_, Host>, word: &[u8]) -> Option<u8> {
    let mut window = [0.0; WINDOW];
    for (value, code) in window.iter_mut().zip(word) {
        *value = (i32::from(code.cast_signed()) - ZERO_POINT) as f32 * SCALE;
    }
    session.write_input(0, bytes::of(&window)).ok()?;
    session.run(&Base).ok()?;
    let scores: &[f32] = session.output(0)?.as_slice()?;
    let (mut best, mut most) = (0, f32::NEG_INFINITY);
    for (class, score) in (0u8..).zip(scores) {
        if *score > most {
            (best, most) = (class, *score);
        }
    }
    Some(best)
}
