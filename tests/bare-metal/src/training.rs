//! A small training run, the same code on the host and on the device: two sounds
//! are synthesized, pass the plan's front end, and train low-rank terms and a head.

use core::fmt;

use ingraft_kernel::{Host, NO_SITE, Sites};
use ingraft_method::{DepthwiseTerm, Lora};
use ingraft_plan::PlanView;
use ingraft_signal::{FrontEnd, Recipe, SignalError};
use ingraft_tensor::bytes::{self, align_up};
use ingraft_tensor::hash::{HASH_BYTES, blake3};
use ingraft_train::{
    AdamW, Clip, LearningRate, Loss, Moves, Readout, Schedule, Setup, TrainError, Trainer, Truth,
};

/// What a run ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Hash of the front end's patches.
    pub patches: [u8; HASH_BYTES],
    /// Hash of the trained parameters.
    pub parameters: [u8; HASH_BYTES],
}

/// Why a run failed.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// The plan has no front end.
    NoFrontEnd,
    /// The memory does not hold what the front end needs.
    Memory,
    /// The front end refused.
    Signal(SignalError),
    /// The trainer refused.
    Train(TrainError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrontEnd => f.write_str("the plan has no front end"),
            Self::Memory => f.write_str("the memory is too small for the front end"),
            Self::Signal(error) => error.fmt(f),
            Self::Train(error) => error.fmt(f),
        }
    }
}

const CLASSES: u32 = 2;
const STEPS: usize = 2;
/// Samples of a synthesized sound.
const SAMPLES: usize = 15_600;
const SITES: usize = 64;

const METHOD: Lora = Lora { rank: 4, alpha: 4.0, rank_stabilized: false, depthwise: DepthwiseTerm::Scale };

/// Bytes a run on `target` needs on `plan`: patches, then first the front end and later the trainer.
///
/// # Errors
/// The first [`Failure`].
pub fn memory(plan: &PlanView<'_>, target: &Host) -> Result<usize, Failure> {
    let recipe = recipe(plan)?;
    let mut sites = [0; SITES];
    let setup = setup(late(plan, &mut sites));
    let trainer = Trainer::memory(plan, target, &setup).map_err(Failure::Train)?;
    let tables = recipe.memory_len().saturating_mul(size_of::<f32>());
    let front_end = align_up(sound_bytes()).saturating_add(align_up(tables));
    Ok(align_up(patches_bytes(&recipe)).saturating_add(front_end.max(trainer.total())))
}

/// Trains on `target` in `memory`, which starts at a 16-byte boundary.
///
/// # Errors
/// The first [`Failure`].
pub fn train(plan: PlanView<'_>, target: &Host, memory: &mut [u8]) -> Result<Learned, Failure> {
    let recipe = recipe(&plan)?;
    let (patches, rest) = split(memory, patches_bytes(&recipe))?;
    patch_sounds(&recipe, patches, rest)?;
    let mut sites = [0; SITES];
    let setup = setup(late(&plan, &mut sites));
    let mut trainer = Trainer::bind(plan, target, setup, rest).map_err(Failure::Train)?;
    let clips = || patches.chunks_exact(patch_bytes(&recipe).max(1)).map(Clip::Inputs);
    for clip in clips() {
        trainer.observe(clip).map_err(Failure::Train)?;
    }
    trainer.standardize();
    for _ in 0..STEPS {
        for (class, clip) in clips().enumerate() {
            trainer.accumulate(clip, Truth::Class(class)).map_err(Failure::Train)?;
        }
        trainer.step().map_err(Failure::Train)?;
    }
    Ok(Learned { patches: blake3(patches), parameters: blake3(bytes::of(trainer.fetched().values())) })
}

/// Writes one patch per class, of a sound that only integer arithmetic makes.
fn patch_sounds(recipe: &Recipe, patches: &mut [u8], memory: &mut [u8]) -> Result<(), Failure> {
    let (sound, rest) = split(memory, sound_bytes())?;
    let sound = bytes::cast_mut::<i16>(sound).ok_or(Failure::Memory)?;
    let (tables, _) = split(rest, recipe.memory_len().saturating_mul(size_of::<f32>()))?;
    let tables = bytes::cast_mut(tables).ok_or(Failure::Memory)?;
    let mut front_end = FrontEnd::bind(recipe, tables).map_err(Failure::Signal)?;
    for (class, patch) in patches.chunks_exact_mut(patch_bytes(recipe).max(1)).enumerate() {
        synthesize(class, sound);
        let patch = bytes::cast_mut(patch).ok_or(Failure::Memory)?;
        front_end.patch(sound, patch).map_err(Failure::Signal)?;
    }
    Ok(())
}

/// A square wave whose pitch tells the class, under noise.
fn synthesize(class: usize, sound: &mut [i16]) {
    let half_period = 20 << class;
    let mut noise = 1u32;
    for (index, sample) in sound.iter_mut().enumerate() {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let tone = if (index / half_period).is_multiple_of(2) { 6_000 } else { -6_000 };
        *sample = tone + ((noise >> 20) as i16 - 2_048);
    }
}

fn setup(sites: &[u32]) -> Setup<'_> {
    Setup {
        method: &METHOD,
        sites,
        readout: Readout::Head { site: NO_SITE, pool: 0, classes: CLASSES },
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: &AdamW::DEFAULT,
        adapter: LearningRate { rate: 1e-3, weight_decay: 0.01 },
        head: LearningRate { rate: 1e-2, weight_decay: 0.01 },
        moves: Moves::PLAIN,
        schedule: Schedule::CONSTANT,
        clip_norm: Some(1.0),
        seed: 7,
    }
}

/// The sites of the late part, in `sites`.
fn late<'s>(plan: &PlanView<'_>, sites: &'s mut [u32; SITES]) -> &'s [u32] {
    let mut count = 0;
    let late = (0..plan.site_count()).filter(|site| plan.site_is_late(*site));
    for (slot, site) in sites.iter_mut().zip(late) {
        *slot = site as u32;
        count += 1;
    }
    sites.get(..count).unwrap_or(&[])
}

fn recipe(plan: &PlanView<'_>) -> Result<Recipe, Failure> {
    let input = plan.inputs().next().ok_or(Failure::NoFrontEnd)?;
    Recipe::from_words(input.recipe).ok_or(Failure::NoFrontEnd)
}

fn patch_bytes(recipe: &Recipe) -> usize {
    recipe.out_len().saturating_mul(size_of::<f32>())
}

fn patches_bytes(recipe: &Recipe) -> usize {
    patch_bytes(recipe).saturating_mul(CLASSES as usize)
}

fn sound_bytes() -> usize {
    SAMPLES * size_of::<i16>()
}

fn split(memory: &mut [u8], len: usize) -> Result<(&mut [u8], &mut [u8]), Failure> {
    let (taken, rest) = memory.split_at_mut_checked(align_up(len)).ok_or(Failure::Memory)?;
    Ok((taken.get_mut(..len).ok_or(Failure::Memory)?, rest))
}
