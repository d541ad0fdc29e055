//! Between the element types of the file and those a plan computes on.
//!
//! A plan holds uint8 as int8 minus 128 and half precision as single. Callers see the file's types: model
//! inputs are converted when read, model outputs before they are handed out.

use ingraft_kernel::OpCode;
use ingraft_tensor::DType;

use super::qops::NoAttrs;
use super::select::{Selector, plan_shape};
use super::{LowerError, ProgTensor, Storage, TensorRef};
use crate::graph::ValueId;

/// The type in which a plan holds values of type `dtype`.
pub(super) fn stored(dtype: DType) -> DType {
    match dtype {
        DType::U8 => DType::I8,
        DType::F16 => DType::F32,
        dtype => dtype,
    }
}

impl Selector<'_> {
    /// Declares a model input; gives the tensor the caller writes.
    pub(super) fn model_input(&mut self, value: ValueId) -> Result<TensorRef, LowerError> {
        let input = &self.graph[value];
        let (name, dtype) = (input.name.clone(), input.dtype);
        let shape = plan_shape(&name, &input.shape)?;
        let given =
            self.program.add(ProgTensor { name, dtype, shape, qparams: None, storage: Storage::Arena });
        let tensor = self.store(given, dtype);
        self.bind(value, tensor);
        Ok(given)
    }

    /// The tensor the caller reads for model output `value`.
    pub(super) fn model_output(&mut self, value: ValueId) -> Result<TensorRef, LowerError> {
        let tensor = self.tensor(value)?;
        Ok(self.plain(tensor, self.graph[value].dtype))
    }

    /// A tensor that stores values of type `from` as one that stores them as `to`.
    ///
    /// # Numerics
    /// As ONNX `Cast`: floats truncate toward zero, integers keep their low bits.
    pub(super) fn convert(&mut self, tensor: TensorRef, from: DType, to: DType) -> TensorRef {
        if from == to {
            return tensor;
        }
        // Half precision is stored exactly, as single: only a conversion to it rounds.
        let source = if from == DType::F16 { tensor } else { self.plain(tensor, from) };
        let cast = self.reinterpreted(OpCode::Cast, source, to);
        self.store(cast, to)
    }

    /// A tensor in the file's representation of `dtype` as the plan stores it.
    fn store(&mut self, plain: TensorRef, dtype: DType) -> TensorRef {
        match dtype {
            DType::U8 => self.reinterpreted(OpCode::Recode, plain, DType::I8),
            DType::F16 => self.reinterpreted(OpCode::Cast, plain, DType::F32),
            _ => plain,
        }
    }

    /// A tensor as the plan stores values of `dtype` in the file's representation.
    fn plain(&mut self, tensor: TensorRef, dtype: DType) -> TensorRef {
        match dtype {
            DType::U8 => self.reinterpreted(OpCode::Recode, tensor, DType::U8),
            DType::F16 => self.reinterpreted(OpCode::Cast, tensor, DType::F16),
            _ => tensor,
        }
    }

    /// One step of `op`, which changes the type and nothing else.
    fn reinterpreted(&mut self, op: OpCode, tensor: TensorRef, dtype: DType) -> TensorRef {
        let source = self.program.tensor(tensor);
        if source.dtype == dtype {
            return tensor;
        }
        let name = format!("{}.{}", source.name, dtype.name());
        let (shape, step) = (source.shape, source.name.clone());
        let result =
            self.program.add(ProgTensor { name, dtype, shape, qparams: None, storage: Storage::Arena });
        self.program.push(op, &NoAttrs {}, vec![tensor], vec![result], &step);
        result
    }
}
