//! f32 softmax over the innermost axis; its logarithm takes the reference.

use ingraft_kernel::attrs::SoftmaxAttrs;
use ingraft_kernel::softmax::KERNEL as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::features::{Avx2, Avx512};
use crate::simd::{Row, Simd, entry};
use ingraft_vector::transcendental::exp;

/// f32 throughout.
pub(crate) const AVX512: Kernel =
    Kernel { name: "softmax_f32_f32__avx512", run: entry::<Avx512, Softmax>, ..REFERENCE }.checked(check);

/// As [`AVX512`], on vectors of 256 bits.
pub(crate) const AVX2: Kernel =
    Kernel { name: "softmax_f32_f32__avx2", run: entry::<Avx2, Softmax>, ..REFERENCE }.checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let plain = step.attrs::<SoftmaxAttrs>()?.log == 0;
    plain.then_some(()).ok_or(KernelError::Operands(step.op))
}

/// Every row of a step.
struct Softmax;

impl<S: Simd> Row<S> for Softmax {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let input = call.slice::<f32>(0)?;
        let len = call.input(0)?.shape().dims().last().map_or(1, |&d| d as usize).max(1);
        for (out, input) in call.slice_mut::<f32>(0)?.chunks_exact_mut(len).zip(input.chunks_exact(len)) {
            row(simd, input, out);
        }
        Ok(())
    }
}

#[inline(always)]
fn row<S: Simd>(simd: S, input: &[f32], out: &mut [f32]) {
    // A partial vector takes the reference's operations on each value: lanes past the last would be values too.
    let whole = input.len() - input.len() % S::LANES;
    let mut most = simd.splat(f32::NEG_INFINITY);
    let (vectors, rest) = input.split_at(whole);
    for x in vectors.chunks_exact(S::LANES) {
        // SAFETY: the chunk is a vector.
        most = simd.max(unsafe { simd.load(x.as_ptr()) }, most);
    }
    let largest = rest.iter().fold(simd.largest(most), |most, x| if *x > most { *x } else { most });
    let most = simd.splat(largest);
    let mut sums = simd.splat(0.0);
    let mut last = [0.0; 16];
    for (x, out) in input.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
        // SAFETY: reads and writes are of the chunks' own values; `last` has a vector's.
        unsafe {
            let e = exp(simd, simd.sub(simd.load_some(x.as_ptr(), x.len()), most));
            simd.store_some(out.as_mut_ptr(), e, x.len());
            if x.len() == S::LANES {
                sums = simd.add(sums, e);
            } else {
                simd.store_some(last.as_mut_ptr(), e, x.len());
                sums = simd.add(sums, simd.load(last.as_ptr()));
            }
        }
    }
    let sum = simd.splat(simd.sum(sums));
    for out in out.chunks_mut(S::LANES) {
        // SAFETY: reads and writes are of the chunk's own values.
        unsafe {
            let e = simd.load_some(out.as_ptr(), out.len());
            simd.store_some(out.as_mut_ptr(), simd.div(e, sum), out.len());
        }
    }
}
