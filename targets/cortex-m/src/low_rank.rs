//! Integer low-rank terms: `u = A·x` in int16 once per pixel, `B·u` once per output.

use ingraft_kernel::qconv::QConv;
use ingraft_kernel::window::row;
use ingraft_kernel::{Factors, TwoFactor};

use crate::isa::{Isa, Latents, Low, RANK, ROWS, Sums, sums_of};

/// The factors of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowRank<'a> {
    rank: usize,
    /// Codes of a row of `down`.
    len: usize,
    down: &'a [i8],
    down_scale: &'a [f32],
    up: &'a [i8],
    up_scale: &'a [f32],
    /// `−zx·Σa` of the rows: what makes sums over codes sums over `x − zx`.
    offsets: [i32; RANK],
    latents: Latents,
}

impl<'a> LowRank<'a> {
    /// Whether `term` is one that this module computes.
    pub(crate) fn takes(term: &TwoFactor<'_>) -> bool {
        term.rank <= RANK && matches!(term.factors, Factors::I8 { .. })
    }

    /// The factors of `group`; `Some(None)` where there are none, `None` where they do not fit.
    pub(crate) fn new(conv: &QConv<'a>, group: usize) -> Option<Option<Self>> {
        let Some(TwoFactor { rank, factors }) = conv.terms.two_factor else { return Some(None) };
        let Factors::I8 { down, up, down_scale, up_scale } = factors else { return None };
        let (len, first) = (conv.shape.row(), group * rank);
        let down = down.get(first * len..)?.get(..rank * len)?;
        let down_scale = down_scale.get(first..)?.get(..rank)?;
        let mut offsets = [0i32; RANK];
        for (k, offset) in offsets.get_mut(..rank)?.iter_mut().enumerate() {
            let sum = row(down, k, len)?.iter().fold(0i32, |sum, a| sum.wrapping_add(i32::from(*a)));
            *offset = sum.wrapping_mul(conv.attrs.in_zero_point).wrapping_neg();
        }
        let latents = [[0; RANK]; ROWS];
        Some(Some(Self { rank, len, down, down_scale, up, up_scale, offsets, latents }))
    }

    /// What `B·u` is multiplied by, for each channel.
    pub(crate) fn scale(conv: &QConv<'a>) -> Option<&'a [f32]> {
        match conv.terms.two_factor?.factors {
            Factors::I8 { up_scale, .. } => Some(up_scale),
            Factors::F32 { .. } => None,
        }
    }

    /// `A·x` of `count` rows, by way of `sums`.
    #[cfg_attr(helium, inline(always))]
    #[cfg_attr(not(helium), inline)]
    pub(crate) fn project<I: Isa>(&mut self, rows: I::Rows<'_>, count: usize, sums: &mut Sums) -> Option<()> {
        I::multiply(rows, self.down, self.len, self.offsets.get(..self.rank)?, sums)?;
        for (index, latent) in self.latents.iter_mut().enumerate().take(count) {
            I::latents(sums_of::<I>(sums, index)?, self.down_scale, latent);
        }
        Some(())
    }

    /// `B·u` of `count` rows for `channels` channels from `first` on, counted over all groups.
    #[inline]
    pub(crate) fn apply<I: Isa>(
        &self,
        first: usize,
        channels: usize,
        count: usize,
        sums: &mut Sums,
    ) -> Option<()> {
        let up = self.up.get(first * self.rank..)?.get(..channels * self.rank)?;
        I::apply(&self.latents, count, self.rank, up, channels, sums)
    }

    /// What [`Isa::codes_with`] needs to know of row `index` for channels as in [`Self::apply`], with the scales of those.
    #[inline(always)]
    pub(crate) fn term(&self, first: usize, channels: usize, index: usize) -> Option<Low<'_>> {
        Some(Low {
            latent: self.latents.get(index)?.get(..self.rank)?,
            up: self.up.get(first * self.rank..)?.get(..channels * self.rank)?,
            scale: self.up_scale.get(first..)?.get(..channels)?,
        })
    }

    /// The rank.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }
}
