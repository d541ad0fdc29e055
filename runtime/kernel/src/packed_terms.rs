//! Terms packed for a host target before they are used.
//!
//! A fused weight, or an overlay written into the weight, makes a step the base's step on other constants. So what is
//! packed are those constants, and the row is called as for the base:
//!
//! | weight in the base's place | the row packs weights | it uses them in place |
//! |---|---|---|
//! | fused | its packed form | nothing: it is used from the adapter |
//! | integer overlay, row with a [`Patcher`](crate::patch::Patcher) | the base's packed form, patched | – |
//! | integer overlay, other rows | patched weight and bias, and their packed form | patched weight and bias |
//!
//! Factors are packed as their row says.

use ingraft_tensor::View;
use ingraft_tensor::bytes::{self, align_up};

use crate::attrs::QConvAttrs;
use crate::patch::{self, Log, PlanWeight};
use crate::{Kernel, KernelError, OpCode, Place, SiteTerms, Sparse, SparseValues, Step};

/// Bytes of packed terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermsBytes {
    /// Of [`PackedTerms::weights`](crate::PackedTerms::weights).
    pub weights: usize,
    /// Of [`PackedTerms::factors`](crate::PackedTerms::factors).
    pub factors: usize,
}

/// The weights of a step that can be exchanged.
#[derive(Clone, Copy)]
enum Exchange {
    /// Packed by the row out of an adapter's fused weight.
    Fused,
    /// Packed by the row, patched in place.
    Patched,
    /// A copy of weight and bias, and behind it what the row packs of them.
    Copied,
}

fn exchange(row: &Kernel, step: &Step<'_>, terms: &SiteTerms<'_>) -> Option<Exchange> {
    matches!(step.op, OpCode::QConv | OpCode::QDepthwise).then_some(())?;
    match (terms.patched, terms.sparse.map(|sparse| sparse.values)) {
        (Some(_), None) => Some(Exchange::Fused),
        (None, Some(SparseValues::I16(_))) if row.patcher.is_some() => Some(Exchange::Patched),
        (None, Some(SparseValues::I16(_))) => Some(Exchange::Copied),
        _ => None,
    }
}

/// The weight and the bias that hold the integer overlay of `terms`, each padded to 16 bytes, as a row packs them that uses its weights
/// in place; `None` where nothing is packed of an overlay.
pub fn overlaid<'t>(terms: &SiteTerms<'t>) -> Option<(&'t [u8], &'t [u8])> {
    let (packed, overlay) = (terms.packed.weights, terms.sparse?);
    let channels = overlay.indptr.len().checked_sub(1)?;
    let bias = align_up(channels.checked_mul(size_of::<i32>())?);
    packed.split_at_checked(packed.len().checked_sub(bias)?).filter(|_| !packed.is_empty())
}

/// Bytes of the weight and of the bias.
fn constants(step: &Step<'_>) -> Option<[usize; 2]> {
    let bytes = |index| {
        let operand = step.input(index).ok()?;
        operand.shape.elements().checked_mul(operand.dtype.size())
    };
    Some([bytes(1)?, bytes(2)?])
}

/// What [`pack`] needs.
pub(crate) fn needs(row: &Kernel, step: &Step<'_>, terms: &SiteTerms<'_>) -> TermsBytes {
    let packed = (row.packed)(step);
    let weights = match exchange(row, step, terms) {
        None => 0,
        Some(Exchange::Fused | Exchange::Patched) => packed,
        Some(Exchange::Copied) => constants(step).map_or(0, |[weight, bias]| {
            align_up(weight).saturating_add(align_up(bias)).saturating_add(packed)
        }),
    };
    let factors = terms.two_factor.map_or(0, |term| (row.factor_bytes)(step, &term));
    TermsBytes { weights, factors }
}

