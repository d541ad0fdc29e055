//! Sums of depthwise windows, sixteen channels at a time.
//!
//! Two products fit int16 unless both are of −128 and −128: where no weight is that, taps are taken in pairs, whose sum is
//! widened once.

use core::arch::asm;
use core::ops::Range;

use crate::taps::Taps;

/// `sums[i] = bias[i] + Σ taps[t][first + i]·weights[t·channels + first + i]`, modulo 2³².
///
/// None for fewer codes than that takes, with nothing done.
#[inline(always)]
pub(super) fn channels_by_sixteen(
    taps: &Taps<'_>,
    weights: &[i8],
    first: usize,
    bias: &[[i32; 16]],
    sums: &mut [[i32; 16]],
) -> Option<()> {
    let (channels, starts) = (taps.channels(), taps.starts());
    let last = first.checked_add(bias.len().checked_mul(16)?)?;
    if last > channels || weights.len() < starts.len().checked_mul(channels)? || sums.len() < bias.len() {
        return None;
    }
    if bias.is_empty() {
        return Some(());
    }
    // SAFETY: every tap has `channels` codes, as `Taps` keeps them, and so have the weights of every tap by the length just
    // checked; `last` is no further, and `sums` has as many elements as `bias`.
    unsafe {
        if taps.pairs_fit() {
            in_pairs(starts, weights, channels, first..last, bias, sums);
        } else {
            one_by_one(starts, weights, channels, first..last, bias, sums);
        }
    }
    Some(())
}

