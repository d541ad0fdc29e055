//! From a trainer to an adapter file.

mod beside;
mod parameters;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_adapter::{AdapterBuilder, AdapterFacts, HeadSpec, Privacy, SiteName, TermSpec};
use ingraft_kernel::terms::MAX_TERM_RANK;
use ingraft_kernel::{Factors, NO_SITE, SiteKind, SiteTerms, Sites, Sparse, SparseValues, Target, TwoFactor};
use ingraft_train::{FrozenSite, TrainedHead, Trainer};

use crate::{ExportError, Ranges, low_rank, quantize};

/// How to write an adapter.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions<'o> {
    /// How low-rank factors of int8 sites are written.
    pub factors: FactorFormat<'o>,
    /// How deltas of the whole weight of int8 sites are written.
    pub deltas: DeltaFormat,
    /// Class names, in order of class; empty when there are none.
    pub labels: Vec<String>,
    /// Who made it, from what.
    pub provenance: String,
    /// How it was trained privately; `None` where it was not.
    pub privacy: Option<Privacy>,
    /// Whether the method's own tensors are written beside the terms: to train on, or to export them.
    pub parameters: bool,
    /// Content hash of the adapter that acted beside what was trained, to be recorded; empty without.
    pub stacked_on: String,
    /// Whether what acted beside is left out: the file acts as what was trained, and nothing else.
    pub alone: bool,
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

/// How deltas of the whole weight of int8 sites are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeltaFormat {
    /// As the fused weight; where that loses more than a tenth of the delta, as two factors of rank 8 if
    /// they are nearer: rounding to the weights' steps loses what is below half of one, two factors do not.
    #[default]
    Auto,
    /// As a fused int8 weight: no cost in time, one weight of memory.
    Fused,
    /// As the nearest two factors of at most this rank beside the base's weight, no larger than the delta. Depthwise
    /// weights, whose kernels take none, are fused all the same.
    TwoFactor(u32),
}

impl DeltaFormat {
    /// The rank of the two factors that [`Self::Auto`] tries.
    pub const AUTO_RANK: u32 = 8;
}

/// How the terms of int8 sites are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct TermFormat<'o> {
    /// Low-rank factors.
    pub factors: FactorFormat<'o>,
    /// Deltas of the whole weight.
    pub deltas: DeltaFormat,
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
    /// What the error of a whole delta is as a fused weight, if that was tried.
    pub fused_error: Option<f64>,
    /// What the error of a whole delta is as two factors, if that was tried.
    pub two_factor_error: Option<f64>,
}

