//! int8 convolution and linear layers, with every adapter term in the epilogue.

mod dynamic;

pub use dynamic::KERNEL as KERNEL_DYNAMIC;

use ingraft_tensor::DType;
use ingraft_tensor::arrays::arrays;

use crate::attrs::QConvAttrs;
use crate::requantize::{passes, set_bit, to_code, to_i16};
use crate::terms::{Factors, MAX_TERM_RANK, SiteTerms, SparseValues};
use crate::window::{ConvShape, row};
use crate::{Call, Kernel, KernelError, OpCode, Step};

/// int8 output.
pub const KERNEL: Kernel = Kernel::new("qconv_qs8_qc8w_qs8__scalar", OpCode::QConv, I8, I8, run)
    .checked(check)
    .with_workspace(workspace);

/// f32 output: the accumulator times the multiplier.
pub const KERNEL_F32: Kernel =
    Kernel::new("qconv_qs8_qc8w_f32__scalar", OpCode::QConv, I8, Some(DType::F32), run_f32)
        .checked(check)
        .with_workspace(workspace);

/// i32 output: the accumulator itself; takes no adapter terms.
pub const KERNEL_I32: Kernel =
    Kernel::new("qconv_qs8_qc8w_s32__scalar", OpCode::QConv, I8, Some(DType::I32), run_i32)
        .checked(check)
        .with_workspace(workspace);

/// The operands of an int8 convolution.
///
/// # Shapes
/// `input` `[N, H, W, C]`, `weight` `[O, kh, kw, C/groups]`, `bias` and
/// `multiplier` `[O]`.
#[derive(Clone, Copy, Debug)]
pub struct QConv<'a> {
    /// Attributes.
    pub attrs: &'a QConvAttrs,
    /// Extents.
    pub shape: ConvShape,
    /// Activation codes.
    pub input: &'a [i8],
    /// Weight codes.
    pub weight: &'a [i8],
    /// Bias with the zero-point term folded in.
    pub bias: &'a [i32],
    /// f32 multiplier per output channel.
    pub multiplier: &'a [f32],
    /// What is added to the product, in output steps; empty where `bias` is all there is.
    pub shift: &'a [f32],
    /// Active terms.
    pub terms: SiteTerms<'a>,
}

impl<'a> QConv<'a> {
    /// The operands of `call`, checked to agree.
    ///
    /// # Errors
    /// [`KernelError::Operands`].
    pub fn new(call: &Call<'a, '_>) -> Result<Self, KernelError> {
        let error = KernelError::Operands(call.op);
        let attrs: &QConvAttrs = call.attrs()?;
        let output = call.outputs.first().ok_or(error)?.shape();
        let shape = ConvShape::new(&attrs.window, attrs.groups as usize, call.input(0)?.shape(), output)
            .ok_or(error)?;
        let (weight, bias) = match call.terms.patched {
            Some(patched) => (patched.weight, patched.bias),
            None => (call.slice(1)?, call.slice(2)?),
        };
        let (input, multiplier) = (call.slice(0)?, call.slice(3)?);
        let conv = Self { attrs, shape, input, weight, bias, multiplier, shift: &[], terms: call.terms };
        let out = shape.output[3];
        let fits = weight.len() == shape.row().wrapping_mul(out)
            && bias.len() == out
            && conv.multiplier.len() == out
            && call.terms.dense.is_none_or(|delta| delta.len() == weight.len());
        fits.then_some(conv).ok_or(error)
    }

