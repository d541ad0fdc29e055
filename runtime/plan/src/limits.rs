//! What a device takes on.

use crate::record::Header;
use crate::{Phase, PlanError};

/// The most that a plan may declare: the policy of a device that takes plans from elsewhere.
///
/// A plan that declares more is refused by its header, before its tables and its hash are read and before anything is
/// reserved. What a target adds, workspace and packed weights, follows from the steps: `MemoryNeeds` of `ingraft-exec`
/// says it, still before anything is reserved.
///
/// # Examples
/// ```
/// use ingraft_plan::{Limits, PlanView};
///
/// let small = Limits { arena_bytes: 64 << 10, steps: 200, ..Limits::NONE };
/// assert!(PlanView::within(b"no plan", &small).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub file_bytes: u32,
    /// Bytes of activations, in each of the two phases.
    pub arena_bytes: u32,
    /// Steps, in each of the two phases.
    pub steps: u32,
    /// Tensors.
    pub tensors: u32,
    /// Sites.
    pub sites: u32,
}

/// What a plan declares of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of the file.
    FileBytes,
    /// Bytes of activations in a phase.
    ArenaBytes(Phase),
    /// Steps of a phase.
    Steps(Phase),
    /// Tensors.
    Tensors,
    /// Sites.
    Sites,
}

impl Limits {
    /// Whatever a plan can declare.
    pub const NONE: Self = Self {
        file_bytes: u32::MAX,
        arena_bytes: u32::MAX,
        steps: u32::MAX,
        tensors: u32::MAX,
        sites: u32::MAX,
    };

    pub(crate) fn check(&self, header: &Header) -> Result<(), PlanError> {
        let [infer, train] = [Phase::Infer, Phase::Train];
        let [infer_arena, train_arena] = header.arena_bytes;
        for (resource, declared, limit) in [
            (Resource::FileBytes, header.file_bytes, self.file_bytes),
            (Resource::ArenaBytes(infer), infer_arena, self.arena_bytes),
            (Resource::ArenaBytes(train), train_arena, self.arena_bytes),
            (Resource::Steps(infer), header.infer.count, self.steps),
            (Resource::Steps(train), header.train.count, self.steps),
            (Resource::Tensors, header.tensors.count, self.tensors),
            (Resource::Sites, header.sites.count, self.sites),
        ] {
            if declared > limit {
                return Err(PlanError::Limit { resource, declared, limit });
            }
        }
        Ok(())
    }
}
