//! Slices as arrays of a length known to the compiler: `as_chunks` of the standard library, for compilers before Rust 1.88.

use zerocopy::{FromBytes, IntoBytes};

use crate::bytes::Plain;

/// `values` as arrays of `N`, and what is left of a multiple of that.
#[inline(always)]
pub fn arrays<T: Plain, const N: usize>(values: &[T]) -> (&[[T; N]], &[T]) {
    let (whole, rest) = values.split_at_checked(whole::<N>(values.len())).unwrap_or((&[], values));
    (<[[T; N]]>::ref_from_bytes(whole.as_bytes()).unwrap_or(&[]), rest)
}

/// As [`arrays`], to write.
#[inline(always)]
pub fn arrays_mut<T: Plain, const N: usize>(values: &mut [T]) -> (&mut [[T; N]], &mut [T]) {
    let (whole, rest) = values.split_at_mut_checked(whole::<N>(values.len())).unwrap_or_default();
    (<[[T; N]]>::mut_from_bytes(whole.as_mut_bytes()).unwrap_or(&mut []), rest)
}

/// The largest multiple of `N` up to `len`.
const fn whole<const N: usize>(len: usize) -> usize {
    const { assert!(N != 0, "arrays have elements") };
    len - len % N
}

#[cfg(test)]
mod tests {
    use super::{arrays, arrays_mut};

    #[test]
    fn nothing_is_lost() {
        let mut values: [u16; 11] = core::array::from_fn(|i| i as u16);
        for len in 0..values.len() {
            let expected = values[..len].as_chunks::<4>();
            assert_eq!(arrays::<_, 4>(&values[..len]), expected);
            assert_eq!(arrays::<_, 1>(&values[..len]), values[..len].as_chunks::<1>());
        }
        let (fours, rest) = arrays_mut::<_, 4>(&mut values);
        fours.iter_mut().for_each(|four| four.reverse());
        rest.fill(0);
        assert_eq!(values, [3, 2, 1, 0, 7, 6, 5, 4, 0, 0, 0]);
    }
}
