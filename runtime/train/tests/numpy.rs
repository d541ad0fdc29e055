//! Compact optimizer states and subspace optimizers against NumPy (`numpy_golden.py`).

use std::collections::BTreeMap;

use ingraft_train::{GaLore, Group, GroupShape, OPTIMIZERS, Optimizer, Rate, optimizer};

const STEPS: u32 = 6;

fn golden() -> BTreeMap<&'static str, Vec<f32>> {
    include_str!("golden/numpy.csv")
        .lines()
        .map(|line| line.split_once(',').unwrap())
        .map(|(name, values)| (name, values.split(',').map(|v| v.parse().unwrap()).collect()))
        .collect()
}

/// Parameters of one group with its state.
struct Trained {
    shape: GroupShape,
    values: Vec<f32>,
    decay: f32,
    state: Vec<f32>,
    workspace: Vec<f64>,
}

impl Trained {
    fn new(start: &[f32], shape: GroupShape, optimizer: &dyn Optimizer) -> Self {
        Self {
            shape,
            values: start.iter().map(|v| 4.0 * v).collect(),
            decay: 0.1,
            state: vec![0.0; optimizer.state_words(shape)],
            workspace: vec![f64::NAN; optimizer.workspace_words(shape).div_ceil(2)],
        }
    }

    /// One step on the gradient of the unscaled parameters, in pieces of `piece`.
    fn step(&mut self, optimizer: &dyn Optimizer, gradient: &[f32], step: u32, piece: usize) {
        // As a sum over three clips, of a parameter four times as small.
        let rate = Rate {
            learning_rate: 0.05,
            weight_decay: self.decay,
            scale: 4.0,
            gradient: 1.0 / 3.0,
            step: step + 1,
        };
        let gradients: Vec<f32> = gradient.iter().map(|g| 3.0 * g / 4.0).collect();
        for first in (0..self.values.len()).step_by(piece) {
            let range = first..(first + piece).min(self.values.len());
            let workspace = zerocopy::IntoBytes::as_mut_bytes(&mut self.workspace[..]);
            let group = Group {
                parameters: &mut self.values[range.clone()],
                gradients: &gradients[range],
                state: &mut self.state,
                workspace: ingraft_tensor::bytes::cast_mut(workspace).unwrap(),
                shape: self.shape,
                first,
            };
            optimizer.update(&rate, group);
        }
    }

    fn compare(&self, name: &str, want: &[f32], tolerance: f32) {
        assert_eq!(self.values.len(), want.len(), "{name}");
        for (index, (got, want)) in self.values.iter().zip(want).enumerate() {
            assert!((got / 4.0 - want).abs() <= tolerance, "{name} {index}: {} {want}", got / 4.0);
        }
    }
}

#[test]
fn compact_states_hold_what_their_formats_say() {
    let golden = golden();
    for name in ["adamw-bf16", "adamw-int8"] {
        let optimizer = optimizer(name).unwrap();
        let mut trained = Trained::new(&golden["compact.start"], GroupShape::vector(100), optimizer);
        for step in 0..STEPS {
            trained.step(optimizer, &golden[&*format!("compact.gradient{step}")], step, 4096);
            trained.compare(name, &golden[&*format!("{name}.{step}")], 2e-6);
        }
    }
}

#[test]
fn subspaces_are_those_of_singular_vectors() {
    let golden = golden();
    let cases = [
        ("galore.wide", [6, 9], 2, 0),
        ("galore.tall", [9, 6], 2, 0),
        ("natural.wide", [6, 9], 2, 2),
        ("natural.tall", [9, 6], 1, 4),
    ];
    for (name, [rows, columns], rank, history) in cases {
        let base = if history == 0 { GaLore::DEFAULT } else { GaLore::NATURAL };
        let optimizer = GaLore { rank, history, every: 3, ..base };
        let shape = GroupShape { rows, columns };
        let mut trained = Trained::new(&golden[&*format!("{name}.start")], shape, &optimizer);
        for step in 0..STEPS {
            trained.step(&optimizer, &golden[&*format!("{name}.gradient{step}")], step, 4096);
            trained.compare(name, &golden[&*format!("{name}.{step}")], 2e-5);
        }
    }
}

#[test]
fn pieces_move_as_the_whole_does() {
    let golden = golden();
    for optimizer in OPTIMIZERS.iter().filter(|optimizer| optimizer.is_divisible()) {
        let run = |piece: usize| {
            let mut trained = Trained::new(&golden["compact.start"], GroupShape::vector(100), *optimizer);
            for step in 0..STEPS {
                trained.step(*optimizer, &golden[&*format!("compact.gradient{step}")], step, piece);
            }
            trained.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(64), run(4096), "{}", optimizer.name());
    }
}

/// Moments that change by less than a step of their format still change on average: the state does not stand still.
#[test]
fn rounding_is_right_on_average() {
    for name in ["momentum-bf16", "momentum-int8"] {
        let optimizer = optimizer(name).unwrap();
        let mut trained = Trained::new(&[0.0; 64], GroupShape::vector(64), optimizer);
        trained.decay = 0.0;
        // A last value of another size keeps the scale of the block.
        let mut gradient = [0.013; 64];
        gradient[63] = 1.0;
        (0..200).for_each(|step| trained.step(optimizer, &gradient, step, 64));
        let before = trained.values.clone();
        (200..400).for_each(|step| trained.step(optimizer, &gradient, step, 64));
        let moves = trained.values[..63].iter().zip(&before).map(|(now, then)| f64::from(then - now) / 4.0);
        // v goes to g/(1 − μ).
        let velocity = moves.sum::<f64>() / (63.0 * 200.0) / 0.05;
        assert!((velocity - 0.13).abs() < 0.002, "{name}: {velocity}");
    }
}
