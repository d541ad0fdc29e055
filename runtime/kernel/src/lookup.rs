//! Non-linearities on int8 codes: a table with one entry per code.

use ingraft_tensor::DType;

use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// `y = table[x + 128]`.
///
/// # Shapes
/// Inputs: int8 of any shape, `[256]` int8 table; output int8 with as many elements.
pub const KERNEL: Kernel =
    Kernel::new("lookup_qs8_qs8__scalar", OpCode::Lookup, Some(DType::I8), Some(DType::I8), run)
        .checked(check);

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 2, 1)?;
    check::same_elements(step, 0)?;
    let table = step.input(1)?;
    check::require(step, table.dtype == DType::I8 && table.shape.elements() == 256)
}

fn run(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let input = call.slice::<i8>(0)?;
    let table: &[i8; 256] = call.slice::<i8>(1)?.try_into().map_err(|_| call.operands())?;
    lookup(input, table, call.slice_mut::<i8>(0)?);
    Ok(())
}

/// Maps each code of `input` through `table` into `out`.
pub fn lookup(input: &[i8], table: &[i8; 256], out: &mut [i8]) {
    for (y, &x) in out.iter_mut().zip(input) {
        *y = table[(x as u8 ^ 0x80) as usize];
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::attrs::FillAttrs;
    use crate::test_case::{Random, Tensor, run};

    #[test]
    fn every_code_finds_its_entry() {
        let table = Random(7).codes(256);
        let codes: std::vec::Vec<i8> = (0..300).map(|i| (i * 7) as i8).collect();
        let mut out = Tensor::zeros(DType::I8, &[3, 100]);
        let inputs = [&Tensor::new(&[3, 100], &codes), &Tensor::new(&[256], &table)];
        // The operator has no attributes; the record is not read.
        run(&KERNEL, &FillAttrs { value: [0; 2] }, &inputs, &mut [&mut out]).unwrap();
        for (&x, y) in codes.iter().zip(out.values::<i8>()) {
            assert_eq!(y, table[(x as i32 + 128) as usize]);
        }
    }

    #[test]
    fn refuses_a_short_table() {
        let mut out = Tensor::zeros(DType::I8, &[3]);
        let inputs = [&Tensor::zeros(DType::I8, &[3]), &Tensor::zeros(DType::I8, &[255])];
        assert!(run(&KERNEL, &FillAttrs { value: [0; 2] }, &inputs, &mut [&mut out]).is_err());
    }
}
