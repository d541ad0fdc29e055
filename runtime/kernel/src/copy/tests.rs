//! Copies against explicit indices.

extern crate std;

use ingraft_tensor::{DType, MAX_RANK};

use super::*;
use crate::test_case::{Random, Tensor, bind, indices, run, run_unchecked};

fn attrs(extents: &[u32], in_strides: &[i32], out_strides: &[u32], offsets: [u32; 2]) -> CopyAttrs {
    let mut attrs = CopyAttrs {
        rank: extents.len() as u32,
        extents: [1; MAX_RANK],
        in_strides: [0; MAX_RANK],
        out_strides: [0; MAX_RANK],
        in_offset: offsets[0],
        out_offset: offsets[1],
    };
    attrs.extents[..extents.len()].copy_from_slice(extents);
    attrs.in_strides[..in_strides.len()].copy_from_slice(in_strides);
    attrs.out_strides[..out_strides.len()].copy_from_slice(out_strides);
    attrs
}

#[test]
fn transposes_slices_and_broadcasts_of_every_size() {
    let mut random = Random(31);
    let cases = [
        // Transpose [3, 4, 5] to [5, 3, 4].
        (60, 60, attrs(&[5, 3, 4], &[1, 20, 5], &[12, 4, 1], [0, 0])),
        // Every other row backwards, into the middle of a wider tensor.
        (35, 64, attrs(&[3, 5], &[-14, 1], &[16, 1], [28, 17])),
        // One row repeated.
        (7, 21, attrs(&[3, 7], &[0, 1], &[7, 1], [0, 0])),
        // Contiguous in both: merged to one row.
        (24, 24, attrs(&[2, 3, 4], &[12, 4, 1], &[12, 4, 1], [0, 0])),
        (1, 1, attrs(&[], &[], &[], [0, 0])),
        (4, 4, attrs(&[2, 0], &[1, 1], &[1, 1], [0, 0])),
    ];
    for dtype in [DType::I8, DType::F16, DType::F32, DType::I64] {
        for (from, to, attrs) in &cases {
            let size = dtype.size();
            let bytes = random.codes(*from as usize * size);
            let mut input = Tensor::zeros(dtype, &[*from]);
            input.bytes_mut().iter_mut().zip(&bytes).for_each(|(d, &s)| *d = s as u8);
            let mut out = Tensor::zeros(dtype, &[*to]);
            let mut want = out.bytes().to_vec();
            for index in indices(&attrs.extents[..attrs.rank as usize]) {
                let (mut i, mut o) = (attrs.in_offset as i64, attrs.out_offset as i64);
                for (d, &at) in index.iter().enumerate() {
                    i += at as i64 * attrs.in_strides[d] as i64;
                    o += at as i64 * attrs.out_strides[d] as i64;
                }
                let (i, o) = (i as usize * size, o as usize * size);
                want[o..o + size].copy_from_slice(&input.bytes()[i..i + size]);
            }
            run(&KERNEL, attrs, &[&input], &mut [&mut out]).unwrap();
            assert_eq!(out.bytes(), want);
        }
    }
}

#[test]
fn refuses_any_index_outside() {
    let input = Tensor::zeros(DType::I8, &[10]);
    let mut out = Tensor::zeros(DType::I8, &[10]);
    let max = u32::MAX;
    let bad = [
        attrs(&[11], &[1], &[1], [0, 0]),
        attrs(&[10], &[1], &[1], [1, 0]),
        attrs(&[10], &[1], &[1], [0, 1]),
        attrs(&[2], &[-1], &[1], [0, 0]),
        attrs(&[3, 4], &[0, 0], &[0, 0], [0, 0]),
        attrs(&[max, max, max], &[0, 0, 0], &[0, 0, 0], [0, 0]),
        attrs(&[max], &[i32::MIN], &[max], [max, max]),
        attrs(&[2], &[i32::MAX], &[max], [0, 0]),
        CopyAttrs { rank: 7, ..attrs(&[1], &[1], &[1], [0, 0]) },
    ];
    for attrs in bad {
        assert!(bind(&KERNEL, &attrs, &[&input], &[&mut out]).is_err(), "{attrs:?}");
        assert!(run_unchecked(&KERNEL, &attrs, &[&input], &mut [&mut out], 0).is_err(), "{attrs:?}");
    }
    let mut other = Tensor::zeros(DType::F32, &[10]);
    assert!(run(&KERNEL, &attrs(&[10], &[1], &[1], [0, 0]), &[&input], &mut [&mut other]).is_err());
}

#[test]
fn an_empty_block_ends_at_once() {
    let empty = Tensor::zeros(DType::I8, &[0]);
    let mut out = Tensor::zeros(DType::I8, &[0]);
    let max = i32::MAX as u32;
    run(&KERNEL, &attrs(&[max, 0], &[1, 1], &[1, 1], [0, 0]), &[&empty], &mut [&mut out]).unwrap();
}

#[test]
fn fill_writes_little_endian_elements() {
    let mut out = Tensor::zeros(DType::F32, &[5]);
    run(&KERNEL_FILL, &FillAttrs { value: [1.5f32.to_bits(), 0] }, &[], &mut [&mut out]).unwrap();
    assert_eq!(out.values::<f32>(), [1.5; 5]);
    let mut out = Tensor::zeros(DType::I64, &[2]);
    run(&KERNEL_FILL, &FillAttrs { value: [u32::MAX, u32::MAX] }, &[], &mut [&mut out]).unwrap();
    assert_eq!(out.values::<i64>(), [-1, -1]);
    let mut out = Tensor::zeros(DType::I8, &[3]);
    run(&KERNEL_FILL, &FillAttrs { value: [0x1ff, 0] }, &[], &mut [&mut out]).unwrap();
    assert_eq!(out.values::<i8>(), [-1; 3]);
}
