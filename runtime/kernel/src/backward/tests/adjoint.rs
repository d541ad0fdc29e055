//! `⟨dy, J·v⟩ = ⟨Jᵀ·dy, v⟩`, with J·v from the forward kernels themselves.

use std::vec::Vec;

use ingraft_tensor::{DType, Shape};

use super::site::{Layer, LayerAttrs, Recipe};
use super::*;
use crate::attrs::{CopyAttrs, PoolAttrs, Window};
use crate::test_case::{self, Random, indices, position};

#[track_caller]
fn assert_adjoint(dy: &[f32], jv: &[f32], dx: &[f32], v: &[f32]) {
    let (left, right) = (inner(dy, jv), inner(dx, v));
    let size = dy.iter().zip(jv).map(|(a, b)| (a * b).abs() as f64).sum::<f64>();
    assert!((left - right).abs() <= 1e-5 * size.max(1e-3), "{left} is not {right}");
}

fn recipe(seed: u64, quantized: bool, depthwise: bool) -> Recipe {
    let pointwise = !depthwise && seed.is_multiple_of(3);
    let (low_rank, dense) = (!depthwise, seed.is_multiple_of(2));
    Recipe {
        seed,
        quantized,
        depthwise,
        pointwise,
        clipped: false,
        low_rank,
        sparse: true,
        dense,
        affine: true,
    }
}

