//! Arithmetic of two-factor terms that float and int8 convolutions share.

use core::arch::aarch64::*;
use core::ops::Range;

use ingraft_kernel::window::row;

use crate::lanes::load_f32;
use crate::panel::WIDTH;

/// `out[k][c] = up[channels[c]][k]`, zero past the rank and the channels.
pub(crate) fn transpose<S: Copy, T: Copy + Default>(
    up: &[S],
    rank: usize,
    channels: Range<usize>,
    out: &mut [[T; WIDTH]],
    convert: impl Fn(S) -> T,
) -> Option<()> {
    out.fill([T::default(); WIDTH]);
    for (lane, channel) in channels.enumerate() {
        for (out, b) in out.iter_mut().zip(row(up, channel, rank)?) {
            *out.get_mut(lane)? = convert(*b);
        }
    }
    Some(())
}

/// `Σ latent[k]·up[k][c]` of sixteen channels.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn apply_reals(latent: &[f32], up: &[[f32; WIDTH]]) -> [f32; WIDTH] {
    let mut sums = [0.0; WIDTH];
    for (t, up) in latent.iter().zip(up) {
        sums.iter_mut().zip(up).for_each(|(s, b)| *s += t * b);
    }
    sums
}

/// `Σ a·x` by four vectors of partial sums.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn dot(a: &[f32], x: &[f32]) -> f32 {
    let ((a, a_rest), (x, x_rest)) = (a.as_chunks::<16>(), x.as_chunks::<16>());
    let mut sums = [vdupq_n_f32(0.0); 4];
    for (a, x) in a.iter().zip(x) {
        for ((sum, a), x) in sums.iter_mut().zip(load_f32::<4>(a)).zip(load_f32::<4>(x)) {
            *sum = vfmaq_f32(*sum, a, x);
        }
    }
    let [a, b, c, d] = sums;
    let sum = vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
    a_rest.iter().zip(x_rest).fold(sum, |s, (a, x)| s + a * x)
}
