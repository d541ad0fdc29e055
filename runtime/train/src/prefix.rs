//! The frozen prefix: what the steps behind the cut need from those before it.
//!
//! Steps before the first trained one compute the same for a clip however often
//! it is seen. Whoever keeps these tensors (usually a single int8 one) per patch
//! need not run them again.

use ingraft_kernel::Place;
use ingraft_plan::{Phase, PlanView};

use crate::readout::Tap;

/// The tensors written before step `cut` (or by the caller, as inputs) that the
/// forward steps from `cut` to the tap read, in order of their index.
///
/// Backward steps read no others: their forward operands are those of forward
/// steps behind the cut.
pub(crate) fn tensors<'p>(
    plan: &'p PlanView<'_>,
    phase: Phase,
    cut: usize,
    tap: &Tap,
) -> impl Iterator<Item = u32> + 'p {
    let (tensor, end) = (tap.tensor, tap.step.saturating_add(1));
    (0..plan.tensor_count() as u32).filter(move |t| {
        let read = *t == tensor && cut >= end || names(plan, phase, cut..end, *t, false);
        let input = plan.inputs().any(|io| io.tensor == *t);
        let written = input || names(plan, phase, 0..cut, *t, true);
        read && written && bytes(plan, *t).is_some()
    })
}

/// Bytes of tensor `tensor` when it lies in memory.
pub(crate) fn bytes(plan: &PlanView<'_>, tensor: u32) -> Option<usize> {
    match plan.tensor(tensor)?.operand.place {
        Place::Memory(span) => Some(span.len),
        Place::Plan(_) => None,
    }
}

/// Whether a step in `range` has `tensor` among its outputs, or else its inputs.
fn names(
    plan: &PlanView<'_>,
    phase: Phase,
    mut range: core::ops::Range<usize>,
    tensor: u32,
    outputs: bool,
) -> bool {
    range.any(|index| {
        let step = plan.step(phase, index);
        step.is_some_and(|step| if outputs { step.outputs } else { step.inputs }.contains(&tensor))
    })
}
