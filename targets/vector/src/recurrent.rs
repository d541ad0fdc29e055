//! f32 recurrent layers: the products of all gates with the input and the state, then their functions, a vector at a time.
//!
//! [`Products`] says how gates are multiplied: in f32 here.
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

use crate::transcendental::{sigmoid, tanh};
use crate::vector::entry;
use crate::{Row, Task, Vector};

/// LSTM, f32 throughout.
///
/// # Safety
/// The row runs only where the instructions of `V` are.
pub const unsafe fn lstm<V: Vector>(name: &'static str) -> Kernel {
    Kernel { name, run: entry::<V, Lstm>, ..KERNEL_LSTM }
}

/// GRU, f32 throughout.
///
/// # Safety
/// The row runs only where the instructions of `V` are.
pub const unsafe fn gru<V: Vector>(name: &'static str) -> Kernel {
    Kernel { name, run: entry::<V, Gru>, ..KERNEL_GRU }
}

/// Long short-term memory.
struct Lstm;

impl<V: Vector> Row<V> for Lstm {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, v: V) -> Result<(), KernelError> {
        run_lstm(call, v, &mut Reals)
    }
}

/// Gated recurrent unit.
struct Gru;

impl<V: Vector> Row<V> for Gru {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, v: V) -> Result<(), KernelError> {
        run_gru(call, v, &mut Reals)
    }
}

/// What gates are multiplied with.
#[derive(Clone, Copy, Debug)]
pub enum Factor<'a> {
    /// An input, by the input weights.
    Input(&'a [f32]),
    /// A state, by the recurrent weights.
    State(&'a [f32]),
}

/// How gates are multiplied.
pub trait Products<V> {
    /// Writes the products of the rows of `weights` from `first` on, those of all `factors` added up.
    ///
    /// `None` when there are fewer rows than `out` has values. Must be `inline(always)`, or do its work in a function of its own.
    fn write<const N: usize>(
        &mut self,
        v: V,
        weights: &Weights<'_>,
        first: usize,
        factors: [Factor<'_>; N],
        out: &mut [f32],
    ) -> Option<()>;
}

/// Runs an LSTM layer with these products.
///
/// # Errors
/// Those of the reference.
#[inline(always)]
pub fn run_lstm<V: Vector>(
    call: &mut Call<'_, '_>,
    v: V,
    products: &mut impl Products<V>,
) -> Result<(), KernelError> {
    lstm::layer(call, |unit| v.perform(Next { unit, products: &mut *products }))
}

/// Runs a GRU layer with these products.
///
/// # Errors
/// Those of the reference.
#[inline(always)]
pub fn run_gru<V: Vector>(
    call: &mut Call<'_, '_>,
    v: V,
    products: &mut impl Products<V>,
) -> Result<(), KernelError> {
    gru::layer(call, |unit| v.perform(Next { unit, products: &mut *products }))
}

/// One sample at one time step.
struct Next<'p, U, P> {
    unit: U,
    products: &'p mut P,
}

impl<V: Vector, P: Products<V>> Task<V> for Next<'_, lstm::Unit<'_, '_>, P> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let lstm::Unit { weights, peepholes, x, hidden, cell, gates } = self.unit;
        self.products.write(v, weights, 0, [Factor::Input(x), Factor::State(hidden)], gates)?;
        let len = hidden.len();
        for at in (0..len).step_by(V::LANES) {
            let count = (len - at).min(V::LANES);
            let mut values = [v.splat(0.0); lstm::GATES];
            for (gate, value) in values.iter_mut().enumerate() {
                let place = gate * len + at;
                *value = v.add(load(v, gates, place, count)?, bias(v, weights, place, count)?);
            }
            let [mut i, mut o, mut f, z] = values;
            let mut c = load(v, cell, at, count)?;
            if let Some(peepholes) = peepholes {
                i = v.mul_add(load(v, peepholes, at, count)?, c, i);
                f = v.mul_add(load(v, peepholes, 2 * len + at, count)?, c, f);
            }
            c = v.mul_add(sigmoid(v, f), c, v.mul(sigmoid(v, i), tanh(v, z)));
            if let Some(peepholes) = peepholes {
                o = v.mul_add(load(v, peepholes, len + at, count)?, c, o);
            }
            let h = v.mul(sigmoid(v, o), tanh(v, c));
            store(v, cell, at, c, count)?;
            store(v, hidden, at, h, count)?;
        }
        Some(())
    }
}

