//! Lowered graphs, run as plans on the scalar reference, against the direct interpreter of graphs.

mod dynamic;
mod quantized;
mod types;

use std::collections::BTreeMap;

use ingraft_adapter::Base;
use ingraft_exec::{MemoryNeeds, Session};
use ingraft_kernel::{Host, OpCode};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::DType;

use super::emit::{EmitOptions, emit};
use super::{LowerError, Program, select};
use crate::graph::{Graph, Tensor, channels_last};
use crate::quantize::settle;
use crate::reference::{self, Outputs};

/// The program of a graph as the builder left it.
fn lowered(graph: &Graph) -> Result<Program, LowerError> {
    let mut graph = channels_last(graph.clone()).into_graph();
    settle(&mut graph);
    select(&graph)
}

/// How often the program has each operator.
fn census(program: &Program) -> BTreeMap<OpCode, usize> {
    let mut census = BTreeMap::new();
    program.steps.iter().for_each(|step| *census.entry(step.op).or_insert(0) += 1);
    census
}

/// The outputs of the plan of `program`.
fn run(program: &Program, inputs: &BTreeMap<String, Tensor>) -> Outputs {
    let bytes = emit(program, None, &EmitOptions::default()).expect("small programs fit");
    let file = aligned(&bytes);
    let plan =
        PlanView::new(&zerocopy::IntoBytes::as_bytes(file.as_slice())[..bytes.len()]).expect("a valid plan");
    let needs = MemoryNeeds::new(&plan, Phase::Infer, &Host::SCALAR).expect("the reference runs every step");
    let mut memory = vec![0u128; needs.total().div_ceil(16)];
    let memory = zerocopy::IntoBytes::as_mut_bytes(memory.as_mut_slice());
    let mut session = Session::bind(plan, Phase::Infer, &Host::SCALAR, memory).expect("memory suffices");
    for (index, io) in plan.inputs().enumerate() {
        session.write_input(index, inputs[io.name].bytes()).expect("the length of the input");
    }
    session.run(&Base).expect("bound steps run");
    let output = |(index, io): (usize, ingraft_plan::IoView<'_>)| {
        let view = session.output(index).expect("the output exists");
        let shape = view.shape().dims().iter().map(|d| *d as usize).collect();
        (io.name.to_owned(), Tensor::new(view.dtype(), shape, view.bytes()).expect("length"))
    };
    plan.outputs().enumerate().map(output).collect()
}

fn aligned(bytes: &[u8]) -> Vec<u128> {
    let mut words = vec![0u128; bytes.len().div_ceil(16)];
    zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice())[..bytes.len()].copy_from_slice(bytes);
    words
}

/// Runs the plan and the interpreter on seeded inputs; asserts `|a − b| ≤ tolerance`, or equality for integers.
fn assert_agrees(graph: &Graph, tolerance: f32) -> Program {
    let program = lowered(graph).expect("the graph can be lowered");
    let inputs: BTreeMap<String, Tensor> = graph
        .inputs
        .iter()
        .enumerate()
        .map(|(seed, id)| (graph[*id].name.clone(), values(graph[*id].dtype, &graph[*id].shape, seed as u32)))
        .collect();
    let (want, have) = (reference::run(graph, &inputs), run(&program, &inputs));
    assert!(!want.is_empty() && want.keys().eq(have.keys()));
    for (name, want) in &want {
        let have = &have[name];
        assert_eq!((want.dtype(), want.shape()), (have.dtype(), have.shape()), "{name}");
        match want.dtype() {
            DType::F32 | DType::F16 => {
                let worst =
                    want.to_f32().iter().zip(have.to_f32()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= tolerance, "{name}: {worst}");
            }
            _ => assert_eq!(want.to_i64(), have.to_i64(), "{name}"),
        }
    }
    program
}

/// Seeded values that every type holds: 0 to 100 for integers, −2 to 2 for reals.
fn values(dtype: DType, shape: &[usize], seed: u32) -> Tensor {
    let noise = reference::noise(shape, seed + 5);
    match dtype {
        DType::F32 => noise,
        DType::F16 => crate::graph::fold::cast(&noise, DType::F16).expect("a cast"),
        DType::Bool => {
            let bits: Vec<i64> = noise.to_f32().iter().map(|v| i64::from(*v > 0.0)).collect();
            Tensor::from_i64(dtype, shape, &bits).expect("length")
        }
        _ => {
            let integers: Vec<i64> = noise.to_f32().iter().map(|v| ((v + 2.0) * 25.0) as i64).collect();
            Tensor::from_i64(dtype, shape, &integers).expect("in range")
        }
    }
}

const INTEGERS: [DType; 5] = [DType::I8, DType::U8, DType::I16, DType::I32, DType::I64];
