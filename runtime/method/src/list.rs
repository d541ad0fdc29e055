//! The list of methods: what there is, with which settings, from which paper.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::str::FromStr;

use ingraft_train::Method;

use crate::bone::Bone;
use crate::delora::Delora;
use crate::dora::Dora;
use crate::ether::{Ether, EtherPlus};
use crate::expression::{Expressed, Expression};
use crate::fourierft::FourierFt;
use crate::hira::Hira;
use crate::hra::Hra;
use crate::kradapter::KrAdapter;
use crate::loha::Loha;
use crate::lokr::Lokr;
use crate::miss::Miss;
use crate::oft::Oft;
use crate::pissa::Pissa;
use crate::svft::Svft;
use crate::vera::Vera;
use crate::waveft::WaveFt;
use crate::{Bias, DepthwiseTerm, Full, Head, Ia3, Lora, Mask, MethodError, RsLora, Shira, Ssf};

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
    /// Its terms are the value of an expression.
    Expression(fn(&Settings<'_>) -> Result<Box<dyn Expression>, MethodError>),
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
    let settings = Settings { row, given: settings };
    match row.make {
        Make::Terms(make) => make(&settings),
        Make::Expression(make) => Ok(Box::new(Expressed(make(&settings)?))),
    }
}

/// The settings of a method being made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'s> {
    pub(crate) row: &'s MethodRow,
    pub(crate) given: &'s [(&'s str, &'s str)],
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

    /// The setting `name`, a positive real number.
    ///
    /// # Errors
    /// [`MethodError::Value`].
    pub(crate) fn positive(&self, name: &str) -> Result<f64, MethodError> {
        self.number(name, |value: &f64| *value > 0.0 && value.is_finite())
    }
}

fn lora(settings: &Settings<'_>) -> Result<Box<dyn Method>, MethodError> {
    let depthwise = |text: &str| match text {
        "skip" => Some(DepthwiseTerm::Skip),
        "scale" => Some(DepthwiseTerm::Scale),
        "factors" => Some(DepthwiseTerm::Factors),
        _ => None,
    };
    let lora = Lora {
        rank: settings.rank()?,
        alpha: settings.positive("alpha")?,
        rank_stabilized: settings.number("rslora", |_| true)?,
        depthwise: settings.value("depthwise", depthwise)?,
    };
    Ok(lora.boxed())
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

/// Boxes an expression.
fn boxed<E: Expression + 'static>(
    method: Result<E, MethodError>,
) -> Result<Box<dyn Expression>, MethodError> {
    Ok(Box::new(method?))
}

const RANK: SettingRow = SettingRow { name: "rank", default: "8", expected: "a whole number in 1..=256" };
const ALPHA: SettingRow = SettingRow { name: "alpha", default: "8", expected: "a positive number" };
const FUSED: &str = "fused weight, int8 on int8 sites";
const TWO_FACTOR: &str = "two-factor, int8 factors with int16 between them on int8 sites";

