//! Methods cut to a number of trained values.

use ingraft_method::{METHODS, build};

use crate::CliError;
use crate::command::train::candidate::{Candidate, Terms, Trainee};
use crate::training;

/// The setting that a budget decides.
const RANK: &str = "rank";

/// The largest rank at which `candidate` trains at most `budget` values, the head's included; `None` for a method that
/// has no rank, or is given one.
///
/// # Errors
/// Why the method refuses a rank of 1; [`CliError::TooManyParameters`] where that is too many.
pub(super) fn rank(
    candidate: &Candidate<'_>,
    terms: &Terms<'_>,
    budget: usize,
) -> Result<Option<u32>, CliError> {
    let row = METHODS.iter().find(|row| row.name == candidate.name);
    let has_rank = row.is_some_and(|row| row.settings.iter().any(|setting| setting.name == RANK));
    if !has_rank || candidate.settings.iter().any(|(name, _)| *name == RANK) {
        return Ok(None);
    }
    check(trained(candidate, terms, 1)?, budget)?;
    let fits = |rank: u32| trained(candidate, terms, rank).is_ok_and(|trained| trained <= budget);
    let (mut low, mut high) = (1, 257);
    while high - low > 1 {
        let middle = u32::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    Ok(Some(low))
}

/// Refuses more than `budget` trained values.
pub(super) fn check(needed: usize, budget: usize) -> Result<(), CliError> {
    if needed > budget { Err(CliError::TooManyParameters { needed, budget }) } else { Ok(()) }
}

/// Values that `candidate` trains at this rank.
fn trained(candidate: &Candidate<'_>, terms: &Terms<'_>, rank: u32) -> Result<usize, CliError> {
    let rank = rank.to_string();
    let mut settings = candidate.settings.clone();
    settings.push((RANK, &rank));
    let method = build(candidate.name, &settings)?;
    let sites = training::sites(&terms.plan, terms.readout, &*method, terms.place.sites())?;
    let trainee = Trainee { method, sites, readout: terms.readout };
    let memory = terms.course_of(&trainee).memory(&terms.plan, terms.target)?;
    Ok(memory.parameters / size_of::<f32>())
}
