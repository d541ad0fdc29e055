//! Whether what was written can be run.

use ingraft_kernel::{Host, Target};
use ingraft_plan::{Phase, PlanView};

use super::LowerError;
use super::program::Program;
use crate::aligned::Aligned;

/// Asks the scalar reference, which every target falls back on, about every step of `plan`.
///
/// # Errors
/// [`LowerError::Refused`] with the first node whose step no target would run: tensors without elements, attributes outside
/// what the operator is defined for.
pub(super) fn check(plan: &[u8], phases: &[(Phase, &Program)]) -> Result<(), LowerError> {
    let plan = Aligned::of(plan);
    let Ok(plan) = PlanView::new(plan.bytes()) else { return Err(LowerError::TooLarge) };
    for (phase, program) in phases {
        for (index, written) in program.steps.iter().enumerate() {
            let step = plan.resolve(*phase, index);
            if step.and_then(|step| Host::SCALAR.kernel_name(&step)).is_err() {
                return Err(LowerError::Refused { node: written.name.clone(), op: written.op });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;
    use crate::graph::{Builder, Tensor};
    use crate::lower::emit::{EmitOptions, emit};
    use crate::lower::select;
    use crate::op::{Op, Unary};

    #[test]
    fn a_node_outside_what_it_is_defined_for_is_named() {
        for (epsilon, fits) in [(1e-5, true), (-1.0, false)] {
            let mut b = Builder::new(0);
            let x = b.input("x", DType::F32, vec![2, 3]).unwrap();
            let y = b.add("tanh", Op::Unary(Unary::Tanh), &[x]).unwrap();
            let scale = b.constant("scale", Tensor::from_f32(&[3], &[1.0; 3]).unwrap());
            let z = b.add("norm", Op::LayerNorm { axis: 1, epsilon }, &[y, scale]).unwrap();
            let plan = emit(&select(&b.finish(&[z])).unwrap(), None, &EmitOptions::default());
            let refused = matches!(&plan, Err(LowerError::Refused { node, .. }) if node == "norm");
            assert_eq!((plan.is_ok(), refused), (fits, !fits), "{epsilon}: {:?}", plan.err());
        }
    }
}
