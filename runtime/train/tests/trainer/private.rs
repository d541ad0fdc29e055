//! Gradients that were made elsewhere, and a head that looked at no data.

use ingraft_kernel::Host;
use ingraft_plan::PlanView;
use ingraft_train::{Clip, Setup, TrainError, Trainer, Truth};

use crate::everything::Everything;
use crate::setup::{HEAD, setup};
use crate::tiny::{Aligned, DEPTH, MIX, Net, POINT, clips};

#[test]
fn a_step_on_gradients_set_is_one_on_those_accumulated() {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let sites = [POINT, DEPTH, MIX];
    let setup = Setup { clip_norm: None, ..setup(&Everything, &sites, HEAD) };
    let run = |set: bool| {
        let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
        trainer.standardize_as(0.25, 2.0);
        for (input, class) in clips(4) {
            trainer.accumulate(Clip::Inputs(&input), Truth::Class(class)).unwrap();
            if set {
                let own = trainer.gradients().to_vec();
                trainer.discard();
                assert!(trainer.gradients().iter().all(|g| *g == 0.0));
                assert_eq!(trainer.step(), Err(TrainError::NoGradients));
                trainer.set_gradients(&own).unwrap();
            }
            trainer.step().unwrap();
        }
        trainer.parameters().values().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn gradients_of_another_length_are_refused() {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(&Everything, &[MIX], HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    assert!(matches!(trainer.set_gradients(&[0.0]), Err(TrainError::Length { given: 1, .. })));
    assert_eq!(trainer.step(), Err(TrainError::NoGradients));
}

/// The head sees (x − mean) / std, and the folded one does the same on features as they are.
#[test]
fn a_head_is_standardized_by_what_is_stated() {
    let net = Net::new(11);
    let plan = net.plan();
    let plan = PlanView::new(plan.bytes()).unwrap();
    let setup = setup(&Everything, &[MIX], HEAD);
    let mut memory = Aligned::zeroed(Trainer::memory(&plan, &Host::SCALAR, &setup).unwrap().total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, memory.bytes_mut()).unwrap();
    trainer.standardize_as(0.5, 4.0);
    let head = trainer.head().unwrap();
    assert!(head.mean.iter().all(|mean| *mean == 0.5) && head.inverse_std.iter().all(|s| *s == 0.25));
    trainer.standardize_as(0.0, 0.0);
    assert!(trainer.head().unwrap().inverse_std.iter().all(|s| *s == 1.0));
}
