//! The trained parameters: one flat vector, seen as the terms of sites.

use ingraft_adapter::{HeadView, TermSource};
use ingraft_kernel::{Affine, Factors, SiteDesc, SiteGrads, SiteTerms, Sparse, SparseValues, TwoFactor};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::method::{Part, SiteValues, TermLayout};

/// Live parameters in caller memory.
///
/// The vector holds the head first (weight, then bias), then for every trained
/// site, in order, the parts of [`Part`] that its layout has. As a
/// [`TermSource`] it gives f32 terms; the head stays with the trainer.
#[derive(Debug)]
pub struct Parameters<'m> {
    pub(crate) values: &'m mut [f32],
    pub(crate) slots: &'m [Slot],
    pub(crate) indptr: &'m mut [u32],
    pub(crate) indices: &'m mut [u16],
    /// What a term reads for the half of a scale-and-shift pair that is not trained.
    pub(crate) ones: &'m [f32],
    pub(crate) zeros: &'m [f32],
}

/// One trained site: which terms it has and where their parameters lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) site: u32,
    out: u32,
    rank: u32,
    lengths: [u32; Part::COUNT],
    /// First parameter, first row start and first index of this site.
    first: u32,
    indptr: u32,
    indices: u32,
}

/// Where the next slot begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) parameters: usize,
    pub(crate) indptr: usize,
    pub(crate) indices: usize,
}

impl Ends {
    /// The slot of `site` with `layout` that begins here, and where it ends;
    /// `None` when it has more parameters than can be counted.
    pub(crate) fn slot(self, index: u32, site: &SiteDesc<'_>, layout: &TermLayout) -> Option<(Slot, Self)> {
        let lengths = layout.lengths(site)?;
        let rows = if layout.nnz == 0 { 0 } else { site.out.checked_add(1)? };
        let parameters = lengths.iter().try_fold(self.parameters, |sum, len| sum.checked_add(*len))?;
        let narrow = |n: usize| u32::try_from(n).ok();
        narrow(parameters.checked_mul(4)?)?;
        let mut slot = Slot {
            site: index,
            out: narrow(site.out)?,
            rank: layout.rank,
            lengths: [0; Part::COUNT],
            first: narrow(self.parameters)?,
            indptr: narrow(self.indptr)?,
            indices: narrow(self.indices)?,
        };
        for (to, len) in slot.lengths.iter_mut().zip(lengths) {
            *to = narrow(len)?;
        }
        let indptr = self.indptr.checked_add(rows)?;
        let indices = self.indices.checked_add(layout.nnz as usize)?;
        Some((slot, Self { parameters, indptr, indices }))
    }
}

impl Slot {
    /// Number of parameters of `part`.
    pub(crate) fn length(&self, part: Part) -> usize {
        self.lengths.get(part as usize).map_or(0, |len| *len as usize)
    }

    /// `vector` cut into this site's parts.
    fn parts<'v>(&self, vector: &'v [f32]) -> [&'v [f32]; Part::COUNT] {
        let mut rest = vector.get(self.first as usize..).unwrap_or(&[]);
        self.lengths.map(|len| {
            let (part, tail) = rest.split_at_checked(len as usize).unwrap_or((&[], &[]));
            rest = tail;
            part
        })
    }

    fn parts_mut<'v>(&self, vector: &'v mut [f32]) -> [&'v mut [f32]; Part::COUNT] {
        let mut rest = vector.get_mut(self.first as usize..).unwrap_or_default();
        self.lengths.map(|len| {
            let (part, tail) =
                core::mem::take(&mut rest).split_at_mut_checked(len as usize).unwrap_or_default();
            rest = tail;
            part
        })
    }

    /// The gradients of this site's terms in `gradients`.
    pub(crate) fn grads<'v>(&self, gradients: &'v mut [f32]) -> SiteGrads<'v> {
        let present = |part: &'v mut [f32]| if part.is_empty() { None } else { Some(part) };
        let [down, up, sparse, scale, shift] = self.parts_mut(gradients);
        SiteGrads {
            down: present(down),
            up: present(up),
            sparse: present(sparse),
            scale: present(scale),
            shift: present(shift),
            dense: None,
        }
    }

    fn rows(&self) -> usize {
        if self.length(Part::Sparse) == 0 { 0 } else { (self.out as usize).wrapping_add(1) }
    }

    /// This site's values and positions, for a method to write.
    pub(crate) fn values<'v>(
        &self,
        values: &'v mut [f32],
        indptr: &'v mut [u32],
        indices: &'v mut [u16],
    ) -> SiteValues<'v> {
        let [down, up, sparse, scale, shift] = self.parts_mut(values);
        let indptr = window_mut(indptr, self.indptr, self.rows());
        let indices = window_mut(indices, self.indices, sparse.len());
        SiteValues { down, up, sparse, indptr, indices, scale, shift }
    }
}

impl Parameters<'_> {
    /// All values, the head's first.
    pub fn values(&self) -> &[f32] {
        self.values
    }

    /// Indices of the trained sites, ascending.
    pub fn sites(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().map(|slot| slot.site)
    }

    pub(crate) fn slot(&self, site: usize) -> Option<&Slot> {
        let at = self.slots.binary_search_by_key(&site, |slot| slot.site as usize).ok()?;
        self.slots.get(at)
    }
}

impl TermSource for Parameters<'_> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let Some(slot) = self.slot(index) else { return SiteTerms::NONE };
        let [down, up, sparse, scale, shift] = slot.parts(self.values);
        let mut terms = SiteTerms::NONE;
        if !up.is_empty() {
            let factors = Factors::F32 { down, up };
            terms.two_factor = Some(TwoFactor { rank: slot.rank as usize, factors });
        }
        if !sparse.is_empty() {
            let indptr = window(self.indptr, slot.indptr, slot.rows());
            let indices = window(self.indices, slot.indices, sparse.len());
            terms.sparse = Some(Sparse { indptr, indices, values: SparseValues::F32(sparse) });
        }
        if !(scale.is_empty() && shift.is_empty()) {
            let out = slot.out as usize;
            let scale = if scale.is_empty() { window(self.ones, 0, out) } else { scale };
            let shift = if shift.is_empty() { window(self.zeros, 0, out) } else { shift };
            terms.affine = Some(Affine { scale, shift });
        }
        terms
    }

    fn head(&self) -> Option<HeadView<'_>> {
        None
    }
}

fn window<T>(slice: &[T], first: u32, len: usize) -> &[T] {
    slice.get(first as usize..).and_then(|rest| rest.get(..len)).unwrap_or(&[])
}

fn window_mut<T>(slice: &mut [T], first: u32, len: usize) -> &mut [T] {
    slice.get_mut(first as usize..).and_then(|rest| rest.get_mut(..len)).unwrap_or_default()
}
