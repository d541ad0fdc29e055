//! TinyLoRA's vectors and projections.

use serde_json::Value;

use super::adapted::Adapted;
use crate::ImportError;
use crate::matrix::Matrix;
use crate::tensors::{Tensor, Tensors};

/// Adds `tinylora_A`, `tinylora_B` and `tinylora_P` of all sites, and the one vector that they share.
///
/// PEFT numbers vectors by the order of PyTorch's modules, which a plan does not know. So all are one, tied to every module, of
/// which each module's projections read its own part.
///
/// # Errors
/// [`crate::Fault::Missing`] where a site lacks a tensor of the method, or what computing its constants says.
pub(super) fn write(sites: &Adapted<'_>, tensors: &mut Tensors) -> Result<Vec<(String, Value)>, ImportError> {
    let method = &*sites.built()?;
    let parts = sites.all().map(|(index, _)| Ok((index, sites.matrix(index, "tinylora_v")?.data)));
    let parts: Vec<(usize, Vec<f64>)> = parts.collect::<Result<_, ImportError>>()?;
    let whole: Vec<f64> = parts.iter().flat_map(|(_, part)| part.iter().copied()).collect();
    let mut before = 0;
    for (index, part) in &parts {
        let held = sites.constants(method, *index)?;
        let roots: Vec<f64> = held.matrix("S")?.data.iter().map(|value| value.sqrt()).collect();
        let rank = roots.len();
        let own = held.matrix("tinylora_P")?;
        let mut cores = Matrix::zeros(whole.len(), rank * rank);
        cores.data[before * rank * rank..][..own.data.len()].copy_from_slice(&own.data);
        before += part.len();
        let a = held.matrix("Vh")?.rows_times(&roots);
        let b = held.matrix("U")?.columns_times(&roots);
        put(tensors, sites.key(*index, "tinylora_A"), vec![rank, a.columns], a.data);
        put(tensors, sites.key(*index, "tinylora_B"), vec![b.rows, rank], b.data);
        put(tensors, sites.key(*index, "tinylora_P"), vec![whole.len(), rank, rank], cores.data);
    }
    let count = whole.len();
    put(tensors, "base_model.tinylora_v.0".to_owned(), vec![count], whole);
    Ok(vec![("u".to_owned(), Value::from(count)), ("weight_tying".to_owned(), Value::from(1.0))])
}

fn put(tensors: &mut Tensors, name: String, dims: Vec<usize>, values: Vec<f64>) {
    // Theirs are f32.
    let values = values.into_iter().map(|value| f64::from(value as f32)).collect();
    tensors.insert(name, Tensor { dims, values });
}
