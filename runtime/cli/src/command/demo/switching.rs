//! Switching adapters thousands of times, and the proof that the base came through.

use core::time::Duration;
use std::time::Instant;

use ingraft_adapter::{AdapterId, AdapterSet, TermSource};
use ingraft_dataset::Rng;
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::{bytes, hash};

use super::Task;
use crate::CliError;
use crate::aligned::AlignedBytes;
use crate::plan_file::ArtifactFile;
use crate::report::{Table, bytes as byte_count, hex};
use crate::training::Trained;

/// One probe under one choice: the choice, and the bits it gave the first time.
struct Probe {
    name: String,
    choice: Option<AdapterId>,
    answer: Vec<u8>,
}

/// Switches at random between `adapters` and the base, running now and then, and compares every answer to the bit.
pub(super) fn prove(
    plan: PlanView<'_>,
    target: &Host,
    tasks: &[Task],
    adapters: &[Trained],
) -> Result<String, CliError> {
    let input = tasks
        .first()
        .and_then(|task| task.test.feeds.first()?.runs.first())
        .ok_or(CliError::NotAClassifier)?;
    let mut memory = AlignedBytes::zeroed(MemoryNeeds::new(&plan, Phase::Infer, target)?.total());
    let mut session = Session::bind(plan, Phase::Infer, target, memory.as_mut_slice())?;
    let files: Vec<ArtifactFile> =
        adapters.iter().map(|trained| ArtifactFile::from_bytes("adapter", &trained.bytes)).collect();
    let mut set = AdapterSet::<RESIDENT>::new();
    let mut probes = vec![Probe { name: "the base".to_owned(), choice: None, answer: Vec::new() }];
    for (task, file) in tasks.iter().zip(&files) {
        let choice = Some(set.attach(file.bytes(), &plan)?);
        probes.push(Probe { name: task.name.clone(), choice, answer: Vec::new() });
    }
    for probe in &mut probes {
        set.switch(probe.choice)?;
        probe.answer = answer(&mut session, &set, input)?;
    }
    let Race { runs, different, switching } = race(&mut session, &mut set, &probes, input)?;
    set.switch(None)?;
    let last = answer(&mut session, &set, input)?;
    let intact = PlanView::new(plan.bytes()).is_ok();
    let back = probes.first().is_some_and(|base| base.answer == last);
    if different != 0 || !back || !intact {
        return Err(CliError::NotTheBase { different, runs });
    }
    Ok(told(&probes, &last, switching, (runs, memory.as_slice().len())))
}

/// The proof in words.
fn told(probes: &[Probe], last: &[u8], switching: Duration, (runs, held): (usize, usize)) -> String {
    let mut table = Table::new(["active", "hash of the first output"]);
    for probe in probes {
        table.row([probe.name.clone(), short(&probe.answer)]);
    }
    table.row(["the base again".to_owned(), short(last)]);
    format!(
        "{table}\n\n{SWITCHES} random switches, {:.0} ns each; {runs} runs in between, every one as the first of its \
         adapter to the bit.\nThe base answers as before, its file still has its content hash, and the session still \
         holds {}.",
        switching.as_secs_f64() * 1e9 / SWITCHES as f64,
        byte_count(held)
    )
}

/// What random switching came to.
#[derive(Default)]
struct Race {
    /// Runs compared.
    runs: usize,
    /// Those that differed from the first of their adapter.
    different: usize,
    /// Time spent switching.
    switching: Duration,
}

/// Switches [`SWITCHES`] times and runs after every [`RUN_EVERY`]th.
fn race<'f>(
    session: &mut Session<'_, '_, Host>,
    set: &mut AdapterSet<'f, RESIDENT>,
    probes: &[Probe],
    input: &[Vec<u8>],
) -> Result<Race, CliError> {
    let (mut rng, mut race) = (Rng::new(0), Race::default());
    for _ in 0..SWITCHES / RUN_EVERY {
        let turns: [usize; RUN_EVERY] = core::array::from_fn(|_| rng.below(probes.len()));
        let started = Instant::now();
        for probe in turns.into_iter().filter_map(|turn| probes.get(turn)) {
            set.switch(probe.choice)?;
        }
        race.switching += started.elapsed();
        let active = turns.last().and_then(|&turn| probes.get(turn));
        let given = answer(session, set, input)?;
        race.runs += 1;
        race.different += usize::from(active.is_none_or(|probe| probe.answer != given));
    }
    Ok(race)
}

/// The bits of the first output under the active adapter.
fn answer(
    session: &mut Session<'_, '_, Host>,
    set: &AdapterSet<'_, RESIDENT>,
    input: &[Vec<u8>],
) -> Result<Vec<u8>, CliError> {
    for (index, bytes) in input.iter().enumerate() {
        session.write_input(index, bytes)?;
    }
    let active = set.active();
    session.run(&active)?;
    if let Some(head) = active.and_then(TermSource::head) {
        let mut logits = vec![0.0f32; head.classes];
        // The adapter was attached, so the plan has room for its classes.
        let _ = session.read_logits(0, &mut logits);
        return Ok(bytes::of(&logits).to_vec());
    }
    let output = session.output(0).map(|view| view.bytes().to_vec());
    output.ok_or(CliError::NotAClassifier)
}

fn short(answer: &[u8]) -> String {
    hex(hash::blake3(answer).get(..8).unwrap_or(&[]))
}

const RESIDENT: usize = 4;
const SWITCHES: usize = 10_000;
const RUN_EVERY: usize = 50;
