//! The constant operands of a layer's backward step: input, weight and what their codes are worth.

use ingraft_tensor::{DType, Shape};

use super::rows::Code;
use super::{Incoming, check_incoming, check_output};
use crate::attrs::{ConvAttrs, QConvAttrs};
use crate::window::ConvShape;
use crate::{Call, KernelError, Step, check};

/// A layer as its backward step sees it.
///
/// # Shapes
/// `input` `[N, H, W, C]`, or empty where no term is trained; `weight` as the forward step stores it; the incoming
/// gradient has the shape of the forward output.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a, T> {
    /// Extents.
    pub shape: ConvShape,
    /// Gradient of the forward output, and its mask.
    pub incoming: Incoming<'a>,
    /// The forward input.
    pub input: &'a [T],
    /// The weight.
    pub weight: &'a [T],
    /// What stands for real zero in the input, and in its padding.
    pub zero: T,
    /// Real value of one input step.
    in_scale: f32,
    channels: Channels<'a>,
}

/// Per-channel constants.
#[derive(Clone, Copy, Debug)]
enum Channels<'a> {
    /// Bias with the zero-point term folded in; multiplier sx·sw/sy.
    Integer {
        bias: &'a [i32],
        multiplier: &'a [f32],
        out_scale: f32,
    },
    /// The weight's scales and sums over its rows; bias in reals.
    Dynamic {
        bias: &'a [f32],
        multiplier: &'a [f32],
        sums: &'a [i32],
        zero: f32,
        in_scale: f32,
    },
    Real {
        bias: &'a [f32],
    },
}

impl<'a> Layer<'a, i8> {
    /// The int8 operands of `call`: `[dy, mask?, x, weight, bias, multiplier]`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when they do not agree.
    pub fn quantized(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let error = call.operands();
        let attrs: &QConvAttrs = call.attrs()?;
        let incoming = Incoming::new(call)?;
        let [x, w, b, m] = core::array::from_fn(|i| incoming.operands().wrapping_add(i));
        let (input, output) = (input_shape(call, x)?, call.input(0)?.shape());
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output).ok_or(error)?;
        let (weight, bias) = match call.terms.patched {
            Some(patched) => (patched.weight, patched.bias),
            None => (call.slice(w)?, call.slice(b)?),
        };
        let multiplier: &[f32] = call.slice(m)?;
        let out = shape.output[3];
        let fits =
            weight.len() == shape.row().wrapping_mul(out) && bias.len() == out && multiplier.len() == out;
        let layer = Self {
            shape,
            incoming,
            input: call.slice(x)?,
            weight,
            zero: attrs.in_zero_point as i8,
            in_scale: attrs.in_scale,
            channels: Channels::Integer { bias, multiplier, out_scale: attrs.out_scale },
        };
        fits.then_some(layer).ok_or(error)
    }
}

impl<'a> Layer<'a, i8> {
    /// The operands of `call` for codes quantized at run time: `[dy, mask?, x, weight, sums, multiplier, bias, scale,
    /// zero point]`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when they do not agree; [`KernelError::Terms`] for a patched copy.
    pub fn dynamic(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let error = call.operands();
        if call.terms.patched.is_some() {
            return Err(KernelError::Terms(call.op));
        }
        let attrs: &ConvAttrs = call.attrs()?;
        let incoming = Incoming::new(call)?;
        let [x, w, s, m, b, scale, zero] = core::array::from_fn(|i| incoming.operands().wrapping_add(i));
        let (input, output) = (input_shape(call, x)?, call.input(0)?.shape());
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output).ok_or(error)?;
        let (&[in_scale], &[zero]) = (call.slice::<f32>(scale)?, call.slice::<i8>(zero)?) else {
            return Err(error);
        };
        let (weight, sums): (&[i8], &[i32]) = (call.slice(w)?, call.slice(s)?);
        let (multiplier, bias): (&[f32], &[f32]) = (call.slice(m)?, call.slice(b)?);
        let out = shape.output[3];
        let fits = weight.len() == shape.row().wrapping_mul(out)
            && [sums.len(), multiplier.len(), bias.len()] == [out; 3];
        let channels = Channels::Dynamic { bias, multiplier, sums, zero: f32::from(zero), in_scale };
        let layer = Self { shape, incoming, input: call.slice(x)?, weight, zero, in_scale, channels };
        fits.then_some(layer).ok_or(error)
    }
}

impl<'a> Layer<'a, f32> {
    /// The f32 operands of `call`: `[dy, mask?, x, weight, bias]`.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when they do not agree; [`KernelError::Terms`] for a patched copy.
    pub fn real(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let error = call.operands();
        if call.terms.patched.is_some() {
            return Err(KernelError::Terms(call.op));
        }
        let attrs: &ConvAttrs = call.attrs()?;
        let incoming = Incoming::new(call)?;
        let [x, w, b] = core::array::from_fn(|i| incoming.operands().wrapping_add(i));
        let (input, output) = (input_shape(call, x)?, call.input(0)?.shape());
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output).ok_or(error)?;
        let (weight, bias): (&[f32], &[f32]) = (call.slice(w)?, call.slice(b)?);
        let out = shape.output[3];
        let fits = weight.len() == shape.row().wrapping_mul(out) && bias.len() == out;
        let channels = Channels::Real { bias };
        let layer =
            Self { shape, incoming, input: call.slice(x)?, weight, zero: 0.0, in_scale: 1.0, channels };
        fits.then_some(layer).ok_or(error)
    }
}

