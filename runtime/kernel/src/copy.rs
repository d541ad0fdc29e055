//! Moving elements without computing on them.

use crate::attrs::{CopyAttrs, FillAttrs};
use crate::walk::{Dim, Walk};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};
use ingraft_tensor::arrays::{arrays, arrays_mut};

/// Strided copy of elements of any type.
///
/// # Shapes
/// One input and one output of one element type; their shapes do not matter,
/// only their element counts: offsets and strides say what goes where. Output
/// elements outside the block are left as they are.
///
/// # Errors
/// [`KernelError::Operands`] when an index leaves an operand.
pub const KERNEL: Kernel = Kernel::new("copy_x_x__scalar", OpCode::Copy, None, None, run).checked(check);

/// Writes one value to every element.
///
/// # Shapes
/// No input, one output of any type and shape.
pub const KERNEL_FILL: Kernel =
    Kernel::new("fill_x__scalar", OpCode::Fill, None, None, run_fill).checked(check_fill);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    let (input, out) = (step.input(0)?, step.output(0)?);
    let walk = walk(step.attrs()?, input.shape.elements(), out.shape.elements());
    check::require(step, input.dtype == out.dtype && walk.is_some())
}

fn check_fill(step: &Step<'_>) -> Result<(), KernelError> {
    step.attrs::<FillAttrs>()?;
    check::operands(step, 0, 1)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let error = call.operands();
    let attrs: &CopyAttrs = call.attrs()?;
    let input = call.input(0)?;
    let out = call.output(0)?;
    if input.dtype() != out.dtype() {
        return Err(error);
    }
    let walk = walk(attrs, input.shape().elements(), out.shape().elements()).ok_or(error)?;
    match input.dtype().size() {
        1 => copy::<1>(walk, input.bytes(), out.bytes()),
        2 => copy::<2>(walk, input.bytes(), out.bytes()),
        4 => copy::<4>(walk, input.bytes(), out.bytes()),
        _ => copy::<8>(walk, input.bytes(), out.bytes()),
    }
    .ok_or(error)
}

fn run_fill(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let FillAttrs { value: [low, high] } = *call.attrs::<FillAttrs>()?;
    let value = ((high as u64) << 32 | low as u64).to_le_bytes();
    let out = call.output(0)?;
    let size = out.dtype().size().max(1);
    for element in out.bytes().chunks_exact_mut(size) {
        for (byte, v) in element.iter_mut().zip(value) {
            *byte = v;
        }
    }
    Ok(())
}

/// The walk over input and output, or `None` when an index leaves one of them
/// or more elements are moved than the larger of them holds.
fn walk(attrs: &CopyAttrs, input: usize, out: usize) -> Option<Walk<2>> {
    let rank = attrs.rank as usize;
    let mut dims = [Dim { extent: 1, strides: [0; 2] }; ingraft_tensor::MAX_RANK];
    let mut total = 1usize;
    let (mut low, mut high, mut last) =
        (attrs.in_offset as i64, attrs.in_offset as i64, attrs.out_offset as i64);
    let strides = attrs.in_strides.iter().zip(&attrs.out_strides);
    let used = attrs.extents.get(..rank)?.iter().zip(strides);
    for (dim, (&extent, (&read, &write))) in dims.iter_mut().zip(used.clone()) {
        *dim = Dim { extent: extent as usize, strides: [read as isize, isize::try_from(write).ok()?] };
        total = total.checked_mul(extent as usize)?;
        let steps = (extent as i64).wrapping_sub(1);
        let reach = steps.checked_mul(read as i64)?;
        low = low.checked_add(reach.min(0))?;
        high = high.checked_add(reach.max(0))?;
        last = last.checked_add(steps.checked_mul(write as i64)?)?;
    }
    let inside = low >= 0 && high < input as i64 && last < out as i64 && total <= input.max(out);
    // A block without elements reads and writes nothing, wherever it starts.
    let empty = used.clone().any(|(&extent, _)| extent == 0);
    (empty || inside).then(|| {
        Walk::new(dims.get(..rank).unwrap_or(&[]), [attrs.in_offset as usize, attrs.out_offset as usize])
    })
}

fn copy<const N: usize>(walk: Walk<2>, input: &[u8], out: &mut [u8]) -> Option<()> {
    let (input, out) = (arrays::<_, N>(input).0, arrays_mut::<_, N>(out).0);
    let (len, [read, write]) = (walk.len, walk.steps);
    for [from, to] in walk {
        if read == 1 && write == 1 {
            let source = input.get(from..from.checked_add(len)?)?;
            for (y, x) in out.get_mut(to..to.checked_add(len)?)?.iter_mut().zip(source) {
                *y = *x;
            }
        } else {
            let (mut from, mut to) = (from, to);
            for _ in 0..len {
                *out.get_mut(to)? = *input.get(from)?;
                from = from.wrapping_add(read as usize);
                to = to.wrapping_add(write as usize);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
