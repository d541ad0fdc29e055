//! Records nobody has to protect: features of made-up clips.

use ingraft_dataset::Rng;

/// Made-up features with labels.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) features: Vec<Vec<f32>>,
    /// One label each.
    pub(crate) labels: Vec<Vec<usize>>,
}

// What records look like is what YAMNet makes of `uav_detect` and `esc10_cc0`: a participation ratio within classes of 9 and
// 17, class means 2 to 3 deviations of the widest direction apart from the mean of all, which has half of the square.

/// Length of the way from the mean of all to that of a class, in deviations of the widest direction within it.
const APART: f64 = 2.5;
/// Directions in which features vary half as much as in the first: the variance falls with the square beyond.
const SPECTRUM: f64 = 6.0;

impl Records {
    /// `count` records of `classes` classes, as often each, of so many features: a mean of all, one for every class, and about
    /// that a normal distribution that is ever narrower from feature to feature. `size` is their root mean square.
    pub(crate) fn synthetic(count: usize, classes: usize, features: usize, size: f32, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let spread: Vec<f64> = (0..features).map(|j| 1.0 / (1.0 + j as f64 / SPECTRUM)).collect();
        let own = spread.iter().map(|s| s * s).sum::<f64>() + APART * APART;
        let mut way = |length: f64| -> Vec<f64> {
            let drawn: Vec<f64> = spread.iter().map(|s| s * normal(&mut rng)).collect();
            let norm = drawn.iter().map(|w| w * w).sum::<f64>().sqrt();
            drawn.iter().map(|w| length * w / norm).collect()
        };
        let common = way(own.sqrt());
        let means: Vec<Vec<f64>> =
            (0..classes).map(|_| way(APART).iter().zip(&common).map(|(w, c)| w + c).collect()).collect();
        let unit = f64::from(size) * (features as f64 / (2.0 * own)).sqrt();
        let labels: Vec<Vec<usize>> = (0..count).map(|record| vec![record % classes]).collect();
        let features = labels
            .iter()
            .map(|label| {
                let mean = &means[label[0]];
                mean.iter().zip(&spread).map(|(m, s)| (unit * (m + s * normal(&mut rng))) as f32).collect()
            })
            .collect();
        Self { features, labels }
    }
}

/// A number from the standard normal distribution, by a generator that can be repeated: for what is no secret.
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (core::f64::consts::TAU * rng.unit()).cos()
}
