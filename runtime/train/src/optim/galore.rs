//! Adam in a low-rank subspace of the gradient, and its natural-gradient form.

mod basis;
mod natural;

use super::{Adam, AdamW, Group, GroupShape, Optimizer, Rate};
use basis::Matrix;

/// GaLore (Zhao et al., 2024): of the gradient G of a matrix, Adam sees Pᵀ·G with P the directions of its shorter side in
/// which it is largest, found anew every so many steps; the parameters move by P times Adam's step, and decay as under
/// [`AdamW`]. Groups that are no matrix, or no wider than the rank, move under [`AdamW`].
///
/// With a history it is Natural GaLore (Das, 2024): before Adam, the projected gradient g goes through the inverse of
/// λ·I + H·Hᵀ, whose columns are the last of them, g included. By Woodbury's identity that is H·x with
/// (λ·I + HᵀH)·x = e, e the unit vector of g: a system of as many equations as there are columns, and without the
/// difference of large numbers of the textbook form.
///
/// # State
/// Of a matrix with shorter side m and longer side n: r·m + (2 + h)·r·n words at rank r and history h.
///
/// # Numerics
/// P comes of four orthogonal iterations from the one before, the first from drawn signs, rather than of a
/// decomposition: it needs no memory but its own again, and keeps the directions' order and sign, so that Adam's moments
/// go on to mean what they did. History is cleared with every new P, since it is of the old one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaLore {
    /// r, the directions kept of each matrix.
    pub rank: u32,
    /// Steps between two searches for directions.
    pub every: u32,
    /// What the moves are multiplied with.
    pub factor: f32,
    /// h, the columns of H; 0 for plain GaLore. At most [`MAX_HISTORY`] count.
    pub history: u32,
    /// λ.
    pub damping: f32,
    /// The step in the subspace.
    pub adam: Adam,
}

/// The longest history.
pub const MAX_HISTORY: u32 = 32;

/// Orthogonal iterations of a search.
const REFINEMENTS: u32 = 4;

impl GaLore {
    /// Rank 4, a search every 200 steps, factor 0.25, as published but for the rank, which is that of small models.
    pub const DEFAULT: Self =
        Self { rank: 4, every: 200, factor: 0.25, history: 0, damping: 1e-3, adam: Adam::DEFAULT };

    /// The same with a history of 20 and ε = 10⁻⁶, as published.
    pub const NATURAL: Self =
        Self { history: 20, adam: Adam { epsilon: 1e-6, ..Adam::DEFAULT }, ..Self::DEFAULT };

    fn rank(&self) -> usize {
        self.rank as usize
    }

    fn history(&self) -> usize {
        self.history.min(MAX_HISTORY) as usize
    }

    /// Whether a group of this shape is projected.
    fn projects(&self, shape: GroupShape) -> bool {
        self.rank != 0 && shape.rows.min(shape.columns) > self.rank()
    }

    /// Values of the gradient in the subspace.
    fn low(&self, shape: GroupShape) -> usize {
        shape.rows.max(shape.columns).saturating_mul(self.rank())
    }

    /// Values of P.
    fn basis(&self, shape: GroupShape) -> usize {
        shape.rows.min(shape.columns).saturating_mul(self.rank())
    }

    /// Words of the equations of the natural gradient.
    fn equations(&self) -> usize {
        natural::values(self.history()).saturating_mul(2)
    }

    fn descend(&self, rate: &Rate, group: Group<'_>) -> Option<()> {
        let Group { parameters, gradients, state, workspace, shape, .. } = group;
        let (low_len, basis_len) = (self.low(shape), self.basis(shape));
        let (basis, state) = state.split_at_mut_checked(basis_len)?;
        let (mean, state) = state.split_at_mut_checked(low_len)?;
        let (square, history) = state.split_at_mut_checked(low_len)?;
        let (equations, workspace) = workspace.split_at_mut_checked(self.equations())?;
        let (low, workspace) = workspace.split_at_mut_checked(low_len)?;
        let next = workspace.get_mut(..basis_len)?;

        let gradient = Matrix { values: gradients, columns: shape.columns, rank: self.rank() };
        let along_rows = shape.rows <= shape.columns;
        let since = rate.step.wrapping_sub(1).checked_rem(self.every.max(1))? as usize;
        // While gradients are still zero, so is what was found.
        if since == 0 || basis.iter().all(|value| *value == 0.0) {
            gradient.search(along_rows, basis, next, low, REFINEMENTS);
            history.fill(0.0);
        }
        gradient.project(along_rows, basis, low);
        low.iter_mut().for_each(|value| *value *= rate.gradient * rate.scale);
        if self.history() != 0 {
            natural::precondition(low, history, (self.history(), since), self.damping, equations)?;
        }
        self.direction(rate, low, mean, square);
        let keep = 1.0 - rate.learning_rate * rate.weight_decay;
        let reach = rate.learning_rate * rate.scale * self.factor;
        parameters.iter_mut().for_each(|value| *value *= keep);
        let (left, right) = if along_rows { (&*basis, &*low) } else { (&*low, &*basis) };
        basis::subtract(parameters, shape.columns, (left, right), self.rank(), reach);
        Some(())
    }

    /// Replaces the gradient by Adam's direction.
    fn direction(&self, rate: &Rate, low: &mut [f32], mean: &mut [f32], square: &mut [f32]) {
        let [first, second] = self.adam.betas;
        let [first_bias, root_bias] = self.adam.biases(rate.step);
        for ((g, m), v) in low.iter_mut().zip(mean).zip(square) {
            *m += first.rest * (*g - *m);
            *v = second.beta * *v + second.rest * (*g * *g);
            *g = *m / first_bias / (libm::sqrtf(*v) / root_bias + self.adam.epsilon);
        }
    }
}

impl Optimizer for GaLore {
    fn name(&self) -> &'static str {
        if self.history == 0 { "galore" } else { "natural-galore" }
    }

    fn state_words(&self, shape: GroupShape) -> usize {
        if !self.projects(shape) {
            return AdamW(self.adam).state_words(shape);
        }
        let lows = self.history().saturating_add(2).saturating_mul(self.low(shape));
        lows.saturating_add(self.basis(shape))
    }

    fn workspace_words(&self, shape: GroupShape) -> usize {
        if !self.projects(shape) {
            return 0;
        }
        self.equations().saturating_add(self.low(shape)).saturating_add(self.basis(shape))
    }

    fn is_divisible(&self) -> bool {
        false
    }

    fn update(&self, rate: &Rate, group: Group<'_>) {
        if self.projects(group.shape) {
            // What is missing then is memory that the trainer has laid out by the two functions above.
            let _ = self.descend(rate, group);
        } else {
            AdamW(self.adam).update(rate, group);
        }
    }
}
