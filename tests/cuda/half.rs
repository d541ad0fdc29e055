//! The target `cuda-fp16`: its rows against the reference, its products against exact sums within the bound that
//! `rows/half.rs` of the target states, whole models, and a step of training.

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
    let taken = compare(&cuda, &[OpCode::Conv], tolerance);
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
        let pad = (window / 2) as u32;
        let attrs = ConvAttrs {
            window: Window { kernel: [window as u32; 2], stride: [1; 2], dilation: [1; 2], pad: [pad; 4] },
            groups: groups as u32,
            lo: f32::NEG_INFINITY,
            hi: f32::INFINITY,
        };
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
        let largest = |values: &[f32]| values.iter().fold(0.0, |m, v| f64::max(m, v.abs().into()));
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
fn dnsmos_agrees_in_halves() {
    agrees("dnsmos_sig_bak_ovr_f32");
}
