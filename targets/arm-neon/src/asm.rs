//! Instructions without a stable intrinsic, one per function.

use core::arch::aarch64::{int8x16_t, int32x4_t};
use core::arch::asm;

/// `sum[i] + Σⱼ a[4i + j]·b[4·LANE + j]`, j below four, modulo 2³².
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn sdot_lane<const LANE: i32>(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: SDOT reads and writes the named registers only; the attribute of this function
    // states that the processor has it.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum` as a 2×2 matrix plus `a·bᵀ` of two 2×8 matrices, modulo 2³².
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(crate) fn smmla(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: SMMLA reads and writes the named registers only; the attribute of this function
    // states that the processor has it.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
