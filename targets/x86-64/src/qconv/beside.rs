//! int8 output with integer factors alone, whose products stay in registers beside those of the base.
//!
//! # Blocking
//! Products with B come first, `2·⌈r/4⌉` steps of a pair of u for each pixel and `N` vectors of B; the base's sums grow beside them. So
//! with 32 registers a tile has half the pixels of one of the base: a store of 64 bytes would take the place of 1.3
//! products. With sixteen it has all, whose B·u wait in memory: six sums alone would wait for each other, and a store of 32 bytes costs nothing.

use ingraft_kernel::qconv::QConv;

use super::factors::{Plan, QUAD, Up};
use super::finish::{Codes, Constants};
use super::low_rank::{LowRank, latents_of};
use crate::columns::Chunk;
use crate::gemm::{Arithmetic, BLOCK, Finish, Pixels, Rows};
use crate::simd::Simd;

/// Codes of a layer of one group whose values are within ±2³¹.
pub(super) struct WithFactors<'a, 'f, 'o, S: Simd> {
    simd: S,
    constants: Constants<'a>,
    codes: Codes<'o, S>,
    plan: Plan,
    factors: &'f [u8],
    /// B of the chunk.
    pairs: &'f [i16],
    scale: &'f [f32],
    /// u of the block, `[rank / 4][BLOCK][4]`.
    latents: &'f mut [[i16; QUAD]],
    /// The first pixel of the block.
    first: usize,
}

impl<'a, 'f, 'o, S: Simd> WithFactors<'a, 'f, 'o, S> {
    /// `None` for a term whose factors are not all packed at once.
    #[inline(always)]
    pub(super) fn new<'m: 'f>(
        simd: S,
        conv: &QConv<'a>,
        term: LowRank<'a, 'm>,
        out: &'o mut [i8],
    ) -> Option<Self>
    where
        'a: 'f,
    {
        let (constants, codes) = (Constants::new(conv), Codes::new(simd, conv, out));
        let (plan, factors, latents) = term.into_whole()?;
        Some(Self { simd, constants, codes, plan, factors, pairs: &[], scale: &[], latents, first: 0 })
    }
}

impl<S: Simd, A: Arithmetic<S, Sum = S::Int>> Finish<S, A> for WithFactors<'_, '_, '_, S> {
    const BESIDE: bool = true;

    #[inline(always)]
    fn rows(&mut self, _: usize, rows: &Rows<'_>) -> Option<()> {
        self.first = rows.base + rows.first;
        latents_of(self.simd, rows, self.plan.group(self.factors, 0)?, self.latents)
    }

    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, sums: &[i32]) -> Option<()> {
        self.constants.load(group, chunk, sums)?;
        let at = self.plan.up(0, chunk.before);
        (self.pairs, self.scale) = match chunk.vectors {
            1 => Up::<1>::at(self.factors, at, S::LANES, self.plan.quads())?.parts(),
            2 => Up::<2>::at(self.factors, at, S::LANES, self.plan.quads())?.parts(),
            3 => Up::<3>::at(self.factors, at, S::LANES, self.plan.quads())?.parts(),
            4 => Up::<4>::at(self.factors, at, S::LANES, self.plan.quads())?.parts(),
            _ => return None,
        };
        Some(())
    }

    #[inline(always)]
    fn start(&self, n: usize) -> S::Int {
        self.constants.start(self.simd, n)
    }

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(&mut self, _: Pixels, _: &[[S::Int; N]; M]) -> Option<()> {
        None
    }

    /// B·u.
    #[inline(always)]
    fn beside<const M: usize, const N: usize>(
        &self,
        pixels: Pixels,
        mut products: [[S::Int; N]; M],
    ) -> [[S::Int; N]; M] {
        const { assert!(M <= BLOCK) };
        let (simd, half) = (self.simd, N * 2 * S::LANES);
        let first = pixels.first.wrapping_sub(self.first).min(BLOCK - M);
        let quads = (self.pairs.len() / (2 * half)).min(self.latents.len() / BLOCK);
        let (mut pairs, mut u) = (self.pairs.as_ptr(), self.latents.as_ptr().wrapping_add(first));
        for _ in 0..quads {
            for pair in 0..2 {
                let mut b = [simd.splat_int(0); N];
                for (n, b) in b.iter_mut().enumerate() {
                    // SAFETY: two times `N` vectors lie in the slice for each four rank rows.
                    *b = unsafe { simd.load_int(pairs.add(pair * half + n * 2 * S::LANES).cast()) };
                }
                for (m, products) in products.iter_mut().enumerate() {
                    // SAFETY: `first + m` is below `BLOCK`; each u of it has eight bytes.
                    let u = simd.splat_int(unsafe { u.add(m).cast::<i32>().add(pair).read_unaligned() });
                    for (product, b) in products.iter_mut().zip(&b) {
                        *product = simd.dot_pairs(*product, u, *b);
                    }
                }
            }
            (pairs, u) = (pairs.wrapping_add(2 * half), u.wrapping_add(BLOCK));
        }
        products
    }

    #[inline(always)]
    fn tile_beside<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[S::Int; N]; M],
        products: &[[S::Int; N]; M],
    ) -> Option<()> {
        let simd = self.simd;
        let scales = self.scale.get(..N * S::LANES)?.as_ptr();
        let mut scale = [simd.splat(0.0); N];
        for (n, scale) in scale.iter_mut().enumerate() {
            // SAFETY: `N` vectors lie in the slice.
            *scale = unsafe { simd.load(scales.add(n * S::LANES)) };
        }
        let mut values = [[simd.splat(0.0); N]; M];
        for ((values, sums), products) in values.iter_mut().zip(sums).zip(products) {
            *values = self.constants.scaled(simd, sums);
            // By index: an iterator over three arrays of vectors would become a function of its own.
            for (n, value) in values.iter_mut().enumerate() {
                *value = simd.add(*value, simd.mul(simd.to_real(products[n]), scale[n]));
            }
        }
        self.codes.write::<M, N, true>(simd, &self.constants, pixels, &values)
    }
}
