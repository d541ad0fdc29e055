//! Pooling, four vectors of channels at a time; int8 steps with a mask take the reference.
//!
//! # Numerics
//! The reference's arithmetic in its order: equal to the bit.

use ingraft_kernel::attrs::PoolAttrs;
use ingraft_kernel::pool::{Images, KERNEL, KERNEL_Q as REFERENCE, MAX, Region};
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{TOGETHER, block, each, load_codes, load_reals, store_codes, store_reals};
use crate::features::{Avx2, Avx512};
use crate::qconv::Bounds;
use crate::simd::{Row, Simd, entry};

/// int8 maximum and average.
pub(crate) const AVX512: Kernel =
    Kernel { name: "pool_qs8_qs8__avx512", run: entry::<Avx512, Codes>, ..REFERENCE }.checked(check);

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel = Kernel { name: "pool_qs8_qs8__avx2", run: entry::<Avx2, Codes>, ..AVX512 };

/// f32 maximum and average.
pub(crate) const AVX512_F32: Kernel =
    Kernel { name: "pool_f32_f32__avx512", run: entry::<Avx512, Reals>, ..KERNEL };

/// As [`AVX512_F32`], on vectors of 256 bits.
pub(crate) const AVX2_F32: Kernel =
    Kernel { name: "pool_f32_f32__avx2", run: entry::<Avx2, Reals>, ..KERNEL };

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    (step.outputs().len() == 1).then_some(()).ok_or(KernelError::Operands(step.op))
}

/// Pools of codes.
struct Codes;

impl<S: Simd> Row<S> for Codes {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (attrs, input): (&PoolAttrs, &[i8]) = (call.attrs()?, call.slice(0)?);
        let (from, to) = (call.input(0)?.shape(), call.output(0)?.shape());
        let images = Images::new(from, to, attrs.window).ok_or(call.operands())?;
        let bounds = Bounds::new(simd, attrs.lo, attrs.hi, attrs.out_zero_point);
        images.pool(input, call.slice_mut(0)?, |region, out| {
            for (index, out) in out.chunks_mut(block::<S>()).enumerate() {
                let start = index * block::<S>();
                let values = match attrs.kind {
                    MAX => largest(simd, attrs, region, start, out.len()),
                    _ => average(simd, attrs, region, start, out.len()),
                };
                store_codes(simd, out, values, &bounds);
            }
        });
        Ok(())
    }
}

/// Pools of f32.
struct Reals;

impl<S: Simd> Row<S> for Reals {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (attrs, input): (&PoolAttrs, &[f32]) = (call.attrs()?, call.slice(0)?);
        let (from, to) = (call.input(0)?.shape(), call.output(0)?.shape());
        let images = Images::new(from, to, attrs.window).ok_or(call.operands())?;
        images.pool(input, call.slice_mut(0)?, |region, out| {
            for (index, out) in out.chunks_mut(block::<S>()).enumerate() {
                pool_reals(simd, attrs, region, index * block::<S>(), out);
            }
        });
        Ok(())
    }
}

/// The channels `out` from `start` of one window.
#[inline(always)]
fn pool_reals<S: Simd>(simd: S, attrs: &PoolAttrs, region: &Region<'_, f32>, start: usize, out: &mut [f32]) {
    let most = attrs.kind == MAX;
    let mut values = [simd.splat(if most { f32::NEG_INFINITY } else { 0.0 }); TOGETHER];
    region.each(start, out.len(), |taps| {
        for (value, x) in values.iter_mut().zip(load_reals(simd, taps)) {
            // The operation gives its second operand where the comparison is false, as the reference does.
            *value = if most { simd.max(x, *value) } else { simd.add(*value, x) };
        }
    });
    let count = simd.splat(if most { 1.0 } else { region.count(attrs.kind).max(1) as f32 });
    let [lo, hi] = [simd.splat(attrs.lo), simd.splat(attrs.hi)];
    store_reals(simd, out, each(values, |value| simd.clamp(simd.div(value, count), lo, hi)));
}

/// The largest code of `len` channels from `start`, in output steps.
#[inline(always)]
fn largest<S: Simd>(
    simd: S,
    attrs: &PoolAttrs,
    region: &Region<'_, i8>,
    start: usize,
    len: usize,
) -> [S::Real; TOGETHER] {
    let mut most = [simd.splat_int(i32::from(i8::MIN)); TOGETHER];
    region.each(start, len, |taps| {
        for (most, code) in most.iter_mut().zip(load_codes(simd, taps)) {
            *most = simd.max_int(*most, code);
        }
    });
    let (zero, ratio) = (simd.splat_int(attrs.in_zero_point.wrapping_neg()), simd.splat(attrs.ratio));
    each(most, |code| simd.mul(simd.to_real(simd.add_int(code, zero)), ratio))
}

/// The average of `len` channels from `start`, in output steps.
#[inline(always)]
fn average<S: Simd>(
    simd: S,
    attrs: &PoolAttrs,
    region: &Region<'_, i8>,
    start: usize,
    len: usize,
) -> [S::Real; TOGETHER] {
    let zero = simd.splat_int(attrs.in_zero_point.wrapping_neg());
    let mut sums = [simd.splat_int(0); TOGETHER];
    region.each(start, len, |taps| {
        for (sum, code) in sums.iter_mut().zip(load_codes(simd, taps)) {
            *sum = simd.add_int(*sum, simd.add_int(code, zero));
        }
    });
    let factor = simd.splat(attrs.ratio / region.count(attrs.kind).max(1) as f32);
    each(sums, |sum| simd.mul(simd.to_real(sum), factor))
}
