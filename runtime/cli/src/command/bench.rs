//! `ingraft bench`: how long one inference takes.
//!
//! Every session runs the same seeded input on a thread of its own, or shared by
//! the threads of a pool; the figures are over the runs of all sessions together.

use core::time::Duration;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use ingraft_adapter::Adapter;
use ingraft_exec::Silent;
use ingraft_plan::PlanView;
use ingraft_tensor::{DType, Rng, bytes};
use serde::Serialize;

use crate::args::runner_names;
use crate::backend::{Backend, Device};
use crate::input::InputSpec;
use crate::plan_file::ArtifactFile;
use crate::predict::{Memory, Predictor};
use crate::report::{self, Table};
use crate::target::run_on;
use crate::threads::ThreadsArg;
use crate::{CliError, Console, cost, target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan.
    #[arg(value_name = "BASE.plan")]
    plan: PathBuf,
    /// Run with this adapter.
    #[arg(long, value_name = "A.adapter")]
    adapter: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_name = "NAME", value_parser = runner_names(), default_value = target::NATIVE)]
    target: String,
    #[command(flatten)]
    threads: ThreadsArg,
    /// Sessions that run side by side.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    sessions: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `bench --json` prints.
#[derive(Debug, Serialize)]
struct BenchReport {
    /// Median time of one run in microseconds.
    median_us: f64,
    /// Shortest.
    min_us: f64,
    /// 99th percentile (nearest rank).
    p99_us: f64,
    /// Runs measured, after as many as fill a tenth of a second to warm up.
    runs: usize,
    /// Threads that share one inference.
    threads: u16,
    /// Sessions side by side.
    sessions: u16,
    /// The target's name.
    target: &'static str,
    /// The GPU with its driver, kernels and board; null on a processor.
    device: Option<Device>,
    /// The first inference of a session that was just bound; the shortest of all sessions.
    first_us: f64,
    /// Time of binding one session: checks and packing, of weights and of the adapter.
    bind_us: f64,
    /// Bytes all sessions need, by the exact account of `inspect`, with what is packed of the adapter; the plan itself is not in it.
    peak_bytes: usize,
    /// Bytes of the plan file, used in place.
    plan_bytes: usize,
    /// Multiply-accumulates of one run.
    macs: u64,
}

pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    run_on!(&args.target, args.threads => run_with(args, console))
}

fn run_with<T: Backend>(target: &T, args: &Args, console: &mut Console<'_>) -> Result<(), CliError> {
    let read = |path| ArtifactFile::read_for(target, path);
    let file = read(&args.plan)?;
    let plan = file.plan()?;
    let adapter_file = args.adapter.as_deref().map(read).transpose()?;
    let adapter = adapter_file.as_ref().map(|file| file.attach(&plan)).transpose()?;
    let measured = thread::scope(|scope| {
        let session = || measure(plan, target, adapter);
        let sessions: Vec<_> = (0..args.sessions).map(|_| scope.spawn(session)).collect();
        // A thread that panics is a defect: the panic is passed on as it is.
        let join =
            |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|p| resume_unwind(p));
        sessions.into_iter().map(join).collect::<Result<Vec<Measured>, CliError>>()
    })?;
    let first = measured.iter().map(|session| session.first).min().unwrap_or_default();
    let bind = measured.iter().map(|session| session.bind).min().unwrap_or_default();
    let peak = measured.iter().map(|session| session.bytes).fold(0, usize::saturating_add);
    let mut times: Vec<Duration> = measured.into_iter().flat_map(|session| session.runs).collect();
    times.sort_unstable();
    let bench = BenchReport {
        median_us: quantile(&times, 0.5),
        min_us: quantile(&times, 0.0),
        p99_us: quantile(&times, 0.99),
        runs: times.len(),
        threads: args.threads.threads,
        sessions: args.sessions,
        target: target.name(),
        device: target.device(),
        first_us: micros(first),
        bind_us: micros(bind),
        peak_bytes: peak,
        plan_bytes: file.bytes().len(),
        macs: cost::plan_macs(&plan),
    };
    if args.json { console.json(&bench) } else { console.line(table(&bench)) }
}

/// What one session took.
struct Measured {
    bytes: usize,
    bind: Duration,
    first: Duration,
    runs: Vec<Duration>,
}

fn measure<T: Backend>(
    plan: PlanView<'_>,
    target: &T,
    adapter: Option<Adapter<'_>>,
) -> Result<Measured, CliError> {
    let mut memory = Memory::new(&plan, target)?;
    let started = Instant::now();
    let mut predictor = Predictor::new(plan, target, adapter, &mut memory)?;
    let bind = started.elapsed();
    let inputs = seeded_inputs(&plan);
    let mut once = || {
        predictor.feed(&inputs)?;
        let started = Instant::now();
        predictor.infer(&mut Silent)?;
        Ok::<_, CliError>(started.elapsed())
    };
    let first = once()?;
    let started = Instant::now();
    while started.elapsed() < WARM_UP {
        once()?;
    }
    let started = Instant::now();
    let mut runs = Vec::new();
    let enough = |runs: usize| match started.elapsed() {
        elapsed if elapsed < MEASURE => runs >= MAX_RUNS,
        elapsed if elapsed < PATIENCE => runs >= MIN_RUNS,
        _ => runs > 0,
    };
    while !enough(runs.len()) {
        runs.push(once()?);
    }
    drop(predictor);
    Ok(Measured { bytes: memory.len(), bind, first, runs })
}

/// Values in ±1, codes of all sizes, and zeros for indices, which any table has.
pub(super) fn seeded_inputs(plan: &PlanView<'_>) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(0);
    let mut fill = |input: InputSpec<'_>| match input.dtype {
        DType::F32 => {
            let values: Vec<f32> = (0..input.elements()).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
            bytes::of(&values).to_vec()
        }
        DType::I8 | DType::U8 => (0..input.elements()).map(|_| rng.next_u64() as u8).collect(),
        _ => vec![0; input.bytes()],
    };
    InputSpec::all(plan).into_iter().map(&mut fill).collect()
}

/// Microseconds at quantile `q` of sorted `times`, by nearest rank.
fn quantile(times: &[Duration], q: f64) -> f64 {
    let rank = (q * times.len() as f64).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().map_or(0.0, micros)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn table(bench: &BenchReport) -> Table {
    let mut table = Table::new([
        "target",
        "threads",
        "sessions",
        "median us",
        "min us",
        "p99 us",
        "bind us",
        "memory",
        "MAC/s",
    ]);
    let rate = bench.macs as f64 / bench.median_us.max(f64::MIN_POSITIVE);
    table.row([
        bench.target.to_owned(),
        bench.threads.to_string(),
        bench.sessions.to_string(),
        format!("{:.1}", bench.median_us),
        format!("{:.1}", bench.min_us),
        format!("{:.1}", bench.p99_us),
        format!("{:.1}", bench.bind_us),
        report::bytes(bench.peak_bytes),
        format!("{:.2} G", rate / 1e3),
    ]);
    table
}

const WARM_UP: Duration = Duration::from_millis(100);
const MEASURE: Duration = Duration::from_secs(1);
/// Enough for a median where one run takes longer than a tenth of [`MEASURE`].
const MIN_RUNS: usize = 10;
/// When fewer have to do.
const PATIENCE: Duration = Duration::from_secs(20);
const MAX_RUNS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        let found = [0.0, 0.5, 0.99, 1.0].map(|q| quantile(&times, q).round());
        assert_eq!(found, [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
