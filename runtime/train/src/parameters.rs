//! The trained parameters: one flat vector, seen as the terms of sites.

use ingraft_adapter::{HeadView, TermSource};
use ingraft_kernel::{Affine, Factors, SiteDesc, SiteGrads, SiteTerms, Sparse, SparseValues, TwoFactor};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::method::{Latent, LatentGradients, LatentValues, Part, SiteValues, TermLayout};
use crate::optim::GroupShape;

/// Live parameters in caller memory.
///
/// The vector holds the head first (weight, then bias), then for every trained
/// site, in order, the parts of [`Part`] that its layout has. As a
/// [`TermSource`] it gives f32 terms; the head stays with the trainer.
#[derive(Debug)]
pub struct Parameters<'m> {
    pub(crate) values: &'m mut [f32],
    /// The terms of latent sites, computed from `values`.
    pub(crate) computed: &'m mut [f32],
    pub(crate) slots: &'m [Slot],
    pub(crate) indptr: &'m mut [u32],
    pub(crate) indices: &'m mut [u16],
    /// What a term reads for the half of a scale-and-shift pair that is not trained.
    pub(crate) ones: &'m [f32],
    pub(crate) zeros: &'m [f32],
    /// What acts beside them.
    pub(crate) frozen: Option<Frozen<'m>>,
}

/// The terms of an adapter that acts beside the trained one and stays as it is.
#[derive(Clone, Copy)]
pub(crate) struct Frozen<'m>(pub(crate) &'m dyn TermSource);

impl core::fmt::Debug for Frozen<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Frozen")
    }
}

impl Frozen<'_> {
    /// Whether these terms of one site can act beside `own`: a site has one of each kind, a delta of every weight leaves no
    /// room for another, and gradients pass through real factors and entries alone.
    pub(crate) fn fits(terms: &SiteTerms<'_>, own: &SiteTerms<'_>) -> bool {
        let integer = matches!(terms.two_factor.map(|term| term.factors), Some(Factors::I8 { .. }))
            || matches!(terms.sparse.map(|term| term.values), Some(SparseValues::I16(_)));
        let delta = terms.two_factor.is_some() || terms.has_delta() || terms.patched.is_some();
        let both = own.two_factor.is_some() && terms.two_factor.is_some()
            || own.sparse.is_some() && terms.sparse.is_some()
            || own.affine.is_some() && terms.affine.is_some();
        !(integer || both || own.dense.is_some() && delta)
    }

    /// These terms of one site and `own`, which they fit.
    fn beside<'t>(terms: SiteTerms<'t>, own: SiteTerms<'t>) -> SiteTerms<'t> {
        SiteTerms {
            two_factor: own.two_factor.or(terms.two_factor),
            sparse: own.sparse.or(terms.sparse),
            dense: own.dense.or(terms.dense),
            affine: own.affine.or(terms.affine),
            patched: own.patched.or(terms.patched),
            packed: own.packed,
        }
    }
}

/// One trained site: which terms it has and where their parameters lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) site: u32,
    out: u32,
    rank: u32,
    /// Values of each term part.
    lengths: [u32; Part::TERMS],
    /// Values of each latent part; the site is latent when there are any.
    latent: [u32; Part::COUNT - Part::TERMS],
    constants: u32,
    workspace: u32,
    first: First,
    /// Where its latent parts begin in the parameter vector: within the site's own values, or where those it shares are.
    held: [u32; Part::COUNT - Part::TERMS],
    /// Bit k: latent part k is among the site's own values.
    owned: u32,
}

/// What sites share, and where.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pool {
    /// Part and number, where the values begin, how many there are.
    blocks: [Option<(usize, u64, u32, u32)>; MAX_SHARED],
}

