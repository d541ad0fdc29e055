//! Masks over a spectrogram (SpecAugment, Park et al., 2019).

use crate::Rng;

/// Replaces a stretch of frames by the mean of the patch: up to `share` of all, as many and where as is drawn.
///
/// # Shapes
/// `patch` (frames, bands), row-major; what is left over behind the last whole frame stays.
pub fn mask_time(patch: &mut [f32], bands: usize, share: f64, seed: u64) {
    let fill = mean(patch);
    let frames = patch.len().checked_div(bands).unwrap_or(0);
    let (first, count) = stretch(frames, share, seed);
    let masked = patch.chunks_exact_mut(bands.max(1)).skip(first).take(count);
    masked.for_each(|frame| frame.fill(fill));
}

/// As [`mask_time`], a stretch of bands in every frame.
pub fn mask_frequency(patch: &mut [f32], bands: usize, share: f64, seed: u64) {
    let fill = mean(patch);
    let (first, count) = stretch(bands, share, seed);
    for frame in patch.chunks_exact_mut(bands.max(1)) {
        frame.iter_mut().skip(first).take(count).for_each(|value| *value = fill);
    }
}

/// Where a stretch of up to `share` of `length` begins, and how long it is.
fn stretch(length: usize, share: f64, seed: u64) -> (usize, usize) {
    let mut rng = Rng::new(seed);
    let longest = (length as f64 * share) as usize;
    let count = rng.below(longest.min(length) + 1);
    (rng.below(length - count + 1), count)
}

fn mean(patch: &[f32]) -> f32 {
    let sum = patch.iter().map(|value| f64::from(*value)).sum::<f64>();
    (sum / patch.len().max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_one_stretch_of_at_most_its_share() {
        let patch: Vec<f32> = (0..96 * 64).map(|i| (i % 17) as f32).collect();
        let fill = mean(&patch);
        assert!(patch.iter().all(|value| *value != fill));
        let (mut longest, mut starts) = (0, std::collections::BTreeSet::new());
        for seed in 0..300 {
            let mut masked = patch.clone();
            mask_time(&mut masked, 64, 0.25, seed);
            let frames: Vec<usize> = (0..96).filter(|t| masked[t * 64] == fill).collect();
            for t in 0..96 {
                let same = masked[t * 64..][..64].iter().all(|v| *v == fill);
                assert!(
                    same == frames.contains(&t) && (same || masked[t * 64..][..64] == patch[t * 64..][..64])
                );
            }
            assert!(frames.windows(2).all(|pair| pair[1] == pair[0] + 1));
            longest = longest.max(frames.len());
            starts.extend(frames.first().copied());

            let mut masked = patch.clone();
            mask_frequency(&mut masked, 64, 0.125, seed);
            let bands: Vec<usize> = (0..64).filter(|f| masked[*f] == fill).collect();
            assert!(bands.len() <= 8 && bands.windows(2).all(|pair| pair[1] == pair[0] + 1));
            for (i, (now, then)) in masked.iter().zip(&patch).enumerate() {
                assert_eq!(*now, if bands.contains(&(i % 64)) { fill } else { *then });
            }
        }
        assert_eq!(longest, 24);
        assert!(starts.len() > 40 && starts.contains(&0), "{starts:?}");
    }

    #[test]
    fn nothing_is_masked_where_nothing_is() {
        mask_time(&mut [], 64, 0.5, 1);
        mask_frequency(&mut [], 0, 0.5, 1);
        mask_time(&mut [1.0, 2.0], 0, 1.0, 1);
    }
}
