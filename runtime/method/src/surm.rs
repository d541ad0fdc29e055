//! SURM: structured unrestricted-rank matrices (Sehanobish et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed, positive};

/// Trains a structured matrix of any rank: `W' = W + s·M`.
///
/// Square kinds have size n = max(out, row) and are cut to the weight:
/// - `circulant`: `M[p, q] = c[(p − q) mod n]`, c = a ⊙ b; tensors `surm_a`, `surm_b` `[n]`. Parameters: `2·n`.
/// - `symmetric-toeplitz`: M = T_b·T_a, `T[p, q] = t[|p − q|]`; tensors `surm_a`, `surm_b` `[n]`. Parameters: `2·n`.
/// - `toeplitz`: the same with `T[p, q] = t[p − q + n − 1]`; `[2·n − 1]` each. Parameters: `4·n − 2`.
/// - `kronecker`: M = B ⊗ A, A `[k, row/k]`, B `[out/k, k]`, k the largest common divisor of out and row not above `block`,
///   s = α/k; tensors `surm_a`, `surm_b`. Parameters: `out + row`.
///
/// a starts normal (deviation 1 for `circulant`, 0.02 for Toeplitz kinds) or as Kaiming has it, b as zero: the adapter starts
/// as the base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Surm {
    kind: Kind,
    block: u32,
    scale: f64,
}

/// The structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Circulant,
    SymmetricToeplitz,
    Toeplitz,
    Kronecker,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Circulant => "circulant",
            Self::SymmetricToeplitz => "symmetric-toeplitz",
            Self::Toeplitz => "toeplitz",
            Self::Kronecker => "kronecker",
        }
    }

    /// Number of values that describe a square matrix of size `n`.
    const fn values(self, n: usize) -> usize {
        match self {
            Self::Toeplitz => 2 * n - 1,
            _ => n,
        }
    }

    /// Which value stands at row p, column q.
    const fn place(self, n: usize, p: usize, q: usize) -> usize {
        match self {
            Self::Circulant | Self::Kronecker => (p + n - q) % n,
            Self::SymmetricToeplitz => p.abs_diff(q),
            Self::Toeplitz => p + n - 1 - q,
        }
    }

    /// The matrix of size `n` that `values` describe.
    fn square(self, values: Node<'_>, n: usize) -> Node<'_> {
        let places = values.tape().fixed(n, n, |places, _| {
            places.iter_mut().enumerate().for_each(|(i, to)| *to = self.place(n, i / n, i % n) as f64);
        });
        values.gather(places)
    }
}

impl Surm {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let all = [Kind::Circulant, Kind::SymmetricToeplitz, Kind::Toeplitz, Kind::Kronecker];
        Ok(Self {
            kind: settings.choice("kind", &all, Kind::name)?,
            block: settings.number("block", |block| (1..=4096).contains(block))?,
            scale: settings.positive("scale")?,
        })
    }
}

impl Expression for Surm {
    fn name(&self) -> &'static str {
        "surm"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("kind", Setting::Name(self.kind.name()));
        visit("block", Setting::Count(self.block));
        visit("scale", Setting::Real(self.scale));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let n = out.max(row);
        if self.kind == Kind::Kronecker {
            let limit = (self.block as usize).min(out).min(row);
            let k = (1..=limit).rev().find(|k| out.is_multiple_of(*k) && row.is_multiple_of(*k)).unwrap_or(1);
            let a = tape.parameter("surm_a", k, row / k, Start::kaiming(row / k));
            let b = tape.parameter("surm_b", out / k, k, Start::ZERO);
            return Ok(Form::delta(b.kronecker(a) * (self.scale / k as f64)));
        }
        let deviation = if self.kind == Kind::Circulant { 1.0 } else { 0.02 };
        let a = tape.parameter("surm_a", 1, self.kind.values(n), Start::Normal(deviation));
        let b = tape.parameter("surm_b", 1, self.kind.values(n), Start::ZERO);
        let whole = match self.kind {
            Kind::Circulant => self.kind.square(a.times(b), n),
            _ => self.kind.square(b, n).matmul(self.kind.square(a, n)),
        };
        Ok(Form::delta(whole.crop(out, row) * self.scale))
    }
}

/// `surm` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "surm",
    family: Family::Reparameterized,
    settings: &[
        SettingRow {
            name: "kind",
            default: "circulant",
            expected: "circulant, symmetric-toeplitz, toeplitz or kronecker",
        },
        SettingRow { name: "block", default: "16", expected: "a whole number in 1..=4096" },
        positive("scale", "1"),
    ],
    deploy: FUSED,
    source: "Structured Unrestricted-Rank Matrices for Parameter Efficient Fine-tuning (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Surm::new(s))),
};
