//! Steps that move or weigh elements are linear, so that ⟨dy, J·v⟩ = ⟨Jᵀ·dy, v⟩ for the forward kernel's J.

use std::vec::Vec;

use ingraft_tensor::{DType, Shape};

use super::*;
use crate::attrs::{ConvAttrs, FillAttrs, GatherAttrs, ResizeAttrs, WhereBackwardAttrs, Window};
use crate::resize::{CEILING, FLOOR, HALF_DOWN, HALF_UP, LINEAR, NEAREST};
use crate::test_case::Random;
use crate::{Affine, Factors, TwoFactor};

fn elements(dims: &[u32]) -> usize {
    Shape::new(dims).unwrap().elements()
}

/// `forward` maps a tensor of `x_dims` to one of `y_dims`, `backward` a gradient of the latter to one of the former.
#[track_caller]
fn assert_adjoint(
    random: &mut Random,
    [x_dims, y_dims]: [&[u32]; 2],
    forward: impl Fn(&Tensor, &mut Tensor),
    backward: impl Fn(&Tensor, &mut Tensor, u32),
) {
    let (v, dy) = (random.floats(elements(x_dims), -1.0, 1.0), random.floats(elements(y_dims), -1.0, 1.0));
    let mut jv = Tensor::zeros(DType::F32, y_dims);
    forward(&Tensor::new(x_dims, &v), &mut jv);
    let before = random.floats(v.len(), -1.0, 1.0);
    for (start, accumulate) in [(&before, 0), (&before, 1)] {
        let mut dx = Tensor::new(x_dims, start);
        backward(&Tensor::new(y_dims, &dy), &mut dx, accumulate);
        let added = if accumulate == 1 { inner(start, &v) } else { 0.0 };
        let (left, right) = (inner(&dy, &jv.values()) + added, inner(&dx.values(), &v));
        assert!((left - right).abs() < 1e-4, "{x_dims:?} to {y_dims:?}: {left} is not {right}");
    }
}

fn adding(accumulate: u32) -> Site<'static> {
    Site { accumulate, ..Site::default() }
}

#[test]
fn picks_of_slices_and_elements() {
    let mut random = Random(91);
    let dims = [3u32, 4, 5];
    for axis in 0..3usize {
        let extent = dims[axis] as i32;
        // Nine indices into at most five slices: some are picked twice.
        let narrow: Vec<i32> = (0..9).map(|_| random.int(-extent, extent - 1)).collect();
        let wide: Vec<i64> = narrow.iter().map(|&i| i64::from(i)).collect();
        let attrs = GatherAttrs { axis: axis as u32 };
        let (outer, rest): (u32, u32) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
        for indices in [Tensor::new(&[3, 3], &narrow), Tensor::new(&[9], &wide)] {
            assert_adjoint(
                &mut random,
                [&dims, &[outer, 9, rest]],
                |x, y| {
                    crate::test_case::run(&crate::gather::KERNEL, &attrs, &[x, &indices], &mut [y]).unwrap()
                },
                |dy, dx, add| run(&gather::KERNEL, &attrs, &[dy, &indices], &mut [dx], adding(add)).unwrap(),
            );
        }
        let mut picked = dims;
        picked[axis] = 7;
        let picks: Vec<i64> =
            (0..elements(&picked)).map(|_| i64::from(random.int(-extent, extent - 1))).collect();
        let picks = Tensor::new(&picked, &picks);
        let (forward, backward) = (&crate::gather::KERNEL_ELEMENTS, &gather::KERNEL_ELEMENTS);
        assert_adjoint(
            &mut random,
            [&dims, &picked],
            |x, y| crate::test_case::run(forward, &attrs, &[x, &picks], &mut [y]).unwrap(),
            |dy, dx, add| run(backward, &attrs, &[dy, &picks], &mut [dx], adding(add)).unwrap(),
        );
    }
}

#[test]
fn an_index_outside_is_an_error() {
    let dy = Tensor::zeros(DType::F32, &[1, 2]);
    for index in [4i64, -5, i64::MIN, i64::MAX] {
        let (one, two) = (Tensor::new(&[1], &[index]), Tensor::new(&[1, 2], &[0, index]));
        let dx = || Tensor::zeros(DType::F32, &[4, 2]);
        let attrs = GatherAttrs { axis: 0 };
        let slices = run(&gather::KERNEL, &attrs, &[&dy, &one], &mut [&mut dx()], Site::default());
        assert_eq!(slices, Err(KernelError::Index(crate::OpCode::GatherBackward)));
        let picked = run(&gather::KERNEL_ELEMENTS, &attrs, &[&dy, &two], &mut [&mut dx()], Site::default());
        assert_eq!(picked, Err(KernelError::Index(crate::OpCode::GatherElementsBackward)));
    }
}

#[test]
fn choices_that_broadcast() {
    let mut random = Random(92);
    let out = [3u32, 5, 67];
    let dims: [&[u32]; 3] = [&[3, 1, 67], &[5, 1], &[]];
    let flags: Vec<u8> = (0..201).map(|_| (random.word() & 1) as u8).collect();
    let condition = Tensor::new(dims[0], &flags).cast(DType::Bool);
    for (operand, wanted) in [(0u32, dims[1]), (1, dims[2]), (0, &out), (1, &out)] {
        let other = Tensor::zeros(DType::F32, &[]);
        assert_adjoint(
            &mut random,
            [wanted, &out],
            |x, y| {
                let inputs = if operand == 0 { [&condition, x, &other] } else { [&condition, &other, x] };
                let attrs = FillAttrs { value: [0; 2] };
                crate::test_case::run(&crate::elementwise::KERNEL_WHERE, &attrs, &inputs, &mut [y]).unwrap();
            },
            |dy, dx, add| {
                let attrs = WhereBackwardAttrs { operand };
                run(&select::KERNEL, &attrs, &[dy, &condition], &mut [dx], adding(add)).unwrap();
            },
        );
    }
}

