//! `B·u` of a low-rank term, four channels at a time: their factors are gathered from rows of B where they lie.

use core::arch::asm;
use ingraft_tensor::arrays::arrays;

/// Writes `sums[c] = Σ latent[k]·up[c][k]`, modulo 2³², for every row of `up`; `None` for another number of rows than of sums,
/// with nothing done.
#[inline]
pub(super) fn apply(latent: &[i16], up: &[i8], sums: &mut [i32]) -> Option<()> {
    let rank = latent.len();
    (up.len() == sums.len().checked_mul(rank)?).then_some(())?;
    sums.fill(0);
    let (fours, rest) = arrays::<_, 4>(latent);
    for (k, latent) in fours.iter().enumerate() {
        // SAFETY: rows of `up` have `rank` factors, of which these are `4·k` and the three behind.
        unsafe { add_four(up.as_ptr().wrapping_add(4 * k), rank, *latent, sums) };
    }
    for (k, latent) in (fours.len() * 4..).zip(rest) {
        // SAFETY: as above, of factor `k`.
        unsafe { add_one(up.as_ptr().wrapping_add(k), rank, *latent, sums) };
    }
    Some(())
}

/// Adds the products of four factors of every channel.
///
/// # Safety
/// At `up`, and every `rank` codes from there on, four codes are readable, once for each of `sums`.
#[inline(always)]
unsafe fn add_four(up: *const i8, rank: usize, latent: [i16; 4], sums: &mut [i32]) {
    let [a, b, c, d] = latent.map(i32::from);
    // SAFETY: the build script found that the program is compiled for a processor with Helium. Lanes past the last sum are
    // neither read nor written; the caller promised the codes of the others.
    unsafe {
        asm!(
            // The places of a factor of four channels, and of the factors behind it.
            "vidup.u32 q4, r0, #1",
            "vmul.i32 q4, q4, {rank}",
            "movs r0, #1",
            "vadd.i32 q5, q4, r0",
            "vadd.i32 q6, q5, r0",
            "vadd.i32 q7, q6, r0",
            "wlstp.32 lr, {len}, 3f",
            "2:",
            "vldrw.u32 q0, [{sums}]",
            "vldrb.s32 q1, [{up}, q4]",
            "vmla.i32 q0, q1, {a}",
            "vldrb.s32 q2, [{up}, q5]",
            "vmla.i32 q0, q2, {b}",
            "vldrb.s32 q1, [{up}, q6]",
            "vmla.i32 q0, q1, {c}",
            "vldrb.s32 q2, [{up}, q7]",
            "vmla.i32 q0, q2, {d}",
            "vstrw.32 q0, [{sums}], #16",
            "add {up}, {up}, {rank}, lsl #2",
            "letp lr, 2b",
            "3:",
            inout("r0") 0 => _,
            rank = in(reg) rank, len = in(reg) sums.len(),
            sums = inout(reg) sums.as_mut_ptr() => _, up = inout(reg) up => _,
            a = in(reg) a, b = in(reg) b, c = in(reg) c, d = in(reg) d,
            out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
            out("d8") _, out("d9") _, out("d10") _, out("d11") _, out("d12") _, out("d13") _,
            out("d14") _, out("d15") _,
            options(nostack),
        );
    }
}

/// Adds the products of one factor of every channel.
///
/// # Safety
/// At `up`, and every `rank` codes from there on, a code is readable, once for each of `sums`.
#[inline(always)]
unsafe fn add_one(up: *const i8, rank: usize, latent: i16, sums: &mut [i32]) {
    // SAFETY: as in `add_four`.
    unsafe {
        asm!(
            "vidup.u32 q4, r0, #1",
            "vmul.i32 q4, q4, {rank}",
            "wlstp.32 lr, {len}, 3f",
            "2:",
            "vldrw.u32 q0, [{sums}]",
            "vldrb.s32 q1, [{up}, q4]",
            "vmla.i32 q0, q1, {a}",
            "vstrw.32 q0, [{sums}], #16",
            "add {up}, {up}, {rank}, lsl #2",
            "letp lr, 2b",
            "3:",
            inout("r0") 0 => _,
            rank = in(reg) rank, len = in(reg) sums.len(),
            sums = inout(reg) sums.as_mut_ptr() => _, up = inout(reg) up => _,
            a = in(reg) i32::from(latent),
            out("lr") _,
            out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d8") _, out("d9") _,
            options(nostack),
        );
    }
}
