//! What must hold exactly: masks, accumulation, ties, refusals.

use std::vec::Vec;

use ingraft_tensor::DType;

use super::site::{DOWN, Layer, Recipe, SCALE, UP};
use super::*;
use crate::attrs::{PoolAttrs, Window};
use crate::test_case::Random;
use crate::{Factors, Patched, Sparse, SparseValues, TwoFactor};

fn recipe(seed: u64) -> Recipe {
    let (quantized, depthwise) = (seed & 1 == 1, seed & 2 == 2);
    Recipe {
        seed,
        quantized,
        depthwise,
        pointwise: !depthwise && seed & 4 == 4,
        clipped: true,
        low_rank: !depthwise,
        sparse: true,
        dense: seed.is_multiple_of(3),
        affine: true,
    }
}

fn layers() -> impl Iterator<Item = (Layer, Vec<f32>)> {
    (0..24).map(|seed| {
        let layer = Layer::new(recipe(seed));
        let dy = Random(seed).floats(layer.naive.shape.output.iter().product(), -1.0, 1.0);
        (layer, dy)
    })
}

#[test]
fn a_closed_mask_stops_everything() {
    for (layer, dy) in layers() {
        let (mut dx, mut grads) = (layer.dx(), layer.grads());
        let closed = mask(dy.len(), |_| false);
        let dy = std::vec![f32::NAN; dy.len()];
        layer.backward(&dy, Some(&closed), Some(&mut dx), grads.as_site(), 0).unwrap();
        assert!(dx.values::<f32>().iter().chain(grads.0.iter().flatten()).all(|v| *v == 0.0));
    }
}

#[test]
fn a_masked_element_is_one_without_gradient() {
    for (layer, dy) in layers() {
        let open = |i: usize| i % 3 != 1;
        let (mut masked, mut grads_masked) = (layer.dx(), layer.grads());
        let bits = mask(dy.len(), open);
        layer.backward(&dy, Some(&bits), Some(&mut masked), grads_masked.as_site(), 0).unwrap();
        let (mut zeroed, mut grads_zeroed) = (layer.dx(), layer.grads());
        let dy: Vec<f32> = dy.iter().enumerate().map(|(i, v)| if open(i) { *v } else { 0.0 }).collect();
        layer.backward(&dy, None, Some(&mut zeroed), grads_zeroed.as_site(), 0).unwrap();
        assert_eq!(masked.bytes(), zeroed.bytes());
        assert_eq!(grads_masked.0, grads_zeroed.0);
    }
}

#[test]
fn each_gradient_alone_is_the_same() {
    for (layer, dy) in layers() {
        let (mut dx, mut all) = (layer.dx(), layer.grads());
        layer.backward(&dy, None, Some(&mut dx), all.as_site(), 0).unwrap();
        for parameter in 1..all.0.len() {
            let mut alone = layer.grads();
            for other in (0..alone.0.len()).filter(|other| *other != parameter) {
                alone.0[other].clear();
            }
            layer.backward(&dy, None, None, alone.as_site(), 0).unwrap();
            assert_eq!(alone.0[parameter], all.0[parameter]);
        }
        let mut only = layer.dx();
        layer.backward(&dy, None, Some(&mut only), SiteGrads::default(), 0).unwrap();
        assert_eq!(only.bytes(), dx.bytes());
    }
}

#[test]
fn bit_0_adds_and_parameters_always_add() {
    let close = |have: &[f32], want: &[f32]| {
        let most = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        assert_eq!(have.len(), want.len());
        assert!(have.iter().zip(want).all(|(h, w)| (h - w).abs() <= 1e-5 * most));
    };
    for (layer, dy) in layers() {
        let (mut dx, mut grads) = (layer.dx(), layer.grads());
        dx.bytes_mut().fill(0xff);
        layer.backward(&dy, None, Some(&mut dx), grads.as_site(), 0).unwrap();
        let (once, grads_once) = (dx.values::<f32>(), grads.0.clone());
        layer.backward(&dy, None, Some(&mut dx), grads.as_site(), 1).unwrap();
        close(&dx.values::<f32>(), &once.iter().map(|v| v * 2.0).collect::<Vec<_>>());
        for (twice, once) in grads.0.iter().zip(grads_once) {
            close(twice, &once.iter().map(|v| v * 2.0).collect::<Vec<_>>());
        }
        layer.backward(&dy, None, Some(&mut dx), SiteGrads::default(), 0).unwrap();
        assert_eq!(dx.values::<f32>(), once);
    }
    let (dy, mut dx) = (Tensor::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]), Tensor::new(&[2], &[10.0f32, 20.0]));
    let site = Site { accumulate: 1, ..Site::default() };
    run(&add::KERNEL, &Window::UNIT, &[&dy, &mask(4, |i| i != 3)], &mut [&mut dx], site).unwrap();
    assert_eq!(dx.values::<f32>(), [14.0, 22.0]);
}

