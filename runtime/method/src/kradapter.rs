//! KRAdapter: Khatri-Rao adapters (Albert et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, boxed};

/// Trains a row-wise Kronecker product of full rank: `W' = W + 2·K` with `K_i = V_i ⊗ U_i` cut to the
/// longer side, rows i along the shorter.
///
/// With m the shorter side and M the longer, U is `[m, k₁]`, k₁ = ⌊√m⌋, and V `[m, k₂]`, k₂ the least number
/// of at least k₁ with k₁·k₂ ≥ M. U starts as zero: the adapter starts as the base.
/// Parameters: `m·(k₁ + k₂)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KrAdapter;

impl Expression for KrAdapter {
    fn name(&self) -> &'static str {
        "kradapter"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let (short, long) = (out.min(row), out.max(row));
        let k1 = short.isqrt().max(1);
        let k2 = long.div_ceil(k1).max(k1);
        let u = tape.parameter("U", short, k1, Start::ZERO);
        // PyTorch's `kaiming_uniform_` with a = 5.
        let v = tape.parameter("V", short, k2, Start::Uniform(libm::sqrt(6.0 / (26.0 * k2 as f64))));
        let k = v.khatri_rao(u).crop(short, long) * SCALE;
        Ok(Form::delta(if out <= row { k } else { k.transpose() }))
    }
}

/// The published scale.
const SCALE: f64 = 2.0;

/// `kradapter` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "kradapter",
    family: Family::Reparameterized,
    settings: &[],
    deploy: FUSED,
    source: "Towards Higher Effective Rank in Parameter-efficient Fine-tuning using Khatri-Rao Product (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|_| boxed(Ok(KrAdapter))),
};
