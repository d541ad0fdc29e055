//! Adapters made in code.

use ingraft::adapter::{AdapterBuilder, AdapterFacts, HeadSpec, Link, TermSpec};
use ingraft::kernel::attrs::{Attrs, QConvAttrs};
use ingraft::kernel::{Place, SiteDesc, SiteKind, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::bytes;
use ingraft::train::FrozenSite;

use crate::support::{AlignedBytes, Lcg};

/// Terms by site.
pub(crate) type Terms = Vec<(usize, TermSpec)>;

/// An adapter file with these terms.
pub(crate) fn adapter(plan: &PlanView<'_>, terms: &[(usize, TermSpec)]) -> AlignedBytes {
    let mut builder = AdapterBuilder::new(plan);
    for (index, term) in terms {
        builder.term(*index, &plan.site(*index).expect("the site exists"), term.clone());
    }
    AlignedBytes::copy_of(&builder.finish(&facts()))
}

/// An adapter file with a head on the default features.
pub(crate) fn head(plan: &PlanView<'_>, classes: usize, features: usize) -> AlignedBytes {
    let mut builder = AdapterBuilder::new(plan);
    builder.head(HeadSpec {
        site: None,
        pool: 0,
        weight: (0..classes * features).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect(),
        bias: (0..classes).map(|i| i as f32).collect(),
        labels: (0..classes).map(|i| format!("class {i}")).collect(),
        link: Link::Softmax,
    });
    AlignedBytes::copy_of(&builder.finish(&facts()))
}

pub(crate) fn facts() -> AdapterFacts {
    AdapterFacts { method: "built in a test".into(), ..AdapterFacts::default() }
}

/// The weight and bias of an int8 site as a fused term.
pub(crate) fn fused(plan: &PlanView<'_>, index: usize) -> TermSpec {
    let site = FrozenSite::new(plan, index).expect("the site has a weight");
    let (out, row) = (site.desc.out, site.desc.row());
    let mut weight = vec![0; out * row];
    for (channel, position) in (0..out).flat_map(|channel| (0..row).map(move |position| (channel, position)))
    {
        weight[site.offset(channel, position)] = site.code(channel, position).expect("an int8 site");
    }
    TermSpec::FusedI8 { weight, bias: (0..out).filter_map(|channel| site.bias(channel)).collect() }
}

/// The sites of a plan.
pub(crate) fn sites<'p>(plan: &'p PlanView<'_>) -> impl Iterator<Item = (usize, SiteDesc<'p>)> {
    (0..plan.site_count()).map(|i| (i, plan.site(i).expect("index is below the count")))
}

/// Every kind of term, with values that change nothing.
pub(crate) fn zero_terms(plan: &PlanView<'_>) -> Vec<(&'static str, Terms)> {
    let all = |make: &dyn Fn(&SiteDesc<'_>) -> Option<TermSpec>| -> Terms {
        sites(plan).filter_map(|(i, site)| Some((i, make(&site)?))).collect()
    };
    vec![
        ("no terms", Vec::new()),
        (
            "f32 factors with up = 0",
            all(&|s| {
                low_rank(s).then(|| TermSpec::TwoFactorF32 {
                    rank: 3,
                    down: vec![0.7; 3 * s.groups * s.row()],
                    up: vec![0.0; 3 * s.out],
                })
            }),
        ),
        (
            "int8 factors with up = 0",
            all(&|s| {
                low_rank(s).then(|| TermSpec::TwoFactorI8 {
                    rank: 2,
                    down: vec![5; 2 * s.groups * s.row()],
                    up: vec![0; 2 * s.out],
                    down_scale: vec![0.1; 2 * s.groups],
                    up_scale: vec![0.1; s.out],
                })
            }),
        ),
        ("the base's own weight, fused", sites(plan).map(|(index, _)| (index, fused(plan, index))).collect()),
        (
            "sparse without entries",
            all(&|s| {
                Some(TermSpec::SparseI16 { indptr: vec![0; s.out + 1], indices: vec![], values: vec![] })
            }),
        ),
        (
            "sparse with zeros",
            all(&|s| {
                Some(TermSpec::SparseI16 {
                    indptr: (0..=s.out as u32).collect(),
                    indices: vec![0; s.out],
                    values: vec![0; s.out],
                })
            }),
        ),
        (
            "scale 1 and shift 0",
            all(&|s| Some(TermSpec::Affine { scale: vec![1.0; s.out], shift: vec![0.0; s.out] })),
        ),
    ]
}

