//! A target's own loop for the moves of an optimizer against the optimizer's: the same bits.

use ingraft::kernel::Target;
use ingraft::kernel::descent::Held;
use ingraft::tensor::Rng;
use ingraft::train::{Group, GroupShape, OPTIMIZERS, Optimizer, Rate};

#[test]
fn loops_of_targets_move_to_the_bits_of_the_optimizers() {
    let mut compared = 0;
    for target in super::targets() {
        let Some(descend) = target.descent() else { continue };
        for optimizer in OPTIMIZERS.iter().filter(|optimizer| optimizer.moves(&rate(1)).is_some()) {
            for len in [1, 7, 8, 9, 15, 16, 17, 33, 100] {
                let start = Moved::new(*optimizer, len);
                let (mut own, mut theirs) = (start.clone(), start);
                for step in 1..=3 {
                    own.by_optimizer(*optimizer, step);
                    let moves = optimizer.moves(&rate(step)).expect("it had moves for the first step");
                    let gradients = gradients(len, step);
                    descend(&moves, theirs.held(&gradients));
                    assert_eq!(
                        own,
                        theirs,
                        "{}, {}, {len} values, step {step}",
                        target.name(),
                        optimizer.name()
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 0 || cfg!(not(target_arch = "x86_64")), "no target has a loop of its own");
}

/// Parameters and what their rule keeps, compared by their bits.
#[derive(Clone, Debug)]
struct Moved {
    parameters: Vec<f32>,
    state: Vec<f32>,
}

impl PartialEq for Moved {
    fn eq(&self, other: &Self) -> bool {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        (bits(&self.parameters), bits(&self.state)) == (bits(&other.parameters), bits(&other.state))
    }
}

impl Moved {
    fn new(optimizer: &dyn Optimizer, len: usize) -> Self {
        let mut rng = Rng::new(len as u64);
        let state = vec![0.0; optimizer.state_words(GroupShape::vector(len))];
        Self { parameters: (0..len).map(|_| rng.symmetric(1.0)).collect(), state }
    }

    fn by_optimizer(&mut self, optimizer: &dyn Optimizer, step: u32) {
        let shape = GroupShape::vector(self.parameters.len());
        let gradients = gradients(shape.count(), step);
        let Self { parameters, state } = self;
        let group = Group { parameters, gradients: &gradients, state, workspace: &mut [], shape, first: 0 };
        optimizer.update(&rate(step), group);
    }

    fn held<'d>(&'d mut self, gradients: &'d [f32]) -> Held<'d> {
        let middle = self.parameters.len().min(self.state.len());
        let (one, two) = self.state.split_at_mut(middle);
        Held { parameters: &mut self.parameters, gradients, state: [one, two] }
    }
}

/// One in four is zero, as behind a ReLU.
fn gradients(len: usize, step: u32) -> Vec<f32> {
    let mut rng = Rng::stream(len as u64, u64::from(step));
    (0..len).map(|_| rng.symmetric(4.0)).map(|g: f32| if g.abs() < 1.0 { 0.0 } else { g }).collect()
}

/// With decay, clipping and a scale of the parameters.
fn rate(step: u32) -> Rate {
    Rate { learning_rate: 3e-3, weight_decay: 0.01, scale: 0.7, gradient: 0.13, step }
}
