//! Matrix products against f64 and i64.

extern crate std;

use std::vec::Vec;

use super::*;
use crate::attrs::FillAttrs;
use crate::test_case::{Random, Tensor, assert_close, indices, position, run};

/// The operators have no attributes; the record is not read.
const NONE: FillAttrs = FillAttrs { value: [0; 2] };

const CASES: [[&[u32]; 3]; 6] = [
    [&[5, 7], &[7, 3], &[5, 3]],
    [&[2, 3, 4, 65], &[2, 3, 65, 9], &[2, 3, 4, 9]],
    [&[2, 1, 4, 5], &[3, 5, 2], &[2, 3, 4, 2]],
    [&[4, 5], &[3, 5, 2], &[3, 4, 2]],
    [&[1, 1], &[1, 1], &[1, 1]],
    [&[3, 0], &[0, 2], &[3, 2]],
];

/// Position of element (i, j) of the matrix that batch index `batch` of `dims` selects.
fn at(dims: &[u32], batch: &[usize], i: usize, j: usize) -> usize {
    let (outer, inner) = dims.split_at(dims.len() - 2);
    (position(outer, batch) * inner[0] as usize + i) * inner[1] as usize + j
}

#[test]
fn f32_products_agree_with_naive() {
    let mut random = Random(91);
    for [a, b, c] in CASES {
        let [x, y] = [a, b].map(|d| random.floats(d.iter().product::<u32>() as usize, -1.0, 1.0));
        let mut out = Tensor::zeros(DType::F32, c);
        run(&KERNEL, &NONE, &[&Tensor::new(a, &x), &Tensor::new(b, &y)], &mut [&mut out]).unwrap();
        let want: Vec<f64> = indices(c)
            .iter()
            .map(|index| {
                let (batch, ij) = index.split_at(index.len() - 2);
                (0..a[a.len() - 1] as usize)
                    .map(|p| x[at(a, batch, ij[0], p)] as f64 * y[at(b, batch, p, ij[1])] as f64)
                    .sum()
            })
            .collect();
        assert_close(&out.values(), &want, 1e-5);
    }
}

#[test]
fn int8_products_are_exact() {
    let mut random = Random(92);
    for [a, b, c] in CASES {
        let (m, n) = (c[c.len() - 2], c[c.len() - 1]);
        for (lhs_zeros, rhs_zeros) in [(1, 1), (m, n), (1, n), (m, 1)] {
            let [x, y] = [a, b].map(|d| random.codes(d.iter().product::<u32>() as usize));
            let (za, zb) = (random.codes(lhs_zeros as usize), random.codes(rhs_zeros as usize));
            let mut out = Tensor::zeros(DType::I32, c);
            let zeros = [Tensor::new(&[lhs_zeros], &za), Tensor::new(&[rhs_zeros], &zb)];
            let inputs = [&Tensor::new(a, &x), &Tensor::new(b, &y), &zeros[0], &zeros[1]];
            run(&KERNEL_INTEGER, &NONE, &inputs, &mut [&mut out]).unwrap();
            for (index, have) in indices(c).iter().zip(out.values::<i32>()) {
                let (batch, ij) = index.split_at(index.len() - 2);
                let zl = za[if lhs_zeros == 1 { 0 } else { ij[0] }] as i64;
                let zr = zb[if rhs_zeros == 1 { 0 } else { ij[1] }] as i64;
                let want: i64 = (0..a[a.len() - 1] as usize)
                    .map(|p| {
                        (x[at(a, batch, ij[0], p)] as i64 - zl) * (y[at(b, batch, p, ij[1])] as i64 - zr)
                    })
                    .sum();
                assert_eq!(have as i64, want);
            }
        }
    }
}

#[test]
fn refuses_shapes_that_disagree() {
    let zeros = |dims: &[u32]| Tensor::zeros(DType::F32, dims);
    for [a, b, c] in [
        [&[2u32, 3][..], &[2, 3], &[2, 3]],
        [&[3], &[3, 2], &[2]],
        [&[2, 2, 3], &[3, 3, 2], &[2, 2, 2]],
        [&[2, 3], &[3, 2], &[2, 2, 1]],
    ] {
        let mut out = zeros(c);
        assert!(run(&KERNEL, &NONE, &[&zeros(a), &zeros(b)], &mut [&mut out]).is_err(), "{a:?} {b:?} {c:?}");
    }
    let codes = |dims: &[u32]| Tensor::zeros(DType::I8, dims);
    let mut out = Tensor::zeros(DType::I32, &[2, 2]);
    let inputs = [&codes(&[2, 3]), &codes(&[3, 2]), &codes(&[3]), &codes(&[1])];
    assert!(run(&KERNEL_INTEGER, &NONE, &inputs, &mut [&mut out]).is_err());
}
