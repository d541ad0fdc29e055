//! What it costs to keep adapters resident and to change between them: attach, switch, the first run after.
//!
//! Switching must not depend on how many adapters are resident, and the run after a switch must cost what any
//! run costs: nothing is repacked.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

use core::hint::black_box;

use criterion::Criterion;
use ingraft::adapter::{AdapterBuilder, AdapterFacts, AdapterId, AdapterSet, TermSource, TermSpec};
use ingraft::exec::{MemoryNeeds, Session};
use ingraft::kernel::{SiteKind, Sites};
use ingraft::plan::{Phase, PlanView};
use ingraft::tensor::Rng;
use support::{AlignedBytes, as_bytes};

fn main() {
    let mut criterion = support::criterion();
    let file = support::built_in(None);
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let (first, second) = (low_rank(&plan, 1), low_rank(&plan, 2));
    println!("adapter: rank {RANK} on every dense site, {} bytes", first.as_slice().len());
    switch::<1>(&mut criterion, &plan, &first);
    switch::<10>(&mut criterion, &plan, &first);
    switch::<1000>(&mut criterion, &plan, &first);
    attach::<1>(&mut criterion, &plan, &first);
    attach::<1000>(&mut criterion, &plan, &first);
    run(&mut criterion, plan, &first, &second);
    criterion.final_summary();
}

/// Integer factors of rank [`RANK`] on every site that takes them.
fn low_rank(plan: &PlanView<'_>, seed: u64) -> AlignedBytes {
    let (mut rng, mut builder) = (Rng::new(seed), AdapterBuilder::new(plan));
    for index in 0..plan.site_count() {
        let site = plan.site(index).expect("index is below the count");
        if site.kind == SiteKind::Depthwise {
            continue;
        }
        let mut codes = |count: usize| (0..count).map(|_| rng.below(255) as u8 as i8).collect();
        let factors = TermSpec::TwoFactorI8 {
            rank: RANK,
            down: codes(RANK * site.groups * site.row()),
            up: codes(RANK * site.out),
            down_scale: vec![0.01; RANK * site.groups],
            up_scale: vec![1e-4; site.out],
        };
        builder.term(index, &site, factors);
    }
    AlignedBytes::copy_of(&builder.finish(&AdapterFacts::default()))
}

/// A set of `N` adapters, all resident, and their names.
fn full<'a, const N: usize>(
    plan: &PlanView<'_>,
    file: &'a AlignedBytes,
) -> (AdapterSet<'a, N>, Vec<AdapterId>) {
    let mut set = AdapterSet::new();
    let ids = (0..N).map(|_| set.attach(file.as_slice(), plan).expect("it belongs to this plan")).collect();
    (set, ids)
}

/// Makes another resident adapter the active one and looks it up, as a run does.
fn switch<const N: usize>(criterion: &mut Criterion, plan: &PlanView<'_>, file: &AlignedBytes) {
    let (mut set, ids) = full::<N>(plan, file);
    let mut turn = ids.iter().cycle();
    criterion.bench_function(&format!("switch/{N}"), |bencher| {
        bencher.iter(|| {
            set.switch(turn.next().copied()).expect("resident");
            black_box(set.active().map(|adapter| adapter.terms(0).is_none()))
        });
    });
}

/// Checks a file and makes it resident in the last free slot, then forgets it.
fn attach<const N: usize>(criterion: &mut Criterion, plan: &PlanView<'_>, file: &AlignedBytes) {
    let (mut set, ids) = full::<N>(plan, file);
    let mut last = *ids.last().expect("sets are not empty");
    criterion.bench_function(&format!("attach/{N}"), |bencher| {
        bencher.iter(|| {
            set.detach(last).expect("resident");
            last = set.attach(file.as_slice(), plan).expect("it belongs to this plan");
        });
    });
}

/// One inference: with the base, with the same adapter every time, and with the other one every time.
fn run(criterion: &mut Criterion, plan: PlanView<'_>, first: &AlignedBytes, second: &AlignedBytes) {
    let target = support::native();
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("the target runs every step");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("memory suffices");
    let patch = support::patch();
    session.write_input(0, as_bytes(&patch)).expect("the input has this length");
    let mut set = AdapterSet::<2>::new();
    let ids =
        [first, second].map(|file| set.attach(file.as_slice(), &plan).expect("it belongs to this plan"));
    for (name, turns) in
        [("base", [None; 2]), ("same adapter", [Some(ids[0]); 2]), ("other adapter", ids.map(Some))]
    {
        let mut turn = turns.into_iter().cycle();
        criterion.bench_function(&format!("run/{name}"), |bencher| {
            bencher.iter(|| {
                set.switch(turn.next().flatten()).expect("resident");
                session.run(&set.active()).expect("bound steps run");
            });
        });
    }
}

const RANK: usize = 8;