/// Every method, in order of name.
pub static METHODS: &[MethodRow] = &[
    MethodRow {
        name: "bias",
        family: Family::Selective,
        settings: &[],
        deploy: "shift per output channel",
        source: "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models (2022)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(|_| Ok(Box::new(Bias))),
    },
    MethodRow {
        name: "bone",
        family: Family::Reparameterized,
        settings: &[RANK],
        deploy: FUSED,
        source: "Bone: Block Affine Transformation as Parameter Efficient Fine-tuning Methods for Large Language Models (2024), first version",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Bone::new(s))),
    },
    MethodRow {
        name: "delora",
        family: Family::Reparameterized,
        settings: &[RANK, SettingRow { name: "lambda", default: "15", expected: "a positive number" }],
        deploy: TWO_FACTOR,
        source: "Decoupling Angles and Strength in Low-rank Adaptation (2025)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Delora::new(s))),
    },
    MethodRow {
        name: "dora",
        family: Family::Reparameterized,
        settings: &[RANK, ALPHA],
        deploy: FUSED,
        source: "DoRA: Weight-Decomposed Low-Rank Adaptation (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Dora::new(s))),
    },
    MethodRow {
        name: "ether",
        family: Family::Reparameterized,
        settings: &[SettingRow { name: "blocks", default: "4", expected: "a positive whole number" }],
        deploy: FUSED,
        source: "ETHER: Efficient Finetuning of Large-Scale Models with Hyperplane Reflections (2024)",
        definition: Definition::Verified,
        starts_as_base: false,
        make: Make::Expression(|s| boxed(Ether::new(s))),
    },
    MethodRow {
        name: "ether+",
        family: Family::Reparameterized,
        settings: &[SettingRow { name: "blocks", default: "4", expected: "a positive whole number" }],
        deploy: FUSED,
        source: "ETHER: Efficient Finetuning of Large-Scale Models with Hyperplane Reflections (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(EtherPlus::new(s))),
    },
    MethodRow {
        name: "fourierft",
        family: Family::Reparameterized,
        settings: &[
            SettingRow { name: "frequencies", default: "1000", expected: "a positive whole number" },
            SettingRow { name: "scale", default: "150", expected: "a positive number" },
        ],
        deploy: FUSED,
        source: "Parameter-Efficient Fine-Tuning with Discrete Fourier Transform (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(FourierFt::new(s))),
    },
    MethodRow {
        name: "full",
        family: Family::Full,
        settings: &[],
        deploy: "overlay of every weight, int8 steps on int8 sites; shift per output channel",
        source: "full fine-tuning of the chosen sites, the ceiling of the others",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(|_| Ok(Box::new(Full))),
    },
    MethodRow {
        name: "head",
        family: Family::Selective,
        settings: &[],
        deploy: "replacement of the last linear layer",
        source: "linear probing",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(|_| Ok(Box::new(Head))),
    },
    MethodRow {
        name: "hira",
        family: Family::Reparameterized,
        settings: &[RANK],
        deploy: FUSED,
        source: "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large Language Models (2025)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Hira::new(s))),
    },
    MethodRow {
        name: "hra",
        family: Family::Reparameterized,
        settings: &[SettingRow { name: "rank", default: "8", expected: "an even number in 2..=256" }],
        deploy: FUSED,
        source: "Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Hra::new(s))),
    },
    MethodRow {
        name: "ia3",
        family: Family::Additive,
        settings: &[],
        deploy: "scale per output channel",
        source: "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning (2022)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(|_| Ok(Box::new(Ia3))),
    },
    MethodRow {
        name: "kradapter",
        family: Family::Reparameterized,
        settings: &[],
        deploy: FUSED,
        source: "Towards Higher Effective Rank in Parameter-efficient Fine-tuning using Khatri-Rao Product (2025)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|_| boxed(Ok(KrAdapter))),
    },
    MethodRow {
        name: "loha",
        family: Family::Reparameterized,
        settings: &[RANK, ALPHA],
        deploy: "two-factor of rank squared where that is smaller, else fused weight",
        source: "FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning (2022)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Loha::new(s))),
    },
    MethodRow {
        name: "lokr",
        family: Family::Reparameterized,
        settings: &[
            RANK,
            ALPHA,
            SettingRow { name: "decompose_both", default: "false", expected: "true or false" },
        ],
        deploy: FUSED,
        source: "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Lokr::new(s))),
    },
    MethodRow {
        name: "lora",
        family: Family::Reparameterized,
        settings: &[
            RANK,
            ALPHA,
            SettingRow { name: "rslora", default: "false", expected: "true or false" },
            SettingRow { name: "depthwise", default: "skip", expected: "skip, scale or factors" },
        ],
        deploy: TWO_FACTOR,
        source: "LoRA: Low-Rank Adaptation of Large Language Models (2022)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(lora),
    },
    MethodRow {
        name: "miss",
        family: Family::Reparameterized,
        settings: &[RANK],
        deploy: TWO_FACTOR,
        source: "MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing Structure (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Miss::new(s))),
    },
    MethodRow {
        name: "oft",
        family: Family::Reparameterized,
        settings: &[
            SettingRow { name: "block", default: "32", expected: "a whole number in 2..=256" },
            SettingRow {
                name: "neumann_terms",
                default: "0",
                expected: "0 for the exact rotation, or a whole number in 2..=16",
            },
        ],
        deploy: FUSED,
        source: "Controlling Text-to-Image Diffusion by Orthogonal Finetuning (2023)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Oft::new(s))),
    },
    MethodRow {
        name: "pissa",
        family: Family::Reparameterized,
        settings: &[SettingRow { name: "rank", default: "8", expected: "a whole number in 1..=128" }, ALPHA],
        deploy: "two-factor of twice the rank, int8 factors with int16 between them on int8 sites",
        source: "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Pissa::new(s))),
    },
    MethodRow {
        name: "rslora",
        family: Family::Reparameterized,
        settings: &[RANK, ALPHA],
        deploy: TWO_FACTOR,
        source: "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA (2023)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(|s| Ok(Box::new(RsLora { rank: s.rank()?, alpha: s.positive("alpha")? }))),
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
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(shira),
    },
    MethodRow {
        name: "ssf",
        family: Family::Additive,
        settings: &[],
        deploy: "scale and shift per output channel",
        source: "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning (2022)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Terms(|_| Ok(Box::new(Ssf))),
    },
    MethodRow {
        name: "svft",
        family: Family::Reparameterized,
        settings: &[
            SettingRow { name: "pattern", default: "banded", expected: "plain, banded or random" },
            SettingRow { name: "off_diagonals", default: "2", expected: "a positive whole number" },
        ],
        deploy: FUSED,
        source: "SVFT: Parameter-Efficient Fine-Tuning with Singular Vectors (2024)",
        definition: Definition::Verified,
        starts_as_base: false,
        make: Make::Expression(|s| boxed(Svft::new(s))),
    },
    MethodRow {
        name: "vera",
        family: Family::Reparameterized,
        settings: &[
            SettingRow { name: "rank", default: "256", expected: "a whole number in 1..=256" },
            SettingRow { name: "d_initial", default: "0.1", expected: "a positive number" },
            SettingRow { name: "projection_seed", default: "0", expected: "a whole number below 2^32" },
        ],
        deploy: TWO_FACTOR,
        source: "VeRA: Vector-based Random Matrix Adaptation (2024)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(Vera::new(s))),
    },
    MethodRow {
        name: "waveft",
        family: Family::Reparameterized,
        settings: &[
            SettingRow { name: "coefficients", default: "2592", expected: "a positive whole number" },
            SettingRow { name: "scale", default: "25", expected: "a positive number" },
        ],
        deploy: FUSED,
        source: "Exploring Sparsity for Parameter Efficient Fine Tuning Using Wavelets (2025)",
        definition: Definition::Verified,
        starts_as_base: true,
        make: Make::Expression(|s| boxed(WaveFt::new(s))),
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
