//! Instructions of a tile as one block, where the compiler orders single ones so that registers do not suffice.
//!
//! The functions whose names begin with `add` round four channels of four pixels in output steps, in the place of their sums:
//! `sum·multiplier`, to which `Σ u[k]·up[k]·scale` is added. Either sum is exact, becomes f32 and is multiplied by itself. By
//! `SDOT`, four values of a pixel are their low bytes, and then what is left of them, divided by 256.

use core::arch::aarch64::{float32x4_t, int8x8_t, int8x16_t, int16x4_t, int16x8_t, int32x4_t};
use core::arch::asm;

/// An instruction for each of four pixels, whose number stands between the parts of its text.
macro_rules! four {
    (@ $pixel:literal $first:literal $(, $part:literal)*) => { concat!($first $(, $pixel, $part)*, "\n") };
    ($($part:literal),+) => {
        concat!(
            four!(@ 0 $($part),+),
            four!(@ 1 $($part),+),
            four!(@ 2 $($part),+),
            four!(@ 3 $($part),+)
        )
    };
}

/// From both sums to what is rounded.
macro_rules! finish {
    () => {
        concat!(
            four!("scvtf {s", ":v}.4s, {s", ":v}.4s"),
            four!("scvtf {t", ":v}.4s, {t", ":v}.4s"),
            four!("fmul {s", ":v}.4s, {s", ":v}.4s, {multiplier:v}.4s"),
            four!("fmul {t", ":v}.4s, {t", ":v}.4s, {scale:v}.4s"),
            four!("fadd {s", ":v}.4s, {s", ":v}.4s, {t", ":v}.4s"),
            four!("fcvtns {s", ":v}.4s, {s", ":v}.4s")
        )
    };
}

/// `asm!` of the lines and operands, with the sums of four pixels, what is added to them, and the values in rank space.
macro_rules! add {
    ($sums:ident, $u:ident: $class:ident, $scales:ident, [$($line:expr),+ $(,)?], $($operand:tt)+) => {{
        let ([s0, s1, s2, s3], [u0, u1, u2, u3], [multiplier, scale]) = ($sums, $u, $scales);
        asm!(
            $($line,)+
            finish!(),
            s0 = inout(vreg) *s0, s1 = inout(vreg) *s1, s2 = inout(vreg) *s2, s3 = inout(vreg) *s3,
            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
            u0 = in($class) u0, u1 = in($class) u1, u2 = in($class) u2, u3 = in($class) u3,
            multiplier = in(vreg) multiplier,
            scale = in(vreg) scale,
            $($operand)+
        );
    }};
}

/// Four loads of weights in vectors `.WIDE`, and the products with element `LANE` of four pixels.
macro_rules! products {
    ($multiply:literal, $wide:literal, $element:literal, $sums:ident, $x:ident, $weights:ident) => {{
        let [[s00, s01, s02, s03], [s10, s11, s12, s13], [s20, s21, s22, s23], [s30, s31, s32, s33]] = $sums;
        let [x0, x1, x2, x3] = *$x;
        asm!(
            concat!("ld1 {{v28.", $wide, ", v29.", $wide, ", v30.", $wide, ", v31.", $wide, "}}, [{weights}], #64"),
            products!(@ "0", "28", $multiply, $wide, $element),
            products!(@ "1", "29", $multiply, $wide, $element),
            products!(@ "2", "30", $multiply, $wide, $element),
            products!(@ "3", "31", $multiply, $wide, $element),
            weights = inout(reg) $weights,
            s00 = inout(vreg) *s00, s01 = inout(vreg) *s01, s02 = inout(vreg) *s02, s03 = inout(vreg) *s03,
            s10 = inout(vreg) *s10, s11 = inout(vreg) *s11, s12 = inout(vreg) *s12, s13 = inout(vreg) *s13,
            s20 = inout(vreg) *s20, s21 = inout(vreg) *s21, s22 = inout(vreg) *s22, s23 = inout(vreg) *s23,
            s30 = inout(vreg) *s30, s31 = inout(vreg) *s31, s32 = inout(vreg) *s32, s33 = inout(vreg) *s33,
            x0 = in(vreg) x0, x1 = in(vreg) x1, x2 = in(vreg) x2, x3 = in(vreg) x3,
            lane = const LANE,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(pure, readonly, nostack, preserves_flags),
        );
    }};
    (@ $n:literal, $register:literal, $multiply:literal, $wide:literal, $element:literal) => {
        concat!(
            products!(@@ 0, $n, $register, $multiply, $wide, $element),
            products!(@@ 1, $n, $register, $multiply, $wide, $element),
            products!(@@ 2, $n, $register, $multiply, $wide, $element),
            products!(@@ 3, $n, $register, $multiply, $wide, $element)
        )
    };
    (@@ $pixel:literal, $n:literal, $register:literal, $multiply:literal, $wide:literal, $element:literal) => {
        concat!($multiply, " {s", $pixel, $n, ":v}.4s, v", $register, ".", $wide, ", {x", $pixel, ":v}.", $element, "[{lane}]\n")
    };
}

