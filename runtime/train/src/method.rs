//! What an adaptation method says to the trainer.

mod latent;
mod terms;
mod unfit;

use ingraft_kernel::{SiteDesc, SiteGrads};
use ingraft_tensor::Rng;

use crate::{FrozenSite, LatentSites, Revision};

pub use latent::{Latent, LatentGradients, LatentHolder, LatentLayout, LatentTensor, LatentValues};
pub use terms::{Part, PartRate, SiteValues, TermLayout};
pub use unfit::Unfit;

/// A way to adapt a frozen base whose parameters are the terms of sites.
///
/// The trainer owns memory, gradients and optimizer; a method only says which
/// terms a site gets, how they start and how fast they move. Implementations
/// are plain values and never allocate, so they train on devices without a heap.
///
/// Terms are trained as they are, or are *latent*: computed from fewer parameters
/// ([`LatentLayout`]). The kernels give the gradients of terms in either case;
/// a latent method carries them over to its parameters.
pub trait Method {
    /// Its name, as in `--method NAME`.
    fn name(&self) -> &'static str;

    /// Counts changes of what its parameters mean, from 1: an adapter records it.
    fn version(&self) -> u32 {
        1
    }

    /// Calls `visit` with the name and value of every setting, for the adapter's record.
    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting));

    /// The terms of `site`; [`TermLayout::NONE`] leaves the site as it is.
    ///
    /// # Errors
    /// [`Unfit`] when the settings make no sense at this site.
    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit>;

    /// Sets the start values of a site's terms. They arrive as the identity:
    /// every delta and shift 0, every scale 1, no sparse positions.
    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        let _ = (site, rng, terms);
    }

    /// Brings a site's values back to those it can be deployed with; called after every step.
    fn constrain(&self, site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
        let _ = (site, terms);
    }

    /// Whether [`Self::constrain`] and [`Self::revise`] leave terms that are trained as they are alone, so that a target may
    /// move them itself.
    fn is_unconstrained(&self) -> bool {
        false
    }

    /// How the parameters of one part of a term move.
    fn rate(&self, part: Part) -> PartRate {
        let decays = matches!(part, Part::Down | Part::Up | Part::Sparse | Part::Dense | Part::Decaying);
        PartRate { scale: 1.0, decays }
    }

    /// Calls `visit` with every named tensor of a latent site, in the order of their declaration.
    fn tensors(&self, site: &SiteDesc<'_>, visit: &mut dyn FnMut(LatentTensor)) {
        let _ = (site, visit);
    }

    /// Sets the constants and the start values of a latent site. They arrive as zeros; values that sites share start as
    /// the last of them sets them.
    fn start(&self, site: &FrozenSite<'_>, rng: &mut Rng, latent: &mut Latent<'_>) {
        let _ = (site, rng, latent);
    }

    /// Computes the terms of a latent site from its parameters; called whenever they moved.
    fn compute(&self, site: &FrozenSite<'_>, latent: &mut Latent<'_>, terms: &mut SiteValues<'_>) {
        let _ = (site, latent, terms);
    }

    /// Adds to `gradients` those of a latent site's parameters, given those of its terms.
    fn pull_back(
        &self,
        site: &FrozenSite<'_>,
        latent: &mut Latent<'_>,
        terms: &SiteGrads<'_>,
        gradients: &mut LatentGradients<'_>,
    ) {
        let _ = (site, latent, terms, gradients);
    }

    /// Sets what depends on several latent sites, once, after all have started.
    fn settle(&self, sites: &mut LatentSites<'_>) {
        let _ = sites;
    }

    /// Revises what latent sites are computed from, after the optimizer moved it and before terms are computed
    /// again: what a method does beside following gradients (pruning, freezing, proximal steps).
    fn revise(&self, sites: &mut LatentSites<'_>, at: &Revision) {
        let _ = (sites, at);
    }
}

// Not a supertrait: its entry in every method's table would link float formatting into devices.
impl core::fmt::Debug for dyn Method + '_ {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of a setting. Not a text: a device that never prints one need not
/// link what formats numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Setting {
    /// A count.
    Count(u32),
    /// A real number.
    Real(f64),
    /// A real number of a method that devices train with: they have no f64.
    Single(f32),
    /// Yes or no.
    Flag(bool),
    /// One of a few names.
    Name(&'static str),
}

impl core::fmt::Display for Setting {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Count(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Single(value) => value.fmt(f),
            Self::Flag(value) => value.fmt(f),
            Self::Name(value) => value.fmt(f),
        }
    }
}