impl Pool {
    /// Where values shared under `number` begin: there already, or from `end` on. `None` where there is no more room, or
    /// they are not as many as before. Tells whether they are new.
    fn place(&mut self, part: usize, number: u64, len: u32, end: u32) -> Option<(u32, bool)> {
        for block in &mut self.blocks {
            match *block {
                Some((of, known, first, held)) if (of, known) == (part, number) => {
                    return (held == len).then_some((first, false));
                }
                Some(_) => {}
                None => {
                    *block = Some((part, number, end, len));
                    return Some((end, true));
                }
            }
        }
        None
    }
}

/// Most groups of sites that share values.
const MAX_SHARED: usize = 32;

/// Where a site's values begin in each vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct First {
    parameters: u32,
    computed: u32,
    constants: u32,
    indptr: u32,
    indices: u32,
}

/// Where the next slot begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) parameters: usize,
    /// Values of latent sites' terms.
    pub(crate) computed: usize,
    /// f64 values of latent sites.
    pub(crate) constants: usize,
    /// The largest workspace of the sites so far, not a sum.
    pub(crate) workspace: usize,
    pub(crate) indptr: usize,
    pub(crate) indices: usize,
}

impl Ends {
    /// The slot of `site` with `layout` that begins here, and where it ends;
    /// `None` when it has more parameters than can be counted, or shares them as no site before it did.
    pub(crate) fn slot(
        self,
        index: u32,
        site: &SiteDesc<'_>,
        layout: &TermLayout,
        pool: &mut Pool,
    ) -> Option<(Slot, Self)> {
        let lengths = layout.lengths(site)?;
        let latent = layout.latent;
        let trained = [latent.decaying, latent.steady];
        let terms = |from: usize| lengths.iter().try_fold(from, |sum, len| sum.checked_add(*len));
        let (mut held, mut owned) = ([0; 2], 0);
        let (parameters, computed) = match trained {
            [0, 0] => (terms(self.parameters)?, self.computed),
            _ => {
                let mut end = u32::try_from(self.parameters).ok()?;
                let blocks = held.iter_mut().zip(trained).zip(latent.shared).enumerate();
                for (part, ((held, len), number)) in blocks {
                    let new = match number {
                        0 => (end, true),
                        number => pool.place(part, number, len, end)?,
                    };
                    *held = new.0;
                    if new.1 {
                        owned |= 1 << part;
                        end = end.checked_add(len)?;
                    }
                }
                (end as usize, terms(self.computed)?)
            }
        };
        let rows = if layout.nnz == 0 { 0 } else { site.out.checked_add(1)? };
        let next = Self {
            parameters,
            computed,
            constants: self.constants.checked_add(latent.constants as usize)?,
            workspace: self.workspace.max(latent.workspace as usize),
            indptr: self.indptr.checked_add(rows)?,
            indices: self.indices.checked_add(layout.nnz as usize)?,
        };
        let narrow = |n: usize| u32::try_from(n).ok();
        [next.parameters, next.computed, next.constants]
            .iter()
            .try_for_each(|n| narrow(n.checked_mul(8)?).map(drop))?;
        let mut slot = Slot {
            site: index,
            out: narrow(site.out)?,
            rank: layout.rank,
            lengths: [0; Part::TERMS],
            latent: trained,
            constants: latent.constants,
            workspace: latent.workspace,
            first: self.first()?,
            held,
            owned,
        };
        for (to, len) in slot.lengths.iter_mut().zip(lengths) {
            *to = narrow(len)?;
        }
        Some((slot, next))
    }

    /// What a slot that begins here says of it.
    fn first(self) -> Option<First> {
        let narrow = |n: usize| u32::try_from(n).ok();
        Some(First {
            parameters: narrow(self.parameters)?,
            computed: narrow(self.computed)?,
            constants: narrow(self.constants)?,
            indptr: narrow(self.indptr)?,
            indices: narrow(self.indices)?,
        })
    }
}

impl Slot {
    /// Whether this site's terms are computed from latent parameters.
    pub(crate) fn is_latent(&self) -> bool {
        self.latent != [0, 0]
    }

