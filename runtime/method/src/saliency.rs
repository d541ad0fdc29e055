//! What a pass over training data says of the weights, before places among them are chosen.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::{SiteDesc, Sites};
use ingraft_plan::PlanView;
use ingraft_train::{FrozenSite, Method, TermLayout, Trainer};

use crate::Score;
use crate::expression::in_kernel;
use crate::full::Full;
use crate::score::Statistics;

/// The statistics of the weight gradients of some sites, for one [`Score`].
///
/// The trainer needs no part of its own for this: under [`Full`] the gradient of a site's delta is that of its whole weight.
/// So measuring is a trainer of `Full` that never moves what it trains. Bind it, let the head learn (before it has, no
/// gradient passes it), then per batch accumulate clips and call [`Self::observe`]. [`crate::build_on`] makes a method
/// that trains what was found.
#[derive(Clone, Debug)]
pub struct Saliency {
    score: Score,
    sites: Vec<Seen>,
}

/// One site. Matrices are `[out, row]`, rows in published order.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) out: usize,
    pub(crate) row: usize,
    weight: Vec<f64>,
    statistics: Statistics,
    /// Where the element of a row stands in the kernel's.
    order: Vec<usize>,
}

impl Saliency {
    /// Nothing seen yet of those `sites` of `plan` that have a weight.
    pub fn new(plan: &PlanView<'_>, sites: &[u32], score: Score) -> Self {
        let frozen = sites.iter().filter_map(|site| FrozenSite::new(plan, *site as usize));
        let frozen =
            frozen.filter(|site| Full.layout(&site.desc).is_ok_and(|terms| terms != TermLayout::NONE));
        Self { score, sites: frozen.map(|site| Seen::new(&site, score)).collect() }
    }

    /// Nothing seen yet of `sites` outside a plan.
    pub fn of_sites(sites: &[FrozenSite<'_>], score: Score) -> Self {
        Self { score, sites: sites.iter().map(|site| Seen::new(site, score)).collect() }
    }

    /// The score that it serves.
    pub fn score(&self) -> Score {
        self.score
    }

    /// Takes in the gradients that `trainer` of [`Full`] has accumulated over a batch of `clips`, their mean, and
    /// discards them.
    ///
    /// Gives `false`, and takes nothing in, when the trainer's parameters are not those of these sites.
    pub fn observe(&mut self, trainer: &mut Trainer<'_, '_>, clips: u32) -> bool {
        let sizes: usize = self.sites.iter().map(|site| site.out * site.row + site.out).sum();
        let share = 1.0 / f64::from(clips.max(1));
        let names = trainer.parameters().sites().filter_map(|site| trainer.plan().site(site as usize));
        let same = names.map(|site| site.name).eq(self.sites.iter().map(|site| site.name.as_str()));
        // The head stands first.
        let all = trainer.gradients();
        let Some(mut rest) = all.len().checked_sub(sizes).and_then(|head| all.get(head..)).filter(|_| same)
        else {
            return false;
        };
        for site in &mut self.sites {
            let (own, tail) = rest.split_at(site.out * site.row);
            site.observe(self.score, own, share);
            // The shift of each output.
            rest = tail.get(site.out..).unwrap_or(&[]);
        }
        trainer.discard();
        true
    }

    /// Takes in the gradient of one batch of the weight of site `name`, `[out, row]` in the kernel's order; `false` when
    /// there is no such site.
    pub fn observe_site(&mut self, name: &str, gradient: &[f32]) -> bool {
        let score = self.score;
        let site = self.sites.iter_mut().find(|site| site.name == name);
        let site = site.filter(|site| gradient.len() == site.out * site.row);
        site.map(|site| site.observe(score, gradient, 1.0)).is_some()
    }

    /// What was seen, site by site.
    pub(crate) fn sites(&self) -> &[Seen] {
        &self.sites
    }
}

impl Seen {
    fn new(site: &FrozenSite<'_>, score: Score) -> Self {
        let (out, row) = (site.desc.out, site.desc.row());
        let weight = published(site);
        let order = (0..row).map(|position| in_kernel(&site.desc, position)).collect();
        Self {
            name: site.desc.name.to_string(),
            out,
            row,
            statistics: Statistics::new(score, weight.len()),
            weight,
            order,
        }
    }

    fn observe(&mut self, score: Score, gradient: &[f32], share: f64) {
        let mut turned = vec![0.0; gradient.len()];
        for (to, from) in turned.chunks_mut(self.row.max(1)).zip(gradient.chunks(self.row.max(1))) {
            to.iter_mut().zip(&self.order).for_each(|(to, at)| *to = f64::from(from[*at]) * share);
        }
        self.statistics.observe(score, &self.weight, &turned);
    }

    /// The scores of its weights.
    pub(crate) fn scores(&self, score: Score) -> Vec<f64> {
        // Scores of gradients draw nothing.
        score.of(&self.weight, &self.statistics, &mut ingraft_tensor::Rng::new(0))
    }
}

/// The real weights of a site, `[out, row]`, rows in published order.
pub(crate) fn published(site: &FrozenSite<'_>) -> Vec<f64> {
    let desc: &SiteDesc<'_> = &site.desc;
    let places = (0..desc.out).flat_map(|channel| (0..desc.row()).map(move |position| (channel, position)));
    places.map(|(channel, position)| f64::from(site.weight(channel, in_kernel(desc, position)))).collect()
}
