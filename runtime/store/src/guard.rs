//! Whether an adapter on trial has proved itself.

/// What the caller saw of an adapter on trial, counted since the trial began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Clips of the held-out buffer that were judged.
    pub clips: u32,
    /// Of these, how many the adapter on trial got right.
    pub right: u32,
    /// Of these, how many the last good adapter gets right, or the base where there is none.
    pub good_right: u32,
    /// Outputs that were NaN or infinite.
    pub not_finite: u32,
    /// Codes of outputs that were looked at for saturation.
    pub codes: u32,
    /// Of these, how many lay at the end of their range.
    pub saturated: u32,
}

/// When a trial ends, and how. Rates are in thousandths.
///
/// # Examples
/// ```
/// use ingraft_store::{Guard, Observed, Verdict, Reason};
///
/// let guard = Guard { clips: 20, least_right: 700, most_lost: 50, most_saturated: 10 };
/// let observed = Observed { clips: 20, right: 18, good_right: 15, ..Observed::default() };
/// assert_eq!(guard.verdict(&Observed { clips: 19, ..observed }), Verdict::Undecided);
/// assert_eq!(guard.verdict(&observed), Verdict::Confirm);
/// assert_eq!(guard.verdict(&Observed { not_finite: 1, ..observed }), Verdict::Revert(Reason::NotFinite));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Clips to judge before accuracy or saturation count.
    pub clips: u32,
    /// Least share of clips to get right.
    pub least_right: u16,
    /// Most that this share may stay behind that of the last good adapter.
    pub most_lost: u16,
    /// Most codes at the end of their range.
    pub most_saturated: u16,
}

/// What a [`Guard`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too little was seen; the trial goes on.
    Undecided,
    /// The adapter becomes the last good one.
    Confirm,
    /// The adapter goes; the last good one acts again.
    Revert(Reason),
}

/// Why an adapter on trial goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// An output was NaN or infinite.
    NotFinite,
    /// Too many codes lay at the end of their range.
    Saturation,
    /// Too few clips were right.
    Accuracy,
    /// Too many fewer clips were right than with the last good adapter.
    Loss,
}

impl Guard {
    /// What follows from `observed`. Counts that contradict each other only make a trial fail.
    pub fn verdict(&self, observed: &Observed) -> Verdict {
        let Observed { clips, right, good_right, not_finite, codes, saturated } = *observed;
        if not_finite > 0 {
            return Verdict::Revert(Reason::NotFinite);
        }
        if clips < self.clips {
            return Verdict::Undecided;
        }
        let share = |count: u32| u64::from(count) * 1000;
        let of = |total: u32, rate: u16| u64::from(total) * u64::from(rate);
        if share(saturated) > of(codes, self.most_saturated) {
            return Verdict::Revert(Reason::Saturation);
        }
        if right > clips || share(right) < of(clips, self.least_right) {
            return Verdict::Revert(Reason::Accuracy);
        }
        // Both sides stay below 2⁴³.
        if share(right) + of(clips, self.most_lost) < share(good_right) {
            return Verdict::Revert(Reason::Loss);
        }
        Verdict::Confirm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_the_last_allowed() {
        let guard = Guard { clips: 10, least_right: 600, most_lost: 100, most_saturated: 20 };
        let fine = Observed { clips: 10, right: 6, good_right: 7, not_finite: 0, codes: 1000, saturated: 20 };
        assert_eq!(guard.verdict(&fine), Verdict::Confirm);
        let cases = [
            (Observed { saturated: 21, ..fine }, Verdict::Revert(Reason::Saturation)),
            (Observed { right: 5, ..fine }, Verdict::Revert(Reason::Accuracy)),
            (Observed { right: 11, ..fine }, Verdict::Revert(Reason::Accuracy)),
            (Observed { good_right: 8, ..fine }, Verdict::Revert(Reason::Loss)),
            (Observed { clips: 9, saturated: 1000, ..fine }, Verdict::Undecided),
            (Observed { clips: 0, not_finite: 1, ..fine }, Verdict::Revert(Reason::NotFinite)),
        ];
        for (observed, verdict) in cases {
            assert_eq!(guard.verdict(&observed), verdict, "{observed:?}");
        }
        let most = Observed {
            clips: u32::MAX,
            right: u32::MAX,
            good_right: u32::MAX,
            not_finite: 0,
            codes: u32::MAX,
            saturated: u32::MAX,
        };
        let lax = Guard { clips: 0, least_right: u16::MAX, most_lost: u16::MAX, most_saturated: u16::MAX };
        assert_eq!(lax.verdict(&most), Verdict::Revert(Reason::Accuracy), "no sum overflows");
    }
}
