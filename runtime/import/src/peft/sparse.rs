//! Checkpoints of single entries, of spectra, and of scales and shifts.

use ingraft_kernel::SiteKind;
use ingraft_method::TorchRng;

use crate::change::Change;
use crate::matrix::Matrix;
use crate::peft::module::Module;
use crate::peft::wavelet::{low_pass, padded, plane};
use crate::{Fault, ImportError};

type Result<T> = core::result::Result<T, ImportError>;

pub(super) fn shira(module: &Module<'_>) -> Result<Change> {
    module.off("fan_in_fan_out", "indices of a weight stored as (in, out) are not read")?;
    let (out, row) = module.place.shape();
    let values = &module.tensor("shira_weight")?.values;
    let places = module.matrix("shira_indices", 2, values.len())?;
    let mut flat = Vec::with_capacity(values.len());
    for k in 0..values.len() {
        let [channel, position] = [places.at(0, k), places.at(1, k)];
        if channel.fract() != 0.0 || position.fract() != 0.0 {
            return module.refuse("an index of shira_indices is no whole number");
        }
        if channel.max(position) >= EXACT {
            return module.refuse(
                "an index of 2^24 or more: PEFT saves them as float32 on Windows, which does not tell these from their neighbours",
            );
        }
        if !(0.0..out as f64).contains(&channel) || !(0.0..row as f64).contains(&position) {
            return module.refuse("an index lies outside the weight");
        }
        flat.push(channel * row as f64 + position);
    }
    entries(module, &flat, values)
}

/// Whole numbers below this are exact in float32.
const EXACT: f64 = 16_777_216.0;

/// A sparse change; what falls on the same place adds up.
fn entries(module: &Module<'_>, places: &[f64], values: &[f64]) -> Result<Change> {
    let (out, row) = module.place.shape();
    let mut sparse = std::collections::BTreeMap::new();
    for (place, value) in places.iter().zip(values) {
        if !(0.0..(out * row) as f64).contains(place) || place.fract() != 0.0 {
            return module.refuse("an index lies outside the weight");
        }
        *sparse.entry(*place as usize).or_insert(0.0) += value;
    }
    Ok(Change { sparse: sparse.into_iter().collect(), ..Change::default() })
}

/// Trainable tokens: whole rows in the place of a table's own.
pub(super) fn tokens(module: &Module<'_>) -> Result<Change> {
    rows(module, "trainable_tokens_delta", "token_indices")
}

/// Tensor `name` as rows in place of those that setting `indices` lists: for all tables, or by module.
pub(super) fn rows(module: &Module<'_>, name: &str, indices: &str) -> Result<Change> {
    let (out, row) = module.place.shape();
    if module.place.desc().kind != SiteKind::Embedding {
        return module.refuse("trainable tokens are rows of a table, which this is not");
    }
    let Some(list) = module.config.list(indices, module.path)? else {
        return Err(ImportError::at(indices, Fault::Missing(format!("of the rows of {}", module.path))));
    };
    let held = module.matrix(name, 0, row)?;
    if held.rows != list.len() {
        let fault = Fault::Shape { given: vec![held.rows, row], wanted: format!("[{}, {row}]", list.len()) };
        return Err(ImportError::at(&format!("{}.{name}", module.path), fault));
    }
    let mut sparse = std::collections::BTreeMap::new();
    for (at, token) in list.iter().enumerate() {
        if *token >= out {
            return module.refuse("a token lies outside the table");
        }
        for (column, value) in held.row(at).iter().enumerate() {
            if sparse.insert(token * row + column, value - module.place.weight.at(*token, column)).is_some() {
                return module.refuse("a token has two rows");
            }
        }
    }
    Ok(Change { sparse: sparse.into_iter().collect(), ..Change::default() })
}

pub(super) fn supertuning(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let values = &module.tensor("supertuning_values")?.values;
    if module.optional("supertuning_indices").is_none() {
        return module.refuse(
            "without supertuning_indices the places depend on the bits of the base; save them with \
             save_precomputed_indices",
        );
    }
    let places = module.vector("supertuning_indices", values.len())?;
    let mut change = entries(module, &places, values)?;
    if module.optional("supertuning_lora_A.weight").is_some() {
        let a = module.matrix("supertuning_lora_A.weight", 0, row)?;
        let b = module.matrix("supertuning_lora_B.weight", out, a.rows)?;
        let scale = module.config.number("lora_alpha", 8.0)? / a.rows as f64;
        change.factors = Some((b.scaled(scale), a));
    }
    Ok(change)
}

