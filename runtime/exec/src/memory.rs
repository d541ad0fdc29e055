//! How much memory a session needs, and where each part lies.

use ingraft_kernel::{Choice, Span, Step, Target};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::arrays::{arrays, arrays_mut};
use ingraft_tensor::bytes::{ALIGN, align_up};

use crate::ExecError;

/// The bytes a session needs for one schedule on one target.
///
/// A pure function of plan and target, callable on the host before a device is
/// flashed. The parts lie behind one another in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeeds {
    /// Activations, as planned at compile time.
    pub arena: usize,
    /// Scratch of the hungriest step.
    pub workspace: usize,
    /// Logits of a head adapter.
    pub head: usize,
    /// Weights as the target packs them, and a record per step of what bind settled; 0 where
    /// all weights are used in place.
    pub packed: usize,
}

impl MemoryNeeds {
    /// The needs of `phase` of `plan` on `target`.
    ///
    /// # Errors
    /// [`ExecError::NoSchedule`], or [`ExecError::Step`] for a step the target cannot run.
    pub fn new<T: Target>(plan: &PlanView<'_>, phase: Phase, target: &T) -> Result<Self, ExecError> {
        let count = plan.step_count(phase);
        if count == 0 && phase == Phase::Train {
            return Err(ExecError::NoSchedule);
        }
        let mut needs = Self {
            arena: align_up(plan.arena_bytes(phase)),
            workspace: 0,
            head: align_up(head_batch(plan, phase).saturating_mul(head_classes(plan)).saturating_mul(4)),
            packed: 0,
        };
        for index in 0..count {
            let step = checked_step(plan, phase, index, target)?;
            needs.workspace = needs.workspace.max(align_up(target.workspace_bytes(&step)));
            needs.packed = needs.packed.saturating_add(align_up(target.packed_bytes(&step)));
        }
        if needs.packed != 0 {
            needs.packed = needs.packed.saturating_add(count.saturating_mul(RECORD));
        }
        Ok(needs)
    }

    /// The sum.
    pub fn total(&self) -> usize {
        self.arena.saturating_add(self.workspace).saturating_add(self.head).saturating_add(self.packed)
    }

    pub(crate) fn workspace_span(&self, len: usize) -> Span {
        Span { offset: self.arena, len }
    }

    pub(crate) fn head_offset(&self) -> usize {
        self.arena.saturating_add(self.workspace)
    }

    /// Where the record of step `index` lies, where there are any.
    pub(crate) fn record_offset(&self, index: usize) -> Option<usize> {
        let first = self.head_offset().saturating_add(self.head);
        (self.packed != 0).then(|| first.saturating_add(index.saturating_mul(RECORD)))
    }
}

/// Bytes of a [`Record`].
pub(crate) const RECORD: usize = 16;

/// What bind settled about a step, so that no run has to find it again. Records stand before the packed weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) choice: Choice,
    pub(crate) workspace: usize,
    pub(crate) packed: Span,
}

impl Record {
    /// The record's bytes; `None` for extents beyond 32 bits, in units of the alignment for the packed weights.
    pub(crate) fn to_bytes(self) -> Option<[u8; RECORD]> {
        let words = [
            u32::from(self.choice.0),
            self.workspace.try_into().ok()?,
            (self.packed.offset / ALIGN).try_into().ok()?,
            self.packed.len.try_into().ok()?,
        ];
        let mut bytes = [0; RECORD];
        arrays_mut(&mut bytes).0.iter_mut().zip(words).for_each(|(b, word)| *b = word.to_le_bytes());
        Some(bytes)
    }

    pub(crate) fn from_bytes(bytes: [u8; RECORD]) -> Self {
        let mut words = [0usize; 4];
        let read = arrays(&bytes).0.iter().map(|b| u32::from_le_bytes(*b) as usize);
        words.iter_mut().zip(read).for_each(|(word, value)| *word = value);
        let [choice, workspace, offset, len] = words;
        let packed = Span { offset: offset.saturating_mul(ALIGN), len };
        Self { choice: Choice(choice as u16), workspace, packed }
    }
}

/// Step `index`, resolved and accepted by the target.
fn checked_step<'a, T: Target>(
    plan: &PlanView<'a>,
    phase: Phase,
    index: usize,
    target: &T,
) -> Result<Step<'a>, ExecError> {
    let op = plan.step(phase, index).map_or(ingraft_kernel::OpCode::Copy, |s| s.op);
    let at = |error| ExecError::Step { index: index as u32, op, error };
    let step = plan.resolve(phase, index).map_err(at)?;
    target.kernel_name(&step).map_err(at)?;
    Ok(step)
}

/// Samples a head sees in one run: the batch of the default features.
pub(crate) fn head_batch(plan: &PlanView<'_>, phase: Phase) -> usize {
    let tensor = plan.features(phase).and_then(|(tensor, _)| plan.tensor(tensor));
    tensor.map_or(1, |t| t.operand.shape.dim(0))
}

fn head_classes(plan: &PlanView<'_>) -> usize {
    ingraft_kernel::Sites::head_classes(plan)
}
