//! A row of f32, a vector at a time.

use super::vector::Vector;

/// Calls `each` with where every vector of a row of `len` begins, its lanes, and which of two partial sums it is for: all
/// but the last are whole.
#[inline(always)]
pub(super) fn pairs<V: Vector>(len: usize, mut each: impl FnMut(usize, usize, usize)) {
    let mut at = 0;
    while at + 2 * V::LANES <= len {
        each(at, V::LANES, 0);
        each(at + V::LANES, V::LANES, 1);
        at += 2 * V::LANES;
    }
    if at + V::LANES <= len {
        each(at, V::LANES, 0);
        at += V::LANES;
    }
    if at < len {
        each(at, len - at, 1);
    }
}

/// The sums over all lanes of up to four vectors.
#[inline(always)]
pub(super) fn across<V: Vector, const N: usize>(v: V, sums: [V::Real; N]) -> [f32; N] {
    let mut four = [v.splat(0.0); 4];
    four.iter_mut().zip(sums).for_each(|(to, from)| *to = from);
    let found = v.sums(four);
    core::array::from_fn(|index| found.get(index).copied().unwrap_or(0.0))
}