impl<V: Vector, P: Products<V>> Task<V> for Next<'_, gru::Unit<'_, '_>, P> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let gru::Unit { weights, linear_before_reset, x, hidden, gates } = self.unit;
        let len = hidden.len();
        let (gates, inner) = gates.split_at_mut_checked(3 * len)?;
        let (first, candidate) = gates.split_at_mut_checked(2 * len)?;
        self.products.write(v, weights, 0, [Factor::Input(x), Factor::State(hidden)], first)?;
        for at in (0..len).step_by(V::LANES) {
            let count = (len - at).min(V::LANES);
            for gate in [0, 1] {
                let place = gate * len + at;
                let value = v.add(load(v, first, place, count)?, bias(v, weights, place, count)?);
                store(v, first, place, sigmoid(v, value), count)?;
            }
        }
        let inner = inner.get_mut(..len)?;
        if linear_before_reset {
            self.products.write(v, weights, 2 * len, [Factor::Input(x)], candidate)?;
            self.products.write(v, weights, 2 * len, [Factor::State(hidden)], inner)?;
        } else {
            for at in (0..len).step_by(V::LANES) {
                let count = (len - at).min(V::LANES);
                let reset = load(v, first, len + at, count)?;
                store(v, inner, at, v.mul(reset, load(v, hidden, at, count)?), count)?;
            }
            let factors = [Factor::Input(x), Factor::State(inner)];
            self.products.write(v, weights, 2 * len, factors, candidate)?;
        }
        for at in (0..len).step_by(V::LANES) {
            let (count, place) = ((len - at).min(V::LANES), 2 * len + at);
            let mut value = load(v, candidate, at, count)?;
            if linear_before_reset {
                let state = v.add(load(v, inner, at, count)?, load(v, weights.recurrent_bias, place, count)?);
                value = v.add(value, load(v, weights.input_bias, place, count)?);
                value = v.mul_add(load(v, first, len + at, count)?, state, value);
            } else {
                value = v.add(value, bias(v, weights, place, count)?);
            }
            let (update, h) = (load(v, first, at, count)?, load(v, hidden, at, count)?);
            let n = tanh(v, value);
            // (1 − z)·n + z·h
            store(v, hidden, at, v.mul_add(update, v.sub(h, n), n), count)?;
        }
        Some(())
    }
}

/// Both biases of `count` gates from `at` on.
#[inline(always)]
fn bias<V: Vector>(v: V, weights: &Weights<'_>, at: usize, count: usize) -> Option<V::Real> {
    Some(v.add(load(v, weights.input_bias, at, count)?, load(v, weights.recurrent_bias, at, count)?))
}

/// `count` values from `at` on, at most a vector.
#[inline(always)]
fn load<V: Vector>(v: V, from: &[f32], at: usize, count: usize) -> Option<V::Real> {
    let from = from.get(at..at + count)?;
    // SAFETY: as many values lie there.
    Some(unsafe { v.load_some(from.as_ptr(), count) })
}

/// Writes `count` values from `at` on, at most a vector.
#[inline(always)]
fn store<V: Vector>(v: V, to: &mut [f32], at: usize, value: V::Real, count: usize) -> Option<()> {
    let to = to.get_mut(at..at + count)?;
    // SAFETY: as many values have room there.
    unsafe { v.store_some(to.as_mut_ptr(), value, count) };
    Some(())
}

/// Products in f32.
struct Reals;

impl<V: Vector> Products<V> for Reals {
    #[inline(always)]
    fn write<const N: usize>(
        &mut self,
        v: V,
        weights: &Weights<'_>,
        first: usize,
        factors: [Factor<'_>; N],
        out: &mut [f32],
    ) -> Option<()> {
        let mut parts = [(&[][..], &[][..]); N];
        for (part, factor) in parts.iter_mut().zip(factors) {
            let (rows, values) = match factor {
                Factor::Input(x) => (weights.input, x),
                Factor::State(hidden) => (weights.recurrent, hidden),
            };
            *part = (rows.get(first * values.len()..)?, values);
        }
        products(v, parts, out)
    }
}

/// Rows whose products are summed together.
const ROWS: usize = 8;

/// `out[r] = Σ rows[r]·vector` over all pairs of rows and a vector.
#[inline(always)]
fn products<V: Vector, const N: usize>(v: V, parts: [(&[f32], &[f32]); N], out: &mut [f32]) -> Option<()> {
    let last = out.len().checked_sub(1)?;
    if parts.iter().any(|(rows, vector)| rows.len() < out.len() * vector.len()) {
        return None;
    }
    for (block, out) in out.chunks_mut(ROWS).enumerate() {
        let mut sums = [v.splat(0.0); ROWS];
        for (weights, vector) in parts {
            let (len, mut rows) = (vector.len(), [weights.as_ptr(); ROWS]);
            // Rows past the last repeat it.
            for (index, row) in rows.iter_mut().enumerate() {
                *row = row.wrapping_add((block * ROWS + index).min(last) * len);
            }
            let whole = len - len % V::LANES;
            for at in (0..whole).step_by(V::LANES) {
                // SAFETY: the vector and each row, compared above, have a whole vector of lanes at `at`.
                unsafe {
                    let x = v.load(vector.as_ptr().add(at));
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        *sum = v.mul_add(v.load(row.add(at)), x, *sum);
                    }
                }
            }
            if whole < len {
                let part = v.part(len - whole);
                // SAFETY: the vector and each row have the lanes of `part` at `whole`.
                unsafe {
                    let x = v.load_part(vector.as_ptr().add(whole), part);
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        *sum = v.mul_add(v.load_part(row.add(whole), part), x, *sum);
                    }
                }
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        for (four, out) in [[a, b, c, d], [e, f, g, h]].into_iter().zip(out.chunks_mut(4)) {
            out.iter_mut().zip(v.sums(four)).for_each(|(out, sum)| *out = sum);
        }
    }
    Some(())
}
