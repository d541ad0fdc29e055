//! The two representations of 8-bit codes.

use ingraft_tensor::DType;

use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// uint8 as callers know it to int8 minus 128 as plans store it, or back. No attributes.
///
/// # Shapes
/// Input uint8 and output int8, or the reverse, with as many elements.
pub const KERNEL: Kernel =
    Kernel::new("recode_x8_x8__scalar", OpCode::Recode, None, None, run).checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check::same_elements(step, 0)?;
    let types = (step.input(0)?.dtype, step.output(0)?.dtype);
    check::require(step, matches!(types, (DType::U8, DType::I8) | (DType::I8, DType::U8)))
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let input = call.input(0)?;
    for (y, &x) in call.output(0)?.bytes().iter_mut().zip(input.bytes()) {
        *y = x ^ 0x80;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::attrs::FillAttrs;
    use crate::test_case::{Tensor, run};

    #[test]
    fn codes_move_by_128_and_return() {
        let mut plain = Tensor::zeros(DType::U8, &[256]);
        plain.bytes_mut().iter_mut().zip(0u16..).for_each(|(b, i)| *b = i as u8);
        let mut stored = Tensor::zeros(DType::I8, &[256]);
        let mut back = Tensor::zeros(DType::U8, &[256]);
        // The operator has no attributes; the record is not read.
        run(&KERNEL, &FillAttrs { value: [0; 2] }, &[&plain], &mut [&mut stored]).unwrap();
        run(&KERNEL, &FillAttrs { value: [0; 2] }, &[&stored], &mut [&mut back]).unwrap();
        assert!(stored.values::<i8>().into_iter().map(i32::from).eq(-128..128));
        assert_eq!(back.bytes(), plain.bytes());
        let mut wide = Tensor::zeros(DType::I32, &[256]);
        assert!(run(&KERNEL, &FillAttrs { value: [0; 2] }, &[&plain], &mut [&mut wide]).is_err());
    }
}
