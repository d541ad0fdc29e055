//! The projections of VeRA and RandLoRA: one of all sites in PEFT's file, each site's own cut in ours.

use ingraft_adapter::{ParameterSection, ParameterTensor};
use ingraft_kernel::Sites;
use ingraft_plan::PlanView;
use serde_json::Value;

use crate::matrix::Matrix;
use crate::tensors::{Tensor, Tensors};
use crate::{Fault, ImportError};

/// Adds `base_model.vera_A`, `[r, widest row]`, and `base_model.vera_B`, `[most outputs, r]`.
///
/// A site of ours scales its cut of A by 1/√row, PEFT all of A by that of the widest; the quotient goes into `vera_lambda_d`.
///
/// # Errors
/// [`Fault::Unsupported`] where sites have projections that are not cuts of one; [`Fault::Missing`] where one has none.
pub(super) fn vera(
    section: &ParameterSection<'_>,
    sites: &[usize],
    key: &dyn Fn(usize, &str) -> String,
    tensors: &mut Tensors,
) -> Result<Vec<(String, Value)>, ImportError> {
    let (down, up) = (held(section, sites, "vera_A")?, held(section, sites, "vera_B")?);
    let widest = |all: &[Matrix], size: &dyn Fn(&Matrix) -> usize| {
        all.iter().max_by_key(|matrix| size(matrix)).cloned().unwrap_or_else(|| Matrix::zeros(0, 0))
    };
    let (a, b) = (widest(&down, &|a| a.columns), widest(&up, &|b| b.rows));
    for (site, (own_a, own_b)) in sites.iter().zip(down.iter().zip(&up)) {
        let quotient = (a.columns as f64 / own_a.columns.max(1) as f64).sqrt();
        if !is_cut(own_a, &a, quotient) || !is_cut(own_b, &b, 1.0) {
            return Err(ImportError::at(&key(*site, "vera_lambda_d"), Fault::Unsupported(SEVERAL)));
        }
        if let Some(d) = tensors.get_mut(&key(*site, "vera_lambda_d")) {
            d.values.iter_mut().for_each(|value| *value = f64::from((*value * quotient) as f32));
        }
    }
    for (name, matrix) in [("base_model.vera_A", a), ("base_model.vera_B", b)] {
        let values = matrix.data.iter().map(|value| f64::from(*value as f32)).collect();
        tensors.insert(name.to_owned(), Tensor { dims: vec![matrix.rows, matrix.columns], values });
    }
    Ok(Vec::new())
}

/// Adds `randlora_A`, `[r, 1, least]`, and `randlora_B`, `[most, ⌈least/r⌉, r]`: least and most of the
/// largest number of outputs and the largest row, between which no site may lie, so that zeros stand where none has a cut.
///
/// # Errors
/// [`Fault::Unsupported`] where sites have projections that are not cuts of one; [`Fault::Missing`] where one has none.
pub(super) fn randlora(
    plan: &PlanView<'_>,
    rank: usize,
    section: &ParameterSection<'_>,
    sites: &[usize],
    key: &dyn Fn(usize, &str) -> String,
    tensors: &mut Tensors,
) -> Result<Vec<(String, Value)>, ImportError> {
    let shapes = || sites.iter().filter_map(|site| plan.site(*site));
    let (out, row) = (
        shapes().map(|site| site.out).max().unwrap_or(0),
        shapes().map(|site| site.row()).max().unwrap_or(0),
    );
    let (least, most) = (out.min(row), out.max(row));
    let bases = least.div_ceil(rank.max(1));
    for (name, dims) in [("randlora_A", vec![rank, 1, least]), ("randlora_B", vec![most, bases, rank])] {
        let (rows, columns) = (dims[0], dims[1] * dims[2]);
        let mut whole: Vec<Option<f64>> = vec![None; rows * columns];
        for own in held(section, sites, name)? {
            let mut places = (0..own.rows).flat_map(|i| (0..own.columns).map(move |k| (i, k)));
            let is_cut = places.all(|(i, k)| {
                let slot = whole.get_mut(i * columns + k).filter(|_| k < columns);
                slot.is_some_and(|slot| *slot.get_or_insert(own.at(i, k)) == own.at(i, k))
            });
            if !is_cut {
                return Err(ImportError::at(name, Fault::Unsupported(SEVERAL)));
            }
        }
        let values = whole.into_iter().map(|value| f64::from(value.unwrap_or(0.0) as f32)).collect();
        let whole = Tensor { dims, values };
        // PEFT looks for a copy at every module too.
        sites.iter().for_each(|site| drop(tensors.insert(key(*site, name), whole.clone())));
        tensors.insert(format!("base_model.{name}"), whole);
    }
    Ok(Vec::new())
}

const SEVERAL: &str =
    "projections of different seeds or ranks, of which PEFT's file has one; use --layout ingraft";

/// The matrices called `name` of all sites.
fn held(section: &ParameterSection<'_>, sites: &[usize], name: &str) -> Result<Vec<Matrix>, ImportError> {
    let of_site = |site: &usize| {
        let tensor = section.site(*site).find(|tensor| tensor.name == name);
        tensor.map(matrix).ok_or_else(|| ImportError::at(name, Fault::Missing("the projection".to_owned())))
    };
    sites.iter().map(of_site).collect()
}

fn matrix(tensor: ParameterTensor<'_>) -> Matrix {
    let rows = tensor.dims.first().map_or(1, |rows| *rows as usize);
    let data: Vec<f64> = (0..tensor.values.len()).filter_map(|i| tensor.values.get(i)).collect();
    Matrix::new(rows, data.len().checked_div(rows).unwrap_or(0), data)
}

/// Whether `own` is the upper left corner of `whole` times `quotient`, as far as f32 tells.
fn is_cut(own: &Matrix, whole: &Matrix, quotient: f64) -> bool {
    let inside = own.rows <= whole.rows && own.columns <= whole.columns;
    let same = |row: usize, column: usize| {
        let wanted = whole.at(row, column) * quotient;
        (own.at(row, column) - wanted).abs() <= 1e-6 * wanted.abs()
    };
    inside && (0..own.rows).all(|row| (0..own.columns).all(|column| same(row, column)))
}