#[test]
fn interpolation_in_every_mode() {
    let mut random = Random(93);
    for ([h, w], [oh, ow]) in [([4u32, 5u32], [8u32, 10u32]), ([7, 3], [4, 9]), ([1, 6], [3, 1])] {
        for (mode, rounding, half) in [
            (LINEAR, HALF_DOWN, 0.5),
            (LINEAR, HALF_DOWN, 0.0),
            (NEAREST, HALF_UP, 0.5),
            (NEAREST, FLOOR, 0.0),
            (NEAREST, CEILING, 0.0),
        ] {
            let attrs = ResizeAttrs {
                mode,
                rounding,
                before: [half; 2],
                numerator: [1.0; 2],
                denominator: [oh as f32 / h as f32, ow as f32 / w as f32],
                after: [-half; 2],
            };
            assert_adjoint(
                &mut random,
                [&[2, h, w, 3], &[2, oh, ow, 3]],
                |x, y| crate::test_case::run(&crate::resize::KERNEL, &attrs, &[x], &mut [y]).unwrap(),
                |dy, dx, add| run(&resize::KERNEL, &attrs, &[dy], &mut [dx], adding(add)).unwrap(),
            );
        }
    }
}

/// Codes quantized at run time: the same gradients as those of the real layer that they stand for.
#[test]
fn a_layer_on_dynamic_codes_is_one_on_reals() {
    let mut random = Random(94);
    for (kernel, groups, zero) in [(1u32, 1u32, -128i8), (3, 1, 5), (3, 2, 127)] {
        let (c, o, rank) = (4usize, 6usize, 2usize);
        let window = Window { kernel: [kernel; 2], pad: [kernel / 2; 4], ..Window::UNIT };
        let attrs = ConvAttrs { window, groups, lo: f32::NEG_INFINITY, hi: f32::INFINITY };
        let in_group = c / groups as usize;
        let row = (kernel * kernel) as usize * in_group;
        let (codes, weight) = (random.codes(20 * c), random.codes(row * o));
        let (multiplier, bias) = (random.floats(o, 0.001, 0.01), random.floats(o, -1.0, 1.0));
        let scale = random.float(0.001, 0.02);
        let sums: Vec<i32> = weight.chunks(row).map(|r| r.iter().map(|v| i32::from(*v)).sum()).collect();
        let reals: Vec<f32> = codes.iter().map(|x| (f32::from(*x) - f32::from(zero)) * scale).collect();
        let real_weight: Vec<f32> =
            weight.iter().enumerate().map(|(i, w)| f32::from(*w) * multiplier[i / row]).collect();
        let dy = random.floats(20 * o, -1.0, 1.0);
        let open = mask(dy.len(), |i| i % 7 != 0);
        let dims = [6, kernel, kernel, in_group as u32];
        let dynamic = [
            &Tensor::new(&[1, 4, 5, 6], &dy),
            &open,
            &Tensor::new(&[1, 4, 5, 4], &codes),
            &Tensor::new(&dims, &weight),
            &Tensor::new(&[6], &sums),
            &Tensor::new(&[6], &multiplier),
            &Tensor::new(&[6], &bias),
            &Tensor::new(&[], &[scale]),
            &Tensor::new(&[], &[zero]),
        ];
        let real = [
            dynamic[0],
            &open,
            &Tensor::new(&[1, 4, 5, 4], &reals),
            &Tensor::new(&dims, &real_weight),
            &Tensor::new(&[6], &bias),
        ];
        let down = random.floats(groups as usize * rank * row, -0.5, 0.5);
        let (up, scales) = (random.floats(o * rank, -0.5, 0.5), random.floats(o, 0.5, 1.5));
        let terms = SiteTerms {
            two_factor: Some(TwoFactor { rank, factors: Factors::F32 { down: &down, up: &up } }),
            affine: Some(Affine { scale: &scales, shift: &bias }),
            ..SiteTerms::NONE
        };
        let gradients = |kernel: &Kernel, inputs: &[&Tensor]| {
            let mut dx = Tensor::zeros(DType::F32, &[1, 4, 5, 4]);
            let (mut d, mut u) = (std::vec![0.0; down.len()], std::vec![0.0; up.len()]);
            let (mut s, mut w) = (std::vec![0.0; o], std::vec![0.0; row * o]);
            let grads = SiteGrads {
                down: Some(&mut d),
                up: Some(&mut u),
                scale: Some(&mut s),
                dense: Some(&mut w),
                ..SiteGrads::default()
            };
            run(kernel, &attrs, inputs, &mut [&mut dx], Site { terms, grads, accumulate: 0 }).unwrap();
            [dx.values(), d, u, s, w].concat()
        };
        let have = gradients(&conv::KERNEL_DYNAMIC, &dynamic);
        let want = gradients(&conv::KERNEL, &real);
        let size = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (i, (have, want)) in have.iter().zip(&want).enumerate() {
            assert!((have - want).abs() <= 1e-5 * size, "element {i}: {have} is not {want}");
        }
    }
}
