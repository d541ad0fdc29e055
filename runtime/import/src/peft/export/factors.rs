//! What is a LoRA in PEFT: LoRA itself, PiSSA on a base that did not move, and PSOFT, whose own layout names no singular vectors.

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_train::Method;
use serde_json::Value;

use super::adapted::{Adapted, setting};
use super::parts::{by_module, unfold};
use crate::matrix::Matrix;
use crate::peft::rotation::{cayley, series, skew};
use crate::tensors::{Tensor, Tensors};
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

/// Adds `lora_A.weight` and `lora_B.weight` of all sites; gives their ranks and alphas.
///
/// # Errors
/// [`Fault::Missing`] where a site lacks a tensor of the method, or what computing its constants says.
pub(super) fn write(sites: &Adapted<'_>, tensors: &mut Tensors) -> Result<Vec<(String, Value)>> {
    let method = &*sites.built()?;
    let (mut ranks, mut alphas) = (Vec::new(), Vec::new());
    for (index, site) in sites.all() {
        let (a, b) = pair(sites, method, index, &site)?;
        let rank = b.columns * site.groups;
        ranks.push((sites.module(index), Value::from(rank)));
        alphas.push((sites.module(index), number(alpha(method, rank))));
        for (name, matrix) in [("lora_A", a), ("lora_B", b)] {
            let mut held = Tensor { dims: vec![matrix.rows, matrix.columns], values: matrix.data };
            unfold(sites.plan, &site, index, name, &mut held);
            let rank = rank / site.groups;
            let mut held =
                if name == "lora_A" { over_all_groups(&held, &site, rank) } else { columns(held, &site) };
            // Theirs are f32.
            held.values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
            tensors.insert(sites.key(index, &format!("{name}.weight")), held);
        }
    }
    let mut settings = by_module("r", "rank_pattern", &escaped(&ranks))?;
    settings.extend(by_module("lora_alpha", "alpha_pattern", &escaped(&alphas))?);
    settings.retain(|(_, value)| value.as_object().is_none_or(|patterns| !patterns.is_empty()));
    Ok(settings)
}

/// The alpha that gives a pair of rank `rank` the scale that `method` gives those of its own.
fn alpha(method: &dyn Method, rank: usize) -> f64 {
    let (rank, own) = (rank as f64, setting(method, "rank"));
    match method.name() {
        "psoft" => rank,
        name if name == "rslora" || setting(method, "rslora") != 0.0 => {
            setting(method, "alpha") * (rank / own).sqrt()
        }
        _ => setting(method, "alpha") * (rank / own),
    }
}

/// A, `[rank, row]` or of every group its own, and B, `[out, rank]`, of a site.
fn pair(
    sites: &Adapted<'_>,
    method: &dyn Method,
    index: usize,
    site: &SiteDesc<'_>,
) -> Result<(Matrix, Matrix)> {
    match sites.method {
        // A over A₀ and B before −B₀, √(S/s) in both.
        "pissa" => {
            let scale = setting(method, "alpha") / setting(method, "rank");
            let held = sites.constants(method, index)?;
            let values = held.matrix("S")?.data;
            let roots: Vec<f64> = values.iter().map(|value| (value / scale).sqrt()).collect();
            let a0 = held.matrix("Vh")?.rows_times(&roots);
            let b0 = held.matrix("U")?.columns_times(&roots).scaled(-1.0);
            let (a, b) = (sites.matrix(index, "lora_A")?, sites.matrix(index, "lora_B")?);
            Ok((a.above(&a0), b.beside(&b0)))
        }
        "psoft" => {
            let held = sites.constants(method, index)?;
            let (u, values, a) = (held.matrix("U")?, held.matrix("S")?.data, held.matrix("Vh")?);
            let skew = skew(&sites.matrix(index, "psoft_R")?.data, a.rows);
            let rotation = match setting(method, "neumann_terms") as usize {
                0 => {
                    cayley(&skew.scaled(-1.0)).ok_or_else(|| ImportError::at(site.name, Fault::NotFinite))?
                }
                terms => series(&skew, terms)?,
            };
            let rotation = rotation.rows_times(&sites.matrix(index, "vector_b")?.data);
            let rotation = rotation.columns_times(&sites.matrix(index, "vector_a")?.data);
            let b = u.columns_times(&values).matmul(&rotation.minus(&Matrix::identity(a.rows)));
            Ok((a, b))
        }
        _ => Ok((sites.matrix(index, "lora_A")?, sites.matrix(index, "lora_B")?)),
    }
}

/// PEFT's A reads all channels; a group's rows read none but its own.
fn over_all_groups(a: &Tensor, site: &SiteDesc<'_>, rank: usize) -> Tensor {
    let (row, groups) = (site.row(), site.groups);
    let of_all = a.values.len() == rank * row;
    let mut values = vec![0.0; groups * rank * groups * row];
    for (k, line) in values.chunks_mut((groups * row).max(1)).enumerate() {
        let (group, from) = (k / rank.max(1), if of_all { k % rank.max(1) } else { k });
        line[group * row..(group + 1) * row].copy_from_slice(&a.values[from * row..(from + 1) * row]);
    }
    let [kh, kw] = site.kernel;
    let dims = match site.kind {
        SiteKind::Linear => vec![rank, row],
        _ => vec![groups * rank, groups * site.inputs, kh, kw],
    };
    Tensor { dims, values }
}

fn columns(mut b: Tensor, site: &SiteDesc<'_>) -> Tensor {
    if site.kind != SiteKind::Linear {
        b.dims.extend([1, 1]);
    }
    b
}

/// Whole numbers as such.
fn number(value: f64) -> Value {
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    if whole { Value::from(value as i64) } else { Value::from(value) }
}

/// PEFT's patterns of LoRA are regular expressions.
fn escaped(values: &[(String, Value)]) -> Vec<(String, Value)> {
    values.iter().map(|(path, value)| (regex::escape(path), value.clone())).collect()
}
