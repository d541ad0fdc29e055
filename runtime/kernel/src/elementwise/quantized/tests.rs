//! int8 addition and multiplication against f64.

extern crate std;

use super::*;
use crate::test_case::{Random, Tensor, indices, position, requantized, run};

const SHAPES: [([&[u32]; 2], &[u32]); 6] = [
    ([&[3, 5, 7], &[3, 5, 7]], &[3, 5, 7]),
    ([&[2, 3, 1, 33], &[2, 1, 4, 33]], &[2, 3, 4, 33]),
    ([&[130], &[1]], &[130]),
    ([&[], &[4, 5]], &[4, 5]),
    ([&[1, 1], &[1]], &[3, 70]),
    ([&[6, 1], &[5]], &[6, 5]),
];

#[test]
fn broadcasting_sums_and_products_agree_with_f64() {
    let mut random = Random(21);
    for (dims, out_dims) in SHAPES {
        for (za, zb, zy) in [(0, 0, 0), (-128, 127, -128), (127, -128, 127), (-3, 9, 5)] {
            let [a, b] = dims.map(|d| {
                let n = d.iter().product::<u32>() as usize;
                Tensor::new(d, &random.codes(n))
            });
            let factors = [random.float(0.001, 1.0), random.float(0.001, 1.0)];
            let attrs = QBinaryAttrs {
                zero_points: [za, zb],
                factors,
                out_zero_point: zy,
                lo: (-120 - zy) as f32,
                hi: (127 - zy) as f32,
            };
            for kernel in [&KERNEL_ADD_Q, &KERNEL_MUL_Q] {
                let mut out = Tensor::zeros(DType::I8, out_dims);
                let mut mask = Tensor::zeros(DType::U8, &[(out.shape.elements() as u32).div_ceil(8)]);
                run(kernel, &attrs, &[&a, &b], &mut [&mut out, &mut mask]).unwrap();
                let (a, b) = (a.values::<i8>(), b.values::<i8>());
                for (i, (index, y)) in indices(out_dims).iter().zip(out.values::<i8>()).enumerate() {
                    let x = a[position(dims[0], index)] as f64 - za as f64;
                    let w = b[position(dims[1], index)] as f64 - zb as f64;
                    let [ka, kb] = factors.map(|f| f as f64);
                    let v = if kernel.op == OpCode::QAdd { x * ka + w * kb } else { x * w * ka };
                    // f32 rounds the value before it is rounded to a code: a near tie may go either way.
                    let near_tie = (v - v.floor() - 0.5).abs() < 1e-4 * v.abs().max(1.0);
                    let want = requantized(v, attrs.lo, attrs.hi, zy);
                    assert!(y == want || near_tie && y.abs_diff(want) == 1, "{v} {y} {want}");
                    let inside = v > attrs.lo as f64 && v < attrs.hi as f64;
                    assert_eq!(crate::requantize::bit(mask.bytes(), i), inside);
                }
            }
        }
    }
}

#[test]
fn refuses_what_does_not_broadcast() {
    let attrs =
        QBinaryAttrs { zero_points: [0; 2], factors: [1.0; 2], out_zero_point: 0, lo: -128.0, hi: 127.0 };
    let (a, b) = (Tensor::zeros(DType::I8, &[3, 4]), Tensor::zeros(DType::I8, &[3]));
    let mut out = Tensor::zeros(DType::I8, &[3, 4]);
    assert!(run(&KERNEL_ADD_Q, &attrs, &[&a, &b], &mut [&mut out]).is_err());
    let mut mask = Tensor::zeros(DType::U8, &[1]);
    assert!(run(&KERNEL_ADD_Q, &attrs, &[&a, &a], &mut [&mut out, &mut mask]).is_err());
    let nan = QBinaryAttrs { factors: [f32::NAN, 1.0], ..attrs };
    assert!(run(&KERNEL_ADD_Q, &nan, &[&a, &a], &mut [&mut out]).is_err());
}
