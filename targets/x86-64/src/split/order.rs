//! The order in which codes are multiplied, so that fewer pairs of weights are too large.
//!
//! Where patches are copied, the codes within 32 bytes may stand in any order, and any of them may be mirrored: 255 less the
//! code, its weights negated, and 255 times their sum kept with what packing keeps of the row. Both cost a few operations for
//! 32 codes of the copy, which all channels read. Columns of large weights are paired with columns of small ones, and those
//! whose weights have the same signs with their mirror.

use super::LANES;
use super::search::vectors;
use crate::columns::Layout;
use crate::patches::STEP;
use crate::simd::Splitting;

/// Codes that are ordered among themselves. What is left behind the last whole block keeps its order.
pub(crate) const BLOCK: usize = 32;
/// Where each code of a block is taken from, what each is then combined with (exclusive or): 0, or 255 to mirror it, and where
/// each code goes, with [`MIRRORED`] where it is mirrored there.
pub(crate) type Order = [u8; 3 * BLOCK];

/// In the byte that says where a code goes.
pub(super) const MIRRORED: u8 = 0x80;

const PAIRS: usize = BLOCK / 2;
/// Most weight rows that an order is judged by, and how many of them are counted together: these counts fit a byte.
const JUDGED: usize = 1024;
const ROWS: usize = 128;

/// Bytes of the orders of `layout`; 0 where patches may not be copied in blocks.
pub(super) fn bytes(layout: &Layout) -> usize {
    let single = layout.segments.count == 1;
    if single { layout.groups * (layout.segments.len / BLOCK) * size_of::<Order>() } else { 0 }
}

/// Orders that change nothing: of a layer with padding, of which a band without it may be copied in blocks.
pub(super) fn keep(orders: &mut [u8]) {
    for order in orders.as_chunks_mut::<{ size_of::<Order>() }>().0 {
        *order = core::array::from_fn(|at| if at / BLOCK == 1 { 0 } else { (at % BLOCK) as u8 });
    }
}

/// Finds the order of every block of codes of every group, and brings weights that [`Layout::pack`] packed into it.
#[inline(always)]
pub(super) fn arrange<S: Splitting>(
    simd: S,
    layout: &Layout,
    weight: &[u8],
    packed: &mut [u8],
    orders: &mut [u8],
) -> Option<()> {
    let (orders, len) = (orders.as_chunks_mut().0, layout.segments.len);
    if orders.is_empty() {
        return Some(());
    }
    let blocks = len / BLOCK;
    let groups = weight.chunks_exact((layout.columns.count * len).max(1));
    let mut columns = [[0; JUDGED]; BLOCK];
    for (rows, orders) in groups.zip(orders.chunks_exact_mut(blocks)) {
        for (block, order) in orders.iter_mut().enumerate() {
            *order = find(rows, len, block * BLOCK, &mut columns)?;
        }
    }
    let (weights, sums) = layout.parts_mut(packed)?;
    for (vector, sums) in vectors(layout).zip(sums.chunks_exact_mut(LANES)) {
        let (start, pitch) = vector.place(layout);
        let orders = orders.get(vector.group * blocks..)?.get(..blocks)?;
        for (block, order) in orders.iter().enumerate() {
            let at = start + block * (BLOCK / STEP) * pitch;
            for (lane, sum) in sums.iter_mut().enumerate() {
                let steps = weights.get_mut(at + lane * STEP..)?;
                *sum = sum.wrapping_sub(bring(simd, steps, pitch, order)?.wrapping_mul(255));
            }
        }
    }
    Some(())
}

/// Brings a block of weights of a row, whose steps lie every `pitch` bytes, into its order; the sum of those that were negated,
/// as they are then.
#[inline(always)]
fn bring<S: Splitting>(simd: S, steps: &mut [u8], pitch: usize, order: &Order) -> Option<i32> {
    let mut codes = [0; BLOCK];
    for (step, codes) in codes.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
        *codes = *steps.get(step * pitch..)?.first_chunk()?;
    }
    simd.reorder(core::slice::from_ref(order), BLOCK, &mut codes);
    let mut sum = 0;
    for (code, mirrored) in codes.iter_mut().zip(order.iter().skip(BLOCK)) {
        *code = code.wrapping_sub(*mirrored);
        sum += i32::from((*code & mirrored) as i8);
    }
    for (step, codes) in codes.as_chunks::<STEP>().0.iter().enumerate() {
        *steps.get_mut(step * pitch..)?.first_chunk_mut()? = *codes;
    }
    Some(sum)
}

