//! LN tuning: copies of normalizations, trained.

use ingraft_kernel::SiteKind;

use crate::base::Statistics;
use crate::change::Change;
use crate::matrix::Matrix;
use crate::peft::module::Module;
use crate::{Fault, ImportError};

/// A copy of a normalization's own scale and shift, trained; of a batch normalization it holds the statistics too.
pub(super) fn ln(module: &Module<'_>) -> Result<Change, ImportError> {
    let place = module.place;
    let (out, row) = place.shape();
    let kind = place.desc().kind;
    if !kind.is_norm() {
        return module.refuse("LN tuning replaces a normalization, and this site is none");
    }
    let (weight, bias) = ("ln_tuning_layers.weight", "ln_tuning_layers.bias");
    if kind == SiteKind::NormScale && module.optional(bias).is_some() {
        return module.refuse("the normalization has no bias, and the checkpoint has one");
    }
    let mut scale = module.vector(weight, out)?;
    let mut shift = match kind {
        SiteKind::Norm => Some(module.vector(bias, out)?),
        _ => None,
    };
    if let (Some(shift), Some(moves)) = (&mut shift, moved(module)?) {
        for ((scale, shift), (ratio, offset)) in scale.iter_mut().zip(shift).zip(moves) {
            *shift += *scale * offset;
            *scale *= ratio;
        }
    }
    let shift = match shift {
        Some(new) => Some(new.iter().zip(module.bias()?).map(|(new, old)| new - old).collect()),
        None => None,
    };
    let scale = Matrix::new(out, row, scale);
    Ok(Change { dense: Some(scale.minus(&place.weight)), shift, ..Change::default() })
}

/// Per channel (σ/σ', (μ − μ')/σ'), by which `(x − μ')/σ'` is that of the base's statistics μ and σ; `None` where the
/// checkpoint has none, or they are the base's.
///
/// # Errors
/// [`Fault::Unsupported`] at a normalization without statistics. [`Fault::NeedsWeights`] where they moved, as they do when
/// the model trains in training mode, and the base's variance is not at hand: the plan holds σ² = variance + ε alone.
fn moved(module: &Module<'_>) -> Result<Option<Vec<(f64, f64)>>, ImportError> {
    let (mean, variance) = ("ln_tuning_layers.running_mean", "ln_tuning_layers.running_var");
    if module.optional(mean).is_none() && module.optional(variance).is_none() {
        return Ok(None);
    }
    let Some(Statistics { centre, deviation, variance: held }) = &module.place.statistics else {
        return module.refuse("the checkpoint has statistics of batches, and this normalization has none");
    };
    let (new_mean, new_variance) =
        (module.vector(mean, centre.len())?, module.vector(variance, centre.len())?);
    let epsilon = |channel: usize, variance: f64| deviation[channel].powi(2) - variance;
    let stayed = (0..centre.len()).all(|c| {
        (new_mean[c] - centre[c]).abs() <= NEAR * deviation[c]
            && (-NEAR..=EPSILON_MAX).contains(&epsilon(c, new_variance[c]))
    });
    if stayed {
        return Ok(None);
    }
    let why = "batch statistics that moved in training need those of the base";
    let held = held.as_ref().ok_or_else(|| ImportError::at(module.path, Fault::NeedsWeights(why)))?;
    let moves = (0..centre.len()).map(|c| {
        let new = (new_variance[c] + epsilon(c, held[c]).max(0.0)).sqrt();
        (deviation[c] / new, (centre[c] - new_mean[c]) / new)
    });
    Ok(Some(moves.collect()))
}

/// What statistics in single precision may be apart and still be the same.
const NEAR: f64 = 1e-5;
/// The largest ε that exporters write.
const EPSILON_MAX: f64 = 1e-3 + NEAR;
