//! Every method against the independent NumPy implementation of its record: parameters, effective weights and
//! biases, gradients and choices of `tests/golden/methods/records/records.json`.
//!
//! [`table`] says, in a line per method, how a case's hyper-parameters are settings here. A method of the list whose
//! cases are not all consumed or accounted for fails; `cargo test --test records -- --nocapture` prints the count.

mod case;
mod net;
mod subject;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use ingraft_kernel::OpCode;
use ingraft_kernel::elementwise::UnaryFn;
use ingraft_method::{METHODS, MeasureError, Score};

use case::Case;
use subject::Subject;
use table::{Entry, Start, TABLE};

#[test]
fn every_case_of_every_method_computes_the_same() {
    let cases = case::read();
    let mut tally = Tally::default();
    for case in &cases {
        let entries = TABLE.iter().filter(|entry| entry.record == case.method);
        let listed: Vec<_> = entries.filter(|entry| METHODS.iter().any(|m| m.name == entry.method)).collect();
        if listed.is_empty() {
            tally.strangers.insert(case.method.clone());
        }
        for entry in listed {
            tally.take(entry, case);
        }
    }
    let without = METHODS.iter().map(|row| row.name);
    let without: Vec<_> = without.filter(|name| TABLE.iter().all(|entry| entry.method != *name)).collect();
    let unseen = without.iter().filter(|name| cases.iter().any(|case| case.method == **name));
    tally.failures.extend(unseen.map(|name| format!("{name} has cases and no line in the table")));
    tally.print(cases.len(), &without);
    assert!(tally.failures.is_empty(), "{}:\n{}", tally.failures.len(), tally.failures.join("\n"));
}

#[test]
fn synflow_refuses_a_step_that_is_neither_a_sum_nor_an_activation() {
    let cases = case::read();
    let case = cases.iter().find(|case| case.hyper.get("score").is_some_and(|score| score == "synflow"));
    let case = case.expect("the records have a case of it");
    let refused = net::measured(case, subject::site(case), Score::SynFlow, UnaryFn::Exp).unwrap_err();
    assert_eq!(refused, MeasureError::Flow { step: "bend".to_string(), op: OpCode::Unary });
    let said = "score=synflow is not defined here: node bend (Unary) is neither a sum nor an activation";
    assert!(refused.to_string().starts_with(said), "{refused}");
    // What is measured by gradients alone does not mind.
    assert!(net::measured(case, subject::site(case), Score::Grasp, UnaryFn::Exp).is_ok());
}

/// What became of the cases.
#[derive(Default)]
struct Tally {
    consumed: BTreeMap<&'static str, usize>,
    /// Cases of forms that the method does not offer, and why.
    apart: Vec<String>,
    /// Methods of the records that the list does not have.
    strangers: BTreeSet<String>,
    failures: Vec<String>,
}

impl Tally {
    fn take(&mut self, entry: &Entry, case: &Case) {
        let settings = match (entry.settings)(case) {
            Ok(settings) => settings,
            Err(reason) => return self.apart.push(format!("{}: {reason}", case.title())),
        };
        let failures = Subject::new(entry, case, &settings).map_or_else(|e| vec![e], |s| s.compare());
        self.failures.extend(failures.iter().map(|failure| format!("{}: {failure}", case.title())));
        let listed =
            METHODS.iter().any(|row| row.name == entry.method && row.starts_as_base == case.starts_as_base);
        if !listed && entry.start == Start::Same {
            self.failures.push(format!("{}: starts as the base: {}", case.title(), case.starts_as_base));
        }
        *self.consumed.entry(entry.method).or_default() += 1;
    }

    fn print(&self, total: usize, without: &[&str]) {
        let consumed: usize = self.consumed.values().sum();
        println!("{consumed} of {total} cases, of {} methods, are compared", self.consumed.len());
        println!("{} are of forms not offered:\n  {}", self.apart.len(), self.apart.join("\n  "));
        println!("methods of the list without a case: {without:?}");
        println!("methods of the records that are not in the list: {:?}", self.strangers);
    }
}
