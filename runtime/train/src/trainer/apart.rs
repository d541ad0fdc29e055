//! The optimizer step of parameters that the target moves itself.

use ingraft_kernel::Target;
use ingraft_kernel::descent::Descent;

use super::Trainer;
use super::span::Span;
use super::update::Update;
use crate::TrainError;

impl<T: Target> Trainer<'_, '_, T> {
    /// Whether `group` is one that the target moves. All behind it are, too: the head stands first.
    pub(super) fn is_apart(&self, group: Option<&Span>) -> bool {
        self.moves_apart() && group.is_some_and(|group| group.range.start >= self.head_len)
    }

    /// Hands the target gradients of sites that the host holds.
    pub(super) fn give_back(&mut self) -> Result<(), TrainError> {
        // Parameters may have come from elsewhere since they were there.
        self.refresh()?;
        if self.apart.is_none_or(|apart| !apart.held) {
            return Ok(());
        }
        self.settle()?;
        let own = self.gradients.get_mut(self.head_len..).unwrap_or_default();
        self.session.deposit(own)?;
        own.fill(0.0);
        self.apart.iter_mut().for_each(|apart| apart.held = false);
        Ok(())
    }

    /// Adds the squares of gradients of all groups that the target moves.
    pub(super) fn measure_apart(&mut self, update: &mut Update) -> Result<(), TrainError> {
        let (spans, gradients) = (self.spans(), &*self.gradients);
        let groups = spans.filter(|group| group.range.start >= self.head_len);
        let groups = groups.map(|group| (gradients.get(group.range).unwrap_or(&[]), group.scale));
        self.session.squares(groups, |squares| update.squares = update.squares.add(squares))?;
        Ok(())
    }

    /// Has the target move them.
    pub(super) fn move_apart(&mut self, update: &Update) -> Result<(), TrainError> {
        let (spans, setup, steps, head) = (self.spans(), self.setup, self.steps, self.head_len);
        let (values, gradients, state) = (&*self.parameters.values, &*self.gradients, &*self.state);
        let groups = spans.filter(|group| group.range.start >= head).filter_map(|group| {
            let rate = group.rate(&setup, steps, update.gradient);
            let mut moves = setup.optimizer.moves(&rate)?;
            moves.threshold = group.shrinks.then(|| rate.threshold(&setup.moves));
            let kept = state.get(group.state).unwrap_or(&[]);
            let (one, two) = kept.split_at_checked(group.range.len()).unwrap_or_default();
            let of = |vector| <[f32]>::get(vector, group.range.clone()).unwrap_or(&[]);
            Some(Descent { parameters: of(values), gradients: of(gradients), state: [one, two], moves })
        });
        self.session.descend(groups)?;
        self.owed = false;
        self.apart.iter_mut().for_each(|apart| apart.ahead = true);
        Ok(())
    }
}
