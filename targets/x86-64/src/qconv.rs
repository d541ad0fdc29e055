//! int8 convolution and linear layers on packed weights.
//!
//! # Numerics
//! Sums are exact modulo 2³²; what follows them is the reference's arithmetic
//! in its order, so results equal it to the bit.

mod beside;
pub(crate) mod dynamic;
mod eights;
pub(crate) mod factors;
mod finish;
mod low_rank;
pub(crate) mod ranks;
mod real_sparse;
mod real_terms;
mod splitting;
mod terms;
mod weights;

use ingraft_kernel::attrs::QConvAttrs;
use ingraft_kernel::patch::{self, Log, Patcher};
use ingraft_kernel::qconv::{QConv, check as check_operands};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Factors, Kernel, KernelError, OpCode, Place, Sparse, Step, TwoFactor};
use ingraft_tensor::{DType, bytes};

use self::factors::{MOST_RANK, Plan};
pub(crate) use self::finish::Bounds;
use self::finish::{ToCodes, ToReals, ToSums};
use self::real_terms::RealTerms;
use self::terms::WithIntegerTerms;
pub(crate) use self::weights::Writable;
use self::weights::makes_weights;
use crate::avx2::qconv as avx2;
use crate::columns::{Columns, Layout, is_split};
use crate::features::{Avx2, Avx512, AvxVnni};
use crate::gemm::{AsPacked, BLOCK, EvenCodes, Finish, MovedCodes, Product, moves, multiply, splits};
use crate::patches::Patches;
use crate::simd::{Avx2Bytes, Row, Simd, entry};
use crate::split::Remainders;
use ingraft_vector::memory::take;

/// int8 output.
pub(crate) const AVX512: Kernel =
    Kernel::new("qconv_qs8_qc8w_qs8__avx512", OpCode::QConv, Some(DType::I8), Some(DType::I8), run::<Avx512>)
        .checked(check::<Avx512>)
        .with_workspace(workspace::<Avx512>)
        .with_packed(packed_bytes::<Avx512>, pack::<Avx512>)
        .with_patcher(patcher::<Avx512>())
        .with_factors(factor_bytes::<Avx512>, pack_factors::<Avx512>);

/// f32 output.
pub(crate) const AVX512_F32: Kernel =
    Kernel { name: "qconv_qs8_qc8w_f32__avx512", output: Some(DType::F32), run: run_f32::<Avx512>, ..AVX512 };

/// i32 output: the accumulators; takes no terms.
pub(crate) const AVX512_I32: Kernel = Kernel {
    name: "qconv_qs8_qc8w_s32__avx512",
    output: Some(DType::I32),
    patcher: None,
    run: entry::<Avx512, ToInt32>,
    ..AVX512
};

/// int8 output, on vectors of 256 bits with `vpdpbusd`.
pub(crate) const AVX_VNNI: Kernel =
    Kernel { name: "qconv_qs8_qc8w_qs8__avxvnni", run: run::<AvxVnni>, ..AVX512 }
        .checked(check::<AvxVnni>)
        .with_workspace(workspace::<AvxVnni>)
        .with_packed(packed_bytes::<AvxVnni>, pack::<AvxVnni>)
        .with_patcher(patcher::<AvxVnni>())
        .with_factors(factor_bytes::<AvxVnni>, pack_factors::<AvxVnni>);

/// As [`AVX_VNNI`], f32 output.
pub(crate) const AVX_VNNI_F32: Kernel = Kernel {
    name: "qconv_qs8_qc8w_f32__avxvnni",
    output: Some(DType::F32),
    run: run_f32::<AvxVnni>,
    ..AVX_VNNI
};

/// As [`AVX_VNNI`], i32 output: the accumulators; takes no terms.
pub(crate) const AVX_VNNI_I32: Kernel = Kernel {
    name: "qconv_qs8_qc8w_s32__avxvnni",
    output: Some(DType::I32),
    patcher: None,
    run: entry::<AvxVnni, ToInt32>,
    ..AVX_VNNI
};

