//! What the list says of a method, and the settings it is made from.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::str::FromStr;

use ingraft_train::Method;

use crate::expression::Expression;
use crate::{MethodError, Saliency, Score};

/// One method as `ingraft methods` prints it.
#[derive(Clone, Copy, Debug)]
pub struct MethodRow {
    /// Name, as in `--method NAME`.
    pub name: &'static str,
    /// What kind of adaptation it is.
    pub family: Family,
    /// Its settings.
    pub settings: &'static [SettingRow],
    /// What an adapter made by it consists of.
    pub deploy: &'static str,
    /// The paper.
    pub source: &'static str,
    /// How sure it is that this is what the paper defines.
    pub definition: Definition,
    /// Whether an adapter acts as the base before it is trained.
    pub starts_as_base: bool,
    pub(crate) make: Make,
}

/// How a method is made from its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Make {
    /// Its terms are trained as they are.
    Terms(fn(&Settings<'_>) -> Result<Box<dyn Method>, MethodError>),
    /// Its terms are trained at places that a score chooses.
    Measured {
        /// The score.
        score: fn(&Settings<'_>) -> Result<Score, MethodError>,
        make: fn(&Settings<'_>) -> Result<Box<dyn Method>, MethodError>,
    },
    /// Its terms are the value of an expression.
    Expression(MakeExpression),
    /// They are, and it starts from what a score says.
    MeasuredExpression {
        /// The score.
        score: fn(&Settings<'_>) -> Result<Score, MethodError>,
        make: MakeExpression,
    },
}

/// How an expression is made from settings.
type MakeExpression = fn(&Settings<'_>) -> Result<Box<dyn Expression>, MethodError>;

impl MethodRow {
    /// The parts of what it computes, at its defaults, that count as constants on the way back, as published: against
    /// these its gradient is no slope of what is computed. None for most.
    pub fn detached(&self) -> &'static [&'static str] {
        let settings = Settings { row: self, given: &[], saliency: None };
        let made = self.make.expression().and_then(|make| make(&settings).ok());
        made.map_or(&[], |expression| expression.detached())
    }
}

impl Make {
    /// How its expression is made, where it is one.
    pub(crate) const fn expression(self) -> Option<MakeExpression> {
        match self {
            Self::Expression(make) | Self::MeasuredExpression { make, .. } => Some(make),
            Self::Terms(_) | Self::Measured { .. } => None,
        }
    }
}

/// One setting of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingRow {
    /// Name, as in `--set NAME=VALUE`.
    pub name: &'static str,
    /// Default value.
    pub default: &'static str,
    /// What values it can have.
    pub expected: &'static str,
}

/// How a method's definition is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Definition {
    /// Checked against the authors' code or another implementation.
    Verified,
    /// Put together from the abstract or from secondary sources.
    Inferred,
}

impl Definition {
    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Inferred => "inferred",
        }
    }
}

/// The four ways of parameter-efficient adaptation (Han et al., 2024), and tuning without economy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// New parameters beside the model.
    Additive,
    /// Some of the model's own parameters.
    Selective,
    /// A delta of the weights in fewer parameters.
    Reparameterized,
    /// All of the model's own parameters.
    Full,
}

impl Family {
    /// The name users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Additive => "additive",
            Self::Selective => "selective",
            Self::Reparameterized => "reparameterized",
            Self::Full => "full",
        }
    }
}

/// The settings of a method being made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'s> {
    pub(crate) row: &'s MethodRow,
    pub(crate) given: &'s [(&'s str, &'s str)],
    /// What was measured on training data, if it was.
    pub(crate) saliency: Option<&'s Saliency>,
}

