//! Scalar reference of every backward step.
//!
//! A backward step reads `[dy, mask, forward inputs…]`: the gradient of the
//! forward step's output, then its straight-through mask when the forward step
//! saved one, then the forward inputs the operator needs. It writes the gradient
//! of one forward input. Gradients are f32 and with respect to the real
//! (dequantized) value, so no scale of a quantizer appears in them; rounding
//! counts as the identity, and where the mask has a 0 the gradient is 0.
//!
//! Bit 0 of [`Call::accumulate`] adds to the output instead of overwriting it.
//! Gradients of a site's parameters ([`SiteGrads`](crate::SiteGrads)) are always
//! added, so that a batch is a sum of calls.

pub mod add;
pub mod binary;
pub mod conv;
pub mod copy;
pub mod depthwise;
pub mod gather;
pub mod layer;
pub mod lookup;
pub mod matmul;
pub mod norm;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod resize;
mod rows;
pub mod select;
pub mod softmax;
pub mod trained;
pub mod unary;

use ingraft_tensor::DType;

use crate::requantize::bit;
use crate::{Call, KernelError, Step, check};

pub use rows::Code;

/// The gradient of a forward step's output and the mask it passes through.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// One value for each element of the output.
    pub gradient: &'a [f32],
    /// One bit for each of them; without it all pass.
    pub mask: Option<&'a [u8]>,
}

impl<'a> Incoming<'a> {
    /// Inputs 0 and, when it is a mask, 1 of `call`.
    fn new(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let gradient = call.slice(0)?;
        let mask = call.inputs.get(1).filter(|view| view.dtype() == DType::U8).map(|view| view.bytes());
        let fits = mask.is_none_or(|mask| mask.len() == gradient.len().div_ceil(8));
        fits.then_some(Self { gradient, mask }).ok_or(call.operands())
    }

    /// Index of the first forward input among the inputs.
    fn operands(&self) -> usize {
        if self.mask.is_some() { 2 } else { 1 }
    }

    /// Copies the elements from `start` into `out`, masked ones as 0, whatever
    /// they hold. Whether any is not 0; `None` past the end.
    #[inline(always)]
    fn read(&self, start: usize, out: &mut [f32]) -> Option<bool> {
        let source = self.gradient.get(start..)?.get(..out.len())?;
        match self.mask {
            None => out.iter_mut().zip(source).for_each(|(o, s)| *o = *s),
            Some(mask) => {
                for (i, (o, s)) in (start..).zip(out.iter_mut().zip(source)) {
                    *o = if bit(mask, i) { *s } else { 0.0 };
                }
            }
        }
        Some(out.iter().any(|v| *v != 0.0))
    }
}

/// The number of inputs before the forward step's own: gradient and, if present, mask.
///
/// # Errors
/// [`KernelError::Operands`] for a gradient that is not f32 or a mask that is not one bit for each of its elements.
fn check_incoming(step: &Step<'_>) -> Result<usize, KernelError> {
    let gradient = step.input(0)?;
    check::require(step, gradient.dtype == DType::F32)?;
    let Some(mask) = step.inputs().get(1).filter(|mask| mask.dtype == DType::U8) else { return Ok(1) };
    check::require(step, mask.shape.elements() == gradient.shape.elements().div_ceil(8))?;
    Ok(2)
}

/// Exactly one output, of f32.
fn check_output(step: &Step<'_>) -> Result<(), KernelError> {
    check::require(step, step.outputs().len() == 1 && step.output_dtype(0) == Some(DType::F32))
}

/// The elements of output 0, ready to be added to.
///
/// # Errors
/// [`KernelError::Operands`].
pub fn gradient<'c>(call: &'c mut Call<'_, '_>) -> Result<&'c mut [f32], KernelError> {
    let overwrite = call.accumulate & 1 == 0;
    let out: &mut [f32] = call.slice_mut(0)?;
    if overwrite {
        out.fill(0.0);
    }
    Ok(out)
}

const F32: Option<DType> = Some(DType::F32);

#[cfg(test)]
mod tests;
