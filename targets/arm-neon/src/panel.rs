//! Weights as the kernels read them: panels of sixteen output channels.
//!
//! A panel holds, for each run of `depth` elements along the rows, that run of its
//! first channel, of its second and so on, so that a whole vector of weights
//! meets a few elements of a pixel. Rows are padded with zeros to a multiple of
//! `depth`, channels to a multiple of eight: the last panel of a group has eight
//! channels when no more are left.

use core::ops::Range;

use ingraft_kernel::{KernelError, Place, Step};
use ingraft_tensor::bytes::{Plain, cast};

/// Output channels of a whole panel.
pub(crate) const WIDTH: usize = 16;

/// Input `index`, which can be packed at bind only where the plan holds it.
pub(crate) fn constant<'a, T: Plain>(step: &Step<'a>, index: usize) -> Result<&'a [T], KernelError> {
    match step.input(index)?.place {
        Place::Plan(weight) => cast(weight).ok_or(KernelError::Operands(step.op)),
        Place::Memory(_) => Err(KernelError::Operands(step.op)),
    }
}

/// The extents of one group's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Elements of a channel that lie together.
    pub(crate) depth: usize,
    /// Elements of a row.
    pub(crate) len: usize,
    /// Rows.
    pub(crate) channels: usize,
}

/// Some neighboring channels of a group, at most [`WIDTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    /// The first, counted within the group.
    pub(crate) first: usize,
    /// How many.
    pub(crate) count: usize,
}

impl Panel {
    /// Channels with padding: eight or sixteen.
    pub(crate) fn lanes(self) -> usize {
        if self.count <= WIDTH / 2 { WIDTH / 2 } else { WIDTH }
    }
}

impl Layout {
    /// Elements of all panels.
    pub(crate) fn elements(&self) -> usize {
        self.channels.next_multiple_of(WIDTH / 2) * self.padded()
    }

    /// The panels in order.
    pub(crate) fn panels(&self) -> impl Iterator<Item = Panel> + use<> {
        let channels = self.channels;
        (0..channels).step_by(WIDTH).map(move |first| Panel { first, count: WIDTH.min(channels - first) })
    }

    /// The elements of `panel` among those of the group.
    pub(crate) fn span(&self, panel: Panel) -> Range<usize> {
        let start = panel.first * self.padded();
        start..start + panel.lanes() * self.padded()
    }

    /// Writes `panel` of the rows `weight` into `out`; `None` when either is too short.
    pub(crate) fn pack<T: Copy + Default>(&self, weight: &[T], panel: Panel, out: &mut [T]) -> Option<()> {
        let lanes = panel.lanes();
        let out = out.get_mut(..lanes * self.padded())?;
        out.fill(T::default());
        for lane in 0..panel.count {
            let row = weight.get((panel.first + lane) * self.len..)?.get(..self.len)?;
            let runs = out.chunks_exact_mut(self.depth).skip(lane).step_by(lanes);
            for (run, values) in runs.zip(row.chunks(self.depth)) {
                run.iter_mut().zip(values).for_each(|(r, v)| *r = *v);
            }
        }
        Some(())
    }

    /// Writes every panel of the rows `weight` into `out`; `None` when either is too short.
    pub(crate) fn pack_all<T: Copy + Default>(&self, weight: &[T], out: &mut [T]) -> Option<()> {
        self.panels().try_for_each(|panel| self.pack(weight, panel, out.get_mut(self.span(panel))?))
    }

    fn padded(&self) -> usize {
        self.len.next_multiple_of(self.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_channels_alternate_and_end_in_zeros() {
        let layout = Layout { depth: 4, len: 5, channels: 18 };
        let weight: [i8; 90] = core::array::from_fn(|i| i as i8);
        let mut out = [-1i8; 24 * 8];
        assert_eq!(layout.elements(), out.len());
        layout.pack_all(&weight, &mut out).unwrap();
        assert_eq!(out[..8], [0, 1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(out[64..72], [4, 0, 0, 0, 9, 0, 0, 0]);
        let last = &out[layout.span(Panel { first: 16, count: 2 })];
        assert_eq!(last[..12], [80, 81, 82, 83, 85, 86, 87, 88, 0, 0, 0, 0]);
        assert_eq!(last[32..40], [84, 0, 0, 0, 89, 0, 0, 0]);
    }
}
