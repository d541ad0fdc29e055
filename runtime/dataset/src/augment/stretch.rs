//! Longer or shorter at the same pitch.

/// `samples` made `factor` times as long by overlapping frames that continue each
/// other (WSOLA: Verhelst & Roelands, ICASSP 1993).
///
/// Frames of 64 ms, half overlapped under a Hann window; each may move by up to a
/// quarter frame to the place that correlates best with the natural
/// continuation of the one before.
pub(super) fn stretch(samples: &[f32], rate: u32, factor: f64) -> Vec<f32> {
    let hop = (rate as usize * 32 / 1000).max(1);
    let (frame, reach) = (2 * hop, hop / 2);
    let length = (samples.len() as f64 * factor) as usize;
    // Silence on both sides, so that every frame lies inside.
    let before = hop + reach;
    let mut padded = vec![0.0f32; before + samples.len() + 2 * frame + 2 * reach];
    padded.iter_mut().skip(before).zip(samples).for_each(|(to, &from)| *to = from);

    let window: Vec<f32> = (0..frame).map(|i| hann(i, frame)).collect();
    let mut output = vec![0.0f32; length + 2 * frame];
    let mut natural = None;
    // Output starts half a frame early: its first half is under a rising window and cut off below.
    for start in (0..length + hop).step_by(hop) {
        let center = (start as f64 / factor) as usize + reach;
        let at = match natural {
            Some(natural) => best_match(&padded, center, reach, natural, frame),
            None => center,
        };
        let source = padded.iter().skip(at).zip(&window);
        output.iter_mut().skip(start).zip(source).for_each(|(to, (sample, weight))| *to += sample * weight);
        natural = Some(at + hop);
    }
    output.into_iter().skip(hop).take(length).collect()
}

/// The start within `reach` of `center` whose frame is most like the one at `natural`; `center` for silence.
fn best_match(samples: &[f32], center: usize, reach: usize, natural: usize, frame: usize) -> usize {
    let like = samples.get(natural..).unwrap_or_default();
    let similarity = |at: usize| {
        let candidate = samples.get(at..).unwrap_or_default();
        let (mut product, mut power) = (0.0f64, 1e-12);
        for (&a, &b) in candidate.iter().zip(like).take(frame) {
            product += f64::from(a) * f64::from(b);
            power += f64::from(a) * f64::from(a);
        }
        product / libm::sqrt(power)
    };
    let mut best = (similarity(center), center);
    for at in center - reach..=center + reach {
        let found = similarity(at);
        if found > best.0 {
            best = (found, at);
        }
    }
    best.1
}

/// The periodic Hann window, whose half-overlapped copies sum to 1.
fn hann(index: usize, length: usize) -> f32 {
    let phase = core::f64::consts::TAU * index as f64 / length as f64;
    (0.5 - 0.5 * libm::cos(phase)) as f32
}
