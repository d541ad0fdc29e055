//! Learning-rate schedules.

/// A factor on the learning rate, by step: a linear warm-up, then a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub shape: ScheduleShape,
    /// Steps over which the factor rises to 1; 0 for none.
    pub warm_up: u32,
}

/// The course of the factor after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScheduleShape {
    /// 1 for ever.
    Constant,
    /// Half a cosine from 1 down to `floor`, which it keeps (Loshchilov & Hutter, 2017, without restarts).
    Cosine {
        /// Steps in all, warm-up included.
        steps: u32,
        /// The last factor.
        floor: f32,
    },
}

impl Schedule {
    /// A factor of 1 throughout.
    pub const CONSTANT: Self = Self { shape: ScheduleShape::Constant, warm_up: 0 };

    /// The factor of step `step`, counted from 0.
    pub fn factor(&self, step: u32) -> f32 {
        if step < self.warm_up {
            return (step as f32 + 1.0) / self.warm_up as f32;
        }
        match self.shape {
            ScheduleShape::Constant => 1.0,
            ScheduleShape::Cosine { steps, floor } => {
                let length = steps.saturating_sub(self.warm_up).max(1) as f32;
                let progress = (step.saturating_sub(self.warm_up) as f32 / length).min(1.0);
                let wave = 0.5 * (1.0 + libm::cosf(core::f32::consts::PI * progress));
                floor + (1.0 - floor) * wave
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_falls_to_the_floor() {
        let schedule = Schedule { shape: ScheduleShape::Cosine { steps: 14, floor: 0.1 }, warm_up: 4 };
        let near = |step, want: f32| {
            let got = schedule.factor(step);
            assert!((got - want).abs() < 1e-6, "{step}: {got} {want}");
        };
        near(0, 0.25);
        near(3, 1.0);
        near(4, 1.0);
        near(9, 0.55);
        near(14, 0.1);
        near(u32::MAX, 0.1);
        assert_eq!(Schedule::CONSTANT.factor(7), 1.0);
    }

    #[test]
    fn degenerate_lengths_stay_in_range() {
        let schedule = Schedule { shape: ScheduleShape::Cosine { steps: 0, floor: 0.0 }, warm_up: 3 };
        assert!((0..9).all(|step| (0.0..=1.0).contains(&schedule.factor(step))));
    }
}