/// The places of spectral coefficients: PEFT draws them from a seed and stores none.
fn drawn(module: &Module<'_>, count: usize) -> Result<Vec<usize>> {
    let (out, row) = module.place.shape();
    let seed = module.config.count("random_loc_seed", 777)?;
    if count > out * row {
        return module.refuse("more coefficients than the weight has entries");
    }
    Ok(TorchRng::new(seed as u64).permutation(out * row, count))
}

pub(super) fn fourierft(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let spectrum = &module.tensor("fourierft_spectrum")?.values;
    let places = drawn(module, spectrum.len())?;
    let scale = module.config.number("scaling", 150.0)? / (out * row) as f64;
    // The real part of the inverse transform, one coefficient at a time.
    let turn = 2.0 * core::f64::consts::PI;
    let mut delta = Matrix::zeros(out, row);
    for (place, value) in places.iter().zip(spectrum) {
        let (u, v) = (place / row, place % row);
        for (at, to) in delta.data.iter_mut().enumerate() {
            let phase =
                (u * (at / row) % out) as f64 / out as f64 + (v * (at % row) % row) as f64 / row as f64;
            *to += value * scale * (turn * phase).cos();
        }
    }
    Ok(Change::dense(delta))
}

pub(super) fn waveft(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let spectrum = &module.tensor("waveft_spectrum")?.values;
    let places = drawn(module, spectrum.len())?;
    let scale = module.config.number("scaling", 25.0)?;
    if !module.config.flag("use_idwt", true)? {
        let places: Vec<f64> = places.iter().map(|place| *place as f64).collect();
        let values: Vec<f64> = spectrum.iter().map(|value| value * scale).collect();
        return entries(module, &places, &values);
    }
    let Some(filter) = low_pass(module.config.text("wavelet_family")) else {
        return module.refuse("wavelet_family is none that PEFT can put together");
    };
    let mut bands = Matrix::zeros(padded(out, filter), padded(row, filter));
    let (above, before) = ((bands.rows - out) / 2, (bands.columns - row) / 2);
    let width = bands.columns;
    for (at, value) in places.iter().zip(spectrum) {
        bands.data[(at / row + above) * width + at % row + before] = *value;
    }
    Ok(Change::dense(plane(&bands, filter, out, row).scaled(scale)))
}

pub(super) fn c3a(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let kernel = module.tensor("c3a_kernel")?;
    let [up, across, size] = kernel.dims[..] else { return module.refuse("c3a_kernel has three extents") };
    if up * size != out || across * size != row {
        return module.refuse("the blocks of c3a_kernel do not tile this module");
    }
    Ok(Change::dense(Matrix::from_fn(out, row, |o, j| {
        let shifted = (j % size + size - o % size) % size;
        kernel.values[(o / size * across + j / size) * size + shifted] / row as f64
    })))
}

pub(super) fn ia3(module: &Module<'_>) -> Result<Change> {
    let (out, row) = module.place.shape();
    let desc = module.place.desc();
    let stored = module.tensor("ia3_l")?;
    let linear = stored.dims.len() == 2;
    let feedforward = match module.config.value("feedforward_modules") {
        // As PEFT tests it: the end of the path, without regard to where a name begins.
        Some(serde_json::Value::Array(names)) => {
            names.iter().filter_map(|name| name.as_str()).any(|name| module.path.ends_with(name))
        }
        Some(serde_json::Value::String(_)) if linear && out != row => stored.dims[0] == 1,
        Some(serde_json::Value::String(_)) => {
            return module.refuse("feedforward_modules as a pattern leaves open which side is scaled");
        }
        _ => false,
    };
    if !feedforward {
        return Ok(Change { scale: Some(module.vector("ia3_l", out)?), ..Change::default() });
    }
    let scale = module.vector("ia3_l", desc.inputs * desc.groups)?;
    let (window, outputs) = ((row / desc.inputs.max(1)).max(1), (out / desc.groups.max(1)).max(1));
    let weight = &module.place.weight;
    // The inputs of an output are those of its group.
    let factor = |o: usize, j: usize| scale[o / outputs * desc.inputs + j / window] - 1.0;
    Ok(Change::dense(Matrix::from_fn(out, row, |o, j| weight.at(o, j) * factor(o, j))))
}

pub(super) fn beft(module: &Module<'_>) -> Result<Change> {
    let (out, _) = module.place.shape();
    Ok(Change { shift: Some(module.vector("beft_bias", out)?), ..Change::default() })
}
