//! What an active adapter costs per inference, beside what arithmetic says it must, and what it costs to attach one.
//!
//! Low-rank factors, a sparse overlay of 1 % and fused weights on every 1×1 convolution of models of the development
//! data, on every target of the machine: as the file has them, and resident, packed for the target. Rounds alternate
//! between the base and its adapters, so that a machine that slows down slows all. Figures are the medians of each
//! round's shortest run: a run that another process interrupts says nothing about the kernels. Random parameters: the
//! time does not depend on them. `-- --json` prints the same as one JSON array, `--model NAME` measures one model, and
//! `--count CONTESTANT` is for `benches/instructions/callgrind`.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod floor;
mod made;

use core::time::Duration;
use std::fs;
use std::time::Instant;

use ingraft::adapter::{Adapter, Base, TermSource};
use ingraft::compile::{CompileOptions, ImportOptions, compile};
use ingraft::exec::{MemoryNeeds, PatchedCopy, Resident, Session};
use ingraft::kernel::{Host, Sites, Target};
use ingraft::plan::{Phase, PlanView};
use support::{AlignedBytes, SessionMemory};

/// Models and the rank of their factors.
const MODELS: &[(&str, usize)] =
    &[("mlperf_tiny_kws_dscnn_int8", 4), ("yamnet_audioset521_int8", 8), ("efficientnet_lite0_int8_qdq", 8)];
/// Rounds of each contestant, and how long one lasts.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(60);
/// What acts in a run.
const CONTESTANTS: [&str; 7] = [
    "base",
    "low_rank_resident",
    "low_rank",
    "overlay_resident",
    "overlay_patched",
    "overlay",
    "fused_resident",
];

fn main() {
    let Some(root) = support::data() else { return };
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let wanted = |stem: &str| after("--model").is_none_or(|model| stem.contains(model));
    let mut reports = Vec::new();
    for (stem, rank) in MODELS.iter().filter(|(stem, _)| wanted(stem)) {
        let onnx = fs::read(root.join(format!("models/onnx/{stem}.onnx"))).expect("the model is there");
        let import = ImportOptions { dims: [("N".to_owned(), 1)].into(), ..ImportOptions::default() };
        let options = CompileOptions { import, ..CompileOptions::default() };
        let compiled = compile(&onnx, &options).expect("the model compiles");
        let file = AlignedBytes::copy_of(&compiled.plan);
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        if let Some(name) = after("--count") {
            count(plan, *rank, name);
            continue;
        }
        for target in support::targets().into_iter().filter(|target| target.name() != "scalar") {
            reports.push(Report::measure(stem, *rank, plan, target));
        }
    }
    if arguments.iter().any(|argument| argument == "--json") {
        let objects: Vec<String> = reports.iter().map(Report::json).collect();
        println!("[{}]", objects.join(",\n"));
    } else if !reports.is_empty() {
        print(&reports);
    }
}

fn print(reports: &[Report]) {
    println!("Time with an adapter on every 1×1 convolution ÷ base; overlays of 1 %.\n");
    println!(
        "| model, target | base µs | rank: share of multiply-accumulates, of vector operations | factors resident | \
         as in file | overlay resident | patched copy | as in file | fused resident |"
    );
    println!("|{}", " --- |".repeat(9));
    reports.iter().for_each(Report::print_runs);
    println!("\nAn overlay of 1 % of every dense weight, in µs, the shortest of {ROUNDS}.\n");
    println!(
        "| model, target | entries | check file | write into patched copy after an inference | again at once | \
         take out | pack resident | resident kB |"
    );
    println!("|{}", " --- |".repeat(8));
    reports.iter().for_each(Report::print_attach);
}

/// Runs the contestant `name` once to warm up and once inside [`counted`]: for a tool that counts its instructions.
fn count(plan: PlanView<'_>, rank: usize, name: &str) {
    let target = support::native();
    if name == "closed" {
        let file = AlignedBytes::copy_of(&ingraft::plan::closed(&plan));
        let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
        contest(plan, &target, 0, |session, [base, ..]| {
            session.run(&base).expect("bound steps run");
            counted(session, base);
        });
        return;
    }
    let index =
        CONTESTANTS.iter().position(|contestant| *contestant == name).expect("a contestant or `closed`");
    contest(plan, &target, rank, |session, sources| {
        session.run(&sources[index]).expect("bound steps run");
        counted(session, sources[index]);
    });
}

