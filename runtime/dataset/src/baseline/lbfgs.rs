//! Limited-memory BFGS for smooth, strictly convex functions (Nocedal & Wright,
//! "Numerical Optimization", algorithms 7.4 and 7.5), with a backtracking line search.

use std::collections::VecDeque;

/// The minimizer of `objective`, which returns the value at a point and writes the gradient.
///
/// Stops when no gradient entry exceeds `tolerance`, when rounding leaves no
/// descent, or after `max_iterations`.
pub(super) fn minimize(
    start: Vec<f64>,
    objective: impl Fn(&[f64], &mut [f64]) -> f64,
    tolerance: f64,
    max_iterations: usize,
) -> Vec<f64> {
    let mut at = start;
    let mut gradient = vec![0.0; at.len()];
    let mut value = objective(&at, &mut gradient);
    let mut history: VecDeque<Pair> = VecDeque::with_capacity(HISTORY);
    let (mut next, mut next_gradient) = (at.clone(), gradient.clone());
    for _ in 0..max_iterations {
        if gradient.iter().all(|slope| slope.abs() <= tolerance) {
            break;
        }
        let direction = descent(&gradient, &history);
        let slope = dot(&gradient, &direction);
        let first =
            if history.is_empty() { 1.0 / libm::sqrt(dot(&gradient, &gradient)).max(1.0) } else { 1.0 };
        let mut steps = core::iter::successors(Some(first), |step| Some(step * 0.5)).take(BACKTRACKS);
        let try_step = |step: f64| {
            let moved = at.iter().zip(&direction).map(|(x, d)| x + step * d);
            next.iter_mut().zip(moved).for_each(|(to, from)| *to = from);
            let next_value = objective(&next, &mut next_gradient);
            (next_value <= value + SUFFICIENT_DECREASE * step * slope).then_some(next_value)
        };
        let Some(next_value) = steps.find_map(try_step) else { break };
        if let Some(pair) = Pair::between(&at, &next, &gradient, &next_gradient) {
            history.truncate(HISTORY - 1);
            history.push_front(pair);
        }
        core::mem::swap(&mut at, &mut next);
        core::mem::swap(&mut gradient, &mut next_gradient);
        value = next_value;
    }
    at
}

/// The dot product, in four fixed lanes so that it is both quick and the same everywhere.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0f64; 4];
    let (chunks_a, chunks_b) = (a.chunks_exact(4), b.chunks_exact(4));
    let tail: f64 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(x, y)| x * y).sum();
    for (chunk_a, chunk_b) in chunks_a.zip(chunks_b) {
        for ((lane, x), y) in lanes.iter_mut().zip(chunk_a).zip(chunk_b) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f64>() + tail
}

/// One step and the change of gradient along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// step·change, positive.
    curvature: f64,
}

impl Pair {
    fn between(from: &[f64], to: &[f64], gradient_from: &[f64], gradient_to: &[f64]) -> Option<Self> {
        let minus = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let (step, change) = (minus(to, from), minus(gradient_to, gradient_from));
        let curvature = dot(&step, &change);
        (curvature > f64::MIN_POSITIVE).then_some(Self { step, change, curvature })
    }
}

/// Minus the gradient times the inverse Hessian that `history`, latest first, implies (two-loop recursion).
fn descent(gradient: &[f64], history: &VecDeque<Pair>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let mut shares = Vec::with_capacity(history.len());
    for pair in history {
        let share = dot(&pair.step, &direction) / pair.curvature;
        direction.iter_mut().zip(&pair.change).for_each(|(d, y)| *d -= share * y);
        shares.push(share);
    }
    if let Some(latest) = history.front() {
        let scale = latest.curvature / dot(&latest.change, &latest.change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (pair, share) in history.iter().zip(shares).rev() {
        let correction = share - dot(&pair.change, &direction) / pair.curvature;
        direction.iter_mut().zip(&pair.step).for_each(|(d, s)| *d += correction * s);
    }
    direction
}

const HISTORY: usize = 10;
const BACKTRACKS: usize = 40;
const SUFFICIENT_DECREASE: f64 = 1e-4;
