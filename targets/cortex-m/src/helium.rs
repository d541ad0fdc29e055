//! Inner loops on Helium: sixteen products of int8 an instruction.
//!
//! Vector registers cannot be operands of `asm!` on a stable compiler, so a block holds a whole
//! inner loop. Loops are tail-predicated: the lanes past the end of a row are neither read nor
//! written, so rows of any length stay where they are. Loads that widen and stores that narrow take their address in
//! R0 to R7 only, which no operand class says: those registers are named.

#[cfg(helium)]
mod factors;

use ingraft_kernel::window::ConvShape;

use crate::isa::{Isa, Latents, Sums, WIDTH};
use crate::patch::Patches;
use crate::portable::Portable;
use crate::requantize::{Limits, Scaled};
use crate::taps::Taps;

/// Helium with floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Helium;

impl Isa for Helium {
    type Rows<'a> = &'a [i8];

    fn rows(_left: usize) -> usize {
        1
    }

    fn bytes(shape: &ConvShape) -> usize {
        Portable::bytes(shape)
    }

    #[inline(always)]
    fn load<'a>(patches: &Patches<'a>, first: usize, count: usize, memory: &'a mut [u8]) -> Option<&'a [i8]> {
        Portable::load(patches, first, count, memory)
    }

    #[cfg(not(helium))]
    fn multiply(x: &[i8], weights: &[i8], len: usize, bias: &[i32], sums: &mut Sums) -> Option<()> {
        Portable::multiply(x, weights, len, bias, sums)
    }

    #[cfg(helium)]
    #[inline]
    fn multiply(x: &[i8], weights: &[i8], len: usize, bias: &[i32], sums: &mut Sums) -> Option<()> {
        use ingraft_kernel::window::row;
        let [sums, ..] = sums;
        let (x, weights) = (x.get(..len)?, weights.get(..bias.len() * len)?);
        let (quads, rest) = bias.as_chunks::<4>();
        let slots = sums.as_chunks_mut::<4>().0.get_mut(..quads.len())?;
        instructions::dots_by_four(x, weights.get(..quads.len() * 4 * len)?, quads, slots);
        let first = quads.len() * 4;
        for (c, bias) in (first..).zip(rest) {
            *sums.get_mut(c)? = instructions::dot(x, row(weights, c, len)?, *bias);
        }
        Some(())
    }

    #[inline]
    fn apply(
        latents: &Latents,
        count: usize,
        rank: usize,
        up: &[i8],
        channels: usize,
        sums: &mut Sums,
    ) -> Option<()> {
        #[cfg(helium)]
        {
            let up = up.get(..channels.checked_mul(rank)?)?;
            for (latent, sums) in latents.iter().zip(sums).take(count) {
                factors::apply(latent.get(..rank)?, up, sums.get_mut(..channels)?)?;
            }
            Some(())
        }
        #[cfg(not(helium))]
        Portable::apply(latents, count, rank, up, channels, sums)
    }

    #[inline]
    fn depthwise(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[i32],
        sums: &mut [i32; WIDTH],
    ) -> Option<()> {
        #[cfg(helium)]
        {
            let (groups, rest) = bias.as_chunks::<16>();
            for ((g, bias), sums) in groups.iter().enumerate().zip(sums.as_chunks_mut::<16>().0) {
                instructions::sixteen_channels(taps, weights, first + g * 16, bias, sums)?;
            }
            let done = groups.len() * 16;
            Portable::channels(taps, weights, first + done, rest, sums.get_mut(done..)?)
        }
        #[cfg(not(helium))]
        Portable::depthwise(taps, weights, first, bias, sums)
    }

    #[inline]
    fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]) {
        #[cfg(helium)]
        return instructions::codes(terms, low, limits, out);
        #[cfg(not(helium))]
        Portable::codes(terms, low, limits, out);
    }
}

#[cfg(helium)]
mod instructions {
    use core::arch::asm;

    use crate::requantize::{Limits, Scaled};
    use crate::taps::Taps;

    /// `sums[c] = bias[c] + Σ x·weights[c]` of as many rows of weights, each as long as `x`, modulo 2³², four at a time.
    #[inline(always)]
    pub(super) fn dots_by_four(x: &[i8], weights: &[i8], bias: &[[i32; 4]], sums: &mut [[i32; 4]]) {
        let len = x.len();
        debug_assert!(weights.len() == 4 * len * bias.len() && sums.len() == bias.len());
        if bias.is_empty() {
            return;
        }
        let sums = sums.as_mut_ptr_range();
        // SAFETY: the build script found that the program is compiled for a processor with Helium. Every turn of the outer
        // loop reads four words of `bias` and writes as many of `sums`, which has as many elements; it reads `len` bytes
        // from each of five pointers: `x` has as many, and the weights four times as many for each element, as the only
        // caller cuts them so. R6 and R7, which cannot be operands, are put back, and all others are named.
        unsafe {
            asm!(
                "push {{r6, r7}}",
                "4:",
                "ldrd r0, r2, [r10], #8",
                "ldrd r4, r8, [r10], #8",
                "add r5, r3, r9",
                "add r6, r5, r9",
                "add r7, r6, r9",
                "wlstp.8 lr, r9, 3f",
                "2:",
                "vldrb.u8 q0, [r1], #16",
                "vldrb.u8 q1, [r3], #16",
                "vmladava.s8 r0, q0, q1",
                "vldrb.u8 q2, [r5], #16",
                "vmladava.s8 r2, q0, q2",
                "vldrb.u8 q3, [r6], #16",
                "vmladava.s8 r4, q0, q3",
                "vldrb.u8 q1, [r7], #16",
                "vmladava.s8 r8, q0, q1",
                "letp lr, 2b",
                "3:",
                "strd r0, r2, [r11], #8",
                "strd r4, r8, [r11], #8",
                // The pointers stand behind whole vectors: back to `x`, and on to the next row.
                "add r0, r9, #15",
                "bic r0, r0, #15",
                "sub r1, r1, r0",
                "sub r3, r7, r0",
                "add r3, r3, r9",
                "cmp r11, r12",
                "bne 4b",
                "pop {{r6, r7}}",
                inout("r1") x.as_ptr() => _, inout("r3") weights.as_ptr() => _,
                in("r9") len, inout("r10") bias.as_ptr() => _,
                inout("r11") sums.start => _, in("r12") sums.end,
                out("r0") _, out("r2") _, out("r4") _, out("r5") _, out("r8") _,
                out("lr") _,
                out("d0") _, out("d1") _, out("d2") _, out("d3") _,
                out("d4") _, out("d5") _, out("d6") _, out("d7") _,
            );
        }
    }

