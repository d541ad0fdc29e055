//! From trained f32 terms to the integer terms of an int8 site.

use alloc::vec::Vec;

use ingraft_adapter::TermSpec;
use ingraft_kernel::Sparse;
use ingraft_tensor::round_half_even;
use ingraft_train::{FrozenSite, SiteScales};

/// An integer term and how far its delta is from the trained one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantized {
    pub(crate) term: TermSpec,
    /// ‖ΔW_int − ΔW‖ / ‖ΔW‖, Frobenius norms in real units; 0 when both are zero.
    pub(crate) error: f64,
}

/// Low-rank factors as int8 codes with int16 between them.
///
/// `down` rows are quantized symmetrically, a_k = max|A_k|/127. The kernel computes
/// `u_k = sat16(round(acc_k·down_scale_k))` with acc_k ≈ t_k/(sx·a_k), so
/// `down_scale_k = sx·a_k·(2¹⁴/peak_k)` puts the largest `|t_k|` measured on the
/// training clips at half of int16: a factor 2 in hand for clips not seen yet,
/// fourteen bits of resolution, saturation beyond. `up` then multiplies u, in
/// output steps: `B_ok·sx·a_k/(down_scale_k·sy)`, quantized per row with the
/// step `up_scale_o`.
///
/// # Shapes
/// As [`ingraft_kernel::TwoFactor`], of rank 1 and above; `peaks` is `[groups · rank]`. The error is that against
/// `wanted`, a whole delta, or against `up·down`.
pub(crate) fn factors(
    site: &FrozenSite<'_>,
    scales: &SiteScales<'_>,
    rank: usize,
    (down, up): (&[f32], &[f32]),
    peaks: &[f32],
    wanted: Option<&[f32]>,
) -> Quantized {
    let (row, per_group) = (site.desc.row().max(1), (site.desc.out / site.desc.groups.max(1)).max(1));
    let (down_codes, steps) = rows(down, row);
    let down_scale: Vec<f32> =
        steps.iter().zip(peaks).map(|(a, peak)| down_scale(scales.input * a, *peak)).collect();
    // What one step of u is worth, in output steps, for every entry of `up`.
    let worth = |at: usize| {
        let k = at / rank / per_group * rank + at % rank;
        let (step, scale) = (steps.get(k).copied().unwrap_or(0.0), down_scale.get(k).copied().unwrap_or(1.0));
        scales.input * step / (scale * scales.output)
    };
    let wide: Vec<f32> = up.iter().enumerate().map(|(at, b)| b * worth(at)).collect();
    let (up_codes, up_scale) = rows(&wide, rank);
    let down_real = reals(&down_codes, &steps, row);
    let mut up_real = reals(&up_codes, &up_scale, rank);
    for (at, b) in up_real.iter_mut().enumerate() {
        *b = if *b == 0.0 { 0.0 } else { *b / worth(at) };
    }
    let error = product_error(&site.desc, rank, (down, up), (&down_real, &up_real), wanted);
    let term = TermSpec::TwoFactorI8 { rank, down: down_codes, up: up_codes, down_scale, up_scale };
    Quantized { term, error }
}

/// The largest |A·x| of each row over all inputs that codes can say.
pub(crate) fn largest_sums(site: &FrozenSite<'_>, scales: &SiteScales<'_>, down: &[f32]) -> Vec<f32> {
    let zero = scales.input_zero_point;
    let reach = |end: i32| (end - zero).unsigned_abs() as f32;
    let largest = scales.input * reach(-128).max(reach(127));
    let rows = down.chunks(site.desc.row().max(1));
    rows.map(|row| row.iter().map(|a| a.abs()).sum::<f32>() * largest).collect()
}

/// Sparse deltas in steps of the base's weights, zero entries dropped; `None` when all round to zero.
///
/// `Δ = clamp(round(w + δ/s_w), −127, 127) − w`. A weight of −128 keeps that as its
/// lower limit, so that a delta of zero stays zero.
pub(crate) fn overlay(
    site: &FrozenSite<'_>,
    scales: &SiteScales<'_>,
    sparse: Sparse<'_>,
    values: &[f32],
) -> Option<Quantized> {
    let (mut indptr, mut indices, mut steps) = (Vec::from([0u32]), Vec::new(), Vec::new());
    let (mut error, mut total) = (0.0f64, 0.0f64);
    for (channel, ends) in sparse.indptr.windows(2).enumerate() {
        let scale = scales.weight(channel);
        let range = ends.first().map_or(0, |e| *e as usize)..ends.last().map_or(0, |e| *e as usize);
        let entries =
            sparse.indices.get(range.clone()).unwrap_or(&[]).iter().zip(values.get(range).unwrap_or(&[]));
        for (position, delta) in entries {
            let code = site.code(channel, *position as usize).unwrap_or(0);
            let step = integer_delta(code, delta / scale);
            error += square(f64::from(step) * f64::from(scale) - f64::from(*delta));
            total += square(f64::from(*delta));
            if step != 0 {
                indices.push(*position);
                steps.push(step);
            }
        }
        indptr.push(indices.len() as u32);
    }
    let term = TermSpec::SparseI16 { indptr, indices, values: steps };
    let empty = matches!(&term, TermSpec::SparseI16 { values, .. } if values.is_empty());
    (!empty).then(|| Quantized { term, error: relative(error, total) })
}

