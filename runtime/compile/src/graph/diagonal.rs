//! What was multiplied into weights on the way to a plan.

use std::collections::BTreeMap;

use super::simplify::Factors;

/// Per weight, the diagonals with W_plan = diag(o)·W_file·diag(i); without an entry they are all ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagonals(BTreeMap<String, Diagonal>);

/// The factors of one weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagonal {
    /// o: one factor per output channel.
    pub output: Option<Vec<f32>>,
    /// i: one factor per input channel of a group.
    pub input: Option<Vec<f32>>,
}

impl Diagonals {
    /// Output factors alone, as batch normalization leaves them.
    pub fn of_outputs(factors: Factors) -> Self {
        let diagonal = |output| Diagonal { output: Some(output), input: None };
        Self(factors.into_iter().map(|(weight, factors)| (weight, diagonal(factors))).collect())
    }

    /// The factors of the weight called `weight`.
    pub fn of(&self, weight: &str) -> Option<&Diagonal> {
        self.0.get(weight)
    }

    /// Notes that output channel `o` of `weight` was multiplied by `factors[o]`.
    pub fn scale_outputs(&mut self, weight: &str, factors: &[f64]) {
        multiply(&mut self.0.entry(weight.to_owned()).or_default().output, factors);
    }

    /// Notes that input channel `i` of `weight` was multiplied by `factors[i]`.
    pub fn scale_inputs(&mut self, weight: &str, factors: &[f64]) {
        multiply(&mut self.0.entry(weight.to_owned()).or_default().input, factors);
    }
}

fn multiply(diagonal: &mut Option<Vec<f32>>, factors: &[f64]) {
    let diagonal = diagonal.get_or_insert_with(|| vec![1.0; factors.len()]);
    diagonal.iter_mut().zip(factors).for_each(|(d, f)| *d = (f64::from(*d) * f) as f32);
}
