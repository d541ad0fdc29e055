//! int8 convolution and linear layers on codes whose parameters were found at run time.

use ingraft_kernel::attrs::{ConvAttrs, QConvAttrs};
use ingraft_kernel::qconv::{KERNEL_DYNAMIC as REFERENCE, QConv};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Call, Kernel, KernelError, Place, Step};

use super::finish::ToReals;
use super::{
    constant, correction, layout, product, real_sparse, real_terms, splitting, sums_into, with_real_terms,
};
use crate::columns::is_split;
use crate::features::{Avx2, Avx512, AvxVnni};
use crate::patches::Patches;
use crate::real_factors::bytes_of_codes;
use crate::simd::{Avx2Bytes, Row, Simd, entry};
use ingraft_vector::memory::take;

/// int8 codes to f32; terms but factors, scale and shift take the reference.
pub(crate) const AVX512: Kernel =
    Kernel { name: "dynamic_conv_qd8_qc8w_f32__avx512", run: run::<Avx512>, ..REFERENCE }
        .checked(check::<Avx512>)
        .with_workspace(workspace::<Avx512>)
        .with_packed(packed_bytes::<Avx512>, pack::<Avx512>);

/// As [`AVX512`], on vectors of 256 bits with `vpdpbusd`.
pub(crate) const AVX_VNNI: Kernel =
    Kernel { name: "dynamic_conv_qd8_qc8w_f32__avxvnni", run: run::<AvxVnni>, ..AVX512 }
        .checked(check::<AvxVnni>)
        .with_workspace(workspace::<AvxVnni>)
        .with_packed(packed_bytes::<AvxVnni>, pack::<AvxVnni>);

/// As [`AVX512`], on vectors of 256 bits: of bytes where [splitting](crate::split) the weights pays, else of 16-bit values.
pub(crate) const AVX2: Kernel = Kernel {
    name: "dynamic_conv_qd8_qc8w_f32__avx2",
    run: |call| if is_split(call.packed) { run::<Avx2Bytes>(call) } else { run::<Avx2>(call) },
    ..AVX512
}
.checked(check::<Avx2>)
.with_workspace(|step| workspace::<Avx2>(step).max(workspace::<Avx2Bytes>(step)))
.with_packed(
    |step| constant(step).and_then(|weight| splitting::bytes(&patches::<Avx2>(step)?.0, weight)).unwrap_or(0),
    |step, packed| {
        constant(step)
            .and_then(|weight| splitting::fill(&patches::<Avx2>(step)?.0, weight, packed))
            .ok_or(KernelError::Memory(step.op))
    },
);

fn check<S: Simd>(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let constant = matches!(step.input(1)?.place, Place::Plan(_));
    // Masks are the reference's.
    (constant && step.outputs().len() == 1 && patches::<S>(step).is_some())
        .then_some(())
        .ok_or(KernelError::Operands(step.op))
}

fn patches<S: Simd>(step: &Step<'_>) -> Option<(ConvShape, Patches)> {
    let attrs: &ConvAttrs = step.attrs().ok()?;
    let (input, output) = (step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output)?;
    Some((shape, super::patches::<S>(&shape)?))
}

/// The channels' multipliers and biases for this run, and the copy of a padded sample.
fn workspace<S: Simd>(step: &Step<'_>) -> usize {
    let own = patches::<S>(step).map_or(0, |(shape, patches)| {
        let copy = patches.moved().copy_bytes().next_multiple_of(16);
        shape.output[3] * 8 + copy + bytes_of_codes::<S>(shape.row()) + real_sparse::bytes(shape.row()) + 64
    });
    own.max((REFERENCE.workspace)(step))
}

fn packed_bytes<S: Simd>(step: &Step<'_>) -> usize {
    patches::<S>(step).map_or(0, |(shape, patches)| layout::<S>(&shape, &patches).bytes())
}

fn pack<S: Simd>(step: &Step<'_>, packed: &mut [u8]) -> Result<(), KernelError> {
    let Place::Plan(weight) = step.input(1)?.place else { return Err(KernelError::Operands(step.op)) };
    let filled = patches::<S>(step)
        .and_then(|(shape, patches)| layout::<S>(&shape, &patches).pack(weight, packed, correction));
    filled.ok_or(KernelError::Memory(step.op))
}

fn run<S: Simd>(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    if !real_terms::takes(&call.terms) {
        return (REFERENCE.run)(call);
    }
    entry::<S, Products>(call)
}

/// The layer, with real terms or without.
struct Products;

impl<S: Simd> Row<S> for Products {
    #[inline(always)]
    fn run(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
        compute(call, simd)
    }
}

#[inline(always)]
fn compute<S: Simd>(call: &mut Call<'_, '_>, simd: S) -> Result<(), KernelError> {
    let (error, memory_error) = (call.operands(), KernelError::Memory(call.op));
    let attrs: &ConvAttrs = call.attrs()?;
    let (input, output) = (call.input(0)?.shape(), call.output(0)?.shape());
    let shape = ConvShape::new(&attrs.window, attrs.groups as usize, input, output).ok_or(error)?;
    let (&[in_scale], &[zero_point]) = (call.slice::<f32>(5)?, call.slice::<i8>(6)?) else {
        return Err(error);
    };
    let (sums, multiplier) = (call.slice::<i32>(2)?, call.slice::<f32>(3)?);
    let mut memory = core::mem::take(&mut call.workspace);
    let scaled: &mut [f32] = take(&mut memory, shape.output[3]).ok_or(memory_error)?;
    let folded: &mut [i32] = take(&mut memory, shape.output[3]).ok_or(memory_error)?;
    scaled.iter_mut().zip(multiplier).for_each(|(m, w)| *m = in_scale * w);
    let zero = i32::from(zero_point);
    folded.iter_mut().zip(sums).for_each(|(b, sum)| *b = zero.wrapping_mul(*sum).wrapping_neg());
    let attrs = QConvAttrs {
        window: attrs.window,
        groups: attrs.groups,
        in_zero_point: zero,
        out_zero_point: 0,
        lo: attrs.lo,
        hi: attrs.hi,
        in_scale,
        out_scale: 1.0,
    };
    let conv = QConv {
        attrs: &attrs,
        shape,
        input: call.slice(0)?,
        weight: call.slice(1)?,
        bias: folded,
        multiplier: scaled,
        shift: call.slice(4)?,
        terms: call.terms,
    };
    let (packed, out) = (call.packed, call.slice_mut(0)?);
    if conv.terms.is_none() {
        let product = product::<S>(&conv, packed).ok_or(error)?;
        let mut finish = ToReals::<S, true, ()>::new(simd, &conv, (), out);
        return sums_into(simd, &product, memory, &mut finish).ok_or(memory_error);
    }
    with_real_terms::<S, true>(simd, &conv, packed, memory, out).ok_or(memory_error)
}
