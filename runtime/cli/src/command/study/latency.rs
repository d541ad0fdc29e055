//! What an adapter adds to the time of an inference.

use core::time::Duration;
use std::time::Instant;

use ingraft_adapter::Adapter;
use ingraft_exec::Silent;
use ingraft_plan::PlanView;

use crate::CliError;
use crate::backend::Backend;
use crate::command::bench::seeded_inputs;
use crate::predict::{Memory, Predictor};

/// Times of one inference, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    /// With the adapter: the shortest, which other work of the machine disturbs least.
    pub(super) adapter_us: f64,
    /// Without: the shortest of the runs in between.
    base_us: f64,
}

impl Latency {
    /// Runs `plan` with and without `adapter` in turns, so that what else the machine does falls on both.
    pub(super) fn measure<T: Backend>(
        plan: PlanView<'_>,
        target: &T,
        adapter: Adapter<'_>,
    ) -> Result<Self, CliError> {
        let (mut first, mut second) = (Memory::new(&plan, target)?, Memory::new(&plan, target)?);
        let mut base = Predictor::new(plan, target, None, &mut first)?;
        let mut adapted = Predictor::new(plan, target, Some(adapter), &mut second)?;
        let inputs = seeded_inputs(&plan);
        let once = |predictor: &mut Predictor<'_, '_, T>| {
            predictor.feed(&inputs)?;
            let started = Instant::now();
            predictor.infer(&mut Silent)?;
            Ok::<_, CliError>(started.elapsed())
        };
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let started = Instant::now();
        while started.elapsed() < MEASURE || with.len() < MIN_RUNS {
            without.push(once(&mut base)?);
            with.push(once(&mut adapted)?);
        }
        Ok(Self { adapter_us: shortest(&with), base_us: shortest(&without) })
    }

    /// The adapter's time over the base's, less 1.
    pub(super) fn overhead(&self) -> f64 {
        self.adapter_us / self.base_us.max(f64::MIN_POSITIVE) - 1.0
    }
}

fn shortest(times: &[Duration]) -> f64 {
    times.iter().min().map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

const MEASURE: Duration = Duration::from_millis(300);
const MIN_RUNS: usize = 50;
