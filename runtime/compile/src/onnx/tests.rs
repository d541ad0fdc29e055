//! Models written in code: what they mean, and what they are refused for.

mod refusal;
mod spelling;

use ingraft_tensor::DType;

use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::{ImportOptions, import};
use crate::error::ImportError;
use crate::graph::{Graph, Tensor};

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values).unwrap()
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::from_i64(DType::I64, &[values.len()], values).unwrap()
}

/// A node that makes `y`.
fn node(op: &str, inputs: &[&str]) -> NodeProto {
    NodeProto::new(op, inputs, &["y"])
}

/// A graph from `x` of this shape to `y`.
fn graph(shape: &[usize], constants: &[(&str, Tensor)], nodes: Vec<NodeProto>) -> GraphProto {
    let dims: Vec<_> = shape.iter().map(|&e| e.into()).collect();
    let mut graph = GraphProto::new("test").with_input("x", DType::F32, &dims);
    for (name, tensor) in constants {
        graph = graph.with_constant(TensorProto::new(name, tensor));
    }
    graph.node = nodes;
    graph.output.push(ValueInfoProto { name: "y".to_owned(), r#type: None });
    graph
}

/// Through bytes, so that writing and reading are tested, too.
fn read(opset: i64, graph: GraphProto) -> Result<Graph, ImportError> {
    import(&ModelProto::new(opset, graph).to_bytes(), &ImportOptions::default())
}
