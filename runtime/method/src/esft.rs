//! ESFT: expert-specialized fine-tuning (Wang et al., 2024).

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ingraft_kernel::SiteDesc;
use ingraft_train::{FrozenSite, Method, Setting, SiteValues, TermLayout, Unfit};

use crate::full::Full;
use crate::relevance::expert;
use crate::row::{Definition, Family, Make, MethodRow, SHARE, SettingRow, Settings, count};
use crate::{MethodError, Score};

/// Trains every weight of the experts that a task uses most, and nothing else.
///
/// An expert's sites are called `LAYERexperts.NUMBER.…`, the router that weighs a layer's experts `LAYERgate…` or
/// `LAYERrouter…`: the names of published mixtures. A token's gates are the softmax of the router's output, at its `top_k`
/// largest. Over all tokens of the training clips an expert's relevance is its mean gate (`gate`) or the share of picks that
/// were of it (`token`); of every layer the fewest experts are taken that come to `p`, none where the router lies in the frozen
/// prefix, which a plan that is trainable from the router on does not have. Routers, shared experts and what else there is stay. Starts as the base. Parameters: `out·row + out` at every site of a chosen expert.
#[derive(Clone, Debug)]
pub(crate) struct Esft {
    score: Score,
    share: f64,
    /// Layers and their chosen experts; `None` before it was measured.
    chosen: Option<Vec<(String, Vec<usize>)>>,
}

impl Esft {
    fn trains(&self, site: &SiteDesc<'_>) -> Result<bool, Unfit> {
        let Some((layer, number)) = expert(site.name) else { return Ok(false) };
        let chosen = self.chosen.as_ref().ok_or(Unfit::Unmeasured)?;
        Ok(chosen.iter().any(|(of, experts)| of == layer && experts.contains(&number)))
    }
}

impl Method for Esft {
    fn name(&self) -> &'static str {
        "esft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("score", Setting::Name(self.score.name()));
        visit("top_k", Setting::Count(self.score.chosen().unwrap_or(0)));
        visit("p", Setting::Real(self.share));
    }

    fn layout(&self, site: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        if self.trains(site)? { Full.layout(site) } else { Ok(TermLayout::NONE) }
    }

    fn constrain(&self, site: &FrozenSite<'_>, terms: &mut SiteValues<'_>) {
        Full.constrain(site, terms);
    }
}

/// `esft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "esft",
    family: Family::Selective,
    settings: &[
        SettingRow { name: "score", default: "gate", expected: "gate or token" },
        count("top_k", "2"),
        SettingRow { name: "p", default: "0.2", expected: SHARE },
    ],
    deploy: "fused weight of every chosen expert, int8 on int8 sites; shift per output channel",
    source: "Let the Expert Stick to His Last: Expert-Specialized Fine-Tuning for Sparse Architectural Large Language Models (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Measured { score, make },
};

fn score(settings: &Settings<'_>) -> Result<Score, MethodError> {
    let chosen = settings.count("top_k")?;
    settings.one_of("score", &[("gate", Score::Gate(chosen)), ("token", Score::Token(chosen))])
}

fn make(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let (score, share) = (score(settings)?, settings.share("p")?);
    let layers = |routers: &[crate::relevance::Router]| {
        let chosen = routers.iter().map(|r| (r.layer().to_string(), r.choose(score, share)));
        chosen.collect()
    };
    let chosen = settings.saliency.map(|saliency| layers(&saliency.routers));
    Ok(Box::new(Esft { score, share, chosen }))
}
