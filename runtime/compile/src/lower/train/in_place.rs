//! Gradients that lie where the gradient they are computed from lay.

use ingraft_kernel::in_place::possible;

use super::TrainSchedule;
use crate::lower::{Program, Storage, TensorRef};

/// Lets every backward step that can write its result over its incoming gradient do so, where nothing needs that
/// gradient any more: of the two, only one has to be in memory. The results are the same to the bit.
pub fn in_place(mut schedule: TrainSchedule) -> TrainSchedule {
    for index in schedule.backward..schedule.program.steps.len() {
        if let Some((dx, dy)) = replaceable(&schedule.program, schedule.backward, index) {
            schedule.program.tensors[dx.0].storage = Storage::Alias(dy);
        }
    }
    schedule
}

/// The gradient that step `index` writes and the one that it may write it over.
fn replaceable(program: &Program, backward: usize, index: usize) -> Option<(TensorRef, TensorRef)> {
    let step = &program.steps[index];
    let (&dy, &[output]) = (step.inputs.first()?, step.outputs.as_slice()) else { return None };
    let (from, to) = (program.root(dy), program.root(output));
    let own = |tensor: TensorRef| matches!(program.tensor(tensor).storage, Storage::Arena);
    let shapes = (program.tensor(dy).shape, program.tensor(output).shape);
    let fits = from != to && own(from) && own(to) && possible(step.op, &step.attrs, shapes.0, shapes.1);
    let names = |tensors: &[TensorRef], root: TensorRef| tensors.iter().any(|t| program.root(*t) == root);
    // A gradient with several parts is added up where it is.
    let first = !program.steps[backward..index].iter().any(|earlier| names(&earlier.outputs, to));
    let mut later = program.steps[index + 1..].iter();
    let last = !later.any(|later| names(&later.inputs, from) || names(&later.outputs, from));
    (fits && first && last).then_some((to, from))
}
