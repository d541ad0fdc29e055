//! A step's workspace, piece by piece.

use ingraft_tensor::bytes::{Plain, cast_mut};

/// Takes `count` elements of `T` off the front of `memory`; `None` when they do not fit or are misaligned.
pub fn take<'m, T: Plain>(memory: &mut &'m mut [u8], count: usize) -> Option<&'m mut [T]> {
    let bytes = count.checked_mul(size_of::<T>())?;
    let (front, rest) = core::mem::take(memory).split_at_mut_checked(bytes)?;
    *memory = rest;
    cast_mut(front)
}
