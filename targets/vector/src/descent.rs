//! The moves of an optimizer, a vector of parameters at a time.
//!
//! # Numerics
//! The operations of [`ingraft_kernel::descent`] in their order, none fused: the bits of the optimizer's own loop.
//!
//! # Limit
//! Adam reads four vectors and writes three, 28 bytes a parameter: beyond the last cache it is bound by memory. Within, by a
//! root and two divisions of a vector.

use ingraft_kernel::descent::{Held, HostDescent, Move, Rule};

use crate::{Task, Vector};

/// The loop of an instruction set.
///
/// # Safety
/// It runs only where the instructions of `V` are.
pub const unsafe fn kernel<V: Vector>() -> HostDescent {
    |moves, held| {
        // SAFETY: whoever asks for the loop promises that it runs only where the instructions are.
        unsafe { V::assume() }.perform(Course { moves, held });
    }
}

/// All parameters of a group.
#[derive(Debug)]
struct Course<'c, 'd> {
    moves: &'c Move,
    held: Held<'d>,
}

impl<V: Vector> Task<V> for Course<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self, v: V) {
        let Self { moves, held: Held { parameters, gradients, state: [one, two] } } = self;
        let kept = match moves.rule {
            Rule::Descent => usize::MAX,
            Rule::Momentum { .. } => one.len(),
            Rule::Adam { .. } => one.len().min(two.len()),
        };
        let len = parameters.len().min(gradients.len()).min(kept);
        let scales = Scales::new(v, moves);
        let state = [one.as_mut_ptr(), two.as_mut_ptr()];
        for at in (0..len).step_by(V::LANES) {
            let part = v.part(V::LANES.min(len - at));
            // SAFETY: `at` and the lanes of `part` lie inside all vectors that the rule has.
            unsafe {
                let to = parameters.as_mut_ptr().add(at);
                let p = v.load_part(to, part);
                let g = scales.slope(v, v.load_part(gradients.as_ptr().add(at), part), p);
                let state = state.map(|slot| slot.wrapping_add(at));
                let moved = match moves.rule {
                    Rule::Descent => v.sub(p, v.mul(scales.reach, g)),
                    Rule::Momentum { momentum } => {
                        let speed = v.add(v.mul(v.splat(momentum), v.load_part(state[0], part)), g);
                        v.store_part(state[0], speed, part);
                        v.sub(p, v.mul(scales.reach, speed))
                    }
                    Rule::Adam { first, second, new_second, root_bias, epsilon } => {
                        let mean = v.load_part(state[0], part);
                        let mean = v.add(mean, v.mul(v.splat(first), v.sub(g, mean)));
                        let old = v.mul(v.splat(second), v.load_part(state[1], part));
                        let square = v.add(old, v.mul(v.splat(new_second), v.mul(g, g)));
                        v.store_part(state[0], mean, part);
                        v.store_part(state[1], square, part);
                        let root = v.add(v.div(v.sqrt(square), v.splat(root_bias)), v.splat(epsilon));
                        v.sub(v.mul(p, scales.keep), v.mul(scales.reach, v.div(mean, root)))
                    }
                };
                v.store_part(to, moved, part);
            }
        }
    }
}

/// What is the same for all parameters, a vector each.
struct Scales<R> {
    gradient: R,
    scale: R,
    penalty: R,
    penalized: bool,
    keep: R,
    reach: R,
}

impl<R: Copy> Scales<R> {
    #[inline(always)]
    fn new<V: Vector<Real = R>>(v: V, moves: &Move) -> Self {
        Self {
            gradient: v.splat(moves.gradient),
            scale: v.splat(moves.scale),
            penalty: v.splat(moves.penalty.unwrap_or(0.0)),
            penalized: moves.penalty.is_some(),
            keep: v.splat(moves.keep),
            reach: v.splat(moves.reach),
        }
    }

    /// The gradient of the unscaled parameter, its penalty included.
    #[inline(always)]
    fn slope<V: Vector<Real = R>>(&self, v: V, gradient: R, stored: R) -> R {
        let g = v.mul(v.mul(gradient, self.gradient), self.scale);
        if self.penalized { v.add(g, v.mul(self.penalty, v.div(stored, self.scale))) } else { g }
    }
}