/// The sums of the channels of `range`, sixteen for each element of `bias`.
///
/// # Safety
/// Behind each of `starts` lie codes up to the end of `range`, and at `weights`, and every `channels` codes from there on, as
/// many for each of them. `sums` has as many elements as `bias`, at least one.
unsafe fn one_by_one(
    starts: &[*const i8],
    weights: &[i8],
    channels: usize,
    range: Range<usize>,
    bias: &[[i32; 16]],
    sums: &mut [[i32; 16]],
) {
    // SAFETY: the build script found that the program is compiled for a processor with Helium. Of codes and weights those of
    // `range` are read, sixteen at a time, as the caller promised. VLD2 and VST2 move the elements of the slices.
    unsafe {
        asm!(
            "2:",
            "vld20.32 {{q0, q1}}, [{bias}]",
            "vld21.32 {{q0, q1}}, [{bias}]!",
            "vld20.32 {{q2, q3}}, [{bias}]",
            "vld21.32 {{q2, q3}}, [{bias}]!",
            "add r3, r2, r4",
            "wls lr, {count}, 4f",
            "3:",
            "ldr r1, [{starts}], #4",
            "add r1, r1, r4",
            "vldrb.s16 q4, [r1]",
            "vldrb.s16 q5, [r3]",
            "vmullb.s16 q6, q4, q5",
            "vmullt.s16 q7, q4, q5",
            "vldrb.s16 q4, [r1, #8]",
            "vadd.i32 q0, q0, q6",
            "vldrb.s16 q5, [r3, #8]",
            "vadd.i32 q1, q1, q7",
            "vmullb.s16 q6, q4, q5",
            "vmullt.s16 q7, q4, q5",
            "add r3, r3, {channels}",
            "vadd.i32 q2, q2, q6",
            "vadd.i32 q3, q3, q7",
            "le lr, 3b",
            "4:",
            "vst20.32 {{q0, q1}}, [{sums}]",
            "vst21.32 {{q0, q1}}, [{sums}]!",
            "vst20.32 {{q2, q3}}, [{sums}]",
            "vst21.32 {{q2, q3}}, [{sums}]!",
            "adds r4, #16",
            "sub {starts}, {starts}, {count}, lsl #2",
            "cmp r4, r5",
            "bne 2b",
            bias = inout(reg) bias.as_ptr() => _,
            sums = inout(reg) sums.as_mut_ptr() => _,
            starts = inout(reg) starts.as_ptr() => _,
            count = in(reg) starts.len(), channels = in(reg) channels,
            in("r2") weights.as_ptr(), inout("r4") range.start => _, in("r5") range.end,
            out("r1") _, out("r3") _, out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
            out("d6") _, out("d7") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
            out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}

/// The same where sums of two products fit int16.
///
/// # Safety
/// As for [`one_by_one`].
unsafe fn in_pairs(
    starts: &[*const i8],
    weights: &[i8],
    channels: usize,
    range: Range<usize>,
    bias: &[[i32; 16]],
    sums: &mut [[i32; 16]],
) {
    // SAFETY: as in `one_by_one`, with VLD4 and VST4.
    unsafe {
        asm!(
            // Even and odd channels of a product, and of those even and odd ones again, are what VLD4 deals out.
            ".macro ingraft_widen_and_add",
            "vmovlb.s16 q4, q6",
            "vmovlt.s16 q5, q6",
            "vadd.i32 q0, q0, q4",
            "vmovlb.s16 q4, q7",
            "vadd.i32 q2, q2, q5",
            "vmovlt.s16 q5, q7",
            "vadd.i32 q1, q1, q4",
            "vadd.i32 q3, q3, q5",
            ".endm",
            "2:",
            "vld40.32 {{q0, q1, q2, q3}}, [{bias}]",
            "vld41.32 {{q0, q1, q2, q3}}, [{bias}]",
            "vld42.32 {{q0, q1, q2, q3}}, [{bias}]",
            "vld43.32 {{q0, q1, q2, q3}}, [{bias}]!",
            "add r3, r2, r4",
            "lsr r0, {count}, #1",
            "wls lr, r0, 4f",
            "3:",
            "ldrd r1, r0, [{starts}], #8",
            "add r1, r1, r4",
            "vldrb.u8 q4, [r1]",
            "add r0, r0, r4",
            "vldrb.u8 q5, [r3]",
            "add r3, r3, {channels}",
            "vmullb.s8 q6, q4, q5",
            "vmullt.s8 q7, q4, q5",
            "vldrb.u8 q4, [r0]",
            "vldrb.u8 q5, [r3]",
            "vmullb.s8 q5, q4, q5",
            "vadd.i16 q6, q6, q5",
            "vldrb.u8 q5, [r3]",
            "vmullt.s8 q5, q4, q5",
            "add r3, r3, {channels}",
            "vadd.i16 q7, q7, q5",
            "ingraft_widen_and_add",
            "le lr, 3b",
            "4:",
            "lsls r0, {count}, #31",
            "beq 5f",
            "ldr r1, [{starts}], #4",
            "add r1, r1, r4",
            "vldrb.u8 q4, [r1]",
            "vldrb.u8 q5, [r3]",
            "vmullb.s8 q6, q4, q5",
            "vmullt.s8 q7, q4, q5",
            "ingraft_widen_and_add",
            "5:",
            "vst40.32 {{q0, q1, q2, q3}}, [{sums}]",
            "vst41.32 {{q0, q1, q2, q3}}, [{sums}]",
            "vst42.32 {{q0, q1, q2, q3}}, [{sums}]",
            "vst43.32 {{q0, q1, q2, q3}}, [{sums}]!",
            "adds r4, #16",
            "sub {starts}, {starts}, {count}, lsl #2",
            "cmp r4, r5",
            "bne 2b",
            ".purgem ingraft_widen_and_add",
            bias = inout(reg) bias.as_ptr() => _,
            sums = inout(reg) sums.as_mut_ptr() => _,
            starts = inout(reg) starts.as_ptr() => _,
            count = in(reg) starts.len(), channels = in(reg) channels,
            in("r2") weights.as_ptr(), inout("r4") range.start => _, in("r5") range.end,
            out("r0") _, out("r1") _, out("r3") _, out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
            out("d6") _, out("d7") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
            out("d12") _, out("d13") _, out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}