    /// `sums[i] = bias[i] + Σ taps[t][first + i]·weights[t·channels + first + i]`, modulo 2³².
    ///
    /// None for fewer codes than that takes, with nothing done.
    #[inline(always)]
    pub(super) fn sixteen_channels(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[i32; 16],
        sums: &mut [i32; 16],
    ) -> Option<()> {
        let (channels, starts) = (taps.channels(), taps.starts());
        if first + 16 > channels || weights.len() < starts.len() * channels {
            return None;
        }
        // SAFETY: the build script found that the program is compiled for a processor with Helium. Every tap has
        // `channels` codes, as `Taps` keeps them, and so have the weights of every tap by the length just
        // checked; sixteen of them from `first` on are read. VLD2 and VST2 move the sixteen elements of the references.
        unsafe {
            asm!(
                "vld20.32 {{q0, q1}}, [{bias}]",
                "vld21.32 {{q0, q1}}, [{bias}]!",
                "vld20.32 {{q2, q3}}, [{bias}]",
                "vld21.32 {{q2, q3}}, [{bias}]",
                "wls lr, {count}, 3f",
                "2:",
                "ldr r1, [{starts}], #4",
                "add r1, r1, {first}",
                "vldrb.s16 q4, [r1]",
                "vldrb.s16 q5, [r3]",
                "vmullb.s16 q6, q4, q5",
                "vmullt.s16 q7, q4, q5",
                "vadd.i32 q0, q0, q6",
                "vadd.i32 q1, q1, q7",
                "vldrb.s16 q4, [r1, #8]",
                "vldrb.s16 q5, [r3, #8]",
                "vmullb.s16 q6, q4, q5",
                "vmullt.s16 q7, q4, q5",
                "vadd.i32 q2, q2, q6",
                "vadd.i32 q3, q3, q7",
                "add r3, r3, {channels}",
                "le lr, 2b",
                "3:",
                "vst20.32 {{q0, q1}}, [{sums}]",
                "vst21.32 {{q0, q1}}, [{sums}]!",
                "vst20.32 {{q2, q3}}, [{sums}]",
                "vst21.32 {{q2, q3}}, [{sums}]",
                bias = inout(reg) bias.as_ptr() => _,
                sums = inout(reg) sums.as_mut_ptr() => _,
                starts = inout(reg) starts.as_ptr() => _,
                inout("r3") weights.as_ptr().wrapping_add(first) => _,
                count = in(reg) starts.len(), channels = in(reg) channels, first = in(reg) first,
                out("r1") _,
                out("lr") _,
                out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
                out("d6") _, out("d7") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
                out("d12") _, out("d13") _, out("d14") _, out("d15") _,
                options(nostack),
            );
        }
        Some(())
    }

    /// `bias + Σ x·w`, modulo 2³², over the shorter of the two.
    #[inline(always)]
    pub(super) fn dot(x: &[i8], w: &[i8], bias: i32) -> i32 {
        let mut sum = bias;
        // SAFETY: as in `dots_by_four`; both slices have at least as many bytes as are read.
        unsafe {
            asm!(
                "wlstp.8 lr, {len}, 3f",
                "2:",
                "vldrb.u8 q0, [{x}], #16",
                "vldrb.u8 q1, [{w}], #16",
                "vmladava.s8 r0, q0, q1",
                "letp lr, 2b",
                "3:",
                len = in(reg) x.len().min(w.len()),
                x = inout(reg) x.as_ptr() => _,
                w = inout(reg) w.as_ptr() => _,
                inout("r0") sum,
                out("lr") _,
                out("d0") _, out("d1") _, out("d2") _, out("d3") _,
                options(nostack, readonly),
            );
        }
        sum
    }

    /// The codes of sums times their scales, or of two such products' sum, as many as the shortest slice has.
    ///
    /// # Numerics
    /// Helium flushes subnormal values to zero; they round to zero either way.
    #[inline(always)]
    pub(super) fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]) {
        match low {
            None => one(terms, limits, out),
            Some(low) => two(terms, low, limits, out),
        }
    }

    macro_rules! codes {
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
        codes!(terms, limits, out, len, [], []);
    }

    fn two(terms: Scaled<'_>, low: Scaled<'_>, limits: &Limits, out: &mut [i8]) {
        let len = terms.0.len().min(terms.1.len()).min(out.len()).min(low.0.len()).min(low.1.len());
        codes!(
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
}
