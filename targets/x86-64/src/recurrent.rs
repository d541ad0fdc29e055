//! f32 recurrent layers: the products of all gates with the input and the state, then their functions, a vector at a time.
//!
//! # Numerics
//! Products in one vector of partial sums a row, then across lanes; sigmoid and tanh as in [`crate::transcendental`]:
//! absolute error below 2·10⁻⁷ each.
//!
//! # Limit
//! Every weight is read once for each time step, a load for each product: two a cycle from the first level, and what the
//! second gives for layers of more than a few kilobytes.

use ingraft_kernel::recurrent::{KERNEL_GRU, KERNEL_LSTM, Weights, gru, lstm};
use ingraft_kernel::{Call, Kernel, KernelError};

use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, Task, entry};
use crate::transcendental::{sigmoid, tanh};

/// LSTM, f32 throughout.
pub(crate) const LSTM_AVX512: Kernel =
    Kernel { name: "lstm_f32_f32_f32__avx512", run: entry::<Avx512, Lstm>, ..KERNEL_LSTM };

/// As [`LSTM_AVX512`], on vectors of 256 bits.
pub(crate) const LSTM_AVX2: Kernel =
    Kernel { name: "lstm_f32_f32_f32__avx2", run: entry::<Avx2, Lstm>, ..KERNEL_LSTM };

/// GRU, f32 throughout.
pub(crate) const GRU_AVX512: Kernel =
    Kernel { name: "gru_f32_f32_f32__avx512", run: entry::<Avx512, Gru>, ..KERNEL_GRU };

/// As [`GRU_AVX512`], on vectors of 256 bits.
pub(crate) const GRU_AVX2: Kernel =
    Kernel { name: "gru_f32_f32_f32__avx2", run: entry::<Avx2, Gru>, ..KERNEL_GRU };

/// Long short-term memory.
struct Lstm;

impl Row for Lstm {
    #[inline(always)]
    fn run<S: Simd>(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        lstm::layer(call, |unit| simd.perform(Next(unit)))
    }
}

/// Gated recurrent unit.
struct Gru;

impl Row for Gru {
    #[inline(always)]
    fn run<S: Simd>(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        gru::layer(call, |unit| simd.perform(Next(unit)))
    }
}

/// One sample at one time step.
struct Next<U>(U);

impl<S: Simd> Task<S> for Next<lstm::Unit<'_, '_>> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let lstm::Unit { weights, peepholes, x, hidden, cell, gates } = self.0;
        products(simd, [(weights.input, x), (weights.recurrent, hidden)], gates)?;
        let len = hidden.len();
        for at in (0..len).step_by(S::LANES) {
            let count = (len - at).min(S::LANES);
            let mut values = [simd.splat(0.0); lstm::GATES];
            for (gate, value) in values.iter_mut().enumerate() {
                let place = gate * len + at;
                *value = simd.add(load(simd, gates, place, count)?, bias(simd, weights, place, count)?);
            }
            let [mut i, mut o, mut f, z] = values;
            let mut c = load(simd, cell, at, count)?;
            if let Some(peepholes) = peepholes {
                i = simd.mul_add(load(simd, peepholes, at, count)?, c, i);
                f = simd.mul_add(load(simd, peepholes, 2 * len + at, count)?, c, f);
            }
            c = simd.mul_add(sigmoid(simd, f), c, simd.mul(sigmoid(simd, i), tanh(simd, z)));
            if let Some(peepholes) = peepholes {
                o = simd.mul_add(load(simd, peepholes, len + at, count)?, c, o);
            }
            let h = simd.mul(sigmoid(simd, o), tanh(simd, c));
            store(simd, cell, at, c, count)?;
            store(simd, hidden, at, h, count)?;
        }
        Some(())
    }
}

