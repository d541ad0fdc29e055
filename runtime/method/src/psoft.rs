//! PSOFT: orthogonal fine-tuning in the principal subspace (Wu et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::oft::{identity, series, upper};
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed};

/// Turns the principal part of the weight: `W' = W + U·diag(σ)·(R − I)·Vᵀ`, `R = diag(b)·(I + Q)(I − Q)⁻¹·diag(a)`.
///
/// U, σ and V are the first r singular triplets of W, constants; Q is skew. With `neumann_terms` the rotation is HF
/// PEFT's series of that many terms. The signs of singular vectors change what Q means: they are stored with
/// their meaning fixed (see the decomposition). Tensors: `psoft_R` `[r·(r − 1)/2]`, the upper triangle row by row,
/// `vector_a` and `vector_b` `[r]`; constants `U`, `S`, `Vh`. Starts as the base.
/// Parameters: `r·(r − 1)/2 + 2·r`, r at most the smaller side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Psoft {
    rank: u32,
    neumann_terms: u32,
}

impl Psoft {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let neumann_terms = settings.number("neumann_terms", |terms| matches!(terms, 0 | 2..=16))?;
        Ok(Self { rank: settings.rank()?, neumann_terms })
    }
}

impl Expression for Psoft {
    fn name(&self) -> &'static str {
        "psoft"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("neumann_terms", Setting::Count(self.neumann_terms));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let [u, values, vt] = tape.svd(tape.weight(), self.rank as usize);
        let rank = vt.rows();
        let angles = rank * (rank - 1) / 2;
        let triangle = tape.fixed(1, angles, |places, _| upper(rank, places));
        let vector = tape.parameter("psoft_R", 1, angles, Start::ZERO);
        let a = tape.steady_parameter("vector_a", 1, rank, Start::Constant(1.0));
        let b = tape.steady_parameter("vector_b", rank, 1, Start::Constant(1.0));
        let half = vector.scatter(triangle, rank, rank);
        let q = half - half.transpose();
        let rotation = match self.neumann_terms {
            0 => (q * -1.0).cayley(),
            terms => series(q, 1, terms),
        };
        let core = rotation.times(b).times(a) - identity(tape, rank, rank);
        Ok(Form::two_factor(u.times(values).matmul(core), vt))
    }
}

/// `psoft` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "psoft",
    family: Family::Reparameterized,
    settings: &[
        RANK,
        SettingRow {
            name: "neumann_terms",
            default: "0",
            expected: "0 for the exact rotation, or a whole number in 2..=16",
        },
    ],
    deploy: TWO_FACTOR,
    source: "Efficient Orthogonal Fine-Tuning with Principal Subspace Adaptation (2025)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Psoft::new(s))),
};
