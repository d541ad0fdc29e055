//! What an active adapter costs per inference, beside what arithmetic says it must.
//!
//! Low-rank factors and a sparse overlay of 1 % on every 1×1 convolution of models of the development data.
//! Rounds alternate between the base and its adapters, so that a machine that slows down slows all. Figures are the
//! medians of each round's shortest run: a run that another process interrupts says nothing about the kernels.
//! Random parameters: the time does not depend on them.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

use core::time::Duration;
use std::fs;
use std::time::Instant;

use ingraft::adapter::{Adapter, AdapterBuilder, AdapterFacts, TermSource, TermSpec};
use ingraft::compile::{CompileOptions, ImportOptions, compile};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{Place, SiteDesc, SiteKind, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::Rng;
use support::AlignedBytes;

/// Models and the rank of their factors.
const MODELS: &[(&str, usize)] =
    &[("mlperf_tiny_kws_dscnn_int8", 4), ("yamnet_audioset521_int8", 8), ("efficientnet_lite0_int8_qdq", 8)];
/// Rounds of each contestant, and how long one lasts.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(60);

fn main() {
    let Some(root) = support::data() else { return };
    println!("| model | base µs | rank | low-rank ÷ base | its multiply-accumulates | 1 % overlay ÷ base |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (stem, rank) in MODELS {
        let onnx = fs::read(root.join(format!("models/onnx/{stem}.onnx"))).expect("the model is there");
        let import = ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() };
        let options = CompileOptions { import, ..CompileOptions::default() };
        let compiled = compile(&onnx, &options).expect("the model compiles");
        let file = AlignedBytes::copy_of(&compiled.plan);
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        let low_rank = adapter(&plan, |site, _, rng| low_rank(site, *rank, rng));
        let overlay = adapter(&plan, |site, weight, rng| Some(overlay(site, weight, rng)));
        let [base, low_rank, overlay] = medians(plan, [None, Some(&low_rank), Some(&overlay)]);
        let share = 100.0 * added(&plan, *rank);
        println!(
            "| {stem} | {:.1} | {rank} | {:.3} | {share:.1} % | {:.3} |",
            base * 1e6,
            low_rank / base,
            overlay / base
        );
    }
}

/// An adapter with `term` of every site that is a 1×1 convolution.
fn adapter(
    plan: &PlanView<'_>,
    term: impl Fn(&SiteDesc<'_>, &[u8], &mut Rng) -> Option<TermSpec>,
) -> AlignedBytes {
    let (mut rng, mut builder) = (Rng::new(1), AdapterBuilder::new(plan));
    for (index, site, weight) in pointwise(plan) {
        if let Some(term) = term(&site, weight, &mut rng) {
            builder.term(index, &site, term);
        }
    }
    AlignedBytes::copy_of(&builder.finish(&AdapterFacts::default()))
}

/// The sites that are 1×1 convolutions over more than one pixel, with their weights.
fn pointwise<'a>(plan: &'a PlanView<'a>) -> impl Iterator<Item = (usize, SiteDesc<'a>, &'a [u8])> {
    (0..plan.site_count()).filter_map(|index| {
        let site = plan.site(index)?;
        let step = plan.step(Phase::Infer, plan.site_tensors(Phase::Infer, index)?.step as usize)?;
        let weight = plan.tensor(*step.inputs.get(1)?)?.operand;
        let Place::Plan(bytes) = weight.place else { return None };
        let wanted = site.kind != SiteKind::Depthwise && site.kernel == [1, 1] && pixels(plan, index) > 1;
        wanted.then_some((index, site, bytes))
    })
}

/// Output pixels of a site.
fn pixels(plan: &PlanView<'_>, index: usize) -> usize {
    let output = plan.site_tensors(Phase::Infer, index).and_then(|tensors| plan.tensor(tensors.output));
    output.map_or(0, |t| t.operand.shape.elements() / plan.site(index).map_or(1, |site| site.out.max(1)))
}

/// The multiply-accumulates that factors of `rank` add, as a part of all dense and depthwise ones.
fn added(plan: &PlanView<'_>, rank: usize) -> f64 {
    let all: usize = (0..plan.site_count())
        .filter_map(|i| plan.site(i).map(|site| site.out * site.row() * pixels(plan, i)))
        .sum();
    let terms = pointwise(plan).map(|(i, site, _)| rank * (site.row() + site.out) * pixels(plan, i));
    terms.sum::<usize>() as f64 / all as f64
}

fn low_rank(site: &SiteDesc<'_>, rank: usize, rng: &mut Rng) -> Option<TermSpec> {
    let mut codes = |count: usize| (0..count).map(|_| rng.below(255) as u8 as i8).collect();
    Some(TermSpec::TwoFactorI8 {
        rank,
        down: codes(rank * site.groups * site.row()),
        up: codes(rank * site.out),
        down_scale: vec![0.01; rank * site.groups],
        up_scale: vec![1e-4; site.out],
    })
}

/// One entry in a hundred, values that keep the weight within int8.
fn overlay(site: &SiteDesc<'_>, weight: &[u8], rng: &mut Rng) -> TermSpec {
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

/// The seconds of one run with each adapter.
fn medians<const N: usize>(plan: PlanView<'_>, files: [Option<&AlignedBytes>; N]) -> [f64; N] {
    let target = support::native();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("the target runs every step");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("memory suffices");
    let adapters = files.map(|file| {
        file.map(|file| Adapter::attach(file.as_slice(), &plan).expect("it belongs to this plan"))
    });
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (adapter, times) in adapters.iter().zip(&mut times) {
            times.push(round(|| run(&mut session, adapter)));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

fn run<S: TermSource>(session: &mut Session<'_, '_, ingraft::kernel::Host>, source: &S) {
    session.run(source).expect("bound steps run");
}

/// The seconds of the shortest call in a round.
fn round(mut call: impl FnMut()) -> f64 {
    let (start, mut shortest) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < ROUND {
        let begun = Instant::now();
        call();
        shortest = shortest.min(begun.elapsed().as_secs_f64());
    }
    shortest
}
