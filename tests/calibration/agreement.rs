//! How alike two models are in their first output.

/// Over all inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreement {
    /// Share of inputs with the same best class.
    pub(crate) top: f64,
    /// Mean cosine of the outputs.
    pub(crate) cosine: f64,
    /// Smallest cosine.
    pub(crate) worst: f64,
    /// Power of the output over that of the difference, in decibels.
    pub(crate) snr: f64,
}

impl Agreement {
    /// Of the outputs `found` with those `wanted`, input by input.
    pub(crate) fn of(wanted: &[Vec<f32>], found: &[Vec<f32>]) -> Self {
        assert_eq!(wanted.len(), found.len());
        let pairs = || wanted.iter().zip(found);
        let best = |v: &[f32]| (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b]));
        let cosines: Vec<f64> = pairs().map(|(w, f)| cosine(w, f)).collect();
        let power = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let signal = power(&mut wanted.iter().flatten().map(|w| f64::from(*w)));
        let noise = power(&mut pairs().flat_map(|(w, f)| w.iter().zip(f)).map(|(w, f)| f64::from(w - f)));
        Self {
            top: pairs().filter(|(w, f)| best(w) == best(f)).count() as f64 / wanted.len() as f64,
            cosine: cosines.iter().sum::<f64>() / cosines.len() as f64,
            worst: cosines.iter().copied().fold(1.0, f64::min),
            snr: 10.0 * (signal / noise).log10(),
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
