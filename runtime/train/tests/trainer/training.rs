//! Training runs: the loss falls, and every way to run the same work gives the same bits.

use ingraft_adapter::TermSource;
use ingraft_kernel::Host;
use ingraft_plan::PlanView;
use ingraft_tensor::Rng;
use ingraft_train::{
    Clip, EarlyStop, Method, OPTIMIZERS, Readout, Setup, TrainError, Trainer, Truth, Verdict, optimizer,
};

use crate::everything::{Everything, Nothing};
use crate::setup::{HEAD, setup};
use crate::tiny::{Aligned, CUT, DEPTH, FEATURES, MIX, Net, PATCH, POINT, clips};

const SITES: [u32; 3] = [POINT, DEPTH, MIX];

/// How the clips are handed over.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Inputs,
    Prefixes,
    Features,
    /// As inputs, a few plan steps at a time.
    Sliced(usize),
}

/// Trains for `epochs` and gives the mean loss of each, and the parameters at the end.
fn train(setup: Setup<'_>, epochs: usize, form: Form) -> (Vec<f32>, Vec<f32>) {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let clips = clips(5);
    for (clip, _) in &clips {
        trainer.observe(Clip::Inputs(clip)).unwrap();
    }
    trainer.standardize();
    let prefixes: Vec<Vec<u8>> = clips
        .iter()
        .map(|(clip, _)| {
            let mut out = vec![0; clip.len() / PATCH * trainer.cut_bytes()];
            for (patch, out) in clip.chunks(PATCH).zip(out.chunks_mut(trainer.cut_bytes())) {
                trainer.run_prefix(patch, out).unwrap();
            }
            out
        })
        .collect();
    let features: Vec<Vec<f32>> = clips
        .iter()
        .map(|(clip, _)| {
            let mut out = vec![0.0; trainer.feature_count()];
            trainer.features(Clip::Inputs(clip), &mut out).unwrap();
            out
        })
        .collect();
    let mut losses = Vec::new();
    for _ in 0..epochs {
        let mut sum = 0.0;
        for (i, (input, class)) in clips.iter().enumerate() {
            let truth = Truth::Class(*class);
            sum += match form {
                Form::Inputs => trainer.accumulate(Clip::Inputs(input), truth).unwrap(),
                Form::Prefixes => trainer.accumulate(Clip::Prefixes(&prefixes[i]), truth).unwrap(),
                Form::Features => trainer.accumulate(Clip::Features(&features[i]), truth).unwrap(),
                Form::Sliced(budget) => loop {
                    if let Some(loss) = trainer.advance(Clip::Inputs(input), truth, budget).unwrap() {
                        break loss;
                    }
                    assert_eq!(trainer.logits(Clip::Inputs(input)), Err(TrainError::Busy));
                    assert_eq!(trainer.step(), Err(TrainError::Busy));
                },
            };
            if i % 6 == 5 {
                trainer.step().unwrap();
            }
        }
        losses.push(sum / clips.len() as f32);
    }
    (losses, trainer.parameters().values().to_vec())
}

fn bits(run: &(Vec<f32>, Vec<f32>)) -> Vec<u32> {
    run.0.iter().chain(&run.1).map(|v| v.to_bits()).collect()
}

