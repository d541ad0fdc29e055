//! NumPy's `.npy` files and `.npz` archives, read with every length checked.
//!
//! The format is that of NumPy Enhancement Proposal 1, versions 1 to 3:
//!
//! | bytes | content |
//! |---|---|
//! | 6 | `\x93NUMPY` |
//! | 2 | version, major and minor |
//! | 2 (version 1) or 4 | header length, little-endian |
//! | header | a Python dictionary literal with `descr`, `fortran_order` and `shape` |
//! | rest | the elements |
//!
//! Read are `f2 f4 f8 i1 u1 i2 i4 i8 b1` in either byte order, C or Fortran
//! order; `f8` becomes `f32`, rounded half to even. An [`Array`] is always
//! little-endian and row-major.

use std::fs;
use std::path::Path;

use ingraft_tensor::DType;

use crate::Array;
use crate::array::element_count;
use crate::error::DatasetError;

pub use error::ArrayError;

mod error;
mod header;
mod zip;

/// Reads one `.npy` file.
///
/// # Errors
/// [`DatasetError::Io`] and [`DatasetError::Array`].
pub fn read_npy(path: &Path) -> Result<Array, DatasetError> {
    let bytes = fs::read(path).map_err(|source| DatasetError::io(path, source))?;
    from_npy_bytes(&bytes).map_err(|reason| DatasetError::array(path, reason))
}

/// Reads every array of an `.npz` archive, in the archive's order, names without `.npy`.
///
/// # Errors
/// [`DatasetError::Io`] and [`DatasetError::Array`].
pub fn read_npz(path: &Path) -> Result<Vec<(String, Array)>, DatasetError> {
    let bytes = fs::read(path).map_err(|source| DatasetError::io(path, source))?;
    from_npz_bytes(&bytes).map_err(|reason| DatasetError::array(path, reason))
}

/// Writes `array` as a `.npy` file.
///
/// # Errors
/// [`DatasetError::Io`].
pub fn write_npy(path: &Path, array: &Array) -> Result<(), DatasetError> {
    fs::write(path, to_npy_bytes(array)).map_err(|source| DatasetError::io(path, source))
}

/// Writes `arrays` as an uncompressed `.npz` archive; equal arrays give equal bytes.
///
/// # Errors
/// [`DatasetError::Io`], and [`DatasetError::Array`] for what a ZIP archive
/// cannot hold (4 GiB, 65 535 entries, longer names).
pub fn write_npz(path: &Path, arrays: &[(String, Array)]) -> Result<(), DatasetError> {
    let bytes = to_npz_bytes(arrays).map_err(|reason| DatasetError::array(path, reason))?;
    fs::write(path, bytes).map_err(|source| DatasetError::io(path, source))
}

/// The array in the bytes of a `.npy` file.
///
/// # Errors
/// [`ArrayError`]: not such a file, an unsupported type, or a length that disagrees.
pub fn from_npy_bytes(bytes: &[u8]) -> Result<Array, ArrayError> {
    let (header, payload) = header::parse(bytes)?;
    let needed = element_count(&header.shape).and_then(|n| n.checked_mul(header.element.bytes));
    if needed != Some(payload.len()) {
        return Err(ArrayError::Length { shape: header.shape, found: payload.len() });
    }
    let element = header.element;
    let chunks = payload.chunks_exact(element.bytes);
    let data = if header.fortran_order {
        let columns: Vec<&[u8]> = chunks.collect();
        row_major_order(&header.shape)
            .filter_map(|at| columns.get(at))
            .flat_map(|chunk| element.decode(chunk))
            .collect()
    } else {
        chunks.flat_map(|chunk| element.decode(chunk)).collect()
    };
    let found = payload.len();
    Array::new(element.dtype, header.shape.clone(), data)
        .ok_or(ArrayError::Length { shape: header.shape, found })
}

/// `array` as the bytes of a `.npy` file, version 1, C order.
pub fn to_npy_bytes(array: &Array) -> Vec<u8> {
    let mut bytes = header::write(array.dtype(), array.shape());
    bytes.extend_from_slice(array.bytes());
    bytes
}

/// The arrays in the bytes of an `.npz` archive.
///
/// # Errors
/// [`ArrayError`]: a broken archive, or an entry that is not a readable array.
pub fn from_npz_bytes(bytes: &[u8]) -> Result<Vec<(String, Array)>, ArrayError> {
    let mut arrays = Vec::new();
    for entry in zip::entries(bytes)? {
        let Some(name) = entry.name.strip_suffix(".npy") else {
            return Err(ArrayError::NotAnArray(entry.name));
        };
        arrays.push((name.to_owned(), from_npy_bytes(&entry.read(bytes)?)?));
    }
    Ok(arrays)
}

/// `arrays` as the bytes of an uncompressed `.npz` archive.
///
/// # Errors
/// [`ArrayError::ArchiveTooLarge`].
pub fn to_npz_bytes(arrays: &[(String, Array)]) -> Result<Vec<u8>, ArrayError> {
    zip::write(arrays.iter().map(|(name, array)| (format!("{name}.npy"), to_npy_bytes(array))))
}

/// How one element of a file becomes one element of an [`Array`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ElementCode {
    /// The type in the array.
    dtype: DType,
    /// Bytes per element in the file.
    bytes: usize,
    big_endian: bool,
}

impl ElementCode {
    /// The array's bytes of the element in `chunk`, which has `self.bytes` of them.
    fn decode(self, chunk: &[u8]) -> impl Iterator<Item = u8> + use<> {
        let mut element = [0u8; 8];
        for (to, &from) in element.iter_mut().zip(chunk) {
            *to = from;
        }
        if self.big_endian {
            element.iter_mut().take(self.bytes).zip(chunk.iter().rev()).for_each(|(to, &from)| *to = from);
        }
        if self.dtype == DType::F32 && self.bytes == 8 {
            let narrowed = (f64::from_le_bytes(element) as f32).to_le_bytes();
            element.iter_mut().zip(narrowed).for_each(|(to, from)| *to = from);
        }
        if self.dtype == DType::Bool {
            element = element.map(|byte| u8::from(byte != 0));
        }
        element.into_iter().take(self.dtype.size())
    }
}

/// For each element in row-major order, its position in column-major order.
fn row_major_order(shape: &[usize]) -> impl Iterator<Item = usize> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1usize;
    for &extent in shape {
        strides.push(stride);
        stride = stride.saturating_mul(extent);
    }
    let shape = shape.to_vec();
    let count = element_count(&shape).unwrap_or(0);
    (0..count).map(move |linear| {
        let mut rest = linear;
        let mut at = 0;
        for (&extent, &stride) in shape.iter().zip(&strides).rev() {
            at += rest % extent * stride;
            rest /= extent;
        }
        at
    })
}

#[cfg(test)]
mod tests;
