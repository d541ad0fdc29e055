//! DSP instructions, and loops of them; on processors without them the same in plain Rust, so
//! that what is built on them is tested wherever the tests run.
//!
//! A pair is two int16 in a word. Loops stand in one block where the compiler, which sees no further than a block,
//! would load ahead and spill.

/// Four codes as pairs: the even ones, the odd ones.
pub(crate) type Quad = [u32; 2];

/// Instructions of processors with the DSP extension.
#[cfg(dsp)]
mod instructions {
    use core::arch::asm;

    use super::Quad;
    use crate::taps::Taps;

    /// Bytes 0 and 2 of `codes` as a pair.
    #[inline(always)]
    pub(crate) fn even_codes(codes: u32) -> u32 {
        let pair;
        // SAFETY: SXTB16 reads and writes the named registers only; the build script found that
        // the program is compiled for a processor that has it.
        unsafe {
            asm!("sxtb16 {}, {}", lateout(reg) pair, in(reg) codes,
                options(pure, nomem, nostack, preserves_flags));
        }
        pair
    }

    /// Bytes 1 and 3 of `codes` as a pair.
    #[inline(always)]
    pub(crate) fn odd_codes(codes: u32) -> u32 {
        let pair;
        // SAFETY: as in `even_codes`.
        unsafe {
            asm!("sxtb16 {}, {}, ror #8", lateout(reg) pair, in(reg) codes,
                options(pure, nomem, nostack, preserves_flags));
        }
        pair
    }

    /// `sum + a₀·b₀ + a₁·b₁`, modulo 2³².
    #[inline(always)]
    pub(crate) fn multiply_pairs(a: u32, b: u32, sum: i32) -> i32 {
        let result;
        // SAFETY: SMLAD reads and writes the named registers and the Q flag only; the build
        // script found that the program is compiled for a processor that has it.
        unsafe {
            asm!("smlad {}, {}, {}, {}", lateout(reg) result, in(reg) a, in(reg) b, in(reg) sum,
                options(pure, nomem, nostack));
        }
        result
    }

    /// `bias + Σ weights·row` of four rows, modulo 2³², over twice as many quads as `weights` has elements.
    ///
    /// None for no weights, or rows that are shorter.
    #[inline(always)]
    pub(crate) fn four_rows(rows: &[[Quad; 4]], weights: &[[i8; 8]], bias: i32) -> Option<[i32; 4]> {
        if weights.is_empty() || rows.len() < weights.len() * 2 {
            return None;
        }
        let (mut a, mut b, mut c, mut d) = (bias, bias, bias, bias);
        let weights = weights.as_ptr_range();
        // SAFETY: one turn reads eight weights and two quads of each row, which the lengths just checked
        // cover; R6 and R7, which cannot be operands, are put back, and all others are named. The
        // build script found that the program is compiled for a processor with the instructions.
        unsafe {
            asm!(
                "push {{r6, r7}}",
                "2:",
                ".rept 2",
                "ldr r12, [r0], #4",
                "sxtb16 r3, r12",
                "sxtb16 r12, r12, ror #8",
                "ldmia r2!, {{r4, r5, r6, r7}}",
                "smlad r8, r3, r4, r8",
                "smlad r8, r12, r5, r8",
                "smlad r9, r3, r6, r9",
                "smlad r9, r12, r7, r9",
                "ldmia r2!, {{r4, r5, r6, r7}}",
                "smlad r10, r3, r4, r10",
                "smlad r10, r12, r5, r10",
                "smlad r11, r3, r6, r11",
                "smlad r11, r12, r7, r11",
                ".endr",
                "cmp r0, r1",
                "bne 2b",
                "pop {{r6, r7}}",
                inout("r0") weights.start => _, in("r1") weights.end,
                inout("r2") rows.as_ptr() => _,
                out("r3") _, out("r4") _, out("r5") _, out("r12") _,
                inout("r8") a, inout("r9") b, inout("r10") c, inout("r11") d,
                options(readonly),
            );
        }
        Some([a, b, c, d])
    }

    /// `bias[i] + Σ taps[t][first + i]·weights[t·channels + first + i]` of four channels, modulo 2³².
    ///
    /// None for fewer codes than that takes.
    #[inline(always)]
    pub(crate) fn four_channels(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: [i32; 4],
    ) -> Option<[i32; 4]> {
        let (channels, starts) = (taps.channels(), taps.starts());
        if first + 4 > channels || weights.len() < starts.len() * channels {
            return None;
        }
        let (lone, threes) = starts.split_at_checked(starts.len() % 3)?;
        let start = weights.as_ptr().wrapping_add(first);
        // SAFETY: every tap has `channels` codes, as `Taps` keeps them, and so have the weights of every tap by the
        // length just checked; four of them from `first` on are read.
        unsafe {
            let sums = turns::<1>(lone, start, channels, first, bias);
            let start = start.wrapping_add(lone.len() * channels);
            Some(turns::<3>(threes, start, channels, first, sums))
        }
    }

