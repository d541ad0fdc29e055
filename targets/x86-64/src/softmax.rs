//! f32 softmax over the innermost axis; its logarithm takes the reference.

use core::arch::x86_64::*;

use ingraft_kernel::attrs::SoftmaxAttrs;
use ingraft_kernel::softmax::KERNEL as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::transcendental::exp;

/// f32 throughout.
pub(crate) const AVX512: Kernel = Kernel { name: "softmax_f32_f32__avx512", run, ..REFERENCE }.checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let plain = step.attrs::<SoftmaxAttrs>()?.log == 0;
    plain.then_some(()).ok_or(KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // SAFETY: rows leave this crate only through a target, whose argument proves the instructions.
    unsafe { compute(call) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn compute(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let input = call.slice::<f32>(0)?;
    let len = call.input(0)?.shape().dims().last().map_or(1, |&d| d as usize).max(1);
    for (out, input) in call.slice_mut::<f32>(0)?.chunks_exact_mut(len).zip(input.chunks_exact(len)) {
        row(input, out);
    }
    Ok(())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn row(input: &[f32], out: &mut [f32]) {
    let mut most = _mm512_set1_ps(f32::NEG_INFINITY);
    for x in input.chunks(16) {
        most = _mm512_max_ps(load(x, f32::NEG_INFINITY), most);
    }
    let most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    let mut sums = _mm512_setzero_ps();
    for (x, out) in input.chunks(16).zip(out.chunks_mut(16)) {
        let e = exp(_mm512_sub_ps(load(x, f32::NEG_INFINITY), most));
        let e = _mm512_maskz_mov_ps(lanes(x.len()), e);
        sums = _mm512_add_ps(sums, e);
        store(out, e);
    }
    let sum = _mm512_set1_ps(_mm512_reduce_add_ps(sums));
    for out in out.chunks_mut(16) {
        store(out, _mm512_div_ps(load(out, 0.0), sum));
    }
}

/// The first lanes, at most sixteen.
#[inline(always)]
fn lanes(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

/// The values, at most sixteen, `rest` in the other lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32], rest: f32) -> __m512 {
    // SAFETY: the mask selects only values that the slice has.
    unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(rest), lanes(values.len()), values.as_ptr()) }
}

/// Overwrites the values, at most sixteen.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(out: &mut [f32], values: __m512) {
    // SAFETY: the mask selects only values that the slice has.
    unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), lanes(out.len()), values) }
}
