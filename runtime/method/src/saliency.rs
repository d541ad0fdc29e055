//! What a pass over training data says of the weights, before places among them are chosen.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ingraft_kernel::{SiteDesc, Sites};
use ingraft_plan::PlanView;
use ingraft_train::{Clip, FrozenSite, Method, TermLayout, Trainer, Truth};

use crate::full::Full;
use crate::place::in_kernel;
use crate::relevance::{Gates, Router, routers, routers_among};
use crate::rounding::{Inputs, Rounded};
use crate::score::Statistics;
use crate::{MeasureError, Score};

/// What training data say of some sites, for one [`Score`]: statistics of the gradients of their weights, for most.
///
/// The trainer needs no part of its own for this: under [`Full`] the gradient of a site's delta is that of its whole weight.
/// So measuring is a trainer of `Full` that never moves what it trains. Bind it, let the head learn (before it has, no
/// gradient passes it), then call [`Self::measure`] with every clip. [`crate::build_on`] makes a method
/// that trains what was found.
#[derive(Clone, Debug)]
pub struct Saliency {
    score: Score,
    sites: Vec<Seen>,
    /// Times that all clips were looked at before.
    pass: usize,
    /// The routers among all sites of the plan, where the score is of experts.
    pub(crate) routers: Vec<Router>,
    /// The errors of the weights' rounding, where the score is that.
    pub(crate) rounded: Vec<Rounded>,
}

/// One site. Matrices are `[out, row]`, rows in published order.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) out: usize,
    pub(crate) row: usize,
    pub(crate) weight: Vec<f64>,
    pub(crate) statistics: Statistics,
    /// Where each element stands in the base's own layout.
    pub(crate) order: Vec<usize>,
}

impl Saliency {
    /// Nothing seen yet of those `sites` of `plan` that have a weight.
    pub fn new(plan: &PlanView<'_>, sites: &[u32], score: Score) -> Self {
        let frozen = sites.iter().filter_map(|site| FrozenSite::new(plan, *site as usize));
        let frozen =
            frozen.filter(|site| Full.layout(&site.desc).is_ok_and(|terms| terms != TermLayout::NONE));
        let sites = frozen.map(|site| Seen::new(&site, score)).collect();
        let routers = score.chosen().map_or_else(Vec::new, |chosen| routers(plan, chosen));
        Self { score, sites, pass: 0, routers, rounded: Vec::new() }
    }

    /// Nothing seen yet of `sites` outside a plan.
    pub fn of_sites(sites: &[FrozenSite<'_>], score: Score) -> Self {
        let named: Vec<_> = sites.iter().map(|site| site.desc).enumerate().collect();
        let routers = score.chosen().map_or_else(Vec::new, |chosen| routers_among(&named, chosen));
        let sites = sites.iter().map(|site| Seen::new(site, score)).collect();
        Self { score, sites, pass: 0, routers, rounded: Vec::new() }
    }

    /// The score that it serves.
    pub fn score(&self) -> Score {
        self.score
    }

    /// Says that all clips were measured, and that they are going to be again ([`Score::passes`]).
    pub fn again(&mut self) {
        self.pass += 1;
    }

    /// Takes in what one clip says, by a pass of `trainer` of [`Full`] over it, or several.
    ///
    /// Gives `false`, and takes nothing in, when the trainer's parameters are not those of these sites.
    ///
    /// # Errors
    /// [`MeasureError`]: as [`Trainer::accumulate`], and what the score is not defined on.
    pub fn measure(
        &mut self,
        trainer: &mut Trainer<'_, '_>,
        clip: Clip<'_>,
        truth: Truth<'_>,
    ) -> Result<bool, MeasureError> {
        match self.score {
            Score::Attribution(_) => Ok(self.attribute(trainer, clip)?),
            Score::Gate(_) | Score::Token(_) => {
                Ok(trainer.forward(clip, &mut Gates(&mut self.routers)).map(|()| true)?)
            }
            Score::Rounding => Ok(trainer.forward(clip, &mut Inputs(&mut self.rounded)).map(|()| true)?),
            Score::Grasp => Ok(self.curve(trainer, clip, truth)?),
            // All clips say the same of it: nothing.
            Score::SynFlow if self.pass == 0 => {
                self.pass = 1;
                self.flow(trainer).map(|()| true)
            }
            Score::SynFlow => Ok(true),
            _ => {
                trainer.accumulate(clip, truth)?;
                Ok(self.observe(trainer, 1))
            }
        }
    }

    /// Takes in the gradients that `trainer` of [`Full`] has accumulated over a batch of `clips`, their mean, and
    /// discards them.
    ///
    /// Gives `false`, and takes nothing in, when the trainer's parameters are not those of these sites.
    pub fn observe(&mut self, trainer: &mut Trainer<'_, '_>, clips: u32) -> bool {
        let (score, share) = (self.score, 1.0 / f64::from(clips.max(1)));
        self.each(trainer, |site, gradient| site.observe(score, gradient, share))
    }

    /// Calls `take` with every site and the gradient of its weight that `trainer` has accumulated, and discards them all;
    /// `false` when the trainer's parameters are not those of these sites.
    pub(crate) fn each(
        &mut self,
        trainer: &mut Trainer<'_, '_>,
        mut take: impl FnMut(&mut Seen, &[f32]),
    ) -> bool {
        let sizes: usize = self.sites.iter().map(|site| site.out * site.row + site.out).sum();
        let names = trainer.sites().filter_map(|site| trainer.plan().site(site as usize));
        let same = names.map(|site| site.name).eq(self.sites.iter().map(|site| site.name.as_str()));
        // The head stands first.
        let all = trainer.gradients();
        let Some(mut rest) = all.len().checked_sub(sizes).and_then(|head| all.get(head..)).filter(|_| same)
        else {
            return false;
        };
        for site in &mut self.sites {
            let (own, tail) = rest.split_at(site.out * site.row);
            take(site, own);
            // The shift of each output.
            rest = tail.get(site.out..).unwrap_or(&[]);
        }
        trainer.discard();
        true
    }

    /// Takes in the gradient of one batch of the weight of site `name`, in the layout of the base's; `false` when
    /// there is no such site.
    pub fn observe_site(&mut self, name: &str, gradient: &[f32]) -> bool {
        let score = self.score;
        let site = self.sites.iter_mut().find(|site| site.name == name);
        let site = site.filter(|site| gradient.len() == site.out * site.row);
        site.map(|site| site.observe(score, gradient, 1.0)).is_some()
    }

    /// Whether site `name` is among those that are looked at.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.sites.iter().any(|site| site.name == name)
    }

