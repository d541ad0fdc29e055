//! The ONNX standard's backend node tests: each compiled to a float plan and run on the scalar reference.
//!
//! `node_tests.py` writes them into the folder that `INGRAFT_ONNX_NODES` names. A test of an operator that is
//! read passes, fails, or is refused with the typed error of the compiler, which never counts as passed.

mod case;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::PathBuf;

use case::{Case, EXPANDED, Verdict};
use ingraft::compile::onnx::operators;

/// Operators that are read but all of whose tests are refused, and why that is right.
const NO_TEST_TAKEN: &[(&str, &str)] = &[];

/// Whether a function is written out in operators that are not claimed: it is no test of those that are.
fn is_foreign(case: &Case, verdict: &Verdict) -> bool {
    let Verdict::Refused(reason) = verdict else { return false };
    case.operator == EXPANDED
        && (reason.ends_with("operator is not supported")
            || reason.ends_with("control flow is not supported"))
}

/// What became of the tests of one operator.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    /// How many tests were refused for each reason.
    refused: BTreeMap<String, usize>,
}

impl core::fmt::Display for Tally {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let refused: usize = self.refused.values().sum();
        write!(f, "{} | {} | {refused} |", self.passed, self.failed.len())?;
        let mut reasons = self.refused.iter();
        if let Some((reason, count)) = reasons.next() {
            write!(f, " {count} × {reason}")?;
        }
        reasons.try_for_each(|(reason, count)| write!(f, "; {count} × {reason}"))
    }
}

#[test]
fn claimed_operators_pass_the_standards_tests() {
    let Some(folder) = env::var_os("INGRAFT_ONNX_NODES").map(PathBuf::from) else {
        assert!(env::var_os("CI").is_none(), "INGRAFT_ONNX_NODES is not set: run tests/onnx/node_tests.py");
        eprintln!("skipped: no tests (set INGRAFT_ONNX_NODES, run tests/onnx/node_tests.py)");
        return;
    };
    let claimed: BTreeSet<&str> = operators().chain([EXPANDED]).collect();
    let (mut tallies, mut others) = (BTreeMap::<String, Tally>::new(), 0);
    for case in Case::list(&folder) {
        let verdict = case.run();
        if !claimed.contains(case.operator.as_str()) || is_foreign(&case, &verdict) {
            others += 1;
            continue;
        }
        let tally = tallies.entry(case.operator.clone()).or_default();
        match verdict {
            Verdict::Passed => tally.passed += 1,
            Verdict::Failed(reason) => tally.failed.push(format!("{}: {reason}", case.name)),
            Verdict::Refused(reason) => *tally.refused.entry(reason).or_default() += 1,
        }
    }
    println!("| operator | passed | failed | refused | why refused |\n|---|---|---|---|---|");
    tallies.iter().for_each(|(operator, tally)| println!("| {operator} | {tally} |"));
    let passed: usize = tallies.values().map(|tally| tally.passed).sum();
    let refused: usize = tallies.values().flat_map(|tally| tally.refused.values()).sum();
    let failed: Vec<&str> = tallies.values().flat_map(|tally| &tally.failed).map(String::as_str).collect();
    println!(
        "passed {passed}, failed {}, refused {refused}; {others} of operators not claimed",
        failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let untested = |(operator, tally): (&String, &Tally)| {
        let known = NO_TEST_TAKEN.iter().any(|(name, _)| name == operator);
        (tally.passed == 0 && !known).then(|| operator.clone())
    };
    let untested: Vec<String> = tallies.iter().filter_map(untested).collect();
    assert!(untested.is_empty(), "claimed, but every test is refused: {untested:?}");
}
