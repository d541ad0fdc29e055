//! Groups of parameters that move alike.

use core::ops::Range;

use crate::method::Part;
use crate::optim::{GroupShape, Rate};
use crate::parameters::Slot;
use crate::{LearningRate, Setup};

/// One contiguous group: where it lies and how it moves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// Where its parameters lie.
    pub(crate) range: Range<usize>,
    /// Where the optimizer's state of it does.
    pub(crate) state: Range<usize>,
    pub(crate) shape: GroupShape,
    pub(crate) rate: LearningRate,
    pub(crate) scale: f32,
    /// Whether the soft threshold applies.
    pub(crate) shrinks: bool,
}

impl Span {
    /// A group that begins at 0.
    fn new(setup: &Setup<'_>, shape: GroupShape, rate: LearningRate) -> Self {
        let words = if shape.count() == 0 { 0 } else { setup.optimizer.state_words(shape) };
        Self { range: 0..shape.count(), state: 0..words, shape, rate, scale: 1.0, shrinks: false }
    }

    /// The same where others ended, in parameters and words of state; moves the ends behind it.
    pub(crate) fn behind(self, ends: &mut (usize, usize)) -> Self {
        let after = |first: usize, own: &Range<usize>| first..first.saturating_add(own.end);
        let (range, state) = (after(ends.0, &self.range), after(ends.1, &self.state));
        *ends = (range.end, state.end);
        Self { range, state, ..self }
    }

    /// How far the group moves in the step behind `steps` others, its gradients multiplied with `gradient`.
    pub(crate) fn rate(&self, setup: &Setup<'_>, steps: u32, gradient: f32) -> Rate {
        Rate {
            learning_rate: self.rate.rate * setup.schedule.factor(steps),
            weight_decay: self.rate.weight_decay,
            scale: self.scale,
            gradient,
            step: steps.saturating_add(1),
        }
    }

    /// The piece that begins `from` parameters into the group, and where the next one does.
    pub(crate) fn piece(&self, from: usize) -> (Range<usize>, Option<usize>) {
        let start = self.range.start.saturating_add(from);
        let end = start.saturating_add(PIECE);
        match end < self.range.end {
            true => (start..end, Some(from.saturating_add(PIECE))),
            false => (start..self.range.end, None),
        }
    }
}

/// The weight and the bias of a head with so many values and classes.
pub(crate) fn of_head(setup: &Setup<'_>, len: usize, classes: usize) -> [Span; 2] {
    let weights = len.saturating_sub(classes);
    let features = weights.checked_div(classes).unwrap_or(0);
    [
        Span::new(setup, GroupShape::matrix(weights, features), setup.head),
        Span::new(setup, GroupShape::vector(len.min(classes)), without_decay(setup.head)),
    ]
}

/// The parts of a site, empty ones too.
pub(crate) fn of_site(setup: &Setup<'_>, slot: &Slot) -> [Span; Part::COUNT] {
    Part::ALL.map(|part| {
        let moves = setup.method.rate(part);
        let rate = if moves.decays { setup.adapter } else { without_decay(setup.adapter) };
        let ratio = if part == Part::Up { setup.moves.up_ratio } else { 1.0 };
        let rate = LearningRate { rate: rate.rate * ratio, ..rate };
        let shrinks = moves.decays && setup.moves.soft_threshold != 0.0;
        Span { scale: moves.scale, shrinks, ..Span::new(setup, slot.shape(part), rate) }
    })
}

fn without_decay(rate: LearningRate) -> LearningRate {
    LearningRate { weight_decay: 0.0, ..rate }
}

/// Parameters of one piece of a step; of groups of eight, so that sums do not depend on where they are cut.
pub(crate) const PIECE: usize = 4096;