/// Adds the products of code run `LANE` of four pixels with sixteen channels, and gives what follows their 64 bytes.
///
/// Between loads that name their registers and products that do not, the compiler copies the last of four.
///
/// # Safety
/// 64 bytes from `weights` on are readable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn sdot_tile<const LANE: i32>(
    sums: &mut [[int32x4_t; 4]; 4],
    x: &[int8x16_t; 4],
    mut weights: *const i8,
) -> *const i8 {
    // SAFETY: LD1 reads the 64 bytes that the caller promised; all else reads and writes the named registers only. The
    // attribute of this function states that the processor has SDOT.
    unsafe { products!("sdot", "16b", "4b", sums, x, weights) };
    weights
}

/// The same of element `LANE` in f32.
///
/// # Safety
/// 64 bytes from `weights` on are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn fmla_tile<const LANE: i32>(
    sums: &mut [[float32x4_t; 4]; 4],
    x: &[float32x4_t; 4],
    mut weights: *const f32,
) -> *const f32 {
    // SAFETY: LD1 reads the 64 bytes that the caller promised; all else reads and writes the named registers only.
    unsafe { products!("fmla", "4s", "s", sums, x, weights) };
    weights
}

/// Four of rank.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn add_four_by_sdot(
    sums: [&mut int32x4_t; 4],
    up: int8x16_t,
    u: [int8x8_t; 4],
    scales: [float32x4_t; 2],
) {
    // SAFETY: the instructions read and write the named registers only; the attribute of this function states that the
    // processor has SDOT.
    unsafe {
        add!(
            sums,
            u: vreg,
            scales,
            [
                four!("movi {t", ":v}.2d, #0"),
                four!("sdot {t", ":v}.4s, {up0:v}.16b, {u", ":v}.4b[1]"),
                four!("shl {t", ":v}.4s, {t", ":v}.4s, #8"),
                four!("sdot {t", ":v}.4s, {up0:v}.16b, {u", ":v}.4b[0]"),
            ],
            up0 = in(vreg) up,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Eight of rank.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn add_eight_by_sdot(
    sums: [&mut int32x4_t; 4],
    up: [int8x16_t; 2],
    u: [int8x16_t; 4],
    scales: [float32x4_t; 2],
) {
    // SAFETY: the instructions read and write the named registers only; the attribute of this function states that the
    // processor has SDOT.
    unsafe {
        add!(
            sums,
            u: vreg,
            scales,
            [
                four!("movi {t", ":v}.2d, #0"),
                four!("sdot {t", ":v}.4s, {up0:v}.16b, {u", ":v}.4b[1]"),
                four!("sdot {t", ":v}.4s, {up1:v}.16b, {u", ":v}.4b[3]"),
                four!("shl {t", ":v}.4s, {t", ":v}.4s, #8"),
                four!("sdot {t", ":v}.4s, {up0:v}.16b, {u", ":v}.4b[0]"),
                four!("sdot {t", ":v}.4s, {up1:v}.16b, {u", ":v}.4b[2]"),
            ],
            up0 = in(vreg) up[0],
            up1 = in(vreg) up[1],
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Four of rank.
///
/// # Safety
/// 32 bytes from `up` on are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn add_four(
    sums: [&mut int32x4_t; 4],
    up: *const u8,
    u: [int16x4_t; 4],
    scales: [float32x4_t; 2],
) {
    // SAFETY: the instructions read the bytes that the caller promised, and write the named registers only.
    unsafe {
        add!(
            sums,
            u: vreg_low16,
            scales,
            [
                "ldp {a:q}, {b:q}, [{up}]",
                four!("smull {t", ":v}.4s, {a:v}.4h, {u", ":v}.h[0]"),
                four!("smlal2 {t", ":v}.4s, {a:v}.8h, {u", ":v}.h[1]"),
                four!("smlal {t", ":v}.4s, {b:v}.4h, {u", ":v}.h[2]"),
                four!("smlal2 {t", ":v}.4s, {b:v}.8h, {u", ":v}.h[3]"),
            ],
            up = in(reg) up,
            a = out(vreg) _,
            b = out(vreg) _,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
}

/// Eight of rank.
///
/// # Safety
/// 64 bytes from `up` on are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn add_eight(
    sums: [&mut int32x4_t; 4],
    up: *const u8,
    u: [int16x8_t; 4],
    scales: [float32x4_t; 2],
) {
    // SAFETY: the instructions read the bytes that the caller promised, and write the named registers only.
    unsafe {
        add!(
            sums,
            u: vreg_low16,
            scales,
            [
                "ldp {a:q}, {b:q}, [{up}]",
                four!("smull {t", ":v}.4s, {a:v}.4h, {u", ":v}.h[0]"),
                four!("smlal2 {t", ":v}.4s, {a:v}.8h, {u", ":v}.h[1]"),
                four!("smlal {t", ":v}.4s, {b:v}.4h, {u", ":v}.h[2]"),
                four!("smlal2 {t", ":v}.4s, {b:v}.8h, {u", ":v}.h[3]"),
                "ldp {a:q}, {b:q}, [{up}, #32]",
                four!("smlal {t", ":v}.4s, {a:v}.4h, {u", ":v}.h[4]"),
                four!("smlal2 {t", ":v}.4s, {a:v}.8h, {u", ":v}.h[5]"),
                four!("smlal {t", ":v}.4s, {b:v}.4h, {u", ":v}.h[6]"),
                four!("smlal2 {t", ":v}.4s, {b:v}.8h, {u", ":v}.h[7]"),
            ],
            up = in(reg) up,
            a = out(vreg) _,
            b = out(vreg) _,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
}
