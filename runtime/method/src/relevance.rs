//! How much a router of experts makes of each of them.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_exec::{StepEvent, Trace};
use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::{Place, SiteDesc, Sites};
use ingraft_plan::PlanView;
use ingraft_tensor::{DType, bytes};

use crate::Score;
use crate::select::best;

/// A layer's router, and what it said so far.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    /// What the names of its layer's sites begin with.
    layer: String,
    site: u32,
    chosen: usize,
    tokens: usize,
    /// Σ of gates, and number of tokens, of every expert.
    gates: Vec<f64>,
    picks: Vec<f64>,
}

/// The layer of a site that is an expert's, and the expert's number: `LAYERexperts.NUMBER.…`.
pub(crate) fn expert(name: &str) -> Option<(&str, usize)> {
    let mut parts = name.match_indices("experts.");
    parts.find_map(|(at, found)| {
        let rest = name.get(at + found.len()..)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some((name.get(..at)?, rest.get(..end)?.parse().ok()?))
    })
}

/// The routers of `plan`.
pub(crate) fn routers(plan: &PlanView<'_>, chosen: u32) -> Vec<Router> {
    let sites: Vec<_> = (0..plan.site_count()).filter_map(|index| Some((index, plan.site(index)?))).collect();
    routers_among(&sites, chosen)
}

/// The routers among numbered sites, each called `LAYERgate…` or `LAYERrouter…` where a layer has experts.
pub(crate) fn routers_among(sites: &[(usize, SiteDesc<'_>)], chosen: u32) -> Vec<Router> {
    let layers: Vec<&str> = sites.iter().filter_map(|(_, site)| Some(expert(site.name)?.0)).collect();
    let routes = |name: &str| {
        layers.iter().copied().find(|layer| {
            let rest = name.strip_prefix(layer);
            rest.is_some_and(|rest| rest.starts_with("gate") || rest.starts_with("router"))
        })
    };
    let router = |(index, site): &(usize, SiteDesc<'_>)| {
        Some(Router::new(routes(site.name)?, *index as u32, site.out, chosen))
    };
    sites.iter().filter_map(router).collect()
}

impl Router {
    pub(crate) fn new(layer: &str, site: u32, experts: usize, chosen: u32) -> Self {
        let (gates, picks) = (vec![0.0; experts], vec![0.0; experts]);
        Self { layer: layer.to_string(), site, chosen: chosen as usize, tokens: 0, gates, picks }
    }

    /// Takes in what the router says of one token: a gate is the softmax over all experts, and 0 where an expert is not among
    /// the token's.
    fn route(&mut self, logits: &[f64]) {
        let top = logits.iter().fold(f64::NEG_INFINITY, |top, v| top.max(*v));
        let shares: Vec<f64> = logits.iter().map(|v| libm::exp(v - top)).collect();
        let sum: f64 = shares.iter().sum();
        let mut gates = vec![0.0; logits.len()];
        best(logits, self.chosen).into_iter().for_each(|e| gates[e] = shares[e] / sum);
        self.take(&gates);
    }

    /// Takes in the gates of one token.
    pub(crate) fn take(&mut self, gates: &[f64]) {
        self.tokens += 1;
        for (expert, gate) in gates.iter().enumerate().take(self.gates.len()) {
            self.gates[expert] += gate;
            self.picks[expert] += f64::from(u8::from(*gate > 0.0));
        }
    }

    /// The relevance of every expert: its mean gate, or the share of all picks that were of it.
    pub(crate) fn relevance(&self, score: Score) -> Vec<f64> {
        let tokens = self.tokens.max(1) as f64;
        let (sums, share) = match score {
            Score::Token(_) => (&self.picks, 1.0 / (tokens * self.chosen.max(1) as f64)),
            _ => (&self.gates, 1.0 / tokens),
        };
        sums.iter().map(|sum| sum * share).collect()
    }

    /// The fewest experts, the most relevant first, whose relevance comes to `share`; ascending. None where no token was seen.
    pub(crate) fn choose(&self, score: Score, share: f64) -> Vec<usize> {
        if self.tokens == 0 {
            return Vec::new();
        }
        let relevance = self.relevance(score);
        let mut order: Vec<usize> = (0..relevance.len()).collect();
        // Stable: of equal experts the first comes first.
        order.sort_by(|a, b| relevance[*b].total_cmp(&relevance[*a]));
        let mut sum = 0.0;
        let mut chosen = Vec::new();
        for expert in order {
            chosen.push(expert);
            sum += relevance[expert];
            if sum >= share {
                break;
            }
        }
        chosen.sort_unstable();
        chosen
    }

    pub(crate) fn layer(&self) -> &str {
        &self.layer
    }
}

/// Watches routers in a pass.
pub(crate) struct Gates<'g>(pub(crate) &'g mut Vec<Router>);

impl Gates<'_> {
    fn read(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) -> Option<()> {
        let site = event.view.site?;
        let router = self.0.iter_mut().find(|router| router.site == site)?;
        let output = event.step.output(0).ok()?;
        let Place::Memory(span) = output.place else { return None };
        let held = memory.get(span.offset..span.end())?;
        let logits: Vec<f64> = match output.dtype {
            DType::F32 => bytes::cast::<f32>(held)?.iter().map(|v| f64::from(*v)).collect(),
            DType::I8 => {
                let attrs: &QConvAttrs = event.step.attrs().ok()?;
                let real = |code: &i8| {
                    f64::from(i32::from(*code) - attrs.out_zero_point) * f64::from(attrs.out_scale)
                };
                bytes::cast::<i8>(held)?.iter().map(real).collect()
            }
            _ => return None,
        };
        logits.chunks_exact(router.gates.len().max(1)).for_each(|token| router.route(token));
        Some(())
    }
}

