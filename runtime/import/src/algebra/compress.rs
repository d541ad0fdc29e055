//! Adapters made smaller.

use ingraft_adapter::{Adapter, TermSource, TermSpec};
use ingraft_method::{DeltaFormat, FactorFormat, OwnedTerms, TermFormat, deploy};

use crate::algebra::effect::Effect;
use crate::algebra::select::keep_largest;
use crate::algebra::{Writer, head};
use crate::base::{Base, Place};
use crate::matrix::Matrix;
use crate::native::hex;
use crate::peft::lora_delta;
use crate::{Aligned, Fault, ImportError, Imported};

/// How an adapter is made smaller.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Compression {
    /// Deltas: the nearest pair of this rank (singular values).
    Rank(usize),
    /// Factors: the first rows of A and columns of B, for adapters whose ranks are ordered.
    Slice(usize),
    /// Deltas: the entries largest by magnitude, in this share, each ±γ with γ = `scale` times their deviation
    /// (ComPEFT: Yadav et al., 2023).
    Ternary {
        /// Share of entries kept.
        density: f64,
        /// α; γ = α·σ(Δ).
        scale: f64,
    },
    /// Factors: int8 with int16 between them, with room for any input of the base.
    Int8,
    /// Deltas: every site's terms as one fused weight, which costs nothing beside the base's. At f32 sites ΔW entry by entry: of a LoRA on a
    /// linear layer what HF PEFT merges, in its order of operations.
    Fuse,
}

/// The adapter `bytes` made smaller; `error` of a site is that against what it did before.
///
/// # Errors
/// [`Fault::Combine`] where it cannot be done.
pub fn compress(base: &Base<'_>, bytes: &[u8], compression: Compression) -> Result<Imported, ImportError> {
    let file = Aligned::copy_of(bytes);
    let adapter = Adapter::attach(file.as_slice(), &base.plan)?;
    let mut writer = Writer::new(base, head(&[adapter])?);
    let section = adapter.parameters()?;
    let sites: Vec<usize> = adapter.site_terms().map(|(site, ..)| site).collect();
    for site in sites {
        let place = base.place(site)?;
        let (out, row) = place.shape();
        let before = Effect::read(&place.frozen, &adapter.terms(site));
        let named = |error: ImportError| error.or_about(place.desc().name);
        let merged = || lora_delta(&adapter, &section, &place).filter(|_| before.shift.is_none());
        let terms = smaller(&place, &before, compression, &merged).map_err(named)?;
        let after = read_terms(&place, &terms)?;
        let error = relative(&after.whole(out, row), &before.whole(out, row));
        terms.into_iter().for_each(|term| writer.builder.term(place.index, place.desc(), term));
        let name = place.desc().name.to_owned();
        writer.sites.push(crate::ImportedSite { module: name.clone(), name, error });
    }
    let name = compression.name();
    writer.finish(adapter.method(), &format!("{name} of {}", hex(&adapter.hash()[..8])))
}

impl Compression {
    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rank(_) => "rank",
            Self::Slice(_) => "slice",
            Self::Ternary { .. } => "ternary",
            Self::Int8 => "int8",
            Self::Fuse => "fuse",
        }
    }
}

/// ‖a − b‖/‖b‖; 0 where both are nothing.
fn relative(a: &Matrix, b: &Matrix) -> f64 {
    let apart = a.clone().minus(b).norm();
    if apart == 0.0 { 0.0 } else { apart / b.norm() }
}

/// What terms that are about to be written will do.
fn read_terms(place: &Place<'_>, terms: &[TermSpec]) -> Result<Effect, ImportError> {
    let mut builder = ingraft_adapter::AdapterBuilder::new(&OneSite(place));
    terms.iter().for_each(|term| builder.term(0, place.desc(), term.clone()));
    let bytes = builder.finish(&ingraft_adapter::AdapterFacts::default());
    let file = Aligned::copy_of(&bytes);
    let adapter = Adapter::open(file.as_slice())?;
    Ok(Effect::read(&place.frozen, &adapter.terms(0)))
}

