//! How the gradient changes along itself: a product with the Hessian (GraSP; Wang, Zhang & Grosse, 2020).

use ingraft_train::{Clip, TrainError, Trainer, Truth};

use crate::Saliency;

/// What logits are divided by in the loss, as published.
const TEMPERATURE: f32 = 200.0;

/// How far weights are moved to either side, as a share of the length of all.
const REACH: f64 = 1.0 / 64.0;

impl Saliency {
    /// Takes in one clip for GraSP: in the first pass over the clips the gradient, logits over 200; in the second how that of the clip
    /// changes along the mean g of the first, `(∇L(w + εg) − ∇L(w − εg)) / 2ε` over the weights of all sites together,
    /// εg a 64th as long as those weights.
    ///
    /// By differences, since the plan's backward steps are those of one derivative. On an int8 base w is what the codes stand for, w ± εg are real, but
    /// activations are rounded as ever, so what is found is the mean slope over that stretch, not a derivative at one point.
    pub(crate) fn curve(
        &mut self,
        trainer: &mut Trainer<'_, '_>,
        clip: Clip<'_>,
        truth: Truth<'_>,
    ) -> Result<bool, TrainError> {
        trainer.soften(TEMPERATURE);
        let found = match self.pass() {
            0 => trainer.accumulate(clip, truth).map(|_| self.observe(trainer, 1)),
            _ => self.bend(trainer, clip, truth),
        };
        trainer.soften(1.0);
        found
    }

    fn bend(
        &mut self,
        trainer: &mut Trainer<'_, '_>,
        clip: Clip<'_>,
        truth: Truth<'_>,
    ) -> Result<bool, TrainError> {
        let length = |values: &mut dyn Iterator<Item = f64>| libm::sqrt(values.map(|v| v * v).sum());
        let weights = length(&mut self.sites().iter().flat_map(|site| site.weight.iter().copied()));
        let slope = length(&mut self.sites().iter().flat_map(|site| site.statistics.sum().iter().copied()));
        // Where nothing slopes nothing bends.
        let reach = if slope > 0.0 { REACH * weights / slope } else { 0.0 };
        let mean = self.sites().iter().map(|site| site.out * site.row + site.out).sum();
        let start = trainer.parameters().values().to_vec();
        let Some(head) = start.len().checked_sub(mean) else { return Ok(false) };
        let mut same = true;
        for sign in [1.0, -1.0].into_iter().filter(|_| reach > 0.0) {
            let mut moved = start.clone();
            let mut first = head;
            for site in self.sites() {
                for (place, g) in site.order.iter().zip(site.statistics.sum()) {
                    moved[first + place] += (sign * reach * g) as f32;
                }
                first += site.out * site.row + site.out;
            }
            trainer.restore(&moved)?;
            trainer.accumulate(clip, truth)?;
            let share = sign / (2.0 * reach);
            same &= self.each(trainer, |site, gradient| {
                let changes = site.order.iter().map(|place| share * f64::from(gradient[*place]));
                site.statistics.bend(changes);
            });
        }
        trainer.restore(&start)?;
        Ok(same)
    }
}
