//! Watching single steps: where time goes, and what every tensor holds.

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ingraft_dataset::{Array, write_npy};
use ingraft_exec::{StepEvent, Trace};
use ingraft_kernel::{Place, Target};
use ingraft_plan::PlanView;
use ingraft_tensor::QParams;
use serde::Serialize;

use crate::backend::Backend;
use crate::{CliError, cost};

/// One step of a profile, as `run --profile --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepProfile {
    /// Index of the step.
    pub(crate) step: usize,
    /// Plan operator.
    pub(crate) op: &'static str,
    /// ONNX node.
    pub(crate) node: String,
    /// The kernel that ran it.
    pub(crate) kernel: &'static str,
    /// Shape of the first output.
    pub(crate) shape: Vec<u32>,
    /// Multiply-accumulates of one run.
    pub(crate) macs: u64,
    /// Bytes read and written in one run, constants included.
    pub(crate) bytes: u64,
    /// Mean time of one run in microseconds.
    pub(crate) time_us: f64,
}

/// Watches runs for `--profile` and `--dump`.
#[derive(Debug)]
pub(crate) struct Watch<'a, T> {
    target: &'a T,
    profile: Option<Profile>,
    dump: Option<Dump<'a>>,
}

#[derive(Debug)]
struct Profile {
    steps: Vec<Timing>,
    started: Instant,
}

#[derive(Debug)]
struct Timing {
    step: StepProfile,
    total: Duration,
    runs: u32,
}

#[derive(Debug)]
struct Dump<'a> {
    plan: PlanView<'a>,
    folder: PathBuf,
    runs: usize,
    tensors: Vec<DumpedTensor>,
    failed: Option<CliError>,
}

/// One line of a dump's `tensors.json`.
#[derive(Clone, Debug, Serialize)]
struct DumpedTensor {
    step: usize,
    op: &'static str,
    node: String,
    tensor: String,
    file: String,
    /// The file with real values, where the tensor holds codes.
    real: Option<String>,
    scale: Option<f32>,
    zero_point: Option<i32>,
}

impl<'a, T: Backend> Watch<'a, T> {
    /// Watches for what is asked for.
    pub(crate) fn new(plan: PlanView<'a>, target: &'a T, profile: bool, dump: Option<&Path>) -> Self {
        let profile = profile.then(|| Profile { steps: Vec::new(), started: Instant::now() });
        let dump = dump.map(|folder| Dump {
            plan,
            folder: folder.to_path_buf(),
            runs: 0,
            tensors: Vec::new(),
            failed: None,
        });
        Self { target, profile, dump }
    }

    /// Writes the list of dumped tensors and gives the profile.
    ///
    /// # Errors
    /// The first file that could not be written.
    pub(crate) fn finish(self) -> Result<Option<Vec<StepProfile>>, CliError> {
        if let Some(dump) = self.dump {
            dump.finish()?;
        }
        Ok(self.profile.map(Profile::finish))
    }
}

impl<T: Backend> Trace<T::Memory> for Watch<'_, T> {
    fn watches(&self) -> bool {
        self.profile.is_some() || self.dump.is_some()
    }

    fn before(&mut self, _: StepEvent<'_, '_>) {
        if let Some(profile) = &mut self.profile {
            profile.started = Instant::now();
        }
    }

    fn after(&mut self, event: StepEvent<'_, '_>, memory: &T::Memory) {
        if let Some(profile) = &mut self.profile {
            // A failure is told again where the run ends.
            let _ = self.target.wait();
            profile.count(self.target, event, profile.started.elapsed());
        }
        if let Some(dump) = &mut self.dump
            && dump.failed.is_none()
        {
            dump.failed = dump.step(self.target, event, memory).err();
        }
    }
}

impl Profile {
    fn count(&mut self, target: &impl Target, event: StepEvent<'_, '_>, elapsed: Duration) {
        if let Some(timing) = self.steps.iter_mut().find(|timing| timing.step.step == event.index) {
            timing.total += elapsed;
            timing.runs += 1;
            return;
        }
        let step = StepProfile {
            step: event.index,
            op: event.view.op.name(),
            node: event.view.name.to_owned(),
            kernel: target.kernel_name(event.step).unwrap_or("none"),
            shape: event.step.outputs().first().map_or(Vec::new(), |output| output.shape.dims().to_vec()),
            macs: cost::macs(event.step),
            bytes: cost::bytes(event.step),
            time_us: 0.0,
        };
        self.steps.push(Timing { step, total: elapsed, runs: 1 });
    }

    fn finish(self) -> Vec<StepProfile> {
        let mean = |timing: Timing| {
            let time_us = timing.total.as_secs_f64() * 1e6 / f64::from(timing.runs);
            StepProfile { time_us, ..timing.step }
        };
        self.steps.into_iter().map(mean).collect()
    }
}

impl Dump<'_> {
    fn step<T: Target>(
        &mut self,
        target: &T,
        event: StepEvent<'_, '_>,
        memory: &T::Memory,
    ) -> Result<(), CliError> {
        if event.index == 0 {
            self.runs += 1;
        }
        let run = format!("run{:04}", self.runs.saturating_sub(1));
        let folder = self.folder.join(&run);
        fs::create_dir_all(&folder).map_err(|source| CliError::io(&folder, source))?;
        for (&tensor, operand) in event.view.outputs.iter().zip(event.step.outputs()) {
            let (Some(view), Place::Memory(span)) = (self.plan.tensor(tensor), operand.place) else {
                continue;
            };
            let shape: Vec<usize> = operand.shape.dims().iter().map(|&extent| extent as usize).collect();
            let mut bytes = vec![0; span.len];
            if target.read(memory, span.offset, &mut bytes).is_none() {
                continue;
            }
            let Some(codes) = Array::new(operand.dtype, shape, bytes) else { continue };
            let stem = format!("{run}/{:04}_{}", event.index, file_name(view.name));
            let mut dumped = DumpedTensor {
                step: event.index,
                op: event.view.op.name(),
                node: event.view.name.to_owned(),
                tensor: view.name.to_owned(),
                file: format!("{stem}.npy"),
                real: None,
                scale: None,
                zero_point: None,
            };
            write_npy(&self.folder.join(&dumped.file), &codes)?;
            if let Some((qparams, reals)) =
                view.qparams.and_then(|qparams| Some((qparams, reals(&codes, qparams)?)))
            {
                let file = format!("{stem}_real.npy");
                write_npy(&self.folder.join(&file), &reals)?;
                (dumped.real, dumped.scale) = (Some(file), Some(qparams.scale));
                dumped.zero_point = Some(qparams.zero_point);
            }
            self.tensors.push(dumped);
        }
        Ok(())
    }

    fn finish(self) -> Result<(), CliError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let path = self.folder.join("tensors.json");
        let text =
            serde_json::to_string_pretty(&self.tensors).map_err(|error| CliError::io(&path, error.into()))?;
        fs::write(&path, text).map_err(|source| CliError::io(&path, source))
    }
}

/// What int8 codes stand for; `None` for other arrays.
fn reals(codes: &Array, qparams: QParams) -> Option<Array> {
    let reals: Vec<f32> = codes.to_vec::<i8>()?.iter().map(|&code| qparams.dequantize(code)).collect();
    Array::from_values(codes.shape(), &reals)
}

/// `name` as a file name anywhere: other characters than letters, digits, `.`, `-` and `_` become `_`.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    name.chars().map(safe).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe() {
        assert_eq!(file_name("model/conv1:0"), "model_conv1_0");
        assert_eq!(file_name("../ü"), "..__");
        assert_eq!(file_name(&"x".repeat(300)).len(), 100);
    }
}
