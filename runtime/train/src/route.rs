//! Which backward steps a training run takes.
//!
//! A plan holds the backward steps for every site it was compiled to train. A
//! run needs those between its loss and its lowest trained site; this is
//! decided once, when the trainer is made.

use ingraft_kernel::Place;
use ingraft_plan::{Phase, PlanView, StepView};

use crate::parameters::Slot;
use crate::readout::Tap;

/// One byte per backward step: [`NEEDED`], and bit `i` when output `i` adds to
/// a gradient that an earlier step wrote.
#[derive(Debug)]
pub(crate) struct Route<'m> {
    flags: &'m mut [u8],
    first: usize,
}

impl<'m> Route<'m> {
    /// The route from the gradient of `tap` down to the sites in `slots`.
    /// `flags` has one byte per backward step of `plan`.
    pub(crate) fn new(plan: &PlanView<'_>, tap: &Tap, slots: &[Slot], flags: &'m mut [u8]) -> Self {
        let mut route = Self { flags, first: plan.train_backward() };
        route.flags.fill(0);
        route.reach(plan, tap);
        route.prune(plan, slots);
        route
    }

    /// Number of backward steps, taken or not.
    pub(crate) fn len(&self) -> usize {
        self.flags.len()
    }

    /// The plan's index of backward step `index` and its accumulate bits; `None` when it is not taken.
    pub(crate) fn step(&self, index: usize) -> Option<(usize, u32)> {
        let flags = self.flags.get(index).filter(|flags| **flags & NEEDED != 0)?;
        Some((self.first.saturating_add(index), u32::from(*flags & !NEEDED)))
    }

    /// Whether the gradient of site `site`'s terms is computed on the way.
    pub(crate) fn trains(&self, plan: &PlanView<'_>, site: u32) -> bool {
        (0..self.len()).any(|i| {
            self.step(i).is_some() && view(plan, self.first, i).is_some_and(|s| s.site == Some(site))
        })
    }

    /// Marks the steps whose incoming gradient is there: seeded, or written by a marked step.
    fn reach(&mut self, plan: &PlanView<'_>, tap: &Tap) {
        for index in 0..self.len() {
            let Some(step) = view(plan, self.first, index) else { continue };
            let below = step.forward.is_some_and(|forward| forward as usize <= tap.step);
            let incoming = step.inputs.first().is_some_and(|dy| self.written(plan, tap, *dy, index, true));
            if !(below && incoming) {
                continue;
            }
            let mut flags = NEEDED;
            for (bit, output) in step.outputs.iter().enumerate() {
                // What is written over its own input overwrites, whatever wrote that.
                let over = step.inputs.first().is_some_and(|dy| same_place(plan, *dy, *output));
                if !over && self.written(plan, tap, *output, index, false) {
                    flags |= 1 << bit;
                }
            }
            if let Some(slot) = self.flags.get_mut(index) {
                *slot = flags;
            }
        }
    }

    /// Drops the steps that neither train a site nor feed one that does.
    fn prune(&mut self, plan: &PlanView<'_>, slots: &[Slot]) {
        for index in (0..self.len()).rev() {
            let Some(step) = view(plan, self.first, index) else { continue };
            let trains = step.site.is_some_and(|site| slots.iter().any(|slot| slot.site == site));
            let feeds = |output: &u32| {
                (index.saturating_add(1)..self.len()).any(|later| {
                    let reads = view(plan, self.first, later)
                        .is_some_and(|s| s.inputs.iter().any(|input| same_place(plan, *input, *output)));
                    reads && self.step(later).is_some()
                })
            };
            let is_idle = !trains && !step.outputs.iter().any(feeds);
            if let Some(slot) = self.flags.get_mut(index).filter(|_| is_idle) {
                *slot = 0;
            }
        }
    }

    /// Whether `tensor` holds a gradient before backward step `index` runs, which reads it (or else writes it).
    ///
    /// A gradient is told by where it lies: behind a reshape it has two tensors. Since memory is used again, only
    /// the writers since the place was last read as a gradient are this one's.
    fn written(&self, plan: &PlanView<'_>, tap: &Tap, tensor: u32, index: usize, reads: bool) -> bool {
        let mut behind_readers = !reads;
        for earlier in (0..index).rev() {
            let Some(step) = view(plan, self.first, earlier) else { continue };
            if step.outputs.iter().any(|output| same_place(plan, *output, tensor)) {
                if self.step(earlier).is_some() {
                    return true;
                }
                if step.inputs.first().is_some_and(|dy| same_place(plan, *dy, tensor)) {
                    // Not taken, so what lies there is the gradient that it would have written over.
                    return false;
                }
                behind_readers = true;
            } else if behind_readers && step.inputs.first().is_some_and(|dy| same_place(plan, *dy, tensor)) {
                return false;
            }
        }
        tap.grad.is_some_and(|grad| same_place(plan, grad, tensor))
    }
}

/// Whether two tensors are one, perhaps under two shapes, or lie in the same place at different times.
fn same_place(plan: &PlanView<'_>, a: u32, b: u32) -> bool {
    let span = |tensor| match plan.tensor(tensor)?.operand.place {
        Place::Memory(span) => Some(span),
        Place::Plan(_) => None,
    };
    a == b || span(a).is_some_and(|place| Some(place) == span(b))
}

fn view<'a>(plan: &PlanView<'a>, first: usize, index: usize) -> Option<StepView<'a>> {
    plan.step(Phase::Train, first.saturating_add(index))
}

/// Set on the steps that are taken; the bits below it belong to outputs.
const NEEDED: u8 = 1 << 7;
