//! Tensors that own their elements.

use ingraft::tensor::bytes::{self, Element};
use ingraft::tensor::{DType, Rng, Shape, View};

use crate::support::SessionMemory;

/// A tensor that owns its elements, aligned as those of a session.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    memory: SessionMemory,
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self { memory: self.bytes().into(), ..*self }
    }
}

impl Buffer {
    pub(crate) fn zeros(dtype: DType, dims: &[u32]) -> Self {
        let shape = Shape::new(dims).expect("shapes of real layers are small");
        Self { dtype, shape, memory: SessionMemory::zeroed(shape.elements() * dtype.size()) }
    }

    /// `f32` in ±1, codes over the whole range, other integers small, drawn from a fixed seed.
    pub(crate) fn random(dtype: DType, dims: &[u32]) -> Self {
        let (mut rng, mut buffer) = (Rng::new(0), Self::zeros(dtype, dims));
        match dtype {
            DType::F32 => buffer.fill(|| rng.uniform(-1.0, 1.0) as f32),
            DType::I32 => buffer.fill(|| rng.below(2000) as i32 - 1000),
            _ => buffer.bytes_mut().fill_with(|| rng.next_u64() as u8),
        }
        buffer
    }

    /// Every element `value`.
    pub(crate) fn filled<T: Element>(dims: &[u32], value: T) -> Self {
        let mut buffer = Self::zeros(T::DTYPE, dims);
        buffer.fill(|| value);
        buffer
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.as_slice()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut_slice()
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(self.dtype, self.shape, self.bytes()).expect("lengths agree")
    }

    fn fill<T: Element>(&mut self, draw: impl FnMut() -> T) {
        bytes::cast_mut(self.bytes_mut()).expect("the element type").fill_with(draw);
    }
}
