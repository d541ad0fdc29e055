use ingraft_tensor::DType;

use super::super::proto::dimension_proto::Value as Dim;
use super::super::proto::{
    AttributeProto, AttributeType, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
    TensorProto, ValueInfoProto, data_type,
};
use super::super::{ImportOptions, import, import_model};
use super::{floats, graph, ints, node, read};
use crate::error::{Fault, ImportError, InputFault, TensorFault};
use crate::graph::Tensor;

/// Why one node on a 2 × 4 input, with these constants, is refused.
fn fault(opset: i64, constants: &[(&str, Tensor)], node: NodeProto) -> Fault {
    match read(opset, graph(&[2, 4], constants, vec![node])) {
        Err(ImportError::Node { node, fault, .. }) => {
            assert_eq!(node, "y");
            fault
        }
        other => panic!("{other:?}"),
    }
}

fn refused(graph: GraphProto) -> ImportError {
    let error = read(13, graph).unwrap_err();
    assert!(!error.to_string().is_empty());
    error
}

#[test]
fn nodes_are_refused_with_their_reason() {
    let subgraph = AttributeProto {
        name: "body".to_owned(),
        r#type: AttributeType::Graph as i32,
        ..AttributeProto::default()
    };
    let mut contrib = node("QLinearAdd", &["x"]);
    contrib.domain = "com.microsoft".to_owned();
    let mut control = node("Loop", &["x"]);
    control.attribute.push(subgraph);
    let w = ("w", floats(&[3, 3], &[0.0; 9]));
    let cases = [
        (node("Einsum", &["x"]), Fault::UnknownOperator { domain: String::new() }),
        (contrib, Fault::UnknownOperator { domain: "com.microsoft".to_owned() }),
        (control, Fault::Subgraph),
        (node("Relu", &["x"]).with_int("odd", 1), Fault::UnknownAttribute { attribute: "odd".to_owned() }),
        (node("Relu", &["x", "x"]), Fault::Arity { found: 2 }),
        (node("Add", &["x", ""]), Fault::MissingInput { index: 1 }),
        (node("Concat", &["x", "x"]), Fault::MissingAttribute { attribute: "axis" }),
        (
            node("Softmax", &["x"]).with_int("axis", 2),
            Fault::Attribute { attribute: "axis", reason: "is outside the input" },
        ),
        (
            node("Softmax", &["x"]).with_float("axis", 1.0),
            Fault::Attribute { attribute: "axis", reason: "has the wrong type" },
        ),
        (
            node("MatMul", &["x", "w"]),
            Fault::Shape { reason: "the operands do not multiply", shapes: vec![vec![2, 4], vec![3, 3]] },
        ),
        (node("Not", &["x"]), Fault::DType { index: 0, dtype: DType::F32 }),
        (node("Reshape", &["x", "x"]), Fault::NotConstant { index: 1 }),
        (node("Constant", &[]), Fault::MissingAttribute { attribute: "value" }),
        (
            node("ReduceMean", &["x"]).with_ints("axes", &[1, -1]),
            Fault::Attribute { attribute: "axes", reason: "holds an axis outside the input or twice" },
        ),
    ];
    for (node, want) in cases {
        assert_eq!(fault(13, core::slice::from_ref(&w), node.clone()), want, "{}", node.op_type);
    }
    assert_eq!(fault(10, &[], node("Resize", &["x"])), Fault::OldForm { since: 11 });
}

#[test]
fn numbers_that_overflow_are_refused() {
    let huge = ints(&[i64::MAX, 4]);
    let cases = [
        (node("ConstantOfShape", &["n"]), ints(&[1 << 40, 1 << 40])),
        (node("ConstantOfShape", &["n"]), ints(&[1 << 29])),
        (node("Expand", &["x", "n"]), huge.clone()),
        (node("Tile", &["x", "n"]), huge.clone()),
        (node("Tile", &["x", "n"]), ints(&[1 << 30, 1 << 30])),
    ];
    for (node, n) in cases {
        let fault = fault(13, &[("n", n)], node.clone());
        assert!(matches!(fault, Fault::TooLarge | Fault::Shape { .. }), "{}: {fault:?}", node.op_type);
    }
    let negative = fault(13, &[("n", ints(&[-1]))], node("ConstantOfShape", &["n"]));
    assert_eq!(negative, Fault::Operand { index: 0, reason: "holds a negative extent" });
    let strides = fault(13, &[("w", floats(&[1, 2, 1], &[1.0; 2]))], {
        let conv = node("Conv", &["u", "w"]).with_ints("strides", &[i64::MAX]);
        NodeProto { input: vec!["w".to_owned(), "w".to_owned()], ..conv }
    });
    assert_eq!(strides, Fault::Attribute { attribute: "strides", reason: "holds a negative or huge number" });
    let pads = fault(13, &[("p", ints(&[i64::MIN, 0, 0, 0]))], node("Pad", &["x", "p"]));
    assert!(matches!(pads, Fault::Shape { .. }));
    let index = fault(13, &[("i", ints(&[2]))], node("Gather", &["x", "i"]));
    assert_eq!(index, Fault::Operand { index: 1, reason: "holds an index outside the input" });
}