    /// Takes in the attributions of the outputs of site `name` in one clip; `false` when there is no such site.
    pub fn observe_outputs(&mut self, name: &str, attributions: &[f64]) -> bool {
        let score = self.score;
        let site = self.sites.iter_mut().find(|site| site.name == name);
        let site = site.filter(|site| attributions.len() == site.out);
        site.map(|site| site.statistics.observe(score, &[], attributions)).is_some()
    }

    /// Takes in the gates of one token, 0 for experts that it does not have, of the router of the experts' layer `layer` (what
    /// their sites' names begin with); `false` when there is none.
    pub fn observe_gates(&mut self, layer: &str, gates: &[f64]) -> bool {
        let router = self.routers.iter_mut().find(|router| router.layer() == layer);
        router.map(|router| router.take(gates)).is_some()
    }

    /// The scores of the weights of site `name`, `[out, row]`, rows in published order; `None` where there is no such site.
    pub fn scores(&self, name: &str) -> Option<Vec<f64>> {
        self.sites.iter().find(|site| site.name == name).map(|site| site.scores(self.score))
    }

    /// Takes in the scores of the weights of site `name`, where the base stores each.
    pub(crate) fn put(&mut self, name: &str, scores: &[f64]) {
        for site in self.sites.iter_mut().filter(|site| site.name == name) {
            let Seen { order, statistics, .. } = site;
            statistics.put(order.iter().map(|place| scores.get(*place).copied().unwrap_or(0.0)));
        }
    }

    /// Which pass over the clips this is, from 0.
    pub(crate) fn pass(&self) -> usize {
        self.pass
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
        let order = places(&site.desc).map(|(channel, position)| site.offset(channel, position)).collect();
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
        let at = |place: &usize| gradient.get(*place).map_or(0.0, |g| f64::from(*g) * share);
        let turned: Vec<f64> = self.order.iter().map(at).collect();
        self.statistics.observe(score, &self.weight, &turned);
    }

    /// The gradients of all batches, where the score keeps them.
    pub(crate) fn stack(&self) -> &[f64] {
        self.statistics.stack()
    }

    /// The scores of its weights.
    pub(crate) fn scores(&self, score: Score) -> Vec<f64> {
        // Scores of gradients draw nothing.
        score.of(&self.weight, &self.statistics, &mut ingraft_tensor::Rng::new(0))
    }
}

/// The real weights of a site, `[out, row]`, rows in published order.
pub(crate) fn published(site: &FrozenSite<'_>) -> Vec<f64> {
    places(&site.desc).map(|(channel, position)| f64::from(site.weight(channel, position))).collect()
}

/// Output channel and position in the kernel's row of every element, in published order.
fn places<'d>(desc: &'d SiteDesc<'_>) -> impl Iterator<Item = (usize, usize)> + 'd {
    (0..desc.out).flat_map(move |channel| (0..desc.row()).map(move |i| (channel, in_kernel(desc, i))))
}
