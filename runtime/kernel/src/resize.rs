//! Interpolation on the spatial axes of channels-last images.

use ingraft_tensor::bytes::Element;
use ingraft_tensor::{DType, Shape};

use crate::attrs::ResizeAttrs;
use crate::requantize::clamp;
use crate::walk::Rows;
use crate::{Call, Kernel, KernelError, OpCode, Step, check};

/// f32, nearest or linear.
///
/// # Shapes
/// Input `[N, H, W, C]`, output `[N, OH, OW, C]`.
///
/// # Numerics
/// Positions are computed in f32 as `(o + before)·numerator/denominator + after`
/// and limited to the input; linear weights are their fractions.
pub const KERNEL: Kernel =
    Kernel::new("resize_f32_f32__scalar", OpCode::Resize, Some(DType::F32), Some(DType::F32), run_f32)
        .checked(check);

/// int8, nearest: codes are copied. Shapes as [`KERNEL`].
pub const KERNEL_Q: Kernel =
    Kernel::new("resize_qs8_qs8__scalar", OpCode::Resize, Some(DType::I8), Some(DType::I8), run_q)
        .checked(check_nearest);

/// [`ResizeAttrs::mode`]: the nearest input element.
pub const NEAREST: u32 = 0;
/// [`ResizeAttrs::mode`]: linear along each axis.
pub const LINEAR: u32 = 1;

fn check(step: &Step<'_>) -> Result<(), KernelError> {
    check::operands(step, 1, 1)?;
    check_attrs(step)?;
    check::require(step, Images::new(step.input(0)?.shape, step.output(0)?.shape).is_some())
}

/// Checks the attributes of a step that resizes.
pub(crate) fn check_attrs(step: &Step<'_>) -> Result<(), KernelError> {
    let attrs: &ResizeAttrs = step.attrs()?;
    let finite = |v: &[f32; 2]| v.iter().all(|v| v.is_finite());
    let numbers = [&attrs.before, &attrs.numerator, &attrs.denominator, &attrs.after].into_iter().all(finite);
    let nonzero = attrs.denominator.iter().all(|&d| d != 0.0);
    check::require(step, attrs.mode <= LINEAR && attrs.rounding <= CEILING && numbers && nonzero)
}

fn check_nearest(step: &Step<'_>) -> Result<(), KernelError> {
    check::require(step, step.attrs::<ResizeAttrs>()?.mode == NEAREST)?;
    check(step)
}

fn run_f32(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input, images) = operands::<f32>(call)?;
    let out = call.slice_mut(0)?;
    match attrs.mode {
        LINEAR => images.resize(attrs, input, out, |[a, b, c, d], [y, x], out| {
            let corners = a.iter().zip(b).zip(c.iter().zip(d));
            for (o, ((a, b), (c, d))) in out.iter_mut().zip(corners) {
                let (top, bottom) = (a * (1.0 - x) + b * x, c * (1.0 - x) + d * x);
                *o = top * (1.0 - y) + bottom * y;
            }
        }),
        _ => images.resize(attrs, input, out, nearest),
    }
    Ok(())
}

fn run_q(call: &mut Call<'_, '_>) -> Result<(), KernelError> {
    let (attrs, input, images) = operands::<i8>(call)?;
    images.resize(attrs, input, call.slice_mut(0)?, nearest);
    Ok(())
}

fn operands<'c, T: Element>(
    call: &mut Call<'c, '_>,
) -> Result<(&'c ResizeAttrs, &'c [T], Images), KernelError> {
    let out = call.output(0)?.shape();
    let images = Images::new(call.input(0)?.shape(), out).ok_or(call.operands())?;
    Ok((call.attrs()?, call.slice(0)?, images))
}

fn nearest<T: Copy>([pixel, ..]: [&[T]; 4], _: [f32; 2], out: &mut [T]) {
    for (y, x) in out.iter_mut().zip(pixel) {
        *y = *x;
    }
}

/// Input and output extents `[N, H, W, C]`.
pub(crate) struct Images {
    input: [usize; 4],
    output: [usize; 4],
}

impl Images {
    pub(crate) fn new(input: Shape, output: Shape) -> Option<Self> {
        let images = Self { input: input.nhwc()?, output: output.nhwc()? };
        let ([n, h, w, c], [on, _, _, oc]) = (images.input, images.output);
        (n == on && c == oc && h > 0 && w > 0).then_some(images)
    }

