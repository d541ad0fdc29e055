//! Running one kernel row in a test: generated operands, checked and run as a target would.

extern crate std;

use std::vec::Vec;

use ingraft_tensor::bytes::{self, Element};
use ingraft_tensor::{DType, Shape, View, ViewMut};

use crate::attrs::Attrs;
use crate::{Call, Kernel, KernelError, Operand, Place, SiteGrads, SiteTerms, Span, Step};

/// A small deterministic generator (Knuth's 64-bit linear congruence).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// An integer in `lo..=hi`.
    pub(crate) fn int(&mut self, lo: i32, hi: i32) -> i32 {
        let span = (hi as i64 - lo as i64 + 1) as u64;
        (lo as i64 + (self.word() as u64 % span) as i64) as i32
    }

    /// A float in `lo..hi`.
    pub(crate) fn float(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * (self.word() >> 8) as f32 / (1u32 << 24) as f32
    }

    pub(crate) fn floats(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..n).map(|_| self.float(lo, hi)).collect()
    }

    /// Codes over the whole range, its ends more often than chance.
    pub(crate) fn codes(&mut self, n: usize) -> Vec<i8> {
        let mut code = || match self.int(0, 15) {
            0 => -128,
            1 => 127,
            _ => self.int(-128, 127) as i8,
        };
        (0..n).map(|_| code()).collect()
    }
}

/// A tensor that owns its elements, aligned for any type.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    words: Vec<i64>,
}

impl Tensor {
    pub(crate) fn zeros(dtype: DType, dims: &[u32]) -> Self {
        let shape = Shape::new(dims).unwrap();
        let words = std::vec![0; (shape.elements() * dtype.size()).div_ceil(8)];
        Self { dtype, shape, words }
    }

    pub(crate) fn new<T: Element>(dims: &[u32], values: &[T]) -> Self {
        let mut tensor = Self::zeros(T::DTYPE, dims);
        tensor.bytes_mut().copy_from_slice(bytes::of(values));
        tensor
    }

    /// The same bytes as another type of the same size.
    pub(crate) fn cast(mut self, dtype: DType) -> Self {
        assert_eq!(self.dtype.size(), dtype.size());
        self.dtype = dtype;
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytes::of(&self.words)[..self.shape.elements() * self.dtype.size()]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.shape.elements() * self.dtype.size();
        &mut bytes::of_mut(&mut self.words)[..len]
    }

    pub(crate) fn values<T: Element>(&self) -> Vec<T> {
        bytes::cast(self.bytes()).unwrap().to_vec()
    }
}

/// Checks the step as at bind, then runs it into `outputs`.
pub(crate) fn run<A: Attrs>(
    kernel: &Kernel,
    attrs: &A,
    inputs: &[&Tensor],
    outputs: &mut [&mut Tensor],
) -> Result<(), KernelError> {
    let workspace = bind(kernel, attrs, inputs, outputs)?;
    run_unchecked(kernel, attrs, inputs, outputs, workspace)
}

/// Checks the step as at bind; the workspace it asks for.
pub(crate) fn bind<A: Attrs>(
    kernel: &Kernel,
    attrs: &A,
    inputs: &[&Tensor],
    outputs: &[&mut Tensor],
) -> Result<usize, KernelError> {
    let mut step = Step::new(kernel.op, attrs.as_bytes());
    for input in inputs {
        step.push_input(Operand {
            dtype: input.dtype,
            shape: input.shape,
            place: Place::Plan(input.bytes()),
        })?;
    }
    for output in outputs {
        let span = Span { offset: 0, len: output.bytes().len() };
        step.push_output(Operand { dtype: output.dtype, shape: output.shape, place: Place::Memory(span) })?;
    }
    assert!(kernel.matches(&step), "{} does not match", kernel.name);
    (kernel.check)(&step)?;
    Ok((kernel.workspace)(&step))
}

/// Runs without the check, as a caller that skipped bind would.
pub(crate) fn run_unchecked<A: Attrs>(
    kernel: &Kernel,
    attrs: &A,
    inputs: &[&Tensor],
    outputs: &mut [&mut Tensor],
    workspace: usize,
) -> Result<(), KernelError> {
    let inputs: Vec<View<'_>> =
        inputs.iter().map(|t| View::new(t.dtype, t.shape, t.bytes()).unwrap()).collect();
    let mut outputs: Vec<ViewMut<'_>> =
        outputs.iter_mut().map(|t| ViewMut::new(t.dtype, t.shape, t.bytes_mut()).unwrap()).collect();
    let mut workspace = std::vec![0u64; workspace.div_ceil(8)];
    (kernel.run)(&mut Call {
        op: kernel.op,
        attrs: attrs.as_bytes(),
        inputs: &inputs,
        outputs: &mut outputs,
        workspace: zerocopy::IntoBytes::as_mut_bytes(&mut workspace[..]),
        packed: &[],
        terms: SiteTerms::NONE,
        grads: SiteGrads::default(),
        accumulate: 0,
    })
}

/// A value in output steps as a code, in f64.
pub(crate) fn requantized(v: f64, lo: f32, hi: f32, zero_point: i32) -> i8 {
    (v.clamp(lo as f64, hi as f64).round_ties_even() + zero_point as f64) as i8
}

/// Row-major index of every element of `dims`.
pub(crate) fn indices(dims: &[u32]) -> Vec<Vec<usize>> {
    let mut all = std::vec![Vec::new()];
    for &d in dims {
        all = all
            .into_iter()
            .flat_map(|prefix: Vec<usize>| {
                (0..d as usize).map(move |i| {
                    let mut index = prefix.clone();
                    index.push(i);
                    index
                })
            })
            .collect();
    }
    all
}

/// Flat position in a tensor of `dims` that broadcasts to the space of `index`.
pub(crate) fn position(dims: &[u32], index: &[usize]) -> usize {
    let index = &index[index.len() - dims.len()..];
    dims.iter().zip(index).fold(0, |at, (&d, &i)| at * d as usize + if d == 1 { 0 } else { i })
}

/// Asserts |have − want| ≤ `tolerance` · max(1, |want|), element by element.
pub(crate) fn assert_close(have: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(have.len(), want.len());
    for (i, (&h, &w)) in have.iter().zip(want).enumerate() {
        let same = h as f64 == w || (h.is_nan() && w.is_nan());
        assert!(same || (h as f64 - w).abs() <= tolerance * w.abs().max(1.0), "element {i}: {h} is not {w}");
    }
}
