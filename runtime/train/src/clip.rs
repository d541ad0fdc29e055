//! The unit of training.

use crate::TrainError;

/// A clip: one or more patches that share a label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip<'c> {
    /// Patches as the model takes them, one behind the other; the inputs of a
    /// patch in the plan's order, as stored bytes.
    Inputs(&'c [u8]),
    /// Patches behind the frozen prefix, as [`crate::Trainer::run_prefix`] wrote them.
    Prefixes(&'c [u8]),
    /// Features of the whole clip, as [`crate::Trainer::features`] wrote them.
    /// They stand for the clip only while nothing below the head is trained.
    Features(&'c [f32]),
}

impl<'c> Clip<'c> {
    /// Number of patches of `input` or `prefix` bytes, or 1 for `features` values.
    ///
    /// # Errors
    /// [`TrainError::Clip`] unless there is at least one and nothing is left over.
    pub(crate) fn patches(&self, input: usize, prefix: usize, features: usize) -> Result<usize, TrainError> {
        let whole = |given: usize, unit: usize| {
            let count = given.checked_div(unit).filter(|n| *n != 0 && n.wrapping_mul(unit) == given);
            count.ok_or(TrainError::Clip { unit, given })
        };
        match self {
            Self::Inputs(bytes) => whole(bytes.len(), input),
            Self::Prefixes(bytes) => whole(bytes.len(), prefix),
            Self::Features(values) if values.len() == features => Ok(1),
            Self::Features(values) => Err(TrainError::Clip { unit: features, given: values.len() }),
        }
    }
}