/// int8 output, on vectors of 256 bits: of bytes where [splitting](crate::split) the weights pays, else of 16-bit values.
pub(crate) const AVX2: Kernel =
    Kernel::new("qconv_qs8_qc8w_qs8__avx2packed", OpCode::QConv, Some(DType::I8), Some(DType::I8), run_avx2)
        .checked(check_avx2)
        .with_workspace(workspace_avx2)
        .with_packed(splitting::packed_bytes, splitting::pack)
        .with_patcher(Patcher { pack: splitting::pack, write: splitting::patch, revert: splitting::unpatch })
        .with_factors(factor_bytes::<Avx2>, pack_factors::<Avx2>);

/// As [`AVX2`], f32 output.
pub(crate) const AVX2_F32: Kernel = Kernel {
    name: "qconv_qs8_qc8w_f32__avx2packed",
    output: Some(DType::F32),
    run: |call| if is_split(call.packed) { run_f32::<Avx2Bytes>(call) } else { run_f32::<Avx2>(call) },
    ..AVX2
};

/// As [`AVX2`], i32 output: the accumulators; takes no terms.
pub(crate) const AVX2_I32: Kernel = Kernel {
    name: "qconv_qs8_qc8w_s32__avx2packed",
    output: Some(DType::I32),
    patcher: None,
    run: |call| {
        if is_split(call.packed) { entry::<Avx2Bytes, ToInt32>(call) } else { entry::<Avx2, ToInt32>(call) }
    },
    ..AVX2
};

const fn patcher<S: Simd>() -> Patcher {
    Patcher { pack: pack::<S>, write: patch::<S>, revert: unpatch::<S> }
}

/// Weights must stand in the plan, to be packed at bind.
fn check<S: Simd>(step: &Step<'_>) -> Result<(), KernelError> {
    let error = KernelError::Operands(step.op);
    check_operands(step)?;
    let attrs: &QConvAttrs = step.attrs()?;
    let fits = step.output_dtype(0) != Some(DType::I8) || attrs.fits_codes();
    (constant(step).is_some() && fits && shape(step).and_then(|shape| patches::<S>(&shape)).is_some())
        .then_some(())
        .ok_or(error)
}

/// As [`check`], and for the row that takes the terms.
fn check_avx2(step: &Step<'_>) -> Result<(), KernelError> {
    check::<Avx2>(step)?;
    if step.output_dtype(0) == Some(DType::I8) { (avx2::KERNEL.check)(step) } else { Ok(()) }
}

fn shape(step: &Step<'_>) -> Option<ConvShape> {
    let attrs: &QConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    ConvShape::new(&attrs.window, attrs.groups as usize, input, output)
}

/// The copy of a padded sample and what active terms need, in this row or in the one that reads weights in place.
fn workspace<S: Simd>(step: &Step<'_>) -> usize {
    let own = || {
        let shape = shape(step)?;
        let patches = patches::<S>(&shape)?;
        Some(patches.moved().copy_bytes().next_multiple_of(16) + terms::bytes::<S>(&patches, shape.out_group))
    };
    own().map_or(0, |own| own.max(avx2::workspace(step)))
}

fn patches<S: Simd>(shape: &ConvShape) -> Option<Patches> {
    Patches::new(shape, size_of::<i8>(), S::WIDE, moves::<S>())
}

fn layout<S: Simd>(shape: &ConvShape, patches: &Patches) -> Layout {
    let columns = Columns { count: shape.out_group, lanes: S::LANES, widest: S::COLUMNS };
    // The codes of a single segment are moved in a copy, and broadcast by loads alone.
    let blocks = patches.segments.count > 1;
    Layout { columns, groups: shape.groups, segments: patches.segments, blocks }
}

fn packed_bytes<S: Simd>(step: &Step<'_>) -> usize {
    let layout = || {
        let shape = shape(step)?;
        Some(layout::<S>(&shape, &patches::<S>(&shape)?))
    };
    layout().map_or(0, |layout| layout.bytes())
}

fn pack<S: Simd>(step: &Step<'_>, packed: &mut [u8]) -> Result<(), KernelError> {
    let weight = constant(step).ok_or(KernelError::Operands(step.op))?;
    let mut fill = || {
        let shape = shape(step)?;
        layout::<S>(&shape, &patches::<S>(&shape)?).pack(weight, packed, correction)
    };
    fill().ok_or(KernelError::Memory(step.op))
}

