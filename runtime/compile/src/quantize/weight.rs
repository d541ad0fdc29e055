//! Symmetric int8 weights, a scale per output channel.

use super::symmetric;
use crate::graph::Tensor;

/// Weight codes and what they stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WeightCodes {
    /// −127…127, in the order of the weight.
    pub(super) codes: Vec<i8>,
    /// One per output channel.
    pub(super) scales: Vec<f32>,
    /// The reals of the codes.
    pub(super) reals: Vec<f32>,
}

impl WeightCodes {
    /// Quantizes `weight`, whose dimension `axis` counts output channels. The largest magnitude of each channel has
    /// the code 127.
    pub(super) fn of(weight: &Tensor, axis: usize) -> Self {
        let values = weight.to_f32();
        let channels = weight.shape().get(axis).copied().unwrap_or(1).max(1);
        let inner: usize = weight.shape().iter().skip(axis + 1).product();
        let channel = |i: usize| i / inner.max(1) % channels;
        let mut peaks = vec![0.0f32; channels];
        values.iter().enumerate().for_each(|(i, w)| peaks[channel(i)] = peaks[channel(i)].max(w.abs()));
        // A channel of zeros takes the scale of the largest, so that its bias keeps a sensible resolution.
        let fallback = peaks.iter().copied().reduce(f32::max).and_then(symmetric).unwrap_or(1.0);
        let scales: Vec<f32> = peaks.iter().map(|peak| symmetric(*peak).unwrap_or(fallback)).collect();
        let code =
            |(i, w): (usize, &f32)| (w / scales[channel(i)]).round_ties_even().clamp(-127.0, 127.0) as i8;
        let codes: Vec<i8> = values.iter().enumerate().map(code).collect();
        let reals = codes.iter().enumerate().map(|(i, c)| f32::from(*c) * scales[channel(i)]).collect();
        Self { codes, scales, reals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::noise;

    #[test]
    fn every_channel_uses_its_whole_range() {
        for (shape, axis) in [(vec![5, 3, 2, 2], 0), (vec![6, 4], 1), (vec![4, 6], 0)] {
            let weight = noise(&shape, 3);
            let (found, channels) = (WeightCodes::of(&weight, axis), shape[axis]);
            let inner: usize = shape[axis + 1..].iter().product();
            for channel in 0..channels {
                let of_channel = |i: &usize| i / inner % channels == channel;
                let indices: Vec<usize> = (0..weight.elements()).filter(of_channel).collect();
                assert_eq!(indices.iter().map(|i| found.codes[*i].unsigned_abs()).max(), Some(127));
                for i in indices {
                    let w = weight.to_f32()[i];
                    assert!((found.reals[i] - w).abs() <= 0.5001 * found.scales[channel], "{shape:?} {i}");
                }
            }
        }
    }

    #[test]
    fn channels_of_zeros_have_a_scale() {
        let weight = Tensor::from_f32(&[3, 2], &[0.0, 0.0, 12.7, -1.0, 1e-30, 0.0]).unwrap();
        let found = WeightCodes::of(&weight, 0);
        assert_eq!(found.codes, [0, 0, 127, -10, 0, 0]);
        assert!(found.scales.iter().all(|s| *s == found.scales[1]));
        assert_eq!(WeightCodes::of(&Tensor::from_f32(&[1, 1], &[0.0]).unwrap(), 0).scales, [1.0]);
    }
}
