//! Gradient of a normalization, a row at a time.
//!
//! With `c = x − mean`, `1/σ` and `g = dy·scale`: `dx = (g − mean(g) − c·mean(g·c)/σ²)/σ`.
//!
//! # Numerics
//! The mean first, then the variance of the centered values, as in the forward step; sums in two vectors of partial
//! sums each, then across lanes. One division a row, where the reference has one an element: a unit in the last place
//! of `c/σ` more.
//!
//! # Limit
//! Three passes over a row that stays in the first-level cache: the mean, all other sums, and the gradient.

use ingraft_kernel::attrs::NormAttrs;
use ingraft_kernel::backward::{gradient, norm as reference};
use ingraft_kernel::norm::{AFFINE, RMS, normalized};
use ingraft_kernel::{Call, KernelError};

use super::row::{across, pairs};
use crate::{Task, Vector};

/// Adds the gradient of what is normalized; those of a scale and shift the reference adds, and that of a scale and shift alone.
pub(super) fn run<V: Vector>(v: V, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, attrs) = (call.operands(), *call.attrs::<NormAttrs>()?);
    let trained = call.grads.scale.is_some() || call.grads.shift.is_some();
    if trained || call.outputs.is_empty() || attrs.kind == AFFINE {
        return reference::run(call);
    }
    let len = normalized(call.input(1)?.shape(), attrs.axes).ok_or(error)?.max(1);
    let scale = match call.terms.of_norm(call.op, len)? {
        Some(affine) => Some(affine.scale),
        None if call.inputs.len() > 2 => Some(call.slice::<f32>(2)?),
        None => None,
    };
    let scale = scale.map(|scale| scale.get(..len).ok_or(error)).transpose()?;
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let dx = gradient(call)?;
    v.perform(Gradient { attrs, len, dy, x, scale, dx }).ok_or(error)
}

/// Rows of `len`; the scale is one of them.
struct Gradient<'a, 'o> {
    attrs: NormAttrs,
    len: usize,
    dy: &'a [f32],
    x: &'a [f32],
    scale: Option<&'a [f32]>,
    dx: &'o mut [f32],
}

impl<V: Vector> Task<V> for Gradient<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let Self { attrs, len, dy, x, scale, dx } = self;
        for ((dy, x), dx) in dy.chunks_exact(len).zip(x.chunks_exact(len)).zip(dx.chunks_exact_mut(len)) {
            match scale {
                Some(scale) => row::<V, true>(v, &attrs, (dy, x, scale), dx),
                None => row::<V, false>(v, &attrs, (dy, x, x), dx),
            }
        }
        Some(())
    }
}

/// One row; all slices are as long as `dx`.
#[inline(always)]
fn row<V: Vector, const SCALED: bool>(
    v: V,
    attrs: &NormAttrs,
    (dy, x, scale): (&[f32], &[f32], &[f32]),
    dx: &mut [f32],
) {
    let len = dx.len().min(dy.len()).min(x.len()).min(scale.len());
    let (count, centered) = (len as f32, attrs.kind != RMS);
    let row = Operands::<V, SCALED> { v, dy, x, scale };
    let mut mean = 0.0;
    if centered {
        let mut sums = [v.splat(0.0); 2];
        pairs!(V, len, |at, lanes, odd| { sums[odd] = v.add(sums[odd], row.x(at, lanes)) });
        let [even, odd] = across(v, sums);
        mean = (even + odd) / count;
    }
    let less = v.splat(-mean);
    let (mut squares, mut along, mut sums) = ([v.splat(0.0); 2], [v.splat(0.0); 2], [v.splat(0.0); 2]);
    pairs!(V, len, |at, lanes, odd| {
        let (g, c) = (row.g(at, lanes), row.c(less, at, lanes));
        squares[odd] = v.mul_add(c, c, squares[odd]);
        along[odd] = v.mul_add(g, c, along[odd]);
        sums[odd] = v.add(sums[odd], g);
    });
    let join = |[even, odd]: [V::Real; 2]| v.add(even, odd);
    let [squares, along, sum] = across(v, [join(squares), join(along), join(sums)]);
    let inverse = v.div(v.splat(1.0), v.sqrt(v.splat(squares / count + attrs.epsilon)));
    let shift = v.splat(if centered { -sum / count } else { 0.0 });
    let slope = v.mul(v.splat(-along / count), v.mul(inverse, inverse));
    pairs!(V, len, |at, lanes, _| {
        let inner = v.mul_add(row.c(less, at, lanes), slope, v.add(row.g(at, lanes), shift));
        // SAFETY: `dx` has `lanes` elements from `at` on.
        unsafe {
            let dx = dx.as_mut_ptr().add(at);
            v.store_some(dx, v.mul_add(inner, inverse, v.load_some(dx, lanes)), lanes);
        }
    });
}

/// What a row is made of; `lanes` elements from `at` on lie in each of the slices.
struct Operands<'a, V: Vector, const SCALED: bool> {
    v: V,
    dy: &'a [f32],
    x: &'a [f32],
    scale: &'a [f32],
}

impl<V: Vector, const SCALED: bool> Operands<'_, V, SCALED> {
    #[inline(always)]
    fn load(&self, from: &[f32], at: usize, lanes: usize) -> V::Real {
        // SAFETY: `pairs` counts up to the shortest length.
        unsafe { self.v.load_some(from.as_ptr().add(at), lanes) }
    }

    #[inline(always)]
    fn x(&self, at: usize, lanes: usize) -> V::Real {
        self.load(self.x, at, lanes)
    }

    /// The gradient of the normalized value.
    #[inline(always)]
    fn g(&self, at: usize, lanes: usize) -> V::Real {
        let dy = self.load(self.dy, at, lanes);
        if SCALED { self.v.mul(dy, self.load(self.scale, at, lanes)) } else { dy }
    }

    /// The centered value. Lanes past the end are 0 in [`Self::g`], but not here: `keep` clears them.
    #[inline(always)]
    fn c(&self, less: V::Real, at: usize, lanes: usize) -> V::Real {
        self.v.keep(self.v.add(self.x(at, lanes), less), ((1u64 << lanes) - 1) as u32)
    }
}