/// The whole weight `W + Δ` on scales of its own, and what they are of the base's where they differ.
///
/// A channel that does not fit ±127 steps of the base's scale, or whose sums would not fit 32 bits, gets a wider
/// scale; an affine term gives its factor back. All others keep the base's scale, so that weights that
/// were not moved keep their codes. The bias is carried over to the new scale, half to even.
pub(crate) fn fused(
    site: &FrozenSite<'_>,
    scales: &SiteScales<'_>,
    delta: &[f32],
) -> (Quantized, Option<TermSpec>) {
    let (out, row) = (site.desc.out, site.desc.row());
    let (mut weight, mut bias) = (alloc::vec![0i8; delta.len()], alloc::vec![0i32; out]);
    let mut factors = alloc::vec![1.0f32; out];
    let (mut error, mut total) = (0.0, 0.0);
    for channel in 0..out {
        let step = scales.weight(channel);
        let delta = |position: usize| delta.get(site.offset(channel, position)).copied().unwrap_or(0.0);
        let code = |position: usize| f32::from(site.code(channel, position).unwrap_or(0));
        let steps = |position: usize| code(position) + delta(position) / step;
        let fit = Channel::fit(row, steps, base_bias(site, scales, channel), scales.input_zero_point);
        for (position, fitted) in fit.codes.iter().enumerate() {
            let moved = f64::from(*fitted) * f64::from(fit.factor) - f64::from(code(position));
            let delta = f64::from(delta(position));
            error += square(moved * f64::from(step) - delta);
            total += square(delta);
            if let Some(to) = weight.get_mut(site.offset(channel, position)) {
                *to = *fitted;
            }
        }
        if let (Some(to), Some(factor)) = (bias.get_mut(channel), factors.get_mut(channel)) {
            (*to, *factor) = (fit.bias, fit.factor);
        }
    }
    let widened = factors.iter().any(|factor| *factor != 1.0);
    let affine = widened.then(|| TermSpec::Affine { scale: factors, shift: alloc::vec![0.0; out] });
    let term = TermSpec::FusedI8 { weight, bias };
    (Quantized { term, error: relative(error, total) }, affine)
}

/// The bias of `channel` without the input zero point, in steps of the accumulator.
fn base_bias(site: &FrozenSite<'_>, scales: &SiteScales<'_>, channel: usize) -> i64 {
    let codes = (0..site.desc.row()).filter_map(|position| site.code(channel, position));
    let sum: i64 = codes.map(i64::from).sum();
    i64::from(site.bias(channel).unwrap_or(0)) + i64::from(scales.input_zero_point) * sum
}

/// One channel of a fused weight.
struct Channel {
    codes: Vec<i8>,
    bias: i32,
    /// Its scale, in the base's.
    factor: f32,
}

impl Channel {
    /// The narrowest of the base's scale, the one that holds the longest of `steps`, and doublings of that
    /// in which all sums hold.
    fn fit(row: usize, steps: impl Fn(usize) -> f32, bias: i64, zero_point: i32) -> Self {
        // A base weight of -128 that was not moved keeps its code and is no reason to widen.
        let size = |at| if steps(at) == -128.0 { 0.0 } else { steps(at).abs() };
        let largest = (0..row).fold(0.0f32, |largest, at| largest.max(size(at)));
        let mut factor = if largest > 127.0 { largest / 127.0 } else { 1.0 };
        loop {
            let lowest = |at| if factor == 1.0 { steps(at).clamp(-128.0, -127.0) } else { -127.0 };
            let code = |at| round_half_even((steps(at) / factor).clamp(lowest(at), 127.0)) as i8;
            let codes: Vec<i8> = (0..row).map(code).collect();
            let sum: i64 = codes.iter().map(|code| i64::from(*code)).sum();
            let magnitude: i64 = codes.iter().map(|code| i64::from(code.unsigned_abs())).sum();
            let carried = libm::rint(bias as f64 / f64::from(factor)) as i64;
            let folded = carried.saturating_sub(i64::from(zero_point) * sum);
            if folded.saturating_abs().saturating_add(255 * magnitude) < 1 << 31 {
                return Self { codes, bias: folded as i32, factor };
            }
            factor *= 2.0;
        }
    }
}

