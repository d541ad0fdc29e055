//! The frozen prefix: what the steps behind the cut need from those before it.
//!
//! Steps before the first trained one compute the same for a clip however often
//! it is seen. Whoever keeps these tensors (usually a single int8 one) per patch
//! need not run them again.

use core::ops::Range;

use ingraft_kernel::{Place, Span};
use ingraft_plan::{Phase, PlanView};

use crate::readout::Tap;

/// The tensors that stand in memory at step `cut` (or were put there by the caller, as inputs) and that the forward steps from
/// `cut` to the tap read, in order of their index. Of tensors that share their bytes, the first.
///
/// Backward steps read no others: their forward operands are those of forward
/// steps behind the cut.
pub(crate) fn tensors<'p>(
    plan: &'p PlanView<'_>,
    phase: Phase,
    cut: usize,
    tap: &Tap,
) -> impl Iterator<Item = u32> + 'p {
    let (tapped, end) = (tap.tensor, tap.step.saturating_add(1));
    let stands = move |tensor: u32, own: Span| match reader(plan, phase, cut..end, tensor) {
        Some(reader) => !writes(plan, phase, cut..reader, own),
        None => tensor == tapped && cut >= end,
    };
    let is_first = move |tensor: u32, own: Span| {
        (0..tensor).all(|other| span(plan, other) != Some(own) || !stands(other, own))
    };
    (0..plan.tensor_count() as u32).filter(move |tensor| {
        span(plan, *tensor).is_some_and(|own| stands(*tensor, own) && is_first(*tensor, own))
    })
}

/// Bytes of tensor `tensor` when it lies in memory.
pub(crate) fn bytes(plan: &PlanView<'_>, tensor: u32) -> Option<usize> {
    span(plan, tensor).map(|span| span.len)
}

fn span(plan: &PlanView<'_>, tensor: u32) -> Option<Span> {
    match plan.tensor(tensor)?.operand.place {
        Place::Memory(span) => Some(span),
        Place::Plan(_) => None,
    }
}

/// The first step in `range` that reads `tensor`.
fn reader(plan: &PlanView<'_>, phase: Phase, mut range: Range<usize>, tensor: u32) -> Option<usize> {
    range.find(|index| plan.step(phase, *index).is_some_and(|step| step.inputs.contains(&tensor)))
}

/// Whether a step in `range` writes any of `own`. What is read behind it is then what it wrote, by whatever name.
fn writes(plan: &PlanView<'_>, phase: Phase, mut range: Range<usize>, own: Span) -> bool {
    range.any(|index| {
        let outputs = plan.step(phase, index).map_or(&[][..], |step| step.outputs);
        outputs.iter().any(|output| span(plan, *output).is_some_and(|written| written.overlaps(own)))
    })
}
