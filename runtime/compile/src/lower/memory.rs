//! Placing tensors in the arena by live range.

use std::collections::{BTreeMap, BTreeSet};

use ingraft_tensor::bytes::align_up;

use super::{Program, TensorRef};

/// First and last step at which a tensor's bytes matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRange {
    /// The tensor.
    pub tensor: TensorRef,
    /// Bytes, rounded up to the alignment.
    pub bytes: usize,
    /// First step.
    pub first: usize,
    /// Last step.
    pub last: usize,
}

impl LiveRange {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Offsets of every arena tensor, and how good they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Offset of every arena tensor that is no alias.
    pub offsets: BTreeMap<TensorRef, usize>,
    /// End of the highest tensor.
    pub arena_bytes: usize,
    /// Largest sum of simultaneously live tensors: no placement needs less.
    pub lower_bound_bytes: usize,
}

/// Live ranges of the arena tensors of `program`.
///
/// Model inputs are written before the first step and outputs read after the
/// last. A gradient nobody writes is seeded by the trainer at step `seeded_at`.
pub fn live_ranges(program: &Program, seeded_at: usize) -> Vec<LiveRange> {
    let mut ranges: BTreeMap<TensorRef, LiveRange> = BTreeMap::new();
    let mut touch = |tensor: TensorRef, step: usize| {
        let root = program.root(tensor);
        if program.in_arena(root) {
            let bytes = align_up(program.bytes(root));
            let range =
                ranges.entry(root).or_insert(LiveRange { tensor: root, bytes, first: step, last: step });
            (range.first, range.last) = (range.first.min(step), range.last.max(step));
        }
    };
    for (_, input) in &program.inputs {
        touch(*input, 0);
    }
    let mut written: BTreeSet<TensorRef> = BTreeSet::new();
    let given: Vec<TensorRef> = program.inputs.iter().map(|(_, t)| program.root(*t)).collect();
    for (index, step) in program.steps.iter().enumerate() {
        for tensor in &step.inputs {
            let root = program.root(*tensor);
            if !written.contains(&root) && !given.contains(&root) {
                touch(root, seeded_at.min(index));
            }
            touch(*tensor, index);
        }
        for tensor in &step.outputs {
            touch(*tensor, index);
            written.insert(program.root(*tensor));
        }
    }
    for (_, output) in &program.outputs {
        touch(*output, program.steps.len());
    }
    ranges.into_values().collect()
}

/// Places `ranges`, keeping the smallest of several greedy orders.
///
/// Largest-first is the order of TensorFlow Lite Micro's planner, so the result
/// never needs more than it would.
pub fn place(ranges: &[LiveRange]) -> MemoryPlan {
    place_around(ranges, &BTreeMap::new())
}

/// As [`place`], with the tensors in `fixed` at the offsets given there, where they do not overlap.
pub fn place_around(ranges: &[LiveRange], fixed: &BTreeMap<TensorRef, usize>) -> MemoryPlan {
    type Key = fn(&LiveRange) -> (usize, usize, usize);
    let orders: [Key; 4] = [
        |r| (usize::MAX - r.bytes, r.first, r.tensor.0),
        |r| (r.first, usize::MAX - r.bytes, r.tensor.0),
        |r| (usize::MAX - r.bytes.saturating_mul(r.last - r.first + 1), r.first, r.tensor.0),
        |r| (usize::MAX - r.last, usize::MAX - r.bytes, r.tensor.0),
    ];
    let plans = orders.iter().map(|order| {
        let mut sorted = ranges.to_vec();
        sorted.sort_by_key(|range| (!fixed.contains_key(&range.tensor), order(range)));
        greedy(&sorted, fixed)
    });
    let mut best = plans.min_by_key(|plan| plan.arena_bytes).unwrap_or_default();
    best.lower_bound_bytes = lower_bound(ranges);
    best
}

