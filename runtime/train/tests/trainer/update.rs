//! One step of the optimizer over all groups.

use ingraft_kernel::{Host, Sites};
use ingraft_plan::PlanView;
use ingraft_tensor::Rng;
use ingraft_train::{
    Clip, LearningRate, Method, Moves, Part, Schedule, ScheduleShape, Setup, Trainer, Truth, optimizer,
};

use crate::everything::Everything;
use crate::setup::{HEAD, setup};
use crate::tiny::{self, Aligned, DEPTH, MIX, Net};

const SITES: [u32; 2] = [DEPTH, MIX];

/// How a group moves: scale, rate, decay, soft threshold.
type Move = (f32, LearningRate, f32);

/// What the groups of the vector are: length, and how they move.
fn groups(plan: &PlanView<'_>, setup: &Setup<'_>) -> Vec<(usize, Move)> {
    let bare = |rate: LearningRate| LearningRate { weight_decay: 0.0, ..rate };
    let mut groups = vec![(18, (1.0, setup.head, 0.0)), (3, (1.0, bare(setup.head), 0.0))];
    for site in SITES {
        let desc = plan.site(site as usize).unwrap();
        let rank = if site == DEPTH { 0 } else { 2 };
        let (row, out) = (desc.row(), desc.out);
        let lengths = [desc.groups * rank * row, out * rank, 5, out * row, out, out];
        for (part, len) in Part::ALL.into_iter().zip(lengths) {
            let moves = Everything.rate(part);
            let ratio = if part == Part::Up { setup.moves.up_ratio } else { 1.0 };
            let rate = LearningRate { rate: setup.adapter.rate * ratio, ..setup.adapter };
            let threshold = setup.moves.soft_threshold;
            let how = if moves.decays { (rate, threshold) } else { (bare(rate), 0.0) };
            groups.push((len, (moves.scale, how.0, how.1)));
        }
    }
    groups
}

#[test]
fn a_step_descends_the_clipped_mean_gradient() {
    let plan = Net::new(11).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let cases = [
        (None, Moves::PLAIN),
        (Some(0.05), Moves::PLAIN),
        (None, Moves { up_ratio: 4.0, soft_threshold: 0.3 }),
    ];
    for (clip_norm, moves) in cases {
        let setup = Setup {
            optimizer: optimizer("sgd").unwrap(),
            adapter: LearningRate { rate: 0.5, weight_decay: 0.3 },
            head: LearningRate { rate: 0.7, weight_decay: 0.2 },
            schedule: Schedule { shape: ScheduleShape::Constant, warm_up: 4 },
            clip_norm,
            moves,
            ..setup(&Everything, &SITES, HEAD)
        };
        let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
        let mut rng = Rng::new(2);
        let start: Vec<f32> =
            trainer.parameters().values().iter().map(|v| v + rng.uniform(-0.1, 0.1) as f32).collect();
        trainer.restore(&start).unwrap();
        for class in 0..2 {
            trainer.accumulate(Clip::Inputs(&tiny::patch(&mut rng)), Truth::Class(class)).unwrap();
        }
        let gradients = trainer.gradients().to_vec();
        let norm = f64::from(trainer.step().unwrap());
        assert!(trainer.gradients().iter().all(|g| *g == 0.0) && trainer.steps() == 1);

        let scales: Vec<Move> =
            groups(&plan, &setup).into_iter().flat_map(|(len, how)| core::iter::repeat_n(how, len)).collect();
        assert_eq!(scales.len(), start.len());
        let unscaled = |i: usize| f64::from(gradients[i]) * f64::from(scales[i].0) / 2.0;
        let want = (0..start.len()).map(|i| unscaled(i).powi(2)).sum::<f64>().sqrt();
        assert!((norm / want - 1.0).abs() < 1e-5, "{norm} {want}");
        assert!(want > 0.05);
        let clip = clip_norm.map_or(1.0, |limit| f64::from(limit) / want);
        let mut zeros = 0;
        for (i, (scale, rate, threshold)) in scales.iter().enumerate() {
            let (scale, start) = (f64::from(*scale), f64::from(start[i]));
            let slope = unscaled(i) * clip + f64::from(rate.weight_decay) * start / scale;
            let moved = start - f64::from(rate.rate) / 4.0 * scale * slope;
            // Of the unscaled parameter, by the rate of this step.
            let reach = f64::from(rate.rate) / 4.0 * f64::from(*threshold) * scale.abs();
            let want = moved.signum() * (moved.abs() - reach).max(0.0);
            zeros += usize::from(want == 0.0);
            let got = f64::from(trainer.parameters().values()[i]);
            assert!((got - want).abs() < 1e-6, "{i}: {got} {want}");
            assert_eq!(got == 0.0, want == 0.0, "{i}: {got} {want}");
        }
        assert_eq!(zeros > 10, moves.soft_threshold != 0.0, "{zeros} of {}", scales.len());
    }
}
