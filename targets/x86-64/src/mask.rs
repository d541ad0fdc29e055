//! Straight-through bits: which values a clamp left as they are.

use crate::avx2::requantize;
use crate::gemm::STRIP;
use crate::simd::{Simd, Task};

/// Writes the bits of the channels of one pixel.
pub(crate) struct Write<'v, 'm, V, const N: usize> {
    pub(crate) values: &'v [V; N],
    /// Channels that there are.
    pub(crate) count: usize,
    /// The clamp's limits.
    pub(crate) limits: [f32; 2],
    pub(crate) mask: &'m mut [u8],
    /// The bit of the first channel.
    pub(crate) at: usize,
}

impl<S: Simd, const N: usize> Task<S> for Write<'_, '_, S::Real, N> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let Self { values, count, limits: [lo, hi], mask, at } = self;
        const { assert!(N * S::LANES <= STRIP) };
        let mut reals = [0.0f32; STRIP];
        for (n, v) in values.iter().enumerate() {
            // SAFETY: `STRIP` values cover `N` vectors.
            unsafe { simd.store(reals.as_mut_ptr().add(n * S::LANES), *v) };
        }
        // SAFETY: every instruction set of this crate has AVX2.
        unsafe { requantize::mask(reals.get(..count)?, lo, hi, mask, at) };
        Some(())
    }
}
