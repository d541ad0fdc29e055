//! Switches by the thousand: after each, the weights are those of the choice, proved by hash; nothing grows.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::RwLock;
use std::time::Instant;

use ingraft::adapter::{Adapter, AdapterSet, TermSource};
use ingraft::exec::{MemoryNeeds, PatchedCopy, Session};
use ingraft::kernel::{Host, SiteTerms, Sparse, SparseValues};
use ingraft::plan::{Phase, PlanView};

use crate::build::{self, sites};
use crate::resident::overlays;
use crate::support::{AlignedBytes, Lcg};
use crate::targets::targets;
use crate::{base, input};

/// An adapter that goes wrong at its last overlay.
struct Failing<'a, 'f> {
    adapter: &'a Adapter<'f>,
    last: usize,
    panics: bool,
}

impl TermSource for Failing<'_, '_> {
    fn terms(&self, index: usize) -> SiteTerms<'_> {
        let terms = self.adapter.terms(index);
        if index != self.last {
            return terms;
        }
        if self.panics {
            // As a panic unwinds, without its message.
            resume_unwind(Box::new(()));
        }
        // Indices past every row: no file that was attached has them, and any other source may.
        let sparse = terms.sparse.map(|sparse| Sparse {
            indptr: sparse.indptr,
            indices: &INDICES[..sparse.indices.len()],
            values: SparseValues::I16(&VALUES[..sparse.indices.len()]),
        });
        SiteTerms { sparse, ..terms }
    }

    fn head(&self) -> Option<ingraft::adapter::HeadView<'_>> {
        None
    }
}

static INDICES: [u16; 1 << 16] = [u16::MAX; 1 << 16];
static VALUES: [i16; 1 << 16] = [1; 1 << 16];

#[test]
fn after_each_of_ten_thousand_random_switches_the_weights_are_those_of_the_choice() {
    let targets = targets();
    let fastest = targets.last().expect("the reference is one");
    switch_at_random(&Host::SCALAR, 1_000);
    let times = switch_at_random(fastest, 10_000);
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let quarter = times.len() / 4;
    let (first, last) = (median(&times[..quarter]), median(&times[times.len() - quarter..]));
    println!("a switch takes {first:?} among the first, {last:?} among the last of {}", times.len());
    assert!(
        last < first * 3 + Duration::from_micros(20),
        "switching became slower: {first:?}, then {last:?}"
    );
}

/// Switches and fails at random; gives the times of the switches that did not.
fn switch_at_random(target: &Host, count: usize) -> Vec<Duration> {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let files = [31, 32, 33].map(|seed| overlays(&plan, seed));
    let adapters = files.each_ref().map(|file| Adapter::attach(file.as_slice(), &plan).expect("it fits"));
    let last = sites(&plan).filter(|(i, _)| adapters[0].terms(*i).sparse.is_some()).last().expect("some").0;
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target).expect("runs");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, target, memory.as_mut()).expect("binds");
    session.write_input(0, crate::support::as_bytes(&input(&plan, 3))).expect("fits");
    let mut room = AlignedBytes::zeroed(PatchedCopy::bytes(&session).expect("steps are known"));
    let words = adapters.iter().map(|adapter| PatchedCopy::log_words(&session, adapter));
    let mut log = vec![0; words.max().expect("three")];
    let mut copy = PatchedCopy::new(&session, room.as_mut(), &mut log).expect("memory suffices");
    let untouched = blake3::hash(copy.bytes_of_copy());
    let mut known: [Option<blake3::Hash>; 3] = [None; 3];
    let mut random = Lcg::new(34);
    let mut times = Vec::with_capacity(count);
    for switch in 0..count {
        let choice = random.below(6);
        let adapter = &adapters[choice % 3];
        let wanted = match choice {
            0..3 => {
                let started = Instant::now();
                copy.apply(&session, adapter).expect("the log suffices");
                times.push(started.elapsed());
                *known[choice].get_or_insert_with(|| blake3::hash(copy.bytes_of_copy()))
            }
            3 => {
                copy.revert(&session).expect("the same session");
                untouched
            }
            4 => {
                let failing = Failing { adapter, last, panics: false };
                // An overlay that cannot be written stays out; those before it are in.
                let _ = copy.apply(&session, failing).map(drop);
                copy.revert(&session).expect("the same session");
                untouched
            }
            _ => {
                let failing = Failing { adapter, last, panics: true };
                let died = catch_unwind(AssertUnwindSafe(|| copy.apply(&session, failing).is_ok()));
                assert!(died.is_err(), "it was to panic");
                copy.revert(&session).expect("the same session");
                untouched
            }
        };
        assert!(blake3::hash(copy.bytes_of_copy()) == wanted, "{choice} after {switch} switches");
    }
    let mut different: Vec<_> = known.iter().map(|hash| hash.expect("each was chosen")).collect();
    different.push(untouched);
    different.sort_by_key(|hash| *hash.as_bytes());
    different.dedup();
    assert_eq!(different.len(), 4, "adapters differ from each other and from the base");
    times
}