/// Folding many large constants stops at the budget instead of filling memory.
#[test]
fn folding_has_a_budget() {
    let mut nodes = vec![NodeProto::new("ConstantOfShape", &["n"], &["c0"])];
    for i in 0..40 {
        let (from, to) = (format!("c{i}"), format!("c{}", i + 1));
        nodes.push(NodeProto::new("ConstantOfShape", &["n"], &[&format!("d{i}")]));
        nodes.push(NodeProto::new("Add", &[&from, &format!("d{i}")], &[&to]));
    }
    nodes.push(node("Identity", &["c40"]));
    let error = refused(graph(&[1], &[("n", ints(&[1 << 22]))], nodes));
    assert!(matches!(error, ImportError::Node { fault: Fault::TooLarge, .. }), "{error}");
}

#[test]
fn broken_structure_is_refused_by_name() {
    let relu = || vec![node("Relu", &["x"])];
    let name = |name: &str| name.to_owned();
    let undefined = refused(graph(&[1], &[], vec![node("Add", &["x", "z"])]));
    assert_eq!(undefined, ImportError::Undefined { node: name("y"), value: name("z") });
    let no_output = refused(graph(&[1], &[], vec![]));
    assert_eq!(no_output, ImportError::Undefined { node: name("graph output"), value: name("y") });
    let circle = vec![NodeProto::new("Add", &["x", "b"], &["a"]), NodeProto::new("Relu", &["a"], &["b"])];
    assert_eq!(refused(graph(&[1], &[], circle)), ImportError::Cycle { node: name("a") });
    let twice = vec![node("Relu", &["x"]), node("Abs", &["x"])];
    assert_eq!(refused(graph(&[1], &[], twice)), ImportError::DuplicateName { name: name("y") });
    let shadowed = refused(graph(&[1], &[("y", ints(&[1]))], relu()));
    assert_eq!(shadowed, ImportError::DuplicateName { name: name("y") });
    let constants = [("c", ints(&[1])), ("c", ints(&[1]))];
    assert_eq!(refused(graph(&[1], &constants, relu())), ImportError::DuplicateName { name: name("c") });
    let mask =
        vec![NodeProto::new("Dropout", &["x"], &["d", "mask"]), node("Cast", &["mask"]).with_int("to", 1)];
    let unsupported = refused(graph(&[1], &[], mask));
    assert!(matches!(unsupported, ImportError::Node { fault: Fault::UnsupportedOutput { index: 1 }, .. }));
    // Nodes out of order are put in order.
    let reversed = vec![node("Relu", &["a"]), NodeProto::new("Abs", &["x"], &["a"])];
    assert_eq!(read(13, graph(&[1], &[], reversed)).unwrap().nodes[0].op.name(), "Abs");
}

#[test]
fn broken_files_are_refused() {
    let options = ImportOptions::default();
    let model = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = ModelProto::new(13, graph(&[1], &[], vec![node("Relu", &["x"])]));
        change(&mut model);
        import_model(&model, &options).unwrap_err()
    };
    assert!(matches!(import(b"\x0a\xff", &options), Err(ImportError::Decode { .. })));
    assert_eq!(model(&|m| m.graph = None), ImportError::NoGraph);
    assert_eq!(model(&|m| m.opset_import.clear()), ImportError::Opset { found: None });
    assert_eq!(model(&|m| m.opset_import[0].version = 29), ImportError::Opset { found: Some(29) });
    let function = ImportError::LocalFunction { function: "f".to_owned() };
    assert_eq!(model(&|m| m.functions.push(FunctionProto { name: "f".to_owned() })), function);
    let elsewhere = TensorProto { name: "w".to_owned(), data_location: 1, ..TensorProto::default() };
    let external = ImportError::Tensor { tensor: "w".to_owned(), fault: TensorFault::ExternalData };
    assert_eq!(model(&|m| m.graph.as_mut().unwrap().initializer.push(elsewhere.clone())), external);
    let sparse =
        SparseTensorProto { values: Some(TensorProto { name: "s".to_owned(), ..TensorProto::default() }) };
    let refused = ImportError::Tensor { tensor: "s".to_owned(), fault: TensorFault::Sparse };
    assert_eq!(model(&|m| m.graph.as_mut().unwrap().sparse_initializer.push(sparse.clone())), refused);
}

