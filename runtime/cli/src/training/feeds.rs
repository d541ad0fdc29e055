//! Versions of clips, computed once for all trainers that ask for them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Clips, Version};
use crate::CliError;

/// Versions that were asked for, by clip and version.
pub(crate) type Kept = Mutex<BTreeMap<(usize, u32), Version>>;

/// Clips that are read and varied the first time they are asked for, and kept: all trainers learn from the same of them.
pub(crate) struct Feeds<'c> {
    clips: &'c dyn Clips,
    kept: &'c Kept,
}

impl<'c> Feeds<'c> {
    /// Those of `clips`; what was `kept` is of the same clips.
    pub(crate) fn new(clips: &'c dyn Clips, kept: &'c Kept) -> Self {
        Self { clips, kept }
    }
}

impl Clips for Feeds<'_> {
    fn view(&self, clip: usize, view: u32, learned: &[usize]) -> Result<Version, CliError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = kept().get(&(clip, view)) {
            return Ok(version.clone());
        }
        // Not under the lock: others read meanwhile, at worst the same.
        let version = self.clips.view(clip, view, learned)?;
        kept().insert((clip, view), version.clone());
        Ok(version)
    }
}