    /// The sums of `N` taps a turn.
    ///
    /// # Safety
    /// `starts` are a multiple of `N`. Four codes are readable `first` codes behind each, and at `weights`, and every
    /// `channels` codes from there on, once for each.
    #[inline(always)]
    unsafe fn turns<const N: usize>(
        starts: &[*const i8],
        weights: *const i8,
        channels: usize,
        first: usize,
        bias: [i32; 4],
    ) -> [i32; 4] {
        let [mut a, mut b, mut c, mut d] = bias;
        if starts.is_empty() {
            return bias;
        }
        let starts = starts.as_ptr_range();
        // SAFETY: one turn reads `N` pointers, four codes behind each and four weights for each, which the caller
        // promised; R6 and R7, which cannot be operands, are put back, and all others are named. The
        // build script found that the program is compiled for a processor with the instructions.
        unsafe {
            asm!(
                "push {{r6, r7}}",
                "2:",
                ".rept {taps_a_turn}",
                "ldr r4, [r0], #4",
                "ldr r5, [r2]",
                "ldr r4, [r4, r12]",
                "add r2, r2, r3",
                "sxtb16 r6, r4",
                "sxtb16 r7, r5",
                "smlabb r8, r6, r7, r8",
                "smlatt r10, r6, r7, r10",
                "sxtb16 r6, r4, ror #8",
                "sxtb16 r7, r5, ror #8",
                "smlabb r9, r6, r7, r9",
                "smlatt r11, r6, r7, r11",
                ".endr",
                "cmp r0, r1",
                "bne 2b",
                "pop {{r6, r7}}",
                taps_a_turn = const N,
                inout("r0") starts.start => _, in("r1") starts.end,
                inout("r2") weights => _, in("r3") channels, in("r12") first,
                out("r4") _, out("r5") _,
                inout("r8") a, inout("r9") b, inout("r10") c, inout("r11") d,
                options(readonly),
            );
        }
        [a, b, c, d]
    }

    /// Writes the sum of `zero_point` and each rounded product, saturated to int8, and says how many: as many fours
    /// as all slices have.
    #[inline(always)]
    pub(crate) fn saturated(sums: &[i32], multiplier: &[f32], zero_point: i32, out: &mut [i8]) -> usize {
        let count = sums.len().min(multiplier.len()).min(out.len()) & !3;
        if count == 0 {
            return 0;
        }
        let out = out.as_mut_ptr();
        // SAFETY: as in `round`; the loop reads and writes `count` elements, which all slices have.
        unsafe {
            asm!(
                "2:",
                "vldmia {sums}!, {{s0-s3}}",
                "vldmia {multiplier}!, {{s4-s7}}",
                "vcvt.f32.s32 s0, s0",
                "vcvt.f32.s32 s1, s1",
                "vcvt.f32.s32 s2, s2",
                "vcvt.f32.s32 s3, s3",
                "vmul.f32 s0, s0, s4",
                "vmul.f32 s1, s1, s5",
                "vmul.f32 s2, s2, s6",
                "vmul.f32 s3, s3, s7",
                "vcvtr.s32.f32 s0, s0",
                "vcvtr.s32.f32 s1, s1",
                "vcvtr.s32.f32 s2, s2",
                "vcvtr.s32.f32 s3, s3",
                "vmov {a}, {b}, s0, s1",
                "vmov {c}, {d}, s2, s3",
                "qadd {a}, {a}, {zero_point}",
                "qadd {b}, {b}, {zero_point}",
                "qadd {c}, {c}, {zero_point}",
                "qadd {d}, {d}, {zero_point}",
                "ssat {a}, #8, {a}",
                "ssat {b}, #8, {b}",
                "ssat {c}, #8, {c}",
                "ssat {d}, #8, {d}",
                "strb {a}, [{out}], #1",
                "strb {b}, [{out}], #1",
                "strb {c}, [{out}], #1",
                "strb {d}, [{out}], #1",
                "cmp {out}, {end}",
                "bne 2b",
                sums = inout(reg) sums.as_ptr() => _, multiplier = inout(reg) multiplier.as_ptr() => _,
                out = inout(reg) out => _, end = in(reg) out.add(count), zero_point = in(reg) zero_point,
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _,
                out("s4") _, out("s5") _, out("s6") _, out("s7") _,
                options(nostack),
            );
        }
        count
    }

