//! Learning what is normal, the same code on the host and on the device: an adapter of rank 2 on the first and the last
//! layer of an autoencoder is trained until windows of a machine in good order come back as they are. What does not come
//! back is out of order.

use ingraft_adapter::{EncodeError, Encoder, FileFacts};
use ingraft_kernel::{Host, Sites};
use ingraft_method::{DepthwiseTerm, Lora};
use ingraft_plan::PlanView;
use ingraft_tensor::bytes;
use ingraft_train::{
    AdamW, Clip, LearningRate, Loss, Moves, Readout, Schedule, Setup, TrainError, Trainer, Truth,
};

use crate::learn::Codes;

/// Passes over the windows.
const PASSES: usize = 8;
/// Windows a step of the optimizer.
const BATCH: usize = 5;
/// Deviations of a window's error above its mean at which a clip is out of order.
const DEVIATIONS: f32 = 1.0;

/// Why nothing was learned.
#[derive(Clone, Copy, Debug)]
pub enum NormalError {
    /// The trainer refused.
    Train(TrainError),
    /// The adapter was not written.
    Encode(EncodeError),
}

impl From<TrainError> for NormalError {
    fn from(error: TrainError) -> Self {
        Self::Train(error)
    }
}

/// Low-rank terms of the layers that meet the sensor: what comes in, and what is to come back.
const METHOD: Lora = Lora { rank: 2, alpha: 2.0, rank_stabilized: false, depthwise: DepthwiseTerm::Skip };

/// The first and the last site of `plan`.
fn ends(plan: &PlanView<'_>) -> [u32; 2] {
    [0, plan.site_count().saturating_sub(1) as u32]
}

/// Factors at `sites`, by AdamW on the squared error of what comes back.
fn setup(sites: &[u32; 2]) -> Setup<'_> {
    Setup {
        method: &METHOD,
        sites,
        readout: Readout::Logits,
        loss: Loss::MeanSquaredError,
        optimizer: &AdamW::DEFAULT,
        adapter: LearningRate { rate: 1e-2, weight_decay: 0.0 },
        head: LearningRate { rate: 0.0, weight_decay: 0.0 },
        moves: Moves::PLAIN,
        schedule: Schedule::CONSTANT,
        clip_norm: None,
        seed: 1,
    }
}

/// Bytes that the trainer needs on `target`.
///
/// # Errors
/// [`TrainError`]: the plan has no training schedule.
pub fn memory(plan: &PlanView<'_>, target: &Host) -> Result<usize, TrainError> {
    Trainer::memory(plan, target, &setup(&ends(plan))).map(|memory| memory.total())
}

/// Trains on `windows`, codes of a machine in good order, and writes what was learned to `file` as an adapter of the plan;
/// gives the adapter. `input` has room for a window.
///
/// # Errors
/// [`NormalError`].
pub fn learn<'w, 'f>(
    (plan, target): (PlanView<'_>, &Host),
    windows: impl Iterator<Item = &'w [i8]> + Clone,
    codes: Codes,
    memory: &mut [u8],
    input: &mut [f32],
    file: &'f mut [u8],
) -> Result<&'f [u8], NormalError> {
    let sites = ends(&plan);
    let mut trainer = Trainer::bind(plan, target, setup(&sites), memory)?;
    for _ in 0..PASSES {
        for (index, window) in windows.clone().enumerate() {
            codes.read(window, input);
            trainer.accumulate(Clip::Inputs(bytes::of(input)), Truth::Values(input))?;
            if index % BATCH == BATCH - 1 {
                trainer.step()?;
            }
        }
    }
    let facts =
        FileFacts { method: "lora", method_version: 1, hyper: "", provenance: "trained on the device" };
    Encoder::new(trainer.plan(), trainer.fetched(), facts).write(file).map_err(NormalError::Encode)
}

/// The mean squared error of what came back of `input`.
pub fn error(input: &[f32], back: &[f32]) -> f32 {
    let sum: f32 = input.iter().zip(back).map(|(value, back)| (value - back) * (value - back)).sum();
    sum / input.len().max(1) as f32
}

/// Above which error a clip is out of order, from the errors of windows in good order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    count: f32,
    sum: f32,
    squares: f32,
}

impl Limit {
    /// Takes notice of the error of a window.
    pub fn observe(&mut self, error: f32) {
        self.count += 1.0;
        self.sum += error;
        self.squares += error * error;
    }

    /// The limit: the mean and a deviation.
    pub fn value(&self) -> f32 {
        let mean = self.sum / self.count.max(1.0);
        let variance = self.squares / self.count.max(1.0) - mean * mean;
        mean + DEVIATIONS * libm::sqrtf(variance.max(0.0))
    }
}
