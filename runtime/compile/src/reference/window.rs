//! Convolution and pooling as their definitions read.

use super::{floats, to_f64};
use crate::graph::Tensor;
use crate::op::{Conv, Layout, Pool, PoolKind, ValueType, Window};

/// A tensor as [n, d, h, w, c], whatever its layout and spatial rank.
struct Planes {
    data: Vec<f64>,
    /// n, d, h, w, c.
    extents: [usize; 5],
}

impl Planes {
    fn new(x: &Tensor, layout: Layout) -> Self {
        let (n, c, spatial) = layout.split(x.shape()).unwrap();
        let mut extents = [n, 1, 1, 1, c];
        extents[4 - spatial.len()..4].copy_from_slice(spatial);
        let stored = to_f64(x);
        let pixels = spatial.iter().product::<usize>();
        let data = match layout {
            Layout::ChannelsLast => stored,
            Layout::ChannelsFirst => (0..stored.len())
                .map(|i| stored[(i / c / pixels * c + i % c) * pixels + i / c % pixels])
                .collect(),
        };
        Self { data, extents }
    }

    /// All channels at one place.
    fn pixel(&self, [n, z, r, c]: [usize; 4]) -> &[f64] {
        let [_, d, h, w, channels] = self.extents;
        &self.data[(((n * d + z) * h + r) * w + c) * channels..][..channels]
    }
}

/// Values in the order [n, d, h, w, c], put into the layout of a result.
fn into_layout(y: &ValueType, layout: Layout, data: Vec<f64>) -> Vec<Tensor> {
    let (_, c, spatial) = layout.split(&y.shape).unwrap();
    let pixels = spatial.iter().product::<usize>();
    match layout {
        Layout::ChannelsLast => floats(y, data),
        Layout::ChannelsFirst => {
            let place = |i: usize| (i / pixels / c * pixels + i % pixels) * c + i / pixels % c;
            floats(y, (0..data.len()).map(|i| data[place(i)]))
        }
    }
}

/// The window's numbers for dimension `i` of three, missing ones in front.
fn along(window: &Window, i: usize) -> (usize, usize, usize, usize, usize) {
    let missing = 3 - window.kernel.len();
    match i.checked_sub(missing) {
        Some(i) => {
            let pads = (window.pads_begin[i], window.pads_end[i]);
            (window.kernel[i], window.strides[i], window.dilations[i], pads.0, pads.1)
        }
        None => (1, 1, 1, 0, 0),
    }
}

/// The taps of the window at place `out` along dimension `i`: index of the tap, and its place where inside; the second
/// list counts those inside the borders, too.
fn taps(window: &Window, i: usize, out: usize, extent: usize) -> (Vec<(usize, usize)>, usize) {
    let (kernel, stride, dilation, begin, end) = along(window, i);
    let places = (0..kernel).map(|k| (k, (out * stride + k * dilation) as isize - begin as isize));
    let inside = places.clone().filter(|&(_, at)| (0..extent as isize).contains(&at));
    let bordered = places.filter(|&(_, at)| at < (extent + end) as isize).count();
    (inside.map(|(k, at)| (k, at as usize)).collect(), bordered)
}

pub(super) fn conv(conv: &Conv, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, y: &ValueType) -> Vec<Tensor> {
    let input = Planes::new(x, conv.layout);
    let weights = Planes::new(w, Layout::ChannelsFirst);
    let bias = bias.map(to_f64);
    let (n, channels, spatial) = conv.layout.split(&y.shape).unwrap();
    let depth = weights.extents[4];
    let per_group = channels / conv.groups;
    let mut out = Vec::new();
    for (b, place) in places(n, spatial) {
        let [zs, rs, cs] = [0, 1, 2].map(|i| taps(&conv.window, i, place[i], input.extents[1 + i]).0);
        for o in 0..channels {
            let mut sum = bias.as_ref().map_or(0.0, |bias| bias[o]);
            for (&(kz, z), &(kr, r), &(kc, c)) in product(&zs, &rs, &cs) {
                let group = &input.pixel([b, z, r, c])[o / per_group * depth..][..depth];
                let taps = weights.pixel([o, kz, kr, kc]);
                sum += group.iter().zip(taps).map(|(a, b)| a * b).sum::<f64>();
            }
            out.push(sum);
        }
    }
    into_layout(y, conv.layout, out)
}

pub(super) fn pool(pool: &Pool, x: &Tensor, y: &ValueType) -> Vec<Tensor> {
    let input = Planes::new(x, pool.layout);
    let (n, channels, spatial) = pool.layout.split(&y.shape).unwrap();
    let mut out = Vec::new();
    for (b, place) in places(n, spatial) {
        let all = [0, 1, 2].map(|i| taps(&pool.window, i, place[i], input.extents[1 + i]));
        let bordered: usize = all.iter().map(|(_, count)| count).product();
        let [zs, rs, cs] = all.map(|(inside, _)| inside);
        for o in 0..channels {
            let values: Vec<f64> =
                product(&zs, &rs, &cs).map(|(z, r, c)| input.pixel([b, z.1, r.1, c.1])[o]).collect();
            out.push(match pool.kind {
                PoolKind::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                PoolKind::Average { count_include_pad: true } => values.iter().sum::<f64>() / bordered as f64,
                PoolKind::Average { count_include_pad: false } => {
                    values.iter().sum::<f64>() / values.len() as f64
                }
            });
        }
    }
    into_layout(y, pool.layout, out)
}

/// Every batch and place of a result with these spatial extents.
fn places(n: usize, spatial: &[usize]) -> impl Iterator<Item = (usize, [usize; 3])> {
    let mut extents = [1; 3];
    extents[3 - spatial.len()..].copy_from_slice(spatial);
    let [d, h, w] = extents;
    (0..n * d * h * w).map(move |i| (i / (d * h * w), [i / (h * w) % d, i / w % h, i % w]))
}

/// Every combination of three lists.
fn product<'a, T>(zs: &'a [T], rs: &'a [T], cs: &'a [T]) -> impl Iterator<Item = (&'a T, &'a T, &'a T)> {
    zs.iter().flat_map(move |z| rs.iter().flat_map(move |r| cs.iter().map(move |c| (z, r, c))))
}
