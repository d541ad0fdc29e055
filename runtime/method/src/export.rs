//! From a trainer to an adapter file.

mod parameters;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_adapter::{AdapterBuilder, AdapterFacts, HeadSpec, SiteName, TermSource, TermSpec};
use ingraft_kernel::{Factors, NO_SITE, SiteTerms, Sparse, SparseValues};
use ingraft_train::{FrozenSite, TrainedHead, Trainer};

use crate::{ExportError, Ranges, quantize};

/// How to write an adapter.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions<'o> {
    /// How low-rank factors of int8 sites are written.
    pub factors: FactorFormat<'o>,
    /// Class names, in order of class; empty when there are none.
    pub labels: Vec<String>,
    /// Who made it, from what.
    pub provenance: String,
    /// Whether the method's own tensors are written beside the terms: to train on, or to export them.
    pub parameters: bool,
}

/// How low-rank factors of int8 sites are written. Those of f32 sites are always f32.
#[derive(Clone, Copy, Debug, Default)]
pub enum FactorFormat<'o> {
    /// As trained. Agrees between targets within a stated bound.
    #[default]
    F32,
    /// int8 with int16 between them: the same bits on every target. Needs the
    /// ranges measured on the training clips.
    Int8(&'o Ranges),
    /// The same with ranges that hold for any input of the base: coarser, since no input reaches them.
    Bounded,
}

/// A written adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// The file.
    pub bytes: Vec<u8>,
    /// What became of each trained site, in order.
    pub sites: Vec<SiteReport>,
}

/// What became of a trained site.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteReport {
    /// Its name.
    pub name: String,
    /// ‖ΔW_written − ΔW_trained‖ / ‖ΔW_trained‖, Frobenius norms in real units;
    /// 0 where the trained values are written as they are.
    pub error: f64,
}

/// Writes what `trainer` learned as an adapter of its base.
///
/// On int8 sites sparse deltas become integer overlays on the base's own
/// scales, whole deltas the fused int8 weight, and low-rank factors what `options` says. The head's standardization
/// is folded into its weights.
///
/// # Errors
/// [`ExportError`].
pub fn export(trainer: &Trainer<'_, '_>, options: &ExportOptions<'_>) -> Result<Export, ExportError> {
    let plan = trainer.plan();
    let mut builder = AdapterBuilder::new(plan);
    let mut sites = Vec::new();
    for site in trainer.parameters().sites() {
        // Bound by the trainer, so it is there.
        let Some(frozen) = FrozenSite::new(plan, site as usize) else { continue };
        let terms = trainer.parameters().terms(site as usize);
        let written = deploy(&frozen, site, terms, options.factors)?;
        for term in written.terms {
            builder.term(site as usize, &frozen.desc, term);
        }
        if options.parameters {
            let tensors = parameters::of_site(trainer, &frozen, site);
            tensors.into_iter().for_each(|tensor| builder.parameter(site as usize, frozen.desc.name, tensor));
        }
        sites.push(SiteReport { name: frozen.desc.name.to_string(), error: written.error });
    }
    if let Some(head) = trainer.head() {
        builder.head(head_spec(trainer, &head, options)?);
    }
    let method = trainer.setup().method;
    let mut hyper = Vec::new();
    method.settings(&mut |name, value| hyper.push((name.to_string(), format!("{value}"))));
    let facts = AdapterFacts {
        method: method.name().to_string(),
        method_version: method.version(),
        hyper,
        provenance: options.provenance.clone(),
    };
    Ok(Export { bytes: builder.finish(&facts), sites })
}

/// The terms of one site, ready to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployed {
    /// The terms.
    pub terms: Vec<TermSpec>,
    /// As [`SiteReport::error`].
    pub error: f64,
}

/// Terms in f32, as a trainer holds them, in the form in which `site` runs them.
///
/// # Errors
/// [`ExportError::NotFinite`], [`ExportError::NotCalibrated`].
pub fn deploy(
    site: &FrozenSite<'_>,
    index: u32,
    terms: SiteTerms<'_>,
    factors: FactorFormat<'_>,
) -> Result<Deployed, ExportError> {
    Deployed::new(site, index, terms, factors)
}