/// What placing largest tensors first needs, as TensorFlow Lite Micro does.
pub fn largest_first_bytes(ranges: &[LiveRange]) -> usize {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|r| (usize::MAX - r.bytes, r.first, r.tensor.0));
    greedy(&sorted, &BTreeMap::new()).arena_bytes
}

/// Puts each range where it is fixed, or into the lowest gap between those it is alive together with.
fn greedy(sorted: &[LiveRange], fixed: &BTreeMap<TensorRef, usize>) -> MemoryPlan {
    let mut placed: Vec<(LiveRange, usize)> = Vec::with_capacity(sorted.len());
    let mut plan = MemoryPlan::default();
    for range in sorted {
        let mut beside: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, _)| other.overlaps(range))
            .map(|(other, offset)| (*offset, offset + other.bytes))
            .collect();
        beside.sort_unstable();
        let offset = fixed.get(&range.tensor).copied().unwrap_or_else(|| lowest_gap(&beside, range.bytes));
        placed.push((*range, offset));
        plan.offsets.insert(range.tensor, offset);
        plan.arena_bytes = plan.arena_bytes.max(offset + range.bytes);
    }
    plan
}

/// The lowest offset from which `bytes` bytes are free between the spans `beside`, ascending by their start.
fn lowest_gap(beside: &[(usize, usize)], bytes: usize) -> usize {
    let mut offset = 0;
    for (start, end) in beside {
        if *start >= offset + bytes {
            break;
        }
        offset = offset.max(*end);
    }
    offset
}

fn lower_bound(ranges: &[LiveRange]) -> usize {
    let last = ranges.iter().map(|r| r.last).max().unwrap_or(0);
    let live =
        |step: usize| ranges.iter().filter(|r| r.first <= step && step <= r.last).map(|r| r.bytes).sum();
    (0..=last).map(live).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(tensor: usize, bytes: usize, first: usize, last: usize) -> LiveRange {
        LiveRange { tensor: TensorRef(tensor), bytes, first, last }
    }

    #[test]
    fn a_chain_needs_two_neighbours() {
        let ranges = [range(0, 64, 0, 1), range(1, 32, 1, 2), range(2, 48, 2, 3)];
        let plan = place(&ranges);
        assert_eq!((plan.arena_bytes, plan.lower_bound_bytes), (96, 96));
    }

    #[test]
    fn fixed_tensors_stay_and_others_go_around_them() {
        let ranges = [range(0, 32, 0, 2), range(1, 64, 0, 1), range(2, 32, 1, 2), range(3, 48, 2, 3)];
        let plan = place_around(&ranges, &BTreeMap::from([(TensorRef(0), 96), (TensorRef(1), 16)]));
        assert_eq!((plan.offsets[&TensorRef(0)], plan.offsets[&TensorRef(1)]), (96, 16));
        for (i, a) in ranges.iter().enumerate() {
            for b in &ranges[..i] {
                let (x, y) = (plan.offsets[&a.tensor], plan.offsets[&b.tensor]);
                assert!(!a.overlaps(b) || x + a.bytes <= y || y + b.bytes <= x, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn live_tensors_never_overlap() {
        let mut seed = 7u64;
        let mut next = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((seed >> 33) % n) as usize
        };
        for _ in 0..200 {
            let ranges: Vec<LiveRange> = (0..24)
                .map(|i| {
                    let first = next(20);
                    range(i, align_up(1 + next(5000)), first, first + next(6))
                })
                .collect();
            let plan = place(&ranges);
            assert!(plan.lower_bound_bytes <= plan.arena_bytes);
            assert!(plan.arena_bytes <= largest_first_bytes(&ranges));
            for (i, a) in ranges.iter().enumerate() {
                for b in &ranges[..i] {
                    let (x, y) = (plan.offsets[&a.tensor], plan.offsets[&b.tensor]);
                    assert!(!a.overlaps(b) || x + a.bytes <= y || y + b.bytes <= x, "{a:?} {b:?}");
                }
            }
        }
    }
}