fn maximum(window: Window) -> PoolAttrs {
    PoolAttrs { window, kind: 0, in_zero_point: 0, out_zero_point: 0, ratio: 1.0, lo: -128.0, hi: 127.0 }
}

#[test]
fn equal_maxima_give_the_first() {
    let window = Window { kernel: [2, 2], stride: [1, 2], dilation: [1, 1], pad: [1, 0, 0, 0] };
    let attrs = maximum(window);
    let values = [3i8, 3, -128, -128, 1, 3, -128, -128];
    let dy = Tensor::new(&[1, 2, 2, 1], &[1.0f32, 10.0, 100.0, 1000.0]);
    let want = [101.0, 0.0, 1010.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let mut dx = Tensor::zeros(DType::F32, &[1, 2, 4, 1]);
    let x = Tensor::new(&[1, 2, 4, 1], &values);
    run(&pool::KERNEL, &attrs, &[&dy, &x], &mut [&mut dx], Site::default()).unwrap();
    assert_eq!(dx.values::<f32>(), want);
    let floats = values.map(|v| if v == -128 { f32::NEG_INFINITY } else { v as f32 });
    let x = Tensor::new(&[1, 2, 4, 1], &floats);
    run(&pool::KERNEL, &attrs, &[&dy, &x], &mut [&mut dx], Site::default()).unwrap();
    assert_eq!(dx.values::<f32>(), want);
    run(&pool::KERNEL, &attrs, &[&dy, &mask(4, |i| i != 2), &x], &mut [&mut dx], Site::default()).unwrap();
    assert_eq!(dx.values::<f32>()[..3], [1.0, 0.0, 1010.0]);
}

#[test]
fn the_maximum_gets_all_of_it() {
    let mut random = Random(17);
    let window = Window { kernel: [3, 2], stride: [2, 2], dilation: [1, 2], pad: [1, 1, 1, 1] };
    let (h, w, c) = (7usize, 6usize, 67usize);
    let (oh, ow) = (window.output(0, h).unwrap(), window.output(1, w).unwrap());
    let x = random.codes(2 * h * w * c);
    let dy = random.floats(2 * oh * ow * c, -1.0, 1.0);
    let mut want = std::vec![0.0f32; x.len()];
    for (i, dy) in dy.iter().enumerate() {
        let (channel, pixel) = (i % c, i / c);
        let (ox, oy, n) = (pixel % ow, pixel / ow % oh, pixel / ow / oh);
        let mut best: Option<usize> = None;
        for (ky, kx) in [(0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 2)] {
            let (iy, ix) = (oy * 2 + ky, ox * 2 + kx);
            if (1..=h).contains(&iy) && (1..=w).contains(&ix) {
                let at = ((n * h + iy - 1) * w + ix - 1) * c + channel;
                best = Some(best.filter(|b| x[*b] >= x[at]).unwrap_or(at));
            }
        }
        want[best.unwrap()] += dy;
    }
    let mut dx = Tensor::zeros(DType::F32, &[2, h as u32, w as u32, c as u32]);
    let inputs = [&Tensor::new(&[2, oh as u32, ow as u32, c as u32], &dy), &Tensor::new(dx.shape.dims(), &x)];
    run(&pool::KERNEL, &maximum(window), &inputs, &mut [&mut dx], Site::default()).unwrap();
    assert_eq!(dx.values::<f32>(), want);
}

#[test]
fn a_patched_copy_replaces_the_weight() {
    let plain = Recipe { low_rank: false, sparse: false, dense: false, affine: false, ..recipe(5) };
    let (layer, other) = (Layer::new(plain), Layer::new(plain));
    let dy = Random(3).floats(layer.naive.shape.output.iter().product(), -1.0, 1.0);
    let patched = Random(9).codes(layer.constants[0].shape.elements());
    let bias = layer.constants[1].values::<i32>();
    let site::LayerAttrs::Integer(attrs) = layer.attrs else { unreachable!() };
    let dims = layer.naive.shape.output.map(|d| d as u32);
    let backward = |weight: &Tensor, terms: SiteTerms<'_>| {
        let mut dx = layer.dx();
        let dy = Tensor::new(&dims, &dy);
        let inputs = [&dy, &other.x, weight, &layer.constants[1], &layer.constants[2]];
        run(&conv::KERNEL_Q, &attrs, &inputs, &mut [&mut dx], Site { terms, ..Site::default() }).unwrap();
        dx.values::<f32>()
    };
    let terms = SiteTerms { patched: Some(Patched { weight: &patched, bias: &bias }), ..SiteTerms::NONE };
    let want = backward(&Tensor::new(layer.constants[0].shape.dims(), &patched), SiteTerms::NONE);
    assert_eq!(backward(&layer.constants[0], terms), want);
}

