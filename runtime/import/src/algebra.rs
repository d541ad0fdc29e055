//! Algebra on adapters of one base.
//!
//! Most of it acts on *deltas*: what an adapter does at a site is a change of its weight and bias, ΔW and Δb, whatever terms
//! it is written as, and those add, scale and vanish as numbers do. Some acts on *factors*, B and A of a
//! low-rank pair, where only adapters that are such pairs can follow: [`Operation`] says which.

mod compress;
mod effect;
mod select;
mod stack;
mod ternary;

use std::collections::BTreeSet;

use ingraft_adapter::{Adapter, AdapterFacts, HeadSpec, TermSource};
use ingraft_method::TermFormat;
use ingraft_tensor::Rng;

use crate::base::{Base, Place};
use crate::matrix::Matrix;
use crate::native::hex;
use crate::{Aligned, Fault, ImportError, Imported, ImportedSite};
pub use compress::{Compression, compress};
use effect::Effect;
use select::{drop_out, elect, keep_largest};
pub use stack::{Member, members, stack, stacked};
pub use ternary::{Coding, decode_ternary, encode_ternary, is_ternary};

/// How adapters become one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Deltas: Σ wᵢ·Δᵢ. Pairs are put side by side where that is smaller than the sum, which is the same.
    Sum,
    /// Deltas: a feature set, Σ wᵢ·Δᵢ where wᵢ is 1 for a feature that the set has and 0 for any other (FLix: Lin et al., 2024). A member
    /// outside the set takes no part: no rank of its own, no head.
    Features,
    /// Factors: pairs side by side, their ranks added up: exactly the sum of their deltas.
    Concatenate,
    /// Factors: A = Σ wᵢ·Aᵢ, B = Σ wᵢ·Bᵢ (Zhang et al., 2023). Not the sum of deltas: it has cross terms.
    FactorSum,
    /// Factors: B becomes −B, A stays: the delta changes its sign (Zhang et al., 2023).
    Negate,
    /// Deltas: of each the entries largest by magnitude, in this share; signs by majority; the mean of those that agree
    /// (TIES: Yadav et al., 2023).
    Ties {
        /// Share of entries kept.
        density: f64,
    },
    /// Deltas: of each a random share, scaled up by its inverse; then the sum (DARE: Yu et al., 2024).
    Dare {
        /// Share of entries kept.
        density: f64,
        /// What is drawn depends on this and the site alone.
        seed: u64,
    },
    /// Deltas: of each the entries largest by magnitude, in this share; then the sum.
    Prune {
        /// Share of entries kept.
        density: f64,
    },
    /// Deltas: a − b + c, the third changed as the first differs from the second. Takes three.
    Analogy,
}

/// An adapter and its weight in a combination.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'a> {
    /// The file.
    pub bytes: &'a [u8],
    /// Its weight.
    pub weight: f64,
}

/// One adapter from several, or from one.
///
/// A head is taken over where no more than one of them has one. Adapters outside a feature set are checked by no one.
///
/// # Errors
/// [`Fault::Combine`] where the operation cannot be done; [`Fault::Adapter`] for a file that is not of this base.
pub fn compose(
    base: &Base<'_>,
    parts: &[Weighted<'_>],
    operation: Operation,
) -> Result<Imported, ImportError> {
    let (least, most) = match operation {
        Operation::Negate => (1, 1),
        Operation::Analogy => (3, 3),
        _ => (1, usize::MAX),
    };
    if !(least..=most).contains(&parts.len()) {
        return Err(
            Fault::Combine("analogy takes three adapters, negate one, the others at least one").into()
        );
    }
    let parts: Vec<Weighted<'_>> = match operation {
        Operation::Features => in_set(parts)?,
        _ => parts.to_vec(),
    };
    let files: Vec<Aligned> = parts.iter().map(|part| Aligned::copy_of(part.bytes)).collect();
    let adapters = files
        .iter()
        .map(|file| Adapter::attach(file.as_slice(), &base.plan))
        .collect::<Result<Vec<_>, _>>()?;
    let weights: Vec<f64> = match operation {
        Operation::Analogy => vec![1.0, -1.0, 1.0],
        _ => parts.iter().map(|part| part.weight).collect(),
    };
    let writer = joined(base, &adapters, &weights, operation, head(&adapters)?)?;
    let sources: Vec<String> = adapters
        .iter()
        .zip(&weights)
        .map(|(a, weight)| format!("{weight} × {}", hex(&a.hash()[..8])))
        .collect();
    writer.finish(&operation.name(), &format!("{}: {}", operation.name(), sources.join(", ")))
}

