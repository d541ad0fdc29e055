//! Losses and optimizers against PyTorch (`golden.py`).

use std::collections::BTreeMap;

use ingraft_train::{Group, GroupShape, Loss, Optimizer, Rate, Truth, optimizer};

const STEPS: u32 = 6;

/// The optimizers that PyTorch has.
const NAMES: [&str; 4] = ["adam", "adamw", "momentum", "sgd"];

/// Values by name.
struct Golden(BTreeMap<&'static str, Vec<f32>>);

impl Golden {
    fn new() -> Self {
        let lines = include_str!("golden/torch.csv").lines();
        Self(
            lines
                .map(|line| line.split_once(',').unwrap())
                .map(|(name, values)| (name, values.split(',').map(|v| v.parse().unwrap()).collect()))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> &[f32] {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    fn compare(&self, name: &str, got: &[f32], tolerance: f32) {
        let want = self.get(name);
        assert_eq!(got.len(), want.len(), "{name}");
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{name}: {got} {want}");
        }
    }
}

/// Parameters of one group with its state.
struct Trained {
    values: Vec<f32>,
    state: Vec<f32>,
    scale: f32,
}

impl Trained {
    fn new(values: &[f32], scale: f32, optimizer: &dyn Optimizer) -> Self {
        let words = optimizer.state_words(GroupShape::vector(values.len()));
        Self { values: values.to_vec(), state: vec![0.0; words], scale }
    }

    /// One step on gradients that are three times too large, as a sum over three clips is.
    fn step(&mut self, optimizer: &dyn Optimizer, gradient: &[f32], step: u32) {
        let rate = Rate {
            learning_rate: 0.05,
            weight_decay: 0.1,
            scale: self.scale,
            gradient: 1.0 / 3.0,
            step: step + 1,
        };
        let gradients: Vec<f32> = gradient.iter().map(|g| 3.0 * g).collect();
        let group = Group {
            shape: GroupShape::vector(gradients.len()),
            parameters: &mut self.values,
            gradients: &gradients,
            state: &mut self.state,
            workspace: &mut [],
            first: 0,
        };
        optimizer.update(&rate, group);
    }
}

#[test]
fn optimizers_take_the_same_steps() {
    let golden = Golden::new();
    for optimizer in NAMES.map(|name| optimizer(name).unwrap()) {
        let mut trained = Trained::new(golden.get("start"), 1.0, optimizer);
        for step in 0..STEPS {
            trained.step(optimizer, golden.get(&format!("gradient{step}")), step);
            golden.compare(&format!("{}{step}", optimizer.name()), &trained.values, 1e-6);
        }
    }
}

/// The effective factor s·B, moved in a group of scale s, goes where PyTorch's B goes, times s.
#[test]
fn scaled_factors_move_as_low_rank_factors_do() {
    let golden = Golden::new();
    let (weight, x, target) = (golden.get("lora.weight"), golden.get("lora.x"), golden.get("lora.target"));
    for optimizer in NAMES.map(|name| optimizer(name).unwrap()) {
        let mut down = Trained::new(golden.get("lora.a"), 1.0, optimizer);
        let mut up = Trained::new(&[0.0; 6], 4.0, optimizer);
        for step in 0..STEPS {
            let (down_grad, up_grad) = gradients(weight, &down.values, &up.values, x, target);
            down.step(optimizer, &down_grad, step);
            up.step(optimizer, &up_grad, step);
            golden.compare(&format!("lora.{}.down{step}", optimizer.name()), &down.values, 2e-5);
            golden.compare(&format!("lora.{}.up{step}", optimizer.name()), &up.values, 2e-5);
        }
    }
}

/// Gradients of the mean squared error of (W + up·down)·x: 3 outputs, 4 inputs, rank 2, 7 samples.
fn gradients(weight: &[f32], down: &[f32], up: &[f32], x: &[f32], target: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut down_grad, mut up_grad) = (vec![0.0; 8], vec![0.0; 6]);
    for n in 0..7 {
        let latent = |k: usize| (0..4).map(|i| down[k * 4 + i] * x[i * 7 + n]).sum::<f32>();
        for o in 0..3 {
            let side: f32 = (0..2).map(|k| up[o * 2 + k] * latent(k)).sum();
            let y = (0..4).map(|i| weight[o * 4 + i] * x[i * 7 + n]).sum::<f32>() + side;
            let slope = 2.0 * (y - target[o * 7 + n]) / 21.0;
            for k in 0..2 {
                up_grad[o * 2 + k] += slope * latent(k);
                for i in 0..4 {
                    down_grad[k * 4 + i] += slope * up[o * 2 + k] * x[i * 7 + n];
                }
            }
        }
    }
    (down_grad, up_grad)
}

#[test]
fn losses_have_the_same_values_and_gradients() {
    let golden = Golden::new();
    let (soft, marks) = (Truth::Values(golden.get("loss.soft")), Truth::Values(golden.get("loss.marks")));
    let cases = [
        ("hard", Loss::CrossEntropy { smoothing: 0.0 }, Truth::Class(2)),
        ("smooth", Loss::CrossEntropy { smoothing: 0.1 }, Truth::Class(2)),
        ("soft", Loss::CrossEntropy { smoothing: 0.1 }, soft),
        ("binary", Loss::BinaryCrossEntropy, marks),
        ("squared", Loss::MeanSquaredError, marks),
    ];
    for (name, loss, truth) in cases {
        let mut grad = [0.0f32; 4];
        let value = loss.evaluate(golden.get("loss.logits"), truth, &mut grad).unwrap();
        golden.compare(&format!("loss.{name}.value"), &[value], 1e-6);
        golden.compare(&format!("loss.{name}.grad"), &grad, 1e-6);
    }
}
