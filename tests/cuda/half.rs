//! The target `cuda-fp16`: its rows against the reference, its products against exact sums within the bounds that
//! `rows/half.rs` and `rows/product.rs` of the target state, and whole models.

use ingraft::kernel::attrs::{ConvAttrs, Window};
use ingraft::kernel::{KernelError, OpCode, Target};
use ingraft::tensor::DType;
use ingraft_jetson_cuda::Cuda;

use crate::cases::{Case, Tensor, Tolerance};
use crate::float::agrees_on;
use crate::support::Lcg;
use crate::{compare, gpu};

fn halves() -> Option<Cuda> {
    Some(gpu()?.with_halves().expect("GPUs that tests run on have tensor cores"))
}

#[test]
fn every_row_of_halves_agrees_with_the_reference() {
    let Some(cuda) = halves() else { return };
    assert_eq!(cuda.name(), "cuda-fp16");
    let half = |name: &str| name.ends_with("__cuda_fp16");
    let tolerance = |name: &str, of_case| if half(name) { Tolerance::Half } else { of_case };
    let taken = compare(&cuda, &[OpCode::Conv, OpCode::Depthwise, OpCode::MatMul], tolerance);
    for (_, name) in Cuda::half_rows() {
        assert!(half(name) && taken.contains(name), "{name} takes no case");
    }
}

/// A layer of NHWC extents, and the kernel it is meant for.
struct Layer {
    kernel: &'static str,
    input: [usize; 4],
    out: usize,
    window: usize,
    groups: usize,
}

const LAYERS: [Layer; 9] = [
    Layer { kernel: "rows", input: [1, 1, 3, 260], out: 70, window: 1, groups: 1 },
    Layer { kernel: "unit_split", input: [1, 5, 7, 516], out: 41, window: 1, groups: 1 },
    Layer { kernel: "unit_wide", input: [1, 5, 14, 32], out: 41, window: 1, groups: 1 },
    Layer { kernel: "unit_large", input: [1, 184, 184, 36], out: 50, window: 1, groups: 1 },
    Layer { kernel: "fours_split", input: [1, 6, 5, 40], out: 24, window: 3, groups: 2 },
    Layer { kernel: "fours_wide", input: [2, 90, 90, 4], out: 40, window: 3, groups: 1 },
    Layer { kernel: "fours_large", input: [1, 184, 184, 4], out: 64, window: 3, groups: 1 },
    Layer { kernel: "single_split", input: [1, 6, 5, 15], out: 24, window: 3, groups: 1 },
    Layer { kernel: "single_wide", input: [1, 9, 8, 3], out: 16, window: 3, groups: 1 },
];

/// Values of both signs over `octaves` below `top`.
fn values(count: usize, random: &mut Lcg, octaves: usize, top: f32) -> Vec<f32> {
    (0..count).map(|_| (2.0 * random.real() - 1.0) * top / (1u64 << random.below(octaves)) as f32).collect()
}

fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |m, v| f64::max(m, v.abs().into()))
}

/// A square window whose output is of the input's size, without a clamp.
fn same(window: usize) -> ConvAttrs {
    let (size, pad) = (window as u32, (window / 2) as u32);
    ConvAttrs {
        window: Window { kernel: [size; 2], stride: [1; 2], dilation: [1; 2], pad: [pad; 4] },
        groups: 1,
        lo: f32::NEG_INFINITY,
        hi: f32::INFINITY,
    }
}

/// Each kernel, with activations and weights of several sizes and spreads: the largest activation a half holds, and others
/// below the smallest.
#[test]
fn products_of_halves_stay_within_the_bound() {
    let Some(cuda) = halves() else { return };
    let mut random = Lcg::new(16);
    for layer in &LAYERS {
        for (octaves, top) in [(1, 1.0), (4, 65504.0), (12, 1e-3), (30, 4.0)] {
            let ratio = layer.within(&cuda, octaves, top, &mut random);
            println!("{} over {octaves} octaves below {top}: {ratio:.3} of the bound", layer.kernel);
        }
    }
}

