//! Gradient of an f32 softmax and of its logarithm, a row at a time.
//!
//! # Numerics
//! `Σ dy·y`, or `Σ dy` for the logarithm, in two vectors of partial sums, so in 16 or 32 of them, then across lanes. The
//! exponential is [`exp`]'s.
//!
//! # Limit
//! Two passes over a row that stays in the first-level cache: two multiply-adds and a sum for five loads and a store.

use ingraft_kernel::attrs::SoftmaxAttrs;
use ingraft_kernel::backward::gradient;
use ingraft_kernel::{Call, KernelError};

use super::row::{across, pairs};
use crate::transcendental::exp;
use crate::{Task, Vector};

/// Adds `y·(dy − Σ dy·y)`; for the logarithm `dy − exp(y)·Σ dy`.
pub(super) fn run<V: Vector>(v: V, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, attrs) = (call.operands(), *call.attrs::<SoftmaxAttrs>()?);
    let len = call.input(0)?.shape().dims().last().map_or(1, |&d| d as usize).max(1);
    let (dy, y) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let dx = gradient(call)?;
    v.perform(Gradient { log: attrs.log == 1, len, dy, y, dx }).ok_or(error)
}

/// Rows of `len`.
#[derive(Debug)]
struct Gradient<'a, 'o> {
    /// Whether `y` is the logarithm.
    log: bool,
    len: usize,
    dy: &'a [f32],
    y: &'a [f32],
    dx: &'o mut [f32],
}

impl<V: Vector> Task<V> for Gradient<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let Self { log, len, dy, y, dx } = self;
        for ((dy, y), dx) in dy.chunks_exact(len).zip(y.chunks_exact(len)).zip(dx.chunks_exact_mut(len)) {
            match log {
                true => row::<V, true>(v, (dy, y), dx),
                false => row::<V, false>(v, (dy, y), dx),
            }
        }
        Some(())
    }
}

/// One row; all slices are as long as `dx`.
#[inline(always)]
fn row<V: Vector, const LOG: bool>(v: V, (dy, y): (&[f32], &[f32]), dx: &mut [f32]) {
    let len = dx.len().min(dy.len()).min(y.len());
    let mut sums = [v.splat(0.0); 2];
    pairs!(V, len, |at, lanes, odd| {
        // SAFETY: rows have `lanes` elements from `at` on.
        let (dy, y) =
            unsafe { (v.load_some(dy.as_ptr().add(at), lanes), v.load_some(y.as_ptr().add(at), lanes)) };
        sums[odd] = if LOG { v.add(sums[odd], dy) } else { v.mul_add(dy, y, sums[odd]) };
    });
    let [even, odd] = across(v, sums);
    let less = v.splat(-(even + odd));
    pairs!(V, len, |at, lanes, _| {
        // SAFETY: rows have `lanes` elements from `at` on.
        unsafe {
            let dx = dx.as_mut_ptr().add(at);
            let (dy, y) = (v.load_some(dy.as_ptr().add(at), lanes), v.load_some(y.as_ptr().add(at), lanes));
            let sum = v.load_some(dx, lanes);
            let sum = match LOG {
                true => v.mul_add(exp(v, y), less, v.add(sum, dy)),
                false => v.mul_add(y, v.add(dy, less), sum),
            };
            v.store_some(dx, sum, lanes);
        }
    });
}
