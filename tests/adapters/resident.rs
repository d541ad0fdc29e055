//! Adapters packed for a target compute what they compute as files, and leave the base alone.

use ingraft::adapter::{Adapter, Base, TermSource, TermSpec};
use ingraft::exec::{ExecError, MemoryNeeds, PatchedCopy, Resident, Session};
use ingraft::kernel::{Host, Target};
use ingraft::plan::{Phase, PlanView};

use crate::build::{self, clamped, constants, sites};
use crate::support::{AlignedBytes, Lcg, as_bytes};
use crate::targets::targets;
use crate::{base, input};

/// An adapter of this kind of term on every site.
fn adapter(plan: &PlanView<'_>, kind: &str, seed: u64) -> AlignedBytes {
    let mut random = Lcg::new(seed);
    let term = |index: usize, site: &_| match kind {
        "overlay" => Some(clamped(build::overlay(site, &mut random), site, &constants(plan, index).0)),
        "fused" => {
            let TermSpec::FusedI8 { mut weight, bias } = build::fused(plan, index) else { return None };
            weight.iter_mut().step_by(7).for_each(|code| *code = code.saturating_sub(3));
            Some(TermSpec::FusedI8 { weight, bias })
        }
        _ => build::low_rank(site).then(|| build::factors(site, 5, &mut random)),
    };
    let mut term = term;
    let terms: Vec<_> = sites(plan).filter_map(|(i, site)| Some((i, term(i, &site)?))).collect();
    build::adapter(plan, &terms)
}

/// An adapter of overlays on every site.
pub(crate) fn overlays(plan: &PlanView<'_>, seed: u64) -> AlignedBytes {
    adapter(plan, "overlay", seed)
}

fn run<S: TermSource>(session: &mut Session<'_, '_, Host>, x: &[f32], source: &S) -> Vec<u8> {
    session.write_input(0, as_bytes(x)).expect("fits");
    session.run(source).expect("runs");
    session.output(0).expect("one output").bytes().to_vec()
}

#[test]
fn resident_adapters_compute_what_their_files_do() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 21);
    for target in targets() {
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("runs");
        let mut memory = AlignedBytes::zeroed(needs.total());
        let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
        let of_base = run(&mut session, &x, &Base);
        for kind in ["factors", "overlay", "fused"] {
            let file = adapter(&plan, kind, 22);
            let adapter = Adapter::attach(file.as_slice(), &plan).expect("it fits");
            let needed = Resident::bytes(&session, &adapter).expect("steps are known");
            let mut room = AlignedBytes::zeroed(needed);
            let less = Resident::new(&session, adapter, &mut room.as_mut()[..needed - 1]);
            assert_eq!(less.err(), Some(ExecError::MemoryTooSmall { needed, supplied: needed - 1 }));
            let resident = Resident::new(&session, adapter, room.as_mut()).expect("memory suffices");
            let wanted = run(&mut session, &x, &adapter);
            assert_ne!(wanted, of_base, "{kind}: the adapter does something");
            assert_eq!(run(&mut session, &x, &resident), wanted, "{}: {kind}", target.name());
            assert_eq!(run(&mut session, &x, &Base), of_base, "{}: base after {kind}", target.name());
        }
    }
}

