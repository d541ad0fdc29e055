//! The scale-and-shift term beside a product.

use core::ops::Range;

use ingraft_kernel::terms::Affine;

use crate::gemm::STRIP;
use crate::simd::Simd;

/// The term of a layer, and of the chunk at hand.
pub(crate) struct ChunkAffine<'a> {
    term: Option<Affine<'a>>,
    /// One over the output's scale.
    inverse: f32,
    scale: [f32; STRIP],
    /// In output steps.
    shift: [f32; STRIP],
}

impl<'a> ChunkAffine<'a> {
    /// A term, if one acts, on values in steps of one over `inverse`.
    pub(crate) fn new(term: Option<Affine<'a>>, inverse: f32) -> Self {
        Self { term, inverse, scale: [0.0; STRIP], shift: [0.0; STRIP] }
    }

    /// Whether it changes anything.
    #[inline(always)]
    pub(crate) fn acts(&self) -> bool {
        self.term.is_some()
    }

    /// Prepares for a chunk, by its channels in the layer.
    #[inline(always)]
    pub(crate) fn chunk(&mut self, channels: Range<usize>) -> Option<()> {
        let Some(term) = self.term else { return Some(()) };
        self.scale.iter_mut().zip(term.scale.get(channels.clone())?).for_each(|(to, v)| *to = *v);
        let shift = term.shift.get(channels)?;
        self.shift.iter_mut().zip(shift).for_each(|(to, v)| *to = *v * self.inverse);
        Some(())
    }

    /// Changes the values of a pixel's channels.
    #[inline(always)]
    pub(crate) fn apply<S: Simd, const N: usize>(&self, simd: S, values: &mut [S::Real; N]) {
        const { assert!(N * S::LANES <= STRIP) };
        if self.acts() {
            for (n, value) in values.iter_mut().enumerate() {
                let at = n * S::LANES;
                // SAFETY: `STRIP` values cover `N` vectors.
                let (scale, shift) = unsafe {
                    (simd.load(self.scale.as_ptr().add(at)), simd.load(self.shift.as_ptr().add(at)))
                };
                *value = simd.add(simd.mul(*value, scale), shift);
            }
        }
    }
}