/// The columns of a block of weights, as many rows as are looked at, zero past the last.
type Columns = [[i8; JUDGED]; BLOCK];

/// The order of the columns from `at` on, of rows of `len` weights: each of those with the larger weights takes the one of
/// the others that fits best, the pairs that fit worst last.
#[inline(always)]
fn find(rows: &[u8], len: usize, at: usize, columns: &mut Columns) -> Option<Order> {
    let stride = (rows.len() / len).div_ceil(JUDGED).max(1);
    let (mut parts, mut negatable) = (0, [true; BLOCK]);
    // The rows that are judged by last; of all others only whether they can be negated.
    for first in (0..stride).rev() {
        let mut count = 0;
        for row in rows.chunks_exact(len).skip(first).step_by(stride) {
            for (column, code) in columns.iter_mut().zip(row.get(at..)?.first_chunk::<BLOCK>()?) {
                *column.get_mut(count)? = *code as i8;
            }
            count += 1;
        }
        parts = count.div_ceil(ROWS);
        for (column, negatable) in columns.iter_mut().zip(&mut negatable) {
            column.get_mut(count..parts * ROWS)?.fill(0);
            let least = column.get(..parts * ROWS)?.iter().fold(0, |least: i8, code| least.min(*code));
            // −128 has no negative among the codes.
            *negatable &= least > i8::MIN;
        }
    }
    let mut sizes = [(0, 0); BLOCK];
    for ((number, size), column) in sizes.iter_mut().enumerate().zip(columns.iter()) {
        let squares = column.get(..parts * ROWS)?.iter().map(|code| i32::from(*code) * i32::from(*code));
        *size = (squares.sum::<i32>(), number);
    }
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let (large, small) = sizes.split_at_mut(PAIRS);
    // Rows too large, and the columns; whether one is mirrored.
    let mut pairs = [(0, [0; 2], false); PAIRS];
    for (taken, (pair, (_, first))) in pairs.iter_mut().zip(large).enumerate() {
        let mut best = (u32::MAX, taken, false);
        for (place, (_, second)) in small.iter().enumerate().skip(taken) {
            let (one, other) = (columns.get(*first)?, columns.get(*second)?);
            let sums = too_large(one, other, parts, i8::saturating_add);
            let differences = too_large(one, other, parts, i8::saturating_sub);
            let mirrored = *negatable.get(*second)? && differences < sums;
            let cost = if mirrored { differences } else { sums };
            if cost < best.0 {
                best = (cost, place, mirrored);
            }
        }
        small.swap(taken, best.1);
        *pair = (best.0, [*first, small.get(taken)?.1], best.2);
    }
    pairs.sort_unstable_by_key(|(cost, ..)| *cost);
    let mut order = [0; 3 * BLOCK];
    let (from, rest) = order.split_at_mut(BLOCK);
    let (mirrors, to) = rest.split_at_mut(BLOCK);
    let places = from.as_chunks_mut::<2>().0.iter_mut().zip(mirrors.as_chunks_mut::<2>().0);
    for ((_, columns, mirrored), (from, mirrors)) in pairs.into_iter().zip(places) {
        *from = columns.map(|column| column as u8);
        *mirrors = [0, if mirrored { u8::MAX } else { 0 }];
    }
    for (place, (from, mirror)) in from.iter().zip(mirrors.iter()).enumerate() {
        *to.get_mut(usize::from(*from))? = place as u8 | mirror & MIRRORED;
    }
    Some(order)
}

/// Rows in which two weights, joined, leave int8: nearly those beyond ±128.
#[inline(always)]
fn too_large(one: &[i8; JUDGED], other: &[i8; JUDGED], parts: usize, join: impl Fn(i8, i8) -> i8) -> u32 {
    let parts = one.as_chunks::<ROWS>().0.iter().zip(other.as_chunks::<ROWS>().0).take(parts);
    let counts = parts.map(|(one, other)| {
        let ends = one.iter().zip(other).map(|(a, b)| u8::from((join(*a, *b) as u8).wrapping_add(0x81) < 2));
        u32::from(ends.fold(0u8, u8::wrapping_add))
    });
    counts.sum()
}