/// Whether a site takes low-rank factors.
pub(crate) fn low_rank(site: &SiteDesc<'_>) -> bool {
    site.kind != SiteKind::Depthwise
}

/// Integer factors, overlay and scale on every site that takes them.
pub(crate) fn random_terms(plan: &PlanView<'_>, seed: u64) -> Terms {
    let mut random = Lcg::new(seed.wrapping_add(100));
    let mut terms = Vec::new();
    for (index, site) in sites(plan) {
        if low_rank(&site) {
            terms.push((index, factors(&site, 2, &mut random)));
        }
        terms.push((index, overlay(&site, &mut random)));
        terms.push((index, affine(&site, &mut random)));
    }
    terms
}

/// Random integer factors whose product is a small delta.
pub(crate) fn factors(site: &SiteDesc<'_>, rank: usize, random: &mut Lcg) -> TermSpec {
    let mut codes = |count: usize| -> Vec<i8> { (0..count).map(|_| random.code() / 2).collect() };
    TermSpec::TwoFactorI8 {
        rank,
        down: codes(rank * site.groups * site.row()),
        up: codes(rank * site.out),
        down_scale: vec![0.02; rank * site.groups],
        up_scale: vec![2e-4; site.out],
    }
}

/// A random overlay: a few small deltas per channel.
pub(crate) fn overlay(site: &SiteDesc<'_>, random: &mut Lcg) -> TermSpec {
    let (mut indptr, mut indices, mut values) = (vec![0u32], Vec::new(), Vec::new());
    for _ in 0..site.out {
        let first = random.below(site.row());
        let second = first + 1 + random.below(site.row());
        for index in [first, second].into_iter().filter(|i| *i < site.row()) {
            indices.push(index as u16);
            values.push(random.below(9) as i16 - 4);
        }
        indptr.push(indices.len() as u32);
    }
    TermSpec::SparseI16 { indptr, indices, values }
}

/// A random scale near 1 and a small shift.
pub(crate) fn affine(site: &SiteDesc<'_>, random: &mut Lcg) -> TermSpec {
    TermSpec::Affine {
        scale: (0..site.out).map(|_| 0.9 + 0.2 * random.real()).collect(),
        shift: (0..site.out).map(|_| 0.1 * random.real() - 0.05).collect(),
    }
}

/// The constants of the step that applies a site: weight and bias.
pub(crate) fn constants(plan: &PlanView<'_>, site: usize) -> (Vec<i8>, Vec<i32>, i32) {
    let step = plan.site_tensors(Phase::Infer, site).expect("the site runs").step as usize;
    let resolved = plan.resolve(Phase::Infer, step).expect("the step resolves");
    let read = |i: usize| match resolved.input(i).expect("an operand").place {
        Place::Plan(data) => data,
        Place::Memory(_) => panic!("weights are constants"),
    };
    let attrs = QConvAttrs::read(resolved.attrs).expect("an integer site");
    let weight = bytes::cast::<i8>(read(1)).expect("codes");
    let bias = bytes::cast::<i32>(read(2)).expect("biases");
    (weight.to_vec(), bias.to_vec(), attrs.in_zero_point)
}

/// Deltas cut so that no patched code leaves int8.
pub(crate) fn clamped(term: TermSpec, site: &SiteDesc<'_>, weight: &[i8]) -> TermSpec {
    let TermSpec::SparseI16 { indptr, indices, mut values } = term else { return term };
    for channel in 0..site.out {
        for k in indptr[channel] as usize..indptr[channel + 1] as usize {
            let element = indices[k] as usize;
            let at =
                if low_rank(site) { channel * site.row() + element } else { element * site.out + channel };
            let code = i16::from(weight[at]);
            values[k] = (code + values[k]).clamp(-127, 127) - code;
        }
    }
    TermSpec::SparseI16 { indptr, indices, values }
}
