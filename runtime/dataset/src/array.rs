//! A dense array read from or meant for a file.

use ingraft_tensor::DType;
use ingraft_tensor::bytes::{self, Element};

/// A dense row-major array whose byte count is what its type and shape need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    dtype: DType,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Array {
    /// An array of little-endian row-major `data`; `None` unless the byte count agrees.
    pub fn new(dtype: DType, shape: Vec<usize>, data: Vec<u8>) -> Option<Self> {
        let needed = element_count(&shape)?.checked_mul(dtype.size())?;
        (needed == data.len()).then_some(Self { dtype, shape, data })
    }

    /// An array of `values`; `None` unless `shape` has as many elements.
    ///
    /// ```
    /// use ingraft_dataset::Array;
    ///
    /// let array = Array::from_values(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
    /// assert_eq!(array.row(1).unwrap().to_vec::<f32>().unwrap(), [3.0, 4.0]);
    /// ```
    pub fn from_values<T: Element>(shape: &[usize], values: &[T]) -> Option<Self> {
        Self::new(T::DTYPE, shape.to_vec(), bytes::of(values).to_vec())
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, little-endian and row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// The elements; `None` when `T` is not the element type.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        if T::DTYPE != self.dtype {
            return None;
        }
        self.data.chunks_exact(size_of::<T>()).map(|chunk| T::read_from_bytes(chunk).ok()).collect()
    }

    /// The elements converted to `f32`; `None` for `F16`, which is stored only.
    ///
    /// # Numerics
    /// Integers beyond 2²⁴ round half to even.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        Some(match self.dtype {
            DType::F32 => self.to_vec::<f32>()?,
            DType::I8 => self.data.iter().map(|&b| f32::from(b as i8)).collect(),
            DType::U8 | DType::Bool => self.data.iter().map(|&b| f32::from(b)).collect(),
            DType::I16 => self.to_vec::<i16>()?.into_iter().map(f32::from).collect(),
            DType::I32 => self.to_vec::<i32>()?.into_iter().map(|v| v as f32).collect(),
            DType::I64 => self.to_vec::<i64>()?.into_iter().map(|v| v as f32).collect(),
            _ => return None,
        })
    }

    /// Entry `index` along the outermost dimension; `None` past its end and for a scalar.
    pub fn row(&self, index: usize) -> Option<Self> {
        let (&rows, inner) = self.shape.split_first()?;
        if index >= rows {
            return None;
        }
        let stride = self.data.len() / rows;
        let start = index.checked_mul(stride)?;
        let data = self.data.get(start..start.checked_add(stride)?)?.to_vec();
        Some(Self { dtype: self.dtype, shape: inner.to_vec(), data })
    }

    /// The same elements under another shape; `None` unless the counts agree.
    pub fn reshape(self, shape: Vec<usize>) -> Option<Self> {
        Self::new(self.dtype, shape, self.data)
    }
}

/// The product of `shape`; `None` when it overflows, zero extents notwithstanding.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    let product =
        shape.iter().filter(|&&extent| extent != 0).try_fold(1usize, |n, &extent| n.checked_mul(extent))?;
    Some(if shape.contains(&0) { 0 } else { product })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_count_must_agree() {
        assert!(Array::new(DType::F32, vec![2], vec![0; 7]).is_none());
        assert!(Array::new(DType::F32, vec![usize::MAX, 2], vec![]).is_none());
        assert!(Array::new(DType::F32, vec![0, usize::MAX, usize::MAX], vec![]).is_none());
        assert_eq!(Array::new(DType::I16, vec![0, 3], vec![]).unwrap().elements(), 0);
        assert_eq!(Array::new(DType::I16, vec![], vec![1, 0]).unwrap().to_vec::<i16>().unwrap(), [1]);
    }

    #[test]
    fn accessors_check_the_type() {
        let array = Array::from_values(&[3], &[-1i8, 0, 127]).unwrap();
        assert!(array.to_vec::<u8>().is_none());
        assert_eq!(array.to_f32().unwrap(), [-1.0, 0.0, 127.0]);
        let halves = Array::new(DType::F16, vec![1], vec![0, 60]).unwrap();
        assert!(halves.to_f32().is_none());
    }

    #[test]
    fn rows_are_slices_of_the_outer_dimension() {
        let array = Array::from_values(&[2, 3], &[1i32, 2, 3, 4, 5, 6]).unwrap();
        let row = array.row(1).unwrap();
        assert_eq!((row.shape(), row.to_vec::<i32>().unwrap()), (&[3][..], vec![4, 5, 6]));
        assert!(array.row(2).is_none());
        assert!(Array::from_values(&[], &[1.0f32]).unwrap().row(0).is_none());
    }
}