    /// Number of parameters of `part` among the site's own.
    pub(crate) fn parameters(&self, part: Part) -> usize {
        let (terms, latent) = (self.length(part), (part as usize).checked_sub(Part::TERMS));
        let latent = latent.filter(|at| self.owned >> at & 1 == 1);
        let latent = latent.and_then(|at| self.latent.get(at)).map_or(0, |len| *len as usize);
        if self.is_latent() { latent } else { terms }
    }

    /// Number of values of the term part `part`.
    pub(crate) fn length(&self, part: Part) -> usize {
        self.lengths.get(part as usize).map_or(0, |len| *len as usize)
    }

    /// The parameters of `part`, as a matrix of what it reads by what it writes where it is one.
    pub(crate) fn shape(&self, part: Part) -> GroupShape {
        let len = self.parameters(part);
        let rows = match part {
            Part::Down => self.rank,
            Part::Up | Part::Dense => self.out,
            _ => return GroupShape::vector(len),
        };
        GroupShape::matrix(len, len.checked_div(rows as usize).unwrap_or(0))
    }

    /// Where this site's terms begin, in the vector that holds them.
    fn terms(&self) -> usize {
        (if self.is_latent() { self.first.computed } else { self.first.parameters }) as usize
    }

    /// `vector` cut into this site's term parts.
    fn parts<'v>(&self, vector: &'v [f32]) -> [&'v [f32]; Part::TERMS] {
        let mut rest = vector.get(self.terms()..).unwrap_or(&[]);
        self.lengths.map(|len| {
            let (part, tail) = rest.split_at_checked(len as usize).unwrap_or((&[], &[]));
            rest = tail;
            part
        })
    }

    fn parts_mut<'v>(&self, vector: &'v mut [f32]) -> [&'v mut [f32]; Part::TERMS] {
        cut(vector, self.terms(), self.lengths)
    }

    /// This site's latent parameters and what goes with them.
    pub(crate) fn latent<'v>(
        &self,
        values: &'v mut [f32],
        constants: &'v mut [f64],
        workspace: &'v mut [f64],
    ) -> Latent<'v> {
        let [decaying, steady] = self.latent_parts(values);
        let constants = window_mut(constants, self.first.constants, self.constants as usize);
        Latent { decaying, steady, constants, workspace: window_mut(workspace, 0, self.workspace as usize) }
    }

    /// This site's latent parameters and constants, to look at.
    pub(crate) fn latent_values<'v>(&self, values: &'v [f32], constants: &'v [f64]) -> LatentValues<'v> {
        let [decaying, steady] = self.latent.map(|len| len as usize);
        LatentValues {
            decaying: window(values, self.held[0], decaying),
            steady: window(values, self.held[1], steady),
            constants: window(constants, self.first.constants, self.constants as usize),
        }
    }

    /// The gradients of this site's latent parameters in `gradients`.
    pub(crate) fn latent_gradients<'v>(&self, gradients: &'v mut [f32]) -> LatentGradients<'v> {
        let [decaying, steady] = self.latent_parts(gradients);
        LatentGradients { decaying, steady }
    }

    /// This site's latent parts of `vector`, wherever they lie.
    fn latent_parts<'v>(&self, vector: &'v mut [f32]) -> [&'v mut [f32]; Part::COUNT - Part::TERMS] {
        let [decaying, steady] = self.held;
        match self.latent {
            [0, len] => [&mut [], window_mut(vector, steady, len as usize)],
            [len, 0] => [window_mut(vector, decaying, len as usize), &mut []],
            [one, other] => {
                let range =
                    |first: u32, len: u32| first as usize..(first as usize).saturating_add(len as usize);
                vector.get_disjoint_mut([range(decaying, one), range(steady, other)]).unwrap_or_default()
            }
        }
    }

    /// The gradients of this site's terms in `gradients`, the vector that goes with the one that holds them.
    pub(crate) fn grads<'v>(&self, gradients: &'v mut [f32]) -> SiteGrads<'v> {
        let present = |part: &'v mut [f32]| if part.is_empty() { None } else { Some(part) };
        let [down, up, sparse, dense, scale, shift] = self.parts_mut(gradients);
        SiteGrads {
            down: present(down),
            up: present(up),
            sparse: present(sparse),
            scale: present(scale),
            shift: present(shift),
            dense: present(dense),
        }
    }

    /// Zeroes the gradients of this site's terms in `gradients`.
    pub(crate) fn forget(&self, gradients: &mut [f32]) {
        self.parts_mut(gradients).into_iter().for_each(|part| part.fill(0.0));
    }

    fn rows(&self) -> usize {
        if self.length(Part::Sparse) == 0 { 0 } else { (self.out as usize).wrapping_add(1) }
    }

    /// This site's values, in the vector that holds its terms, and positions, for a method to write.
    pub(crate) fn values<'v>(
        &self,
        values: &'v mut [f32],
        indptr: &'v mut [u32],
        indices: &'v mut [u16],
    ) -> SiteValues<'v> {
        let [down, up, sparse, dense, scale, shift] = self.parts_mut(values);
        let indptr = window_mut(indptr, self.first.indptr, self.rows());
        let indices = window_mut(indices, self.first.indices, sparse.len());
        SiteValues { down, up, sparse, indptr, indices, dense, scale, shift }
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

