//! Products of one row with the weights of many channels: sixteen an instruction, and a load for each.
//!
//! Up to 64 codes of the row stay in registers while all channels pass by, two at a time; longer rows take as many turns, over
//! the sums of the turn before. No row is copied, and none is read past the end of its slice.

use core::arch::asm;

use ingraft_kernel::window::row;

/// Codes that registers hold.
const HELD: usize = 64;
/// Codes of a register.
const LANES: usize = 16;

/// `sums[c] = bias[c] + Σ x·weights[c]`, modulo 2³², for the channels of `bias`; rows of `weights` are as long as `x`.
///
/// None for fewer weights or sums, with nothing done.
#[inline]
pub(super) fn products(x: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32]) -> Option<()> {
    let (len, channels) = (x.len(), bias.len());
    let (weights, sums) = (weights.get(..channels.checked_mul(len)?)?, sums.get_mut(..channels)?);
    if len == 0 || len > HELD || !len.is_multiple_of(LANES) || !channels.is_multiple_of(2) {
        return in_turns(x, weights, bias, sums);
    }
    let (from, to) = (bias.as_ptr(), sums.as_mut_ptr());
    // SAFETY: `bias` and `sums` have two words for each pair, and weights are whole registers, each of its own channel.
    unsafe { Rows { start: weights.as_ptr(), len, from, to, pairs: channels / 2 }.multiply_whole(x) };
    Some(())
}

/// The same for any lengths.
#[inline(never)]
fn in_turns(x: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32]) -> Option<()> {
    let (len, channels) = (x.len(), bias.len());
    if len == 0 {
        sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum = *bias);
    }
    for (turn, held) in x.chunks(HELD).enumerate() {
        let at = turn * HELD;
        // A register is loaded whole: behind the codes that are held, the weights must go on for as many as it has more.
        let more = held.len().wrapping_neg() % LANES;
        let pairs = channels.saturating_sub(more.div_ceil(len.max(1))) / 2;
        let to = sums.as_mut_ptr();
        let from = if turn == 0 { bias.as_ptr() } else { to.cast_const() };
        let rows = Rows { start: weights.as_ptr().wrapping_add(at), len, from, to, pairs };
        // SAFETY: `bias` and `sums` have two words for each pair, and `pairs` was chosen for the weights of the last to be read.
        unsafe { rows.multiply(held) };
        for (c, sum) in sums.iter_mut().enumerate().skip(pairs * 2) {
            let from = if turn == 0 { *bias.get(c)? } else { *sum };
            *sum = dot(held, row(weights, c, len)?.get(at..)?, from);
        }
    }
    Some(())
}

/// Weights of an even number of channels, and their sums.
struct Rows {
    /// The weight of the first channel for the first code that is held.
    start: *const i8,
    /// Codes from a channel to the next.
    len: usize,
    /// Sums before.
    from: *const i32,
    /// Sums after.
    to: *mut i32,
    /// Half the channels.
    pairs: usize,
}

/// The products of a channel.
macro_rules! channel {
    (1, $sum:literal) => {
        concat!("vldrb.u8 q4, [{w}], #16\n vmladava.s8 ", $sum, ", q0, q4\n")
    };
    (2, $sum:literal) => {
        concat!(channel!(1, $sum), "vldrb.u8 q5, [{w}], #16\n vmladava.s8 ", $sum, ", q1, q5\n")
    };
    (3, $sum:literal) => {
        concat!(channel!(2, $sum), "vldrb.u8 q4, [{w}], #16\n vmladava.s8 ", $sum, ", q2, q4\n")
    };
    (4, $sum:literal) => {
        concat!(channel!(3, $sum), "vldrb.u8 q5, [{w}], #16\n vmladava.s8 ", $sum, ", q3, q5\n")
    };
}

/// Loads the registers before the last.
macro_rules! first {
    (1) => {
        ""
    };
    (2) => {
        "vldrb.u8 q0, [{x}]"
    };
    (3) => {
        concat!(first!(2), "\n vldrb.u8 q1, [{x}, #16]")
    };
    (4) => {
        concat!(first!(3), "\n vldrb.u8 q2, [{x}, #32]")
    };
}

