//! Switches by the thousand: after each, the weights are those of the choice, proved by hash; nothing grows.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use ingraft::adapter::{Adapter, TermSource, UndoEntry};
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
    let entries = |adapter: &Adapter<'_>| -> usize {
        sites(&plan).filter_map(|(i, _)| Some(adapter.terms(i).sparse?.indices.len())).sum()
    };
    let last = sites(&plan).filter(|(i, _)| adapters[0].terms(*i).sparse.is_some()).last().expect("some").0;
    let needs = MemoryNeeds::new(&plan, Phase::Infer, target).expect("runs");
    let mut memory = AlignedBytes::zeroed(needs.total());
    let mut session = Session::bind(plan, Phase::Infer, target, memory.as_mut()).expect("binds");
    session.write_input(0, crate::support::as_bytes(&input(&plan, 3))).expect("fits");
    let mut room = AlignedBytes::zeroed(PatchedCopy::bytes(&session).expect("steps are known"));
    let mut log = vec![UndoEntry::default(); adapters.iter().map(entries).max().expect("three")];
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
