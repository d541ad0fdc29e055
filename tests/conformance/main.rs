//! Every row of every target's table against the scalar reference, and the
//! reference of the convolutions against naive sums.
//!
//! A new row is tested by being listed in its table; an operator without cases
//! fails by name.
#![forbid(unsafe_code)]

#[path = "../support/cases.rs"]
#[allow(dead_code, reason = "this suite uses a part")]
mod cases;
mod descent;
mod naive;
#[path = "../support/targets.rs"]
mod targets;

use core::cell::Cell;
use std::collections::BTreeSet;

use ingraft::kernel::{Host, Job, Kernel, KernelError, OpCode, Parallel, REFERENCE, Target, Workers};

use cases::{Case, Outcome, Tolerance, Values};

/// The targets of this machine, and the loops of those for microcontrollers on one kind of host: plain Rust shows nothing
/// new in an emulator.
fn targets() -> Vec<Host> {
    let whole =
        if cfg!(target_arch = "x86_64") { targets::with_microcontrollers() } else { targets::targets() };
    whole.into_iter().chain(targets::halves()).collect()
}

/// How far `row` may be from the reference in `case`.
fn tolerance(row: &Kernel, case: &Case) -> Tolerance {
    if row.name.ends_with("__fp16") { Tolerance::Half } else { case.tolerance }
}

/// Every operator in a table of any target.
fn operators() -> BTreeSet<OpCode> {
    targets().iter().flat_map(|target| rows(target).map(|row| row.op)).collect()
}

fn rows(target: &Host) -> impl Iterator<Item = &'static Kernel> + use<> {
    target.tables().to_vec().into_iter().flatten()
}

fn reference(case: &Case) -> Option<Outcome> {
    let row = REFERENCE.iter().find(|row| case.suits(row))?;
    Some(case.run(row).unwrap_or_else(|error| panic!("{}: {}: {error}", case.name, row.name)))
}