impl Layer {
    /// The largest share of the bound that an output is off by.
    fn within(&self, cuda: &Cuda, octaves: usize, top: f32, random: &mut Lcg) -> f64 {
        let Self { kernel, input, out, window, groups } = *self;
        let [n, h, w, c] = input;
        let attrs = ConvAttrs { groups: groups as u32, ..same(window) };
        let row = window * window * c / groups;
        let x = values(n * h * w * c, random, octaves, top);
        let weight = values(out * row, random, octaves, top.recip());
        let bias = values(out, random, 1, 2.0);
        let case = Case::new(OpCode::Conv, kernel, &attrs)
            .input(Tensor::new(&input, &x))
            .input(Tensor::new(&[out, window, window, c / groups], &weight))
            .input(Tensor::new(&[out], &bias))
            .output(DType::F32, &[n, h, w, out]);
        assert_eq!(case.chosen_by(cuda), Ok("conv_f32_f32_f32__cuda_fp16"), "{kernel}");
        let found = case.run_on_device(cuda, |bytes| cuda.allocate(bytes).expect("the GPU has room"));
        let found = found.unwrap_or_else(|error: KernelError| panic!("{kernel}: {error}"));
        let (mut patch, mut worst, largest_x) = (Vec::new(), 0.0, largest(&x));
        let largest_weights: Vec<f64> = weight.chunks_exact(row).map(largest).collect();
        for (pixel, have) in found.outputs[0].values::<f32>().chunks_exact(out).enumerate() {
            for (channel, have) in have.iter().enumerate() {
                let group = channel / (out / groups);
                if channel % (out / groups) == 0 {
                    self.patch(&x, pixel, group, &mut patch);
                }
                let weight = &weight[channel * row..][..row];
                let products = || patch.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let (exact, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                let want = exact + f64::from(bias[channel]);
                let relative = 2f64.powi(-10) + (row as f64 / 16.0 + 12.0) * 2f64.powi(-22);
                let small = largest_weights[channel] * (2f64.powi(-25) + 2f64.powi(-24) * largest_x);
                let bound = relative * size + row as f64 * small + want.abs() * 2f64.powi(-22);
                let error = (f64::from(*have) - want).abs();
                assert!(error <= bound, "{kernel}, {octaves}, {top}: {have}, not {want}: {error} of {bound}");
                worst = f64::max(worst, error / bound);
            }
        }
        // Results of f32 would be nearer to the sums than halves can be.
        assert!(worst > 1e-4, "{kernel}: within {worst} of the bound");
        worst
    }

    /// What the window at `pixel` sees of a group's channels.
    fn patch(&self, x: &[f32], pixel: usize, group: usize, out: &mut Vec<f32>) {
        let ([_, h, w, c], size) = (self.input, self.window);
        let (image, y, column) = (pixel / (h * w), pixel / w % h, pixel % w);
        out.clear();
        for (dy, dx) in (0..size).flat_map(|dy| (0..size).map(move |dx| (dy, dx))) {
            let (from_y, from_x) = ((y + dy).wrapping_sub(size / 2), (column + dx).wrapping_sub(size / 2));
            let depth = c / self.groups;
            if from_y < h && from_x < w {
                let first = ((image * h + from_y) * w + from_x) * c + group * depth;
                out.extend_from_slice(&x[first..][..depth]);
            } else {
                out.extend(core::iter::repeat_n(0.0, depth));
            }
        }
    }
}

/// A product of `batch` matrices, and the kernel that it is meant for.
struct Product {
    kernel: &'static str,
    batch: usize,
    extents: [usize; 3],
}

const PRODUCTS: [Product; 9] = [
    Product { kernel: "fours_wide", batch: 3, extents: [70, 16, 36] },
    Product { kernel: "fours_wide, many", batch: 264, extents: [5, 40, 8] },
    Product { kernel: "fours_split", batch: 2, extents: [33, 300, 44] },
    Product { kernel: "left_wide", batch: 1, extents: [65, 12, 9] },
    Product { kernel: "left_split", batch: 1, extents: [99, 64, 99] },
    Product { kernel: "right_wide", batch: 1, extents: [7, 15, 12] },
    Product { kernel: "right_split", batch: 1, extents: [99, 99, 64] },
    Product { kernel: "single_wide", batch: 2, extents: [17, 7, 13] },
    Product { kernel: "single_split", batch: 1, extents: [17, 133, 35] },
];

#[test]
fn products_of_two_activations_stay_within_the_bound() {
    let Some(cuda) = halves() else { return };
    let mut random = Lcg::new(17);
    for product in &PRODUCTS {
        for (octaves, tops) in [(1, [1.0, 1.0]), (4, [65504.0, 1e-3]), (12, [1e-3, 1e-3]), (30, [4.0, 0.5])] {
            let ratio = product.within(&cuda, octaves, tops, &mut random);
            println!("{} over {octaves} octaves below {tops:?}: {ratio:.3} of the bound", product.kernel);
        }
    }
}

impl Product {
    /// The largest share of the bound that an output is off by.
    fn within(&self, cuda: &Cuda, octaves: usize, tops: [f32; 2], random: &mut Lcg) -> f64 {
        let Self { kernel, batch, extents: [m, k, n] } = *self;
        let lhs = values(batch * m * k, random, octaves, tops[0]);
        let rhs = values(batch * k * n, random, octaves, tops[1]);
        let case = Case::plain(OpCode::MatMul, kernel)
            .input(Tensor::new(&[batch, m, k], &lhs))
            .input(Tensor::new(&[batch, k, n], &rhs))
            .output(DType::F32, &[batch, m, n]);
        assert_eq!(case.chosen_by(cuda), Ok("matmul_f32_f32_f32__cuda_fp16"), "{kernel}");
        let found = case.run_on_device(cuda, |bytes| cuda.allocate(bytes).expect("the GPU has room"));
        let found = found.unwrap_or_else(|error: KernelError| panic!("{kernel}: {error}"));
        let small = 2f64.powi(-25) * (largest(&lhs) + largest(&rhs) + 2f64.powi(-25));
        let relative = 2f64.powi(-10) + (k as f64 / 16.0 + 12.0) * 2f64.powi(-22);
        let mut worst = 0.0;
        for (index, have) in found.outputs[0].values::<f32>().iter().enumerate() {
            let (row, column, first) = (index / n * k, index % n, index / (m * n) * k * n);
            let products =
                || (0..k).map(|d| f64::from(lhs[row + d]) * f64::from(rhs[first + d * n + column]));
            let (want, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
            let bound = relative * size + k as f64 * small;
            let error = (f64::from(*have) - want).abs();
            assert!(error <= bound, "{kernel}, {octaves}, {tops:?}: {have}, not {want}: {error} of {bound}");
            worst = f64::max(worst, error / bound);
        }
        assert!(worst > 1e-4, "{kernel}: within {worst} of the bound");
        worst
    }
}

/// Depthwise layers with weights in f16: window, image, channels.
const DEPTHWISE: [(usize, [usize; 2], usize); 2] = [(3, [9, 14], 12), (5, [8, 7], 36)];

#[test]
fn depthwise_layers_of_halves_stay_within_the_bound() {
    let Some(cuda) = halves() else { return };
    let mut random = Lcg::new(18);
    for (window, [h, w], c) in DEPTHWISE {
        for (octaves, top) in [(1, 1.0f32), (12, 1e-3), (30, 4.0)] {
            let attrs = ConvAttrs { groups: c as u32, ..same(window) };
            let x = values(h * w * c, &mut random, octaves, top);
            let weight = values(window * window * c, &mut random, octaves, top.recip());
            let bias = values(c, &mut random, 1, 2.0);
            let case = Case::new(OpCode::Depthwise, "halves", &attrs)
                .input(Tensor::new(&[1, h, w, c], &x))
                .input(Tensor::new(&[window, window, c], &weight))
                .input(Tensor::new(&[c], &bias))
                .output(DType::F32, &[1, h, w, c]);
            assert_eq!(case.chosen_by(&cuda), Ok("depthwise_f32_f32_f32__cuda_fp16"));
            let found = case.run_on_device(&cuda, |bytes| cuda.allocate(bytes).expect("the GPU has room"));
            let found = found.expect("it runs");
            let (len, mut worst) = ((window * window) as f64, 0.0);
            for (index, have) in found.outputs[0].values::<f32>().iter().enumerate() {
                let (pixel, channel) = (index / c, index % c);
                let taps = (0..window * window).filter_map(|tap| {
                    let y = (pixel / w + tap / window).checked_sub(window / 2).filter(|y| *y < h)?;
                    let column = (pixel % w + tap % window).checked_sub(window / 2).filter(|x| *x < w)?;
                    Some(f64::from(x[(y * w + column) * c + channel]) * f64::from(weight[tap * c + channel]))
                });
                let products: Vec<f64> = taps.collect();
                let size: f64 = products.iter().map(|product| product.abs()).sum();
                let want = products.iter().sum::<f64>() + f64::from(bias[channel]);
                let weights: Vec<f32> = weight.iter().skip(channel).step_by(c).copied().collect();
                let small = len * largest(&weights) * 2f64.powi(-24) * largest(&x);
                let bound = (2f64.powi(-11) + (len + 2.0) * 2f64.powi(-23)) * size + small;
                let bound = bound + want.abs() * 2f64.powi(-22);
                let error = (f64::from(*have) - want).abs();
                assert!(error <= bound, "{window}, {octaves}, {top}: {have}, not {want}: {error} of {bound}");
                worst = f64::max(worst, error / bound);
            }
            assert!(worst > 1e-3, "{window}: within {worst} of the bound");
            println!("depthwise {window} over {octaves} octaves below {top}: {worst:.3} of the bound");
        }
    }
}

/// Outputs within 1e-2 of the largest value of the reference's, 5e-2 with adapters, which move them by as much as all of it.
fn agrees(stem: &str) {
    if let Some(cuda) = halves() {
        agrees_on(&cuda, stem, 1e-2, 5e-2);
    }
}

#[test]
fn efficientnet_lite0_agrees_in_halves() {
    agrees("efficientnet_lite0_f32");
}

#[test]
fn resnet8_agrees_in_halves() {
    agrees("mlperf_tiny_ic_resnet8_f32");
}

#[test]
fn dscnn_agrees_in_halves() {
    agrees("mlperf_tiny_kws_dscnn_weightonly_int8");
}

#[test]
fn mobilenet_v3_agrees_in_halves() {
    agrees("ppocr_textline_cls_mobilenetv3_f32");
}

#[test]
fn kwt1_agrees_in_halves() {
    agrees("kwt1_12labels_f32");
}

#[test]
fn minilm_agrees_in_halves() {
    // Ranges are found anew in every layer: what moves a value across the edge of a code moves all that is computed from it. In f32, a
    // difference in the last place comes to 0.08.
    if let Some(cuda) = halves() {
        agrees_on(&cuda, "minilm_l6_int8_dynamic", 0.2, 0.3);
    }
}

#[test]
fn dnsmos_agrees_in_halves() {
    agrees("dnsmos_sig_bak_ovr_f32");
}
