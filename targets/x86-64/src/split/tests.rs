//! Both parts of split weights against the weights, and against what 16 bits hold.

extern crate std;

use std::vec;
use std::vec::Vec;

use ingraft_kernel::patch::{log_words, revert, write};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Sparse, SparseValues};
use ingraft_tensor::bytes::cast;

use super::overlay::SplitWeights;
use super::remainders::{Parts, STEPS};
use super::search::is_too_large;
use super::{LANES, Remainders, bytes, order, pack, parted, suits};
use crate::columns::{Columns, Layout, is_split};
use crate::patches::{Patches, STEP, Segments};
use crate::qconv::Writable;

/// Whether `vpmaddubsw` gives the products of these weights for all codes of 0…255.
fn fits(pair: [i8; 2]) -> bool {
    let ends = |code: i8| [0, 255 * i32::from(code)];
    let sums = ends(pair[0]).into_iter().flat_map(|first| ends(pair[1]).map(|second| first + second));
    sums.into_iter().all(|sum| i16::try_from(sum).is_ok())
}

fn pairs() -> impl Iterator<Item = [i8; 2]> {
    (i8::MIN..=i8::MAX).flat_map(|first| (i8::MIN..=i8::MAX).map(move |second| [first, second]))
}

#[test]
fn what_is_taken_as_it_is_fits() {
    for [a, b] in pairs() {
        assert!(is_too_large([a as u8, b as u8, 0, 0]) || fits([a, b]), "{a} {b}");
        assert_eq!(is_too_large([a as u8, b as u8, 0, 0]), is_too_large([0, 0, a as u8, b as u8]), "{a} {b}");
        assert_eq!(is_too_large([a as u8, b as u8, 0, 0]), (i32::from(a) + i32::from(b)).abs() > 128);
    }
}

#[test]
fn both_parts_fit_and_are_the_weights() {
    for [a, b] in pairs() {
        let mut codes = [a as u8, b as u8, b as u8, a as u8];
        let rest = parted(&mut codes);
        for (at, weights) in [(0, [a, b]), (2, [b, a])] {
            let [kept, rest] = [codes, rest].map(|part| [part[at] as i8, part[at + 1] as i8]);
            assert!(fits(kept) && fits(rest), "{a} {b}: {kept:?} {rest:?}");
            let sums = [0, 1].map(|i| i32::from(kept[i]) + i32::from(rest[i]));
            assert_eq!(sums, weights.map(i32::from));
        }
    }
}

/// A layer of windows of these extents below `top` lines of padding, copied in blocks where they are one segment and there is
/// none: its patches and its layout.
fn layer(count: usize, groups: usize, [top, lines, columns, len]: [usize; 4]) -> (Patches, Layout) {
    let shape = ConvShape {
        input: [1, lines, columns, len * groups],
        output: [1, 1, 1, count * groups],
        kernel: [lines, columns],
        stride: [1; 2],
        dilation: [1; 2],
        pad: [top, 0],
        groups,
        in_group: len,
        out_group: count,
    };
    let patches = Patches::new(&shape, 1, 1, true).expect("small");
    let columns = Columns { count, lanes: LANES, widest: 2 };
    (patches, Layout { columns, groups, segments: patches.segments, blocks: true })
}

/// Packs and splits `weight` where there is room for any, and compares; how many remainders there are.
fn multiply(layer: &(Patches, Layout), weight: &[u8], state: &mut u32) -> usize {
    let (patches, layout) = layer;
    assert!(suits(layout.segments));
    let all = layout.columns.vectors() * layout.groups * layout.segments.total_steps();
    let mut packed = vec![0xa5; layout.bytes() + Parts::bytes(layout, all)];
    layout.pack(weight, &mut packed, |_| 0).expect("the room is the layout's");
    pack(layout, patches, weight, &mut packed).expect("there is room");
    assert!(is_split(&packed));
    let count = compare(layer, &packed, weight, state);
    let (wanted, most) = (bytes(layout, weight), super::most(layout));
    assert!(wanted >= Parts::bytes(layout, count) || count > most, "{wanted} {count} {most}");
    assert!(patches.in_blocks() || wanted == 0 || count > most || wanted == Parts::bytes(layout, count));
    count
}