/// One inference.
#[inline(never)]
fn counted(session: &mut Session<'_, '_, Host>, source: &dyn TermSource) {
    session.run(&source).expect("bound steps run");
}

struct Report {
    name: String,
    target: &'static str,
    rank: usize,
    /// Share of multiply-accumulates and of vector operations that the factors add.
    floors: [f64; 2],
    /// Seconds of one run of each contestant.
    runs: [f64; CONTESTANTS.len()],
    entries: usize,
    /// Seconds to check a file, to write it into a patched copy after an inference with another, and again at once, to
    /// take it out, to make it resident.
    attach: [f64; 5],
    resident_bytes: usize,
}

impl Report {
    fn measure(stem: &str, rank: usize, plan: PlanView<'_>, target: Host) -> Self {
        let floors = [floor::multiplications(&plan, rank), floor::operations(&plan, rank)];
        let runs = runs(plan, &target, rank);
        let (entries, attach, resident_bytes) = attach(plan, &target);
        let name = stem.to_owned();
        Self { name, target: target.name(), rank, floors, runs, entries, attach, resident_bytes }
    }

    fn print_runs(&self) {
        let [base, adapters @ ..] = &self.runs;
        let ratios: Vec<String> = adapters.iter().map(|time| format!("{:.3}", time / base)).collect();
        let [products, operations] = self.floors.map(|share| 100.0 * share);
        let rank = format!("{}: {products:.1} %, {operations:.1} %", self.rank);
        let Self { name, target, .. } = self;
        println!("| {name}, {target} | {:.1} | {rank} | {} |", base * 1e6, ratios.join(" | "));
    }

    fn print_attach(&self) {
        let times: Vec<String> = self.attach.iter().map(|time| format!("{:.0}", time * 1e6)).collect();
        let Self { name, target, entries, resident_bytes, .. } = self;
        println!("| {name}, {target} | {entries} | {} | {} |", times.join(" | "), resident_bytes / 1000);
    }

    fn json(&self) -> String {
        let runs =
            CONTESTANTS.iter().zip(self.runs).map(|(name, time)| format!("\"{name}_us\":{:.3}", time * 1e6));
        let [check, write, again, take_out, pack] = self.attach.map(|time| time * 1e6);
        format!(
            "{{\"model\":\"{}\",\"target\":\"{}\",\"rank\":{},{},\"entries\":{},\"check_us\":{check:.1},\
             \"patch_us\":{write:.1},\"patch_again_us\":{again:.1},\"unpatch_us\":{take_out:.1},\"pack_us\":{pack:.1}}}",
            self.name,
            self.target,
            self.rank,
            runs.collect::<Vec<_>>().join(","),
            self.entries,
        )
    }
}

/// The seconds of one run with each contestant.
fn runs(plan: PlanView<'_>, target: &Host, rank: usize) -> [f64; CONTESTANTS.len()] {
    let mut times = [const { Vec::new() }; CONTESTANTS.len()];
    contest(plan, target, rank, |session, sources| {
        for _ in 0..ROUNDS {
            for (times, source) in times.iter_mut().zip(sources) {
                times.push(round(|| session.run(&source).expect("bound steps run")));
            }
        }
    });
    times.map(median)
}