#[test]
fn a_patched_copy_goes_from_one_adapter_to_the_next() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 23);
    let files = [24, 25].map(|seed| adapter(&plan, "overlay", seed));
    let adapters = files.each_ref().map(|file| Adapter::attach(file.as_slice(), &plan).expect("it fits"));
    for target in targets() {
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("runs");
        let mut memory = AlignedBytes::zeroed(needs.total());
        let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
        let wanted = adapters.map(|adapter| run(&mut session, &x, &adapter));
        let of_base = run(&mut session, &x, &Base);
        let mut room = AlignedBytes::zeroed(PatchedCopy::bytes(&session).expect("steps are known"));
        let words = adapters.each_ref().map(|adapter| PatchedCopy::log_words(&session, adapter));
        let mut log = vec![0; words[0].max(words[1])];
        let mut copy = PatchedCopy::new(&session, room.as_mut(), &mut log).expect("memory suffices");
        let untouched = copy.bytes_of_copy().to_vec();
        for turn in 0..10 {
            let patch = copy.apply(&session, adapters[turn % 2]).expect("the log suffices");
            assert_eq!(run(&mut session, &x, &patch), wanted[turn % 2], "{}: turn {turn}", target.name());
            assert_eq!(run(&mut session, &x, &Base), of_base, "{}: base, turn {turn}", target.name());
        }
        copy.revert(&session).expect("the same session");
        assert!(copy.bytes_of_copy() == untouched, "{}: the copy is the base's again", target.name());
        let mut short = vec![0; words[0] - 1];
        let mut copy = PatchedCopy::new(&session, room.as_mut(), &mut short).expect("memory suffices");
        let refused = copy.apply(&session, adapters[0]).err();
        assert_eq!(refused, Some(ExecError::LogTooSmall { needed: words[0], supplied: words[0] - 1 }));
    }
}

#[test]
fn a_file_that_is_refused_leaves_the_copy_and_the_adapter_in_it() {
    let file = base(1);
    let plan = PlanView::new(file.as_slice()).expect("valid");
    let x = input(&plan, 26);
    let (good, next) = (overlays(&plan, 27), overlays(&plan, 28));
    let adapter = Adapter::attach(good.as_slice(), &plan).expect("it fits");
    let with = |change: &dyn Fn(&mut [u16], &mut [i16])| {
        let mut random = Lcg::new(28);
        let terms = sites(&plan).map(|(index, site)| {
            let mut term = clamped(build::overlay(&site, &mut random), &site, &constants(&plan, index).0);
            if let TermSpec::SparseI16 { indices, values, .. } = &mut term {
                change(indices, values);
            }
            (index, term)
        });
        build::adapter(&plan, &terms.collect::<Vec<_>>())
    };
    let past = with(&|indices, _| indices[indices.len() - 1] = u16::MAX);
    let beyond = with(&|_, values| values[values.len() / 2] = 300);
    for target in targets() {
        let needs = MemoryNeeds::new(&plan, Phase::Infer, &target).expect("runs");
        let mut memory = AlignedBytes::zeroed(needs.total());
        let mut session = Session::bind(plan, Phase::Infer, &target, memory.as_mut()).expect("binds");
        let wanted = run(&mut session, &x, &adapter);
        let mut room = AlignedBytes::zeroed(PatchedCopy::bytes(&session).expect("steps are known"));
        let mut log = vec![0; PatchedCopy::log_words(&session, &adapter) * 2];
        let mut copy = PatchedCopy::new(&session, room.as_mut(), &mut log).expect("memory suffices");
        let untouched = copy.bytes_of_copy().to_vec();
        let patch = copy.apply(&session, adapter).expect("the log suffices");
        assert!(Adapter::attach(past.as_slice(), &plan).is_err(), "an entry past its row");
        for at in (0..next.as_slice().len()).step_by(211) {
            let mut wrong = AlignedBytes::copy_of(next.as_slice());
            wrong.as_mut()[at] ^= 4;
            assert!(Adapter::attach(wrong.as_slice(), &plan).is_err(), "byte {at} is wrong");
        }
        assert_eq!(run(&mut session, &x, &patch), wanted, "{}: it serves", target.name());
        let written = copy.bytes_of_copy().to_vec();
        assert_ne!(written, untouched);

        // Sums beyond int8 are no error of the file: such sites keep the base's weight, and the kernel adds the term.
        let adapter_beyond = Adapter::attach(beyond.as_slice(), &plan).expect("entries of any size");
        copy.apply(&session, adapter_beyond).expect("the log suffices");
        assert_eq!(copy.bytes_of_copy(), untouched, "{}: sums beyond int8", target.name());
        copy.apply(&session, adapter).expect("the log suffices");
        assert_eq!(copy.bytes_of_copy(), written, "{}: back again", target.name());
    }
}
