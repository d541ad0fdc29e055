//! Tensors that own their elements, and how far two of them are apart.

use ingraft::tensor::bytes::{self, Element};
use ingraft::tensor::{DType, Shape, View};

use super::{Random, Tolerance};

/// A tensor that owns its elements, aligned for any type.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    words: Vec<u128>,
}

impl Tensor {
    /// Every byte `byte`.
    pub(crate) fn filled(dtype: DType, dims: &[usize], byte: u8) -> Self {
        let dims: Vec<u32> = dims.iter().map(|d| *d as u32).collect();
        let shape = Shape::new(&dims).expect("cases are small");
        let words = vec![u128::from_le_bytes([byte; 16]); (shape.elements() * dtype.size()).div_ceil(16)];
        Self { dtype, shape, words }
    }

    pub(crate) fn new<T: Element>(dims: &[usize], values: &[T]) -> Self {
        let mut tensor = Self::filled(T::DTYPE, dims, 0);
        tensor.bytes_mut().copy_from_slice(bytes::of(values));
        tensor
    }

    /// Random elements: codes over the whole range, floats and wider integers around zero, bools.
    pub(crate) fn random(dtype: DType, dims: &[usize], random: &mut Random) -> Self {
        let n = dims.iter().product();
        match dtype {
            DType::F32 => Self::new(dims, &random.floats(n, -2.0, 2.0)),
            DType::I8 => Self::new(dims, &random.codes(n)),
            DType::I16 => {
                Self::new(dims, &random.floats(n, -4e4, 4e4).iter().map(|v| *v as i16).collect::<Vec<_>>())
            }
            DType::I32 => Self::new(dims, &(0..n).map(|_| random.int(-9, 9) as i32).collect::<Vec<_>>()),
            DType::I64 => Self::new(dims, &(0..n).map(|_| random.int(-9, 9)).collect::<Vec<_>>()),
            DType::Bool => {
                let bits: Vec<u8> = (0..n).map(|_| random.int(0, 1) as u8).collect();
                Self { dtype, ..Self::new(dims, &bits) }
            }
            DType::F16 => {
                let half = |v: &f32| ingraft::kernel::cast::f32_to_f16(*v) as i16;
                Self {
                    dtype,
                    ..Self::new(dims, &random.floats(n, -2.0, 2.0).iter().map(half).collect::<Vec<_>>())
                }
            }
            _ => Self { dtype, ..Self::new(dims, &random.codes(n)) },
        }
    }

    /// One bit per element of a tensor of `elements`, at random.
    pub(crate) fn mask(elements: usize, random: &mut Random) -> Self {
        let bits: Vec<u8> = (0..elements.div_ceil(8)).map(|_| random.word() as u8).collect();
        Self::new(&[bits.len()], &bits)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytes::of(&self.words)[..self.shape.elements() * self.dtype.size()]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.shape.elements() * self.dtype.size();
        &mut bytes::of_mut(&mut self.words)[..len]
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(self.dtype, self.shape, self.bytes()).expect("lengths agree")
    }

    pub(crate) fn values<T: Element>(&self) -> &[T] {
        self.view().as_slice().expect("the element type")
    }

    /// What in `self` is further from `want` than `tolerance`, if anything.
    pub(crate) fn difference(&self, want: &Self, tolerance: Tolerance) -> Option<String> {
        match (self.dtype, tolerance) {
            (DType::F32, _) => far(self.values(), want.values(), tolerance),
            (DType::I8, Tolerance::Real) => {
                few(self.values(), want.values(), |have: &i8, want| have.abs_diff(*want) <= 1)
            }
            (DType::U8, Tolerance::Real | Tolerance::Half) => {
                let bits = |t: &Self| -> Vec<u8> {
                    t.values::<u8>().iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1)).collect()
                };
                few(&bits(self), &bits(want), |_, _| true)
            }
            _ => (self.bytes() != want.bytes()).then(|| {
                let at = self.bytes().iter().zip(want.bytes()).position(|(a, b)| a != b).unwrap_or(0);
                format!(
                    "element {} differs: byte {} is {:#x}, not {:#x}",
                    at / self.dtype.size(),
                    at,
                    self.bytes()[at],
                    want.bytes()[at]
                )
            }),
        }
    }
}

/// The first value of `have` that is not `want`'s within `tolerance`.
pub(crate) fn far(have: &[f32], want: &[f32], tolerance: Tolerance) -> Option<String> {
    let magnitude = want.iter().filter(|v| v.is_finite()).fold(1.0f32, |m, v| m.max(v.abs()));
    let bound = match tolerance {
        Tolerance::Exact => -1.0,
        Tolerance::Real => 1e-5 * magnitude,
        Tolerance::Half => magnitude / 128.0,
    };
    let same =
        |h: f32, w: f32| h.to_bits() == w.to_bits() || (h.is_nan() && w.is_nan()) || (h - w).abs() <= bound;
    let (at, (h, w)) = have.iter().zip(want).enumerate().find(|(_, (h, w))| !same(**h, **w))?;
    Some(format!("element {at} is {h}, not {w} (bound {bound:e})"))
}

/// More than one element in a hundred that differs, or one that is not `near`.
fn few<T: PartialEq + core::fmt::Debug>(
    have: &[T],
    want: &[T],
    near: impl Fn(&T, &T) -> bool,
) -> Option<String> {
    let pairs = || have.iter().zip(want).enumerate().filter(|(_, (h, w))| h != w);
    if let Some((at, (h, w))) = pairs().find(|(_, (h, w))| !near(h, w)) {
        return Some(format!("element {at} is {h:?}, not {w:?}"));
    }
    let count = pairs().count();
    (count > have.len().div_ceil(100)).then(|| format!("{count} of {} elements differ", have.len()))
}