/// A base of one site.
struct OneSite<'p>(&'p Place<'p>);

impl ingraft_kernel::Sites for OneSite<'_> {
    fn base_hash(&self) -> [u8; 32] {
        [0; 32]
    }

    fn site_count(&self) -> usize {
        1
    }

    fn site(&self, index: usize) -> Option<ingraft_kernel::SiteDesc<'_>> {
        (index == 0).then(|| *self.0.desc())
    }

    fn head_features(&self, _: u32, _: u32) -> Option<usize> {
        None
    }

    fn head_classes(&self) -> usize {
        0
    }
}

fn smaller(
    place: &Place<'_>,
    before: &Effect,
    compression: Compression,
    merged: &dyn Fn() -> Option<Matrix>,
) -> Result<Vec<TermSpec>, ImportError> {
    let (out, row) = place.shape();
    let refuse = |why: &'static str| Err(Fault::Combine(why).into());
    Ok(match compression {
        Compression::Rank(rank) => {
            let (u, values, vt) = before.whole(out, row).svd();
            let rank = rank.min(values.len());
            if rank == 0 {
                return refuse("a rank is at least 1");
            }
            let up = Matrix::from_fn(out, rank, |o, k| u.at(o, k) * values[k]);
            let down = Matrix::from_fn(rank, row, |k, j| vt.at(k, j));
            Effect { factors: Some((up, down)), dense: None, shift: before.shift.clone() }
                .place(place, TermFormat::default())?
                .terms
        }
        Compression::Slice(rank) => {
            let Some((up, down)) = before.factors.as_ref().filter(|_| before.is_pair()) else {
                return refuse("only a low-rank pair can be sliced");
            };
            if rank == 0 || rank > down.rows {
                return refuse("a slice has at least rank 1, and at most that of the pair");
            }
            let up = Matrix::from_fn(out, rank, |o, k| up.at(o, k));
            let down = Matrix::from_fn(rank, row, |k, j| down.at(k, j));
            Effect { factors: Some((up, down)), ..Effect::default() }
                .place(place, TermFormat::default())?
                .terms
        }
        Compression::Ternary { density, scale } => {
            if !(density > 0.0 && density <= 1.0 && scale > 0.0) {
                return refuse("a density is above 0, at most 1; a scale is above 0");
            }
            let ternary = ternary(&before.whole(out, row), density, scale);
            Effect { dense: Some(ternary), shift: before.shift.clone(), factors: None }
                .place(place, TermFormat::default())?
                .terms
        }
        Compression::Int8 => int8(place, before)?,
        Compression::Fuse => {
            let whole = Some(merged().unwrap_or_else(|| before.whole(out, row)));
            Effect { dense: whole, shift: before.shift.clone(), factors: None }
                .place(place, TermFormat { deltas: DeltaFormat::Fused, ..TermFormat::default() })?
                .terms
        }
    })
}

/// ±γ at the entries largest by magnitude.
pub(super) fn ternary(delta: &Matrix, density: f64, scale: f64) -> Matrix {
    let count = delta.data.len() as f64;
    let mean = delta.data.iter().sum::<f64>() / count;
    let deviation = (delta.data.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt();
    let size = scale * deviation;
    keep_largest(delta.clone(), density).map(|v| if v == 0.0 { 0.0 } else { size.copysign(v) })
}

/// Integer factors of an int8 site.
fn int8(place: &Place<'_>, before: &Effect) -> Result<Vec<TermSpec>, ImportError> {
    let Some((up, down)) = before.factors.as_ref().filter(|_| before.is_pair()) else {
        return Err(Fault::Combine("only a low-rank pair has factors to be made integers").into());
    };
    let narrow = |matrix: &Matrix| matrix.data.iter().map(|v| *v as f32).collect();
    let owned = OwnedTerms { rank: down.rows, up: narrow(up), down: narrow(down), ..OwnedTerms::default() };
    let deployed = deploy(&place.frozen, place.index as u32, owned.terms(), FactorFormat::Bounded);
    Ok(deployed.map_err(Fault::Export)?.terms)
}