/// The outputs of `forward` for two inputs, subtracted: biases and shifts drop out.
fn difference<A: Attrs>(forward: &Kernel, attrs: &A, layer: &Layer, x: [&Tensor; 2]) -> Vec<f32> {
    let output = layer.naive.shape.output.map(|d| d as u32);
    let [a, b] = x.map(|x| {
        let mut y = Tensor::zeros(DType::F32, &output);
        let inputs: Vec<&Tensor> = [x].into_iter().chain(&layer.constants).collect();
        run(forward, attrs, &inputs, &mut [&mut y], Site { terms: layer.terms(), ..Site::default() })
            .unwrap();
        y.values::<f32>()
    });
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[test]
fn layers_f32() {
    for seed in 0..40 {
        let depthwise = seed & 1 == 1;
        let layer = Layer::new(recipe(100 + seed, false, depthwise));
        let LayerAttrs::Real(attrs) = layer.attrs else { unreachable!() };
        let mut random = Random(seed);
        let dims = layer.naive.shape.input.map(|d| d as u32);
        let v = random.floats(layer.dx().shape.elements(), -1.0, 1.0);
        let forward = if depthwise { &crate::depthwise::KERNEL } else { &crate::conv::KERNEL };
        let zero = Tensor::zeros(DType::F32, &dims);
        let jv = difference(forward, &attrs, &layer, [&Tensor::new(&dims, &v), &zero]);
        let dy = random.floats(jv.len(), -1.0, 1.0);
        let mut dx = layer.dx();
        layer.backward(&dy, None, Some(&mut dx), SiteGrads::default(), 0).unwrap();
        assert_adjoint(&dy, &jv, &dx.values::<f32>(), &v);
    }
}

#[test]
fn int8_layers_with_f32_output() {
    for seed in 0..30 {
        let mut layer = Layer::new(recipe(300 + seed, true, false));
        let LayerAttrs::Integer(attrs) = &mut layer.attrs else { unreachable!() };
        let multiplier: Vec<f32> =
            layer.constants[2].values::<f32>().iter().map(|m| m * attrs.out_scale).collect();
        attrs.out_scale = 1.0;
        let attrs = *attrs;
        layer.constants[2] = Tensor::new(&[multiplier.len() as u32], &multiplier);
        let mut random = Random(seed);
        let other = Tensor::new(layer.x.shape.dims(), &random.codes(layer.x.shape.elements()));
        let (a, b) = (layer.x.values::<i8>(), other.values::<i8>());
        let v: Vec<f32> = a.iter().zip(b).map(|(a, b)| (*a as f32 - b as f32) * attrs.in_scale).collect();
        let jv = difference(&crate::qconv::KERNEL_F32, &attrs, &layer, [&layer.x, &other]);
        let dy = random.floats(jv.len(), -1.0, 1.0);
        let mut dx = layer.dx();
        layer.backward(&dy, None, Some(&mut dx), SiteGrads::default(), 0).unwrap();
        assert_adjoint(&dy, &jv, &dx.values::<f32>(), &v);
    }
}

#[test]
fn average_pooling() {
    let mut random = Random(5);
    let mut cases = 0;
    while cases < 40 {
        let mut pair = |lo, hi| [random.int(lo, hi) as u32, random.int(lo, hi) as u32];
        let (kernel, stride, dilation) = (pair(1, 3), pair(1, 3), pair(1, 2));
        let ([h, w], [top, left], [bottom, right]) = (pair(2, 7), pair(0, 1), pair(0, 2));
        let window = Window { kernel, stride, dilation, pad: [top, left, bottom, right] };
        let (Some(oh), Some(ow)) = (window.output(0, h as usize), window.output(1, w as usize)) else {
            continue;
        };
        cases += 1;
        // A ceiling mode has one more window where the stride leaves a rest.
        let more = |o: usize, extent: u32, axis: usize| {
            let begin = o as u32 * stride[axis];
            o as u32 + u32::from(begin < extent + window.pad[axis])
        };
        let (oh, ow) = (more(oh, h, 0), more(ow, w, 1));
        let kind = 1 + cases % 2;
        let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
        let attrs = PoolAttrs { window, kind, in_zero_point: 0, out_zero_point: 0, ratio: 1.0, lo, hi };
        let (n, c) = (random.int(1, 2) as u32, random.int(1, 70) as u32);
        let v = random.floats((n * h * w * c) as usize, -1.0, 1.0);
        let mut jv = Tensor::zeros(DType::F32, &[n, oh, ow, c]);
        test_case::run(&crate::pool::KERNEL, &attrs, &[&Tensor::new(&[n, h, w, c], &v)], &mut [&mut jv])
            .unwrap();
        let dy = random.floats(jv.shape.elements(), -1.0, 1.0);
        let mut dx = Tensor::zeros(DType::F32, &[n, h, w, c]);
        let incoming = Tensor::new(&[n, oh, ow, c], &dy);
        run(&pool::KERNEL, &attrs, &[&incoming], &mut [&mut dx], Site::default()).unwrap();
        assert_adjoint(&dy, &jv.values::<f32>(), &dx.values::<f32>(), &v);
    }
}

#[test]
fn copies() {
    let mut random = Random(6);
    let attrs = |extents: [u32; 3], in_strides: [i32; 3], out_strides: [u32; 3], offsets: [u32; 2]| {
        let mut attrs = CopyAttrs {
            rank: 3,
            extents: [1; 6],
            in_strides: [0; 6],
            out_strides: [0; 6],
            in_offset: offsets[0],
            out_offset: offsets[1],
        };
        attrs.extents[..3].copy_from_slice(&extents);
        attrs.in_strides[..3].copy_from_slice(&in_strides);
        attrs.out_strides[..3].copy_from_slice(&out_strides);
        attrs
    };
    let cases = [
        (60, 60, attrs([5, 3, 4], [1, 20, 5], [12, 4, 1], [0, 0])),
        (35, 64, attrs([1, 3, 5], [0, -14, 1], [0, 16, 1], [28, 17])),
        (7, 42, attrs([2, 3, 7], [0, 0, 1], [21, 7, 1], [0, 0])),
        (24, 24, attrs([2, 3, 4], [12, 4, 1], [12, 4, 1], [0, 0])),
        (24, 30, attrs([1, 6, 2], [0, 4, 1], [0, 5, 1], [2, 1])),
        (5, 13, attrs([1, 1, 5], [0, 0, 1], [0, 0, 3], [0, 0])),
        (13, 5, attrs([1, 1, 5], [0, 0, 3], [0, 0, 1], [0, 0])),
    ];
    for (from, to, attrs) in cases {
        let (v, dy) = (random.floats(from as usize, -1.0, 1.0), random.floats(to as usize, -1.0, 1.0));
        let mut jv = Tensor::zeros(DType::F32, &[to]);
        test_case::run(&crate::copy::KERNEL, &attrs, &[&Tensor::new(&[from], &v)], &mut [&mut jv]).unwrap();
        let mut dx = Tensor::zeros(DType::F32, &[from]);
        run(&copy::KERNEL, &attrs, &[&Tensor::new(&[to], &dy)], &mut [&mut dx], Site::default()).unwrap();
        assert_adjoint(&dy, &jv.values::<f32>(), &dx.values::<f32>(), &v);
    }
}

#[test]
fn broadcast_operands_of_a_sum() {
    let mut random = Random(8);
    let cases: [(&[u32], &[u32]); 7] = [
        (&[2, 3, 4], &[2, 3, 4]),
        (&[2, 3, 4], &[4]),
        (&[2, 3, 4], &[2, 1, 4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 5, 150], &[2, 1, 1]),
        (&[2, 3, 4], &[]),
        (&[1, 1, 150], &[150]),
    ];
    for (out, operand) in cases {
        let dy = random.floats(Shape::new(out).unwrap().elements(), -1.0, 1.0);
        let v = random.floats(Shape::new(operand).unwrap().elements(), -1.0, 1.0);
        let jv: Vec<f32> = indices(out).iter().map(|index| v[position(operand, index)]).collect();
        let mut dx = Tensor::zeros(DType::F32, operand);
        // The operator has no attributes; the record is not read.
        run(&add::KERNEL, &Window::UNIT, &[&Tensor::new(out, &dy)], &mut [&mut dx], Site::default()).unwrap();
        assert_adjoint(&dy, &jv, &dx.values::<f32>(), &v);
    }
}