fn workspace_avx2(step: &Step<'_>) -> usize {
    workspace::<Avx2>(step).max(workspace::<Avx2Bytes>(step))
}

/// The weight, where it stands in the plan.
fn constant<'a>(step: &Step<'a>) -> Option<&'a [u8]> {
    match step.input(1).ok()?.place {
        Place::Plan(weight) => Some(weight),
        _ => None,
    }
}

/// `−128·Σw`: products are of codes plus 128.
fn correction(row: &[u8]) -> i32 {
    row.iter().fold(0i32, |sum, code| sum.wrapping_add(i32::from(*code as i8))).wrapping_mul(-128)
}

/// Writes an overlay into packed weights.
fn patch<S: Simd>(step: &Step<'_>, packed: &mut [u8], overlay: &Sparse<'_>, log: Log<'_>) -> Option<usize> {
    patch::write(&mut writable::<S>(step, packed)?, overlay, log)
}

fn unpatch<S: Simd>(step: &Step<'_>, packed: &mut [u8], log: &[u32]) -> Option<()> {
    patch::revert(&mut writable::<S>(step, packed)?, log);
    Some(())
}

fn writable<'p, S: Simd>(step: &Step<'_>, packed: &'p mut [u8]) -> Option<Writable<'p>> {
    let (shape, attrs): (_, &QConvAttrs) = (shape(step)?, step.attrs().ok()?);
    let layout = layout::<S>(&shape, &patches::<S>(&shape)?);
    Writable::new(layout, packed, attrs.in_zero_point)
}

/// Where factors stand that this row reads; `None` for others.
fn factors<S: Simd>(step: &Step<'_>, term: &TwoFactor<'_>) -> Option<Plan> {
    let wanted = matches!(term.factors, Factors::I8 { .. }) && term.rank <= MOST_RANK;
    let shape = shape(step).filter(|_| wanted && step.output_dtype(0) == Some(DType::I8))?;
    Some(Plan::new::<S>(patches::<S>(&shape)?.segments, shape.out_group, shape.groups, term.rank))
}

fn factor_bytes<S: Simd>(step: &Step<'_>, term: &TwoFactor<'_>) -> usize {
    factors::<S>(step, term).map_or(0, |plan| plan.bytes())
}

fn pack_factors<S: Simd>(
    step: &Step<'_>,
    term: &TwoFactor<'_>,
    packed: &mut [u8],
) -> Result<(), KernelError> {
    let attrs: &QConvAttrs = step.attrs()?;
    let moved = attrs.in_zero_point.wrapping_add(128);
    factors::<S>(step, term)
        .and_then(|plan| plan.pack(term, moved, packed))
        .ok_or(KernelError::Memory(step.op))
}

fn run<S: Simd>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if is_plain(call) { entry::<S, ToInt8>(call) } else { entry::<S, WithIntegerTerms>(call) }
}

fn run_avx2(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    // Weights that are made for a run are not split.
    if is_split(call.packed) && !makes_weights(&call.terms) {
        run::<Avx2Bytes>(call)
    } else {
        run::<Avx2>(call)
    }
}

fn run_f32<S: Simd>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if is_plain(call) {
        return entry::<S, ToF32>(call);
    }
    if call.outputs.len() == 1 && real_terms::takes(&call.terms) {
        return entry::<S, ToF32WithTerms>(call);
    }
    (avx2::KERNEL_F32.run)(call)
}

/// Whether the packed weights are all there is to it.
fn is_plain(call: &Call<'_, '_>) -> bool {
    call.terms.acts_as_base() && call.outputs.len() == 1
}

/// Codes of the base.
struct ToInt8;

impl<S: Simd> Row<S> for ToInt8 {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (conv, error) = (QConv::new(call)?, KernelError::Memory(call.op));
        let (copy, packed) = (core::mem::take(&mut call.workspace), call.packed);
        let (out, _) = call.out_and_mask::<i8>()?;
        let mut finish = ToCodes::new(simd, &conv, out);
        let mut product = product::<S>(&conv, packed).ok_or(error)?;
        let patches = product.patches.moved();
        if patches.in_blocks() {
            product.block = patches.block;
        }
        if !moves::<S>() && patches.in_blocks() {
            let (product, memory) = (Product { patches, ..product }, [copy, &mut []]);
            return multiply::<S, EvenCodes>(simd, &product, memory, &mut AsPacked, &mut finish).ok_or(error);
        }
        sums_into(simd, &product, copy, &mut finish).ok_or(error)
    }
}

