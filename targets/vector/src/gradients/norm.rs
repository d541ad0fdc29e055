//! Gradient of a normalization, a row at a time.
//!
//! With `c = x − mean`, `1/σ` and `g = dy·scale`: `dx = (g − mean(g) − c·mean(g·c)/σ²)/σ`; the gradient of the scale is
//! `Σ dy·c/σ` over the rows, that of the shift `Σ dy`. Where nothing is normalized c is x, σ is 1 and `dx = g`.
//!
//! # Numerics
//! The mean first, then the variance of the centered values, as in the forward step; sums in two vectors of partial
//! sums each, then across lanes. One division a row, where the reference has one an element: a unit in the last place
//! of `c/σ` more. Scale and shift add up row by row, as in the reference.
//!
//! # Limit
//! Passes over a row that stays in the first-level cache: the mean, all other sums, and one for each gradient.

use ingraft_kernel::attrs::NormAttrs;
use ingraft_kernel::backward::gradient;
use ingraft_kernel::norm::{AFFINE, RMS, normalized};
use ingraft_kernel::{Call, KernelError, SiteGrads};

use super::row::{across, pairs};
use crate::{Task, Vector};

/// Adds the gradients that are wanted: of what is normalized, of the scale, of the shift.
pub(super) fn run<V: Vector>(v: V, call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, attrs) = (call.operands(), *call.attrs::<NormAttrs>()?);
    let len = normalized(call.input(1)?.shape(), attrs.axes).ok_or(error)?.max(1);
    let scale = match call.terms.of_norm(call.op, len)? {
        Some(affine) => Some(affine.scale),
        None if call.inputs.len() > 2 => Some(call.slice::<f32>(2)?),
        None => None,
    };
    let scale = scale.map(|scale| scale.get(..len).ok_or(error)).transpose()?;
    let (dy, x) = (call.slice::<f32>(0)?, call.slice::<f32>(1)?);
    let SiteGrads { down, up, sparse, dense, scale: dscale, shift: dshift } =
        core::mem::take(&mut call.grads);
    let foreign = [&down, &up, &sparse, &dense].into_iter().any(|grad| grad.is_some());
    let fits = [&dscale, &dshift].into_iter().all(|grad| grad.as_ref().is_none_or(|grad| grad.len() == len));
    (!foreign && fits).then_some(()).ok_or(KernelError::Terms(call.op))?;
    let wanted = Wanted {
        x: if call.outputs.is_empty() { None } else { Some(gradient(call)?) },
        scale: dscale.unwrap_or_default(),
        shift: dshift.unwrap_or_default(),
    };
    v.perform(Gradient { attrs, len, dy, x, scale, wanted }).ok_or(error)
}

/// Rows of `len`; the scale is one of them.
struct Gradient<'a, 'o> {
    attrs: NormAttrs,
    len: usize,
    dy: &'a [f32],
    x: &'a [f32],
    scale: Option<&'a [f32]>,
    wanted: Wanted<'o>,
}

/// Where gradients are added.
struct Wanted<'o> {
    x: Option<&'o mut [f32]>,
    /// Of a row, or empty where it is not wanted.
    scale: &'o mut [f32],
    /// The same.
    shift: &'o mut [f32],
}

impl<V: Vector> Task<V> for Gradient<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run(self, v: V) -> Option<()> {
        let Self { attrs, len, dy, x, scale, wanted: Wanted { x: mut dx, scale: dscale, shift: dshift } } =
            self;
        for (dy, x) in dy.chunks_exact(len).zip(x.chunks_exact(len)) {
            if let Some(rest) = dx.take() {
                let (dx_row, rest) = rest.split_at_mut_checked(len)?;
                match scale {
                    Some(scale) => row::<V, true>(v, &attrs, (dy, x, scale), dx_row),
                    None => row::<V, false>(v, &attrs, (dy, x, x), dx_row),
                }
                dx = Some(rest);
            }
            if !dscale.is_empty() {
                add_scale(v, &attrs, (dy, x), dscale);
            }
            add(v, dy, dshift);
        }
        Some(())
    }
}

/// Adds `dy·c/σ` of one row to `sums`, which is as long.
#[inline(always)]
fn add_scale<V: Vector>(v: V, attrs: &NormAttrs, (dy, x): (&[f32], &[f32]), sums: &mut [f32]) {
    let len = sums.len().min(dy.len()).min(x.len());
    let row = Operands::<V, false> { v, dy, x, scale: x };
    let (less, inverse) = row.moments(attrs, len);
    pairs!(V, len, |at, lanes, _| {
        let hat = v.mul(row.c(less, at, lanes), inverse);
        // SAFETY: `sums` has `lanes` elements from `at` on.
        unsafe {
            let to = sums.as_mut_ptr().add(at);
            v.store_some(to, v.mul_add(row.g(at, lanes), hat, v.load_some(to, lanes)), lanes);
        }
    });
}

/// Adds as many of `values` as there are `sums`.
#[inline(always)]
fn add<V: Vector>(v: V, values: &[f32], sums: &mut [f32]) {
    let len = sums.len().min(values.len());
    pairs!(V, len, |at, lanes, _| {
        // SAFETY: both have `lanes` elements from `at` on.
        unsafe {
            let to = sums.as_mut_ptr().add(at);
            let value = v.load_some(values.as_ptr().add(at), lanes);
            v.store_some(to, v.add(v.load_some(to, lanes), value), lanes);
        }
    });
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
    let count = len as f32;
    let row = Operands::<V, SCALED> { v, dy, x, scale };
    if attrs.kind == AFFINE {
        pairs!(V, len, |at, lanes, _| {
            // SAFETY: `dx` has `lanes` elements from `at` on.
            unsafe {
                let dx = dx.as_mut_ptr().add(at);
                v.store_some(dx, v.add(v.load_some(dx, lanes), row.g(at, lanes)), lanes);
            }
        });
        return;
    }
    let less = v.splat(-row.mean(attrs, len));
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
    let shift = v.splat(if attrs.kind == RMS { 0.0 } else { -sum / count });
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

    /// The mean of a row of `len`, where it is centered.
    #[inline(always)]
    fn mean(&self, attrs: &NormAttrs, len: usize) -> f32 {
        if attrs.kind == RMS {
            return 0.0;
        }
        let v = self.v;
        let mut sums = [v.splat(0.0); 2];
        pairs!(V, len, |at, lanes, odd| { sums[odd] = v.add(sums[odd], self.x(at, lanes)) });
        let [even, odd] = across(v, sums);
        (even + odd) / len as f32
    }

    /// What is added to center a row of `len`, and `1/σ`: 0 and 1 where nothing is normalized.
    #[inline(always)]
    fn moments(&self, attrs: &NormAttrs, len: usize) -> (V::Real, V::Real) {
        let v = self.v;
        if attrs.kind == AFFINE {
            return (v.splat(0.0), v.splat(1.0));
        }
        let less = v.splat(-self.mean(attrs, len));
        let mut squares = [v.splat(0.0); 2];
        pairs!(V, len, |at, lanes, odd| {
            let c = self.c(less, at, lanes);
            squares[odd] = v.mul_add(c, c, squares[odd]);
        });
        let [even, odd] = across(v, squares);
        let variance = v.splat((even + odd) / len as f32 + attrs.epsilon);
        (less, v.div(v.splat(1.0), v.sqrt(variance)))
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
