//! What a method may see and change between two steps.

use ingraft_plan::PlanView;

use crate::FrozenSite;
use crate::method::{Latent, LatentGradients};
use crate::parameters::Slot;

/// The latent sites of a trainer, after the optimizer moved their parameters.
pub struct LatentSites<'s> {
    pub(crate) plan: &'s PlanView<'s>,
    pub(crate) slots: &'s [Slot],
    pub(crate) values: &'s mut [f32],
    pub(crate) gradients: &'s mut [f32],
    pub(crate) constants: &'s mut [f64],
    pub(crate) workspace: &'s mut [f64],
}

/// Where in the course of training a revision is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Revision {
    /// Steps made so far, this one included.
    pub step: u32,
    /// The learning rate of adapter parameters in this step.
    pub learning_rate: f32,
    /// What the gradients times this are: those of the mean loss, as the optimizer saw them.
    pub gradient: f32,
}

impl LatentSites<'_> {
    /// Calls `visit` with every latent site, in order, what its terms are computed from, and the gradients
    /// that led the step. May be called again, to look at all sites before changing any.
    pub fn each(&mut self, visit: &mut dyn FnMut(&FrozenSite<'_>, &mut Latent<'_>, &LatentGradients<'_>)) {
        for slot in self.slots.iter().filter(|slot| slot.is_latent()) {
            if let Some(site) = FrozenSite::new(self.plan, slot.site as usize) {
                let mut latent = slot.latent(self.values, self.constants, self.workspace);
                visit(&site, &mut latent, &slot.latent_gradients(self.gradients));
            }
        }
    }
}

impl core::fmt::Debug for LatentSites<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("LatentSites")
    }
}
