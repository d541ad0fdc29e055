//! A point against others, by their angles.

/// The loss of `point`; its gradient is written to `grad`.
///
/// With ê and k̂ of length 1, s = ê·k̂/T and p their softmax: ∂L/∂ê = (Σ p·k̂ − k̂₊)/T, and ∂L/∂e is what of it is at a
/// right angle to ê, over |e|. A point or key at the origin has no direction: its products are 0.
pub(super) fn evaluate(
    point: &[f32],
    (keys, positive): (&[f32], usize),
    temperature: f32,
    grad: &mut [f32],
) -> f32 {
    let scale = inverse(length(point));
    let score = |key: &[f32]| dot(point, key) * scale * inverse(length(key)) / temperature;
    let largest = rows(keys, point.len()).map(score).fold(f32::NEG_INFINITY, f32::max);
    let sum = rows(keys, point.len()).map(|key| libm::expf(score(key) - largest)).sum::<f32>();
    grad.fill(0.0);
    let mut loss = 0.0;
    for (index, key) in rows(keys, point.len()).enumerate() {
        let s = score(key) - largest;
        let mut weight = libm::expf(s) / sum;
        if index == positive {
            loss = libm::logf(sum) - s;
            weight -= 1.0;
        }
        let weight = weight * inverse(length(key)) / temperature;
        grad.iter_mut().zip(key).for_each(|(g, k)| *g += weight * k);
    }
    let along = dot(grad, point) * scale;
    grad.iter_mut().zip(point).for_each(|(g, e)| *g = (*g - along * e * scale) * scale);
    loss
}

/// The inverse of a length; 0 of none.
fn inverse(length: f32) -> f32 {
    if length > 0.0 { 1.0 / length } else { 0.0 }
}

fn length(values: &[f32]) -> f32 {
    libm::sqrtf(dot(values, values))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn rows(keys: &[f32], width: usize) -> impl Iterator<Item = &[f32]> {
    let mut rest = keys;
    core::iter::from_fn(move || {
        let (row, tail) = rest.split_at_checked(width.max(1))?;
        rest = tail;
        Some(row)
    })
}
