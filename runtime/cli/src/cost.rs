//! What a step costs, whatever runs it.

use ingraft_kernel::{OpCode, Operand, Step};
use ingraft_plan::{Phase, PlanView};

/// Multiply-accumulates of a forward step; 0 for steps that only move, look up or compare.
///
/// Counted as the literature does: every tap of every output element, padding included.
pub(crate) fn macs(step: &Step<'_>) -> u64 {
    let elements = |operand: &Operand<'_>| operand.shape.elements() as u64;
    let (inputs, output) = (step.inputs(), step.outputs().first().map_or(0, elements));
    let extent = |input: usize, axis: usize| {
        inputs.get(input).map_or(0, |operand| operand.shape.dims().get(axis).copied().unwrap_or(1).into())
    };
    let innermost = |input: usize| {
        inputs.get(input).and_then(|operand| operand.shape.dims().last().copied()).map_or(1, u64::from)
    };
    let weight = inputs.get(1).map_or(0, elements);
    let per_output = |outputs: u64| output.saturating_mul(weight.checked_div(outputs).unwrap_or(0));
    match step.op {
        // [out, kh, kw, in]: one row per output channel.
        OpCode::Conv | OpCode::QConv | OpCode::DynamicConv => per_output(extent(1, 0)),
        // [kh, kw, channels]: one column per output channel.
        OpCode::Depthwise | OpCode::QDepthwise => per_output(innermost(1)),
        OpCode::MatMul | OpCode::MatMulInteger => output.saturating_mul(innermost(0)),
        // Input and recurrent weights, at every time step of every sample.
        OpCode::Lstm | OpCode::Gru => {
            let weights = weight.saturating_add(inputs.get(2).map_or(0, elements));
            extent(0, 0).saturating_mul(extent(0, 1)).saturating_mul(weights)
        }
        _ => 0,
    }
}

/// Bytes a step reads and writes, its constants included.
pub(crate) fn bytes(step: &Step<'_>) -> u64 {
    let bytes =
        |operand: &Operand<'_>| (operand.shape.elements() as u64).saturating_mul(operand.dtype.size() as u64);
    step.inputs().iter().chain(step.outputs()).map(bytes).fold(0, u64::saturating_add)
}

/// Multiply-accumulates of one inference.
pub(crate) fn plan_macs(plan: &PlanView<'_>) -> u64 {
    let steps = (0..plan.step_count(Phase::Infer)).filter_map(|index| plan.resolve(Phase::Infer, index).ok());
    steps.map(|step| macs(&step)).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use ingraft_kernel::{Place, Span};
    use ingraft_tensor::{DType, Shape};

    use super::*;

    fn step<'a>(op: OpCode, inputs: &[&[u32]], output: &[u32]) -> Step<'a> {
        let operand = |dims: &[u32]| Operand {
            dtype: DType::I8,
            shape: Shape::new(dims).unwrap(),
            place: Place::Memory(Span::default()),
        };
        let mut step = Step::new(op, &[]);
        inputs.iter().for_each(|dims| step.push_input(operand(dims)).unwrap());
        step.push_output(operand(output)).unwrap();
        step
    }

    #[test]
    fn macs_are_those_of_the_textbook() {
        // 3×3 convolution, 8 → 16 channels, on 5×7 pixels; the same depthwise; a linear layer.
        let conv = step(OpCode::QConv, &[&[1, 5, 7, 8], &[16, 3, 3, 8], &[16]], &[1, 5, 7, 16]);
        assert_eq!(macs(&conv), 5 * 7 * 16 * 9 * 8);
        let depthwise = step(OpCode::QDepthwise, &[&[1, 5, 7, 8], &[3, 3, 8], &[8]], &[1, 5, 7, 8]);
        assert_eq!(macs(&depthwise), 5 * 7 * 8 * 9);
        let grouped = step(OpCode::Conv, &[&[1, 4, 4, 8], &[16, 1, 1, 4], &[16]], &[1, 4, 4, 16]);
        assert_eq!(macs(&grouped), 4 * 4 * 16 * 4);
        let dynamic = step(OpCode::DynamicConv, &[&[8, 1, 1, 384], &[32, 1, 1, 384], &[32]], &[8, 1, 1, 32]);
        assert_eq!(macs(&dynamic), 8 * 32 * 384);
        let product = step(OpCode::MatMul, &[&[2, 3, 5], &[2, 5, 4]], &[2, 3, 4]);
        assert_eq!(macs(&product), 2 * 3 * 4 * 5);
        let lstm = step(OpCode::Lstm, &[&[7, 2, 3], &[1, 16, 3], &[1, 16, 4]], &[7, 1, 2, 4]);
        assert_eq!(macs(&lstm), 7 * 2 * (16 * 3 + 16 * 4));
        assert_eq!(macs(&step(OpCode::Copy, &[&[4]], &[4])), 0);
        assert_eq!(bytes(&conv), 5 * 7 * 8 + 16 * 9 * 8 + 16 + 5 * 7 * 16);
    }
}