/// Multiplies split weights with random codes as a kernel does; how many remainders there are.
fn compare((patches, layout): &(Patches, Layout), packed: &[u8], weight: &[u8], state: &mut u32) -> usize {
    let Segments { len, .. } = layout.segments;
    let (row, steps) = (layout.segments.row(), layout.segments.steps());
    let rest = Remainders::new(layout, packed).expect("split");
    let mut count = 0;
    for group in 0..layout.groups {
        let codes: Vec<u8> = (0..patches.reach(1)).map(|_| random(state) as u8).collect();
        let mut ordered = codes.clone();
        for (block, order) in rest.orders(group, len).iter().enumerate() {
            for at in 0..order::BLOCK {
                let first = block * order::BLOCK;
                ordered[first + at] = codes[first + usize::from(order[at])] ^ order[order::BLOCK + at];
            }
        }
        let product = |place: usize, weights: &[u8]| -> i32 {
            assert!(!is_too_large(*weights.first_chunk().expect("four")));
            let pairs = weights.iter().zip(&ordered[place..]);
            pairs.map(|(w, x)| i32::from(*w as i8) * i32::from(*x)).sum()
        };
        let (weights, kept) = layout.group_of(packed, group).expect("packed");
        for chunk in layout.columns.chunks() {
            let (weights, places) = (layout.chunk_of(weights, chunk).expect("packed"), layout.places(chunk));
            let mut sums = kept[chunk.first..][..chunk.vectors * LANES].to_vec();
            for (local, sum) in sums.iter_mut().enumerate() {
                for step in 0..layout.segments.total_steps() {
                    let place = patches.place(step / steps, step % steps);
                    *sum += product(place, &weights[places.of(local, step * STEP)..][..STEP]);
                }
            }
            let rest = rest.skip(group * layout.columns.vectors() + chunk.before);
            for (n, sums) in sums.chunks_mut(LANES).enumerate() {
                for remainder in rest.of(n).chain(rest.more_of(n)) {
                    count += 1;
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        let place = remainder.place() + usize::from(remainder.0[STEPS + lane]) * STEP;
                        *sum += product(place, &remainder.0[lane * STEP..][..STEP]);
                    }
                }
            }
            let rows = weight.chunks_exact(row).skip(group * layout.columns.count + chunk.first);
            for (local, sum) in sums.into_iter().enumerate() {
                let Some(row) = rows.clone().nth(local).filter(|_| local < chunk.count) else {
                    assert_eq!(sum, 0, "past the last channel");
                    continue;
                };
                let at = |index: usize| patches.place(index / len, 0) + index % len;
                let products = row.iter().enumerate();
                let products = products.map(|(i, w)| i32::from(*w as i8) * i32::from(codes[at(i)]));
                assert_eq!(sum, products.sum::<i32>(), "{group} {local}");
            }
        }
    }
    count
}

fn random(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
    *state >> 8
}

#[test]
fn products_of_split_weights_are_those_of_the_weights() {
    let shapes = [
        (8, 1, [0, 1, 1, 64]),
        (8, 1, [1, 1, 1, 64]),
        (21, 1, [0, 1, 1, 1104]),
        (5, 3, [0, 1, 1, 64]),
        (9, 2, [0, 1, 1, 68]),
        (24, 1, [0, 6, 1, 36]),
        (3, 2, [0, 2, 2, 40]),
    ];
    for (case, (count, groups, extents)) in shapes.into_iter().enumerate() {
        let layer = layer(count, groups, extents);
        let layout = &layer.1;
        let row = layout.segments.row();
        let codes = count * groups * row;
        let mut state = case as u32;
        for width in [1, 40, 80, 128] {
            let weight: Vec<u8> =
                (0..codes).map(|_| (random(&mut state) as i32 % (2 * width) - width) as u8).collect();
            let found = multiply(&layer, &weight, &mut state);
            assert!(if width == 1 { found == 0 } else { width < 128 || found > 0 }, "{case}: {width}");
        }
        for code in [i8::MIN, i8::MAX, 64, -64] {
            let found = multiply(&layer, &vec![code as u8; codes], &mut state);
            // Mirrors leave nothing of weights with the same sign; −128 has none.
            let ordered = layer.0.in_blocks() && code != i8::MIN;
            let mirrored = if ordered { row / order::BLOCK * order::BLOCK } else { 0 };
            let left = (row - mirrored) / STEP * layout.columns.vectors() * groups;
            assert_eq!(found, if code.unsigned_abs() > 64 { left } else { 0 }, "{case}: {code}");
        }
        let ends: Vec<u8> =
            (0..codes).map(|_| if random(&mut state) & 1 == 0 { 0x80 } else { 0x7f }).collect();
        multiply(&layer, &ends, &mut state);
    }
}

#[test]
fn weights_that_leave_too_much_are_not_split() {
    let (patches, layout) = layer(16, 1, [0, 2, 1, 36]);
    assert!(!patches.in_blocks() && layer(16, 1, [0, 1, 1, 72]).0.in_blocks());
    let mut weight = vec![0u8; 16 * 72];
    assert_eq!(bytes(&layout, &weight), Parts::bytes(&layout, 0));
    weight[8] = 100;
    weight[9] = 29;
    assert_eq!(bytes(&layout, &weight), Parts::bytes(&layout, 1));
    assert_eq!(bytes(&layout, &[0x7f; 16 * 72]), 0);
    assert!(!suits(Segments { count: 4, len: 28, step: STEP }));
    assert!(!suits(Segments { count: 1, len: 66, step: STEP }));
    assert!(!suits(Segments { count: 1, len: 60, step: STEP }));
    assert!(suits(Segments { count: 2, len: 32, step: STEP }));
    let mut packed = vec![0; layout.bytes() + Parts::bytes(&layout, 0)];
    layout.pack(&weight, &mut packed, |_| 0).expect("the room is the layout's");
    assert!(pack(&layout, &patches, &weight, &mut packed).is_none(), "no room for one");
    assert!(!is_split(&packed));
}