impl Deployed {
    fn new(
        site: &FrozenSite<'_>,
        index: u32,
        terms: SiteTerms<'_>,
        factors: FactorFormat<'_>,
    ) -> Result<Self, ExportError> {
        let mut written = Self::default();
        let name = SiteName::new(site.desc.name);
        let finite = |values: &[f32]| {
            if values.iter().all(|v| v.is_finite()) { Ok(()) } else { Err(ExportError::NotFinite(name)) }
        };
        if let Some(term) = terms.two_factor
            && let Factors::F32 { down, up } = term.factors
        {
            finite(down).and_then(|()| finite(up))?;
            match (factors, site.scales()) {
                (FactorFormat::Int8(ranges), Some(scales)) => {
                    let peaks = ranges.peaks(index).ok_or(ExportError::NotCalibrated(name))?;
                    written.take(quantize::factors(site, &scales, term.rank, (down, up), peaks));
                }
                (FactorFormat::Bounded, Some(scales)) => {
                    let peaks = quantize::largest_sums(site, &scales, down);
                    written.take(quantize::factors(site, &scales, term.rank, (down, up), &peaks));
                }
                _ => {
                    let (down, up) = (down.to_vec(), up.to_vec());
                    written.terms.push(TermSpec::TwoFactorF32 { rank: term.rank, down, up });
                }
            }
        }
        if let Some(sparse) = terms.sparse
            && let SparseValues::F32(values) = sparse.values
        {
            finite(values)?;
            written.take_delta(site, sparse, values);
        }
        if let Some(affine) = terms.affine {
            finite(affine.scale).and_then(|()| finite(affine.shift))?;
            written
                .terms
                .push(TermSpec::Affine { scale: affine.scale.to_vec(), shift: affine.shift.to_vec() });
        }
        Ok(written)
    }

    /// The delta as a fused weight where it is whole, else as a sparse term.
    fn take_delta(&mut self, site: &FrozenSite<'_>, sparse: Sparse<'_>, values: &[f32]) {
        let Some(scales) = site.scales() else {
            let (indptr, indices) = (sparse.indptr.to_vec(), sparse.indices.to_vec());
            return self.terms.push(TermSpec::SparseF32 { indptr, indices, values: values.to_vec() });
        };
        if values.len() == site.desc.out.saturating_mul(site.desc.row()) {
            let (quantized, affine) = quantize::fused(site, &scales, values);
            self.take(quantized);
            return self.terms.extend(affine);
        }
        match quantize::overlay(site, &scales, sparse, values) {
            Some(quantized) => self.take(quantized),
            None => self.error = f64::from(u8::from(values.iter().any(|v| *v != 0.0))),
        }
    }

    fn take(&mut self, quantized: quantize::Quantized) {
        self.terms.push(quantized.term);
        self.error = quantized.error;
    }
}

fn head_spec(
    trainer: &Trainer<'_, '_>,
    head: &TrainedHead<'_>,
    options: &ExportOptions<'_>,
) -> Result<HeadSpec, ExportError> {
    let (classes, labels) = (head.bias.len(), options.labels.len());
    if labels != 0 && labels != classes {
        return Err(ExportError::Labels { classes, labels });
    }
    let (mut weight, mut bias) = (vec![0.0; head.weight.len()], vec![0.0; classes]);
    let folded = head.fold(&mut weight, &mut bias);
    let finite = weight.iter().chain(&bias).all(|v| v.is_finite());
    folded.filter(|()| finite).ok_or(ExportError::NotFinite(SiteName::new("head")))?;
    Ok(HeadSpec {
        site: (head.site != NO_SITE).then_some(head.site),
        pool: head.pool,
        weight,
        bias,
        labels: options.labels.clone(),
        link: trainer.setup().loss.link(),
    })
}
