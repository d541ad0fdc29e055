//! Versions of clips, computed once for all methods.

use core::cell::RefCell;
use std::collections::BTreeMap;

use crate::CliError;
use crate::input::Feed;
use crate::training::Clips;

/// Clips that are read and varied the first time they are asked for, and kept.
pub(super) struct Feeds<'c> {
    clips: &'c dyn Clips,
    /// By clip and version.
    kept: RefCell<BTreeMap<(usize, u32), Feed>>,
}

impl<'c> Feeds<'c> {
    /// Those of `clips`.
    pub(super) fn new(clips: &'c dyn Clips) -> Self {
        Self { clips, kept: RefCell::new(BTreeMap::new()) }
    }
}

impl Clips for Feeds<'_> {
    fn view(&self, clip: usize, view: u32) -> Result<Feed, CliError> {
        if let Some(feed) = self.kept.borrow().get(&(clip, view)) {
            return Ok(feed.clone());
        }
        let feed = self.clips.view(clip, view)?;
        self.kept.borrow_mut().insert((clip, view), feed.clone());
        Ok(feed)
    }
}
