//! Sparse methods: a score, a pattern and a budget give the weights that are trained.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Method, Part, PartRate, Setting, SiteValues, TermLayout, Unfit};

use crate::attribution::quota;
use crate::mask::{ROW_LIMIT, fill, keep_representable};
use crate::place::in_kernel;
use crate::row::Settings;
use crate::saliency::{Seen, published};
use crate::score::Statistics;
use crate::select::{Pattern, best_of_all};
use crate::{Lora, MethodError, Score};

/// Trains chosen weights: `W' = W + S`, S zero but at places that are fixed before training, and zero at the start.
///
/// Places come from a [`Score`], in the shape of a [`Pattern`], as many as a [`Budget`] allows, in each matrix or over all.
/// A score of gradients needs a [`crate::Saliency`]. A low-rank pair may stand beside S, or in its place.
#[derive(Debug)]
pub(crate) struct Sparse {
    pub(crate) name: &'static str,
    pub(crate) settings: Vec<(&'static str, Setting)>,
    pub(crate) score: Score,
    pub(crate) pattern: Pattern,
    pub(crate) budget: Budget,
    /// Whether the budget is one for all sites.
    pub(crate) network: bool,
    pub(crate) low_rank: LowRank,
    /// Whether the bias of every row with trained weights is trained.
    pub(crate) biases: bool,
    /// s with stored value = s · parameter.
    pub(crate) scale: f32,
    /// The places at each site, by name; `None` while they are chosen by what the site itself says.
    pub(crate) chosen: Option<Vec<Choice>>,
}

/// The places of one site, ascending in `[out, row]`, rows in published order.
#[derive(Debug)]
pub(crate) struct Choice {
    site: String,
    places: Vec<usize>,
}

/// How many units of the pattern are trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Budget {
    /// A share of all, rounded down, at least one.
    Share(f64),
    /// A share of all, rounded to the nearest, at least one.
    Rounded(f64),
    /// A percentage of all, rounded down, at least one.
    Percent(f64),
    /// So many.
    Count(usize),
}

/// The two factors of a sparse method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LowRank {
    /// None.
    No,
    /// Everywhere, beside the sparse delta.
    Beside(Lora),
    /// In place of the sparse delta where it would have at least a share 1/α of their parameters.
    Instead(Lora, f64),
}

impl Budget {
    /// A number at most 1 is a share, a larger one a count.
    pub(crate) fn of(number: f64) -> Self {
        if number <= 1.0 { Self::Share(number) } else { Self::Count(number as usize) }
    }

    pub(crate) fn units(self, all: usize) -> usize {
        match self {
            Self::Share(share) => ((share * all as f64) as usize).clamp(1, all.max(1)),
            Self::Rounded(share) => (libm::round(share * all as f64) as usize).clamp(1, all.max(1)),
            Self::Percent(percent) => quota(percent, all),
            Self::Count(count) => count,
        }
    }
}

impl Sparse {
    /// A method without factors, its budget for each matrix.
    pub(crate) fn new(name: &'static str, score: Score, pattern: Pattern, budget: Budget) -> Self {
        Self {
            name,
            settings: Vec::new(),
            score,
            pattern,
            budget,
            network: false,
            low_rank: LowRank::No,
            biases: false,
            scale: 1.0,
            chosen: None,
        }
    }

    /// With what its adapter's record says.
    pub(crate) fn with(mut self, name: &'static str, setting: Setting) -> Self {
        self.settings.push((name, setting));
        self
    }

    /// The method, its places chosen where `settings` bring what was measured.
    pub(crate) fn boxed(mut self, settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
        if let Some(saliency) = settings.saliency.filter(|_| self.score.needs_data()) {
            self.chosen = Some(self.choose(saliency.sites()));
        }
        Ok(Box::new(self))
    }

    fn choose(&self, sites: &[Seen]) -> Vec<Choice> {
        let scores = sites.iter().map(|site| site.scores(self.score));
        let places: Vec<Vec<usize>> = if self.network {
            let units: Vec<Vec<f64>> =
                scores.zip(sites).map(|(scores, site)| self.pattern.units(&scores, site.row)).collect();
            let wanted = self.budget.units(units.iter().map(Vec::len).sum());
            let units = best_of_all(&units, wanted).into_iter().zip(sites);
            units.map(|(units, site)| self.pattern.cover(&units, site.out, site.row)).collect()
        } else {
            let matrices = scores.zip(sites);
            matrices.map(|(scores, site)| self.choose_in(&scores, site.out, site.row)).collect()
        };
        let named = sites.iter().zip(places);
        named.map(|(site, places)| Choice { site: site.name.clone(), places }).collect()
    }

