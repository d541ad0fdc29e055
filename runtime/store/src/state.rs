//! The states of an adapter, and the ways between them.
//!
//! ```text
//!            stage              begin_trial            confirm
//! (nothing) ──────▶ staged ───────────────▶ on trial ─────────▶ good
//!                     │                        │                  │ the one before goes
//!                     └──────── revert ────────┴─▶ (nothing)      ▼ evict, remove
//!                                a restart too many
//! ```
//!
//! A key has one good adapter at most and beside it one candidate at most: the good one stays until the candidate takes
//! its place. What is written of a key is always all of it, so that one record is one step.

use crate::{Key, Refusal};

/// What a store knows of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The key.
    pub key: Key,
    /// The last good adapter.
    pub good: Option<Stored>,
    /// The one that may take its place.
    pub candidate: Option<Candidate>,
    /// The highest version that was ever good: signed files of a lower one are refused.
    pub floor: u64,
    /// Whether the good adapter is never evicted.
    pub pinned: bool,
    /// When it was used last, on a clock that counts uses.
    pub(crate) used: u32,
}

/// An adapter file that lies in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
    /// Bytes of the file.
    pub len: u32,
    /// First of the sectors it lies in; in a directory its number.
    pub sector: u32,
    /// Whether its seal lies behind it.
    pub sealed: bool,
}

/// An adapter that is not good yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its file.
    pub stored: Stored,
    /// The version its seal states; 0 without one.
    pub version: u64,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is whole and verified, and not in use.
    Staged,
    /// It is in use.
    Trial {
        /// Restarts of the device that it may still outlive.
        restarts: u8,
    },
}

impl KeyState {
    /// A key that nothing is known of.
    pub(crate) fn new(key: Key) -> Self {
        Self { key, good: None, candidate: None, floor: 0, pinned: false, used: 0 }
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.good.is_none() && self.candidate.is_none() && self.floor == 0 && !self.pinned
    }

    /// Whether an adapter is in use that is not good yet.
    pub fn is_on_trial(&self) -> bool {
        self.candidate.is_some_and(|candidate| candidate.stage != Stage::Staged)
    }

    /// The file to run, and whether it is on trial.
    pub(crate) fn in_use(&self) -> Option<(Stored, bool)> {
        let candidate = self.candidate.filter(|_| self.is_on_trial());
        candidate.map(|candidate| (candidate.stored, true)).or(self.good.map(|good| (good, false)))
    }

    /// Whether the good adapter may go to make room.
    pub(crate) fn may_go(&self) -> bool {
        self.good.is_some() && self.candidate.is_none() && !self.pinned
    }

    /// The files that must stay.
    pub fn files(&self) -> impl Iterator<Item = &Stored> {
        self.good.iter().chain(self.candidate.as_ref().map(|candidate| &candidate.stored))
    }

    pub(crate) fn staged(self, stored: Stored, version: u64) -> Result<Self, Refusal> {
        if self.is_on_trial() {
            return Err(Refusal::OnTrial);
        }
        Ok(Self { candidate: Some(Candidate { stored, version, stage: Stage::Staged }), ..self })
    }

    pub(crate) fn on_trial(self, restarts: u8) -> Result<Self, Refusal> {
        let candidate = self.candidate.ok_or(Refusal::NothingStaged)?;
        if candidate.stage != Stage::Staged {
            return Err(Refusal::OnTrial);
        }
        Ok(Self { candidate: Some(Candidate { stage: Stage::Trial { restarts }, ..candidate }), ..self })
    }

    pub(crate) fn confirmed(self) -> Result<Self, Refusal> {
        let candidate = self.candidate.filter(|_| self.is_on_trial()).ok_or(Refusal::NotOnTrial)?;
        let floor = self.floor.max(candidate.version);
        Ok(Self { good: Some(candidate.stored), candidate: None, floor, ..self })
    }

    pub(crate) fn reverted(self) -> Result<Self, Refusal> {
        self.candidate.ok_or(Refusal::NothingStaged)?;
        Ok(Self { candidate: None, ..self })
    }

    /// What is left of a trial after a restart.
    pub(crate) fn restarted(self) -> Option<Self> {
        let Candidate { stored, version, stage } = self.candidate?;
        let Stage::Trial { restarts } = stage else { return None };
        let left = restarts.checked_sub(1);
        let candidate = left.map(|restarts| Candidate { stored, version, stage: Stage::Trial { restarts } });
        Some(Self { candidate, ..self })
    }
}
