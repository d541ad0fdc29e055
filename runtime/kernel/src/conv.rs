//! f32 convolution and linear layers, with adapter terms in the epilogue.

use ingraft_tensor::DType;
use ingraft_tensor::arrays::arrays;
use ingraft_tensor::bytes::cast_mut;

use crate::attrs::ConvAttrs;
use crate::requantize::{clamp, passes, set_bit};
use crate::terms::{Factors, MAX_TERM_RANK, SiteTerms, Sparse, SparseValues, TwoFactor};
use crate::window::{ConvShape, row};
use crate::{Call, Kernel, KernelError, OpCode, Step};

/// f32 throughout.
pub const KERNEL: Kernel =
    Kernel::new("conv_f32_f32_f32__scalar", OpCode::Conv, Some(DType::F32), Some(DType::F32), run)
        .checked(check)
        .with_workspace(workspace);

/// The operands of an f32 convolution.
///
/// # Shapes
/// `input` `[N, H, W, C]`, `weight` `[O, kh, kw, C/groups]`, `bias` `[O]`.
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a> {
    /// Attributes.
    pub attrs: &'a ConvAttrs,
    /// Extents.
    pub shape: ConvShape,
    /// Activations.
    pub input: &'a [f32],
    /// Weights.
    pub weight: &'a [f32],
    /// Bias.
    pub bias: &'a [f32],
    /// Active terms; integer factors and patched copies do not apply to a float base.
    pub terms: SiteTerms<'a>,
}

impl<'a> Conv<'a> {
    /// The operands of `call`, checked to agree.
    ///
    /// # Errors
    /// [`KernelError::Operands`]; [`KernelError::Terms`] for integer terms.
    pub fn new(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let error = KernelError::Operands(call.op);
        let attrs: &ConvAttrs = call.attrs()?;
        let output = call.outputs.first().ok_or(error)?.shape();
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, call.input(0)?.shape(), output)
            .ok_or(error)?;
        check_float_terms(call.op, &call.terms)?;
        let conv = Self {
            attrs,
            shape,
            input: call.slice(0)?,
            weight: call.slice(1)?,
            bias: call.slice(2)?,
            terms: call.terms,
        };
        let out = shape.output[3];
        let fits = conv.weight.len() == shape.row().wrapping_mul(out)
            && conv.bias.len() == out
            && call.terms.dense.is_none_or(|delta| delta.len() == conv.weight.len());
        fits.then_some(conv).ok_or(error)
    }

    #[inline(always)]
    fn latent<'t>(
        &self,
        group: usize,
        patch: &[f32],
        real: &'t mut [f32; MAX_TERM_RANK],
    ) -> Option<&'t [f32]> {
        let Some(term) = self.terms.two_factor else { return Some(&[]) };
        let Factors::F32 { down, .. } = term.factors else { return None };
        let first = group.wrapping_mul(term.rank);
        let real = real.get_mut(..term.rank)?;
        for (k, t) in real.iter_mut().enumerate() {
            *t = dot(row(down, first.wrapping_add(k), patch.len())?, patch);
        }
        Some(real)
    }

    #[inline(always)]
    fn pre_activation(&self, channel: usize, patch: &[f32], latent: &[f32]) -> Option<f32> {
        let mut y = dot(row(self.weight, channel, patch.len())?, patch) + self.bias.get(channel)?;
        if let Some(TwoFactor { rank, factors: Factors::F32 { up, .. } }) = self.terms.two_factor {
            y += dot(row(up, channel, rank)?, latent);
        }
        if let Some(sparse @ Sparse { values: SparseValues::F32(values), .. }) = self.terms.sparse {
            let span = sparse.span(channel)?;
            let pairs = sparse.indices.get(span.clone())?.iter().zip(values.get(span)?);
            y += pairs.fold(0.0, |s, (i, v)| s + patch.get(*i as usize).copied().unwrap_or(0.0) * v);
        }
        if let Some(delta) = self.terms.dense {
            y += dot(row(delta, channel, patch.len())?, patch);
        }
        if let Some(affine) = self.terms.affine {
            y = y * affine.scale.get(channel)? + affine.shift.get(channel)?;
        }
        Some(y)
    }
}

/// Refuses terms that only an integer base can take.
///
/// # Errors
/// [`KernelError::Terms`].
pub fn check_float_terms(op: OpCode, terms: &SiteTerms<'_>) -> Result<(), KernelError> {
    let integer = matches!(terms.two_factor.map(|t| t.factors), Some(Factors::I8 { .. }))
        || matches!(terms.sparse.map(|s| s.values), Some(SparseValues::I16(_)))
        || terms.patched.is_some();
    if integer { Err(KernelError::Terms(op)) } else { Ok(()) }
}

/// `Σ a·b` in eight interleaved partial sums, which a compiler can keep in one
/// vector register.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a8, a_tail), (b8, b_tail)) = (arrays::<_, 8>(a), arrays::<_, 8>(b));
    let tail = a_tail.iter().zip(b_tail).fold(0.0, |s, (a, b)| s + a * b);
    let mut sums = [0.0f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    sums.iter().fold(tail, |s, v| s + v)
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let error = KernelError::Operands(step.op);
    let shape = step_shape(step).ok_or(error)?;
    let out = shape.output[3];
    let fits = step.input_dtype(1) == Some(DType::F32)
        && step.input_dtype(2) == Some(DType::F32)
        && step.input(1)?.shape.elements() == shape.row().wrapping_mul(out)
        && step.input(2)?.shape.elements() == out;
    fits.then_some(()).ok_or(error)
}

fn step_shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    ConvShape::new(
        &attrs.window,
        attrs.groups as usize,
        step.input(0).ok()?.shape,
        step.output(0).ok()?.shape,
    )
}

fn workspace(step: &Step<'_>) -> usize {
    step_shape(step).map_or(0, |s| if s.is_pointwise() { 0 } else { s.row().wrapping_mul(4) })
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = Conv::new(call)?;
    let error = call.operands();
    let scratch = core::mem::take(&mut call.workspace);
    let scratch: &mut [f32] = cast_mut(scratch).ok_or(error)?;
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    let (groups, out_group) = (conv.shape.groups, conv.shape.out_group);
    let mut real = [0.0f32; MAX_TERM_RANK];
    conv.shape.for_each_pixel(|index, pixel| {
        for group in 0..groups {
            let patch = conv.shape.patch(conv.input, 0.0, pixel, group, scratch).ok_or(error)?;
            let latent = conv.latent(group, patch, &mut real).ok_or(error)?;
            for local in 0..out_group {
                let channel = group.wrapping_mul(out_group).wrapping_add(local);
                let y = conv.pre_activation(channel, patch, latent).ok_or(error)?;
                let at = index.wrapping_mul(conv.shape.output[3]).wrapping_add(channel);
                *out.get_mut(at).ok_or(error)? = clamp(y, conv.attrs.lo, conv.attrs.hi);
                if let Some(mask) = mask.as_deref_mut() {
                    set_bit(mask, at, passes(y, conv.attrs.lo, conv.attrs.hi));
                }
            }
        }
        Ok(())
    })
}
