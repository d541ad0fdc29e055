//! Accuracy over runs that judge the same clips.

use std::collections::BTreeMap;

use super::{Interval, bootstrap, ratio};

/// Judgments of clips by the runs (folds, seeds) of one experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By clip: runs that judged it, runs that got it right.
    clips: BTreeMap<usize, (u32, u32)>,
}

impl Tally {
    /// Counts one run's judgment of `clip`.
    pub fn add(&mut self, clip: usize, right: bool) {
        let (seen, got) = self.clips.entry(clip).or_default();
        *seen += 1;
        *got += u32::from(right);
    }

    /// Number of clips that were judged.
    pub fn clips(&self) -> usize {
        self.clips.len()
    }

    /// The share of judgments that were right: the mean accuracy over runs and clips; `None` without any.
    pub fn accuracy(&self) -> Option<f64> {
        let (seen, got) = self
            .clips
            .values()
            .fold((0, 0), |sum: (u64, u64), &(seen, got)| (sum.0 + u64::from(seen), sum.1 + u64::from(got)));
        ratio(got, seen)
    }

    /// The 95 % interval over clips, each standing for the share of runs that got it right: [`bootstrap`] with
    /// 10 000 resamples and seed 0, so that the same judgments give the same interval.
    pub fn interval(&self) -> Option<Interval> {
        let shares: Vec<f64> =
            self.clips.values().map(|&(seen, got)| f64::from(got) / f64::from(seen)).collect();
        bootstrap(&shares, 10_000, 0).filter(|_| !shares.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_count_by_clip() {
        let mut tally = Tally::default();
        assert_eq!((tally.accuracy(), tally.interval(), tally.clips()), (None, None, 0));
        // Clip 7 is got right by two runs of three, clip 9 by one of one.
        for (clip, right) in [(7, true), (7, false), (9, true), (7, true)] {
            tally.add(clip, right);
        }
        assert_eq!((tally.accuracy(), tally.clips()), (Some(0.75), 2));
        assert_eq!(tally.interval(), bootstrap(&[2.0 / 3.0, 1.0], 10_000, 0));
        let interval = tally.interval().unwrap();
        assert!((interval.low - 2.0 / 3.0).abs() < 1e-12 && interval.high == 1.0, "{interval:?}");
    }
}
