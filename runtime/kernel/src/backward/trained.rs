//! The terms of a site as a backward step differentiates them.

use crate::terms::{Affine, Factors, MAX_TERM_RANK, SiteTerms, Sparse, SparseValues, span};
use crate::window::{ConvShape, row};
use crate::{Call, KernelError};

/// The active terms of a site, all with f32 parameters, of the site's extents.
#[derive(Clone, Copy, Debug)]
pub struct Trained<'a> {
    /// The factors.
    pub low_rank: Option<LowRank<'a>>,
    /// The sparse delta.
    pub sparse: Option<SparseRows<'a>>,
    /// The dense delta, in the layout of the base's weight.
    pub dense: Option<&'a [f32]>,
    /// Scale and shift.
    pub affine: Option<Affine<'a>>,
}

impl<'a> Trained<'a> {
    /// The terms of `call`, and its gradient accumulators checked against them.
    ///
    /// # Errors
    /// [`KernelError::Terms`] for integer parameters, which cannot be trained,
    /// for lengths that are not the site's, and for an accumulator without its parameter.
    pub fn new(call: &Call<'a, '_>, shape: &ConvShape) -> Result<Self, KernelError> {
        let error = KernelError::Terms(call.op);
        let low_rank = match call.terms.two_factor.map(|term| (term.rank, term.factors)) {
            Some((rank, Factors::F32 { down, up })) => Some(LowRank { rank, down, up }),
            Some((_, Factors::I8 { .. })) => return Err(error),
            None => None,
        };
        let sparse = match call.terms.sparse {
            Some(Sparse { indptr, indices, values: SparseValues::F32(values) }) => {
                Some(SparseRows { indptr, indices, values })
            }
            Some(Sparse { values: SparseValues::I16(_), .. }) => return Err(error),
            None => None,
        };
        let SiteTerms { dense, affine, .. } = call.terms;
        let terms = Self { low_rank, sparse, dense, affine };
        (terms.fit(shape) && terms.receive(call, shape)).then_some(terms).ok_or(error)
    }

    fn fit(&self, shape: &ConvShape) -> bool {
        let out = shape.output[3];
        let low_rank = self.low_rank.is_none_or(|l| {
            l.rank <= MAX_TERM_RANK
                && l.down.len() == shape.groups.wrapping_mul(l.rank).wrapping_mul(shape.row())
                && l.up.len() == out.wrapping_mul(l.rank)
        });
        let sparse = self
            .sparse
            .is_none_or(|s| s.indptr.len() == out.wrapping_add(1) && s.indices.len() == s.values.len());
        let dense = self.dense.is_none_or(|delta| delta.len() == out.wrapping_mul(shape.row()));
        let affine = self.affine.is_none_or(|a| a.scale.len() == out && a.shift.len() == out);
        low_rank && sparse && dense && affine
    }

    /// Whether every accumulator has the length of the parameter it belongs to.
    fn receive(&self, call: &Call<'_, '_>, shape: &ConvShape) -> bool {
        let dense = shape.row().wrapping_mul(shape.output[3]);
        let grads = &call.grads;
        let pairs = [
            (&grads.down, self.low_rank.map(|l| l.down.len())),
            (&grads.up, self.low_rank.map(|l| l.up.len())),
            (&grads.sparse, self.sparse.map(|s| s.values.len())),
            (&grads.scale, self.affine.map(|a| a.scale.len())),
            (&grads.shift, self.affine.map(|a| a.shift.len())),
            (&grads.dense, Some(dense)),
        ];
        pairs.iter().all(|(grad, len)| grad.as_ref().is_none_or(|grad| Some(grad.len()) == *len))
    }
}

/// `down` `[groups · rank, row]`, `up` `[out, rank]`.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// Rank per group.
    pub rank: usize,
    down: &'a [f32],
    up: &'a [f32],
}

impl<'a> LowRank<'a> {
    /// The rows of `down` that `group` reads: `[rank, row]`.
    #[inline(always)]
    pub fn down(&self, shape: &ConvShape, group: usize) -> Option<&'a [f32]> {
        row(self.down, group, self.rank.wrapping_mul(shape.row()))
    }

    /// The rows of `up` of the channels of `group`: `[out/groups, rank]`.
    #[inline(always)]
    pub fn up(&self, shape: &ConvShape, group: usize) -> Option<&'a [f32]> {
        row(self.up, group, self.rank.wrapping_mul(shape.out_group))
    }

    /// The row of `up` of `channel`: `[rank]`.
    #[inline(always)]
    pub fn up_row(&self, channel: usize) -> Option<&'a [f32]> {
        row(self.up, channel, self.rank)
    }
}

/// A sparse delta in compressed rows.
#[derive(Clone, Copy, Debug)]
pub struct SparseRows<'a> {
    indptr: &'a [u32],
    indices: &'a [u16],
    values: &'a [f32],
}

/// One delta.
#[derive(Clone, Copy, Debug)]
pub struct Delta {
    /// Where it stands among the values.
    pub at: usize,
    /// Which element of the weight row it changes.
    pub index: usize,
    /// By how much.
    pub value: f32,
}

impl<'a> SparseRows<'a> {
    /// The deltas of `channel`.
    #[inline(always)]
    pub fn deltas(&self, channel: usize) -> Option<impl Iterator<Item = Delta> + 'a> {
        let span = span(self.indptr, channel)?;
        let pairs = self.indices.get(span.clone())?.iter().zip(self.values.get(span.clone())?);
        let deltas = (span.start..).zip(pairs);
        Some(deltas.map(|(at, (index, value))| Delta { at, index: *index as usize, value: *value }))
    }
}
