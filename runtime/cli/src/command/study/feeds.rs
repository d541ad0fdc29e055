//! Versions of clips, computed once for all methods.

use core::cell::RefCell;
use std::collections::BTreeMap;

use crate::CliError;
use crate::training::{Clips, Version};

/// Clips that are read and varied the first time they are asked for, and kept: all methods learn from the same of them.
pub(super) struct Feeds<'c> {
    clips: &'c dyn Clips,
    /// By clip and version.
    kept: RefCell<BTreeMap<(usize, u32), Version>>,
}

impl<'c> Feeds<'c> {
    /// Those of `clips`.
    pub(super) fn new(clips: &'c dyn Clips) -> Self {
        Self { clips, kept: RefCell::new(BTreeMap::new()) }
    }
}

impl Clips for Feeds<'_> {
    fn view(&self, clip: usize, view: u32, learned: &[usize]) -> Result<Version, CliError> {
        if let Some(version) = self.kept.borrow().get(&(clip, view)) {
            return Ok(version.clone());
        }
        let version = self.clips.view(clip, view, learned)?;
        self.kept.borrow_mut().insert((clip, view), version.clone());
        Ok(version)
    }
}
