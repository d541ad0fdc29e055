//! What the keyword spotter hears in a word, the same code on the host and on the device.

use ingraft_adapter::Base;
use ingraft_exec::Session;
use ingraft_kernel::Host;
use ingraft_tensor::bytes;

use crate::learn::{Codes, largest};

/// The class of `word`, whose `codes` have room in `window`.
pub fn hear(
    session: &mut Session<'_, '_, Host>,
    codes: Codes,
    word: &[u8],
    window: &mut [f32],
) -> Option<usize> {
    codes.read(bytes::cast(word)?, window);
    session.write_input(0, bytes::of(window)).ok()?;
    session.run(&Base).ok()?;
    session.output(0)?.as_slice().map(largest)
}