impl Parameters<'_> {
    /// The terms that are trained at site `index`, without those that act beside them.
    pub fn trained(&self, index: usize) -> SiteTerms<'_> {
        let Some(slot) = self.slot(index) else { return SiteTerms::NONE };
        let held: &[f32] = if slot.is_latent() { self.computed } else { self.values };
        let [down, up, sparse, dense, scale, shift] = slot.parts(held);
        let mut terms = SiteTerms::NONE;
        if !up.is_empty() {
            let factors = Factors::F32 { down, up };
            terms.two_factor = Some(TwoFactor { rank: slot.rank as usize, factors });
        }
        if !sparse.is_empty() {
            let indptr = window(self.indptr, slot.first.indptr, slot.rows());
            let indices = window(self.indices, slot.first.indices, sparse.len());
            terms.sparse = Some(Sparse { indptr, indices, values: SparseValues::F32(sparse) });
        }
        if !dense.is_empty() {
            terms.dense = Some(dense);
        }
        if !(scale.is_empty() && shift.is_empty()) {
            let out = slot.out as usize;
            let scale = if scale.is_empty() { window(self.ones, 0, out) } else { scale };
            let shift = if shift.is_empty() { window(self.zeros, 0, out) } else { shift };
            terms.affine = Some(Affine { scale, shift });
        }
        terms
    }

    /// The terms at site `index` that act beside those and stay as they are ([`crate::Trainer::freeze`]).
    pub fn frozen(&self, index: usize) -> SiteTerms<'_> {
        self.frozen.map_or(SiteTerms::NONE, |frozen| frozen.0.terms(index))
    }
}

impl TermSource for Parameters<'_> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let own = self.trained(index);
        match self.frozen {
            Some(frozen) => Frozen::beside(frozen.0.terms(index), own),
            None => own,
        }
    }

    fn head(&self) -> Option<HeadView<'_>> {
        None
    }
}

/// `vector` from `first` on, cut into pieces of these lengths.
fn cut<const N: usize>(vector: &mut [f32], first: usize, lengths: [u32; N]) -> [&mut [f32]; N] {
    let mut rest = vector.get_mut(first..).unwrap_or_default();
    lengths.map(|len| {
        let (part, tail) = core::mem::take(&mut rest).split_at_mut_checked(len as usize).unwrap_or_default();
        rest = tail;
        part
    })
}

fn window<T>(slice: &[T], first: u32, len: usize) -> &[T] {
    slice.get(first as usize..).and_then(|rest| rest.get(..len)).unwrap_or(&[])
}

fn window_mut<T>(slice: &mut [T], first: u32, len: usize) -> &mut [T] {
    slice.get_mut(first as usize..).and_then(|rest| rest.get_mut(..len)).unwrap_or_default()
}