#[test]
fn inputs_and_outputs_must_be_tensors_a_plan_can_hold() {
    let relu = vec![node("Relu", &["x"])];
    let input = |fault| ImportError::Input { input: "x".to_owned(), fault };
    let with = |change: &dyn Fn(&mut ValueInfoProto)| {
        let mut graph = graph(&[1], &[], relu.clone());
        change(&mut graph.input[0]);
        refused(graph)
    };
    assert_eq!(with(&|i| i.r#type = None), input(InputFault::NotATensor));
    let tensor = |i: &mut ValueInfoProto, elem_type| {
        i.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = elem_type
    };
    assert_eq!(with(&|i| tensor(i, data_type::DOUBLE)), input(InputFault::DType(data_type::DOUBLE)));
    let open = |i: &mut ValueInfoProto| i.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape = None;
    assert_eq!(with(&open), input(InputFault::NoShape));
    assert_eq!(refused(graph(&[1 << 20, 1 << 20], &[], relu.clone())), input(InputFault::TooLarge));
    let mut double = graph(&[1], &[], vec![node("Cast", &["x"]).with_int("to", data_type::DOUBLE.into())]);
    double.output[0] = ValueInfoProto { name: "y".to_owned(), ..double.input[0].clone() };
    tensor(&mut double.output[0], data_type::DOUBLE);
    let output =
        ImportError::Output { output: "y".to_owned(), declared: data_type::DOUBLE, found: DType::F32 };
    assert_eq!(refused(double), output);
}

#[test]
fn shapes_given_must_fit_the_file() {
    let model = ModelProto::new(13, graph(&[2, 4], &[], vec![node("Relu", &["x"])]));
    let options = ImportOptions { shapes: [("x".to_owned(), vec![3, 4])].into(), ..ImportOptions::default() };
    let mismatch =
        ImportError::Input { input: "x".to_owned(), fault: InputFault::Mismatch { given: vec![3, 4] } };
    assert_eq!(import_model(&model, &options).unwrap_err(), mismatch);
}

#[test]
fn dimensions_given_must_be_dimensions_of_an_input() {
    let options = ImportOptions { dims: [("M".to_owned(), 2)].into(), ..ImportOptions::default() };
    let refusal = |dims: &[Dim]| {
        let mut graph = GraphProto::new("test").with_input("x", DType::F32, dims);
        graph.node = vec![node("Relu", &["x"])];
        graph.output.push(ValueInfoProto { name: "y".to_owned(), r#type: None });
        let error = import_model(&ModelProto::new(13, graph), &options).unwrap_err();
        (error.to_string(), error)
    };
    let superfluous = |named: &[&str]| ImportError::SuperfluousDim {
        dim: "M".to_owned(),
        named: named.iter().map(|&name| name.to_owned()).collect(),
    };
    let (text, error) = refusal(&["T".into(), "N".into(), 3.into(), "N".into()]);
    assert_eq!(error, superfluous(&["N", "T"]));
    assert!(text.contains("'M'") && text.contains("'N', 'T'"), "{text}");
    let (text, error) = refusal(&[2.into()]);
    assert_eq!(error, superfluous(&[]));
    assert!(text.contains("leave --dim M out"), "{text}");
}

#[test]
fn shapes_given_must_be_shapes_of_an_input() {
    let model = ModelProto::new(13, graph(&[2, 4], &[], vec![node("Relu", &["x"])]));
    let shapes = [("X".to_owned(), vec![2, 4]), ("x".to_owned(), vec![2, 4])].into();
    let error = import_model(&model, &ImportOptions { shapes, ..ImportOptions::default() }).unwrap_err();
    let superfluous = ImportError::SuperfluousShape { input: "X".to_owned(), inputs: vec!["x".to_owned()] };
    assert_eq!(error, superfluous);
    let operands = [("scale".to_owned(), floats(&[1], &[1.0]))].into();
    let error = import_model(&model, &ImportOptions { operands, ..ImportOptions::default() }).unwrap_err();
    assert!(error.to_string().contains("no input 'scale'") && error.to_string().contains("it has 'x'"));
}

#[test]
fn operands_given_are_frozen_where_they_are_needed() {
    let graph = graph(&[2, 4], &[], vec![node("Reshape", &["x", "shape"])]);
    let graph = graph.with_input("shape", DType::I64, &[1.into()]);
    let model = ModelProto::new(13, graph);
    let mut options = ImportOptions::default();
    let open = import_model(&model, &options).unwrap_err();
    assert!(matches!(open, ImportError::Node { fault: Fault::NotConstant { index: 1 }, .. }));
    options.operands.insert("shape".to_owned(), ints(&[-1]));
    options.operands.insert("x".to_owned(), floats(&[2, 4], &[0.0; 8]));
    let graph = import_model(&model, &options).unwrap();
    assert_eq!((graph.inputs.len(), graph.frozen.len()), (1, 1));
    assert_eq!(
        (graph.frozen[0].name.as_str(), graph[graph.outputs[0]].shape.as_slice()),
        ("shape", [8].as_slice())
    );
}
