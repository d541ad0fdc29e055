//! Scaling by separable filters, the way Pillow does it.
//!
//! When shrinking, the filter is stretched so that every source pixel counts
//! (antialiasing). Weights are rounded to 22 fractional bits and each pass
//! rounds to 8 bits, as Pillow's `Resample.c` does, so the pixels equal those of
//! `PIL.Image.resize`, on which most published accuracies rest.

use super::Image;

/// An interpolation filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Triangle of support 1.
    Bilinear,
    /// Keys' cubic with a = −½, support 2.
    Bicubic,
}

impl Image {
    /// This picture at `width` × `height` pixels; a zero extent is taken as 1.
    pub fn resize(&self, width: usize, height: usize, filter: Filter) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let rgb = if width == self.width {
            self.rgb.clone()
        } else {
            let windows = windows(self.width, width, filter);
            let rows = self.rgb.chunks_exact(self.width * 3);
            rows.flat_map(|row| windows.iter().flat_map(|window| window.apply(row, 3, 0))).collect()
        };
        let rgb = if height == self.height {
            rgb
        } else {
            let stride = width * 3;
            let windows = windows(self.height, height, filter);
            let columns = (0..width).map(|x| x * 3);
            windows.iter().flat_map(|w| columns.clone().flat_map(|at| w.apply(&rgb, stride, at))).collect()
        };
        Self { width, height, rgb }
    }
}

/// The source pixels that make one output pixel.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

impl Window {
    /// The weighted RGB sum of pixels `stride` bytes apart, the first of the line being at `offset`.
    fn apply(&self, pixels: &[u8], stride: usize, offset: usize) -> [u8; 3] {
        let mut sums = [1i32 << (PRECISION - 1); 3];
        let line = pixels.get(offset + self.first * stride..).unwrap_or_default();
        for (pixel, &weight) in line.chunks(stride).zip(&self.weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8)
    }
}

fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |index: usize| {
        let center = (index as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |at: usize| filter.weight((at as f64 - center + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Window { first, weights: weights.into_iter().map(|weight| fixed(weight / sum)).collect() }
    };
    (0..to).map(window).collect()
}

/// `weight` in units of 2⁻²², rounded half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

const A: f64 = -0.5;
const PRECISION: u32 = 22;
