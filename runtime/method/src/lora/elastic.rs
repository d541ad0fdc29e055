//! LoRA whose rank is a choice: slices of one pair, trained together (LoNAS, Shears and SQFT; Muñoz et al., 2024).

use ingraft_tensor::Rng;
use ingraft_train::{Revision, Setting, Unfit};

use super::Lora;
use crate::expression::{Expression, Form, Revised, Start, Tape};
use crate::schedule::Schedule;

/// [`Lora`] of which every step trains a slice, drawn anew for every site: the first rows of A and columns of B.
///
/// `slices` ranks are evenly spaced from the whole rank down to half of it: 3 of rank 32 are 32, 24 and 16, as published. The scale
/// stays α over the whole rank (or its root), whatever the slice, so that a slice of a trained adapter is
/// what was trained; `ingraft slice` cuts it. After `slice_steps` steps the whole pair acts and is trained.
///
/// A grouped convolution has one A for all groups, unlike [`Lora`].
/// The constant `active` `[1, 1]` is the slice that acts; a file has it only where training ended before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elastic {
    lora: Lora,
    slices: u32,
    steps: u32,
}

impl Elastic {
    pub(crate) fn new(lora: Lora, slices: u32, steps: u32) -> Self {
        Self { lora, slices, steps }
    }

    /// The rank of slice `k`, the whole first; at least one.
    fn slice(&self, k: usize) -> u32 {
        let parts = 2 * self.slices.saturating_sub(1).max(1);
        (self.lora.rank * parts.saturating_sub(k as u32) / parts).max(1)
    }
}

impl Expression for Elastic {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        self.lora.visit(visit, [self.slices, self.steps]);
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.lora.rank as usize);
        let a = tape.parameter("lora_A", rank, row, Start::kaiming(row));
        let b = tape.parameter("lora_B", out, rank, Start::ZERO);
        let active = tape.constant("active", 1, 1, |active, _| active.fill(rank as f64));
        let above = tape.fixed(rank, 1, |above, _| {
            above.iter_mut().enumerate().for_each(|(k, to)| *to = -(k as f64));
        });
        // Row k acts where active − k is at least one.
        let ones = tape.fixed(rank, 1, |ones, _| ones.fill(1.0));
        let kept = (ones.times(active) + above).clamp(0.0, 1.0);
        Ok(Form::two_factor(b * f64::from(self.lora.scale()), a.times(kept)))
    }

    fn revise(&self, sites: &mut Revised<'_, '_>, at: &Revision) {
        let mut rng = Rng::stream(SEED, u64::from(at.step));
        // The last of them brings the whole pair back.
        let drawing = Schedule::per_step(self.steps.saturating_sub(1)).is_due(at.step);
        sites.each(&mut |site| {
            let drawn = self.slice(rng.below(self.slices as usize));
            let rank = if drawing { drawn } else { self.lora.rank };
            let [active] = site.kept(["active"]);
            active.fill(f64::from(rank));
        });
    }
}

/// What slices are drawn from: every run draws the same.
const SEED: u64 = 0x51_1ce5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_those_of_the_published_searches() {
        let of = |rank, slices| {
            let elastic = Elastic::new(Lora { rank, ..Lora::default() }, slices, 1);
            (0..slices as usize).map(|k| elastic.slice(k)).collect::<alloc::vec::Vec<_>>()
        };
        assert_eq!(of(32, 3), [32, 24, 16]);
        assert_eq!(of(16, 3), [16, 12, 8]);
        assert_eq!(of(8, 2), [8, 4]);
        assert_eq!(of(5, 3), [5, 3, 2]);
        assert_eq!(of(1, 3), [1, 1, 1]);
    }
}
