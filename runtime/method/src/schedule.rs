//! The schedule: at which steps a method chooses anew what it trains, and how its budget falls until then.

/// The steps, counted from 1, at which a method chooses.
///
/// Never at all is *static*: what was chosen before training stays. A period of 1 is *per step*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Steps before the first that may be one.
    pub(crate) after: u32,
    /// The last that may be one.
    pub(crate) until: u32,
    /// Of the steps between, every so many, counted from `from`; 0 for none.
    pub(crate) every: u32,
    /// The step that multiples of the period are counted from.
    pub(crate) from: u32,
}

impl Schedule {
    /// Every of the first `until` steps.
    pub(crate) const fn per_step(until: u32) -> Self {
        Self { after: 0, until, every: 1, from: 0 }
    }

    /// Every `every` steps up to `until`.
    pub(crate) const fn periodic(every: u32, until: u32) -> Self {
        Self { after: 0, until, every, from: 0 }
    }

    /// The same behind a warm-up of `after` steps, with the period still counted from the first step.
    pub(crate) const fn behind(self, after: u32) -> Self {
        Self { after, ..self }
    }

    /// The same with the period counted from step `from` on.
    pub(crate) const fn counted_from(self, from: u32) -> Self {
        Self { from, ..self }
    }

    /// Whether `step` lies in the time in which there are choices.
    pub(crate) const fn spans(&self, step: u32) -> bool {
        self.after < step && step <= self.until
    }

    /// Whether a choice is made at `step`.
    pub(crate) const fn is_due(&self, step: u32) -> bool {
        self.spans(step) && step.saturating_sub(self.from).is_multiple_of(self.every)
    }

    /// The share of that time still to come at `step`: 1 before it, 0 at its end.
    pub(crate) fn left(&self, step: u32) -> f64 {
        let length = self.until.saturating_sub(self.after).max(1);
        1.0 - f64::from(step.min(self.until).saturating_sub(self.after)) / f64::from(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn due(schedule: Schedule) -> Vec<u32> {
        (0..40).filter(|step| schedule.is_due(*step)).collect()
    }

    #[test]
    fn choices_fall_on_their_steps() {
        assert_eq!(due(Schedule::per_step(3)), [1, 2, 3]);
        assert_eq!(due(Schedule::periodic(5, 16)), [5, 10, 15]);
        assert_eq!(due(Schedule::periodic(5, 20).behind(10)), [15, 20]);
        assert_eq!(due(Schedule::periodic(5, 17).behind(7).counted_from(7)), [12, 17]);
        // A period of nothing is static, and so is an end before the beginning.
        assert!(due(Schedule::periodic(0, 30)).is_empty());
        assert!(due(Schedule::per_step(9).behind(9)).is_empty());
    }

    #[test]
    fn what_is_left_falls_from_one_to_nothing() {
        let schedule = Schedule::periodic(1, 30).behind(10);
        let left: Vec<f64> = [0, 10, 15, 30, 31].into_iter().map(|step| schedule.left(step)).collect();
        assert_eq!(left, [1.0, 1.0, 0.75, 0.0, 0.0]);
    }
}
