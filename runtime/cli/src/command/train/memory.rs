//! The report on a trainer's memory.

use ingraft_train::TrainMemory;
use serde::Serialize;

/// The bytes of a trainer's memory by purpose, as `train` and `inspect --method` print them.
#[derive(Debug, Serialize)]
pub(in crate::command) struct MemoryReport {
    /// Activations, masks, gradients of activations, scratch.
    pub(in crate::command) session: usize,
    /// Weights as the target packs them.
    pub(in crate::command) packed: usize,
    /// Parameters of head and terms.
    pub(in crate::command) parameters: usize,
    /// Their gradients.
    pub(in crate::command) gradients: usize,
    /// The optimizer's state.
    pub(in crate::command) optimizer: usize,
    /// Feature statistics, pooled features, logits, and their gradients.
    head: usize,
    /// Positions of sparse terms and constant halves of pairs.
    constants: usize,
    /// Terms computed from parameters, their gradients, and what computing them takes.
    latent: usize,
    /// Tables of sites, backward steps and cached tensors.
    tables: usize,
    /// The sum of these.
    pub(in crate::command) total: usize,
    /// Beside the total: bytes kept of one patch of one view.
    cached_patch: usize,
}

impl MemoryReport {
    /// The report on `memory`.
    pub(in crate::command) fn new(memory: &TrainMemory) -> Self {
        Self {
            session: memory.session,
            packed: memory.packed,
            parameters: memory.parameters,
            gradients: memory.gradients,
            optimizer: memory.optimizer,
            head: memory.head,
            constants: memory.constants,
            latent: memory.latent,
            tables: memory.tables,
            total: memory.total(),
            cached_patch: memory.cached_patch,
        }
    }
}