#[test]
fn refuses_what_it_cannot_train() {
    let terms_error = |layer: &Layer| Err(KernelError::Terms(layer.kernel().op));
    for (layer, dy) in layers() {
        let mut grads = layer.grads();
        grads.0[SCALE].pop();
        grads.0[SCALE].extend([0.0; 2]);
        assert_eq!(layer.backward(&dy, None, None, grads.as_site(), 0), terms_error(&layer));
        let mut grads = layer.grads();
        (grads.0[UP], grads.0[DOWN]) = (std::vec![0.0; 99_999], Vec::new());
        assert_eq!(layer.backward(&dy, None, None, grads.as_site(), 0), terms_error(&layer));
    }
    let layer = Layer::new(Recipe { depthwise: true, low_rank: true, ..recipe(2) });
    let dy = std::vec![0.0; layer.naive.shape.output.iter().product()];
    assert_eq!(layer.backward(&dy, None, None, SiteGrads::default(), 0), terms_error(&layer));
}

#[test]
fn refuses_integer_parameters() {
    let attrs = crate::attrs::ConvAttrs { window: Window::UNIT, groups: 1, lo: -1.0, hi: 1.0 };
    let (pixel, bias) = (Tensor::new(&[1, 1], &[1.0f32]), Tensor::new(&[1], &[0.0f32]));
    let factors = Factors::I8 { down: &[1], up: &[1], down_scale: &[1.0], up_scale: &[1.0] };
    let sparse = Sparse { indptr: &[0, 1], indices: &[0], values: SparseValues::I16(&[1]) };
    let integer = [
        SiteTerms { two_factor: Some(TwoFactor { rank: 1, factors }), ..SiteTerms::NONE },
        SiteTerms { sparse: Some(sparse), ..SiteTerms::NONE },
        SiteTerms { patched: Some(Patched { weight: &[1], bias: &[1] }), ..SiteTerms::NONE },
    ];
    for terms in integer {
        let inputs = [&pixel, &pixel, &pixel, &bias];
        let result = run(&conv::KERNEL, &attrs, &inputs, &mut [], Site { terms, ..Site::default() });
        assert_eq!(result, Err(KernelError::Terms(crate::OpCode::ConvBackward)));
    }
}

#[test]
fn refuses_operands_that_disagree() {
    let f32s = |dims: &[u32]| Tensor::zeros(DType::F32, dims);
    let attrs = crate::attrs::ConvAttrs { window: Window::UNIT, groups: 1, lo: -1.0, hi: 1.0 };
    let good = [&f32s(&[1, 2, 2, 5]), &f32s(&[1, 2, 2, 3]), &f32s(&[5, 3]), &f32s(&[5])];
    assert_eq!(run(&conv::KERNEL, &attrs, &good, &mut [&mut f32s(&[1, 2, 2, 3])], Site::default()), Ok(()));
    let refused = |inputs: &[&Tensor], dims: &[u32]| {
        let result = run(&conv::KERNEL, &attrs, inputs, &mut [&mut f32s(dims)], Site::default());
        assert_eq!(result, Err(KernelError::Operands(crate::OpCode::ConvBackward)));
    };
    refused(&good, &[1, 2, 2, 4]);
    refused(&good[..3], &[1, 2, 2, 3]);
    refused(&[good[0], good[1], good[2], &f32s(&[4])], &[1, 2, 2, 3]);
    refused(&[good[0], &Tensor::zeros(DType::U8, &[2]), good[1], good[2], good[3]], &[1, 2, 2, 3]);
    refused(&[good[0], &Tensor::zeros(DType::I8, &[1, 2, 2, 3]), good[2], good[3]], &[1, 2, 2, 3]);
}
