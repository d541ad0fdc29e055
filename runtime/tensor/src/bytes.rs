//! Checked casts between bytes and element slices.
//!
//! The casts are `zerocopy`'s, so alignment and length are verified and no
//! crate of the runtime needs `unsafe` for them. Files and arenas are
//! little-endian, as is every supported target.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::DType;

#[cfg(target_endian = "big")]
compile_error!("plans and adapters are little-endian; no big-endian target is supported");

/// Alignment of every blob in a file and of every tensor in an arena.
pub const ALIGN: usize = 16;

/// A type for which any bytes are a value and that has no padding.
pub trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static> Plain for T {}

/// A type that a tensor's bytes can be viewed as.
pub trait Element: Plain {
    /// The file code of this type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($ty:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $ty { const DTYPE: DType = DType::$dtype; })*
    };
}

elements!(f32 => F32, i8 => I8, u8 => U8, i16 => I16, i32 => I32, i64 => I64);

/// `bytes` as a slice of `T`; `None` when misaligned or not a whole number of elements.
///
/// No bytes are no elements, wherever they start.
pub fn cast<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    if bytes.is_empty() {
        return Some(&[]);
    }
    <[T]>::ref_from_bytes(bytes).ok()
}

/// `bytes` as a mutable slice of `T`; `None` when misaligned or not a whole number of elements.
///
/// No bytes are no elements, wherever they start.
pub fn cast_mut<T: Plain>(bytes: &mut [u8]) -> Option<&mut [T]> {
    if bytes.is_empty() {
        return Some(&mut []);
    }
    <[T]>::mut_from_bytes(bytes).ok()
}

/// `values` as bytes.
pub fn of<T: Plain>(values: &[T]) -> &[u8] {
    values.as_bytes()
}

/// `values` as mutable bytes.
pub fn of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    values.as_mut_bytes()
}

/// The longest suffix of `bytes` that starts at an [`ALIGN`] boundary.
pub fn aligned_mut(bytes: &mut [u8]) -> &mut [u8] {
    let skip = bytes.as_ptr().align_offset(ALIGN).min(bytes.len());
    bytes.get_mut(skip..).unwrap_or(&mut [])
}

/// `n` rounded up to [`ALIGN`], saturating.
pub const fn align_up(n: usize) -> usize {
    match n.checked_add(ALIGN - 1) {
        Some(sum) => sum & !(ALIGN - 1),
        None => usize::MAX & !(ALIGN - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cast_checks_alignment_and_length() {
        let words = [1.0f32, 2.0];
        let bytes = of(&words);
        assert_eq!(cast::<f32>(bytes).unwrap(), &words);
        assert!(cast::<f32>(&bytes[1..5]).is_none());
        assert!(cast::<f32>(&bytes[..7]).is_none());
        assert_eq!(cast::<i8>(&bytes[1..4]).unwrap().len(), 3);
        assert_eq!(cast::<f32>(&bytes[1..1]).unwrap().len(), 0);
        assert_eq!(cast_mut::<i64>(&mut []).unwrap().len(), 0);
    }

    #[test]
    fn align_up_saturates() {
        assert_eq!(align_up(0), 0);
        assert_eq!(align_up(1), 16);
        assert_eq!(align_up(usize::MAX), usize::MAX - 15);
    }
}
