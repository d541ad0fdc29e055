//! Scores of a whole net, on the int8 network.

use ingraft_kernel::{Host, Sites};
use ingraft_method::{Full, Saliency, Score, build_on, in_kernel};
use ingraft_plan::PlanView;
use ingraft_train::{Clip, FrozenSite, LearningRate, Setup, Trainer, Truth};

use crate::setup::{HEAD, setup};
use crate::starts::{SITES, saliency};
use crate::tiny::{Aligned, DEPTH, FEATURES, INNER, INPUT, MIX, MIXED, Net, POINT, STEM, clips};

/// Σ over logits of a net of magnitudes on ones, the weight at `twice` (layer, channel, position) doubled, by the network's
/// own loops.
fn flow(net: &Net, head: &[f64], twice: Option<(u32, usize, usize)>) -> f64 {
    let run = |site: u32, dims: [usize; 3], x: &[f64]| {
        let layer = &net.layers[site as usize];
        let mut out = Vec::new();
        layer.for_each(dims, |_, channel, taps| {
            let term = |(position, at): &(usize, Option<usize>)| {
                let doubled = twice == Some((site, channel, *position));
                at.map(|at| layer.weight(channel, *position).abs() * x[at] * if doubled { 2.0 } else { 1.0 })
            };
            out.push(taps.iter().filter_map(term).sum::<f64>());
        });
        out
    };
    let stem = run(STEM, INPUT, &[1.0; 40]);
    let point = run(POINT, INNER, &stem);
    let depth = run(DEPTH, INNER, &point);
    let sum: Vec<f64> = point.iter().zip(&depth).map(|(a, b)| a + b).collect();
    let mixed = run(MIX, INNER, &sum);
    let pixels = (MIXED[0] * MIXED[1]) as f64;
    mixed.iter().enumerate().map(|(at, value)| head[at % FEATURES] * value / pixels).sum()
}

#[test]
fn synflow_is_what_a_net_of_magnitudes_gains_by_a_weight() {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let still = LearningRate { rate: 0.0, weight_decay: 0.0 };
    let setup = Setup { adapter: still, ..setup(&Full, &SITES, HEAD) };
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let clips = clips(5);
    clips.iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
    trainer.standardize();
    trainer.accumulate(Clip::Inputs(&clips[0].0), Truth::Class(clips[0].1)).unwrap();
    trainer.step().unwrap();
    let mut found = Saliency::new(&plan, &SITES, Score::SynFlow);
    for (clip, class) in &clips {
        assert!(found.measure(&mut trainer, Clip::Inputs(clip), Truth::Class(*class)).unwrap());
    }
    let head = trainer.head().unwrap();
    let magnitude = |feature: usize| {
        let column = head.weight.iter().skip(feature).step_by(FEATURES);
        column.map(|w| f64::from(w.abs())).sum::<f64>() * f64::from(head.inverse_std[feature])
    };
    let magnitudes: Vec<f64> = (0..FEATURES).map(magnitude).collect();
    let whole = flow(&net, &magnitudes, None);
    assert!(whole > 0.0);
    for index in SITES {
        let site = plan.site(index as usize).unwrap();
        let scores = found.scores(site.name).unwrap();
        assert_eq!(scores.len(), site.out * site.row());
        for (place, score) in scores.iter().enumerate() {
            let (channel, position) = (place / site.row(), in_kernel(&site, place % site.row()));
            // The sum is linear in every weight; the plan's scales are f32 quotients.
            let wanted = flow(&net, &magnitudes, Some((index, channel, position))) - whole;
            assert!((score - wanted).abs() < 1e-6 * whole, "{} {place}: {score} {wanted}", site.name);
        }
    }
}

#[test]
fn grasp_weighs_how_the_gradient_bends_and_leaves_the_trainer_as_it_was() {
    let measured = saliency(Score::Grasp);
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let mut signs = [0usize; 2];
    for index in SITES {
        let frozen = FrozenSite::new(&plan, index as usize).unwrap();
        let scores = measured.scores(frozen.desc.name).unwrap();
        for (place, score) in scores.iter().enumerate() {
            let weight =
                frozen.weight(place / frozen.desc.row(), in_kernel(&frozen.desc, place % frozen.desc.row()));
            assert!(score.is_finite() && (weight != 0.0 || *score == 0.0));
            signs[usize::from(*score > 0.0)] += 1;
        }
    }
    assert!(signs[0] > 0 && signs[1] > 0, "signed as published: {signs:?}");
    // The same again: no clip left anything behind in the trainer.
    let again = saliency(Score::Grasp);
    SITES.iter().for_each(|index| {
        let name = plan.site(*index as usize).unwrap().name;
        assert_eq!(measured.scores(name), again.scores(name));
    });
    assert_eq!(build_on("speft", &[("score", "grasp")], &measured).unwrap().name(), "speft");
    let other = build_on("speft", &[("score", "synflow")], &measured).unwrap_err();
    assert!(other.to_string().contains("chooses weights by synflow, but grasp was measured"), "{other}");
}
