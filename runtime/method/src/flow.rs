//! What flows through each weight where every value only adds up (SynFlow; Tanaka et al., 2020).

mod link;

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::head::{POOL_HEIGHT, POOL_WIDTH, feature_count, sample_dims};
use ingraft_kernel::{OpCode, Place, Sites};
use ingraft_plan::{Phase, PlanView, StepView};
use ingraft_train::{Readout, TrainError, Trainer};

use crate::{MeasureError, Saliency};
use link::{Arc, Link, Source};

/// One way from a value to a later one.
struct Part {
    input: usize,
    output: usize,
    link: Link,
}

/// What a tensor held for a while.
struct Value {
    elements: usize,
    made: Made,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq)]
enum Made {
    /// The input.
    Given,
    /// Of others, as the parts say.
    Summed,
    /// Of this step, which is no sum.
    Else(usize),
}

/// The values of a plan and how each comes of earlier ones, where that is a sum.
///
/// Values are told apart by what wrote their memory last, as the executor has it: reshaped tensors are the same bytes.
struct Walk<'p> {
    plan: &'p PlanView<'p>,
    values: Vec<Value>,
    parts: Vec<Part>,
    /// By where it begins in memory: the value that is there, and the tensor that is being copied together there.
    held: BTreeMap<usize, (usize, Option<u32>)>,
}

impl Saliency {
    /// Takes in the scores of SynFlow, once: |w·∂R/∂|w||, R the sum of the readout's outputs where every weight counts by its
    /// magnitude, no bias counts, every activation passes its input, every input element is 1 and a head that is
    /// trained along stands with the magnitudes that it has, over the deviations it divides by.
    ///
    /// Clips say nothing of it. An int8 base counts by the real values of its codes: nothing is rounded or clipped on the way, and
    /// all is computed in f64, so that neither ranges nor depth matter.
    ///
    /// # Errors
    /// [`MeasureError::Flow`] for a step that is neither a sum nor an activation; [`MeasureError::Overflow`].
    pub(crate) fn flow(&mut self, trainer: &Trainer<'_, '_>) -> Result<(), MeasureError> {
        let plan = trainer.plan();
        let readout = trainer.setup().readout;
        let source = match readout {
            Readout::Head { site, .. } => plan.head_source(Phase::Infer, site),
            Readout::Logits => plan.logits(Phase::Infer),
        };
        let no_readout = MeasureError::Train(TrainError::NoReadout);
        let (tensor, last) = source.ok_or(no_readout.clone())?;
        let shape = plan.tensor(tensor).ok_or(no_readout.clone())?.operand.shape;
        let seed = match (trainer.head(), sample_dims(shape)) {
            (None, _) => vec![1.0; shape.elements()],
            (Some(head), Some(dims)) => {
                let count = feature_count(dims, head.pool);
                let magnitude = |feature: usize| {
                    let column = head.weight.iter().skip(feature).step_by(count.max(1));
                    let sum: f64 = column.map(|w| f64::from(w.abs())).sum();
                    sum * f64::from(head.inverse_std.get(feature).copied().unwrap_or(0.0))
                };
                spread(dims, head.pool, &(0..count).map(magnitude).collect::<Vec<_>>())
            }
            (Some(_), None) => return Err(no_readout),
        };
        let mut walk = Walk::new(plan);
        for step in 0..=last as usize {
            walk.take(step);
        }
        let end = walk.value(tensor).ok_or(no_readout)?;
        for (site, scores) in walk.run(end, seed)? {
            if scores.iter().any(|score| !score.is_finite()) {
                return Err(MeasureError::Overflow);
            }
            let name = plan.site(site as usize).map_or("", |site| site.name);
            self.put(name, &scores);
        }
        Ok(())
    }
}

impl<'p> Walk<'p> {
    /// Nothing but the inputs.
    fn new(plan: &'p PlanView<'p>) -> Self {
        let mut walk = Self { plan, values: Vec::new(), parts: Vec::new(), held: BTreeMap::new() };
        for io in plan.inputs() {
            walk.make(io.tensor, Made::Given, None);
        }
        walk
    }

    /// A new value where `tensor` lies.
    fn make(&mut self, tensor: u32, made: Made, copied: Option<u32>) -> Option<usize> {
        let operand = self.plan.tensor(tensor)?.operand;
        let Place::Memory(span) = operand.place else { return None };
        self.values.push(Value { elements: operand.shape.elements(), made });
        let value = self.values.len() - 1;
        self.held.insert(span.offset, (value, copied));
        Some(value)
    }

    /// The value that `tensor` has now.
    fn value(&self, tensor: u32) -> Option<usize> {
        let operand = self.plan.tensor(tensor)?.operand;
        let Place::Memory(span) = operand.place else { return None };
        let (value, _) = *self.held.get(&span.offset)?;
        (self.values[value].elements == operand.shape.elements()).then_some(value)
    }

