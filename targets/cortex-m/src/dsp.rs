//! Inner loops on the DSP extension: two products of int16 an instruction.
//!
//! Rows of activations are widened once into pairs, four rows interleaved, so that one
//! pointer walks through all of them; each word of weights, read where it lies in flash, is widened in
//! registers and serves four rows.

use ingraft_kernel::window::ConvShape;
use ingraft_tensor::arrays::{arrays, arrays_mut};
use ingraft_tensor::bytes;

use crate::asm::{Quad, channels_by_four, even_codes, four_channels, four_rows, multiply_pairs, odd_codes};
use crate::isa::{Isa, Latents, RANK, ROWS, Sums};
use crate::patch::{Patches, buffer_bytes};
use crate::portable::Portable;
use crate::requantize::{Limits, Scaled};
use crate::taps::Taps;

/// The DSP extension of Armv7E-M and Armv8-M.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dsp;

/// Widened rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Quad after quad, of each the rows one after the other.
    quads: &'a [Quad],
    count: usize,
}

#[inline(always)]
fn widen(codes: [u8; 4]) -> Quad {
    let codes = u32::from_le_bytes(codes);
    [even_codes(codes), odd_codes(codes)]
}

/// The last codes of a row, filled up with zeros.
#[inline(always)]
fn widen_tail(codes: &[i8]) -> Quad {
    let half = |code: i8| u32::from(i16::from(code) as u16);
    match *codes {
        [a] => [half(a), 0],
        [a, b] => [half(a), half(b)],
        [a, b, c, ..] => [half(a) | half(c) << 16, half(b)],
        [] => [0; 2],
    }
}

/// Widens `codes` into every `rows`-th quad.
#[inline(always)]
fn spread(codes: &[i8], rows: usize, quads: &mut [Quad]) {
    let (whole, tail) = arrays::<_, 4>(codes);
    let mut slots = quads.iter_mut().step_by(rows.max(1));
    for (codes, slot) in whole.iter().zip(&mut slots) {
        *slot = widen(codes.map(|code| code as u8));
    }
    if let (false, Some(slot)) = (tail.is_empty(), slots.next()) {
        *slot = widen_tail(tail);
    }
}

/// `sums + Σ weight·row` of `P` rows.
#[inline(always)]
fn dots<const P: usize>(rows: &[[Quad; P]], weight: &[i8], mut sums: [i32; P]) -> [i32; P] {
    let (whole, tail) = arrays::<_, 4>(weight);
    let mut rows = rows.iter();
    let add = |sums: &mut [i32; P], [even, odd]: Quad, rows: &[Quad; P]| {
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = multiply_pairs(odd, row[1], multiply_pairs(even, row[0], *sum));
        }
    };
    for (codes, rows) in whole.iter().zip(&mut rows) {
        add(&mut sums, widen(codes.map(|code| code as u8)), rows);
    }
    if let (false, Some(rows)) = (tail.is_empty(), rows.next()) {
        add(&mut sums, widen_tail(tail), rows);
    }
    sums
}

/// `bias + Σ weight·row` of four rows.
#[inline(always)]
fn four_dots(rows: &[[Quad; ROWS]], weight: &[i8], bias: i32) -> [i32; ROWS] {
    let (eights, rest) = arrays::<_, 8>(weight);
    let Some(sums) = four_rows(rows, eights, bias) else { return dots(rows, weight, [bias; ROWS]) };
    if rest.is_empty() {
        return sums;
    }
    dots(rows.get(eights.len() * 2..).unwrap_or(&[]), rest, sums)
}

/// `sums[c] = bias[c] + Σ weights[c]·row` of one row: four channels at a time, which share what is loaded of it; what is over
/// eight codes, and over four channels, by itself.
#[inline(never)]
fn one_row(row: &[Quad], len: usize, weights: &[i8], bias: &[i32], sums: &mut [i32]) -> Option<()> {
    let sums = sums.get_mut(..bias.len())?;
    sums.copy_from_slice(bias);
    let (mut left, mut by_four) = (weights, 0);
    for sums in arrays_mut::<_, 4>(sums).0 {
        let (channels, others) = left.split_at_checked(len.checked_mul(4)?)?;
        let Some(whole) = four_channels(row, channels, len, *sums) else { break };
        (*sums, left) = (whole, others);
        by_four += 4;
    }
    let (quads, whole) = (arrays::<_, 1>(row).0, len - len % 8);
    let mut channels = weights;
    for (index, sum) in sums.iter_mut().enumerate() {
        let (channel, others) = channels.split_at_checked(len)?;
        channels = others;
        let first = if index < by_four { whole } else { 0 };
        if first != len {
            [*sum] = dots(quads.get(first / 4..)?, channel.get(first..)?, [*sum]);
        }
    }
    Some(())
}

