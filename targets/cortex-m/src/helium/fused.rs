//! Codes of a pixel with a term of rank 2 or 4: `B·u` and both scales in one pass, eight channels a turn.
//!
//! Rows of B lie side by side where they are, so a load brings the factors of four or two channels; `u`, zeros beside it, stands
//! in a register for either half of the load.

use core::arch::asm;

use super::{codes, factors};
use crate::isa::Low;
use crate::requantize::{Limits, Scaled};

/// Channels of a turn.
const MANY: usize = 8;

/// Whether a term of this rank is one that [`codes_with`] computes.
pub(super) fn takes(rank: usize) -> bool {
    matches!(rank, 2 | 4)
}

/// `B·u` of the lower two rows in either load, the channels 0, 1 and 4, 5 or 2, 3 and 6, 7, in the lanes that VLD2 gives them.
macro_rules! rank_2 {
    ($even:literal, $odd:literal) => {
        concat!(
            "vmladav.s16 r0, q2, q6\n",
            "vmladav.s16 r2, q3, q6\n",
            "vmov ",
            $even,
            ", r0, r2\n",
            "vmladav.s16 r0, q2, q7\n",
            "vmladav.s16 r2, q3, q7\n",
            "vmov ",
            $odd,
            ", r0, r2",
        )
    };
}

/// The same with the loads.
macro_rules! rank_4 {
    ($load:literal, $other:literal, $even:literal, $odd:literal) => {
        concat!("vldrb.s16 q2, ", $load, "\n", "vldrb.s16 q3, ", $other, "\n", rank_2!($even, $odd),)
    };
}