    /// `value` rounded half to even, saturated to int32.
    ///
    /// Stable compilers take no float registers as operands here, so the value passes through others.
    #[inline(always)]
    pub(crate) fn round(value: f32) -> i32 {
        let result;
        // SAFETY: these read and write the named registers and cumulative flags only. VCVTR rounds
        // as FPSCR says, which Rust requires to be half to even. The build script found that the program is
        // compiled for a processor with a single-precision unit.
        unsafe {
            asm!("vmov s0, {value}", "vcvtr.s32.f32 s0, s0", "vmov {result}, s0",
                value = in(reg) value.to_bits(), result = lateout(reg) result, out("s0") _,
                options(pure, nomem, nostack));
        }
        result
    }

    /// `sums` as floats times `multiplier`, rounded half to even, saturated to int32.
    #[inline(always)]
    pub(crate) fn scale(sums: &[i32; 4], multiplier: &[f32; 4]) -> [i32; 4] {
        let (a, b, c, d);
        // SAFETY: as in `round`; the loads read the four words of each reference.
        unsafe {
            asm!(
                "vldmia {sums}, {{s0-s3}}",
                "vldmia {multiplier}, {{s4-s7}}",
                "vcvt.f32.s32 s0, s0",
                "vcvt.f32.s32 s1, s1",
                "vcvt.f32.s32 s2, s2",
                "vcvt.f32.s32 s3, s3",
                "vmul.f32 s0, s0, s4",
                "vmul.f32 s1, s1, s5",
                "vmul.f32 s2, s2, s6",
                "vmul.f32 s3, s3, s7",
                "vcvtr.s32.f32 s0, s0",
                "vcvtr.s32.f32 s1, s1",
                "vcvtr.s32.f32 s2, s2",
                "vcvtr.s32.f32 s3, s3",
                "vmov {a}, {b}, s0, s1",
                "vmov {c}, {d}, s2, s3",
                sums = in(reg) sums, multiplier = in(reg) multiplier,
                a = lateout(reg) a, b = lateout(reg) b, c = lateout(reg) c, d = lateout(reg) d,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _,
                out("s4") _, out("s5") _, out("s6") _, out("s7") _,
                options(pure, readonly, nostack),
            );
        }
        [a, b, c, d]
    }

    /// As [`scale`] of the sum of two products.
    #[inline(always)]
    pub(crate) fn scale_two(terms: [(&[i32; 4], &[f32; 4]); 2]) -> [i32; 4] {
        let (a, b, c, d);
        let [(sums, multiplier), (low, low_scale)] = terms;
        // SAFETY: as in `scale`.
        unsafe {
            asm!(
                "vldmia {sums}, {{s0-s3}}",
                "vldmia {multiplier}, {{s4-s7}}",
                "vldmia {low}, {{s8-s11}}",
                "vldmia {low_scale}, {{s12-s15}}",
                "vcvt.f32.s32 s0, s0",
                "vcvt.f32.s32 s1, s1",
                "vcvt.f32.s32 s2, s2",
                "vcvt.f32.s32 s3, s3",
                "vcvt.f32.s32 s8, s8",
                "vcvt.f32.s32 s9, s9",
                "vcvt.f32.s32 s10, s10",
                "vcvt.f32.s32 s11, s11",
                "vmul.f32 s0, s0, s4",
                "vmul.f32 s1, s1, s5",
                "vmul.f32 s2, s2, s6",
                "vmul.f32 s3, s3, s7",
                "vmul.f32 s8, s8, s12",
                "vmul.f32 s9, s9, s13",
                "vmul.f32 s10, s10, s14",
                "vmul.f32 s11, s11, s15",
                "vadd.f32 s0, s0, s8",
                "vadd.f32 s1, s1, s9",
                "vadd.f32 s2, s2, s10",
                "vadd.f32 s3, s3, s11",
                "vcvtr.s32.f32 s0, s0",
                "vcvtr.s32.f32 s1, s1",
                "vcvtr.s32.f32 s2, s2",
                "vcvtr.s32.f32 s3, s3",
                "vmov {a}, {b}, s0, s1",
                "vmov {c}, {d}, s2, s3",
                sums = in(reg) sums, multiplier = in(reg) multiplier,
                low = in(reg) low, low_scale = in(reg) low_scale,
                a = lateout(reg) a, b = lateout(reg) b, c = lateout(reg) c, d = lateout(reg) d,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _,
                out("s4") _, out("s5") _, out("s6") _, out("s7") _,
                out("s8") _, out("s9") _, out("s10") _, out("s11") _,
                out("s12") _, out("s13") _, out("s14") _, out("s15") _,
                options(pure, readonly, nostack),
            );
        }
        [a, b, c, d]
    }
}