/// Calls `go` with a session and what is to act in its runs.
fn contest(
    plan: PlanView<'_>,
    target: &Host,
    rank: usize,
    go: impl FnOnce(&mut Session<'_, '_, Host>, [&dyn TermSource; CONTESTANTS.len()]),
) {
    let low_rank =
        made::adapter(&plan, false, |site, _, rng| (rank > 0).then(|| made::low_rank(site, rank, rng)));
    let overlay = made::adapter(&plan, false, |site, weight, rng| Some(made::overlay(site, weight, rng)));
    let fused = made::adapter(&plan, false, |site, weight, rng| Some(made::fused(site, weight, rng)));
    let [low_rank, overlay, fused] = [&low_rank, &overlay, &fused]
        .map(|file| Adapter::attach(file.as_slice(), &plan).expect("it belongs to this plan"));
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target).expect("the target runs every step");
    let mut memory = SessionMemory::zeroed(needs.total());
    let mut session =
        Session::bind(plan, Phase::Infer, target, memory.as_mut_slice()).expect("memory suffices");
    let mut memories = [low_rank, overlay, fused]
        .map(|adapter| SessionMemory::zeroed(Resident::bytes(&session, &adapter).expect("steps are known")));
    let [low_rank_memory, overlay_memory, fused_memory] = &mut memories;
    let resident = |adapter, memory| Resident::new(&session, adapter, memory).expect("memory suffices");
    let low_rank_resident = resident(low_rank, low_rank_memory.as_mut_slice());
    let overlay_resident = resident(overlay, overlay_memory.as_mut_slice());
    let fused_resident = resident(fused, fused_memory.as_mut_slice());
    let mut copy = SessionMemory::zeroed(PatchedCopy::bytes(&session).expect("steps are known"));
    let mut log = vec![0; PatchedCopy::log_words(&session, &overlay)];
    let mut copy = PatchedCopy::new(&session, copy.as_mut_slice(), &mut log).expect("memory suffices");
    let patched = copy.apply(&session, overlay).expect("the log suffices");
    let base = Base;
    let sources: [&dyn TermSource; CONTESTANTS.len()] =
        [&base, &low_rank_resident, &low_rank, &overlay_resident, &patched, &overlay, &fused_resident];
    go(&mut session, sources);
}

/// What attaching an overlay on all dense weights takes: entries, seconds, bytes of the resident form.
fn attach(plan: PlanView<'_>, target: &Host) -> (usize, [f64; 5], usize) {
    let file = made::adapter(&plan, true, |site, weight, rng| Some(made::overlay(site, weight, rng)));
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target).expect("the target runs every step");
    let mut memory = SessionMemory::zeroed(needs.total());
    let mut session =
        Session::bind(plan, Phase::Infer, target, memory.as_mut_slice()).expect("memory suffices");
    let checked = || Adapter::attach(file.as_slice(), &plan).expect("it belongs to this plan");
    let bytes = Resident::bytes(&session, &checked()).expect("steps are known");
    let mut resident = SessionMemory::zeroed(bytes);
    let mut copy = SessionMemory::zeroed(PatchedCopy::bytes(&session).expect("steps are known"));
    let entries = entries(&plan, &checked());
    let mut log = vec![0; PatchedCopy::log_words(&session, &checked())];
    let mut copy = PatchedCopy::new(&session, copy.as_mut_slice(), &mut log).expect("memory suffices");
    let mut times = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        let [check, write, again, take_out, pack] = &mut times;
        let mut adapter = checked();
        check.push(timed(|| adapter = checked()));
        pack.push(timed(|| {
            Resident::new(&session, adapter, resident.as_mut_slice()).expect("memory suffices");
        }));
        session.run(&copy.apply(&session, adapter).expect("the log suffices")).expect("bound steps run");
        copy.revert(&session).expect("the same session");
        session.run(&Base).expect("bound steps run");
        for times in [write, again] {
            times.push(timed(|| {
                copy.apply(&session, adapter).expect("the log suffices");
            }));
            take_out.push(timed(|| copy.revert(&session).expect("the same session")));
        }
    }
    (entries, times.map(|times| times.into_iter().fold(f64::INFINITY, f64::min)), bytes)
}

fn entries(plan: &PlanView<'_>, adapter: &Adapter<'_>) -> usize {
    (0..plan.site_count()).filter_map(|site| Some(adapter.terms(site).sparse?.indices.len())).sum()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn timed(call: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    call();
    begun.elapsed().as_secs_f64()
}

/// The seconds of the shortest call in a round.
fn round(mut call: impl FnMut()) -> f64 {
    let (start, mut shortest) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < ROUND {
        shortest = shortest.min(timed(&mut call));
    }
    shortest
}
