//! Both parts of split weights against the weights, and against what 16 bits hold.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::{LANES, Remainders, STEPS, bytes, is_too_large, pack, parted, suits};
use crate::columns::{Columns, Layout, is_split};
use crate::patches::{STEP, Segments};

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

fn layout(count: usize, groups: usize, [segments, len]: [usize; 2]) -> Layout {
    let columns = Columns { count, lanes: LANES, widest: 2 };
    Layout { columns, groups, segments: Segments { count: segments, len, step: STEP }, blocks: true }
}

/// Packs and splits `weight`, of rows of windows with two columns, and puts it together again; how many remainders there are.
fn rebuild(layout: &Layout, weight: &[u8]) -> usize {
    assert!(suits(layout.segments));
    let rows = layout.columns.count * layout.groups;
    let row = layout.segments.row();
    // Room for any weights: a remainder for every vector.
    let vectors = layout.columns.vectors() * layout.groups;
    let mut packed =
        vec![0xa5; layout.bytes() + vectors * (4 + layout.segments.total_steps() * super::BYTES)];
    layout.pack(weight, &mut packed, |_| 0).expect("the room is the layout's");
    pack(layout, 2, weight, &mut packed).expect("there is room");
    assert!(is_split(&packed));
    let rest = Remainders::new(layout, &packed).expect("split");
    let (mut sums, mut count) = (vec![0i32; rows * row], 0);
    for group in 0..layout.groups {
        let (weights, _) = layout.group_of(&packed, group).expect("packed");
        for chunk in layout.columns.chunks() {
            let (weights, places) = (layout.chunk_of(weights, chunk).expect("packed"), layout.places(chunk));
            let first = group * layout.columns.count + chunk.first;
            for local in 0..chunk.count {
                let kept: Vec<u8> = (0..row).map(|index| weights[places.of(local, index)]).collect();
                assert!(kept.as_chunks::<STEP>().0.iter().all(|codes| !is_too_large(*codes)));
                let sums = &mut sums[(first + local) * row..][..row];
                sums.iter_mut().zip(kept).for_each(|(sum, code)| *sum += i32::from(code as i8));
            }
            let rest = rest.skip(group * layout.columns.vectors() + chunk.before);
            for n in 0..chunk.vectors {
                for remainder in rest.of(n) {
                    count += 1;
                    let place = remainder.place();
                    let segment = usize::from(place.line) * 2 + usize::from(place.column);
                    for lane in 0..LANES {
                        let codes = *remainder.0[lane * STEP..].first_chunk::<STEP>().expect("four");
                        let at = place.byte as usize + usize::from(remainder.0[STEPS + lane]) * STEP;
                        assert!(!is_too_large(codes) && at + STEP <= layout.segments.len);
                        let local = n * LANES + lane;
                        if local < chunk.count {
                            let sums =
                                &mut sums[(first + local) * row + segment * layout.segments.len + at..];
                            sums.iter_mut().zip(codes).for_each(|(sum, code)| *sum += i32::from(code as i8));
                        } else {
                            assert_eq!(codes, [0; STEP], "past the last channel");
                        }
                    }
                }
            }
        }
    }
    assert!(sums.iter().zip(weight).all(|(sum, code)| *sum == i32::from(*code as i8)));
    let wanted = bytes(layout, weight);
    let held = layout.columns.vectors() * layout.groups * 4 + count * super::BYTES;
    assert!(wanted == held || wanted == 0 && count > super::most(layout), "{wanted} {held}");
    count
}

fn random(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
    *state >> 8
}

#[test]
fn split_weights_are_the_weights() {
    let shapes = [(8, 1, [1, 32]), (21, 1, [1, 1100]), (5, 3, [1, 64]), (24, 1, [6, 36]), (3, 2, [4, 40])];
    for (case, (count, groups, segments)) in shapes.into_iter().enumerate() {
        let layout = layout(count, groups, segments);
        let codes = count * groups * layout.segments.row();
        let mut state = case as u32;
        for width in [1, 40, 80, 128] {
            let code = |_| (random(&mut state) as i32 % (2 * width) - width) as u8;
            let weight: Vec<u8> = (0..codes).map(code).collect();
            let found = rebuild(&layout, &weight);
            assert!(if width == 1 { found == 0 } else { width < 80 || found > 0 }, "{case}: {width}");
        }
        for code in [i8::MIN, i8::MAX, 64, -64] {
            let steps = layout.segments.total_steps() * layout.columns.vectors() * groups;
            let found = rebuild(&layout, &vec![code as u8; codes]);
            assert_eq!(found, if code.unsigned_abs() > 64 { steps } else { 0 });
        }
        let ends: Vec<u8> =
            (0..codes).map(|_| if random(&mut state) & 1 == 0 { 0x80 } else { 0x7f }).collect();
        rebuild(&layout, &ends);
    }
}

#[test]
fn weights_that_leave_too_much_are_not_split() {
    let layout = layout(16, 1, [1, 64]);
    let mut weight = vec![0u8; 16 * 64];
    assert_eq!(bytes(&layout, &weight), 2 * 4);
    weight[8] = 100;
    weight[9] = 29;
    assert_eq!(bytes(&layout, &weight), 2 * 4 + super::BYTES);
    assert_eq!(bytes(&layout, &[0x7f; 16 * 64]), 0);
    assert!(!suits(Segments { count: 1, len: 28, step: STEP }));
    assert!(!suits(Segments { count: 1, len: 34, step: STEP }));
    let mut packed = vec![0; layout.bytes() + 2 * 4];
    layout.pack(&weight, &mut packed, |_| 0).expect("the room is the layout's");
    assert!(pack(&layout, 1, &weight, &mut packed).is_none(), "no room for one");
    assert!(!is_split(&packed));
}