    /// Calls `emit(index, channel, acc, extra)` for every output element, where
    /// `acc` is the exact accumulator with integer sparse deltas and `extra` what
    /// the other terms add.
    #[inline(always)]
    fn for_each(
        &self,
        workspace: &mut [i8],
        mut emit: impl FnMut(usize, usize, i32, Extra<'_>),
    ) -> Result<(), KernelError> {
        let error = KernelError::Operands(OpCode::QConv);
        let (len, groups, out_group) = (self.shape.row(), self.shape.groups, self.shape.out_group);
        let zero = self.attrs.in_zero_point;
        let out_channels = self.shape.output[3];
        let mut latent = Latent::default();
        self.shape.for_each_pixel(|index, pixel| {
            for group in 0..groups {
                let patch = self.shape.patch(self.input, zero as i8, pixel, group, workspace).ok_or(error)?;
                latent.compute(self, group, patch).ok_or(KernelError::Terms(OpCode::QConv))?;
                for local in 0..out_group {
                    let channel = group.wrapping_mul(out_group).wrapping_add(local);
                    let weight = row(self.weight, channel, len).ok_or(error)?;
                    let bias = *self.bias.get(channel).ok_or(error)?;
                    let mut acc = bias.wrapping_add(dot(patch, weight));
                    let mut extra = Extra { latent: &latent, delta: 0.0 };
                    if let Some((integer, real)) = self.sparse(channel, patch) {
                        acc = acc.wrapping_add(integer);
                        extra.delta = real;
                    }
                    if let Some(delta) = self.terms.dense {
                        extra.delta += dot_reals(row(delta, channel, len).ok_or(error)?, patch, zero);
                    }
                    emit(index.wrapping_mul(out_channels).wrapping_add(channel), channel, acc, extra);
                }
            }
            Ok(())
        })
    }

    /// The sparse term of `channel`: integer part on the accumulator, real part
    /// as `Σ Δ·(x − zx)`.
    #[inline(always)]
    fn sparse(&self, channel: usize, patch: &[i8]) -> Option<(i32, f32)> {
        let sparse = self.terms.sparse?;
        let span = sparse.span(channel)?;
        let zero = self.attrs.in_zero_point;
        let at = |i: &u16| patch.get(*i as usize).map_or(0, |x| i32::from(*x).wrapping_sub(zero));
        let indices = sparse.indices.get(span.clone())?;
        Some(match sparse.values {
            SparseValues::I16(values) => {
                let pairs = indices.iter().zip(values.get(span)?);
                (pairs.fold(0i32, |s, (i, v)| s.wrapping_add(at(i).wrapping_mul(i32::from(*v)))), 0.0)
            }
            SparseValues::F32(values) => {
                let pairs = indices.iter().zip(values.get(span)?);
                (0, pairs.fold(0.0, |s, (i, v)| s + at(i) as f32 * v))
            }
        })
    }

    /// The pre-activation value of `channel` in output steps.
    ///
    /// # Numerics
    /// `f32(acc)·m` plus the shift, then the two-factor term and the real deltas, then the
    /// affine term; every product and sum is one rounded f32 operation in this order.
    #[inline(always)]
    fn pre_activation(&self, channel: usize, acc: i32, extra: Extra<'_>, inv_out_scale: f32) -> f32 {
        let mut v = acc as f32 * self.multiplier.get(channel).copied().unwrap_or(0.0);
        if let Some(shift) = self.shift.get(channel) {
            v += shift;
        }
        if let Some(term) = self.terms.two_factor {
            v += match term.factors {
                Factors::F32 { up, .. } => extra.latent.apply(up, channel, term.rank) * inv_out_scale,
                Factors::I8 { up, up_scale, .. } => {
                    let sum = extra.latent.apply_integer(up, channel, term.rank);
                    sum as f32 * up_scale.get(channel).copied().unwrap_or(0.0)
                }
            };
        }
        if self.terms.has_real_delta() {
            v += extra.delta * self.attrs.in_scale * inv_out_scale;
        }
        if let Some(affine) = self.terms.affine {
            let scale = affine.scale.get(channel).copied().unwrap_or(1.0);
            let shift = affine.shift.get(channel).copied().unwrap_or(0.0);
            v = v * scale + shift * inv_out_scale;
        }
        v
    }
}

/// What the non-integer terms contribute to one output element.
#[derive(Clone, Copy)]
struct Extra<'l> {
    latent: &'l Latent,
    /// `Σ Δ·(x − zx)` of the real deltas.
    delta: f32,
}

/// The rank-space vector `A·x` of one patch and group.
struct Latent {
    real: [f32; MAX_TERM_RANK],
    codes: [i16; MAX_TERM_RANK],
}

impl Default for Latent {
    fn default() -> Self {
        Self { real: [0.0; MAX_TERM_RANK], codes: [0; MAX_TERM_RANK] }
    }
}

impl Latent {
    #[inline(always)]
    fn compute(&mut self, conv: &QConv<'_>, group: usize, patch: &[i8]) -> Option<()> {
        let Some(term) = conv.terms.two_factor else { return Some(()) };
        let zero = conv.attrs.in_zero_point;
        let first = group.wrapping_mul(term.rank);
        match term.factors {
            Factors::F32 { down, .. } => {
                for (k, t) in self.real.get_mut(..term.rank)?.iter_mut().enumerate() {
                    let a = row(down, first.wrapping_add(k), patch.len())?;
                    let sum = a
                        .iter()
                        .zip(patch)
                        .fold(0.0f32, |s, (a, x)| s + a * i32::from(*x).wrapping_sub(zero) as f32);
                    *t = sum * conv.attrs.in_scale;
                }
            }
            Factors::I8 { down, down_scale, .. } => {
                for (k, u) in self.codes.get_mut(..term.rank)?.iter_mut().enumerate() {
                    let k = first.wrapping_add(k);
                    let a = row(down, k, patch.len())?;
                    let sum = a.iter().zip(patch).fold(0i32, |s, (a, x)| {
                        s.wrapping_add(i32::from(*a).wrapping_mul(i32::from(*x).wrapping_sub(zero)))
                    });
                    *u = to_i16(sum as f32 * *down_scale.get(k)?);
                }
            }
        }
        Some(())
    }

    #[inline(always)]
    fn apply(&self, up: &[f32], channel: usize, rank: usize) -> f32 {
        let Some(up) = row(up, channel, rank) else { return 0.0 };
        up.iter().zip(&self.real).fold(0.0, |s, (b, t)| s + b * t)
    }