/// Real values of the base.
struct ToF32;

impl<S: Simd> Row<S> for ToF32 {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (conv, error) = (QConv::new(call)?, KernelError::Memory(call.op));
        let (copy, packed) = (core::mem::take(&mut call.workspace), call.packed);
        let (out, _) = call.out_and_mask::<f32>()?;
        let mut finish = ToReals::<S, false, ()>::new(simd, &conv, (), out);
        let product = product::<S>(&conv, packed).ok_or(error)?;
        sums_into(simd, &product, copy, &mut finish).ok_or(error)
    }
}

/// Real values with real terms.
struct ToF32WithTerms;

impl<S: Simd> Row<S> for ToF32WithTerms {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        let (conv, error) = (QConv::new(call)?, KernelError::Memory(call.op));
        let (memory, packed) = (core::mem::take(&mut call.workspace), call.packed);
        let (out, _) = call.out_and_mask::<f32>()?;
        with_real_terms::<S, false>(simd, &conv, packed, memory, out).ok_or(error)
    }
}

/// f32 output of a layer under its real terms; `None` for terms of another kind.
#[inline(always)]
fn with_real_terms<S: Simd, const SHIFT: bool>(
    simd: S,
    conv: &QConv<'_>,
    packed: &[u8],
    mut memory: &mut [u8],
    out: &mut [f32],
) -> Option<()> {
    let product = product::<S>(conv, packed)?;
    let copy: &mut [u8] = take(&mut memory, product.patches.copy_bytes().next_multiple_of(16))?;
    let terms = RealTerms::new::<S>(conv, &mut memory)?;
    let mut finish = ToReals::<S, SHIFT, RealTerms<'_, '_>>::new(simd, conv, terms, out);
    multiply::<S, S::InPlace>(simd, &product, [copy, &mut []], &mut AsPacked, &mut finish)
}

/// The accumulators.
struct ToInt32;

impl<S: Simd> Row<S> for ToInt32 {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        if !call.terms.is_none() {
            return Err(KernelError::Terms(call.op));
        }
        let (conv, error) = (QConv::new(call)?, KernelError::Memory(call.op));
        let (copy, packed) = (core::mem::take(&mut call.workspace), call.packed);
        let mut finish = ToSums::new(simd, &conv, call.slice_mut(0)?);
        let product = product::<S>(&conv, packed).ok_or(error)?;
        sums_into(simd, &product, copy, &mut finish).ok_or(error)
    }
}

/// The products of a base layer. Codes are moved in a copy, once for all channels: moving them at every broadcast would take the
/// place of products.
#[inline(always)]
fn sums_into<S: Simd>(
    simd: S,
    product: &Product<'_>,
    copy: &mut [u8],
    finish: &mut (impl Finish<S, S::InPlace> + Finish<S, MovedCodes>),
) -> Option<()> {
    let patches = product.patches.moved();
    if !moves::<S>() && (patches.copies_image() || patches.in_blocks()) {
        let product = Product { patches, ..*product };
        multiply::<S, MovedCodes>(simd, &product, [copy, &mut []], &mut AsPacked, finish)
    } else {
        multiply::<S, S::InPlace>(simd, product, [copy, &mut []], &mut AsPacked, finish)
    }
}

#[inline(always)]
fn product<'a, S: Simd>(conv: &QConv<'a>, packed: &'a [u8]) -> Option<Product<'a>> {
    let patches = patches::<S>(&conv.shape)?;
    let layout = layout::<S>(&conv.shape, &patches);
    let fill = conv.attrs.in_zero_point as u8;
    let rest = if splits::<S>() { Some(Remainders::new(&layout, packed)?) } else { None };
    Some(Product { patches, layout, input: bytes::of(conv.input), fill, packed, rest, block: BLOCK })
}