/// The same without the instructions.
#[cfg(not(dsp))]
mod instructions {
    use ingraft_tensor::ROUND_MAGIC;

    use super::Quad;
    use crate::taps::Taps;

    fn parts(pair: u32) -> [i32; 2] {
        [i32::from(pair as i16), i32::from((pair >> 16) as i16)]
    }

    /// Bytes 0 and 2 of `codes` as a pair.
    #[inline(always)]
    pub(crate) fn even_codes(codes: u32) -> u32 {
        let half = |code: u32| u32::from(i16::from(code as i8) as u16);
        half(codes) | half(codes >> 16) << 16
    }

    /// Bytes 1 and 3 of `codes` as a pair.
    #[inline(always)]
    pub(crate) fn odd_codes(codes: u32) -> u32 {
        even_codes(codes >> 8)
    }

    /// `sum + a₀·b₀ + a₁·b₁`, modulo 2³².
    #[inline(always)]
    pub(crate) fn multiply_pairs(a: u32, b: u32, sum: i32) -> i32 {
        let ([a, c], [b, d]) = (parts(a), parts(b));
        sum.wrapping_add(a.wrapping_mul(b)).wrapping_add(c.wrapping_mul(d))
    }

    /// None: the caller's own loop is as good.
    pub(crate) fn four_rows(_: &[[Quad; 4]], _: &[[i8; 8]], _: i32) -> Option<[i32; 4]> {
        None
    }

    /// `bias[i] + Σ taps[t][first + i]·weights[t·channels + first + i]` of four channels, modulo 2³².
    ///
    /// None for fewer codes than that takes.
    #[inline(always)]
    pub(crate) fn four_channels(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: [i32; 4],
    ) -> Option<[i32; 4]> {
        let mut sums = bias;
        let mut weights = weights.chunks_exact(taps.channels().max(1));
        for codes in taps.iter() {
            let (codes, weights) = (codes.get(first..)?, weights.next()?.get(first..)?);
            for ((sum, x), w) in sums.iter_mut().zip(codes).zip(weights) {
                *sum = sum.wrapping_add(i32::from(*x).wrapping_mul(i32::from(*w)));
            }
        }
        Some(sums)
    }

    /// None: the caller's own loop is as good.
    pub(crate) fn saturated(_: &[i32], _: &[f32], _: i32, _: &mut [i8]) -> usize {
        0
    }

    /// `value` rounded half to even, saturated to 2²² either way: more than any code needs.
    #[inline(always)]
    pub(crate) fn round(value: f32) -> i32 {
        let bound = (1 << 22) as f32;
        let value = if value > bound { bound } else { value };
        let value = if value > -bound { value } else { -bound };
        ((value + ROUND_MAGIC) - ROUND_MAGIC) as i32
    }

    /// `sums` as floats times `multiplier`, rounded as [`round`] does.
    #[inline(always)]
    pub(crate) fn scale(sums: &[i32; 4], multiplier: &[f32; 4]) -> [i32; 4] {
        let mut values = *multiplier;
        values.iter_mut().zip(sums).for_each(|(m, sum)| *m *= *sum as f32);
        values.map(round)
    }

    /// As [`scale`] of the sum of two products.
    #[inline(always)]
    pub(crate) fn scale_two(terms: [(&[i32; 4], &[f32; 4]); 2]) -> [i32; 4] {
        let [(sums, multiplier), (low, low_scale)] = terms;
        let mut values = *multiplier;
        values.iter_mut().zip(sums).for_each(|(m, sum)| *m *= *sum as f32);
        values.iter_mut().zip(low.iter().zip(low_scale)).for_each(|(v, (sum, n))| *v += *sum as f32 * n);
        values.map(round)
    }
}

pub(crate) use instructions::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_codes_in_order() {
        let codes = u32::from_le_bytes([1, 0x80, 0xff, 127]);
        assert_eq!(even_codes(codes), 0xffff_0001);
        assert_eq!(odd_codes(codes), 0x007f_ff80);
    }

    #[test]
    fn products_wrap() {
        let (a, b) = (even_codes(0x0080_0080), even_codes(0x0080_0080));
        assert_eq!(multiply_pairs(a, b, i32::MAX), i32::MAX.wrapping_add(2 * 128 * 128));
        assert_eq!(multiply_pairs(a, 3 | 2 << 16, 1), 1 - 5 * 128);
    }

    #[test]
    fn rounds_half_to_even() {
        assert_eq!([0.5, 1.5, -0.5, -2.5].map(round), [0, 2, 0, -2]);
        assert!(round(1e9) >= 1 << 22 && round(-1e9) <= -(1 << 22));
    }
}
