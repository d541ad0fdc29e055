//! In which order clips are seen.

use ingraft_dataset::Rng;

/// The clips of an epoch: those in `learned`, shuffled; or, balanced, as many, but every set of labels as often as any
/// other, give or take one: clips of small classes come again, and of large ones some wait for another epoch.
pub(super) fn draw(learned: &[usize], labels: &[Vec<usize>], balanced: bool, rng: &mut Rng) -> Vec<usize> {
    let mut order = learned.to_vec();
    rng.shuffle(&mut order);
    if !balanced {
        return order;
    }
    let kind = |clip: &usize| labels.get(*clip);
    // Stable: within a kind, as shuffled.
    order.sort_by(|a, b| kind(a).cmp(&kind(b)));
    let mut kinds: Vec<Vec<usize>> =
        order.chunk_by(|a, b| kind(a) == kind(b)).map(<[usize]>::to_vec).collect();
    // Which kinds get one more.
    rng.shuffle(&mut kinds);
    let rounds = learned.len().div_ceil(kinds.len().max(1));
    let mut even: Vec<usize> = (0..rounds)
        .flat_map(|round| kinds.iter().filter_map(move |clips| clips.get(round % clips.len()).copied()))
        .take(learned.len())
        .collect();
    rng.shuffle(&mut even);
    even
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_makes_kinds_equal_and_misses_none_for_long() {
        // Nine clips of class 0, two of class 1, one of both.
        let labels: Vec<Vec<usize>> = (0..12)
            .map(|clip| match clip {
                0..9 => vec![0],
                9..11 => vec![1],
                _ => vec![0, 1],
            })
            .collect();
        let learned: Vec<usize> = (0..12).collect();
        let mut rng = Rng::new(3);
        let mut seen = [0u32; 12];
        for _ in 0..50 {
            let mut plain = draw(&learned, &labels, false, &mut rng);
            plain.sort_unstable();
            assert_eq!(plain, learned);
            let even = draw(&learned, &labels, true, &mut rng);
            let of = |range: core::ops::Range<usize>| even.iter().filter(|clip| range.contains(clip)).count();
            assert_eq!([of(0..9), of(9..11), of(11..12)], [4; 3]);
            even.iter().for_each(|clip| seen[*clip] += 1);
        }
        assert!(seen[..9].iter().all(|count| (8..40).contains(count)), "{seen:?}");
        assert_eq!((seen[9], seen[10], seen[11]), (100, 100, 200));
        assert!(draw(&[], &labels, true, &mut rng).is_empty());
    }
}
