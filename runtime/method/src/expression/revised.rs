//! The tensors of all sites, between two steps.

use core::ops::Range;

use ingraft_kernel::SiteDesc;
use ingraft_train::{Latent, LatentGradients, LatentHolder, LatentSites};

use super::{Expression, Tape};

/// The sites of an expression, for its revision.
pub(crate) struct Revised<'r, 's> {
    expression: &'r dyn Expression,
    sites: &'r mut LatentSites<'s>,
}

/// The tensors of one site, by name.
pub(crate) struct Tensors<'v> {
    expression: &'v dyn Expression,
    desc: SiteDesc<'v>,
    latent: Latent<'v>,
    gradients: &'v LatentGradients<'v>,
}

/// Tells the scores of a site's tensors.
type Scores<'f> = dyn FnMut(&mut Tensors<'_>, &mut dyn FnMut(f32)) + 'f;

impl<'r, 's> Revised<'r, 's> {
    pub(super) fn new(expression: &'r dyn Expression, sites: &'r mut LatentSites<'s>) -> Self {
        Self { expression, sites }
    }

    /// Calls `visit` with the tensors of every site, in order.
    pub(crate) fn each(&mut self, visit: &mut dyn FnMut(&mut Tensors<'_>)) {
        let expression = self.expression;
        self.sites.each(&mut |site, latent, gradients| {
            let latent = Latent {
                decaying: latent.decaying,
                steady: latent.steady,
                constants: latent.constants,
                workspace: latent.workspace,
            };
            visit(&mut Tensors { expression, desc: site.desc, latent, gradients });
        });
    }

    /// The `count`-th largest of the values, none negative, that `scores` tells of every site; 0 where there are fewer.
    ///
    /// The bits of such floats are ordered as they are, so it is found bit by bit in 31 passes, without memory.
    pub(crate) fn largest(&mut self, count: usize, scores: &mut Scores<'_>) -> f32 {
        let mut found = 0u32;
        for bit in (0..31).rev() {
            let (candidate, mut above) = (found | 1 << bit, 0);
            self.each(&mut |site| {
                scores(site, &mut |score| above += usize::from(score.to_bits() >= candidate));
            });
            if above >= count {
                found = candidate;
            }
        }
        f32::from_bits(found)
    }
}

impl Tensors<'_> {
    /// The site's name.
    pub(crate) fn name(&self) -> &str {
        self.desc.name
    }

    /// Output channels of the site's weight, and elements of a row.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.desc.out, self.desc.row()]
    }

    /// The trained values of tensor `name` and their gradients, summed over clips; none where there is no such tensor.
    pub(crate) fn trained(&mut self, name: &str) -> (&mut [f32], &[f32]) {
        let (values, gradients): (&mut [f32], &[f32]) = match self.find(name) {
            Some((LatentHolder::Decaying, range)) => {
                (window(self.latent.decaying, &range), self.gradients.decaying.get(range).unwrap_or(&[]))
            }
            Some((LatentHolder::Steady, range)) => {
                (window(self.latent.steady, &range), self.gradients.steady.get(range).unwrap_or(&[]))
            }
            _ => (&mut [], &[]),
        };
        (values, gradients)
    }

    /// The trained values of tensor `name`, their gradients, and the kept values of tensor `kept`.
    pub(crate) fn beside(&mut self, name: &str, kept: &str) -> (&mut [f32], &[f32], &mut [f64]) {
        let (Some((holder, range)), Some((_, constant))) = (self.find(name), self.find(kept)) else {
            return (&mut [], &[], &mut []);
        };
        let Latent { decaying, steady, constants, .. } = &mut self.latent;
        let (values, gradients) = match holder {
            LatentHolder::Decaying => (window(decaying, &range), &*self.gradients.decaying),
            _ => (window(steady, &range), &*self.gradients.steady),
        };
        (values, gradients.get(range).unwrap_or(&[]), constants.get_mut(constant).unwrap_or_default())
    }

    /// The kept values of some tensors.
    pub(crate) fn kept<const N: usize>(&mut self, names: [&str; N]) -> [&mut [f64]; N] {
        let ranges = names.map(|name| self.find(name).map_or(0..0, |(_, range)| range));
        self.latent
            .constants
            .get_disjoint_mut(ranges)
            .unwrap_or_else(|_| core::array::from_fn(|_| &mut [][..]))
    }

    fn find(&self, name: &str) -> Option<(LatentHolder, Range<usize>)> {
        let tape = Tape::counting(self.desc);
        self.expression.express(&tape).ok()?;
        tape.find(name)
    }
}

fn window<'v>(values: &'v mut [f32], range: &Range<usize>) -> &'v mut [f32] {
    values.get_mut(range.clone()).unwrap_or_default()
}
