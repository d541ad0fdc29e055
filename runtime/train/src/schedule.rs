//! Learning-rate schedules.

/// A factor on the learning rate, by step: a linear warm-up, then a shape.
///
/// # Numerics
/// f32, by no function whose bits or cost differ between targets. Exactly 1 at the first step
/// behind the warm-up, and exactly `floor` once all steps are taken.
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
    /// A straight line from 1 down to `floor`, which it keeps.
    Linear {
        /// Steps in all, warm-up included.
        steps: u32,
        /// The last factor.
        floor: f32,
    },
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
            ScheduleShape::Linear { steps, floor } => self.between(step, steps, floor, |progress| progress),
            ScheduleShape::Cosine { steps, floor } => self.between(step, steps, floor, half_wave),
        }
    }

    /// From 1 to `floor` as `fallen`, which goes from 0 to 1, says of the share of steps taken.
    fn between(&self, step: u32, steps: u32, floor: f32, fallen: impl Fn(f32) -> f32) -> f32 {
        if step >= steps {
            return floor;
        }
        // Here the warm-up is over and shorter than all steps: the length is not zero.
        let length = steps.saturating_sub(self.warm_up) as f32;
        let progress = step.saturating_sub(self.warm_up) as f32 / length;
        1.0 - (1.0 - floor) * fallen(progress)
    }
}

/// (1 − cos πx)/2 of x in 0..=1, which is sin²(πx/2): by the Taylor series of the sine to x⁹, for the half below ½; what is left
/// out is below 3e-9. The cosine of `libm` reduces its argument in f64.
fn half_wave(x: f32) -> f32 {
    const TERMS: [f32; 5] =
        [core::f32::consts::FRAC_PI_2, -0.645_964_1, 0.079_692_63, -0.004_681_754, 1.604_412e-4];
    let near = x.min(1.0 - x);
    let sine = near * TERMS.iter().rfold(0.0, |sum, term| sum * (near * near) + term);
    if x <= 0.5 { sine * sine } else { 1.0 - sine * sine }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [fn(u32, f32) -> ScheduleShape; 2] = [
        |steps, floor| ScheduleShape::Linear { steps, floor },
        |steps, floor| ScheduleShape::Cosine { steps, floor },
    ];

    #[test]
    fn ends_are_exact() {
        for shape in SHAPES {
            for floor in [0.0, 0.1, 1.0 / 3.0] {
                let schedule = Schedule { shape: shape(14, floor), warm_up: 4 };
                assert_eq!([0, 1, 2, 3].map(|step| schedule.factor(step)), [0.25, 0.5, 0.75, 1.0]);
                assert_eq!(schedule.factor(4), 1.0);
                assert_eq!([14, 15, u32::MAX].map(|step| schedule.factor(step)), [floor; 3]);
            }
        }
        assert_eq!([0, 7, u32::MAX].map(|step| Schedule::CONSTANT.factor(step)), [1.0; 3]);
    }

    #[test]
    fn lines_and_cosines_are_what_their_names_say() {
        let [line, wave] = SHAPES.map(|shape| Schedule { shape: shape(14, 0.25), warm_up: 4 });
        for step in 4..14 {
            let progress = f64::from(step - 4) / 10.0;
            let near = |schedule: Schedule, height: f64| {
                let (got, want) = (f64::from(schedule.factor(step)), 0.25 + 0.75 * height);
                assert!((got - want).abs() < 1e-7, "{step}: {got} {want}");
            };
            near(line, 1.0 - progress);
            near(wave, 0.5 * (1.0 + libm::cos(core::f64::consts::PI * progress)));
        }
    }

    #[test]
    fn factors_never_rise_behind_the_warm_up() {
        for shape in SHAPES {
            let schedule = Schedule { shape: shape(1000, 0.0), warm_up: 7 };
            assert!((7..1001).all(|step| schedule.factor(step + 1) <= schedule.factor(step)));
            assert!(schedule.factor(999) > 0.0, "the last step taken still moves");
        }
    }

    /// The bits are a part of the contract: a device repeats the host's training.
    #[test]
    fn bits_are_the_same_everywhere() {
        let digest = |shape: fn(u32, f32) -> ScheduleShape| {
            let schedule = Schedule { shape: shape(300, 0.01), warm_up: 11 };
            // FNV-1a.
            (0..400).fold(0x811c_9dc5_u32, |digest, step| {
                (digest ^ schedule.factor(step).to_bits()).wrapping_mul(0x0100_0193)
            })
        };
        assert_eq!(SHAPES.map(digest), [3_935_591_166, 3_732_475_211]);
    }

    #[test]
    fn degenerate_lengths_stay_in_range() {
        for shape in SHAPES {
            for (steps, warm_up) in [(0, 0), (0, 3), (3, 3), (4, 3), (1, 0)] {
                let schedule = Schedule { shape: shape(steps, 0.0), warm_up };
                assert!((0..9).all(|step| (0.0..=1.0).contains(&schedule.factor(step))));
            }
        }
    }
}
