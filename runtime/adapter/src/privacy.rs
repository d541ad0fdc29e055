//! What an adapter says of the privacy of the clips it was trained on.

use crate::record::PrivacyRecord;

/// What is protected as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PrivacyUnit {
    /// A clip, with all of its patches and versions.
    Clip = 1,
    /// A group of clips that the data declares: a speaker, a day, a recording that clips were cut from.
    Group = 2,
}

impl PrivacyUnit {
    /// Its name: `clip` or `group`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Group => "group",
        }
    }
}

/// How an adapter was trained under differential privacy, and what that promises.
///
/// It is a statement of whoever wrote the file, covered by its hash; a seal says who that was. Only training writes it:
/// whatever else makes an adapter from others leaves it out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Privacy {
    /// ε spent, over all training runs that led here.
    pub epsilon: f64,
    /// δ it is for, over all of them.
    pub delta: f64,
    /// What is protected as one.
    pub unit: PrivacyUnit,
    /// Number of units of the last run.
    pub units: u32,
    /// Steps of the last run.
    pub steps: u32,
    /// Probability of a unit to be in a step of it.
    pub rate: f64,
    /// Deviation of its noise, in units of the bound.
    pub noise: f64,
    /// The bound: the longest gradient of a unit.
    pub bound: f64,
    /// Training runs.
    pub runs: u32,
}

impl Privacy {
    /// What `record` says; `None` unless it makes sense.
    pub(crate) fn read(record: &PrivacyRecord) -> Option<Self> {
        let unit = match record.unit {
            1 => PrivacyUnit::Clip,
            2 => PrivacyUnit::Group,
            _ => return None,
        };
        let PrivacyRecord { epsilon, delta, rate, noise, bound, units, steps, runs, .. } = *record;
        // Bits of positive numbers are ordered as these are; devices have no instruction that compares f64.
        let [one, infinity] = [1.0f64, f64::INFINITY].map(f64::to_bits);
        let sound =
            [epsilon, delta, rate, noise, bound].iter().all(|value| (1..infinity).contains(&value.to_bits()))
                && delta.to_bits() < one
                && rate.to_bits() <= one
                && [units, steps, runs].iter().all(|count| *count > 0);
        sound.then_some(Self { epsilon, delta, unit, units, steps, rate, noise, bound, runs })
    }

    /// The record that says this.
    #[cfg(feature = "alloc")]
    pub(crate) fn record(&self) -> PrivacyRecord {
        let Self { epsilon, delta, unit, units, steps, rate, noise, bound, runs } = *self;
        PrivacyRecord {
            epsilon,
            delta,
            rate,
            noise,
            bound,
            unit: unit as u32,
            units,
            steps,
            runs,
            reserved: 0,
        }
    }
}

impl core::fmt::Display for Privacy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "({:.4}, {:.3e})-differentially private for each {} of {}: {} steps, each {} in a step with probability {:.4}, \
             gradients of at most {} with noise of {:.4} times that",
            self.epsilon,
            self.delta,
            self.unit.name(),
            self.units,
            self.steps,
            self.unit.name(),
            self.rate,
            self.bound,
            self.noise
        )?;
        if self.runs > 1 { write!(f, "; {} runs added up", self.runs) } else { Ok(()) }
    }
}
