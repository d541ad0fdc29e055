//! Tensor files: safetensors, checked beyond what its own reader checks.

use std::collections::BTreeMap;

use ingraft_kernel::SiteDesc;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::json::Ordered;
use crate::matrix::Matrix;
use crate::{Fault, ImportError};

/// A tensor read from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its extents.
    pub dims: Vec<usize>,
    /// Its values, row by row.
    pub values: Vec<f64>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    /// As a matrix: the first extent, and all others together.
    pub(crate) fn matrix(&self) -> Matrix {
        let rows = self.dims.first().copied().unwrap_or(1);
        Matrix::new(rows, self.values.len().checked_div(rows).unwrap_or(0), self.values.clone())
    }
}

/// Reads a safetensors file.
///
/// # Errors
/// [`Fault::Pickle`] for what `torch.save` writes, [`Fault::Safetensors`] for a damaged file, [`Fault::Type`] for
/// elements this cannot read, [`Fault::NotFinite`] for a NaN or an infinity.
pub fn read(bytes: &[u8]) -> Result<Tensors, ImportError> {
    refuse_pickle(bytes)?;
    let broken = |reason: String| ImportError::new(Fault::Safetensors(reason));
    let (first, _) = SafeTensors::read_metadata(bytes).map_err(|error| broken(error.to_string()))?;
    // The crate's reader keeps the last of equal names; a file that has two is not one it wrote.
    let header = bytes.get(8..8usize.saturating_add(first)).unwrap_or(&[]);
    Ordered::parse(header).map_err(|error| broken(error.to_string()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| broken(error.to_string()))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let values = values(view.dtype(), view.data())
            .ok_or_else(|| ImportError::at(&name, Fault::Type(format!("{:?}", view.dtype()))))?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ImportError::at(&name, Fault::NotFinite));
        }
        // An extent of zero must not hide others whose product is beyond any count.
        let product = view.shape().iter().try_fold(1usize, |count, dim| count.checked_mul((*dim).max(1)));
        if product.is_none() {
            let fault = Fault::Shape { given: view.shape().to_vec(), wanted: "fewer elements".to_owned() };
            return Err(ImportError::at(&name, fault));
        }
        tensors.insert(name, Tensor { dims: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

/// Refuses what Python would unpickle, told by content: a pickle can run any code.
///
/// # Errors
/// [`Fault::Pickle`].
pub fn refuse_pickle(bytes: &[u8]) -> Result<(), ImportError> {
    // A protocol mark of 2 to 5, as `torch.save` wrote before 1.6, or a zip archive that holds a `data.pkl`. A
    // safetensors file may begin with the same two bytes, which are its header's length, but then has a brace.
    let mark = matches!(bytes, [0x80, 2..=5, ..]) && bytes.get(8) != Some(&b'{');
    let zip = bytes.starts_with(b"PK\x03\x04") && bytes.windows(8).any(|window| window == b"data.pkl");
    if mark || zip { Err(ImportError::new(Fault::Pickle)) } else { Ok(()) }
}

/// A tensor with its name, and its type and bytes in the file.
type Encoded<'t> = (&'t String, &'t Tensor, (Dtype, Vec<u8>));

/// Writes tensors in the narrowest of i8, i16, i32 where `codes` names them, else as f32 where that loses nothing,
/// else as f64.
///
/// # Errors
/// [`Fault::Safetensors`] for shapes that do not hold the values.
pub(crate) fn write(tensors: &Tensors, codes: &dyn Fn(&str) -> bool) -> Result<Vec<u8>, ImportError> {
    let encoded: Vec<Encoded<'_>> = tensors
        .iter()
        .map(|(name, tensor)| (name, tensor, if codes(name) { integers(tensor) } else { reals(tensor) }))
        .collect();
    let broken =
        |error: safetensors::SafeTensorError| ImportError::new(Fault::Safetensors(error.to_string()));
    let mut views = Vec::new();
    for (name, tensor, (dtype, data)) in &encoded {
        let view = TensorView::new(*dtype, tensor.dims.clone(), data).map_err(broken)?;
        views.push((name.as_str(), view));
    }
    safetensors::serialize(views, None).map_err(broken)
}

fn reals(tensor: &Tensor) -> (Dtype, Vec<u8>) {
    let exact = tensor.values.iter().all(|v| f64::from(*v as f32).to_bits() == v.to_bits());
    match exact {
        true => (Dtype::F32, tensor.values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()),
        false => (Dtype::F64, tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}

fn integers(tensor: &Tensor) -> (Dtype, Vec<u8>) {
    let within = |low: f64, high: f64| tensor.values.iter().all(|v| (low..=high).contains(v));
    if within(-128.0, 127.0) {
        (Dtype::I8, tensor.values.iter().flat_map(|v| (*v as i8).to_le_bytes()).collect())
    } else if within(-32768.0, 32767.0) {
        (Dtype::I16, tensor.values.iter().flat_map(|v| (*v as i16).to_le_bytes()).collect())
    } else {
        (Dtype::I32, tensor.values.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect())
    }
}

/// The elements of `data`; `None` for a type that is not a plain number.
fn values(dtype: Dtype, data: &[u8]) -> Option<Vec<f64>> {
    fn each<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect()
    }
    Some(match dtype {
        Dtype::F64 => each(data, f64::from_le_bytes),
        Dtype::F32 => each(data, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => each(data, |b| half(u16::from_le_bytes(b))),
        Dtype::BF16 => each(data, |b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
        Dtype::I64 => each(data, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(data, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::I16 => each(data, |b| f64::from(i16::from_le_bytes(b))),
        Dtype::I8 => each(data, |[b]: [u8; 1]| f64::from(b as i8)),
        Dtype::U8 | Dtype::BOOL => each(data, |[b]: [u8; 1]| f64::from(b)),
        _ => return None,
    })
}

/// Real elements by ONNX's number of their type; `None` for others: what quantized factors mean is the graph's to say.
pub(crate) fn elements(code: u32, data: &[u8]) -> Option<Vec<f64>> {
    let dtype = match code {
        1 => Dtype::F32,
        10 => Dtype::F16,
        11 => Dtype::F64,
        16 => Dtype::BF16,
        _ => return None,
    };
    values(dtype, data)
}

/// The value of an IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 => return if fraction == 0.0 { f64::INFINITY } else { f64::NAN },
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// Whether `dims` are those of the weight of `site`, as PyTorch or ONNX have it.
pub(crate) fn is_weight(dims: &[usize], site: &SiteDesc<'_>) -> bool {
    let [kh, kw] = site.kernel;
    let flat = dims.first() == Some(&site.out) && dims.iter().skip(1).product::<usize>() == site.row();
    let inputs = dims.get(1).is_none_or(|inputs| *inputs == site.inputs || kh * kw == 1);
    flat && inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_their_values() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960464477539063e-8),
            (0x3555, 0.333251953125),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    #[test]
    fn what_is_written_is_read() {
        let tensor = |dims: &[usize], values: &[f64]| Tensor { dims: dims.to_vec(), values: values.to_vec() };
        let tensors: Tensors =
            [("a".into(), tensor(&[2, 1], &[0.5, -1.0])), ("b".into(), tensor(&[1], &[0.1]))].into();
        assert_eq!(read(&write(&tensors, &|_| false).unwrap()).unwrap(), tensors);
        let codes: Tensors = [("c".into(), tensor(&[3], &[-128.0, 0.0, 127.0]))].into();
        assert_eq!(read(&write(&codes, &|_| true).unwrap()).unwrap(), codes);
    }
}
