//! Gradient of additions and of rounding steps.
//!
//! Every operand of a sum gets the incoming gradient, summed over the axes it
//! was broadcast along. A quantizer is the identity where it did not clip.

use super::rows::add;
use super::{F32, Incoming, check_incoming, check_output, gradient};
use crate::walk::{BLOCK, Walk};
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// Through one operand of an addition, or the input of a quantizer.
///
/// # Shapes
/// Input `dy`, optionally its mask; output of a shape that broadcasts to that of
/// `dy` or has as many elements.
pub const KERNEL: Kernel =
    Kernel::new("add_backward_f32_f32__scalar", OpCode::AddBackward, F32, F32, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    let first = check_incoming(step)?;
    check_output(step)?;
    let (dy, dx) = (step.input(0)?.shape, step.output(0)?.shape);
    let fits = dy.elements() == dx.elements() || Walk::broadcast(dy, [dx]).is_some();
    check::require(step, fits && step.inputs().len() == first)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (error, incoming) = (call.operands(), Incoming::new(call)?);
    let dy = call.input(0)?.shape();
    let dx = call.output(0)?.shape();
    let operand = if dy.elements() == dx.elements() { dy } else { dx };
    let walk = Walk::broadcast(dy, [operand]).ok_or(error)?;
    let [step] = walk.steps;
    let dx = gradient(call)?;
    let mut buffer = [0.0f32; BLOCK];
    let mut done = 0usize;
    walk.blocks(|[at], len| {
        let block = buffer.get_mut(..len)?;
        incoming.read(done, block)?;
        done = done.wrapping_add(len);
        if step == 0 {
            *dx.get_mut(at)? += block.iter().sum::<f32>();
        } else {
            add(dx.get_mut(at..)?.get_mut(..len)?, block);
        }
        Some(())
    })
    .ok_or(error)
}
