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
        self.multiply(weight, factors, |diagonal| &mut diagonal.output);
    }

    /// Notes that input channel `i` of `weight` was multiplied by `factors[i]`.
    pub fn scale_inputs(&mut self, weight: &str, factors: &[f64]) {
        self.multiply(weight, factors, |diagonal| &mut diagonal.input);
    }

    fn multiply(&mut self, weight: &str, factors: &[f64], side: fn(&mut Diagonal) -> &mut Option<Vec<f32>>) {
        if factors.iter().all(|factor| *factor == 1.0) {
            return;
        }
        let side = side(self.0.entry(weight.to_owned()).or_default());
        let total = side.get_or_insert_with(|| vec![1.0; factors.len()]);
        total.iter_mut().zip(factors).for_each(|(t, f)| *t = (f64::from(*t) * f) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_accumulate() {
        let mut diagonals = Diagonals::of_outputs([("w".to_owned(), vec![2.0, 0.5])].into());
        diagonals.scale_outputs("w", &[3.0, 1.0]);
        diagonals.scale_inputs("w", &[1.0, 1.0, 1.0]);
        diagonals.scale_inputs("v", &[4.0]);
        assert_eq!(diagonals.of("w"), Some(&Diagonal { output: Some(vec![6.0, 0.5]), input: None }));
        assert_eq!(diagonals.of("v"), Some(&Diagonal { output: None, input: Some(vec![4.0]) }));
        assert_eq!(diagonals.of("u"), None);
    }
}