/// What `operation` makes of `adapters`, site by site.
fn joined<'b>(
    base: &'b Base<'b>,
    adapters: &[Adapter<'_>],
    weights: &[f64],
    operation: Operation,
    head: Option<HeadSpec>,
) -> Result<Writer<'b>, ImportError> {
    let mut writer = Writer::new(base, head);
    let sites: BTreeSet<usize> =
        adapters.iter().flat_map(|a| a.site_terms().map(|(site, ..)| site)).collect();
    for site in sites {
        let place = base.place(site)?;
        let effects: Vec<Effect> =
            adapters.iter().map(|a| Effect::read(&place.frozen, &a.terms(site))).collect();
        let combined = combine(&place, &effects, weights, operation);
        writer.put(
            &place,
            combined.map_err(|error| error.or_about(place.desc().name))?,
            TermFormat::default(),
        )?;
    }
    Ok(writer)
}

fn combine(
    place: &Place<'_>,
    effects: &[Effect],
    weights: &[f64],
    operation: Operation,
) -> Result<Effect, ImportError> {
    let (out, row) = place.shape();
    let pairs = |what: &'static str| -> Result<Vec<(&Matrix, &Matrix)>, ImportError> {
        let pair = |effect: &'_ Effect| effect.factors.is_some() && effect.is_pair();
        let all = effects.iter().filter(|effect| !effect.is_nothing());
        if all.clone().any(|effect| !pair(effect)) {
            return Err(Fault::Combine(what).into());
        }
        Ok(all.filter_map(|effect| effect.factors.as_ref().map(|(up, down)| (up, down))).collect())
    };
    let live: Vec<f64> = effects
        .iter()
        .zip(weights)
        .filter(|(effect, _)| !effect.is_nothing())
        .map(|(_, weight)| *weight)
        .collect();
    const NO_PAIR: &str =
        "this acts on factors, and the adapter is no low-rank pair here; use sum, which acts on deltas";
    Ok(match operation {
        Operation::Concatenate => beside(&pairs(NO_PAIR)?, &live),
        Operation::Sum | Operation::Features | Operation::Analogy => {
            let rank: usize =
                effects.iter().filter_map(|e| e.factors.as_ref()).map(|(_, down)| down.rows).sum();
            match pairs("") {
                Ok(pairs) if rank * (out + row) <= out * row => beside(&pairs, &live),
                _ => weighted(effects, weights, out, row, |_, delta| delta),
            }
        }
        Operation::FactorSum => {
            let pairs = pairs(NO_PAIR)?;
            let ranks: BTreeSet<usize> = pairs.iter().map(|(_, down)| down.rows).collect();
            if ranks.len() > 1 {
                return Err(Fault::Combine("factors of different ranks do not add; use concat or sum").into());
            }
            let sum = |which: fn(&(&Matrix, &Matrix)) -> Matrix| {
                let mut terms = pairs.iter().zip(&live).map(|(pair, weight)| which(pair).scaled(*weight));
                let first = terms.next()?;
                Some(terms.fold(first, |sum, next| sum.plus(&next)))
            };
            match (sum(|pair| pair.0.clone()), sum(|pair| pair.1.clone())) {
                (Some(up), Some(down)) => Effect { factors: Some((up, down)), ..Effect::default() },
                _ => Effect::default(),
            }
        }
        Operation::Negate => beside(&pairs(NO_PAIR)?, &[-1.0]),
        Operation::Prune { density } => {
            share(density)?;
            weighted(effects, weights, out, row, |_, delta| keep_largest(delta, density))
        }
        Operation::Dare { density, seed } => {
            share(density)?;
            let stream = |part: usize| Rng::stream(seed, (place.index as u64) << 16 | part as u64);
            weighted(effects, weights, out, row, |part, delta| drop_out(delta, density, &mut stream(part)))
        }
        Operation::Ties { density } => {
            share(density)?;
            let kept: Vec<Matrix> =
                effects.iter().map(|effect| keep_largest(effect.whole(out, row), density)).collect();
            let shift = weighted(effects, weights, out, row, |_, delta| delta).shift;
            Effect { dense: Some(elect(&kept, weights)), shift, factors: None }
        }
    })
}

