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

    /// The products of eight weights at R0 with four rows at R2.
    macro_rules! eight_codes {
        () => {
            ".rept 2
            ldr r12, [r0], #4
            sxtb16 r3, r12
            sxtb16 r12, r12, ror #8
            ldmia r2!, {{r4, r5, r6, r7}}
            smlad r8, r3, r4, r8
            smlad r8, r12, r5, r8
            smlad r9, r3, r6, r9
            smlad r9, r12, r7, r9
            ldmia r2!, {{r4, r5, r6, r7}}
            smlad r10, r3, r4, r10
            smlad r10, r12, r5, r10
            smlad r11, r3, r6, r11
            smlad r11, r12, r7, r11
            .endr"
        };
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
        // SAFETY: every eight codes read eight weights and two quads of each row, which the lengths just checked
        // cover; R6 and R7, which cannot be operands, are put back, and all others are named. The
        // build script found that the program is compiled for a processor with the instructions.
        unsafe {
            asm!(
                "push {{r6, r7}}",
                // The first turn takes what is over a multiple of four.
                "sub r3, r1, r0",
                "ands r3, r3, #24",
                "beq 2f",
                "cmp r3, #16",
                "bhi 3f",
                "beq 4f",
                "b 5f",
                "2:", eight_codes!(),
                "3:", eight_codes!(),
                "4:", eight_codes!(),
                "5:", eight_codes!(),
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

    /// The products of eight codes of a row at R2, as quads, with the weights of four channels at R0 and R7, R1 apart.
    macro_rules! eight_codes_of_four {
        () => {
            ".rept 2
            ldmia r2!, {{r4, r5}}
            ldr r12, [r0, r1]
            sxtb16 r3, r12
            sxtb16 r12, r12, ror #8
            smlad r9, r3, r4, r9
            smlad r9, r12, r5, r9
            ldr r12, [r0], #4
            sxtb16 r3, r12
            sxtb16 r12, r12, ror #8
            smlad r8, r3, r4, r8
            smlad r8, r12, r5, r8
            ldr r12, [r7, r1]
            sxtb16 r3, r12
            sxtb16 r12, r12, ror #8
            smlad r11, r3, r4, r11
            smlad r11, r12, r5, r11
            ldr r12, [r7], #4
            sxtb16 r3, r12
            sxtb16 r12, r12, ror #8
            smlad r10, r3, r4, r10
            smlad r10, r12, r5, r10
            .endr"
        };
    }

    /// `bias[c] + Σ weights[c·len + i]·row[i]` of four channels, modulo 2³², over the whole eights of `len` codes.
    ///
    /// None for fewer than eight, or operands that are shorter.
    #[inline(always)]
    pub(crate) fn four_channels(
        row: &[Quad],
        weights: &[i8],
        len: usize,
        bias: [i32; 4],
    ) -> Option<[i32; 4]> {
        let eights = len / 8;
        if eights == 0 || row.len() < eights * 2 || weights.len() < len.checked_mul(4)? {
            return None;
        }
        let [mut a, mut b, mut c, mut d] = bias;
        let third = weights.get(len * 2..)?.as_ptr();
        // SAFETY: every turn reads eight weights of each channel and two quads, which the lengths just checked cover; R6
        // and R7 are put back, and all others are named. The build script found that the program is compiled for a
        // processor with the instructions, whose loads need no alignment.
        unsafe {
            asm!(
                "push {{r6, r7}}",
                "mov r7, r4",
                "mov r6, r5",
                "2:", eight_codes_of_four!(),
                "subs r6, r6, #1",
                "bne 2b",
                "pop {{r6, r7}}",
                inout("r0") weights.as_ptr() => _, in("r1") len,
                inout("r2") row.as_ptr() => _,
                inout("r4") third => _, inout("r5") eights => _,
                out("r3") _, out("r12") _,
                inout("r8") a, inout("r9") b, inout("r10") c, inout("r11") d,
                options(readonly),
            );
        }
        Some([a, b, c, d])
    }

    /// `sums[c] = bias[c] + Σ taps[t][first + c]·weights[t·channels + first + c]`, modulo 2³², of channels in fours.
    ///
    /// None for fewer codes than that takes.
    #[inline(always)]
    pub(crate) fn channels_by_four(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[[i32; 4]],
        sums: &mut [[i32; 4]],
    ) -> Option<()> {
        let (channels, starts) = (taps.channels(), taps.starts());
        let last = first.checked_add(bias.len().checked_mul(4)?)?;
        if last > channels || weights.len() < starts.len() * channels {
            return None;
        }
        let (lone, threes) = starts.split_at_checked(starts.len() % 3)?;
        let start = weights.as_ptr();
        let behind = start.wrapping_add(lone.len() * channels);
        let mut at = first;
        for (sums, bias) in sums.iter_mut().zip(bias) {
            // SAFETY: every tap has `channels` codes, as `Taps` keeps them, and so have the weights of every tap by the
            // length just checked; four of them from `at` on, at most `last − 4`, are read.
            *sums = unsafe {
                let sums = turns::<1>(lone, start.wrapping_add(at), channels, at, *bias);
                turns::<3>(threes, behind.wrapping_add(at), channels, at, sums)
            };
            at += 4;
        }
        Some(())
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
}

/// The same without the instructions.
#[cfg(not(dsp))]
mod instructions {
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

    /// None: loops of the compiler's are as good.
    #[inline(always)]
    pub(crate) fn four_channels(_: &[Quad], _: &[i8], _: usize, _: [i32; 4]) -> Option<[i32; 4]> {
        None
    }

    /// `sums[c] = bias[c] + Σ taps[t][first + c]·weights[t·channels + first + c]`, modulo 2³², of channels in fours.
    ///
    /// None for fewer codes than that takes.
    #[inline(always)]
    pub(crate) fn channels_by_four(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[[i32; 4]],
        sums: &mut [[i32; 4]],
    ) -> Option<()> {
        let (sums, bias) = (sums.as_flattened_mut(), bias.as_flattened());
        sums.get_mut(..bias.len())?.copy_from_slice(bias);
        let mut weights = weights.chunks_exact(taps.channels().max(1));
        for codes in taps.iter() {
            let (codes, weights) = (codes.get(first..)?, weights.next()?.get(first..)?);
            for ((sum, x), w) in sums.iter_mut().zip(codes.get(..bias.len())?).zip(weights) {
                *sum = sum.wrapping_add(i32::from(*x).wrapping_mul(i32::from(*w)));
            }
        }
        Some(())
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
}
