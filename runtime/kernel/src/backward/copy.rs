//! Gradient of a strided copy: the copy run backwards.
//!
//! Elements read several times (broadcast) get the sum, elements never read 0.

use ingraft_tensor::MAX_RANK;

use super::rows::add;
use super::{F32, check_output, gradient};
use crate::attrs::CopyAttrs;
use crate::walk::{Dim, Walk};
use crate::{Call, Kernel, KernelError, OpCode, Operand, Step, check};

/// `dx[in_offset + Σ i·in_stride] += dy[out_offset + Σ i·out_stride]`.
///
/// # Shapes
/// Input `dy` of the forward output's element count, output of the forward
/// input's; the attributes are those of the forward step.
///
/// # Errors
/// [`KernelError::Operands`] when an index leaves an operand.
pub const KERNEL: Kernel =
    Kernel::new("copy_backward_f32_f32__scalar", OpCode::CopyBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check_output(step)?;
    let (dy, dx) = (step.input(0)?, step.output(0)?);
    let mut forward = Step::new(OpCode::Copy, step.attrs);
    forward.push_input(dx)?;
    forward.push_output(Operand { place: dx.place, ..dy })?;
    (crate::copy::KERNEL.check)(&forward).map_err(|_| KernelError::Operands(step.op))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, attrs) = (call.operands(), call.attrs::<CopyAttrs>()?);
    let dy = call.slice::<f32>(0)?;
    let dx = gradient(call)?;
    let walk = walk(attrs, dy.len().max(dx.len())).ok_or(error)?;
    scatter(walk, dy, dx).ok_or(error)
}

/// The walk over `dx` and `dy`, or `None` for a block of more than `most` elements.
fn walk(attrs: &CopyAttrs, most: usize) -> Option<Walk<2>> {
    let mut dims = [Dim { extent: 1, strides: [0; 2] }; MAX_RANK];
    let rank = attrs.rank as usize;
    let strides = attrs.in_strides.iter().zip(&attrs.out_strides);
    let mut total = 1usize;
    for (dim, (extent, (read, write))) in dims.iter_mut().zip(attrs.extents.get(..rank)?.iter().zip(strides))
    {
        *dim = Dim { extent: *extent as usize, strides: [*read as isize, *write as isize] };
        total = total.saturating_mul(dim.extent);
    }
    let offsets = [attrs.in_offset as usize, attrs.out_offset as usize];
    (total <= most).then(|| Walk::new(dims.get(..rank).unwrap_or(&[]), offsets))
}

fn scatter(walk: Walk<2>, dy: &[f32], dx: &mut [f32]) -> Option<()> {
    let (len, [read, write]) = (walk.len, walk.steps);
    for [mut to, mut from] in walk {
        if read == 1 && write == 1 {
            add(dx.get_mut(to..)?.get_mut(..len)?, dy.get(from..)?.get(..len)?);
            continue;
        }
        for _ in 0..len {
            *dx.get_mut(to)? += dy.get(from)?;
            to = to.wrapping_add(read as usize);
            from = from.wrapping_add(write as usize);
        }
    }
    Some(())
}