impl Settings<'_> {
    /// The value of setting `name`, when `parse` accepts it.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn value<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, MethodError> {
        let row = self.row.settings.iter().find(|row| row.name == name);
        let row = row.unwrap_or(&SettingRow { name: "", default: "", expected: "" });
        let given = self.given.iter().rev().find(|(setting, _)| *setting == name);
        let value = given.map_or(row.default, |(_, value)| value);
        parse(value).ok_or_else(|| MethodError::Value {
            method: self.row.name,
            setting: row.name,
            value: value.to_string(),
            expected: row.expected,
        })
    }

    /// The value of setting `name` as a number (or flag) that `accept` accepts.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn number<T: FromStr>(
        &self,
        name: &str,
        accept: impl Fn(&T) -> bool,
    ) -> Result<T, MethodError> {
        self.value(name, |text| text.parse().ok().filter(&accept))
    }

    /// The setting `rank`, within what terms may have.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn rank(&self) -> Result<u32, MethodError> {
        self.number("rank", |rank| (1..=256).contains(rank))
    }

    /// The setting `name`, a positive whole number.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn count(&self, name: &str) -> Result<u32, MethodError> {
        self.number(name, |n| (1..=1 << 20).contains(n))
    }

    /// The setting `name`, yes or no.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn flag(&self, name: &str) -> Result<bool, MethodError> {
        self.number(name, |_: &bool| true)
    }

    /// The one of `all` whose name, by `name_of`, setting `name` has.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &str,
        all: &[T],
        name_of: impl Fn(T) -> &'static str,
    ) -> Result<T, MethodError> {
        self.value(name, |text| all.iter().copied().find(|one| name_of(*one) == text))
    }

    /// The setting `name`, a positive real number.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn positive(&self, name: &str) -> Result<f64, MethodError> {
        self.number(name, |value: &f64| *value > 0.0 && value.is_finite())
    }

    /// The one of `all` that the setting `name` names.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn one_of<T: Copy>(&self, name: &str, all: &[(&'static str, T)]) -> Result<T, MethodError> {
        self.value(name, |text| all.iter().find(|(known, _)| *known == text).map(|(_, value)| *value))
    }

    /// The setting `name`, a share of a whole.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn share(&self, name: &str) -> Result<f64, MethodError> {
        self.number(name, |share: &f64| *share > 0.0 && *share <= 1.0)
    }

    /// The setting `scope`: whether a budget is one for all sites, and its name.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn scope(&self) -> Result<(bool, &'static str), MethodError> {
        self.one_of("scope", &[("matrix", (false, "matrix")), ("network", (true, "network"))])
    }
}

/// Boxes an expression.
pub(crate) fn boxed<E: Expression + 'static>(
    method: Result<E, MethodError>,
) -> Result<Box<dyn Expression>, MethodError> {
    Ok(Box::new(method?))
}

/// A setting that is a positive whole number.
pub(crate) const fn count(name: &'static str, default: &'static str) -> SettingRow {
    SettingRow { name, default, expected: "a whole number in 1..=1048576" }
}

/// A setting that is a positive real number.
pub(crate) const fn positive(name: &'static str, default: &'static str) -> SettingRow {
    SettingRow { name, default, expected: "a positive number" }
}

/// A setting that is yes or no.
pub(crate) const fn flag(name: &'static str, default: &'static str) -> SettingRow {
    SettingRow { name, default, expected: "true or false" }
}

/// The setting `rank` of most methods.
pub(crate) const RANK: SettingRow =
    SettingRow { name: "rank", default: "8", expected: "a whole number in 1..=256" };
/// A setting that is a share.
pub(crate) const SHARE: &str = "a share above 0, at most 1";
/// The setting `scope` of those that choose by scores.
pub(crate) const SCOPE: SettingRow =
    SettingRow { name: "scope", default: "matrix", expected: "matrix or network" };
/// Deployed as an overlay.
pub(crate) const OVERLAY: &str = "sparse overlay, int8 steps on int8 sites";
/// The setting `random_loc_seed` of those that draw places as HF PEFT does.
pub(crate) const LOC_SEED: SettingRow =
    SettingRow { name: "random_loc_seed", default: "777", expected: "a whole number below 2^32" };
/// The setting `alpha` of those that scale by α/r.
pub(crate) const ALPHA: SettingRow =
    SettingRow { name: "alpha", default: "8", expected: "a positive number" };
/// Deployed as a whole weight.
pub(crate) const FUSED: &str = "fused weight, int8 on int8 sites";
/// Deployed as two factors under a scale of every row.
pub(crate) const DIRECTED: &str = "two-factor, int8 factors on int8 sites, with scale and shift in f32";
/// Deployed as two factors.
pub(crate) const TWO_FACTOR: &str = "two-factor, int8 factors with int16 between them on int8 sites";
