//! Codes of sums: sixteen a turn where there are so many, in the order in which VLD4 deals them out, and four a turn behind.
//!
//! # Numerics
//! Narrowing saturates twice on the way and meets only values that the limits replace. Helium flushes subnormal values to zero;
//! they round to zero either way.

use core::arch::asm;

use crate::requantize::{Limits, Scaled};

/// Channels of a turn.
const MANY: usize = 16;

/// The codes of sums times their scales, or of two such products' sum, as many as the shortest slice has.
#[inline(always)]
pub(super) fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]) {
    match low {
        None => one(terms, limits, out),
        Some(low) => two(terms, low, limits, out),
    }
}

macro_rules! sixteen {
    ($sums:ident, $scales:ident, $limits:ident, $out:ident, [$($clamp:literal),*], [$($bound:ident),*]) => {
        // SAFETY: the build script found that the program is compiled for a processor with Helium on floats. A turn reads
        // sixteen words of `sums` and `scales` and writes as many codes, which all three have for each turn.
        unsafe {
            asm!(
                "wls lr, {turns}, 3f",
                "2:",
                "vld40.32 {{q0, q1, q2, q3}}, [{sums}]",
                "vld41.32 {{q0, q1, q2, q3}}, [{sums}]",
                "vld42.32 {{q0, q1, q2, q3}}, [{sums}]",
                "vld43.32 {{q0, q1, q2, q3}}, [{sums}]!",
                "vld40.32 {{q4, q5, q6, q7}}, [{scales}]",
                "vcvt.f32.s32 q0, q0",
                "vld41.32 {{q4, q5, q6, q7}}, [{scales}]",
                "vcvt.f32.s32 q1, q1",
                "vld42.32 {{q4, q5, q6, q7}}, [{scales}]",
                "vcvt.f32.s32 q2, q2",
                "vld43.32 {{q4, q5, q6, q7}}, [{scales}]!",
                "vcvt.f32.s32 q3, q3",
                "vmul.f32 q0, q0, q4",
                "vmul.f32 q1, q1, q5",
                "vmul.f32 q2, q2, q6",
                "vmul.f32 q3, q3, q7",
                "vcvtn.s32.f32 q0, q0",
                "vcvtn.s32.f32 q1, q1",
                "vcvtn.s32.f32 q2, q2",
                "vcvtn.s32.f32 q3, q3",
                "vqmovnb.s32 q0, q0",
                "vqmovnb.s32 q1, q1",
                "vqmovnt.s32 q0, q2",
                "vqmovnt.s32 q1, q3",
                "vqadd.s16 q0, q0, {zero_point}",
                "vqadd.s16 q1, q1, {zero_point}",
                "vqmovnb.s16 q0, q0",
                "vqmovnt.s16 q0, q1",
                $($clamp,)*
                "vstrb.8 q0, [{out}], #16",
                "le lr, 2b",
                "3:",
                turns = in(reg) $out.len() / MANY,
                sums = inout(reg) $sums.as_ptr() => _,
                scales = inout(reg) $scales.as_ptr() => _,
                out = inout(reg) $out.as_mut_ptr() => _,
                zero_point = in(reg) $limits.zero_point,
                $($bound = in(reg) $bound,)*
                out("lr") _,
                out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
                out("d6") _, out("d7") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
                out("d12") _, out("d13") _, out("d14") _, out("d15") _,
                options(nostack),
            );
        }
    };
}

macro_rules! four_by_four {
    ($terms:expr, $limits:expr, $out:expr, $len:expr, [$($load:literal),*], [$($name:ident = $pointer:expr),*]) => {
        // SAFETY: the build script found that the program is compiled for a processor with Helium on
        // floats. The loop reads and writes as many elements as all slices have.
        unsafe {
            asm!(
                "vdup.32 q2, {lo}",
                "vdup.32 q3, {hi}",
                "wlstp.32 lr, {len}, 3f",
                "2:",
                "vldrw.u32 q0, [{sums}], #16",
                "vldrw.u32 q1, [{multiplier}], #16",
                "vcvt.f32.s32 q0, q0",
                "vmul.f32 q0, q0, q1",
                $($load,)*
                "vmaxnm.f32 q0, q0, q2",
                "vminnm.f32 q0, q0, q3",
                "vcvtn.s32.f32 q0, q0",
                "vadd.i32 q0, q0, {zero_point}",
                "vstrb.32 q0, [r1], #4",
                "letp lr, 2b",
                "3:",
                lo = in(reg) $limits.lo.to_bits(),
                hi = in(reg) $limits.hi.to_bits(),
                zero_point = in(reg) $limits.zero_point,
                len = in(reg) $len,
                sums = inout(reg) $terms.0.as_ptr() => _,
                multiplier = inout(reg) $terms.1.as_ptr() => _,
                inout("r1") $out.as_mut_ptr() => _,
                $($name = inout(reg) $pointer => _,)*
                out("lr") _,
                out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
                out("d6") _, out("d7") _, out("d8") _, out("d9") _,
                options(nostack),
            );
        }
    };
}

#[inline(always)]
fn one(terms: Scaled<'_>, limits: &Limits, out: &mut [i8]) {
    let len = terms.0.len().min(terms.1.len()).min(out.len());
    let done = len - len % MANY;
    if let (Some(sums), Some(scales), Some(out)) =
        (terms.0.get(..done), terms.1.get(..done), out.get_mut(..done))
    {
        if limits.are_full() {
            sixteen!(sums, scales, limits, out, [], []);
        } else {
            let [lo, hi] = limits.codes_between();
            sixteen!(
                sums,
                scales,
                limits,
                out,
                ["vdup.8 q4, {lo}", "vdup.8 q5, {hi}", "vmax.s8 q0, q0, q4", "vmin.s8 q0, q0, q5"],
                [lo, hi]
            );
        }
    }
    if let (true, Some(sums), Some(scales), Some(out)) =
        (done < len, terms.0.get(done..len), terms.1.get(done..len), out.get_mut(done..len))
    {
        four_by_four!((sums, scales), limits, out, len - done, [], []);
    }
}

fn two(terms: Scaled<'_>, low: Scaled<'_>, limits: &Limits, out: &mut [i8]) {
    let len = terms.0.len().min(terms.1.len()).min(out.len()).min(low.0.len()).min(low.1.len());
    four_by_four!(
        terms,
        limits,
        out,
        len,
        [
            "vldrw.u32 q4, [{low}], #16",
            "vldrw.u32 q1, [{low_scale}], #16",
            "vcvt.f32.s32 q4, q4",
            "vmul.f32 q4, q4, q1",
            "vadd.f32 q0, q0, q4"
        ],
        [low = low.0.as_ptr(), low_scale = low.1.as_ptr()]
    );
}