/// Channels with large weights beside channels with small ones, and alike ones beside their mirror.
#[test]
fn another_order_leaves_fewer_pairs() {
    let layer = layer(64, 1, [0, 1, 1, 64]);
    let mut state = 1;
    let large = |index: usize| index % 4 < 2;
    let widths = |index: usize| if large(index % 64) { 120 } else { 8 };
    let weight: Vec<u8> =
        (0..64 * 64).map(|at| (random(&mut state) as i32 % (2 * widths(at)) - widths(at)) as u8).collect();
    assert_eq!(multiply(&layer, &weight, &mut state), 0);
    let alike: Vec<u8> = (0..64 * 64)
        .map(|at| {
            let sign = if at / 64 % 2 == 0 { 1 } else { -1 };
            (sign * (80 + random(&mut state) as i32 % 40)) as u8
        })
        .collect();
    assert_eq!(multiply(&layer, &alike, &mut state), 0);
}

fn split_weights<'w>(
    (patches, layout): &(Patches, Layout),
    plan: &'w [i8],
    packed: &'w mut [u8],
) -> SplitWeights<'w, Writable<'w>> {
    // Codes are moved by as much as this zero point: an overlay changes no sum.
    let writable = |head| Writable::new(*layout, head, -128);
    SplitWeights::new(*layout, *patches, plan, packed, writable).expect("split")
}

/// Overlays from a few entries to more than there is room for, with changes from small ones to any that leave a code.
#[test]
fn overlays_are_written_into_split_weights_and_taken_out() {
    let shapes =
        [(24, 1, [0, 1, 1, 128]), (9, 2, [0, 1, 1, 68]), (24, 1, [0, 6, 1, 36]), (41, 1, [0, 1, 1, 256])];
    let (mut refused, mut left) = (0, 0);
    for (case, (count, groups, extents)) in shapes.into_iter().enumerate() {
        let layer = layer(count, groups, extents);
        let (patches, layout) = &layer;
        let (row, rows, mut state) = (layout.segments.row(), count * groups, case as u32);
        let weight: Vec<u8> =
            (0..rows * row).map(|_| (random(&mut state) % 200) as u8).map(|w| w.wrapping_sub(100)).collect();
        let all = layout.columns.vectors() * layout.groups * layout.segments.total_steps();
        let mut packed = vec![0xa5; layout.bytes() + Parts::bytes(layout, all)];
        layout.pack(&weight, &mut packed, |_| 0).expect("the room is the layout's");
        pack(layout, patches, &weight, &mut packed).expect("there is room");
        let own = compare(&layer, &packed, &weight, &mut state);
        let base = packed.clone();
        let plan: &[i8] = cast(&weight).expect("bytes");
        for every in [2, 60, 400, 4000] {
            let (mut changed, mut bounds) = (weight.clone(), vec![0u32]);
            let (mut indices, mut values) = (Vec::new(), Vec::new());
            for channel in changed.chunks_exact_mut(row) {
                for (index, code) in channel.iter_mut().enumerate() {
                    if random(&mut state).is_multiple_of(every) {
                        let new = random(&mut state) as i8;
                        indices.push(index as u16);
                        values.push(i16::from(new) - i16::from(*code as i8));
                        *code = new as u8;
                    }
                }
                bounds.push(indices.len() as u32);
            }
            let overlay = Sparse { indptr: &bounds, indices: &indices, values: SparseValues::I16(&values) };
            let mut log = vec![0; log_words(&overlay)];
            let mut split = split_weights(&layer, plan, &mut packed);
            let written = write(&mut split, &overlay, Some(&mut log));
            if written.is_none() {
                assert!(split.lacks_room() && every < 4000, "{case}: {every}");
                split.clear();
                refused += 1;
            } else {
                split.finish();
                left += compare(&layer, &packed, &changed, &mut state) - own;
                let mut split = split_weights(&layer, plan, &mut packed);
                revert(&mut split, &log);
                split.clear();
            }
            assert!(packed == base, "{case}: {every}");
        }
        let overlay = Sparse { indptr: &[0, 1], indices: &[0], values: SparseValues::I16(&[300]) };
        let mut split = split_weights(&layer, plan, &mut packed);
        assert!(write(&mut split, &overlay, Some(&mut [0; 8])).is_none() && !split.lacks_room());
    }
    assert!((4..12).contains(&refused) && left > 0, "{refused} {left}");
}