    fn take(&mut self, index: usize) {
        let Some(step) = self.plan.step(Phase::Infer, index) else { return };
        let Some(&output) = step.outputs.first() else { return };
        match self.arcs(&step) {
            Some(arcs) => {
                // Parts of one tensor are copied to where they belong, one after the other.
                let piece = matches!(step.op, OpCode::Copy | OpCode::Fill).then_some(output);
                let begun = self.held.values().find(|(_, copied)| piece.is_some() && *copied == piece);
                let begun = begun.map(|(value, _)| *value);
                let Some(value) = begun.or_else(|| self.make(output, Made::Summed, piece)) else { return };
                let parts = arcs.into_iter().map(|Arc { input, link }| Part { input, output: value, link });
                self.parts.extend(parts);
            }
            None => step.outputs.iter().for_each(|output| {
                self.make(*output, Made::Else(index), None);
            }),
        }
    }

    /// How the first output of `step` comes of its inputs; `None` where it is no sum of them.
    fn arcs(&self, step: &StepView<'_>) -> Option<Vec<Arc>> {
        let source = |at: usize| {
            let tensor = *step.inputs.get(at)?;
            let view = self.plan.tensor(tensor)?;
            match view.operand.place {
                Place::Plan(_) => Some(Source::Constant(view)),
                Place::Memory(_) => Some(Source::Value(self.value(tensor)?, view.operand.shape)),
            }
        };
        let output = self.plan.tensor(*step.outputs.first()?)?.operand.shape;
        link::arcs(self.plan, step, source, output)
    }

    /// Runs forward from ones and back from `seed` at value `end`; gives |w|·∂R/∂|w| of every site met, where
    /// the base stores each weight.
    fn run(&self, end: usize, seed: Vec<f64>) -> Result<Vec<(u32, Vec<f64>)>, MeasureError> {
        let mut needed = vec![false; self.values.len()];
        needed[end] = true;
        for part in self.parts.iter().rev().filter(|part| part.input != part.output) {
            needed[part.input] |= needed[part.output];
        }
        let all = || self.values.iter().zip(&needed);
        let no_sum = all().find_map(|(value, needed)| match value.made {
            Made::Else(step) if *needed => self.plan.step(Phase::Infer, step),
            _ => None,
        });
        if let Some(step) = no_sum {
            return Err(MeasureError::Flow { step: step.name.to_string(), op: step.op });
        }
        let filled = |(value, needed): (&Value, &bool)| {
            let input = if value.made == Made::Given { 1.0 } else { 0.0 };
            vec![input; if *needed { value.elements } else { 0 }]
        };
        let mut values: Vec<Vec<f64>> = all().map(filled).collect();
        let mut slopes: Vec<Vec<f64>> = values.iter().map(|value| vec![0.0; value.len()]).collect();
        let parts = || self.parts.iter().filter(|part| needed[part.output]);
        for part in parts() {
            let mut sums = core::mem::take(&mut values[part.output]);
            part.link.each(&values[part.input], |out, input, factor, _| {
                sums[out] += factor * values[part.input][input];
            });
            values[part.output] = sums;
        }
        slopes[end] = seed;
        let mut scores = Vec::new();
        for part in parts().rev() {
            let slope = core::mem::take(&mut slopes[part.output]);
            let mut found = vec![0.0; part.link.weights()];
            let (input, below) = (&values[part.input], &mut slopes[part.input]);
            part.link.each(input, |out, from, factor, weight| {
                below[from] += factor * slope[out];
                if let Some(sum) = found.get_mut(weight) {
                    *sum += factor * input[from] * slope[out];
                }
            });
            slopes[part.output] = slope;
            scores.extend(part.link.site().map(|site| (site, found)));
        }
        Ok(scores)
    }
}

/// The slope of a tensor `[N, H, W, C]` whose means over the axes in `pool` have these.
fn spread([_, h, w, c]: [usize; 4], pool: u32, features: &[f64]) -> Vec<f64> {
    let (over_h, over_w) = (pool & POOL_HEIGHT != 0, pool & POOL_WIDTH != 0);
    let count = if over_h { h } else { 1 } * if over_w { w } else { 1 };
    let columns = if over_w { 1 } else { w };
    let at = |y: usize, x: usize| if over_h { 0 } else { y } * columns + if over_w { 0 } else { x };
    let pixels = (0..h).flat_map(|y| (0..w).map(move |x| (y, x)));
    pixels.flat_map(|(y, x)| (0..c).map(move |i| features[at(y, x) * c + i] / count as f64)).collect()
}
