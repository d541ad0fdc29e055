//! Spectral Adapter: fine-tuning in spectral space (Zhang & Pilanci, 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::oft::identity;
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, boxed};

/// Trains some singular vectors of the weight: columns `slice·r..` of U and V, r of them, the first slice the largest.
///
/// `additive`: `(U + B)·diag(σ)·(Vᵀ + A)` in place of `U·diag(σ)·Vᵀ`, exactly two factors of rank 2r; tensors
/// `spectral_B` `[out, r]` and `spectral_A` `[r, row]`, parameters `r·(out + row)`. `rotational`:
/// `U·K(X_u)·diag(σ ⊙ c)·K(X_v)ᵀ·Vᵀ`, K the Cayley transform of `(X − Xᵀ)/2`; tensors `spectral_Xu`, `spectral_Xv` `[r, r]`
/// and `spectral_c` `[r]`, parameters `2·r² + r`. Adapters of different slices add without
/// touching each other. Starts as the base. r is at most the smaller side; a slice that lies beyond it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpectralAdapter {
    kind: Kind,
    rank: u32,
    slice: u32,
}

/// How singular vectors move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Additive,
    Rotational,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Additive => "additive",
            Self::Rotational => "rotational",
        }
    }
}

impl SpectralAdapter {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            kind: settings.choice("kind", &[Kind::Additive, Kind::Rotational], Kind::name)?,
            rank: settings.number("rank", |rank| (1..=128).contains(rank))?,
            slice: settings.number("slice", |slice| *slice < 1 << 20)?,
        })
    }
}

/// Singular vectors and values `slice·r..` of the weight: U, σ as a row, Vᵀ.
pub(crate) fn slice<'t>(tape: &'t Tape<'t>, slice: usize, rank: usize) -> Result<[Node<'t>; 3], Unfit> {
    let w = tape.weight();
    let side = w.rows().min(w.columns());
    let first = slice.saturating_mul(rank.min(side));
    if first >= side {
        return Err(Unfit::TooSmall { dimension: side, least: first + 1 });
    }
    let [u, values, vt] = tape.svd(w, first + rank.min(side));
    if first == 0 {
        return Ok([u, values, vt]);
    }
    let rank = vt.rows() - first;
    let rows = tape.fixed(rank, 1, |rows, _| {
        rows.iter_mut().enumerate().for_each(|(k, row)| *row = (first + k) as f64);
    });
    let columns = |x: Node<'t>| x.transpose().rows_at(rows).transpose();
    Ok([columns(u), columns(values), vt.rows_at(rows)])
}

impl Expression for SpectralAdapter {
    fn name(&self) -> &'static str {
        "spectral-adapter"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("kind", Setting::Name(self.kind.name()));
        visit("rank", Setting::Count(self.rank));
        visit("slice", Setting::Count(self.slice));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let [u, values, vt] = slice(tape, self.slice as usize, self.rank as usize)?;
        let rank = vt.rows();
        if self.kind == Kind::Additive {
            let b = tape.parameter("spectral_B", u.rows(), rank, Start::ZERO).times(values);
            let a = tape.parameter("spectral_A", rank, vt.columns(), Start::ZERO);
            return Ok(Form::two_factor(b.beside(u.times(values)), (vt + a).above(a)));
        }
        let turn = |name| {
            let x = tape.parameter(name, rank, rank, Start::ZERO);
            ((x - x.transpose()) * 0.5).cayley()
        };
        let (left, right) = (turn("spectral_Xu"), turn("spectral_Xv"));
        let c = tape.steady_parameter("spectral_c", 1, rank, Start::Constant(1.0));
        let core = left.times(values.times(c)).matmul(right.transpose());
        Ok(Form::two_factor(u.matmul(core - identity(tape, rank, rank).times(values)), vt))
    }
}

/// `spectral-adapter` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "spectral-adapter",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "kind", default: "additive", expected: "additive or rotational" },
        SettingRow { expected: "a whole number in 1..=128", ..RANK },
        SettingRow { name: "slice", default: "0", expected: "a whole number below 2^20" },
    ],
    deploy: "two-factor of twice the rank (additive) or the rank, int8 factors with int16 between them on int8 sites",
    source: "Spectral Adapter: Fine-Tuning in Spectral Space (2024)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(SpectralAdapter::new(s))),
};
