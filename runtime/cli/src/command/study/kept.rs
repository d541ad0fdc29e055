//! Runs kept in a folder: a study that was stopped goes on, and one made on several machines comes together.
//!
//! A run is a file named by its method and by a hash of everything it depends on, so none is ever taken for another's, and
//! studies that differ in their methods, seeds or folds can share a folder. What cannot be read is made again.

use std::fs;
use std::path::{Path, PathBuf};

use ingraft_tensor::hash::{HASH_BYTES, blake3};

use super::Fold;
use super::arm::Verdict;
use crate::CliError;
use crate::command::train::candidate::Candidate;
use crate::plan_file::write_whole;
use crate::report::hex;

/// A folder of runs, for one study.
pub(super) struct Runs<'a> {
    folder: &'a Path,
    /// Hash of what all its runs have in common.
    study: [u8; HASH_BYTES],
}

/// The files of one run.
pub(super) struct Place {
    verdict: PathBuf,
    /// Its adapter, where it is to be measured.
    adapter: Option<PathBuf>,
}

impl<'a> Runs<'a> {
    /// Those in `folder`, which is made where there is none, of the study that `facts` and the clips as fed tell from others.
    ///
    /// # Errors
    /// [`CliError::Io`] for a folder that cannot be made.
    pub(super) fn open(folder: &'a Path, facts: &str, clips: &[[u8; HASH_BYTES]]) -> Result<Self, CliError> {
        fs::create_dir_all(folder).map_err(|source| CliError::io(folder, source))?;
        Ok(Self { folder, study: blake3(&[facts.as_bytes(), clips.as_flattened()].concat()) })
    }

    /// Where the run of `candidate` on `fold` is kept, its adapter too where it is the `first` of the method.
    pub(super) fn place(&self, candidate: &Candidate<'_>, fold: &Fold, first: bool) -> Place {
        let key = blake3(&[&self.study[..], format!("{candidate:?} {fold:?}").as_bytes()].concat());
        let name = format!("{}-{}", candidate.name, hex(&key[..8]));
        let file = |extension| self.folder.join(format!("{name}.{extension}"));
        Place { verdict: file("json"), adapter: first.then(|| file("adapter")) }
    }
}

impl Place {
    /// What was kept, if it was, and whole.
    pub(super) fn find(&self) -> Option<Verdict> {
        let mut verdict: Verdict = serde_json::from_slice(&fs::read(&self.verdict).ok()?).ok()?;
        if let Some(path) = &self.adapter {
            verdict.adapter = Some(fs::read(path).ok()?);
        }
        Some(verdict)
    }

    /// Keeps a run.
    ///
    /// # Errors
    /// [`CliError::Io`] for a file that cannot be written.
    pub(super) fn keep(&self, verdict: &Verdict) -> Result<(), CliError> {
        if let (Some(path), Some(adapter)) = (&self.adapter, &verdict.adapter) {
            write_whole(path, adapter)?;
        }
        // Numbers and names become JSON whatever they are.
        let text = serde_json::to_vec(verdict).unwrap_or_default();
        write_whole(&self.verdict, &text)
    }
}