/// The members that a feature set has.
fn in_set<'a>(parts: &[Weighted<'a>]) -> Result<Vec<Weighted<'a>>, ImportError> {
    if parts.iter().any(|part| part.weight != 0.0 && part.weight != 1.0) {
        return Err(Fault::Combine(
            "a feature is in the set or not: its weight is 1 or 0; use sum for others",
        )
        .into());
    }
    let chosen: Vec<_> = parts.iter().filter(|part| part.weight == 1.0).copied().collect();
    if chosen.is_empty() {
        return Err(Fault::Combine("a set without a feature is the base; run it without an adapter").into());
    }
    Ok(chosen)
}

fn share(density: f64) -> Result<(), ImportError> {
    if density > 0.0 && density <= 1.0 {
        Ok(())
    } else {
        Err(Fault::Combine("a density is above 0, at most 1").into())
    }
}

/// Pairs side by side.
fn beside(pairs: &[(&Matrix, &Matrix)], weights: &[f64]) -> Effect {
    let mut joined: Option<(Matrix, Matrix)> = None;
    for ((up, down), weight) in pairs.iter().zip(weights) {
        let up = (*up).clone().scaled(*weight);
        joined = Some(match joined {
            Some((left, above)) => (left.beside(&up), above.above(down)),
            None => (up, (*down).clone()),
        });
    }
    Effect { factors: joined, ..Effect::default() }
}

/// Σ wᵢ·change(Δᵢ).
fn weighted(
    effects: &[Effect],
    weights: &[f64],
    out: usize,
    row: usize,
    mut change: impl FnMut(usize, Matrix) -> Matrix,
) -> Effect {
    let mut sum = Matrix::zeros(out, row);
    let mut shift: Option<Vec<f64>> = None;
    for (part, (effect, weight)) in effects.iter().zip(weights).enumerate() {
        sum = sum.plus(&change(part, effect.whole(out, row)).scaled(*weight));
        if let Some(own) = &effect.shift {
            let shift = shift.get_or_insert_with(|| vec![0.0; out]);
            shift.iter_mut().zip(own).for_each(|(to, from)| *to += weight * from);
        }
    }
    Effect { dense: Some(sum), shift, factors: None }
}

impl Operation {
    /// Its name on the command line.
    pub fn name(&self) -> String {
        match self {
            Self::Sum => "sum",
            Self::Features => "features",
            Self::Concatenate => "concat",
            Self::FactorSum => "add",
            Self::Negate => "negate",
            Self::Ties { .. } => "ties",
            Self::Dare { .. } => "dare",
            Self::Prune { .. } => "prune",
            Self::Analogy => "analogy",
        }
        .to_owned()
    }
}

/// The head of the one adapter that has one.
fn head(adapters: &[Adapter<'_>]) -> Result<Option<HeadSpec>, ImportError> {
    let mut heads = adapters.iter().filter_map(TermSource::head).map(|head| HeadSpec::of(&head));
    let first = heads.next();
    match heads.find(|head| Some(head) != first.as_ref()) {
        Some(_) => {
            Err(Fault::Combine("more than one of the adapters has a head of its own; heads do not add")
                .into())
        }
        None => Ok(first),
    }
}

/// Collects the sites of a result.
struct Writer<'b> {
    base: &'b Base<'b>,
    builder: ingraft_adapter::AdapterBuilder,
    sites: Vec<ImportedSite>,
}

impl<'b> Writer<'b> {
    fn new(base: &'b Base<'b>, head: Option<HeadSpec>) -> Self {
        let mut builder = base.builder();
        head.into_iter().for_each(|head| builder.head(head));
        Self { base, builder, sites: Vec::new() }
    }

    fn put(&mut self, place: &Place<'_>, effect: Effect, format: TermFormat<'_>) -> Result<(), ImportError> {
        let placed = effect.place(place, format)?;
        placed.terms.into_iter().for_each(|term| self.builder.term(place.index, place.desc(), term));
        let name = place.desc().name.to_owned();
        self.sites.push(ImportedSite { module: name.clone(), name, error: placed.error });
        Ok(())
    }

    fn finish(self, method: &str, provenance: &str) -> Result<Imported, ImportError> {
        let facts = AdapterFacts {
            method: method.to_owned(),
            provenance: provenance.to_owned(),
            ..AdapterFacts::default()
        };
        Imported::new(self.base, self.builder.finish(&facts), self.sites)
    }
}
