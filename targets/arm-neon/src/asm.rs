//! Instructions without a stable intrinsic, one per function, or one for either half of a register.

pub(crate) mod tile;

use core::arch::aarch64::{float32x4_t, int8x16_t, int32x4_t, uint16x8_t};
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

/// `sum[i] + Σⱼ a[4i + j]·b[4i + j]`, j below four, modulo 2³².
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn sdot(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: SDOT reads and writes the named registers only; the attribute of this function states that the processor
    // has it.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
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

/// The 64 bytes from `values` on, and the pointer past them.
///
/// The intrinsic becomes two loads of pairs, which take three micro-operations each on
/// Neoverse N1 and its kin; one load of four registers takes four.
///
/// # Safety
/// 64 bytes from `values` on are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn load_four(values: *const i8) -> ([int8x16_t; 4], *const i8) {
    let (a, b, c, d);
    let mut values = values;
    // SAFETY: LD1 reads the 64 bytes that the caller promised and writes the named registers only.
    unsafe {
        asm!(
            "ld1 {{v28.16b, v29.16b, v30.16b, v31.16b}}, [{values}], #64",
            values = inout(reg) values,
            out("v28") a,
            out("v29") b,
            out("v30") c,
            out("v31") d,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    ([a, b, c, d], values)
}

/// `sum[i] + a[i]·b[LANE]` in f16, rounded once.
#[inline]
#[target_feature(enable = "neon,fp16")]
pub(crate) fn fmla_lane<const LANE: i32>(sum: uint16x8_t, a: uint16x8_t, b: uint16x8_t) -> uint16x8_t {
    let mut sum = sum;
    // SAFETY: FMLA reads and writes the named registers only; the attribute of this function states that the processor
    // has it. An element of the first sixteen registers is all it can name.
    unsafe {
        asm!(
            "fmla {sum:v}.8h, {a:v}.8h, {b:v}.h[{lane}]",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg_low16) b,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `sum[i] + a[i]·b[i]` in f16, rounded once.
#[inline]
#[target_feature(enable = "neon,fp16")]
pub(crate) fn fmla(sum: uint16x8_t, a: uint16x8_t, b: uint16x8_t) -> uint16x8_t {
    let mut sum = sum;
    // SAFETY: FMLA reads and writes the named registers only; the attribute of this function states that the processor
    // has it.
    unsafe {
        asm!(
            "fmla {sum:v}.8h, {a:v}.8h, {b:v}.8h",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// The nearest f16, ties to even, of four floats and four more.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn narrow(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
    let half: uint16x8_t;
    // SAFETY: FCVTN reads and writes the named registers only; every NEON processor has it.
    unsafe {
        asm!(
            "fcvtn {half:v}.4h, {low:v}.4s",
            "fcvtn2 {half:v}.8h, {high:v}.4s",
            half = out(vreg) half,
            low = in(vreg) low,
            high = in(vreg) high,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    half
}

/// The first four f16 as floats, and the last four.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn widen(half: uint16x8_t) -> [float32x4_t; 2] {
    let (low, high);
    // SAFETY: FCVTL reads and writes the named registers only; every NEON processor has it.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {half:v}.4h",
            "fcvtl2 {high:v}.4s, {half:v}.8h",
            low = out(vreg) low,
            high = lateout(vreg) high,
            half = in(vreg) half,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}
