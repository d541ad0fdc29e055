//! A row of f32, a vector at a time.

use crate::Vector;

/// Does the body with where every vector of a row of `len` begins, its lanes, and which of two partial sums it is for:
/// all but the last are whole. A macro, as a closure would not be compiled for the instruction set.
macro_rules! pairs {
    ($vector:ty, $len:expr, |$at:ident, $lanes:ident, $odd:pat_param| $body:block) => {{
        let len: usize = $len;
        let mut at = 0;
        while at + 2 * <$vector>::LANES <= len {
            {
                let ($at, $lanes, $odd) = (at, <$vector>::LANES, 0);
                $body
            }
            {
                let ($at, $lanes, $odd) = (at + <$vector>::LANES, <$vector>::LANES, 1);
                $body
            }
            at += 2 * <$vector>::LANES;
        }
        if at + <$vector>::LANES <= len {
            let ($at, $lanes, $odd) = (at, <$vector>::LANES, 0);
            $body
            at += <$vector>::LANES;
        }
        if at < len {
            let ($at, $lanes, $odd) = (at, len - at, 1);
            $body
        }
    }};
}

pub(super) use pairs;

/// The sums over all lanes of up to four vectors.
#[inline(always)]
pub(super) fn across<V: Vector, const N: usize>(v: V, sums: [V::Real; N]) -> [f32; N] {
    let mut four = [v.splat(0.0); 4];
    four.iter_mut().zip(sums).for_each(|(to, from)| *to = from);
    let found = v.sums(four);
    core::array::from_fn(|index| found.get(index).copied().unwrap_or(0.0))
}