    #[inline(always)]
    fn apply_integer(&self, up: &[i8], channel: usize, rank: usize) -> i32 {
        let Some(up) = row(up, channel, rank) else { return 0 };
        up.iter()
            .zip(&self.codes)
            .fold(0, |s, (b, u)| s.wrapping_add(i32::from(*b).wrapping_mul(i32::from(*u))))
    }
}

/// `Σ a·b` over int8 codes.
///
/// # Numerics
/// Exact modulo 2³²; the compiler proved that the true sum fits.
#[inline(always)]
pub fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).fold(0, |s, (a, b)| s.wrapping_add(i32::from(*a).wrapping_mul(i32::from(*b))))
}

/// `Σ a·(b − zero)`, codes against reals in eight interleaved partial sums.
#[inline(always)]
fn dot_reals(a: &[f32], b: &[i8], zero: i32) -> f32 {
    let product = |(a, b): (&f32, &i8)| a * i32::from(*b).wrapping_sub(zero) as f32;
    let ((a8, a_tail), (b8, b_tail)) = (arrays::<_, 8>(a), arrays::<_, 8>(b));
    let tail = a_tail.iter().zip(b_tail).map(product).fold(0.0, |sum, v| sum + v);
    let mut sums = [0.0f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, pair)| *sum += product(pair));
    }
    sums.iter().fold(tail, |sum, v| sum + v)
}

/// Checks the operands of a convolution step.
///
/// # Errors
/// [`KernelError::Operands`] when types, shapes and attributes disagree.
pub fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let error = KernelError::Operands(step.op);
    let attrs: &QConvAttrs = step.attrs()?;
    let shape =
        ConvShape::new(&attrs.window, attrs.groups as usize, step.input(0)?.shape, step.output(0)?.shape)
            .ok_or(error)?;
    let types = step.input_dtype(1) == I8
        && step.input_dtype(2) == Some(DType::I32)
        && step.input_dtype(3) == Some(DType::F32);
    let out = shape.output[3];
    let sizes = step.input(1)?.shape.elements() == shape.row().wrapping_mul(out)
        && step.input(2)?.shape.elements() == out
        && step.input(3)?.shape.elements() == out;
    let codes = (-128..=127).contains(&attrs.in_zero_point) && attrs.out_scale > 0.0 && attrs.in_scale > 0.0;
    (types && sizes && codes).then_some(()).ok_or(error)
}

fn workspace(step: &Step<'_>) -> usize {
    let shape = || {
        let attrs: &QConvAttrs = step.attrs().ok()?;
        let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
        ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
    };
    shape().map_or(0, |s| if s.is_pointwise() { 0 } else { s.row() })
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = QConv::new(call)?;
    let inv = 1.0 / conv.attrs.out_scale;
    let scratch = core::mem::take(&mut call.workspace);
    let scratch = ingraft_tensor::bytes::cast_mut(scratch).ok_or(call.operands())?;
    let (out, mut mask) = call.out_and_mask::<i8>()?;
    let QConvAttrs { lo, hi, out_zero_point, .. } = *conv.attrs;
    conv.for_each(scratch, |index, channel, acc, extra| {
        let v = conv.pre_activation(channel, acc, extra, inv);
        if let Some(o) = out.get_mut(index) {
            *o = to_code(v, lo, hi, out_zero_point);
        }
        if let Some(mask) = mask.as_deref_mut() {
            set_bit(mask, index, passes(v, lo, hi));
        }
    })
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let conv = QConv::new(call)?;
    let inv = 1.0 / conv.attrs.out_scale;
    let scratch = core::mem::take(&mut call.workspace);
    let scratch = ingraft_tensor::bytes::cast_mut(scratch).ok_or(call.operands())?;
    let (out, mut mask) = call.out_and_mask::<f32>()?;
    let QConvAttrs { lo, hi, .. } = *conv.attrs;
    conv.for_each(scratch, |index, channel, acc, extra| {
        let v = conv.pre_activation(channel, acc, extra, inv);
        if let Some(o) = out.get_mut(index) {
            *o = crate::requantize::clamp(v, lo, hi);
        }
        if let Some(mask) = mask.as_deref_mut() {
            set_bit(mask, index, passes(v, lo, hi));
        }
    })
}

fn run_i32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !call.terms.is_none() {
        return Err(KernelError::Terms(call.op));
    }
    let conv = QConv::new(call)?;
    let scratch = core::mem::take(&mut call.workspace);
    let scratch = ingraft_tensor::bytes::cast_mut(scratch).ok_or(call.operands())?;
    let out: &mut [i32] = call.slice_mut(0)?;
    conv.for_each(scratch, |index, _, acc, _| {
        if let Some(o) = out.get_mut(index) {
            *o = acc;
        }
    })
}

const I8: Option<DType> = Some(DType::I8);