    /// Adds to `dx` what each output element's gradient gives to the four input elements around it.
    pub(crate) fn spread(&self, attrs: &ResizeAttrs, dy: &[f32], dx: &mut [f32]) {
        let ([_, h, w, c], [_, oh, ow, _]) = (self.input, self.output);
        let row = w.wrapping_mul(c);
        let mut pixels = Rows::new(dy, c);
        for image in dx.chunks_exact_mut(h.wrapping_mul(row).max(1)) {
            for (top, bottom, y_weight) in (0..oh).map(|y| neighbors(attrs, 0, y, h)) {
                for (left, right, x_weight) in (0..ow).map(|x| neighbors(attrs, 1, x, w)) {
                    let Some(dy) = pixels.next() else { return };
                    let columns = [(left, 1.0 - x_weight), (right, x_weight)];
                    let corners = [(top, 1.0 - y_weight), (bottom, y_weight)].into_iter();
                    let corners = corners.flat_map(|y| columns.map(|x| (y, x)));
                    for ((y, above), (x, beside)) in corners.filter(|((_, a), (_, b))| a * b != 0.0) {
                        let at = y.wrapping_mul(row).wrapping_add(x.wrapping_mul(c));
                        let Some(pixel) = image.get_mut(at..) else { continue };
                        pixel.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += above * beside * dy);
                    }
                }
            }
        }
    }

    /// Calls `pixel` with the four neighbors of each output position (top left,
    /// top right, bottom left, bottom right), the weights of the lower and the
    /// right ones, and the channels to fill.
    fn resize<T>(
        &self,
        attrs: &ResizeAttrs,
        input: &[T],
        out: &mut [T],
        mut pixel: impl FnMut([&[T]; 4], [f32; 2], &mut [T]),
    ) {
        let ([_, h, w, c], [_, oh, ow, _]) = (self.input, self.output);
        let row = w.wrapping_mul(c);
        let mut pixels = out.chunks_exact_mut(c.max(1));
        for image in input.chunks_exact(h.wrapping_mul(row).max(1)) {
            for (top, bottom, y_weight) in (0..oh).map(|y| neighbors(attrs, 0, y, h)) {
                let rows = [top, bottom].map(|y| image.get(y.wrapping_mul(row)..).unwrap_or(&[]));
                for (left, right, x_weight) in (0..ow).map(|x| neighbors(attrs, 1, x, w)) {
                    let [a, b] = rows.map(|row| {
                        let at = |x: usize| row.get(x.wrapping_mul(c)..).and_then(|p| p.get(..c));
                        [at(left).unwrap_or(&[]), at(right).unwrap_or(&[])]
                    });
                    let Some(out) = pixels.next() else { return };
                    pixel([a[0], a[1], b[0], b[1]], [y_weight, x_weight], out);
                }
            }
        }
    }
}

/// The two input positions around output position `index` along `axis`, and the weight of the second.
fn neighbors(attrs: &ResizeAttrs, axis: usize, index: usize, extent: usize) -> (usize, usize, f32) {
    let part = |values: &[f32; 2]| values.get(axis).copied().unwrap_or(0.0);
    let position = (index as f32 + part(&attrs.before)) * part(&attrs.numerator) / part(&attrs.denominator)
        + part(&attrs.after);
    let last = extent.saturating_sub(1);
    let position = clamp(position, 0.0, last as f32);
    let floor = libm::floorf(position);
    let fraction = position - floor;
    let first = (floor as usize).min(last);
    let second = first.saturating_add(1).min(last);
    if attrs.mode == LINEAR {
        return (first, second, fraction);
    }
    let up = match attrs.rounding {
        HALF_DOWN => fraction > 0.5,
        HALF_UP => fraction >= 0.5,
        FLOOR => false,
        _ => fraction > 0.0,
    };
    let chosen = if up { second } else { first };
    (chosen, chosen, 0.0)
}

