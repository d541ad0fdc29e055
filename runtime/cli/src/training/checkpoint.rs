//! A training run on disk, between two epochs.
//!
//! Layout, little-endian: magic, number of the next epoch, the state of early stopping, the count and values of the
//! best parameters so far, the trainer's own checkpoint, and the BLAKE3 hash of all that.

use std::fs;
use std::path::PathBuf;

use ingraft_kernel::Target;
use ingraft_tensor::hash::{HASH_BYTES, blake3};
use ingraft_train::{EarlyStop, TrainError, Trainer};

use crate::CliError;
use crate::plan_file::write_whole;

const MAGIC: &[u8; 8] = b"INGRCKP1";

/// Where a run is kept, and whether one that is there is gone on with.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) resume: bool,
}

/// A run between two epochs.
#[derive(Debug)]
pub(super) struct Saved {
    /// The next epoch.
    pub(super) epoch: u32,
    pub(super) stop: EarlyStop,
    /// The best parameters so far.
    pub(super) best: Vec<f32>,
}

impl Checkpoint {
    /// Puts the run on disk, whole or not at all.
    pub(super) fn write<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        saved: &Saved,
    ) -> Result<(), CliError> {
        let mut file = MAGIC.to_vec();
        file.extend(saved.epoch.to_le_bytes());
        file.extend(saved.stop.to_words().iter().flat_map(|word| word.to_le_bytes()));
        file.extend((saved.best.len() as u32).to_le_bytes());
        file.extend(saved.best.iter().flat_map(|value| value.to_le_bytes()));
        let start = file.len();
        file.resize(start + trainer.checkpoint_bytes(), 0);
        trainer.save(file.get_mut(start..).unwrap_or_default())?;
        file.extend(blake3(&file));
        write_whole(&self.path, &file)
    }

    /// The run on disk, which `trainer` then goes on with; `None` where there is none or none is wanted.
    ///
    /// # Errors
    /// [`CliError::Train`] for a damaged file or that of another run.
    pub(super) fn read<T: Target>(
        &self,
        trainer: &mut Trainer<'_, '_, T>,
        stop: EarlyStop,
    ) -> Result<Option<Saved>, CliError> {
        if !self.resume || !self.path.exists() {
            return Ok(None);
        }
        let file = fs::read(&self.path).map_err(|source| CliError::io(&self.path, source))?;
        let (epoch, words, best, rest) = parse(&file).ok_or(TrainError::Damaged)?;
        trainer.resume(rest)?;
        Ok(Some(Saved { epoch, stop: stop.resumed(words), best }))
    }
}

/// Epoch, early stopping, best parameters, and the trainer's part.
type Parts<'a> = (u32, [u32; 4], Vec<f32>, &'a [u8]);

fn parse(file: &[u8]) -> Option<Parts<'_>> {
    let (content, hash) = file.split_at_checked(file.len().checked_sub(HASH_BYTES)?)?;
    (blake3(content) == hash).then_some(())?;
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut word = || {
        let (word, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(u32::from_le_bytes(*word))
    };
    let epoch = word()?;
    let words = [word()?, word()?, word()?, word()?];
    let count = word()? as usize;
    let (best, trainer) = rest.split_at_checked(count.checked_mul(4)?)?;
    let best = best.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Some((epoch, words, best, trainer))
}