#[test]
fn every_operator_has_cases_and_a_reference() {
    let mut missing = Vec::new();
    for op in operators() {
        match cases::of(op) {
            None => missing.push(format!("{op}: no cases")),
            Some(cases) => {
                let refused = cases.iter().filter(|case| !REFERENCE.iter().any(|row| case.suits(row)));
                missing
                    .extend(refused.map(|case| format!("{}: no row of the reference takes it", case.name)));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_row_agrees_with_the_reference() {
    let mut failures = Vec::new();
    for op in operators() {
        let cases = cases::of(op).unwrap_or_default();
        let wanted: Vec<Option<Outcome>> = cases.iter().map(reference).collect();
        for row in targets().iter().flat_map(rows).filter(|row| row.op == op) {
            let mut taken = 0;
            for (case, want) in cases.iter().zip(&wanted).filter(|(case, _)| case.suits(row)) {
                taken += 1;
                let Some(want) = want else { continue };
                let difference = match case.run(row) {
                    Ok(have) => have.difference(want, tolerance(row, case)),
                    Err(error) => Some(error.to_string()),
                };
                failures.extend(
                    difference.map(|difference| format!("{}: {}: {difference}", row.name, case.name)),
                );
            }
            if taken == 0 {
                failures.push(format!("{}: takes no case", row.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Rows without the reference behind them: the same bytes, or a refusal of terms that only the reference computes.
#[test]
fn lean_rows_agree_or_refuse() {
    use ingraft_cortex_m::{dsp_rows, helium_rows, portable_rows};
    let lean = [
        portable_rows::QCONV_LEAN,
        portable_rows::QCONV_F32_LEAN,
        portable_rows::QDEPTHWISE_LEAN,
        dsp_rows::QCONV_LEAN,
        dsp_rows::QCONV_F32_LEAN,
        dsp_rows::QDEPTHWISE_LEAN,
        helium_rows::QCONV_LEAN,
        helium_rows::QCONV_F32_LEAN,
        helium_rows::QDEPTHWISE_LEAN,
    ];
    for row in &lean {
        let (mut computed, mut refused) = (0, 0);
        for case in cases::of(row.op).unwrap_or_default().iter().filter(|case| case.suits(row)) {
            let terms = case.terms.site();
            let beyond = terms.two_factor.is_some_and(|term| {
                term.rank > 16 || matches!(term.factors, ingraft::kernel::Factors::F32 { .. })
            });
            match case.run(row) {
                Ok(have) => {
                    computed += 1;
                    assert!(!terms.has_delta() && !beyond, "{}: {}: terms were dropped", row.name, case.name);
                    let want = reference(case).expect("the reference computes what a faster row does");
                    assert_eq!(have.difference(&want, case.tolerance), None, "{}: {}", row.name, case.name);
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error, KernelError::Terms(row.op), "{}: {}", row.name, case.name);
                    assert!(terms.has_delta() || beyond, "{}: {}: refused", row.name, case.name);
                }
            }
        }
        assert!(computed > 10 && refused > 0, "{}: {computed} computed, {refused} refused", row.name);
    }
}

#[test]
fn the_reference_of_convolutions_agrees_with_naive_sums() {
    let mut failures = Vec::new();
    for op in [OpCode::Conv, OpCode::Depthwise, OpCode::QConv, OpCode::QDepthwise] {
        for case in cases::of(op).unwrap_or_default() {
            let outcome = reference(&case).unwrap_or_else(|| panic!("{}: no reference", case.name));
            failures.extend(naive::difference(&case, &outcome).map(|d| format!("{}: {d}", case.name)));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// `family_types__isa`, once per target.
#[test]
fn row_names_follow_the_grammar() {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    for target in targets() {
        let mut seen = BTreeSet::new();
        for name in rows(&target).map(|row| row.name) {
            let formed =
                name.rsplit_once("__").is_some_and(|(what, isa)| what.split('_').all(word) && word(isa));
            assert!(formed, "{name} is not a family, types and an instruction set");
            assert!(seen.insert(name), "{name} is listed twice");
        }
    }
}

/// Through a target, in one block of memory, as in a session.
#[test]
fn targets_run_every_case_as_their_rows_do() {
    let mut failures = Vec::new();
    for (target, op) in
        targets().iter().flat_map(|target| operators().into_iter().map(move |op| (target, op)))
    {
        for case in cases::of(op).unwrap_or_default() {
            let row =
                rows(target).find(|row| case.suits(row)).unwrap_or_else(|| panic!("{}: no row", case.name));
            let difference = match (case.run_on(target), case.run(row)) {
                (Ok(have), Ok(want)) => have.difference(&want, Tolerance::Exact),
                (have, want) => Some(format!("{:?}, its row {:?}", have.err(), want.err())),
            };
            failures.extend(difference.map(|d| format!("{}: {}: {d}", target.name(), case.name)));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Terms packed beforehand are the same terms, whole and in bands; the integer ones without a step of difference.
#[test]
fn packed_terms_change_nothing() {
    let (mut failures, mut packed, mut patched) = (Vec::new(), 0, 0);
    for (target, op) in
        targets().iter().flat_map(|target| [OpCode::QConv, OpCode::QDepthwise].map(|op| (target, op)))
    {
        let workers = Backwards { count: 3, done: Cell::new(0) };
        let parallel = Parallel::new(*target, &workers).with_grain(1);
        for case in cases::of(op).unwrap_or_default() {
            let overlay = matches!(case.terms.sparse.as_ref().map(|s| &s.values), Some(Values::Integer(_)));
            let want = case.run_on(target);
            for have in [case.run_packed(target), case.run_packed(&parallel)] {
                let difference = match (have, &want) {
                    (Ok(have), Ok(want)) => have.difference(want, Tolerance::Exact),
                    // Only deltas that leave int8 cannot be packed.
                    (Err(KernelError::Terms(_)), Ok(_)) if overlay && !case.name.ends_with("fitted") => {
                        continue;
                    }
                    (have, want) => Some(format!("{:?}, unpacked {:?}", have.err(), want.as_ref().err())),
                };
                failures.extend(difference.map(|d| format!("{}: {}: {d}", target.name(), case.name)));
                packed += 1;
            }
            if overlay && case.name.ends_with("fitted") && case.terms.patched.is_none() {
                let done = case.patches_to_the_bit(target);
                let wrong = done != Ok(true);
                failures.extend(wrong.then(|| format!("{}: {}: {done:?}", target.name(), case.name)));
                patched += 1;
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert!(packed > 100 && patched > 10, "{packed} packed, {patched} patched");
}

/// A gradient written over the one it is computed from is the one written beside it: by the reference to the bit, and
/// by rows that add up in another order within their tolerance.
#[test]
fn gradients_in_place_are_those_beside() {
    let (mut failures, mut ran) = (Vec::new(), BTreeSet::new());
    for (target, op) in
        targets().iter().flat_map(|target| operators().into_iter().map(move |op| (target, op)))
    {
        let tolerance = if target.name() == "scalar" { Tolerance::Exact } else { Tolerance::Real };
        for mut case in cases::of(op).unwrap_or_default().into_iter().filter(Case::fits_in_place) {
            case.accumulate = 0;
            ran.insert(op);
            let difference = match (case.run_in_place_on(target), case.run_on(target)) {
                (Ok(have), Ok(want)) => have.difference(&want, tolerance),
                (have, want) => Some(format!("{:?}, beside it {:?}", have.err(), want.err())),
            };
            failures.extend(difference.map(|d| format!("{}: {}: {d}", target.name(), case.name)));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    let wanted = [
        OpCode::ConvBackward,
        OpCode::DepthwiseBackward,
        OpCode::AddBackward,
        OpCode::LookupBackward,
        OpCode::UnaryBackward,
    ];
    assert!(ran.iter().eq(&wanted), "{ran:?}");
}

/// Workers one after the other, the last job first.
struct Backwards {
    count: usize,
    /// Jobs done so far.
    done: Cell<usize>,
}

impl Workers for Backwards {
    fn count(&self) -> usize {
        self.count
    }

    fn run(&self, jobs: &mut [Job<'_>]) {
        self.done.set(self.done.get() + jobs.len());
        jobs.iter_mut().rev().for_each(Job::run);
    }
}

/// A step shared by workers gives what it gives whole, to the bit.
#[test]
fn bands_make_the_whole() {
    let (mut failures, mut shared) = (Vec::new(), BTreeSet::new());
    let targets = targets();
    for (target, count) in targets.iter().flat_map(|target| [2, 3, 16].map(|count| (target, count))) {
        let workers = Backwards { count, done: Cell::new(0) };
        let parallel = Parallel::new(*target, &workers).with_grain(1);
        for (op, case) in operators()
            .into_iter()
            .flat_map(|op| cases::of(op).unwrap_or_default().into_iter().map(move |case| (op, case)))
        {
            let before = workers.done.get();
            let difference = match (case.run_on(&parallel), case.run_on(target)) {
                (Ok(have), Ok(want)) => have.difference(&want, Tolerance::Exact),
                (have, want) => Some(format!("{:?}, alone {:?}", have.err(), want.err())),
            };
            failures.extend(difference.map(|d| format!("{} by {count}: {}: {d}", target.name(), case.name)));
            let done = workers.done.get() - before;
            assert!(done == 0 || done == case.share_count(&parallel), "{}: {done} jobs", case.name);
            if done > 0 {
                shared.insert(op.name());
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    println!("shared: {}", shared.iter().copied().collect::<Vec<_>>().join(", "));
    for op in
        [OpCode::QConv, OpCode::QDepthwise, OpCode::Conv, OpCode::Depthwise, OpCode::QAdd, OpCode::QPool]
    {
        assert!(shared.contains(op.name()), "no case of {op} is shared");
    }
}

/// A target's own rows come before the ones it inherits.
#[test]
fn targets_prefer_their_own_rows() {
    for target in targets() {
        let own = target.tables()[0];
        for case in own.iter().flat_map(|row| cases::of(row.op).unwrap_or_default()) {
            if let Some(row) = own.iter().find(|row| case.suits(row)) {
                assert_eq!(case.chosen_by(&target), Ok(row.name), "{}", case.name);
            }
        }
    }
}
