//! Adapters with random parameters.

use ingraft::adapter::{AdapterBuilder, AdapterFacts, TermSpec};
use ingraft::kernel::{Place, SiteDesc, SiteKind, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::Rng;

use crate::support::AlignedBytes;

/// An adapter with `term` of every site that is a 1×1 convolution over more than one pixel, or of `all` dense ones.
pub(crate) fn adapter(
    plan: &PlanView<'_>,
    all: bool,
    term: impl Fn(&SiteDesc<'_>, [&[u8]; 2], &mut Rng) -> Option<TermSpec>,
) -> AlignedBytes {
    let (mut rng, mut builder) = (Rng::new(1), AdapterBuilder::new(plan));
    for (index, site, weight) in dense(plan) {
        let wanted = all || site.kernel == [1, 1] && pixels(plan, index) > 1;
        if let Some(term) = wanted.then(|| term(&site, weight, &mut rng)).flatten() {
            builder.term(index, &site, term);
        }
    }
    AlignedBytes::copy_of(&builder.finish(&AdapterFacts::default()))
}

/// The sites that are not depthwise, with weight and bias.
pub(crate) fn dense<'a>(
    plan: &'a PlanView<'a>,
) -> impl Iterator<Item = (usize, SiteDesc<'a>, [&'a [u8]; 2])> {
    (0..plan.site_count()).filter_map(|index| {
        let site = plan.site(index)?;
        let step = plan.step(Phase::Infer, plan.site_tensors(Phase::Infer, index)?.step as usize)?;
        let constant = |input: usize| match plan.tensor(*step.inputs.get(input)?)?.operand.place {
            Place::Plan(bytes) => Some(bytes),
            Place::Memory(_) => None,
        };
        let constants = [constant(1)?, constant(2)?];
        (site.kind != SiteKind::Depthwise).then_some((index, site, constants))
    })
}

/// Output pixels of a site.
pub(crate) fn pixels(plan: &PlanView<'_>, index: usize) -> usize {
    let output = plan.site_tensors(Phase::Infer, index).and_then(|tensors| plan.tensor(tensors.output));
    output.map_or(0, |t| t.operand.shape.elements() / plan.site(index).map_or(1, |site| site.out.max(1)))
}

pub(crate) fn low_rank(site: &SiteDesc<'_>, rank: usize, rng: &mut Rng) -> TermSpec {
    let mut codes = |count: usize| (0..count).map(|_| rng.below(255) as u8 as i8).collect();
    TermSpec::TwoFactorI8 {
        rank,
        down: codes(rank * site.groups * site.row()),
        up: codes(rank * site.out),
        down_scale: vec![0.01; rank * site.groups],
        up_scale: vec![1e-4; site.out],
    }
}

/// One entry in a hundred, values that keep the weight within int8.
pub(crate) fn overlay(site: &SiteDesc<'_>, [weight, _]: [&[u8]; 2], rng: &mut Rng) -> TermSpec {
    let (mut indptr, mut indices, mut values) = (vec![0u32], Vec::new(), Vec::new());
    for (at, code) in weight.iter().enumerate() {
        if rng.below(100) == 0 {
            let code = i16::from(*code as i8);
            indices.push((at % site.row()) as u16);
            values.push((code + rng.below(21) as i16 - 10).clamp(-127, 127) - code);
        }
        if (at + 1) % site.row() == 0 {
            indptr.push(indices.len() as u32);
        }
    }
    TermSpec::SparseI16 { indptr, indices, values }
}

/// Another weight, nowhere larger so that sums still fit, with the base's bias.
pub(crate) fn fused(_: &SiteDesc<'_>, [weight, bias]: [&[u8]; 2], rng: &mut Rng) -> TermSpec {
    let moved = |code: &u8| {
        let code = *code as i8;
        code - if rng.below(2) == 0 { code.signum() } else { 0 }
    };
    let bias = bias.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    TermSpec::FusedI8 { weight: weight.iter().map(moved).collect(), bias: bias.collect() }
}
