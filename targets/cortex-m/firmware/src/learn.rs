//! Training a head from stored clips, the same code on the host and on the device: the build script learns in the
//! laboratory what the firmware then learns on the spot, and knows to the bit what must come of it.

use ingraft_adapter::{EncodeError, Encoder, FileFacts, HeadView};
use ingraft_kernel::{Host, NO_SITE};
use ingraft_method::Head;
use ingraft_plan::PlanView;
use ingraft_tensor::bytes;
use ingraft_train::{
    AdamW, Clip, LearningRate, Loss, Moves, Readout, Schedule, Setup, TrainError, Trainer, Truth,
};

/// Passes over the clips, each one step of the optimizer.
const STEPS: usize = 60;

/// Why nothing was learned.
#[derive(Clone, Copy, Debug)]
pub enum LearnError {
    /// The trainer refused.
    Train(TrainError),
    /// The adapter was not written.
    Encode(EncodeError),
    /// The room for features is too small: [`features_len`] values of each clip are needed.
    Room,
}

impl From<TrainError> for LearnError {
    fn from(error: TrainError) -> Self {
        Self::Train(error)
    }
}

/// A clip as it is stored: codes of the model's input, and the class that was heard.
#[derive(Clone, Copy, Debug)]
pub struct Example<'e> {
    /// One code per value of the input.
    pub codes: &'e [i8],
    /// The class.
    pub class: usize,
}

/// What codes stand for: `scale · (code − zero_point)`.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// Real value of one step.
    pub scale: f32,
    /// Code of real zero.
    pub zero_point: i32,
}

impl Codes {
    /// Writes the values of `codes` to `values`.
    pub fn read(self, codes: &[i8], values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            *value = (i32::from(*code) - self.zero_point) as f32 * self.scale;
        }
    }
}

/// The first of the largest.
pub fn largest(logits: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, logit) in logits.iter().enumerate() {
        if *logit > best.1 {
            best = (class, *logit);
        }
    }
    best.0
}

/// What training works in beside the trainer's memory.
#[derive(Debug)]
pub struct Room<'r> {
    /// One input of the model.
    pub input: &'r mut [f32],
    /// The features of every clip; afterwards of no meaning.
    pub features: &'r mut [f32],
}

/// A head of `classes` on the features of the last layer, by AdamW on the mean of all clips.
pub fn setup(classes: u32) -> Setup<'static> {
    Setup {
        method: &Head,
        sites: &[],
        readout: Readout::Head { site: NO_SITE, pool: 0, classes },
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: &AdamW::DEFAULT,
        adapter: LearningRate { rate: 0.0, weight_decay: 0.0 },
        head: LearningRate { rate: 3e-2, weight_decay: 0.01 },
        moves: Moves::PLAIN,
        schedule: Schedule::CONSTANT,
        clip_norm: None,
        seed: 1,
    }
}

/// Bytes that the trainer of `classes` classes needs on `target`.
///
/// # Errors
/// [`TrainError`]: the plan has no room for such a head.
pub fn memory(plan: &PlanView<'_>, target: &Host, classes: u32) -> Result<usize, TrainError> {
    Trainer::memory(plan, target, &setup(classes)).map(|memory| memory.total())
}

/// Trains a head on `examples` and writes it to `file` as an adapter of the plan; gives the adapter.
///
/// Each clip is run once: its features stand for it from then on.
///
/// # Errors
/// [`LearnError`].
pub fn learn<'e, 'f>(
    (plan, target): (PlanView<'_>, &Host),
    examples: impl Iterator<Item = Example<'e>> + Clone,
    (codes, labels): (Codes, &str),
    memory: &mut [u8],
    room: Room<'_>,
    file: &'f mut [u8],
) -> Result<&'f [u8], LearnError> {
    let classes = labels.lines().count();
    let mut trainer = Trainer::bind(plan, target, setup(classes as u32), memory)?;
    let width = trainer.feature_count().max(1);
    let mut slots = room.features.chunks_exact_mut(width);
    for example in examples.clone() {
        codes.read(example.codes, room.input);
        let slot = slots.next().ok_or(LearnError::Room)?;
        trainer.features(Clip::Inputs(bytes::of(room.input)), slot)?;
        trainer.observe(Clip::Features(slot))?;
    }
    trainer.standardize();
    for _ in 0..STEPS {
        for (example, features) in examples.clone().zip(room.features.chunks_exact(width)) {
            trainer.accumulate(Clip::Features(features), Truth::Class(example.class))?;
        }
        trainer.step()?;
    }
    let head = trainer.head().ok_or(LearnError::Room)?;
    // The features have done their work: the weights that act on raw ones take their place.
    let (weight, rest) = room.features.split_at_mut_checked(head.weight.len()).ok_or(LearnError::Room)?;
    let bias = rest.get_mut(..head.bias.len()).ok_or(LearnError::Room)?;
    head.fold(weight, bias).ok_or(LearnError::Room)?;
    let link = trainer.setup().loss.link();
    let head = HeadView { site: NO_SITE, pool: 0, classes, weight, bias, labels, link };
    let facts =
        FileFacts { method: "head", method_version: 1, hyper: "", provenance: "trained on the device" };
    Encoder::new(&plan, &head, facts).write(file).map_err(LearnError::Encode)
}
