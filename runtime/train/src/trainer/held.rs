//! What comes from elsewhere: values in place of those a run was bound with, terms beside those it trains.

use ingraft_adapter::{SiteName, TermSource};
use ingraft_kernel::{Sites, Target};

use super::Trainer;
use crate::method::{Latent, SiteValues};
use crate::parameters::Frozen;
use crate::twofold::Twofold;
use crate::{FrozenSite, Readout, TrainError};

impl<'m, T: Target> Trainer<'_, 'm, T> {
    /// Lets the terms of `source` act beside those that are trained, from now on, and stay as they are: a stack of two
    /// adapters of which the second learns. It takes no memory; a head that `source` has is not used.
    ///
    /// # Errors
    /// [`TrainError::Stacked`] where both have a term of one kind, or gradients do not pass through those of `source`;
    /// [`TrainError::Busy`]. Nothing is changed then.
    pub fn freeze(&mut self, source: &'m dyn TermSource) -> Result<(), TrainError> {
        self.idle()?;
        let plan = self.session.plan();
        for index in 0..plan.site_count() {
            if !Frozen::fits(&source.terms(index), &self.parameters.trained(index)) {
                return Err(TrainError::Stacked(SiteName::new(
                    plan.site(index).map_or("", |site| site.name),
                )));
            }
        }
        self.parameters.frozen = Some(Frozen(source));
        self.check_terms()?;
        self.fetch()?;
        // Terms are of other kinds now than when they were recorded.
        self.session.forget();
        self.stale = true;
        self.collect()
    }

    /// Hands `fill` what site `site` holds: what its terms are computed from, empty where they are trained as they are, and
    /// its terms, which are computed anew behind it where they are not. `None` for a site that is not trained.
    ///
    /// # Errors
    /// [`TrainError::Busy`] within a clip or step.
    pub fn fill<R>(
        &mut self,
        site: usize,
        fill: impl FnOnce(&FrozenSite<'_>, &mut Latent<'_>, &mut SiteValues<'_>) -> R,
    ) -> Result<Option<R>, TrainError> {
        self.idle()?;
        self.fetch()?;
        let Some(at) = self.parameters.slots.iter().position(|slot| slot.site as usize == site) else {
            return Ok(None);
        };
        let parameters = &mut self.parameters;
        let (Some(slot), Some(frozen)) =
            (parameters.slots.get(at), FrozenSite::new(self.session.plan(), site))
        else {
            return Ok(None);
        };
        let filled = if slot.is_latent() {
            let mut latent = slot.latent(parameters.values, self.latent.constants, self.latent.workspace);
            let mut terms = slot.values(parameters.computed, parameters.indptr, parameters.indices);
            fill(&frozen, &mut latent, &mut terms)
        } else {
            let mut terms = slot.values(parameters.values, parameters.indptr, parameters.indices);
            fill(&frozen, &mut Latent::default(), &mut terms)
        };
        self.stale = true;
        self.compute(at);
        Ok(Some(filled))
    }

    /// Starts the head as one that acts on features as they are, `weight` `[classes, features]` and `bias` `[classes]`; behind
    /// [`Self::standardize`]. What [`crate::TrainedHead::fold`] gave is so undone: W = W'·diag(std), b = b' + W'·mean.
    ///
    /// # Numerics
    /// The bias is summed as it is there.
    ///
    /// # Errors
    /// [`TrainError::NoHead`], [`TrainError::Length`] for a head of another size, [`TrainError::Busy`].
    pub fn start_head(&mut self, weight: &[f32], bias: &[f32]) -> Result<(), TrainError> {
        self.idle()?;
        let Readout::Head { .. } = self.setup.readout else { return Err(TrainError::NoHead) };
        let classes = self.readings.logits.len();
        let (needed, given) = (self.head_len, weight.len().saturating_add(bias.len()));
        if needed != given || bias.len() != classes {
            return Err(TrainError::Length { needed, given });
        }
        let head = self.parameters.values.get_mut(..needed).unwrap_or_default();
        let (weights, biases) = head.split_at_mut_checked(weight.len()).unwrap_or_default();
        let (mut to, mut from) = (weights, weight);
        for (to_bias, bias) in biases.iter_mut().zip(bias) {
            let width = self.statistics.mean.len();
            let (row, rest) = to.split_at_mut_checked(width).unwrap_or_default();
            let (given, behind) = from.split_at_checked(width).unwrap_or_default();
            (to, from) = (rest, behind);
            let mut sum = Twofold::ZERO.add(*bias);
            let moments = self.statistics.mean.iter().zip(self.statistics.inverse_std.iter());
            for ((w, given), (mean, inverse_std)) in row.iter_mut().zip(given).zip(moments) {
                *w = given / inverse_std;
                sum = sum.add_product(*given, *mean);
            }
            *to_bias = sum.value();
        }
        Ok(())
    }
}