fn integer_delta(code: i8, delta: f32) -> i16 {
    let lowest = code.min(-127);
    let moved = (f32::from(code) + delta).clamp(f32::from(lowest), 127.0);
    (round_half_even(moved) - i32::from(code)) as i16
}

/// `values` in rows of `len` as int8 codes, and the step of each row.
fn rows(values: &[f32], len: usize) -> (Vec<i8>, Vec<f32>) {
    let mut codes = Vec::with_capacity(values.len());
    let mut steps = Vec::new();
    for row in values.chunks(len.max(1)) {
        let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // A step below the smallest normal float would make its reciprocal infinite.
        let step = (largest / 127.0).max(f32::MIN_POSITIVE);
        codes.extend(row.iter().map(|v| round_half_even((v / step).clamp(-127.0, 127.0)) as i8));
        steps.push(step);
    }
    (codes, steps)
}

/// The values that `codes` in rows of `len` stand for.
fn reals(codes: &[i8], steps: &[f32], len: usize) -> Vec<f32> {
    let rows = codes.chunks(len.max(1)).zip(steps);
    rows.flat_map(|(row, step)| row.iter().map(move |code| f32::from(*code) * step)).collect()
}

/// The scale that puts `peak` at [`PEAK_CODE`], where one step of the accumulator is worth `unit`.
fn down_scale(unit: f32, peak: f32) -> f32 {
    let scale = unit * (PEAK_CODE / peak);
    // A row that never fired has no range to keep, and any scale will do.
    if peak > 0.0 && scale.is_normal() { scale } else { 1.0 }
}

/// The most that the rank-space values of `down` can be on an int8 input, `[groups · rank]`: for factors that no clips
/// were run through.
pub(crate) fn peak_bounds(site: &FrozenSite<'_>, scales: &SiteScales<'_>, down: &[f32]) -> Vec<f32> {
    let furthest =
        scales.input_zero_point.saturating_sub(-128).max(127i32.saturating_sub(scales.input_zero_point));
    let largest = scales.input * furthest as f32;
    down.chunks(site.desc.row().max(1))
        .map(|row| row.iter().map(|a| a.abs()).sum::<f32>() * largest)
        .collect()
}

/// Relative error of `up·down` of the second pair against `wanted`, or else against the first pair.
fn product_error(
    site: &ingraft_kernel::SiteDesc<'_>,
    rank: usize,
    (down, up): (&[f32], &[f32]),
    (down_q, up_q): (&[f32], &[f32]),
    wanted: Option<&[f32]>,
) -> f64 {
    let (row, per_group) = (site.row().max(1), (site.out / site.groups.max(1)).max(1));
    let (mut error, mut total) = (0.0f64, 0.0f64);
    let mut delta = alloc::vec![[0.0f64; 2]; row];
    for (channel, (b, b_q)) in up.chunks_exact(rank.max(1)).zip(up_q.chunks_exact(rank.max(1))).enumerate() {
        delta.fill([0.0; 2]);
        let first = channel / per_group * rank;
        let factors = down.chunks_exact(row).zip(down_q.chunks_exact(row)).skip(first);
        for ((b, b_q), (a, a_q)) in b.iter().zip(b_q).zip(factors) {
            for (d, (a, a_q)) in delta.iter_mut().zip(a.iter().zip(a_q)) {
                *d = [d[0] + f64::from(b * a), d[1] + f64::from(b_q * a_q)];
            }
        }
        if let Some(wanted) = wanted {
            let wanted = wanted.get(channel * row..).unwrap_or(&[]);
            delta.iter_mut().zip(wanted).for_each(|(d, wanted)| d[0] = f64::from(*wanted));
        }
        for [want, got] in &delta {
            error += square(got - want);
            total += square(*want);
        }
    }
    relative(error, total)
}

fn relative(error: f64, total: f64) -> f64 {
    if error == 0.0 { 0.0 } else { libm::sqrt(error / total) }
}

fn square(v: f64) -> f64 {
    v * v
}

/// Where the largest rank-space value of the training clips lies in int16.
const PEAK_CODE: f32 = 16384.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_delta_never_moves_a_weight() {
        assert!((i8::MIN..=i8::MAX).all(|code| integer_delta(code, 0.0) == 0));
        assert_eq!(integer_delta(-128, -5.0), 0);
        assert_eq!(integer_delta(-128, 1.0), 1);
        assert_eq!(integer_delta(-120, -50.0), -7);
        assert_eq!(integer_delta(100, 50.0), 27);
        assert_eq!(integer_delta(7, -0.5), -1);
        assert_eq!(integer_delta(6, 0.5), 0);
    }

    #[test]
    fn rows_use_the_whole_range() {
        let (codes, steps) = rows(&[0.5, -1.27, 0.0, 0.0], 2);
        assert_eq!(codes, [50, -127, 0, 0]);
        assert!((steps[0] - 0.01).abs() < 1e-9 && steps[1] > 0.0);
    }
}
