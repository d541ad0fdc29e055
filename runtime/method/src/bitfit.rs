//! BitFit: biases only (Ben Zaken, Ravfogel & Goldberg, 2022), as a checkpoint has them.

use ingraft_kernel::SiteKind;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, Family, Make, MethodRow, Settings, boxed};

/// Trains the bias of every output channel: `y = Wx + b'`, b' from the base's.
///
/// `bias` trains the difference instead, which weight decay draws to the base. Tensor: `bias` `[out]`, in the base's place.
/// Deployed as a shift beside the base's bias, so that the base stays as it is. Parameters: `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitFit;

/// Whether a site has outputs whose bias can move.
pub(crate) fn has_bias(kind: SiteKind) -> bool {
    matches!(kind, SiteKind::Linear | SiteKind::Conv | SiteKind::Depthwise)
}

impl BitFit {
    pub(crate) fn new(_: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self)
    }
}

impl Expression for BitFit {
    fn name(&self) -> &'static str {
        "bitfit"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn adapts(&self, kind: SiteKind) -> bool {
        has_bias(kind)
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let base = tape.bias();
        let bias = tape.steady_parameter("bias", base.rows(), 1, Start::Value(base));
        // What a start value loses in f32 is lost in the base it is compared with too.
        Ok(Form::shift(bias - base))
    }
}

/// `bitfit` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "bitfit",
    family: Family::Selective,
    settings: &[],
    deploy: "shift per output channel",
    source: "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models (2022)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(BitFit::new(s))),
};
