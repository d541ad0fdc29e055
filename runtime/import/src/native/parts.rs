//! Deployed terms as tensors.

use ingraft_adapter::TermSpec;
use ingraft_kernel::{Factors, SiteTerms, SparseValues};
use serde_json::{Value, json};

use crate::tensors::{Tensor, Tensors};
use crate::{Fault, ImportError};

/// Whether tensor `name` holds codes or positions, not reals.
pub(super) fn is_code(name: &str) -> bool {
    let part = name.strip_prefix("terms/").and_then(|rest| rest.rsplit_once('/'));
    let member = part.is_none() && name.starts_with("members/");
    member
        || part.is_some_and(|(path, part)| {
            let integer = path.ends_with("/two_factor_i8") && matches!(part, "down" | "up")
                || path.ends_with("/sparse_i16")
                || path.ends_with("/fused_i8");
            integer || matches!(part, "indptr" | "indices")
        })
}

/// Calls `put(KIND/PART, tensor)` for every part, and gives the list of kinds.
pub(super) fn of_terms(terms: &SiteTerms<'_>, put: &mut dyn FnMut(String, Tensor)) -> Value {
    let mut kinds = Vec::new();
    let mut flat = |kind: &str, part: &str, values: Vec<f64>| {
        put(format!("{kind}/{part}"), Tensor { dims: vec![values.len()], values });
    };
    if let Some(term) = terms.two_factor {
        let kind = match term.factors {
            Factors::F32 { down, up } => {
                flat("two_factor_f32", "down", wide(down));
                flat("two_factor_f32", "up", wide(up));
                "two_factor_f32"
            }
            Factors::I8 { down, up, down_scale, up_scale } => {
                flat("two_factor_i8", "down", wide(down));
                flat("two_factor_i8", "up", wide(up));
                flat("two_factor_i8", "down_scale", wide(down_scale));
                flat("two_factor_i8", "up_scale", wide(up_scale));
                "two_factor_i8"
            }
        };
        kinds.push(json!({ "kind": kind, "rank": term.rank }));
    }
    if let Some(sparse) = terms.sparse {
        let (kind, values) = match sparse.values {
            SparseValues::I16(values) => ("sparse_i16", wide(values)),
            SparseValues::F32(values) => ("sparse_f32", wide(values)),
        };
        flat(kind, "indptr", wide(sparse.indptr));
        flat(kind, "indices", wide(sparse.indices));
        flat(kind, "values", values);
        kinds.push(json!({ "kind": kind }));
    }
    if let Some(affine) = terms.affine {
        flat("affine", "scale", wide(affine.scale));
        flat("affine", "shift", wide(affine.shift));
        kinds.push(json!({ "kind": "affine" }));
    }
    if let Some(fused) = terms.patched {
        flat("fused_i8", "weight", wide(fused.weight));
        flat("fused_i8", "bias", wide(fused.bias));
        kinds.push(json!({ "kind": "fused_i8" }));
    }
    Value::from(kinds)
}

fn wide<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| (*value).into()).collect()
}

/// The terms of `site`, their tensors taken out of `tensors`.
pub(super) fn to_terms(
    site: &str,
    kinds: &Value,
    tensors: &mut Tensors,
) -> Result<Vec<TermSpec>, ImportError> {
    let wrong = || ImportError::at(site, Fault::Json("terms are a list of objects with a kind".to_owned()));
    kinds
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .map(|entry| {
            let kind = entry.get("kind").and_then(Value::as_str).ok_or_else(wrong)?;
            let rank = entry.get("rank").and_then(Value::as_u64).unwrap_or(0) as usize;
            let mut take = |part: &str| {
                let name = format!("terms/{site}/{kind}/{part}");
                tensors
                    .remove(&name)
                    .map(|tensor| tensor.values)
                    .ok_or_else(|| ImportError::new(Fault::Missing(name)))
            };
            Ok(match kind {
                "two_factor_f32" => {
                    TermSpec::TwoFactorF32 { rank, down: real(take("down")?), up: real(take("up")?) }
                }
                "two_factor_i8" => TermSpec::TwoFactorI8 {
                    rank,
                    down: codes(take("down")?),
                    up: codes(take("up")?),
                    down_scale: real(take("down_scale")?),
                    up_scale: real(take("up_scale")?),
                },
                "sparse_i16" => {
                    let values = take("values")?.iter().map(|v| *v as i16).collect();
                    TermSpec::SparseI16 {
                        indptr: starts(take("indptr")?),
                        indices: places(take("indices")?),
                        values,
                    }
                }
                "sparse_f32" => TermSpec::SparseF32 {
                    indptr: starts(take("indptr")?),
                    indices: places(take("indices")?),
                    values: real(take("values")?),
                },
                "affine" => TermSpec::Affine { scale: real(take("scale")?), shift: real(take("shift")?) },
                "fused_i8" => {
                    let bias = take("bias")?.iter().map(|v| *v as i32).collect();
                    TermSpec::FusedI8 { weight: codes(take("weight")?), bias }
                }
                _ => return Err(ImportError::at(site, Fault::Json(format!("there is no term {kind:?}")))),
            })
        })
        .collect()
}

fn real(values: Vec<f64>) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

fn codes(values: Vec<f64>) -> Vec<i8> {
    values.iter().map(|v| *v as i8).collect()
}

fn starts(values: Vec<f64>) -> Vec<u32> {
    values.iter().map(|v| *v as u32).collect()
}

fn places(values: Vec<f64>) -> Vec<u16> {
    values.iter().map(|v| *v as u16).collect()
}
