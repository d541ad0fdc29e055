//! A tensor in memory: type, shape and bytes that were checked to agree.

use crate::bytes::{self, Element};
use crate::{DType, Shape};

/// An immutable dense row-major tensor.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    dtype: DType,
    shape: Shape,
    bytes: &'a [u8],
}

/// A mutable dense row-major tensor.
#[derive(Debug)]
pub struct ViewMut<'a> {
    dtype: DType,
    shape: Shape,
    bytes: &'a mut [u8],
}

impl<'a> View<'a> {
    /// A view of nothing.
    pub const EMPTY: Self = Self { dtype: DType::U8, shape: Shape::EMPTY, bytes: &[] };

    /// A view of `bytes`; `None` unless their number is exactly what `dtype` and `shape` need.
    #[inline]
    pub fn new(dtype: DType, shape: Shape, bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() == shape.elements().checked_mul(dtype.size())?).then_some(Self { dtype, shape, bytes })
    }

    /// A view of `values` with the given shape; `None` unless the counts agree.
    pub fn of<T: Element>(values: &'a [T], shape: Shape) -> Option<Self> {
        Self::new(T::DTYPE, shape, bytes::of(values))
    }

    /// The element type.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    #[inline]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The raw bytes.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements; `None` when `T` is not the element type or the bytes are misaligned.
    #[inline]
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        bytes::cast(self.bytes)
    }
}

impl<'a> ViewMut<'a> {
    /// A view of nothing.
    pub const fn empty() -> Self {
        Self { dtype: DType::U8, shape: Shape::EMPTY, bytes: &mut [] }
    }

    /// A view of `bytes`; `None` unless their number is exactly what `dtype` and `shape` need.
    #[inline]
    pub fn new(dtype: DType, shape: Shape, bytes: &'a mut [u8]) -> Option<Self> {
        (bytes.len() == shape.elements().checked_mul(dtype.size())?).then_some(Self { dtype, shape, bytes })
    }

    /// A mutable view of `values` with the given shape; `None` unless the counts agree.
    pub fn of<T: Element>(values: &'a mut [T], shape: Shape) -> Option<Self> {
        Self::new(T::DTYPE, shape, bytes::of_mut(values))
    }

    /// The element type.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    #[inline]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The raw bytes.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// The elements; `None` when `T` is not the element type or the bytes are misaligned.
    #[inline]
    pub fn as_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        bytes::cast_mut(self.bytes)
    }
}