    fn choose_in(&self, scores: &[f64], out: usize, row: usize) -> Vec<usize> {
        self.pattern.choose(scores, out, row, self.units(out, row))
    }

    /// Units trained in a matrix with a budget of its own.
    fn units(&self, out: usize, row: usize) -> usize {
        let all = match self.pattern {
            Pattern::Rows => out,
            Pattern::Columns | Pattern::PerRow | Pattern::SharedColumns => row,
            Pattern::Tiles(side, _) => (out / side) * (row / side),
            Pattern::Entries | Pattern::Block(_) | Pattern::Cross(_) => out * row,
        };
        self.budget.units(all)
    }

    /// The places chosen at a site; `None` where none were.
    fn chosen_at(&self, name: &str) -> Option<&[usize]> {
        let choices = self.chosen.as_ref()?;
        choices.iter().find(|choice| choice.site == name).map(|choice| &choice.places[..])
    }

    fn places(&self, site: &FrozenSite<'_>, rng: &mut Rng) -> Vec<usize> {
        if let Some(places) = self.chosen_at(site.desc.name) {
            return places.to_vec();
        }
        let weight = published(site);
        let scores = self.score.of(&weight, &Statistics::default(), rng);
        self.choose_in(&scores, site.desc.out, site.desc.row())
    }

    /// Number of sparse values and the factors at a site.
    fn terms(&self, site: &SiteDesc<'_>) -> Result<(usize, Option<Lora>), Unfit> {
        let (out, row) = (site.out, site.row());
        if let Pattern::Tiles(side, _) = self.pattern {
            for dimension in [out, row] {
                if !dimension.is_multiple_of(side) {
                    return Err(Unfit::Divisor { setting: "tile", value: side, dimension });
                }
            }
        }
        let count = match (self.score.needs_data(), &self.chosen) {
            (true, None) => return Err(Unfit::Unmeasured),
            (true, Some(_)) => self.chosen_at(site.name).map_or(0, <[usize]>::len),
            (false, _) => self.pattern.places(out, row, self.units(out, row)),
        };
        let factored = matches!(site.kind, SiteKind::Linear | SiteKind::Conv);
        Ok(match self.low_rank {
            LowRank::Beside(lora) if factored => (count, Some(lora)),
            LowRank::Instead(lora, alpha) if factored => {
                let parameters = lora.rank as usize * (out + row);
                let many = count != 0 && count as f64 >= parameters as f64 / alpha;
                if many { (0, Some(lora)) } else { (count, None) }
            }
            _ => (count, None),
        })
    }
}

impl Method for Sparse {
    fn name(&self) -> &'static str {
        self.name
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        self.settings.iter().for_each(|(name, value)| visit(name, *value));
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        if !matches!(site.kind, SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise) {
            return Ok(TermLayout::NONE);
        }
        let (nnz, lora) = self.terms(site)?;
        let row = site.row();
        if nnz != 0 && row > ROW_LIMIT {
            return Err(Unfit::RowTooLong { row, limit: ROW_LIMIT });
        }
        let nnz = u32::try_from(nnz).map_err(|_| Unfit::Expression { out: site.out, row })?;
        let factors = lora.map_or(Ok(TermLayout::NONE), |lora| lora.layout(site))?;
        Ok(TermLayout { nnz, shift: self.biases && nnz != 0, ..factors })
    }

    fn initialize(&self, site: &FrozenSite<'_>, rng: &mut Rng, terms: &mut SiteValues<'_>) {
        let Ok((nnz, lora)) = self.terms(&site.desc) else { return };
        if let Some(lora) = lora {
            lora.initialize(site, rng, terms);
        }
        if nnz == 0 {
            return;
        }
        let row = site.desc.row();
        let mut kept = vec![false; site.desc.out * row];
        for place in self.places(site, rng) {
            kept[place / row * row + in_kernel(&site.desc, place % row)] = true;
        }
        fill(site, terms, |channel, position| kept[channel * row + position]);
    }

    fn constrain(&self, site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
        keep_representable(site, terms);
        let rows = terms.indptr.iter().zip(terms.indptr.iter().skip(1));
        for (shift, (_, _)) in terms.shift.iter_mut().zip(rows).filter(|(_, (from, to))| from == to) {
            *shift = 0.0;
        }
    }

    fn rate(&self, part: Part) -> PartRate {
        let scale = match (part, self.low_rank) {
            (Part::Up, LowRank::Beside(lora) | LowRank::Instead(lora, _)) => lora.scale(),
            (Part::Sparse, _) => self.scale,
            _ => 1.0,
        };
        PartRate { scale, decays: matches!(part, Part::Down | Part::Up | Part::Sparse) }
    }
}
