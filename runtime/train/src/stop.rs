//! When to stop.
//!
//! The criterion is the caller's, and may look at training clips only: the loss
//! of an inner part of them held out, or the training loss itself, smoothed.
//!
//! Under a schedule that falls to 0, let the training loss choose parameters but not end training: it is noisy while rates
//! are high, and most is learned when they are low. On ten classes of 66 clips, 15 epochs of patience cost 18 points.

/// Watches a number that should fall and says when it no longer does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStop {
    /// Observations in a row that may be no better; without a limit, none ends training.
    patience: Option<u32>,
    margin: f32,
    smoothing: f32,
    smoothed: Option<f32>,
    best: f32,
    waited: u32,
}

/// What one more observation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The best so far: keep these parameters.
    Best,
    /// No better than before, but patience is left.
    Wait,
    /// Patience is spent: go back to the parameters of the last [`Verdict::Best`].
    Stop,
}

impl EarlyStop {
    /// Stops after `patience` observations in a row that are not better.
    pub fn new(patience: u32) -> Self {
        Self { patience: Some(patience), ..Self::never() }
    }

    /// Never stops; tells which parameters to keep.
    pub fn never() -> Self {
        Self { patience: None, margin: 0.0, smoothing: 0.0, smoothed: None, best: f32::INFINITY, waited: 0 }
    }

    /// What was observed so far, for a checkpoint.
    pub fn to_words(&self) -> [u32; 4] {
        let smoothed = self.smoothed.unwrap_or(f32::NAN);
        [u32::from(self.smoothed.is_some()), smoothed.to_bits(), self.best.to_bits(), self.waited]
    }

    /// Goes on from what [`Self::to_words`] gave.
    pub fn resumed(self, [seen, smoothed, best, waited]: [u32; 4]) -> Self {
        let smoothed = (seen != 0).then(|| f32::from_bits(smoothed));
        Self { smoothed, best: f32::from_bits(best), waited, ..self }
    }

    /// Whether patience is spent.
    pub fn is_spent(&self) -> bool {
        self.patience.is_some_and(|patience| self.waited >= patience.max(1))
    }

    /// Counts as better only what is lower by more than `margin`.
    pub fn margin(self, margin: f32) -> Self {
        Self { margin, ..self }
    }

    /// Observes an exponential average with this weight on the past, in 0…1:
    /// for a noisy criterion such as the training loss.
    pub fn smoothing(self, smoothing: f32) -> Self {
        Self { smoothing, ..self }
    }

    /// Takes the next value of the criterion. A value that is not a number is never better.
    pub fn observe(&mut self, value: f32) -> Verdict {
        let value = match self.smoothed {
            Some(past) => past * self.smoothing + value * (1.0 - self.smoothing),
            None => value,
        };
        // One NaN must not spoil the average for good.
        if !value.is_nan() {
            self.smoothed = Some(value);
        }
        if value < self.best - self.margin {
            self.best = value;
            self.waited = 0;
            return Verdict::Best;
        }
        self.waited = self.waited.saturating_add(1);
        let spent = self.patience.is_some_and(|patience| self.waited >= patience);
        if spent { Verdict::Stop } else { Verdict::Wait }
    }

    /// The lowest value so far; infinite before the first.
    pub fn best(&self) -> f32 {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Best, Stop, Wait};

    #[test]
    fn waits_then_stops() {
        let mut stop = EarlyStop::new(2).margin(0.1);
        let verdicts = [1.0, 0.95, 0.8, 0.75, f32::NAN].map(|v| stop.observe(v));
        assert_eq!(verdicts, [Best, Wait, Best, Wait, Stop]);
        assert_eq!(stop.best(), 0.8);
    }

    #[test]
    fn without_patience_the_best_is_told_to_the_end() {
        let mut stop = EarlyStop::never();
        assert_eq!(stop.observe(1.0), Best);
        assert!((0..5000).all(|_| stop.observe(2.0) == Wait) && !stop.is_spent());
        let mut stop = EarlyStop::never().resumed([1, 0, 1.0f32.to_bits(), u32::MAX]);
        assert_eq!((stop.observe(2.0), stop.is_spent(), stop.observe(0.5)), (Wait, false, Best));
        assert_eq!(stop.best(), 0.5);
    }

    #[test]
    fn smoothing_ignores_one_outlier() {
        let mut plain = EarlyStop::new(1);
        let mut smooth = EarlyStop::new(1).smoothing(0.9);
        let values = [2.0, 1.0, 1.1, 0.9];
        assert_eq!(values.map(|v| plain.observe(v)), [Best, Best, Stop, Best]);
        assert_eq!(values.map(|v| smooth.observe(v)), [Best; 4]);
    }
}
