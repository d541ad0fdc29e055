//! The list of methods: what there is, with which settings, from which paper.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::str::FromStr;

use ingraft_train::Method;

use crate::{Bias, DepthwiseTerm, Full, Head, Ia3, Lora, Mask, MethodError, Shira};

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
    make: fn(&Settings<'_>) -> Result<Box<dyn Method>, MethodError>,
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

/// The method `name` with `settings` over its defaults; the last of equal names counts.
///
/// # Errors
/// [`MethodError`] for a name, a setting or a value that there is not.
pub fn build(name: &str, settings: &[(&str, &str)]) -> Result<Box<dyn Method>, MethodError> {
    let row = METHODS.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| MethodError::Unknown(name.to_string()))?;
    for (setting, _) in settings {
        if !row.settings.iter().any(|known| known.name == *setting) {
            return Err(MethodError::Setting { method: row.name, setting: setting.to_string() });
        }
    }
    (row.make)(&Settings { row, given: settings })
}

/// The settings of a method being made.
struct Settings<'s> {
    row: &'s MethodRow,
    given: &'s [(&'s str, &'s str)],
}

impl Settings<'_> {
    /// The value of setting `name`, when `parse` accepts it.
    fn value<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, MethodError> {
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

    fn number<T: FromStr>(&self, name: &str, accept: impl Fn(&T) -> bool) -> Result<T, MethodError> {
        self.value(name, |text| text.parse().ok().filter(&accept))
    }
}

fn lora(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let depthwise = |text: &str| match text {
        "skip" => Some(DepthwiseTerm::Skip),
        "scale" => Some(DepthwiseTerm::Scale),
        _ => None,
    };
    Ok(Box::new(Lora {
        rank: settings.number("rank", |rank| (1..=256).contains(rank))?,
        alpha: settings.number("alpha", |alpha: &f64| *alpha > 0.0 && alpha.is_finite())?,
        rank_stabilized: settings.number("rslora", |_| true)?,
        depthwise: settings.value("depthwise", depthwise)?,
    }))
}

fn shira(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let mask = |text: &str| match text {
        "random" => Some(Mask::Random),
        "magnitude" => Some(Mask::Magnitude),
        "row" => Some(Mask::Row),
        _ => None,
    };
    Ok(Box::new(Shira {
        density: settings.number("density", |density: &f64| *density > 0.0 && *density <= 1.0)?,
        mask: settings.value("mask", mask)?,
    }))
}

/// Every method, in order of name.
pub static METHODS: &[MethodRow] = &[
    MethodRow {
        name: "bias",
        family: Family::Selective,
        settings: &[],
        deploy: "shift per output channel",
        source: "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models (2022)",
        make: |_| Ok(Box::new(Bias)),
    },
    MethodRow {
        name: "full",
        family: Family::Full,
        settings: &[],
        deploy: "overlay of every weight, int8 steps on int8 sites; shift per output channel",
        source: "full fine-tuning of the chosen sites, the ceiling of the others",
        make: |_| Ok(Box::new(Full)),
    },
    MethodRow {
        name: "head",
        family: Family::Selective,
        settings: &[],
        deploy: "replacement of the last linear layer",
        source: "linear probing",
        make: |_| Ok(Box::new(Head)),
    },
    MethodRow {
        name: "ia3",
        family: Family::Additive,
        settings: &[],
        deploy: "scale per output channel",
        source: "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning (2022)",
        make: |_| Ok(Box::new(Ia3)),
    },
    MethodRow {
        name: "lora",
        family: Family::Reparameterized,
        settings: &[
            SettingRow { name: "rank", default: "8", expected: "a whole number in 1..=256" },
            SettingRow { name: "alpha", default: "8", expected: "a positive number" },
            SettingRow { name: "rslora", default: "false", expected: "true or false" },
            SettingRow { name: "depthwise", default: "skip", expected: "skip or scale" },
        ],
        deploy: "two-factor, int8 factors with int16 between them on int8 sites",
        source: "LoRA: Low-Rank Adaptation of Large Language Models (2022)",
        make: lora,
    },
    MethodRow {
        name: "shira",
        family: Family::Selective,
        settings: &[
            SettingRow { name: "density", default: "0.02", expected: "a share above 0, at most 1" },
            SettingRow { name: "mask", default: "random", expected: "random, magnitude or row" },
        ],
        deploy: "sparse overlay, int8 steps on int8 sites",
        source: "Sparse High Rank Adapters (2024)",
        make: shira,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_method_is_built_with_its_listed_defaults() {
        assert!(METHODS.is_sorted_by_key(|row| row.name));
        for row in METHODS {
            let method = build(row.name, &[]).unwrap();
            assert_eq!(method.name(), row.name);
            let mut settings = Vec::new();
            method.settings(&mut |name, value| settings.push((name, value.to_string())));
            let listed: Vec<_> = row.settings.iter().map(|s| (s.name, s.default.to_string())).collect();
            assert_eq!(settings, listed, "{}", row.name);
        }
    }

    #[test]
    fn refuses_what_there_is_not() {
        let refused = |name, settings: &[(&str, &str)]| build(name, settings).unwrap_err().to_string();
        assert!(refused("lorra", &[]).contains("no method lorra"));
        assert!(refused("ia3", &[("rank", "4")]).contains("no setting rank"));
        assert!(refused("lora", &[("rank", "0")]).contains("rank=0 is not a whole number in 1..=256"));
        assert!(refused("lora", &[("alpha", "inf")]).contains("alpha=inf"));
        assert!(refused("shira", &[("density", "2")]).contains("density=2"));
        assert!(refused("shira", &[("mask", "best")]).contains("mask=best"));
        assert_eq!(build("lora", &[("rank", "4"), ("rank", "2")]).unwrap().name(), "lora");
    }
}