impl<T: Code> Layer<'_, T> {
    /// Real value of one step of the weights of `channel`: sw = multiplier·sy/sx.
    #[inline(always)]
    pub fn weight_scale(&self, channel: usize) -> f32 {
        match self.channels {
            Channels::Integer { multiplier, out_scale, .. } => {
                multiplier.get(channel).copied().unwrap_or(0.0) * out_scale / self.in_scale
            }
            Channels::Dynamic { multiplier, .. } => multiplier.get(channel).copied().unwrap_or(0.0),
            Channels::Real { .. } => 1.0,
        }
    }

    /// The real pre-activation value of `channel` without terms, where `sum` is `Σ w·x` over stored elements.
    #[inline(always)]
    pub fn value(&self, channel: usize, sum: f32) -> Option<f32> {
        Some(match self.channels {
            Channels::Integer { bias, multiplier, out_scale } => {
                (*bias.get(channel)? as f32 + sum) * multiplier.get(channel)? * out_scale
            }
            Channels::Dynamic { bias, multiplier, sums, zero, in_scale } => {
                let centered = sum - zero * *sums.get(channel)? as f32;
                centered * (in_scale * multiplier.get(channel)?) + bias.get(channel)?
            }
            Channels::Real { bias } => bias.get(channel)? + sum,
        })
    }

    /// The real value of stored input elements.
    #[inline(always)]
    pub fn dequantize(&self, stored: &[T], real: &mut [f32]) {
        real.iter_mut().zip(stored).for_each(|(real, stored)| *real = self.dequantized(*stored));
    }

    /// Real value of one input step; 1 for a layer of reals.
    pub fn input_scale(&self) -> f32 {
        self.in_scale
    }

    /// The real value of a stored input element.
    #[inline(always)]
    pub fn dequantized(&self, stored: T) -> f32 {
        (stored.into() - self.zero.into()) * self.in_scale
    }
}

/// The shape of the forward input: where a layer that is not trained does not keep its elements, that of their gradient.
fn input_shape(call: &Call<'_, '_>, x: usize) -> Result<Shape, KernelError> {
    let shape = call.input(x)?.shape();
    match call.outputs.first() {
        Some(gradient) if shape.elements() == 0 => Ok(gradient.shape()),
        _ => Ok(shape),
    }
}

/// Checks an int8 layer's backward step; its extents.
///
/// # Errors
/// [`KernelError::Operands`].
pub fn check_quantized(step: &Step<'_>) -> Result<ConvShape, KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    let first = check_incoming(step)?;
    check::int8(step, attrs.in_zero_point)?;
    check::scale(step, attrs.in_scale)?;
    check::scale(step, attrs.out_scale)?;
    let shape = check_layer(step, first, &attrs.window, attrs.groups)?;
    let types = [DType::I8, DType::I8, DType::I32, DType::F32];
    check_constants(step, first, &types, &shape)?;
    Ok(shape)
}

/// Checks the backward step of a layer on codes quantized at run time; its extents.
///
/// # Errors
/// [`KernelError::Operands`].
pub fn check_dynamic(step: &Step<'_>) -> Result<ConvShape, KernelError> {
    let attrs: &ConvAttrs = step.attrs()?;
    let first = check_incoming(step)?;
    let shape = check_layer(step, first, &attrs.window, attrs.groups)?;
    let out = shape.output[3];
    let wanted = [
        (DType::I8, step.input(first)?.shape.elements()),
        (DType::I8, shape.row().wrapping_mul(out)),
        (DType::I32, out),
        (DType::F32, out),
        (DType::F32, out),
        (DType::F32, 1),
        (DType::I8, 1),
    ];
    let found = step.inputs().iter().skip(first).map(|operand| (operand.dtype, operand.shape.elements()));
    check::require(step, found.eq(wanted))?;
    Ok(shape)
}

/// Checks an f32 layer's backward step; its extents.
///
/// # Errors
/// [`KernelError::Operands`].
pub fn check_real(step: &Step<'_>) -> Result<ConvShape, KernelError> {
    let attrs: &ConvAttrs = step.attrs()?;
    let first = check_incoming(step)?;
    let shape = check_layer(step, first, &attrs.window, attrs.groups)?;
    check_constants(step, first, &[DType::F32; 3], &shape)?;
    Ok(shape)
}

/// The extents, and that the output, if there is one, is the gradient of the input.
fn check_layer(
    step: &Step<'_>,
    first: usize,
    window: &crate::attrs::Window,
    groups: u32,
) -> Result<ConvShape, KernelError> {
    let mut input = step.input(first)?.shape;
    if !step.outputs().is_empty() {
        check_output(step)?;
        let output = step.output(0)?.shape;
        if input.elements() == 0 {
            input = output;
        }
        check::require(step, output.elements() == input.elements())?;
    }
    let shape = ConvShape::new(window, groups as usize, input, step.input(0)?.shape);
    shape.ok_or(KernelError::Operands(step.op))
}

/// Input, weight and per-channel constants, from input `first`, of `types`.
fn check_constants(
    step: &Step<'_>,
    first: usize,
    types: &[DType],
    shape: &ConvShape,
) -> Result<(), KernelError> {
    let operands = step.inputs().get(first..).unwrap_or(&[]);
    let out = shape.output[3];
    let typed = operands.len() == types.len() && operands.iter().zip(types).all(|(o, t)| o.dtype == *t);
    let mut constants = operands.iter().skip(1).map(|o| o.shape.elements());
    let sized = constants.next() == Some(shape.row().wrapping_mul(out)) && constants.all(|n| n == out);
    check::require(step, typed && sized)
}
