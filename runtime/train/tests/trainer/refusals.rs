//! What a trainer refuses, and what it says.

use ingraft_kernel::{Host, NO_SITE, SiteDesc};
use ingraft_plan::PlanView;
use ingraft_train::{
    Clip, LearningRate, Method, Readout, Setting, Setup, TermLayout, TrainError, Trainer, Truth, Unfit,
};

use crate::everything::{Everything, Nothing};
use crate::setup::{HEAD, setup};
use crate::tiny::{Aligned, CLASSIFIER, MIX, Net, PATCH, POINT, STEM};

/// Refuses every site.
#[derive(Debug)]
struct Picky;

impl Method for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn settings(&self, _: &mut dyn FnMut(&'static str, Setting)) {}

    fn layout(&self, _: &SiteDesc<'_>) -> Result<TermLayout, Unfit> {
        Err(Unfit::Rank { rank: 900, limit: 256 })
    }
}

fn refusal(setup: Setup<'_>) -> String {
    let plan = Net::new(1).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let memory = Trainer::memory(&plan, &Host::SCALAR, &setup).map_or(0, |memory| memory.total());
    let mut memory = Aligned::zeroed(memory);
    Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn setups_that_cannot_train_are_refused_by_name() {
    let head = |site, classes| Readout::Head { site, pool: 3, classes };
    let cases: [(&dyn Method, &[u32], Readout, &str); 9] = [
        (&Everything, &[9], HEAD, "there is no site 9"),
        (&Everything, &[MIX, POINT], HEAD, "site 1 is out of order"),
        (&Everything, &[POINT, POINT], HEAD, "site 1 is out of order"),
        (&Everything, &[STEM], HEAD, "site stem: not in the training schedule"),
        (&Everything, &[CLASSIFIER], HEAD, "site classifier: the loss does not depend on it"),
        (&Everything, &[POINT], head(STEM, 3), "has no gradient"),
        (&Picky, &[POINT], HEAD, "site point: rank 900 is not in 1..=256"),
        (&Nothing, &[POINT], head(NO_SITE, 5), "5 classes does not fit, 4 are reserved"),
        (&Nothing, &[POINT], Readout::Logits, "trains none of these sites"),
    ];
    for (method, sites, readout, want) in cases {
        let got = refusal(setup(method, sites, readout));
        assert!(got.contains(want), "{got}");
    }
    assert!(refusal(setup(&Nothing, &[], head(9, 3))).contains("no such tensor"));
    let plan = Net::new(1).inference_plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let refused = Trainer::memory(&plan, &Host::SCALAR, &setup(&Everything, &[POINT], HEAD)).unwrap_err();
    assert!(refused.to_string().contains("recompile with --train-from point"), "{refused}");
}

#[test]
fn clips_and_truths_that_do_not_fit_are_refused() {
    let plan = Net::new(1).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(&Everything, &[MIX], HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let whole = [1u8; 2 * PATCH];
    let unit = trainer.cut_bytes();
    for (clip, error) in [
        (Clip::Inputs(&whole[1..]), TrainError::Clip { unit: PATCH, given: 2 * PATCH - 1 }),
        (Clip::Inputs(&[]), TrainError::Clip { unit: PATCH, given: 0 }),
        (Clip::Prefixes(&whole[..3]), TrainError::Clip { unit, given: 3 }),
        // Stored features say nothing about layers that change.
        (Clip::Features(&[0.0; 6]), TrainError::Clip { unit, given: 0 }),
    ] {
        assert_eq!(trainer.accumulate(clip, Truth::Class(0)), Err(error));
    }
    let clip = Clip::Inputs(&whole);
    assert_eq!(trainer.accumulate(clip, Truth::Class(3)), Err(TrainError::Truth { logits: 3 }));
    assert_eq!(trainer.accumulate(clip, Truth::Values(&[0.0; 2])), Err(TrainError::Truth { logits: 3 }));
    assert_eq!(trainer.step(), Err(TrainError::NoGradients));
    assert_eq!(
        trainer.run_prefix(&whole[..PATCH], &mut [0; 7]),
        Err(TrainError::Length { needed: unit, given: 7 })
    );
    assert_eq!(
        trainer.restore(&[0.0]),
        Err(TrainError::Length { needed: 1, given: trainer.parameters().values().len() })
    );
    assert!(trainer.accumulate(clip, Truth::Class(2)).is_ok() && trainer.step().is_ok());
}

#[test]
fn diverging_gradients_move_nothing() {
    let plan = Net::new(1).plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let rate = LearningRate { rate: 0.1, weight_decay: 0.0 };
    let setup = Setup { adapter: rate, head: rate, ..setup(&Everything, &[MIX], HEAD) };
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    let mut values = trainer.parameters().values().to_vec();
    values[0] = f32::INFINITY;
    trainer.restore(&values).unwrap();
    trainer.accumulate(Clip::Inputs(&[9; PATCH]), Truth::Class(0)).unwrap();
    assert_eq!(trainer.step(), Err(TrainError::Diverged));
    assert_eq!(trainer.parameters().values(), values);
    assert_eq!(trainer.step(), Err(TrainError::NoGradients));
    assert!(trainer.gradients().iter().all(|g| *g == 0.0));
}