impl<S: Simd> Task<S> for Next<gru::Unit<'_, '_>> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, simd: S) -> Option<()> {
        let gru::Unit { weights, linear_before_reset, x, hidden, gates } = self.0;
        let len = hidden.len();
        let (gates, inner) = gates.split_at_mut_checked(3 * len)?;
        let (first, candidate) = gates.split_at_mut_checked(2 * len)?;
        let (inputs, last_inputs) = weights.input.split_at_checked(2 * len * x.len())?;
        let (states, last_states) = weights.recurrent.split_at_checked(2 * len * len)?;
        products(simd, [(inputs, x), (states, hidden)], first)?;
        for at in (0..len).step_by(S::LANES) {
            let count = (len - at).min(S::LANES);
            for gate in [0, 1] {
                let place = gate * len + at;
                let value = simd.add(load(simd, first, place, count)?, bias(simd, weights, place, count)?);
                store(simd, first, place, sigmoid(simd, value), count)?;
            }
        }
        let inner = inner.get_mut(..len)?;
        if linear_before_reset {
            products(simd, [(last_inputs, x)], candidate)?;
            products(simd, [(last_states, hidden)], inner)?;
        } else {
            for at in (0..len).step_by(S::LANES) {
                let count = (len - at).min(S::LANES);
                let reset = load(simd, first, len + at, count)?;
                store(simd, inner, at, simd.mul(reset, load(simd, hidden, at, count)?), count)?;
            }
            products(simd, [(last_inputs, x), (last_states, inner)], candidate)?;
        }
        for at in (0..len).step_by(S::LANES) {
            let (count, place) = ((len - at).min(S::LANES), 2 * len + at);
            let mut value = load(simd, candidate, at, count)?;
            if linear_before_reset {
                let state = simd
                    .add(load(simd, inner, at, count)?, load(simd, weights.recurrent_bias, place, count)?);
                value = simd.add(value, load(simd, weights.input_bias, place, count)?);
                value = simd.mul_add(load(simd, first, len + at, count)?, state, value);
            } else {
                value = simd.add(value, bias(simd, weights, place, count)?);
            }
            let (update, h) = (load(simd, first, at, count)?, load(simd, hidden, at, count)?);
            let n = tanh(simd, value);
            // (1 − z)·n + z·h
            store(simd, hidden, at, simd.mul_add(update, simd.sub(h, n), n), count)?;
        }
        Some(())
    }
}

/// Both biases of `count` gates from `at` on.
#[inline(always)]
fn bias<S: Simd>(simd: S, weights: &Weights<'_>, at: usize, count: usize) -> Option<S::Real> {
    Some(simd.add(load(simd, weights.input_bias, at, count)?, load(simd, weights.recurrent_bias, at, count)?))
}

/// `count` values from `at` on, at most a vector.
#[inline(always)]
fn load<S: Simd>(simd: S, from: &[f32], at: usize, count: usize) -> Option<S::Real> {
    let from = from.get(at..at + count)?;
    // SAFETY: as many values lie there.
    Some(unsafe { simd.load_some(from.as_ptr(), count) })
}

/// Writes `count` values from `at` on, at most a vector.
#[inline(always)]
fn store<S: Simd>(simd: S, to: &mut [f32], at: usize, v: S::Real, count: usize) -> Option<()> {
    let to = to.get_mut(at..at + count)?;
    // SAFETY: as many values have room there.
    unsafe { simd.store(to.as_mut_ptr(), v, count) };
    Some(())
}

/// Rows whose products are summed together.
const ROWS: usize = 8;

/// `out[r] = Σ rows[r]·vector` over all pairs of rows and a vector.
#[inline(always)]
fn products<S: Simd, const N: usize>(simd: S, parts: [(&[f32], &[f32]); N], out: &mut [f32]) -> Option<()> {
    let last = out.len().checked_sub(1)?;
    if parts.iter().any(|(rows, vector)| rows.len() < out.len() * vector.len()) {
        return None;
    }
    for (block, out) in out.chunks_mut(ROWS).enumerate() {
        let mut sums = [simd.splat(0.0); ROWS];
        for (weights, vector) in parts {
            let (len, mut rows) = (vector.len(), [weights.as_ptr(); ROWS]);
            // Rows past the last repeat it.
            for (index, row) in rows.iter_mut().enumerate() {
                *row = row.wrapping_add((block * ROWS + index).min(last) * len);
            }
            let whole = len - len % S::LANES;
            for at in (0..whole).step_by(S::LANES) {
                // SAFETY: the vector and each row, compared above, have a whole vector of lanes at `at`.
                unsafe {
                    let v = simd.load(vector.as_ptr().add(at));
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        *sum = simd.mul_add(simd.load(row.add(at)), v, *sum);
                    }
                }
            }
            if whole < len {
                let part = simd.part(len - whole);
                // SAFETY: the vector and each row have the lanes of `part` at `whole`.
                unsafe {
                    let v = simd.load_part(vector.as_ptr().add(whole), part);
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        *sum = simd.mul_add(simd.load_part(row.add(whole), part), v, *sum);
                    }
                }
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        for (four, out) in [[a, b, c, d], [e, f, g, h]].into_iter().zip(out.chunks_mut(4)) {
            let mut parts = [0.0; 16];
            // SAFETY: `parts` has room for a vector.
            unsafe { simd.store(parts.as_mut_ptr(), simd.sum_parts(four), S::LANES) };
            for (index, out) in out.iter_mut().enumerate() {
                *out = parts.iter().skip(index).step_by(4).sum();
            }
        }
    }
    Some(())
}
