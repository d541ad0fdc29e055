//! What a checkpoint does to one weight, and the terms it becomes at a site.

use ingraft_adapter::TermSpec;
use ingraft_kernel::{SiteDesc, SiteKind, terms::MAX_TERM_RANK};
use ingraft_method::{OwnedTerms, TermFormat, deploy_as, in_kernel};
use ingraft_tensor::DType;

use crate::base::Place;
use crate::matrix::Matrix;
use crate::peft::NORM;
use crate::{Fault, ImportError};

/// Scale and shift per output channel.
type Affine = (Vec<f32>, Vec<f32>);

/// A change of `y = W·x + b`, in the weight as the model file has it and in published order:
/// `y' = scale ⊙ ((W + Δ)·x + b) + shift`, Δ the sum of the parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Change {
    /// `[out, r]` and `[r, row]`.
    pub(crate) factors: Option<(Matrix, Matrix)>,
    /// `[out, row]`.
    pub(crate) dense: Option<Matrix>,
    /// Entries at `channel · row + position`.
    pub(crate) sparse: Vec<(usize, f64)>,
    pub(crate) scale: Option<Vec<f64>>,
    pub(crate) shift: Option<Vec<f64>>,
}

/// The terms of a site and the error of writing them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placed {
    pub(crate) terms: Vec<TermSpec>,
    pub(crate) error: f64,
}

impl Change {
    pub(crate) fn dense(delta: Matrix) -> Self {
        Self { dense: Some(delta), ..Self::default() }
    }

    pub(crate) fn factors(up: Matrix, down: Matrix) -> Self {
        Self { factors: Some((up, down)), ..Self::default() }
    }

    /// Δ as a whole.
    pub(crate) fn delta(&self, out: usize, row: usize) -> Matrix {
        let mut delta = self.dense.clone().unwrap_or_else(|| Matrix::zeros(out, row));
        if let Some((up, down)) = &self.factors {
            delta = delta.plus(&up.matmul(down));
        }
        for (at, value) in &self.sparse {
            delta.data[*at] += value;
        }
        delta
    }

    /// The terms this is at `place`, carried over to the weight of the plan by the site's diagonals.
    ///
    /// # Errors
    /// [`Fault::Shape`], [`Fault::NotFinite`], [`Fault::NeedsWeights`], or what writing them says.
    pub(crate) fn place(&self, place: &Place<'_>) -> Result<Placed, ImportError> {
        self.check(place)?;
        if place.desc().kind.is_norm() {
            if self.factors.is_some() || self.scale.is_some() {
                return Err(ImportError::at(place.desc().name, Fault::Unsupported(NORM)));
            }
            let (out, row) = place.shape();
            return norm(place, &self.delta(out, row), self.shift.as_deref());
        }
        if place.desc().kind == SiteKind::Embedding && (self.scale.is_some() || self.shift.is_some()) {
            let why = "rows of a table take a delta, no scale and no shift";
            return Err(ImportError::at(place.desc().name, Fault::Unsupported(why)));
        }
        let mut owned = OwnedTerms::default();
        self.weight_terms(place, &mut owned)?;
        write(place, owned, self.affine(place)?, TermFormat::default())
    }

    /// Whether the parts are of the weight's shape. Methods take extents from the file: whatever they left open ends here.
    fn check(&self, place: &Place<'_>) -> Result<(), ImportError> {
        let (out, row) = place.shape();
        let shape = |matrix: &Matrix| (matrix.rows, matrix.columns);
        let given = match (&self.factors, &self.dense) {
            (Some((up, down)), _) if up.columns != down.rows || (up.rows, down.columns) != (out, row) => {
                vec![up.rows, up.columns, down.rows, down.columns]
            }
            (_, Some(dense)) if shape(dense) != (out, row) => vec![dense.rows, dense.columns],
            _ => return Ok(()),
        };
        let wanted = format!("[{out}, {row}], or [{out}, r] and [r, {row}]");
        Err(ImportError::at(place.desc().name, Fault::Shape { given, wanted }))
    }

    fn weight_terms(&self, place: &Place<'_>, owned: &mut OwnedTerms) -> Result<(), ImportError> {
        let (out, row) = place.shape();
        let desc = place.desc();
        let rank = self.factors.as_ref().map_or(0, |(_, down)| down.rows);
        let smaller = rank * (out + row) <= out * row && rank <= MAX_TERM_RANK;
        let alone = self.dense.is_none() && self.sparse.is_empty();
        match &self.factors {
            Some((up, down)) if alone && smaller && desc.kind != SiteKind::Depthwise => {
                owned.rank = rank;
                owned.up = up.clone().rows_times(&place.output).data.iter().map(|v| *v as f32).collect();
                let mut one = vec![0.0; rank * row];
                for (i, value) in down.data.iter().enumerate() {
                    let factor = place.input_factor(i % row);
                    one[i / row * row + in_kernel(desc, i % row)] = (value * factor) as f32;
                }
                owned.down = one.repeat(desc.groups);
            }
            pair => {
                let whole = pair.is_some() || self.dense.is_some();
                let entries = if whole { desc.dtype == DType::F32 } else { !self.sparse.is_empty() };
                // Places in a row are written in 16 bits.
                if entries && row > LONGEST_ROW {
                    let why = "single weights of a row of more than 65536 cannot be changed; factors can";
                    return Err(ImportError::at(desc.name, Fault::Unsupported(why)));
                }
                match whole {
                    true => dense_terms(place, &self.delta(out, row), owned),
                    false => sparse_terms(place, &self.sparse, owned),
                }
            }
        }
        Ok(())
    }

