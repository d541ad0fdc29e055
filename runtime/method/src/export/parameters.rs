//! The method's own tensors of a site, under their published names and in published order.

use alloc::string::ToString;
use alloc::vec::Vec;

use ingraft_adapter::ParameterSpec;
use ingraft_kernel::{Factors, SiteTerms, Sparse, SparseValues, Target, TwoFactor};
use ingraft_train::{FrozenSite, LatentHolder, LatentTensor, Method, Part, Trainer};

use crate::place::{in_kernel, published};
use crate::values::drawn_constants;

/// What the terms of site `index` were computed from, or those terms themselves under the names of
/// [`term_tensors`]. Constants that follow from the frozen weight are left out: whoever reads the
/// file can compute them.
pub(super) fn of_site<T: Target>(
    trainer: &Trainer<'_, '_, T>,
    site: &FrozenSite<'_>,
    index: u32,
) -> Vec<ParameterSpec> {
    let method = trainer.setup().method;
    let Some(values) = trainer.latent(index as usize) else {
        return term_tensors(method, site, trainer.fetched().trained(index as usize));
    };
    let drawn = drawn_constants(method, site, values.constants);
    let mut tensors = Vec::new();
    method.tensors(&site.desc, &mut |tensor| {
        if tensor.holder != LatentHolder::Constants || drawn.contains(&tensor.name) {
            tensors.push(spec(&tensor, |i| values.element(&tensor, i)));
        }
    });
    tensors
}

fn spec(tensor: &LatentTensor, value: impl Fn(usize) -> f64) -> ParameterSpec {
    ParameterSpec {
        name: tensor.name.to_string(),
        dims: [tensor.rows, tensor.columns].to_vec(),
        values: (0..tensor.rows.saturating_mul(tensor.columns)).map(value).collect(),
    }
}

/// Terms that are trained as they are, as tensors.
///
/// | name | shape | what |
/// |---|---|---|
/// | `lora_A` | `[groups · rank, row]` | the factor that reads the input |
/// | `lora_B` | `[out, rank]` | the factor that writes the output, without the method's scale |
/// | `delta` | `[out, row]` | a delta of the whole weight |
/// | `values`, `indices` | `[nnz]` | entries of a sparse delta, and channel · row + position of each |
/// | `scale`, `shift` | `[out]` | scale and shift of the pre-activation value |
///
/// Rows are in published order: input channel, height, width.
fn term_tensors(method: &dyn Method, site: &FrozenSite<'_>, terms: SiteTerms<'_>) -> Vec<ParameterSpec> {
    let (out, row) = (site.desc.out, site.desc.row().max(1));
    let tensor = |name: &str, dims: &[usize], values: Vec<f64>| ParameterSpec {
        name: name.to_string(),
        dims: dims.to_vec(),
        values,
    };
    let mut tensors = Vec::new();
    if let Some(TwoFactor { rank, factors: Factors::F32 { down, up } }) = terms.two_factor {
        let scale = f64::from(method.rate(Part::Up).scale);
        let mut a = alloc::vec![0.0; down.len()];
        for (at, value) in down.iter().enumerate() {
            let to = at / row * row + published(&site.desc, at % row);
            a[to] = f64::from(*value);
        }
        let b = up.iter().map(|value| f64::from(*value) / scale).collect();
        tensors.push(tensor("lora_A", &[down.len() / row, row], a));
        tensors.push(tensor("lora_B", &[out, rank], b));
    }
    if let Some(sparse @ Sparse { values: SparseValues::F32(values), .. }) = terms.sparse {
        let mut entries: Vec<(usize, f64)> = Vec::with_capacity(values.len());
        for (channel, ends) in sparse.indptr.windows(2).enumerate() {
            let range = ends[0] as usize..ends[1] as usize;
            let positions = sparse.indices.get(range.clone()).unwrap_or(&[]);
            let place = |position: &u16| channel * row + published(&site.desc, usize::from(*position));
            let values = values.get(range).unwrap_or(&[]).iter().map(|value| f64::from(*value));
            entries.extend(positions.iter().map(place).zip(values));
        }
        entries.sort_by_key(|(place, _)| *place);
        let values = entries.iter().map(|(_, value)| *value).collect();
        let places = entries.iter().map(|(place, _)| *place as f64).collect();
        tensors.push(tensor("indices", &[entries.len()], places));
        tensors.push(tensor("values", &[entries.len()], values));
    }
    if let Some(delta) = terms.dense {
        let mut values = alloc::vec![0.0; out * row];
        for (at, to) in values.iter_mut().enumerate() {
            let position = in_kernel(&site.desc, at % row);
            *to = delta.get(site.offset(at / row, position)).copied().map_or(0.0, f64::from);
        }
        tensors.push(tensor("delta", &[out, row], values));
    }
    if let Some(affine) = terms.affine {
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect();
        tensors.push(tensor("scale", &[out], wide(affine.scale)));
        tensors.push(tensor("shift", &[out], wide(affine.shift)));
    }
    tensors
}
