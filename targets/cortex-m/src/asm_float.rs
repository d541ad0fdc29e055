//! From sums to codes by the instructions of a single-precision unit and of the DSP extension; on processors without them
//! the same in plain Rust, as in `asm`.

/// Instructions of processors with both.
#[cfg(dsp)]
mod instructions {
    use core::arch::asm;

    /// Four sums in S0 to S3 times the scales in S4 to S7, rounded.
    macro_rules! products {
        () => {
            "vcvt.f32.s32 s0, s0
            vcvt.f32.s32 s1, s1
            vcvt.f32.s32 s2, s2
            vcvt.f32.s32 s3, s3
            vmul.f32 s0, s0, s4
            vmul.f32 s1, s1, s5
            vmul.f32 s2, s2, s6
            vmul.f32 s3, s3, s7
            vcvtr.s32.f32 s0, s0
            vcvtr.s32.f32 s1, s1
            vcvtr.s32.f32 s2, s2
            vcvtr.s32.f32 s3, s3"
        };
    }

    /// As `products`, of the sum with that of four sums in S8 to S11 times the scales in S12 to S15.
    macro_rules! products_of_two {
        () => {
            "vcvt.f32.s32 s0, s0
            vcvt.f32.s32 s1, s1
            vcvt.f32.s32 s2, s2
            vcvt.f32.s32 s3, s3
            vcvt.f32.s32 s8, s8
            vcvt.f32.s32 s9, s9
            vcvt.f32.s32 s10, s10
            vcvt.f32.s32 s11, s11
            vmul.f32 s0, s0, s4
            vmul.f32 s1, s1, s5
            vmul.f32 s2, s2, s6
            vmul.f32 s3, s3, s7
            vmul.f32 s8, s8, s12
            vmul.f32 s9, s9, s13
            vmul.f32 s10, s10, s14
            vmul.f32 s11, s11, s15
            vadd.f32 s0, s0, s8
            vadd.f32 s1, s1, s9
            vadd.f32 s2, s2, s10
            vadd.f32 s3, s3, s11
            vcvtr.s32.f32 s0, s0
            vcvtr.s32.f32 s1, s1
            vcvtr.s32.f32 s2, s2
            vcvtr.s32.f32 s3, s3"
        };
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
                products!(),
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

    /// As [`saturated`] of the sum of two products.
    #[inline(always)]
    pub(crate) fn saturated_two(
        [(sums, multiplier), (low, low_scale)]: [(&[i32], &[f32]); 2],
        zero_point: i32,
        out: &mut [i8],
    ) -> usize {
        let lengths = [sums.len(), multiplier.len(), low.len(), low_scale.len()];
        let count = lengths.into_iter().fold(out.len(), usize::min) & !3;
        if count == 0 {
            return 0;
        }
        let out = out.as_mut_ptr();
        // SAFETY: as in `saturated`.
        unsafe {
            asm!(
                "2:",
                "vldmia {sums}!, {{s0-s3}}",
                "vldmia {multiplier}!, {{s4-s7}}",
                "vldmia {low}!, {{s8-s11}}",
                "vldmia {low_scale}!, {{s12-s15}}",
                products_of_two!(),
                "vmov {a}, {b}, s0, s1",
                "qadd {a}, {a}, {zero_point}",
                "qadd {b}, {b}, {zero_point}",
                "ssat {a}, #8, {a}",
                "ssat {b}, #8, {b}",
                "strb {a}, [{out}], #1",
                "strb {b}, [{out}], #1",
                "vmov {a}, {b}, s2, s3",
                "qadd {a}, {a}, {zero_point}",
                "qadd {b}, {b}, {zero_point}",
                "ssat {a}, #8, {a}",
                "ssat {b}, #8, {b}",
                "strb {a}, [{out}], #1",
                "strb {b}, [{out}], #1",
                "cmp {out}, {end}",
                "bne 2b",
                sums = inout(reg) sums.as_ptr() => _, multiplier = inout(reg) multiplier.as_ptr() => _,
                low = inout(reg) low.as_ptr() => _, low_scale = inout(reg) low_scale.as_ptr() => _,
                out = inout(reg) out => _, end = in(reg) out.add(count), zero_point = in(reg) zero_point,
                a = out(reg) _, b = out(reg) _,
                out("s0") _, out("s1") _, out("s2") _, out("s3") _,
                out("s4") _, out("s5") _, out("s6") _, out("s7") _,
                out("s8") _, out("s9") _, out("s10") _, out("s11") _,
                out("s12") _, out("s13") _, out("s14") _, out("s15") _,
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
                products!(),
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
                products_of_two!(),
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

    /// None: the caller's own loop is as good.
    pub(crate) fn saturated(_: &[i32], _: &[f32], _: i32, _: &mut [i8]) -> usize {
        0
    }

    /// None: the caller's own loop is as good.
    pub(crate) fn saturated_two(_: [(&[i32], &[f32]); 2], _: i32, _: &mut [i8]) -> usize {
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
    fn rounds_half_to_even() {
        assert_eq!([0.5, 1.5, -0.5, -2.5].map(round), [0, 2, 0, -2]);
        assert!(round(1e9) >= 1 << 22 && round(-1e9) <= -(1 << 22));
    }
}
