//! LoHa: low-rank Hadamard product (Hyeon-Woo, Ye-Bin & Oh, 2022; LyCORIS, 2023).

use ingraft_kernel::terms::MAX_TERM_RANK;
use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{ALPHA, Definition, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains the elementwise product of two low-rank matrices, of rank up to r²:
/// `W' = W + s·(A₁·B₁) ⊙ (A₂·B₂)`, s = α/r.
///
/// The product is exactly two factors of rank r², the row-wise Kronecker products of A₁ and A₂
/// and of B₁ᵀ and B₂ᵀ; it is deployed so where that is the smaller form. B₂ starts as zero: the
/// adapter starts as the base. Parameters: `2·r·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Loha {
    rank: u32,
    alpha: f64,
}

impl Loha {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()?, alpha: settings.positive("alpha")? })
    }
}

impl Expression for Loha {
    fn name(&self) -> &'static str {
        "loha"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let scale = self.alpha / f64::from(self.rank);
        let a1 = tape.parameter("hada_w1_a", out, rank, Start::kaiming(rank));
        let b1 = tape.parameter("hada_w1_b", rank, row, Start::kaiming(row));
        let a2 = tape.parameter("hada_w2_a", out, rank, Start::kaiming(rank));
        let b2 = tape.parameter("hada_w2_b", rank, row, Start::ZERO);
        let square = rank.saturating_mul(rank);
        if square <= MAX_TERM_RANK && square.saturating_mul(out + row) < out * row {
            let down = b1.transpose().khatri_rao(b2.transpose()).transpose();
            return Ok(Form::two_factor(a1.khatri_rao(a2) * scale, down));
        }
        Ok(Form::delta(a1.matmul(b1).times(a2.matmul(b2)) * scale))
    }
}

/// `loha` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "loha",
    family: Family::Reparameterized,
    settings: &[RANK, ALPHA],
    deploy: "two-factor of rank squared where that is smaller, else fused weight",
    source: "FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning (2022)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Loha::new(s))),
};
