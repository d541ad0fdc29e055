//! Strided copies, with the longest dimension in the inner loop.
//!
//! The reference walks dimensions as the step lists them; where the last is
//! short, as in the transposes around pictures of three channels, that spends
//! its time between rows. Order does not matter when no element is written twice.

use ingraft_kernel::attrs::CopyAttrs;
use ingraft_kernel::copy::KERNEL as REFERENCE;
use ingraft_kernel::{Call, Kernel, KernelError, Step};

/// Copies with two or more dimensions, no element written twice.
pub(crate) const KERNEL: Kernel = Kernel { name: "copy_x_x__x86", run, ..REFERENCE }.checked(check);

/// Where the last dimension is this long the reference is as fast.
const LONG: usize = 32;

/// A dimension: its extent, and elements between its positions in input and output.
#[derive(Clone, Copy, Debug, Default)]
struct Dim {
    extent: usize,
    read: isize,
    write: usize,
}

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    (REFERENCE.check)(step)?;
    let dims = dims(step.attrs()?).filter(|dims| disjoint(*dims));
    let [.., last] = dims.ok_or(KernelError::Operands(step.op))?;
    let short = last.extent < LONG || last.read != 1 || last.write != 1;
    short.then_some(()).ok_or(KernelError::Operands(step.op))
}

/// The dimensions, right-aligned; `None` for no elements.
fn dims(attrs: &CopyAttrs) -> Option<[Dim; ingraft_tensor::MAX_RANK]> {
    let rank = attrs.rank as usize;
    let mut dims = [Dim { extent: 1, read: 0, write: 0 }; ingraft_tensor::MAX_RANK];
    let first = dims.len().checked_sub(rank)?;
    let strides = attrs.in_strides.iter().zip(&attrs.out_strides);
    for (dim, (extent, (read, write))) in
        dims.get_mut(first..)?.iter_mut().zip(attrs.extents.iter().zip(strides))
    {
        *dim = Dim { extent: *extent as usize, read: *read as isize, write: *write as usize };
    }
    dims.iter().all(|dim| dim.extent > 0).then_some(dims)
}

/// Whether every stride of the output is beyond the reach of all smaller ones.
fn disjoint(mut dims: [Dim; ingraft_tensor::MAX_RANK]) -> bool {
    dims.sort_unstable_by_key(|dim| dim.write);
    let mut reach = 0usize;
    dims.iter().filter(|dim| dim.extent > 1).all(|dim| {
        let apart = dim.write > reach;
        reach = reach.saturating_add(dim.write.saturating_mul(dim.extent - 1));
        apart
    })
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input, error) = (call.attrs::<CopyAttrs>()?, call.input(0)?, call.operands());
    let out = call.output(0)?;
    let size = out.dtype().size();
    if input.dtype() != out.dtype() {
        return Err(error);
    }
    let mut dims = dims(attrs).ok_or(error)?;
    let longest = dims.iter().enumerate().max_by_key(|(_, dim)| dim.extent).map_or(0, |(i, _)| i);
    dims[longest..].rotate_left(1);
    let start = (attrs.in_offset as usize, attrs.out_offset as usize);
    let (from, to) = (input.bytes(), out.bytes());
    match size {
        1 => copy::<1>(&dims, start, from, to),
        2 => copy::<2>(&dims, start, from, to),
        4 => copy::<4>(&dims, start, from, to),
        _ => copy::<8>(&dims, start, from, to),
    }
    .ok_or(error)
}

/// Copies all elements of `N` bytes under `dims` from the offsets of the first.
fn copy<const N: usize>(
    dims: &[Dim],
    (from, to): (usize, usize),
    input: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let [dim, inner @ ..] = dims else { return Some(()) };
    if inner.is_empty() {
        return line(dim, input.as_chunks::<N>().0, from, out.as_chunks_mut::<N>().0, to);
    }
    for i in 0..dim.extent {
        let start = (from.wrapping_add_signed(dim.read.wrapping_mul(i as isize)), to + dim.write * i);
        copy::<N>(inner, start, input, out)?;
    }
    Some(())
}

/// Copies the elements of one dimension.
#[inline(always)]
fn line<T: Copy>(dim: &Dim, input: &[T], from: usize, out: &mut [T], to: usize) -> Option<()> {
    let last = dim.extent.checked_sub(1)?;
    let out = out.get_mut(to..=to.checked_add(dim.write.checked_mul(last)?)?)?.iter_mut();
    match usize::try_from(dim.read) {
        Ok(read) if read > 0 && dim.write > 0 => {
            let input = input.get(from..=from.checked_add(read.checked_mul(last)?)?)?.iter();
            match (read, dim.write) {
                (1, write) => out.step_by(write).zip(input).for_each(|(o, x)| *o = *x),
                (read, 1) => out.zip(input.step_by(read)).for_each(|(o, x)| *o = *x),
                (read, write) => out.step_by(write).zip(input.step_by(read)).for_each(|(o, x)| *o = *x),
            }
        }
        _ => {
            let mut at = from;
            for o in out.step_by(dim.write.max(1)).take(dim.extent) {
                *o = *input.get(at)?;
                at = at.wrapping_add_signed(dim.read);
            }
        }
    }
    Some(())
}