impl Trace<[u8]> for Gates<'_> {
    fn before(&mut self, _: StepEvent<'_, '_>) {}

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &[u8]) {
        // Steps without a router are of no interest.
        let _ = self.read(event, memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_experts() {
        assert_eq!(expert("layers.0.mlp.experts.12.up.weight"), Some(("layers.0.mlp.", 12)));
        assert_eq!(expert("experts.3"), Some(("", 3)));
        assert_eq!(expert("mlp.shared_experts.up.weight"), None);
        assert_eq!(expert("mlp.gate.weight"), None);
    }

    #[test]
    fn relevance_and_choice_are_those_of_the_record() {
        let records = include_str!("../../../tests/golden/methods/records/records.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(records).unwrap();
        let numbers = |array: &serde_json::Value| -> Vec<f64> {
            array["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let mut seen = 0;
        for case in cases.iter().filter(|case| case["method"] == "esft") {
            let chosen = case["hyper"]["top_k"].as_u64().unwrap() as u32;
            let gate = case["hyper"]["score"] == "gate";
            let score = if gate { Score::Gate(chosen) } else { Score::Token(chosen) };
            let wanted = numbers(&case["expected"]["score"]);
            let mut router = Router::new("", 0, wanted.len(), chosen);
            numbers(&case["constants"]["gates"]).chunks(wanted.len()).for_each(|token| router.take(token));
            for (found, wanted) in router.relevance(score).iter().zip(&wanted) {
                assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
            }
            let chosen = router.choose(score, case["hyper"]["p"].as_f64().unwrap());
            let chosen: Vec<f64> = chosen.into_iter().map(|expert| expert as f64).collect();
            assert_eq!(chosen, numbers(&case["expected"]["experts"]));
            seen += 1;
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn a_token_is_routed_to_its_likeliest_experts() {
        let mut router = Router::new("", 0, 3, 2);
        router.route(&[0.0, libm::log(2.0), libm::log(5.0)]);
        let found = router.relevance(Score::Gate(2));
        assert!((found[1] - 0.25).abs() < 1e-12 && (found[2] - 0.625).abs() < 1e-12 && found[0] == 0.0);
        assert_eq!(router.relevance(Score::Token(2)), [0.0, 0.5, 0.5]);
    }
}