/// Loads the last register.
macro_rules! last {
    (1) => {
        "5: vldrb.u8 q0, [{x}]"
    };
    (2) => {
        "5: vldrb.u8 q1, [{x}, #16]"
    };
    (3) => {
        "5: vldrb.u8 q2, [{x}, #32]"
    };
    (4) => {
        "5: vldrb.u8 q3, [{x}, #48]"
    };
}

macro_rules! multiply {
    ($rows:ident, $x:ident, [$($load:expr),*], [$first:expr, $second:expr], [$($name:ident = $value:expr),*]) => {
        // SAFETY: the build script found that the program is compiled for a processor with Helium. Of `x`, as many codes are
        // read as it has; the caller promised weights and sums.
        unsafe {
            asm!(
                $($load,)*
                "wls lr, {pairs}, 3f",
                "2:",
                "ldrd r0, r2, [{from}], #8",
                $first,
                $second,
                "strd r0, r2, [{to}], #8",
                "le lr, 2b",
                "3:",
                x = in(reg) $x.as_ptr(), w = inout(reg) $rows.start => _,
                from = inout(reg) $rows.from => _, to = inout(reg) $rows.to => _,
                pairs = in(reg) $rows.pairs,
                $($name = in(reg) $value,)*
                out("r0") _, out("r2") _, out("lr") _,
                out("d0") _, out("d1") _, out("d2") _, out("d3") _, out("d4") _, out("d5") _,
                out("d6") _, out("d7") _, out("d8") _, out("d9") _, out("d10") _, out("d11") _,
                options(nostack),
            );
        }
    };
}

/// Rows that are what is held: the next begins behind it.
macro_rules! whole {
    ($rows:ident, $x:ident, $vectors:tt) => {
        multiply!(
            $rows,
            $x,
            [first!($vectors), last!($vectors)],
            [channel!($vectors, "r0"), channel!($vectors, "r2")],
            []
        )
    };
}

/// Rows that go on, or end within a register: a tail-predicated loop of one turn leaves the codes behind them zero.
macro_rules! part {
    ($rows:ident, $x:ident, $vectors:tt) => {
        multiply!(
            $rows,
            $x,
            [first!($vectors), "dlstp.8 lr, {left}", last!($vectors), "letp lr, 5b"],
            [
                concat!(channel!($vectors, "r0"), "add {w}, {w}, {gap}"),
                concat!(channel!($vectors, "r2"), "add {w}, {w}, {gap}")
            ],
            [left = $x.len() - ($vectors - 1) * LANES, gap = $rows.len.wrapping_sub($vectors * LANES)]
        )
    };
}

impl Rows {
    /// Adds the products with `x`, at most [`HELD`] codes.
    ///
    /// # Safety
    /// `from` and `to` have two words for each pair. The weights of every channel go on for as many whole registers as `x` takes.
    #[inline(always)]
    unsafe fn multiply(&self, x: &[i8]) {
        match x.len().div_ceil(LANES) {
            0 => {}
            1 => part!(self, x, 1),
            2 => part!(self, x, 2),
            3 => part!(self, x, 3),
            _ => part!(self, x, 4),
        }
    }

    /// The same where rows are as long as `x`, which is whole registers: 1 to 4.
    ///
    /// # Safety
    /// As for [`Self::multiply`].
    #[inline(always)]
    unsafe fn multiply_whole(&self, x: &[i8]) {
        match x.len() / LANES {
            1 => whole!(self, x, 1),
            2 => whole!(self, x, 2),
            3 => whole!(self, x, 3),
            _ => whole!(self, x, 4),
        }
    }
}

/// `sum + Σ x·w`, modulo 2³², over the shorter of the two.
#[inline(always)]
fn dot(x: &[i8], w: &[i8], mut sum: i32) -> i32 {
    // SAFETY: as in `multiply`; lanes past the end of either slice are not read.
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