/// [`ResizeAttrs::rounding`]: ties to the lower neighbor.
pub const HALF_DOWN: u32 = 0;
/// [`ResizeAttrs::rounding`]: ties to the upper neighbor.
pub const HALF_UP: u32 = 1;
/// [`ResizeAttrs::rounding`]: the lower neighbor.
pub const FLOOR: u32 = 2;
/// [`ResizeAttrs::rounding`]: the upper neighbor.
pub const CEILING: u32 = 3;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::test_case::{Random, Tensor, assert_close, indices, run};

    /// Half-pixel centers, asymmetric, aligned corners.
    fn transforms(input: [u32; 2], output: [u32; 2]) -> [ResizeAttrs; 3] {
        let scale = [0, 1].map(|i| output[i] as f32 / input[i] as f32);
        let base = ResizeAttrs {
            mode: LINEAR,
            rounding: HALF_DOWN,
            before: [0.0; 2],
            numerator: [1.0; 2],
            denominator: scale,
            after: [0.0; 2],
        };
        let corners = |n: [u32; 2]| n.map(|n| (n - 1).max(1) as f32);
        [
            ResizeAttrs { before: [0.5; 2], after: [-0.5; 2], ..base },
            base,
            ResizeAttrs { numerator: corners(input), denominator: corners(output), ..base },
        ]
    }

    fn position(attrs: &ResizeAttrs, axis: usize, index: usize, extent: usize) -> f64 {
        let p = (index as f64 + attrs.before[axis] as f64) * attrs.numerator[axis] as f64
            / attrs.denominator[axis] as f64
            + attrs.after[axis] as f64;
        p.clamp(0.0, extent as f64 - 1.0)
    }

    #[test]
    fn linear_agrees_with_naive() {
        let mut random = Random(71);
        for (input, output) in [([4u32, 5u32], [8u32, 10u32]), ([7, 3], [4, 9]), ([1, 6], [3, 1])] {
            let (h, w) = (input[0] as usize, input[1] as usize);
            let x = random.floats(2 * h * w * 3, -1.0, 1.0);
            for attrs in transforms(input, output) {
                let dims = [2, output[0], output[1], 3];
                let mut out = Tensor::zeros(DType::F32, &dims);
                let tensor = Tensor::new(&[2, input[0], input[1], 3], &x);
                run(&KERNEL, &attrs, &[&tensor], &mut [&mut out]).unwrap();
                let want: std::vec::Vec<f64> = indices(&dims)
                    .iter()
                    .map(|i| {
                        let (py, px) = (position(&attrs, 0, i[1], h), position(&attrs, 1, i[2], w));
                        let mut sum = 0.0;
                        for y in 0..h {
                            for xx in 0..w {
                                let weight = (1.0 - (py - y as f64).abs()).max(0.0)
                                    * (1.0 - (px - xx as f64).abs()).max(0.0);
                                sum += weight * x[((i[0] * h + y) * w + xx) * 3 + i[3]] as f64;
                            }
                        }
                        sum
                    })
                    .collect();
                assert_close(&out.values(), &want, 1e-5);
            }
        }
    }

    #[test]
    fn nearest_copies_the_chosen_element() {
        let codes: std::vec::Vec<i8> = (0..4).collect();
        let input = Tensor::new(&[1, 1, 4, 1], &codes);
        // Asymmetric, factor 2: positions 0, 0.5, 1, 1.5, so that every second one is a tie.
        let base = transforms([1, 4], [1, 8])[1];
        for (rounding, want) in [
            (HALF_DOWN, [0, 0, 1, 1, 2, 2, 3, 3]),
            (HALF_UP, [0, 1, 1, 2, 2, 3, 3, 3]),
            (FLOOR, [0, 0, 1, 1, 2, 2, 3, 3]),
            (CEILING, [0, 1, 1, 2, 2, 3, 3, 3]),
        ] {
            let attrs = ResizeAttrs { mode: NEAREST, rounding, ..base };
            let mut out = Tensor::zeros(DType::I8, &[1, 1, 8, 1]);
            run(&KERNEL_Q, &attrs, &[&input], &mut [&mut out]).unwrap();
            assert_eq!(out.values::<i8>(), want);
        }
    }

    #[test]
    fn hostile_numbers() {
        let input = Tensor::zeros(DType::F32, &[1, 2, 2, 1]);
        let mut out = Tensor::zeros(DType::F32, &[1, 3, 3, 1]);
        let base = transforms([2, 2], [3, 3])[0];
        for bad in [
            ResizeAttrs { denominator: [0.0, 1.0], ..base },
            ResizeAttrs { before: [f32::NAN, 0.0], ..base },
            ResizeAttrs { mode: 2, ..base },
            ResizeAttrs { rounding: 4, ..base },
        ] {
            assert!(run(&KERNEL, &bad, &[&input], &mut [&mut out]).is_err());
            let _ = crate::test_case::run_unchecked(&KERNEL, &bad, &[&input], &mut [&mut out], 0);
        }
        let huge = ResizeAttrs { numerator: [f32::MAX; 2], before: [f32::MIN; 2], ..base };
        run(&KERNEL, &huge, &[&input], &mut [&mut out]).unwrap();
        let empty = Tensor::zeros(DType::F32, &[1, 0, 2, 1]);
        assert!(run(&KERNEL, &base, &[&empty], &mut [&mut out]).is_err());
    }
}
