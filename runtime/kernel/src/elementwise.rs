//! Elementwise operators. Operands broadcast to the output as in NumPy.

mod binary;
mod fmod;
mod quantized;
mod select;
mod unary;

pub use binary::{
    BinaryFn, CompareFn, KERNEL_BOOL, KERNEL_COMPARE_BOOL, KERNEL_COMPARE_F32, KERNEL_COMPARE_I32,
    KERNEL_COMPARE_I64, KERNEL_F32, KERNEL_I32, KERNEL_I64, LogicFn,
};
pub use quantized::{KERNEL_ADD_Q, KERNEL_MUL_Q};
pub use select::KERNEL as KERNEL_WHERE;
pub use unary::{KERNEL_NOT, KERNEL_UNARY, UnaryFn};

pub(crate) use unary::sigmoid;

use ingraft_tensor::Shape;

use crate::walk::{BLOCK, Walk, lane};
use crate::{KernelError, Step, check};

/// Two operands that broadcast to an output.
struct Pair<'a, T> {
    lhs: (Shape, &'a [T]),
    rhs: (Shape, &'a [T]),
}

impl<T: Copy + Default> Pair<'_, T> {
    /// Calls `block` with the position of the first output element and pieces
    /// of equal length of both operands and `out`.
    fn blocks<O>(
        &self,
        shape: Shape,
        out: &mut [O],
        mut block: impl FnMut(usize, &[T], &[T], &mut [O]),
    ) -> Option<()> {
        let (mut left, mut right) = ([T::default(); BLOCK], [T::default(); BLOCK]);
        let walk = Walk::broadcast(shape, [self.lhs.0, self.rhs.0])?;
        let [left_step, right_step] = walk.steps;
        let mut start = 0usize;
        walk.blocks(|[a, b], len| {
            let a = lane(self.lhs.1, a, left_step, len, &mut left)?;
            let b = lane(self.rhs.1, b, right_step, len, &mut right)?;
            block(start, a, b, out.get_mut(start..start.checked_add(len)?)?);
            start = start.wrapping_add(len);
            Some(())
        })
    }
}

/// Two inputs of one type that broadcast to output 0.
fn check_pair(step: &Step<'_>) -> Result<(), KernelError> {
    let (lhs, rhs) = (step.input(0)?, step.input(1)?);
    let walk = Walk::broadcast(step.output(0)?.shape, [lhs.shape, rhs.shape]);
    check::require(step, lhs.dtype == rhs.dtype && walk.is_some())
}
