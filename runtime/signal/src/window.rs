//! Periodic analysis windows.

use core::f64::consts::TAU;

use crate::words::choice;

choice! {
    /// Analysis window, periodic: sample `n` of `N` has phase `2πn/N`, as in `tf.signal.stft`.
    pub enum Window {
        /// `0.5 − 0.5·cos(2πn/N)`.
        Hann = 0 "hann",
        /// `0.54 − 0.46·cos(2πn/N)`.
        Hamming = 1 "hamming",
        /// All ones.
        Rectangular = 2 "rectangular",
    }
}

impl Window {
    /// Weight of sample `n` in a frame of `len` samples.
    pub(crate) fn weight(self, n: usize, len: usize) -> f64 {
        let (mean, swing) = match self {
            Self::Hann => (0.5, 0.5),
            Self::Hamming => (0.54, 0.46),
            Self::Rectangular => (1.0, 0.0),
        };
        mean - swing * libm::cos(TAU * n as f64 / len as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn known_weights() {
        let root = core::f64::consts::FRAC_1_SQRT_2;
        let hann = [0.0, 0.5 - 0.5 * root, 0.5, 0.5 + 0.5 * root, 1.0, 0.5 + 0.5 * root, 0.5];
        for (n, weight) in hann.into_iter().enumerate() {
            assert!((Window::Hann.weight(n, 8) - weight).abs() < 1e-15, "{n}");
            let hamming = 0.54 - 0.46 * (1.0 - 2.0 * weight);
            assert!((Window::Hamming.weight(n, 8) - hamming).abs() < 1e-15, "{n}");
            assert_eq!(Window::Rectangular.weight(n, 8), 1.0);
        }
    }
}
