//! Which weights sparse methods choose.

use ingraft_adapter::TermSource;
use ingraft_kernel::{Host, Sites};
use ingraft_method::{Mask, MethodError, Score, Shira, build, build_on};
use ingraft_plan::PlanView;
use ingraft_train::{Method, Setup, Trainer, Unfit};

use crate::setup::{HEAD, setup};
use crate::starts::{SITES as ALL, saliency};
use crate::tiny::{Aligned, DEPTH, MIX, Net, POINT};

const SITES: [u32; 2] = [DEPTH, MIX];

/// The positions chosen at each site, as (channel, position in the row).
fn positions(method: &dyn Method, seed: u64) -> [Vec<(usize, usize)>; 2] {
    positions_at(method, seed, SITES)
}

fn positions_at(method: &dyn Method, seed: u64, sites: [u32; 2]) -> [Vec<(usize, usize)>; 2] {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = Setup { seed, ..setup(method, &sites, HEAD) };
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    sites.map(|site| {
        let sparse = trainer.fetched().terms(site as usize).sparse.unwrap();
        let desc = plan.site(site as usize).unwrap();
        assert_eq!((sparse.indptr.len(), sparse.indptr[0]), (desc.out + 1, 0));
        let rows = sparse.indptr.windows(2).map(|ends| &sparse.indices[ends[0] as usize..ends[1] as usize]);
        rows.enumerate()
            .flat_map(|(channel, row)| {
                assert!(row.is_sorted_by(|a, b| a < b) && row.iter().all(|i| (*i as usize) < desc.row()));
                row.iter().map(move |i| (channel, *i as usize))
            })
            .collect()
    })
}

#[test]
fn counts_are_exact_and_choices_seeded() {
    for mask in [Mask::Random, Mask::Magnitude] {
        let method = Shira { density: 0.3, mask };
        let [depth, mix] = positions(&method, 1);
        assert_eq!((depth.len(), mix.len()), (11, 32), "{}", mask.name());
        assert_eq!(positions(&method, 1), [depth.clone(), mix.clone()]);
        assert_eq!(positions(&method, 2) == [depth, mix], mask == Mask::Magnitude);
    }
    assert_eq!(positions(&Shira { density: 1e-9, mask: Mask::Random }, 1).map(|p| p.len()), [1, 1]);
    assert_eq!(positions(&Shira { density: 1.0, mask: Mask::Random }, 1).map(|p| p.len()), [36, 108]);
}

#[test]
fn random_weights_are_equally_likely() {
    let mut counts = [0usize; 36];
    for seed in 0..400 {
        let [depth, _] = positions(&Shira { density: 0.25, mask: Mask::Random }, seed);
        depth.iter().for_each(|(channel, position)| counts[channel * 9 + position] += 1);
    }
    // 100 expected, deviation 8.7.
    assert!(counts.iter().all(|c| (60..140).contains(c)), "{counts:?}");
}

#[test]
fn magnitude_takes_the_largest_real_weights() {
    let net = Net::new(11);
    for (site, chosen) in SITES.into_iter().zip(positions(&Shira { density: 0.3, mask: Mask::Magnitude }, 1))
    {
        let layer = &net.layers[site as usize];
        let all = (0..layer.out).flat_map(|c| (0..layer.row()).map(move |p| (c, p)));
        let mut sorted: Vec<_> = all.collect();
        // Stable, so that of equals the first in order wins.
        sorted.sort_by(|a, b| layer.weight(b.0, b.1).abs().total_cmp(&layer.weight(a.0, a.1).abs()));
        sorted.truncate(chosen.len());
        sorted.sort_unstable();
        assert_eq!(chosen, sorted);
    }
}

#[test]
fn rows_are_whole() {
    let [depth, mix] = positions(&Shira { density: 0.3, mask: Mask::Row }, 1);
    assert_eq!((depth.len(), mix.len()), (9, 2 * 18));
    for chosen in [depth, mix] {
        let row = if chosen.len() == 9 { 9 } else { 18 };
        for (i, (channel, position)) in chosen.iter().enumerate() {
            assert_eq!((*position, *channel), (i % row, chosen[i / row * row].0));
        }
    }
}

#[test]
fn layers_that_share_channels_train_the_same_ones() {
    let made =
        |kind, ratio, seed| build("s2ft", &[("kind", kind), ("ratio", ratio), ("seed", seed)]).unwrap();
    // All places of these channels.
    let whole = |of: &dyn Fn(usize, usize) -> usize, [out, row]: [usize; 2], chosen: &[usize]| {
        let all = (0..out).flat_map(move |channel| (0..row).map(move |position| (channel, position)));
        all.filter(|(channel, position)| chosen.contains(&of(*channel, *position))).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for (ratio, seed) in [("0.5", "0"), ("0.5", "1"), ("0.5", "2"), ("0.25", "3"), ("0.01", "4"), ("1", "5")]
    {
        // The pointwise layer writes what the depthwise one reads and writes; the trainer's seed says nothing.
        let [point, depth] = positions_at(&*made("up", ratio, seed), 1, [POINT, DEPTH]);
        let mut chosen: Vec<usize> = depth.iter().map(|(channel, _)| *channel).collect();
        chosen.dedup();
        let count = ((ratio.parse::<f64>().unwrap() * 4.0) as usize).max(1);
        assert_eq!(chosen.len(), count);
        let written = |channel, _| channel;
        assert_eq!(point, whole(&written, [4, 4], &chosen));
        assert_eq!(depth, whole(&written, [4, 9], &chosen));
        assert_eq!(positions_at(&*made("up", ratio, seed), 2, [POINT, DEPTH]), [point, depth.clone()]);
        // And the last, in two groups of two channels, reads the same, at every place of its kernel.
        let [again, mix] = positions_at(&*made("down", ratio, seed), 1, [DEPTH, MIX]);
        assert_eq!(again, depth);
        assert_eq!(mix, whole(&|channel, position| channel / 3 * 2 + position % 2, [6, 18], &chosen));
        found.push(chosen);
    }
    assert!(found[0] != found[1] || found[1] != found[2], "{found:?}");
}

#[test]
fn a_budget_over_all_sites_is_spent_exactly() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let saliency = saliency(Score::Gradient);
    let sites = ALL.map(|site| plan.site(site as usize).unwrap());
    let all: usize = sites.iter().map(|site| site.out * site.row()).sum();
    for (budget, wanted) in [("7", 7), ("40", 40), ("1", all), ("0.25", all / 4)] {
        let method = build_on("speft", &[("budget", budget), ("scope", "network")], &saliency).unwrap();
        let spent: u32 = sites.iter().map(|site| method.layout(site).unwrap().nnz).sum();
        assert_eq!(spent as usize, wanted);
    }
}

#[test]
fn what_was_not_measured_is_refused() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let settings = [("mask", "snip")];
    let unmeasured = build("shira", &settings).unwrap();
    assert_eq!(unmeasured.layout(&plan.site(MIX as usize).unwrap()), Err(Unfit::Unmeasured));
    let other = build_on("shira", &settings, &saliency(Score::Fisher));
    let wanted = MethodError::Measured { method: "shira".to_string(), wanted: "snip", measured: "fisher" };
    assert_eq!(other.unwrap_err(), wanted);
}
