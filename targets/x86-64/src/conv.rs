//! f32 convolution and linear layers on packed weights.
//!
//! # Numerics
//! One fused multiply-add per product, in the reference's order from the bias
//! on: within a few units of the last place of `Σ|a·b|` of the reference.

mod terms;
mod weights;

use ingraft_kernel::attrs::ConvAttrs;
use ingraft_kernel::conv::{Conv, KERNEL as REFERENCE};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, OpCode, Place, Step};
use ingraft_tensor::{DType, bytes};

use self::terms::WithTerms;
use crate::avx2::conv as avx2;
use crate::columns::{Chunk, Columns, Layout};
use crate::features::{Avx2, Avx512};
use crate::gemm::{AsPacked, BLOCK, Finish, Pixels, Product, Reals, STRIP, multiply};
use crate::patches::Patches;
use crate::simd::{Row, Simd, entry};

/// f32 throughout.
pub(crate) const AVX512: Kernel =
    Kernel::new("conv_f32_f32_f32__avx512", OpCode::Conv, Some(DType::F32), Some(DType::F32), run::<Avx512>)
        .checked(check)
        .with_workspace(workspace::<Avx512>)
        .with_packed(packed_bytes::<Avx512>, pack::<Avx512>);

/// f32 throughout, on vectors of 256 bits.
pub(crate) const AVX2: Kernel = Kernel { name: "conv_f32_f32_f32__avx2packed", run: run::<Avx2>, ..AVX512 }
    .with_workspace(workspace::<Avx2>)
    .with_packed(packed_bytes::<Avx2>, pack::<Avx2>);

/// Weights must stand in the plan, to be packed at bind.
fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let constant = matches!(step.input(1)?.place, Place::Plan(_));
    (constant && patches(step).is_some()).then_some(()).ok_or(KernelError::Operands(step.op))
}

fn patches(step: &Step<'_>) -> Option<(ConvShape, Patches)> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output)?;
    Some((shape, Patches::new(&shape, size_of::<f32>(), 1, false)?))
}

/// The copy of a padded sample and what active terms need, in this row or in the one that reads weights in place.
fn workspace<S: Simd>(step: &Step<'_>) -> usize {
    let own = patches(step)
        .map_or(0, |(_, patches)| patches.copy_bytes().next_multiple_of(16) + terms::bytes::<S>(&patches));
    own.max(avx2::workspace(step))
}

fn layout<S: Simd>(shape: &ConvShape, patches: &Patches) -> Layout {
    let columns = Columns { count: shape.out_group, lanes: S::LANES, widest: S::COLUMNS };
    Layout { columns, groups: shape.groups, segments: patches.segments, blocks: true }
}

fn packed_bytes<S: Simd>(step: &Step<'_>) -> usize {
    patches(step).map_or(0, |(shape, patches)| layout::<S>(&shape, &patches).bytes())
}

fn pack<S: Simd>(step: &Step<'_>, packed: &mut [u8]) -> Result<(), KernelError> {
    let Place::Plan(weight) = step.input(1)?.place else { return Err(KernelError::Operands(step.op)) };
    let filled =
        patches(step).and_then(|(shape, patches)| layout::<S>(&shape, &patches).pack(weight, packed, |_| 0));
    filled.ok_or(KernelError::Memory(step.op))
}

fn run<S: Simd>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if call.terms.is_none() && call.outputs.len() == 1 {
        entry::<S, Products>(call)
    } else {
        entry::<S, WithTerms>(call)
    }
}

/// The layer without terms.
struct Products;

impl<S: Simd> Row<S> for Products {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (conv, error) = (Conv::new(call)?, KernelError::Memory(call.op));
        let (copy, packed) = (core::mem::take(&mut call.workspace), call.packed);
        let (out, _) = call.out_and_mask::<f32>()?;
        let product = product::<S>(&conv, packed).ok_or(error)?;
        let mut finish = Clamped { simd, conv: &conv, bias: [0.0; STRIP], first: 0, count: 0, out };
        multiply(simd, &product, [copy, &mut []], &mut AsPacked, &mut finish).ok_or(error)
    }
}

#[inline(always)]
fn product<'a, S: Simd>(conv: &Conv<'a>, packed: &'a [u8]) -> Option<Product<'a>> {
    let patches = Patches::new(&conv.shape, size_of::<f32>(), 1, false)?;
    let layout = layout::<S>(&conv.shape, &patches);
    Some(Product { patches, layout, input: bytes::of(conv.input), fill: 0, packed, rest: None, block: BLOCK })
}

/// Clamped f32 output.
struct Clamped<'a, 'o, S> {
    simd: S,
    conv: &'a Conv<'a>,
    /// The chunk's, zero past its last channel.
    bias: [f32; STRIP],
    /// First channel of the chunk in the layer.
    first: usize,
    /// Channels of the chunk.
    count: usize,
    out: &'o mut [f32],
}

impl<S: Simd> Finish<S, Reals> for Clamped<'_, '_, S> {
    #[inline(always)]
    fn chunk(&mut self, group: usize, chunk: Chunk, _: &[i32]) -> Option<()> {
        self.first = group * self.conv.shape.out_group + chunk.first;
        self.count = chunk.count;
        let bias = self.conv.bias.get(self.first..)?.get(..chunk.count)?;
        let (own, rest) = self.bias.split_at_mut_checked(chunk.count)?;
        own.copy_from_slice(bias);
        rest.fill(0.0);
        Some(())
    }

    #[inline(always)]
    fn start(&self, n: usize) -> S::Real {
        let at = (n * S::LANES).min(STRIP - S::LANES);
        // SAFETY: a whole vector lies at `at`.
        unsafe { self.simd.load(self.bias.as_ptr().add(at)) }
    }

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(
        &mut self,
        pixels: Pixels,
        sums: &[[S::Real; N]; M],
    ) -> Option<()> {
        let (simd, attrs, channels) = (self.simd, self.conv.attrs, self.conv.shape.output[3]);
        let (lo, hi) = (simd.splat(attrs.lo), simd.splat(attrs.hi));
        let start = pixels.first * channels + self.first;
        let end = start + pixels.count.checked_sub(1)? * channels + self.count;
        let mut to = self.out.get_mut(start..end)?.as_mut_ptr();
        for (m, sums) in sums.iter().enumerate() {
            if m < pixels.count {
                for (n, v) in sums.iter().enumerate() {
                    let (at, v) = (n * S::LANES, simd.clamp(*v, lo, hi));
                    // SAFETY: the slice spans the channels of every pixel of the tile; `to` is pixel m's first.
                    unsafe { simd.store_some(to.wrapping_add(at), v, (self.count - at).min(S::LANES)) };
                }
                to = to.wrapping_add(channels);
            }
        }
        Some(())
    }
}