macro_rules! turns {
    ($terms:ident, $low:ident, $turns:ident, $u:ident, $limits:ident, $out:ident, [$($factors:expr),*], $step:literal,
     [$($clamp:literal),*], [$($bound:ident),*]) => {
        // SAFETY: the build script found that the program is compiled for a processor with Helium on floats. A turn reads eight
        // elements of every slice, and as many rows of factors, and writes eight codes; the caller counted the turns by them.
        unsafe {
            asm!(
                "vldrh.u16 q6, [r0]",
                "vldrh.u16 q7, [r0, #16]",
                "wls lr, r2, 3f",
                "2:",
                $($factors,)*
                "vld20.32 {{q0, q1}}, [{sums}]",
                "vld21.32 {{q0, q1}}, [{sums}]!",
                "vld20.32 {{q2, q3}}, [{scales}]",
                "vcvt.f32.s32 q0, q0",
                "vld21.32 {{q2, q3}}, [{scales}]!",
                "vcvt.f32.s32 q1, q1",
                "vmul.f32 q0, q0, q2",
                "vcvt.f32.s32 q4, q4",
                "vmul.f32 q1, q1, q3",
                "vld20.32 {{q2, q3}}, [{low_scales}]",
                "vcvt.f32.s32 q5, q5",
                "vld21.32 {{q2, q3}}, [{low_scales}]!",
                "vmul.f32 q4, q4, q2",
                "vmul.f32 q5, q5, q3",
                "vadd.f32 q0, q0, q4",
                "vadd.f32 q1, q1, q5",
                "vcvtn.s32.f32 q0, q0",
                "vcvtn.s32.f32 q1, q1",
                "vqmovnb.s32 q0, q0",
                "vqmovnt.s32 q0, q1",
                "vqadd.s16 q0, q0, {zero_point}",
                $($clamp,)*
                "vstrb.16 q0, [r1], #8",
                "le lr, 2b",
                "3:",
                inout("r0") $u.as_ptr() => _, inout("r2") $turns => _,
                inout("r1") $out.as_mut_ptr() => _, inout("r3") $low.up.as_ptr().wrapping_sub($step) => _,
                sums = inout(reg) $terms.0.as_ptr() => _,
                scales = inout(reg) $terms.1.as_ptr() => _,
                low_scales = inout(reg) $low.scale.as_ptr() => _,
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

/// The same with the narrowest clamp that does.
macro_rules! clamped {
    ($terms:ident, $low:ident, $turns:ident, $u:ident, $limits:ident, $out:ident, $factors:tt, $step:literal) => {
        if $limits.are_full() {
            turns!($terms, $low, $turns, $u, $limits, $out, $factors, $step, ["vqmovnb.s16 q0, q0"], []);
        } else {
            let [lo, hi] = $limits.codes_between();
            turns!(
                $terms,
                $low,
                $turns,
                $u,
                $limits,
                $out,
                $factors,
                $step,
                ["vdup.16 q2, {lo}", "vdup.16 q3, {hi}", "vmax.s16 q0, q0, q2", "vmin.s16 q0, q0, q3"],
                [lo, hi]
            );
        }
    };
}

/// The codes of sums times their scales and of the term; `None` for slices of other lengths, or another rank.
#[inline]
pub(super) fn codes_with(terms: Scaled<'_>, low: Low<'_>, limits: &Limits, out: &mut [i8]) -> Option<()> {
    let (channels, rank) = (out.len(), low.latent.len());
    let sizes = [terms.0.len(), terms.1.len(), low.scale.len()];
    if sizes.iter().any(|size| *size < channels) || low.up.len() < channels.checked_mul(rank)? {
        return None;
    }
    let turns = channels / MANY;
    match *low.latent {
        [a, b] => {
            let u = [[a, b, 0, 0, 0, 0, 0, 0], [0, 0, a, b, 0, 0, 0, 0]];
            clamped!(
                terms,
                low,
                turns,
                u,
                limits,
                out,
                [
                    "vldrb.s16 q2, [r3, #16]!",
                    "vldrb.s16 q3, [r3, #8]",
                    rank_2!("q4[2], q4[0]", "q5[2], q5[0]"),
                    // The upper half of either load.
                    "vmov.f32 s8, s10",
                    "vmov.f32 s9, s11",
                    "vmov.f32 s12, s14",
                    "vmov.f32 s13, s15",
                    rank_2!("q4[3], q4[1]", "q5[3], q5[1]")
                ],
                16
            );
        }
        [a, b, c, d] => {
            let u = [[a, b, c, d, 0, 0, 0, 0], [0, 0, 0, 0, a, b, c, d]];
            clamped!(
                terms,
                low,
                turns,
                u,
                limits,
                out,
                [
                    rank_4!("[r3, #32]!", "[r3, #16]", "q4[2], q4[0]", "q5[2], q5[0]"),
                    rank_4!("[r3, #8]", "[r3, #24]", "q4[3], q4[1]", "q5[3], q5[1]")
                ],
                32
            );
        }
        _ => return None,
    }
    let done = turns * MANY;
    if done == channels {
        return Some(());
    }
    let mut sums = [0; MANY];
    let sums = sums.get_mut(..channels - done)?;
    factors::apply(low.latent, low.up.get(done * rank..channels * rank)?, sums)?;
    let terms = (terms.0.get(done..)?, terms.1.get(done..)?);
    codes::codes(terms, Some((sums, low.scale.get(done..)?)), limits, out.get_mut(done..)?);
    Some(())
}

/// `A·x` in int16.
///
/// # Numerics
/// As `ingraft_kernel::requantize::to_i16`, but that NaN becomes zero.
#[inline(always)]
pub(super) fn latents(sums: &[i32], scale: &[f32], latent: &mut [i16]) {
    // SAFETY: as above; lanes past the end of the shortest slice are neither read nor written.
    unsafe {
        asm!(
            "wlstp.32 lr, {len}, 3f",
            "2:",
            "vldrw.u32 q0, [{sums}], #16",
            "vldrw.u32 q1, [{scale}], #16",
            "vcvt.f32.s32 q0, q0",
            "vmul.f32 q0, q0, q1",
            "vcvtn.s32.f32 q0, q0",
            "vqmovnb.s32 q0, q0",
            "vstrh.32 q0, [r1], #8",
            "letp lr, 2b",
            "3:",
            len = in(reg) sums.len().min(scale.len()).min(latent.len()),
            sums = inout(reg) sums.as_ptr() => _, scale = inout(reg) scale.as_ptr() => _,
            inout("r1") latent.as_mut_ptr() => _,
            out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _,
            options(nostack),
        );
    }
}
