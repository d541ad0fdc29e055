//! Register tiles: the products of some rows with the weights of a chunk.

use super::{Arithmetic, Finish, Pixels, Rows, TILE};
use crate::columns::BLOCK as WIDE;
use crate::patches::{Addresses, Each, STEP, Walk};
use crate::simd::{Simd, fetch_at};
use crate::split::{CHOICE, Remainder, Remainders};

/// Some rows, and the weights of one chunk.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, S, C> {
    pub(super) simd: S,
    pub(super) context: C,
    pub(super) rows: Rows<'a>,
    /// Steps of a segment: a division for every tile would take as long as a row of products.
    pub(super) steps: usize,
    /// Where each step of a patch lies, for patches of many short segments; else empty.
    pub(super) places: &'a [usize],
    pub(super) weights: &'a [u8],
    /// What was split off them.
    pub(super) rest: Remainders<'a>,
}

impl<S: Simd, C: Copy> Block<'_, S, C> {
    /// All tiles, of the height whose sums, weights and patches stay in registers.
    ///
    /// # Safety
    /// As [`Self::tile`], for all pixels of the block and `vectors` vectors; `blocks` as its `BLOCKS`.
    #[inline(always)]
    pub(super) unsafe fn chunk<A: Arithmetic<S, Context = C>, F: Finish<S, A>>(
        &self,
        vectors: usize,
        blocks: bool,
        finish: &mut F,
    ) -> Option<()> {
        // SAFETY: the caller's contract.
        unsafe {
            if A::SPLIT {
                return match vectors {
                    1 => self.tiles::<A, 8, 4, 1, false>(finish),
                    2 => self.tiles::<A, 6, 4, 2, false>(finish),
                    _ => None,
                };
            }
            if S::REGISTERS < 32 {
                return match vectors {
                    1 => self.tiles::<A, 12, 4, 1, false>(finish),
                    2 => self.tiles::<A, 6, 3, 2, false>(finish),
                    _ => None,
                };
            }
            if F::BESIDE {
                return match vectors {
                    1 => self.tiles::<A, 12, 4, 1, false>(finish),
                    2 => self.tiles::<A, 6, 3, 2, false>(finish),
                    3 => self.tiles::<A, 4, 2, 3, false>(finish),
                    4 => self.tiles::<A, 3, 2, 4, false>(finish),
                    _ => None,
                };
            }
            match vectors {
                1 if blocks && !A::EVEN => self.tiles::<A, 6, 3, 1, true>(finish),
                1 => self.tiles::<A, 12, 4, 1, false>(finish),
                2 => self.tiles::<A, 12, 4, 2, false>(finish),
                3 => self.tiles::<A, 8, 4, 3, false>(finish),
                4 => self.tiles::<A, 6, 3, 4, false>(finish),
                _ => None,
            }
        }
    }

    /// All tiles: of `M` pixels, then a last one of the least height that holds the rest, or two of `HALF` where these hold
    /// what one of `M` and another would.
    ///
    /// # Safety
    /// As [`Self::tile`], for all pixels of the block and `N` vectors.
    #[inline(always)]
    unsafe fn tiles<
        A: Arithmetic<S, Context = C>,
        const M: usize,
        const HALF: usize,
        const N: usize,
        const BLOCKS: bool,
    >(
        &self,
        finish: &mut impl Finish<S, A>,
    ) -> Option<()> {
        let end = self.rows.first + self.rows.count;
        let mut first = self.rows.first;
        // SAFETY: the caller's contract.
        unsafe {
            while first + M <= end && !(M + 2..=2 * HALF).contains(&(end - first)) {
                self.tile::<A, M, N, BLOCKS>(first, M, finish)?;
                first += M;
            }
            if first + M < end {
                self.tile::<A, HALF, N, BLOCKS>(first, HALF, finish)?;
                first += HALF;
            }
            match end - first {
                0 => Some(()),
                1 => self.tile::<A, 1, N, BLOCKS>(first, 1, finish),
                rest if rest <= HALF => self.tile::<A, HALF, N, BLOCKS>(first, rest, finish),
                rest => self.tile::<A, M, N, BLOCKS>(first, rest, finish),
            }
        }
    }

    /// One tile: `count` pixels from `first` on, at most `M`.
    ///
    /// # Safety
    /// - The patches of these pixels, [`Patches::reach`] bytes from their offsets on, lie in `bytes`.
    /// - `weights` holds `N` vectors for every step of a patch, with `BLOCKS` four for every sixteen
    ///   bytes of segments that are whole blocks.
    #[inline(always)]
    unsafe fn tile<A: Arithmetic<S, Context = C>, const M: usize, const N: usize, const BLOCKS: bool>(
        &self,
        first: usize,
        count: usize,
        finish: &mut impl Finish<S, A>,
    ) -> Option<()> {
        let Rows { patches, bytes, base, .. } = self.rows;
        let pixels = Pixels { first: base + first, count };
        let beside = finish.beside(pixels, [[A::zero(self.simd); N]; M]);
        let vector = A::BYTES * S::LANES;
        let mut start = [finish.start(0); N];
        for (n, start) in start.iter_mut().enumerate() {
            *start = finish.start(n);
        }
        let mut sums: [[A::Sum; N]; M] = [start; M];
        let mut weight = self.weights.as_ptr();
        if A::EVEN {
            const { assert!(TILE.is_multiple_of(M)) };
            // SAFETY: the caller's contract; tiles end within a multiple of `TILE`, and so many patches are there.
            sums = unsafe { self.steps::<A, _, M, N>(self.rows.even(first), &mut weight, sums) };
            let (done, beside) = (sums, beside);
            return finish.tile_beside(pixels, &done, &beside);
        }
        let mut quarters = [[A::zero(self.simd); 4]; M];
        let offsets: [usize; M] = patches.offsets(first, count);
        let each = Each::new(bytes, &offsets);
        if !BLOCKS {
            for place in self.places {
                // SAFETY: places are those of the patches' steps: the caller's contract.
                unsafe {
                    let mut weights = [A::weight(self.simd, weight); N];
                    for (n, weights) in weights.iter_mut().enumerate() {
                        *weights = A::weight(self.simd, weight.add(n * vector));
                    }
                    for (sums, offset) in sums.iter_mut().zip(&offsets) {
                        let patch = A::patch(self.simd, self.context, bytes.as_ptr().add(offset + place));
                        for (sum, weights) in sums.iter_mut().zip(&weights) {
                            *sum = A::multiply(self.simd, *sum, patch, *weights);
                        }
                    }
                    weight = weight.add(N * vector);
                }
            }
        }
        let segments = if BLOCKS || self.places.is_empty() { patches.segments.count } else { 0 };
        let mut segment = Walk::default();
        for _ in 0..segments {
            // SAFETY: offsets, segments and steps stay within the patches, the weights advance by
            // `N` vectors a step: the caller's contract.
            unsafe {
                let rows = each.after(segment.at);
                let blocks = if BLOCKS { self.steps * STEP / WIDE } else { 0 };
                for block in 0..blocks {
                    let mut weights = [A::weight(self.simd, weight); 4];
                    for (g, weights) in weights.iter_mut().enumerate() {
                        *weights = A::weight(self.simd, weight.add(g * vector));
                    }
                    for (m, sums) in quarters.iter_mut().enumerate() {
                        let patch = A::block(self.simd, self.context, rows.of(m).add(block * WIDE));
                        for (sum, weights) in sums.iter_mut().zip(&weights) {
                            *sum = A::multiply(self.simd, *sum, patch, *weights);
                        }
                    }
                    weight = weight.add(4 * vector);
                }
                if !BLOCKS {
                    sums = self.steps::<A, _, M, N>(rows, &mut weight, sums);
                }
            }
            patches.next_segment(&mut segment);
        }
        if BLOCKS {
            for (sums, quarters) in sums.iter_mut().zip(quarters) {
                sums[0] = A::sum_quarters(self.simd, sums[0], quarters);
            }
        }
        if A::SPLIT {
            let last = patches.reach(1).checked_sub(CHOICE * STEP)?;
            for n in 0..N {
                let mut column = [sums[0][n]; M];
                for (to, sums) in column.iter_mut().zip(&sums) {
                    *to = sums[n];
                }
                for remainder in self.rest.of(n) {
                    // SAFETY: the caller's contract.
                    column = unsafe { self.add_rest::<A, M>(remainder, &offsets, last, column)? };
                }
                for remainder in self.rest.more_of(n) {
                    // SAFETY: the caller's contract.
                    column = unsafe { self.add_rest::<A, M>(remainder, &offsets, last, column)? };
                }
                for (sums, sum) in sums.iter_mut().zip(&column) {
                    sums[n] = *sum;
                }
            }
        }
        // A copy: the sums themselves would be kept in memory while they grow if their address were passed on.
        let (done, beside) = (sums, beside);
        finish.tile_beside(pixels, &done, &beside)
    }

    /// `sums` with the products of the steps of a segment of `M` patches; `weight` moves behind them.
    ///
    /// # Safety
    /// The segments lie at `rows`, and `N` vectors for every step at `weight`.
    #[inline(always)]
    unsafe fn steps<A: Arithmetic<S, Context = C>, P: Addresses<M>, const M: usize, const N: usize>(
        &self,
        rows: P,
        weight: &mut *const u8,
        mut sums: [[A::Sum; N]; M],
    ) -> [[A::Sum; N]; M] {
        let vector = A::BYTES * S::LANES;
        for step in 0..self.steps {
            if A::SPLIT && M > 1 {
                // The next chunk's: what the processor fetches ahead by itself ends with a page.
                fetch_at(weight.wrapping_add(self.weights.len()));
            }
            // SAFETY: the caller's contract.
            unsafe {
                let mut weights = [A::weight(self.simd, *weight); N];
                for (n, weights) in weights.iter_mut().enumerate() {
                    *weights = A::weight(self.simd, weight.add(n * vector));
                }
                let rows = rows.step(step);
                for (m, sums) in sums.iter_mut().enumerate() {
                    let patch = A::patch(self.simd, self.context, rows.of(m));
                    for (sum, weights) in sums.iter_mut().zip(&weights) {
                        *sum = A::multiply(self.simd, *sum, patch, *weights);
                    }
                }
                *weight = weight.add(N * vector);
            }
        }
        sums
    }

    /// The sums of a vector for the patches at `offsets`, with what was split off; `None` for a place past `last`.
    ///
    /// # Safety
    /// Patches lie in `bytes` as far behind `last` as [`CHOICE`] steps.
    #[inline(always)]
    unsafe fn add_rest<A: Arithmetic<S, Context = C>, const M: usize>(
        &self,
        remainder: Remainder<'_>,
        offsets: &[usize; M],
        last: usize,
        sums: [A::Sum; M],
    ) -> Option<[A::Sum; M]> {
        let place = remainder.place();
        if place > last {
            return None;
        }
        let mut from = [self.rows.bytes.as_ptr(); M];
        for (from, offset) in from.iter_mut().zip(offsets) {
            *from = from.wrapping_add(offset + place);
        }
        // SAFETY: the caller's contract.
        Some(unsafe { A::add_rest(self.simd, remainder, from, sums) })
    }
}
