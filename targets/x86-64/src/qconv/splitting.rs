//! Weights of AVX2 rows: [split](crate::split) where that pays.

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::patch::{Log, revert, write};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{KernelError, Sparse, Step};

use super::weights::Writable;
use super::{constant, correction, layout, patches, shape};
use crate::columns::{Layout, is_split};
use crate::features::Avx2;
use crate::patches::Patches;
use crate::simd::Avx2Bytes;
use crate::split;
use crate::split::overlay::SplitWeights;

/// The layout of weights whose codes are multiplied as bytes with AVX2; `None` where they cannot be.
fn layout_of(shape: &ConvShape) -> Option<(Patches, Layout)> {
    let patches = patches::<Avx2Bytes>(shape)?;
    split::suits(patches.segments).then(|| (patches, layout::<Avx2Bytes>(shape, &patches)))
}

/// Bytes of packed weights with AVX2.
pub(super) fn bytes(shape: &ConvShape, weight: &[u8]) -> Option<usize> {
    let layout = layout::<Avx2>(shape, &patches::<Avx2>(shape)?);
    Some(layout.bytes() + layout_of(shape).map_or(0, |(_, layout)| split::bytes(&layout, weight)))
}

/// Packs weights for AVX2: split where there is room for what that leaves, as it is where [`bytes`] chose so for them.
pub(super) fn fill(shape: &ConvShape, weight: &[u8], packed: &mut [u8]) -> Option<()> {
    if let Some((patches, layout)) = layout_of(shape).filter(|(_, layout)| packed.len() > layout.bytes()) {
        layout.pack(weight, packed, correction)?;
        if split::pack(&layout, &patches, weight, packed).is_some() {
            return Some(());
        }
        split::mark_whole(packed, false);
    }
    layout::<Avx2>(shape, &patches::<Avx2>(shape)?).pack(weight, packed, correction)
}

pub(super) fn packed_bytes(step: &Step<'_>) -> usize {
    constant(step).and_then(|weight| bytes(&shape(step)?, weight)).unwrap_or(0)
}

pub(super) fn pack(step: &Step<'_>, packed: &mut [u8]) -> Result<(), KernelError> {
    constant(step).and_then(|weight| fill(&shape(step)?, weight, packed)).ok_or(KernelError::Memory(step.op))
}

/// As [`super::patch()`], into weights that may be split; where these have no room for what is left over, they are packed whole.
pub(super) fn patch(
    step: &Step<'_>,
    packed: &mut [u8],
    overlay: &Sparse<'_>,
    mut log: Log<'_>,
) -> Option<usize> {
    if !is_split(packed) {
        return super::patch::<Avx2>(step, packed, overlay, log);
    }
    let mut weights = writable(step, packed)?;
    let written = write(&mut weights, overlay, log.as_deref_mut());
    if written.is_some() {
        weights.finish();
        return written;
    }
    weights.clear();
    if !weights.lacks_room() {
        return None;
    }
    super::pack::<Avx2>(step, packed).ok()?;
    let written = super::patch::<Avx2>(step, packed, overlay, log);
    if written.is_some() {
        split::mark_whole(packed, true);
    } else {
        pack(step, packed).ok()?;
    }
    written
}

pub(super) fn unpatch(step: &Step<'_>, packed: &mut [u8], log: &[u32]) -> Option<()> {
    if is_split(packed) {
        let mut weights = writable(step, packed)?;
        revert(&mut weights, log);
        weights.clear();
        return Some(());
    }
    super::unpatch::<Avx2>(step, packed, log)?;
    let has_room = layout_of(&shape(step)?).is_some_and(|(_, layout)| packed.len() > layout.bytes());
    if has_room && split::is_whole(packed) { pack(step, packed).ok() } else { Some(()) }
}

fn writable<'p>(step: &Step<'p>, packed: &'p mut [u8]) -> Option<SplitWeights<'p, Writable<'p>>> {
    let (plan, (patches, layout)) =
        (ingraft_tensor::bytes::cast(constant(step)?)?, layout_of(&shape(step)?)?);
    let attrs: &QConvAttrs = step.attrs().ok()?;
    let zero_point = attrs.in_zero_point;
    SplitWeights::new(layout, patches, plan, packed, |head| Writable::new(layout, head, zero_point))
}
