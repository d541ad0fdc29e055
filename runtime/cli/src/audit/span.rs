//! Token span: which tokens of the vocabulary lie in the span of a gradient.
//!
//! The gradient of LoRA's A at a layer is Σ_t (Bᵀ·dy_t)·x_tᵀ: its rows lie in the span of the inputs x_t. In the first layer these are
//! known vectors, one for every token and position, so each can be tried (Petrov et al. 2024, "DAGER: Exact Gradient
//! Inversion for Large Language Models"). It works while there are no more tokens than the rank.

/// An orthonormal basis of the rows of a matrix.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    width: usize,
    basis: Vec<f32>,
}

/// What is left of a row when a larger one was taken out counts while it is above this share of the largest.
const RANK: f64 = 1e-4;

impl Span {
    /// Of the rows, `width` wide, of `matrix`: Gram–Schmidt, twice, the longest that is left first.
    pub(crate) fn of_rows(matrix: &[f32], width: usize) -> Self {
        let mut rows: Vec<Vec<f64>> = matrix
            .chunks_exact(width.max(1))
            .map(|row| row.iter().map(|v| f64::from(*v)).collect())
            .collect();
        let length = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let largest = rows.iter().map(|row| length(row)).fold(0.0, f64::max);
        let mut basis = Vec::new();
        while let Some(at) = (0..rows.len()).max_by(|a, b| length(&rows[*a]).total_cmp(&length(&rows[*b]))) {
            let mut row = rows.swap_remove(at);
            let own = length(&row);
            if own <= RANK * largest || !own.is_finite() {
                break;
            }
            row.iter_mut().for_each(|v| *v /= own);
            for other in &mut rows {
                for _ in 0..2 {
                    let dot: f64 = row.iter().zip(&*other).map(|(a, b)| a * b).sum();
                    other.iter_mut().zip(&row).for_each(|(o, r)| *o -= dot * r);
                }
            }
            basis.extend(row.iter().map(|v| *v as f32));
        }
        Self { width, basis }
    }

    /// Number of directions.
    #[cfg(test)]
    fn rank(&self) -> usize {
        self.basis.len() / self.width.max(1)
    }

    /// Share of the length of `vector` that lies outside the span, 0 to 1; 1 for none.
    pub(crate) fn distance(&self, vector: &[f32]) -> f32 {
        let dot = |one: &[f32], other: &[f32]| {
            let (one, rest) = one.as_chunks::<8>();
            let (other, others) = other.as_chunks::<8>();
            let mut sums = [0f32; 8];
            for (a, b) in one.iter().zip(other) {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum += a * b;
                }
            }
            sums.iter().sum::<f32>() + rest.iter().zip(others).map(|(a, b)| a * b).sum::<f32>()
        };
        let whole = dot(vector, vector);
        let inside: f32 =
            self.basis.chunks_exact(self.width.max(1)).map(|row| dot(row, vector).powi(2)).sum();
        if whole > 0.0 { (1.0 - inside / whole).max(0.0).sqrt() } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingraft_dataset::Rng;

    #[test]
    fn what_rows_are_made_of_lies_in_their_span_and_others_do_not() {
        let mut rng = Rng::new(2);
        let mut draw = |count: usize| (0..count).map(|_| rng.uniform(-1.0, 1.0) as f32).collect::<Vec<f32>>();
        let width = 40;
        let parts: Vec<Vec<f32>> = (0..5).map(|_| draw(width)).collect();
        // Eight rows, each a mixture of five vectors.
        let matrix: Vec<f32> = (0..8)
            .flat_map(|_| {
                let shares = draw(5);
                (0..width).map(move |j| (j, shares.clone())).collect::<Vec<_>>()
            })
            .map(|(j, shares)| parts.iter().zip(&shares).map(|(part, share)| share * part[j]).sum())
            .collect();
        let span = Span::of_rows(&matrix, width);
        assert_eq!(span.rank(), 5);
        assert!(parts.iter().all(|part| span.distance(part) < 2e-3));
        assert!((0..50).all(|_| span.distance(&draw(width)) > 0.7));
        assert_eq!(Span::of_rows(&[0.0; 80], width).rank(), 0);
        assert_eq!(span.distance(&[0.0; 40]), 1.0);
    }
}
