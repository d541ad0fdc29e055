//! Inversion of a head's gradient: the features of the one example it is of.
//!
//! The gradient of a head's weight is d·zᵀ and that of its bias d, for features z and the error d of the logits: one row over its
//! bias is z (Phong et al. 2018, "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption"; Geiping et al. 2020).

/// The features that a head's gradient, weight `[classes, features]` and then bias, is of: of its row with the largest
/// bias. `None` where no bias has one.
pub(crate) fn invert(gradient: &[f32], features: usize) -> Option<Vec<f64>> {
    let classes = gradient.len() / (features + 1);
    let (weight, bias) = gradient.split_at_checked(classes * features)?;
    let (row, bias) = bias.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    if *bias == 0.0 {
        return None;
    }
    let row = weight.get(row * features..(row + 1) * features)?;
    Some(row.iter().map(|w| f64::from(*w) / f64::from(*bias)).collect())
}

/// How alike two directions are, from −1 to 1; 0 where one is none.
pub(crate) fn cosine(one: &[f64], other: &[f32]) -> f64 {
    let dot: f64 = one.iter().zip(other).map(|(a, b)| a * f64::from(*b)).sum();
    let lengths = one.iter().map(|a| a * a).sum::<f64>().sqrt()
        * other.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>().sqrt();
    if lengths > 0.0 && lengths.is_finite() { dot / lengths } else { 0.0 }
}

/// Features are found where they are this near to the true ones.
pub(crate) const FOUND: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_over_its_bias_is_the_features() {
        let (features, errors) = ([0.5f32, -2.0, 3.0], [0.25f32, -0.75, 0.5]);
        let mut gradient: Vec<f32> = errors.iter().flat_map(|d| features.map(|z| d * z)).collect();
        gradient.extend(errors);
        let found = invert(&gradient, 3).expect("a bias moves");
        assert_eq!(found, [0.5, -2.0, 3.0]);
        assert!((cosine(&found, &features) - 1.0).abs() < 1e-9);
        assert_eq!(invert(&[0.0; 8], 3), None);
        assert_eq!(cosine(&[0.0; 3], &features), 0.0);
    }
}