    /// Scale and shift of the plan's pre-activation value.
    fn affine(&self, place: &Place<'_>) -> Result<Option<Affine>, ImportError> {
        if self.scale.is_none() && self.shift.is_none() {
            return Ok(None);
        }
        let out = place.desc().out;
        let scale = self.scale.clone().unwrap_or_else(|| vec![1.0; out]);
        let mut shift = self.shift.clone().unwrap_or_else(|| vec![0.0; out]);
        shift.iter_mut().zip(&place.output).for_each(|(shift, factor)| *shift *= factor);
        if self.scale.is_some() {
            // The plan's value is o·(W·x + b) + t; only the part in brackets is scaled.
            let why = "a scale before a folded batch norm needs the bias of the layer";
            let folded = place
                .folded_shift()
                .ok_or_else(|| ImportError::at(place.desc().name, Fault::NeedsWeights(why)))?;
            let tiny = |t: f64, of: f64| if t.abs() <= 1e-6 * of.abs() { 0.0 } else { t };
            for (channel, (shift, t)) in shift.iter_mut().zip(folded).enumerate() {
                let whole = f64::from(place.frozen.real_bias(channel));
                *shift += (1.0 - scale[channel]) * tiny(t, whole);
            }
        }
        let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
        Ok(Some((narrow(&scale), narrow(&shift))))
    }
}

/// The terms of a normalization whose scale and shift are to move by this much: they stand in place of the base's.
pub(crate) fn norm(place: &Place<'_>, delta: &Matrix, shift: Option<&[f64]>) -> Result<Placed, ImportError> {
    let moved = |base: f32, by: Option<&f64>| (f64::from(base) + by.copied().unwrap_or(0.0)) as f32;
    let channels = || 0..place.desc().out;
    let scale = channels().map(|c| moved(place.frozen.weight(c, 0), delta.data.get(c))).collect();
    let shift =
        channels().map(|c| moved(place.frozen.real_bias(c), shift.and_then(|shift| shift.get(c)))).collect();
    write(place, OwnedTerms::default(), Some((scale, shift)), TermFormat::default())
}

/// The most weights in a row of which places can be written.
const LONGEST_ROW: usize = 1 << 16;

fn dense_terms(place: &Place<'_>, delta: &Matrix, owned: &mut OwnedTerms) {
    let (out, row) = place.shape();
    let desc = place.desc();
    owned.dense = vec![0.0; out * row];
    for (i, value) in delta.data.iter().enumerate() {
        let (channel, position) = (i / row, i % row);
        let carried = value * place.output[channel] * place.input_factor(position);
        owned.dense[place.frozen.offset(channel, in_kernel(desc, position))] = carried as f32;
    }
}

fn sparse_terms(place: &Place<'_>, entries: &[(usize, f64)], owned: &mut OwnedTerms) {
    let (out, row) = place.shape();
    let desc: &SiteDesc<'_> = place.desc();
    let mut placed: Vec<(usize, u16, f32)> = entries
        .iter()
        .map(|(at, value)| {
            let (channel, position) = (at / row, at % row);
            let carried = value * place.output[channel] * place.input_factor(position);
            (channel, in_kernel(desc, position) as u16, carried as f32)
        })
        .collect();
    placed.sort_by_key(|(channel, position, _)| (*channel, *position));
    if !placed.is_empty() {
        owned.indptr = (0..=out).map(|out| placed.partition_point(|(c, _, _)| *c < out) as u32).collect();
    }
    owned.indices = placed.iter().map(|(_, position, _)| *position).collect();
    owned.sparse = placed.iter().map(|(_, _, value)| *value).collect();
}

/// Terms as `place` runs them.
pub(crate) fn write(
    place: &Place<'_>,
    mut owned: OwnedTerms,
    affine: Option<(Vec<f32>, Vec<f32>)>,
    format: TermFormat<'_>,
) -> Result<Placed, ImportError> {
    if let Some((scale, shift)) = affine {
        (owned.scale, owned.shift) = (scale, shift);
    }
    let deployed = deploy_as(&place.frozen, place.index as u32, owned.terms(), format)
        .map_err(|error| ImportError::at(place.desc().name, Fault::Export(error)))?;
    Ok(Placed { terms: deployed.terms, error: deployed.error })
}