/// Fills both parts.
pub(crate) fn pack(
    row: &Kernel,
    step: &Step<'_>,
    terms: &SiteTerms<'_>,
    weights: &mut [u8],
    factors: &mut [u8],
) -> Result<(), KernelError> {
    let error = KernelError::Memory(step.op);
    let needs = needs(row, step, terms);
    (needs == TermsBytes { weights: weights.len(), factors: factors.len() }).then_some(()).ok_or(error)?;
    if let Some(term) = terms.two_factor.filter(|_| !factors.is_empty()) {
        (row.pack_factors)(step, &term, factors)?;
    }
    match (exchange(row, step, terms), terms.patched, terms.sparse) {
        (Some(Exchange::Fused), Some(fused), _) if !weights.is_empty() => {
            let (weight, bias) = (bytes::of(fused.weight), bytes::of(fused.bias));
            let other = shortened(step).with_constant(1, weight).and_then(|step| step.with_constant(2, bias));
            (row.pack)(&other.ok_or(error)?, weights)
        }
        (Some(Exchange::Patched), _, Some(overlay)) => {
            row.patcher.map_or(row.pack, |patcher| patcher.pack)(step, weights)?;
            write(row, step, weights, &overlay, None).map(drop)
        }
        (Some(Exchange::Copied), _, Some(overlay)) => {
            let [copy, _] = split_mut(step, weights).ok_or(error)?;
            for (index, to) in [1, 2].into_iter().zip(copy) {
                let Place::Plan(from) = step.input(index)?.place else { return Err(error) };
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
            write(row, step, weights, &overlay, None).map(drop)
        }
        _ => Ok(()),
    }
}

/// Writes an overlay into weights that [`pack`] made, and gives the words of the log that were used.
pub(crate) fn write(
    row: &Kernel,
    step: &Step<'_>,
    weights: &mut [u8],
    overlay: &Sparse<'_>,
    log: Log<'_>,
) -> Result<usize, KernelError> {
    let error = KernelError::Terms(step.op);
    match row.patcher {
        Some(patcher) => (patcher.write)(step, weights, overlay, log).ok_or(error),
        None => {
            let [constants, _] = split_mut(step, weights).ok_or(error)?;
            let used = patch::write(&mut copied(step, constants).ok_or(error)?, overlay, log).ok_or(error)?;
            repack(row, step, weights).map(|()| used)
        }
    }
}

/// Takes a logged overlay out again.
pub(crate) fn revert(
    row: &Kernel,
    step: &Step<'_>,
    weights: &mut [u8],
    log: &[u32],
) -> Result<(), KernelError> {
    let error = KernelError::Memory(step.op);
    match row.patcher {
        Some(patcher) => (patcher.revert)(step, weights, log).ok_or(error),
        None => {
            let [constants, _] = split_mut(step, weights).ok_or(error)?;
            patch::revert(&mut copied(step, constants).ok_or(error)?, log);
            repack(row, step, weights)
        }
    }
}

/// Exchanges what a row computes with for packed weights, and takes the term they stand for away where nothing else
/// tells the row of it.
pub(crate) fn exchanged<'c>(
    row: &Kernel,
    step: &Step<'_>,
    inputs: &mut [View<'c>],
    packed: &mut &'c [u8],
    terms: &mut SiteTerms<'c>,
) -> Option<()> {
    let kind = exchange(row, step, terms);
    match (kind, terms.patched) {
        _ if terms.packed.weights.is_empty() => {}
        (Some(Exchange::Fused), Some(fused)) => {
            replace(inputs, [bytes::of(fused.weight), bytes::of(fused.bias)])?;
            *packed = terms.packed.weights;
            terms.patched = None;
        }
        (Some(Exchange::Patched), _) => *packed = terms.packed.weights,
        (Some(Exchange::Copied), _) => {
            let [weight, bias] = constants(step)?;
            let (first, rest) = terms.packed.weights.split_at_checked(align_up(weight))?;
            let (second, rest) = rest.split_at_checked(align_up(bias))?;
            replace(inputs, [first.get(..weight)?, second.get(..bias)?])?;
            *packed = rest;
            terms.sparse = None;
        }
        _ => {}
    }
    Some(())
}

fn replace<'c>(inputs: &mut [View<'c>], constants: [&'c [u8]; 2]) -> Option<()> {
    for (view, bytes) in inputs.iter_mut().skip(1).zip(constants) {
        *view = View::new(view.dtype(), view.shape(), bytes)?;
    }
    Some(())
}

/// Weight and bias in weights that were copied, and what is packed of them.
fn split_mut<'w>(step: &Step<'_>, weights: &'w mut [u8]) -> Option<[[&'w mut [u8]; 2]; 2]> {
    let [weight, bias] = constants(step)?;
    let (first, rest) = weights.split_at_mut_checked(align_up(weight))?;
    let (second, rest) = rest.split_at_mut_checked(align_up(bias))?;
    Some([[first.get_mut(..weight)?, second.get_mut(..bias)?], [rest, &mut []]])
}

fn copied<'w>(step: &Step<'_>, [weight, bias]: [&'w mut [u8]; 2]) -> Option<PlanWeight<'w>> {
    let attrs: &QConvAttrs = step.attrs().ok()?;
    let (weight, bias): (&mut [i8], &mut [i32]) = (bytes::cast_mut(weight)?, bytes::cast_mut(bias)?);
    let row = weight.len().checked_div(bias.len())?;
    PlanWeight::new(weight, bias, row, step.op == OpCode::QDepthwise, attrs.in_zero_point)
}

/// Packs the copied constants anew, for a row that packs.
fn repack(row: &Kernel, step: &Step<'_>, weights: &mut [u8]) -> Result<(), KernelError> {
    let error = KernelError::Memory(step.op);
    let [[weight, bias], [packed, _]] = split_mut(step, weights).ok_or(error)?;
    if packed.is_empty() {
        return Ok(());
    }
    let (weight, bias): (&[u8], &[u8]) = (weight, bias);
    let other = shortened(step).with_constant(1, weight).and_then(|step| step.with_constant(2, bias));
    (row.pack)(&other.ok_or(error)?, packed)
}

/// The same step, free to take constants that live shorter.
fn shortened<'s>(step: &'s Step<'_>) -> Step<'s> {
    *step
}
