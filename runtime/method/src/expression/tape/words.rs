//! Checks of single words on a tape.

use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::{SiteDesc, SiteKind};
use ingraft_tensor::{DType, Rng};
use ingraft_train::{FrozenSite, Latent, LatentGradients};

use super::super::{Node, Start};
use super::{Needs, Tape};

/// A site of one weight.
pub(crate) const SITE: SiteDesc<'static> = SiteDesc {
    name: "site",
    kind: SiteKind::Linear,
    dtype: DType::F32,
    out: 1,
    inputs: 1,
    kernel: [1, 1],
    groups: 1,
    transposed: false,
};

/// Says a word of two operands; the second is constant where it names places.
fn said<'t>(
    tape: &'t Tape<'t>,
    shapes: [(usize, usize); 2],
    places: usize,
    say: for<'n> fn(Node<'n>, Node<'n>) -> Node<'n>,
) -> Node<'t> {
    let [x, y] = shapes;
    let x = tape.parameter("x", x.0, x.1, Start::Uniform(1.0));
    let y = match places {
        0 => tape.parameter("y", y.0, y.1, Start::Uniform(1.0)),
        n => tape.constant("y", y.0, y.1, |values, rng| {
            values.iter_mut().for_each(|value| *value = rng.below(n) as f64);
        }),
    };
    say(x, y)
}

/// Compares the gradients of both operands with differences of the value.
pub(crate) fn check(
    name: &str,
    shapes: [(usize, usize); 2],
    places: usize,
    say: for<'n> fn(Node<'n>, Node<'n>) -> Node<'n>,
) {
    let tape = Tape::counting(SITE);
    said(&tape, shapes, places, say);
    let needs: Needs = tape.needs().unwrap_or_else(|| panic!("{name}: operands do not fit"));
    let (mut values, mut constants) = (vec![0.0f32; needs.decaying], vec![0.0; needs.constants]);
    let mut workspace = vec![f64::NAN; needs.values + needs.gradients];
    let weight = [0.5];
    let mut run = |values: &mut [f32], rng: Option<&mut Rng>, gradients: Option<&mut [f32]>| {
        let latent = Latent {
            decaying: values,
            steady: &mut [],
            constants: &mut constants,
            workspace: &mut workspace,
        };
        let site = FrozenSite::of_weight(SITE, &weight).unwrap();
        let tape = Tape::evaluating(site, latent, needs, rng).unwrap();
        let node = said(&tape, shapes, places, say);
        let mut sum = 0.0;
        tape.read(node, |i, value| sum += value * direction(i));
        if let Some(into) = gradients {
            tape.clear();
            tape.seed(node, direction);
            tape.backward(&mut LatentGradients { decaying: into, steady: &mut [] });
        }
        sum
    };
    run(&mut values, Some(&mut Rng::new(2)), None);
    // Values near which a step of 1/1024 stays exact.
    values.iter_mut().for_each(|v| *v = (*v * 4096.0).round() / 4096.0 + f32::copysign(0.03125, *v));
    let mut gradient = vec![0.0; values.len()];
    run(&mut values, None, Some(&mut gradient));
    let slopes: Vec<f64> = (0..values.len())
        .map(|index| {
            let mut at = |steps: f32| {
                let mut moved = values.clone();
                moved[index] += steps / 1024.0;
                run(&mut moved, None, None)
            };
            (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) * 1024.0 / 12.0
        })
        .collect();
    let largest = slopes.iter().fold(1e-3f64, |largest, slope| largest.max(slope.abs()));
    for (index, (found, slope)) in gradient.iter().zip(&slopes).enumerate() {
        assert!(
            (f64::from(*found) - slope).abs() <= 1e-6 * largest,
            "{name}: {index}: {found} is not {slope}"
        );
    }
}

/// Fixed numbers without a pattern.
fn direction(i: usize) -> f64 {
    libm::sin((1 + i * 7) as f64)
}
