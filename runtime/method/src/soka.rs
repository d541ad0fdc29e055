//! SoKA: singular value decomposition on Kronecker adaptation (Chong et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::lokr::factors;
use crate::row::{Definition, FUSED, Family, Make, MethodRow, RANK, Settings, boxed};

/// Trains the principal Kronecker products of the weight: `W' = W + Σ Uₖ ⊗ Vₖ − (the same at the start)`.
///
/// out = m·p and row = n·q, the closest factors, the smaller ones m and n. The rearrangement of W, whose row (i, j) is block
/// (i, j) of p by q, has singular triplets (σ, u, v); Uₖ starts as √σ·u, Vₖ as √σ·v (Van Loan & Pitsianis, 1993). What
/// is decomposed, and that the start is taken off, is our reading; r is fixed, since memory is planned from shapes.
/// Tensors: `soka_U` `[r, m·n]`, `soka_V` `[r, p·q]`. Starts as the base. Parameters: `r·(m·n + p·q)`, r at most either product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Soka {
    rank: u32,
}

impl Soka {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self { rank: settings.rank()? })
    }
}

impl Expression for Soka {
    fn name(&self) -> &'static str {
        "soka"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let ([m, p], [n, q]) = (factors(w.rows()), factors(w.columns()));
        let arranged = w.permute([m, p, n, q], [0, 2, 1, 3], p * q);
        let [u, values, vt] = tape.svd(arranged, self.rank as usize);
        let roots = values.square_root().transpose();
        let (u0, v0) = (u.transpose().times(roots), vt.times(roots));
        let u = tape.steady_parameter("soka_U", u0.rows(), u0.columns(), Start::Value(u0));
        let v = tape.steady_parameter("soka_V", v0.rows(), v0.columns(), Start::Value(v0));
        let moved = u.transpose().matmul(v) - u0.transpose().matmul(v0);
        Ok(Form::delta(moved.permute([m, n, p, q], [0, 2, 1, 3], n * q)))
    }
}

/// `soka` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "soka",
    family: Family::Reparameterized,
    settings: &[RANK],
    deploy: FUSED,
    source: "Singular Value Decomposition on Kronecker Adaptation for Large Language Model (2025)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Soka::new(s))),
};
