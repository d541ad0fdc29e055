//! int8 addition of tensors of one shape; others take the reference.
//!
//! # Numerics
//! The reference's products and sum, not contracted: equal to the bit.

use ingraft_kernel::attrs::QBinaryAttrs;
use ingraft_kernel::elementwise::KERNEL_ADD_Q as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, Step};

use crate::blocks::{block, load_codes, store_codes};
use crate::features::{Avx2, Avx512};
use crate::qconv::Bounds;
use crate::simd::{Row, Simd, entry};

/// int8 addition.
pub(crate) const ADD_AVX512: Kernel =
    Kernel { name: "add_qs8_qs8_qs8__avx512", run: entry::<Avx512, Add>, ..REFERENCE }.checked(check);

/// As [`ADD_AVX512`], on vectors of 256 bits.
pub(crate) const ADD_AVX2: Kernel =
    Kernel { name: "add_qs8_qs8_qs8__avx2", run: entry::<Avx2, Add>, ..ADD_AVX512 };

/// No broadcasting, no mask.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let out = step.output(0)?.shape;
    let plain = step.input(0)?.shape == out && step.input(1)?.shape == out && step.outputs().len() == 1;
    plain.then_some(()).ok_or(KernelError::Operands(step.op))
}

/// Codes of two tensors.
struct Add;

impl<S: Simd> Row<S> for Add {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let attrs: &QBinaryAttrs = call.attrs()?;
        let [left, right]: [&[i8]; 2] = [call.slice(0)?, call.slice(1)?];
        let bounds = Bounds::new(simd, attrs.lo, attrs.hi, attrs.out_zero_point);
        let [za, zb] = attrs.zero_points.map(|zero| simd.splat_int(zero.wrapping_neg()));
        let [ka, kb] = attrs.factors.map(|factor| simd.splat(factor));
        let out = call.slice_mut(0)?.chunks_mut(block::<S>());
        for ((a, b), out) in left.chunks(block::<S>()).zip(right.chunks(block::<S>())).zip(out) {
            let (a, b) = (load_codes(simd, a), load_codes(simd, b));
            let mut values = [ka; crate::blocks::TOGETHER];
            for ((v, a), b) in values.iter_mut().zip(a).zip(b) {
                let a = simd.mul(simd.to_real(simd.add_int(a, za)), ka);
                *v = simd.add(a, simd.mul(simd.to_real(simd.add_int(b, zb)), kb));
            }
            store_codes(simd, out, values, &bounds);
        }
        Ok(())
    }
}