/// `sums[row][c] = Σ rows[row]·up[c]` where a quad has the whole rows.
#[inline(always)]
fn one_quad<const R: usize>(
    rows: &[Quad; ROWS],
    up: &[[i8; R]],
    channels: usize,
    sums: &mut Sums,
    widen: impl Fn(&[i8; R]) -> Quad,
) -> Option<()> {
    let mut up = up.iter();
    let [a, b, c, d] = sums.each_mut().map(|sums| sums.iter_mut());
    for (((a, b), c), d) in a.zip(b).zip(c).zip(d).take(channels) {
        let [even, odd] = widen(up.next()?);
        let dot = |row: &Quad| multiply_pairs(odd, row[1], multiply_pairs(even, row[0], 0));
        [*a, *b, *c, *d] = rows.each_ref().map(dot);
    }
    Some(())
}

impl Isa for Dsp {
    type Rows<'a> = Rows<'a>;

    /// Three rows cost about what four do.
    fn rows(left: usize) -> usize {
        match left {
            ROWS.. => ROWS,
            3 => 3,
            _ => 1,
        }
    }

    fn bytes(shape: &ConvShape) -> usize {
        shape.row().div_ceil(4).saturating_mul(size_of::<Quad>() * ROWS)
    }

    #[inline]
    fn load<'a>(patches: &Patches<'a>, first: usize, count: usize, memory: &'a mut [u8]) -> Option<Rows<'a>> {
        let (quads, buffer) = memory.split_at_mut_checked(Self::bytes(patches.shape))?;
        let buffer = bytes::cast_mut(buffer.get_mut(..buffer_bytes(patches.shape))?)?;
        let quads: &mut [Quad] = bytes::cast_mut(quads)?;
        let together = if count == 1 { 1 } else { ROWS };
        for index in 0..count {
            spread(patches.get(first + index, buffer)?, together, quads.get_mut(index..)?);
        }
        Some(Rows { quads, count })
    }

    #[inline]
    fn multiply(rows: Rows<'_>, weights: &[i8], len: usize, bias: &[i32], sums: &mut Sums) -> Option<()> {
        if rows.count == 1 {
            let [sums, ..] = sums;
            return one_row(rows.quads, len, weights, bias, sums);
        }
        // Not in the `zip`: that divides by the length to know how many there are, and may panic for all the compiler sees.
        let mut weights = weights.chunks_exact(len.max(1));
        let quads = arrays::<_, ROWS>(rows.quads).0;
        let [a, b, c, d] = sums.each_mut().map(|sums| sums.iter_mut());
        for ((((a, b), c), d), bias) in a.zip(b).zip(c).zip(d).zip(bias) {
            [*a, *b, *c, *d] = four_dots(quads, weights.next()?, *bias);
        }
        Some(())
    }

    #[inline]
    fn apply(
        latents: &Latents,
        count: usize,
        rank: usize,
        up: &[i8],
        channels: usize,
        sums: &mut Sums,
    ) -> Option<()> {
        let mut quads = [[[0; 2]; ROWS]; RANK / 4];
        for (index, latent) in latents.iter().enumerate().take(count) {
            let latent: &[i16; RANK] = latent;
            for (quads, values) in quads.iter_mut().zip(arrays::<_, 4>(latent).0) {
                let [a, b, c, d] = values.map(|value| u32::from(value as u16));
                *quads.get_mut(index)? = [a | c << 16, b | d << 16];
            }
        }
        let [quad, ..] = &quads;
        match rank {
            2 => one_quad(quad, arrays(up).0, channels, sums, |up: &[i8; 2]| widen_tail(up)),
            4 => one_quad(quad, arrays(up).0, channels, sums, |up: &[i8; 4]| widen(up.map(|u| u as u8))),
            _ => {
                let mut up = up.chunks_exact(rank.max(1));
                let [a, b, c, d] = sums.each_mut().map(|sums| sums.iter_mut());
                for (((a, b), c), d) in a.zip(b).zip(c).zip(d).take(channels) {
                    [*a, *b, *c, *d] = dots(&quads, up.next()?, [0; ROWS]);
                }
                Some(())
            }
        }
    }

    #[inline(never)]
    fn depthwise(
        taps: &Taps<'_>,
        weights: &[i8],
        first: usize,
        bias: &[i32],
        sums: &mut [i32],
    ) -> Option<()> {
        let (quads, rest) = arrays::<_, 4>(bias);
        channels_by_four(taps, weights, first, quads, arrays_mut::<_, 4>(sums).0)?;
        let done = quads.len() * 4;
        Portable::channels(taps, weights, first + done, rest, sums.get_mut(done..)?)
    }

    #[inline]
    fn codes(terms: Scaled<'_>, low: Option<Scaled<'_>>, limits: &Limits, out: &mut [i8]) {
        limits.codes(terms, low, out);
    }
}