/// Writes what `trainer` learned as an adapter of its base.
///
/// On int8 sites sparse deltas become integer overlays on the base's own
/// scales, whole deltas the fused int8 weight, and low-rank factors what `options` says. The head's standardization
/// is folded into its weights. Terms that acted beside ([`Trainer::freeze`]) are written as they are, unless `options` leaves
/// them out: the file acts as both.
///
/// # Errors
/// [`ExportError`].
pub fn export<T: Target>(
    trainer: &mut Trainer<'_, '_, T>,
    options: &ExportOptions<'_>,
) -> Result<Export, ExportError> {
    trainer.fetch().map_err(|_| ExportError::Device)?;
    let trainer = &*trainer;
    let plan = trainer.plan();
    let mut builder = AdapterBuilder::new(plan);
    let mut sites = Vec::new();
    for site in trainer.sites() {
        // Bound by the trainer, so it is there.
        let Some(frozen) = FrozenSite::new(plan, site as usize) else { continue };
        let terms = trainer.fetched().trained(site as usize);
        let format = TermFormat { factors: options.factors, deltas: options.deltas };
        let mut written = deploy_as(&frozen, site, terms, format)?;
        if !options.alone {
            written.stack(&trainer.fetched().frozen(site as usize));
        }
        for term in written.terms {
            builder.term(site as usize, &frozen.desc, term);
        }
        if options.parameters {
            let tensors = parameters::of_site(trainer, &frozen, site);
            tensors.into_iter().for_each(|tensor| builder.parameter(site as usize, frozen.desc.name, tensor));
        }
        sites.push(SiteReport {
            name: frozen.desc.name.to_string(),
            error: written.error,
            fused_error: written.fused_error,
            two_factor_error: written.two_factor_error,
        });
    }
    let trained: Vec<u32> = trainer.sites().collect();
    for (index, desc) in (0..plan.site_count()).filter_map(|index| Some((index, plan.site(index)?))) {
        if !options.alone && !trained.contains(&(index as u32)) {
            let mut beside = Deployed::default();
            beside.stack(&trainer.fetched().frozen(index));
            beside.terms.into_iter().for_each(|term| builder.term(index, &desc, term));
        }
    }
    if let Some(head) = trainer.head() {
        builder.head(head_spec(trainer, &head, options)?);
    }
    let method = trainer.setup().method;
    let mut hyper = Vec::new();
    method.settings(&mut |name, value| hyper.push((name.to_string(), format!("{value}"))));
    if !options.stacked_on.is_empty() {
        hyper.push(("stacked_on".to_string(), options.stacked_on.clone()));
    }
    let facts = AdapterFacts {
        method: method.name().to_string(),
        method_version: method.version(),
        hyper,
        provenance: options.provenance.clone(),
        privacy: options.privacy,
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
    /// As [`SiteReport::fused_error`].
    pub fused_error: Option<f64>,
    /// As [`SiteReport::two_factor_error`].
    pub two_factor_error: Option<f64>,
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
    deploy_as(site, index, terms, TermFormat { factors, ..TermFormat::default() })
}

/// As [`deploy`], with a choice of how whole deltas are written.
///
/// # Errors
/// As [`deploy`].
pub fn deploy_as(
    site: &FrozenSite<'_>,
    index: u32,
    terms: SiteTerms<'_>,
    format: TermFormat<'_>,
) -> Result<Deployed, ExportError> {
    Deployed::new(site, index, terms, format)
}

impl Deployed {
    fn new(
        site: &FrozenSite<'_>,
        index: u32,
        terms: SiteTerms<'_>,
        format: TermFormat<'_>,
    ) -> Result<Self, ExportError> {
        let mut written = Self::default();
        let name = SiteName::new(site.desc.name);
        let finite = |values: &[f32]| {
            if values.iter().all(|v| v.is_finite()) { Ok(()) } else { Err(ExportError::NotFinite(name)) }
        };
        if let Some(TwoFactor { rank, factors: Factors::F32 { down, up } }) = terms.two_factor {
            finite(down).and_then(|()| finite(up))?;
            match (format.factors, site.scales()) {
                (FactorFormat::Int8(ranges), Some(scales)) => {
                    let peaks = ranges.peaks(index).ok_or(ExportError::NotCalibrated(name))?;
                    written.take(quantize::factors(site, &scales, rank, (down, up), peaks, None));
                }
                (FactorFormat::Bounded, Some(scales)) => {
                    let peaks = quantize::largest_sums(site, &scales, down);
                    written.take(quantize::factors(site, &scales, rank, (down, up), &peaks, None));
                }
                _ => {
                    let (down, up) = (down.to_vec(), up.to_vec());
                    written.terms.push(TermSpec::TwoFactorF32 { rank, down, up });
                }
            }
        }
        if let Some(sparse @ Sparse { values: SparseValues::F32(values), .. }) = terms.sparse {
            finite(values)?;
            written.take_sparse(site, sparse, values);
        }
        if let Some(delta) = terms.dense {
            finite(delta)?;
            written.take_dense(site, delta, format);
        }
        if let Some(affine) = terms.affine {
            finite(affine.scale).and_then(|()| finite(affine.shift))?;
            written.take_affine(affine.scale.to_vec(), affine.shift.to_vec());
        }
        Ok(written)
    }

    /// A scale and shift of the output; what a fused weight of wider scales gives back goes into the same term.
    fn take_affine(&mut self, mut scale: Vec<f32>, shift: Vec<f32>) {
        let given_back = self.terms.iter().position(|term| matches!(term, TermSpec::Affine { .. }));
        if let Some(TermSpec::Affine { scale: widened, .. }) = given_back.map(|at| self.terms.swap_remove(at))
        {
            scale.iter_mut().zip(widened).for_each(|(scale, widened)| *scale *= widened);
        }
        self.terms.push(TermSpec::Affine { scale, shift });
    }

    /// A delta of every weight as `format` says; at an f32 site as a sparse term without gaps.
    fn take_dense(&mut self, site: &FrozenSite<'_>, delta: &[f32], format: TermFormat<'_>) {
        if let Some(scales) = site.scales() {
            let (fused, affine) = quantize::fused(site, &scales, delta);
            self.fused_error = Some(fused.error);
            let near = match format.deltas {
                DeltaFormat::Auto if fused.error > TOLERATED => {
                    two_factor(site, delta, DeltaFormat::AUTO_RANK as usize, format.factors)
                }
                DeltaFormat::TwoFactor(rank) => two_factor(site, delta, rank as usize, format.factors),
                DeltaFormat::Auto | DeltaFormat::Fused => None,
            };
            self.two_factor_error = near.as_ref().map(|near| near.error);
            let forced = format.deltas != DeltaFormat::Auto;
            return match near.filter(|near| forced || near.error < fused.error) {
                Some(near) => self.take(near),
                None => {
                    self.take(fused);
                    self.terms.extend(affine);
                }
            };
        }
        let (out, row) = (site.desc.out, site.desc.row());
        let places = (0..out).flat_map(|channel| (0..row).map(move |position| (channel, position)));
        let values = places.clone().map(|(c, p)| delta.get(site.offset(c, p)).copied().unwrap_or(0.0));
        self.terms.push(TermSpec::SparseF32 {
            indptr: (0..=out).map(|channel| (channel * row) as u32).collect(),
            // The layout has no longer rows.
            indices: places.map(|(_, position)| position as u16).collect(),
            values: values.collect(),
        });
    }

    /// A sparse delta in steps of the base's weights; at an f32 site as it is.
    fn take_sparse(&mut self, site: &FrozenSite<'_>, sparse: Sparse<'_>, values: &[f32]) {
        let Some(scales) = site.scales() else {
            let (indptr, indices) = (sparse.indptr.to_vec(), sparse.indices.to_vec());
            return self.terms.push(TermSpec::SparseF32 { indptr, indices, values: values.to_vec() });
        };
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

/// The two factors nearest to a whole delta, and how far they are from it; `None` where a site runs none.
fn two_factor(
    site: &FrozenSite<'_>,
    delta: &[f32],
    rank: usize,
    factors: FactorFormat<'_>,
) -> Option<quantize::Quantized> {
    if site.desc.kind == SiteKind::Depthwise || rank == 0 {
        return None;
    }
    let near = low_rank::nearest(site, delta, rank.min(MAX_TERM_RANK))?;
    let (rank, down, up) = (near.rank, near.down, near.up);
    Some(match (factors, site.scales()) {
        (FactorFormat::Int8(_) | FactorFormat::Bounded, Some(scales)) => {
            // No clip was run through these factors.
            let peaks = quantize::largest_sums(site, &scales, &down);
            quantize::factors(site, &scales, rank, (&down, &up), &peaks, Some(delta))
        }
        _ => quantize::Quantized { term: TermSpec::TwoFactorF32 { rank, down, up }, error: near.error },
    })
}

/// The error of a fused weight that is taken as it is.
const TOLERATED: f64 = 0.1;

fn head_spec<T: Target>(
    trainer: &Trainer<'_, '_, T>,
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
