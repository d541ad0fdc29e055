//! FLix: featurized low-rank mixtures (Lin et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::row::{
    ALPHA, Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count,
};

/// The adapters of a set of features, composed: `W' = W + s·Σ_{f in the set} B_f·A_f`, s = α/r.
///
/// A data set has known features (task, language, microphone, room), each with a pair of its own; `active` says which of
/// them this one has, as the sum of 2ᶠ, 0 for all. Only their pairs are trained. Composing is exact: the pairs stand
/// one below the other as one pair. Tensors: `flix_A` `[F·r, row]`, `flix_B` `[out, F·r]`. Starts as the base.
/// Parameters: `F·r·(out + row)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flix {
    features: u32,
    active: u32,
    rank: u32,
    alpha: f64,
}

impl Flix {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let features = settings.number("features", |n| (1..=16).contains(n))?;
        Ok(Self {
            features,
            active: settings.number("active", |set| *set < 1 << features)?,
            rank: settings.rank()?,
            alpha: settings.positive("alpha")?,
        })
    }
}

impl Expression for Flix {
    fn name(&self) -> &'static str {
        "flix"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("features", Setting::Count(self.features));
        visit("active", Setting::Count(self.active));
        visit("rank", Setting::Count(self.rank));
        visit("alpha", Setting::Real(self.alpha));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let (features, rank) = (self.features as usize, self.rank as usize);
        let a = tape.parameter("flix_A", features * rank, row, Start::kaiming(row));
        let b = tape.parameter("flix_B", out, features * rank, Start::ZERO);
        let scale = self.alpha / f64::from(self.rank);
        let is_active = |feature: usize| self.active == 0 || self.active >> feature & 1 == 1;
        let active = (0..features).filter(|feature| is_active(*feature)).count();
        let rows = tape.fixed(active * rank, 1, |rows, _| {
            let ranks = (0..features * rank).filter(|k| is_active(k / rank));
            rows.iter_mut().zip(ranks).for_each(|(row, k)| *row = k as f64);
        });
        Ok(Form::two_factor(b.transpose().rows_at(rows).transpose() * scale, a.rows_at(rows)))
    }
}

/// `flix` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "flix",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { expected: "a whole number in 1..=16", ..count("features", "2") },
        SettingRow { name: "active", default: "0", expected: "a sum of 2^feature, or 0 for all features" },
        SettingRow { default: "4", ..RANK },
        ALPHA,
    ],
    deploy: TWO_FACTOR,
    source: "Multitask Multilingual Model Adaptation with Featurized Low-Rank Mixtures (2024)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Flix::new(s))),
};