/// A set that one thread switches as fast as it can, and others run from: every output is that of one choice, whole.
#[test]
fn threads_that_run_never_see_half_a_switch() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 41);
    let files = [42, 43].map(|seed| build::adapter(&plan, &build::random_terms(&plan, seed)));
    let mut set = AdapterSet::<2>::new();
    let ids = files.each_ref().map(|file| set.attach(file.as_slice(), &plan).expect("it fits"));
    let choices = [None, Some(ids[0]), Some(ids[1])];
    let target = targets().pop().expect("the reference is one");
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("runs").total();
    let run = |session: &mut Session<'_, '_, Host>, adapter: Option<Adapter<'_>>| {
        session.write_input(0, crate::support::as_bytes(&x)).expect("fits");
        session.run(&adapter).expect("runs");
        session.output(0).expect("one output").bytes().to_vec()
    };
    let mut memory = AlignedBytes::zeroed(needs);
    let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
    let outputs = choices.map(|choice| run(&mut session, choice.and_then(|id| set.find(id).copied())));
    assert!(outputs[0] != outputs[1] && outputs[1] != outputs[2] && outputs[0] != outputs[2]);
    let (set, done) = (RwLock::new(set), AtomicBool::new(false));
    let (mut switches, mut seen) = (0u32, [0u32; 3]);
    std::thread::scope(|scope| {
        let reader = || {
            let mut memory = AlignedBytes::zeroed(needs);
            let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
            let mut seen = [0u32; 3];
            for _ in 0..60 {
                // What is chosen now, for this run: the choice may change while it goes on.
                let active = set.read().expect("no thread panics").active().copied();
                let found = run(&mut session, active);
                let choice = outputs.iter().position(|output| *output == found);
                seen[choice.expect("the output of one choice")] += 1;
            }
            seen
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let writer = scope.spawn(|| {
            let (mut random, mut switches) = (Lcg::new(44), 0u32);
            while !done.load(Ordering::Relaxed) {
                let choice = choices[random.below(choices.len())];
                set.write().expect("no thread panics").switch(choice).expect("resident");
                switches = switches.wrapping_add(1);
                std::thread::yield_now();
            }
            switches
        });
        for reader in readers {
            let found = reader.join().expect("a reader");
            seen.iter_mut().zip(found).for_each(|(sum, count)| *sum += count);
        }
        done.store(true, Ordering::Relaxed);
        switches = writer.join().expect("the writer");
    });
    println!("{switches} switches beside 120 runs, by choice {seen:?}");
    assert!(switches > 0 && seen.iter().sum::<u32>() == 120, "{switches} switches, {seen:?}");
    assert!(seen.iter().filter(|count| **count > 0).count() > 1, "no switch fell between two runs: {seen:?}");
}
