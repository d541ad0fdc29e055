//! Gradient of an f32 softmax, a row at a time.
//!
//! # Numerics
//! `Σ dy·y` in two vectors of partial sums, so in 16 or 32 of them, then across lanes.
//!
//! # Limit
//! Two passes over a row that stays in the first-level cache: two multiply-adds and a sum for five loads and a store.

use ingraft_kernel::attrs::SoftmaxAttrs;
use ingraft_kernel::backward::gradient;
use ingraft_kernel::backward::softmax::KERNEL as REFERENCE;
use ingraft_kernel::{Call, KernelError, Step};

use super::row::{across, pairs};
use crate::{Task, Vector};

/// Takes what the reference takes but the logarithm.
pub(super) fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let plain = step.attrs::<SoftmaxAttrs>()?.log == 0;
    plain.then_some(()).ok_or(KernelError::Operands(step.op))
}

/// Adds `y·(dy − Σ dy·y)`.
pub(super) fn run<V: Vector>(v: V, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let len = call.input(0)?.shape().dims().last().map_or(1, |&d| d as usize).max(1);
    let (dy, y) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let dx = gradient(call)?;
    v.perform(Gradient { len, dy, y, dx }).ok_or(error)
}

/// Rows of `len`.
#[derive(Debug)]
struct Gradient<'a, 'o> {
    len: usize,
    dy: &'a [f32],
    y: &'a [f32],
    dx: &'o mut [f32],
}

impl<V: Vector> Task<V> for Gradient<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let Self { len, dy, y, dx } = self;
        for ((dy, y), dx) in dy.chunks_exact(len).zip(y.chunks_exact(len)).zip(dx.chunks_exact_mut(len)) {
            let mut sums = [v.splat(0.0); 2];
            pairs!(V, len, |at, lanes, odd| {
                // SAFETY: rows have `lanes` elements from `at` on.
                let (dy, y) = unsafe {
                    (v.load_some(dy.as_ptr().add(at), lanes), v.load_some(y.as_ptr().add(at), lanes))
                };
                sums[odd] = v.mul_add(dy, y, sums[odd]);
            });
            let [even, odd] = across(v, sums);
            let less = v.splat(-(even + odd));
            pairs!(V, len, |at, lanes, _| {
                // SAFETY: rows have `lanes` elements from `at` on.
                unsafe {
                    let dx = dx.as_mut_ptr().add(at);
                    let (dy, y) =
                        (v.load_some(dy.as_ptr().add(at), lanes), v.load_some(y.as_ptr().add(at), lanes));
                    v.store_some(dx, v.mul_add(y, v.add(dy, less), v.load_some(dx, lanes)), lanes);
                }
            });
        }
        Some(())
    }
}