#[test]
fn the_loss_falls_under_every_optimizer() {
    for optimizer in OPTIMIZERS {
        for (method, sites) in [(&Everything as &dyn Method, &SITES[..]), (&Nothing, &[])] {
            let setup = Setup { optimizer: *optimizer, ..setup(method, sites, HEAD) };
            let (losses, values) = train(setup, 25, Form::Prefixes);
            let (first, last) = (losses[0], losses[24]);
            assert!(last < 0.75 * first, "{} {}: {first} to {last}", optimizer.name(), method.name());
            assert!(values.iter().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn terms_alone_fit_the_models_own_logits() {
    let (losses, _) = train(setup(&Everything, &SITES, Readout::Logits), 25, Form::Prefixes);
    assert!(losses[24] < 0.75 * losses[0], "{losses:?}");
}

#[test]
fn runs_repeat_to_the_bit() {
    let setup = setup(&Everything, &SITES, HEAD);
    let once = train(setup, 4, Form::Inputs);
    assert_eq!(bits(&once), bits(&train(setup, 4, Form::Inputs)));
    assert_ne!(bits(&once), bits(&train(Setup { seed: 8, ..setup }, 4, Form::Inputs)));
}

#[test]
fn cached_prefixes_change_nothing() {
    let setup = setup(&Everything, &SITES, HEAD);
    assert_eq!(bits(&train(setup, 3, Form::Inputs)), bits(&train(setup, 3, Form::Prefixes)));
    let late = Setup { sites: &SITES[2..], ..setup };
    assert_eq!(bits(&train(late, 3, Form::Inputs)), bits(&train(late, 3, Form::Prefixes)));
}

#[test]
fn a_head_alone_trains_on_cached_features() {
    let setup = setup(&Nothing, &[], HEAD);
    let once = train(setup, 3, Form::Inputs);
    assert_eq!(bits(&once), bits(&train(setup, 3, Form::Features)));
    assert_eq!(bits(&once), bits(&train(setup, 3, Form::Prefixes)));
}

#[test]
fn a_head_trains_on_a_plan_without_a_training_schedule() {
    let setup = setup(&Nothing, &[], HEAD);
    let net = Net::new(11);
    let run = |plan: Aligned| {
        let plan = PlanView::new(plan.bytes()).unwrap();
        let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
        for (clip, class) in &clips(5) {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
            trainer.step().unwrap();
        }
        trainer.parameters().values().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(net.plan()), run(net.inference_plan()));
}

#[test]
fn interruption_changes_nothing() {
    let setup = setup(&Everything, &SITES, HEAD);
    let whole = train(setup, 2, Form::Inputs);
    for budget in [1, 2, 5, 1000] {
        assert_eq!(bits(&whole), bits(&train(setup, 2, Form::Sliced(budget))), "{budget}");
    }
}

#[test]
fn standardized_features_fold_into_the_head() {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(&Nothing, &[], HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let clips = clips(6);
    let mut features = vec![vec![0.0f32; FEATURES]; clips.len()];
    for ((clip, _), features) in clips.iter().zip(&mut features) {
        trainer.observe(Clip::Inputs(clip)).unwrap();
        trainer.features(Clip::Inputs(clip), features).unwrap();
    }
    trainer.standardize();
    let mut rng = Rng::new(1);
    let values: Vec<f32> = (0..21).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
    trainer.restore(&values).unwrap();
    let head = trainer.head().unwrap();
    for i in 0..FEATURES {
        let column: Vec<f64> = features.iter().map(|f| f64::from(f[i])).collect();
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / column.len() as f64;
        let inverse_std = if variance == 0.0 { 1.0 } else { 1.0 / variance.sqrt() };
        assert!((f64::from(head.mean[i]) - mean).abs() < 1e-5);
        assert!((f64::from(head.inverse_std[i]) / inverse_std - 1.0).abs() < 1e-4);
    }
    let (mut weight, mut bias) = (vec![0.0; 18], vec![0.0; 3]);
    head.fold(&mut weight, &mut bias).unwrap();
    for ((clip, _), features) in clips.iter().zip(&features) {
        let logits = trainer.logits(Clip::Inputs(clip)).unwrap();
        for (class, logit) in logits.iter().enumerate() {
            let row = weight[class * FEATURES..][..FEATURES].iter().zip(features);
            let folded = bias[class] + row.map(|(w, f)| w * f).sum::<f32>();
            assert!((folded - logit).abs() < 1e-4, "{folded} {logit}");
        }
    }
}

#[test]
fn evaluation_and_early_stopping_leave_parameters_alone() {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(&Everything, &SITES, HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    assert_eq!(trainer.cut_bytes(), CUT);
    let clips = clips(5);
    let (mut stop, mut best) = (EarlyStop::new(3), Vec::new());
    for _ in 0..60 {
        for (clip, class) in &clips[..12] {
            trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
        }
        trainer.step().unwrap();
        let before = trainer.parameters().values().to_vec();
        let held_out: f32 = clips[12..]
            .iter()
            .map(|(clip, class)| trainer.evaluate(Clip::Inputs(clip), Truth::Class(*class)).unwrap().loss)
            .sum();
        assert_eq!(before, trainer.parameters().values());
        match stop.observe(held_out) {
            Verdict::Best => best = before,
            Verdict::Wait => {}
            Verdict::Stop => break,
        }
    }
    trainer.restore(&best).unwrap();
    let right = clips[12..].iter().filter(|(clip, class)| {
        trainer.evaluate(Clip::Inputs(clip), Truth::Class(*class)).unwrap().class == *class
    });
    assert!(right.count() >= 5);
    assert!(trainer.parameters().terms(0).is_none() && !trainer.parameters().terms(1).is_none());
}

/// A run given up after some clips and bound anew goes on to the same bits, wherever it was cut.
#[test]
fn a_checkpoint_goes_on_to_the_same_bits() {
    let (net, clips) = (Net::new(11), clips(5));
    let file = net.plan();
    let plan = PlanView::new(file.bytes()).unwrap();
    for optimizer in OPTIMIZERS {
        let setup = Setup { optimizer: *optimizer, ..setup(&Everything, &SITES, HEAD) };
        let bytes = Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total();
        let run = |cut: Option<usize>| {
            let (mut first, mut second) = (Aligned::zeroed(bytes), Aligned::zeroed(bytes));
            let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, first.bytes_mut()).unwrap();
            clips.iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
            trainer.standardize();
            for (i, (clip, class)) in clips.iter().chain(&clips).enumerate() {
                if cut == Some(i) {
                    let mut saved = vec![0; trainer.checkpoint_bytes()];
                    trainer.save(&mut saved).unwrap();
                    trainer = Trainer::bind(plan, &Host::SCALAR, setup, second.bytes_mut()).unwrap();
                    trainer.resume(&saved).unwrap();
                }
                trainer.accumulate(Clip::Inputs(clip), Truth::Class(*class)).unwrap();
                if i % 4 == 3 {
                    trainer.step().unwrap();
                }
            }
            trainer.parameters().values().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let whole = run(None);
        for cut in [0, 1, 4, 7, 9] {
            assert_eq!(run(Some(cut)), whole, "{} cut at {cut}", optimizer.name());
        }
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let net = Net::new(11);
    let file = net.plan();
    let plan = PlanView::new(file.bytes()).unwrap();
    let one = setup(&Everything, &SITES, HEAD);
    let bytes = Trainer::memory(&plan, &Host::SCALAR, &one).unwrap().total();
    let mut memory = Aligned::zeroed(bytes);
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, one, memory.bytes_mut()).unwrap();
    let mut saved = vec![0; trainer.checkpoint_bytes()];
    assert!(matches!(trainer.save(&mut saved[1..]), Err(TrainError::Length { .. })));
    trainer.save(&mut saved).unwrap();
    let start: Vec<f32> = trainer.parameters().values().to_vec();
    for at in (0..saved.len()).step_by(7) {
        let mut damaged = saved.clone();
        damaged[at] ^= 0x40;
        assert_eq!(trainer.resume(&damaged), Err(TrainError::Damaged), "byte {at}");
        assert_eq!(trainer.resume(&saved[..at]), Err(TrainError::Damaged), "cut at {at}");
    }
    assert_eq!(trainer.parameters().values(), start);
    for other in [Setup { seed: one.seed + 1, ..one }, Setup { optimizer: optimizer("sgd").unwrap(), ..one }]
    {
        let mut memory = Aligned::zeroed(bytes);
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, other, memory.bytes_mut()).unwrap();
        assert_eq!(trainer.resume(&saved), Err(TrainError::OtherRun));
    }
}

/// The start is the nearest class mean over standardized features, computed here from the features alone.
#[test]
fn a_head_starts_at_the_nearest_class_mean() {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(&Everything, &SITES, HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let clips = clips(5);
    clips.iter().for_each(|(clip, _)| trainer.observe(Clip::Inputs(clip)).unwrap());
    trainer.standardize();
    assert_eq!(trainer.start_at_prototypes(1.0), Err(TrainError::Busy));
    assert_eq!(trainer.observe_class(Clip::Inputs(&clips[0].0), 3), Err(TrainError::Truth { logits: 3 }));
    let features: Vec<Vec<f64>> = clips
        .iter()
        .map(|(clip, _)| {
            let mut features = vec![0.0; FEATURES];
            trainer.features(Clip::Inputs(clip), &mut features).unwrap();
            let head = trainer.head().unwrap();
            let z = features.iter().zip(head.mean.iter().zip(head.inverse_std));
            z.map(|(f, (mean, inverse))| f64::from((f - mean) * inverse)).collect()
        })
        .collect();
    // Of class 2 there is no clip.
    for (clip, class) in clips.iter().filter(|(_, class)| *class != 2) {
        trainer.observe_class(Clip::Inputs(clip), *class).unwrap();
        assert_eq!(trainer.accumulate(Clip::Inputs(clip), Truth::Class(0)), Err(TrainError::Busy));
        assert_eq!(trainer.step(), Err(TrainError::Busy));
    }
    trainer.start_at_prototypes(0.25).unwrap();
    assert!(trainer.gradients().iter().all(|g| *g == 0.0));
    let mean = |class: usize| {
        let of: Vec<_> = (0..clips.len()).filter(|i| clips[*i].1 == class).collect();
        let mean = |f: usize| of.iter().map(|i| features[*i][f]).sum::<f64>() / of.len() as f64;
        (0..FEATURES).map(mean).collect::<Vec<_>>()
    };
    let means = [mean(0), mean(1)];
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let origin = [0.0; FEATURES];
    let furthest = means.iter().map(|mean| -0.125 * square(mean, &origin)).fold(0.0, f64::min);
    for ((clip, _), z) in clips.iter().zip(&features) {
        let near = means.each_ref().map(|mean| 0.125 * (square(z, &origin) - square(z, mean)));
        let logits = trainer.logits(Clip::Inputs(clip)).unwrap();
        for (got, want) in logits.iter().zip([near[0], near[1], furthest]) {
            assert!((f64::from(*got) - want).abs() < 1e-4, "{got} {want}");
        }
    }
    trainer.accumulate(Clip::Inputs(&clips[0].0), Truth::Class(0)).unwrap();
    assert_eq!(trainer.observe_class(Clip::Inputs(&clips[0].0), 0), Err(TrainError::Busy));
    trainer.step().unwrap();
    let bare = Setup { readout: Readout::Logits, ..setup };
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &bare).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, bare, memory.bytes_mut()).unwrap();
    assert_eq!(trainer.observe_class(Clip::Inputs(&clips[0].0), 0), Err(TrainError::NoHead));
}
