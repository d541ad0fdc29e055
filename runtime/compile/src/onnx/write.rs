//! Writing small models in code.

use ingraft_tensor::DType;
use prost::Message;

use super::proto::dimension_proto::Value as Dim;
use super::proto::{
    AttributeProto, AttributeType, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};
use crate::graph::Tensor;

impl ModelProto {
    /// A model of this version of the default operator set.
    ///
    /// # Examples
    /// ```
    /// use ingraft_compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
    /// use ingraft_compile::{ImportOptions, Tensor, import};
    /// use ingraft_tensor::DType;
    ///
    /// let graph = GraphProto::new("scale")
    ///     .with_input("x", DType::F32, &["N".into(), 3.into()])
    ///     .with_constant(TensorProto::new("two", &Tensor::scalar_f32(2.0)))
    ///     .with_node(NodeProto::new("Mul", &["x", "two"], &["y"]))
    ///     .with_output("y", DType::F32);
    /// let options = ImportOptions { dims: [("N".into(), 1)].into(), ..ImportOptions::default() };
    /// let graph = import(&ModelProto::new(13, graph).to_bytes(), &options)?;
    /// assert_eq!(graph[graph.outputs[0]].shape, [1, 3]);
    /// # Ok::<(), ingraft_compile::ImportError>(())
    /// ```
    pub fn new(opset: i64, graph: GraphProto) -> Self {
        let default = OperatorSetIdProto { domain: String::new(), version: opset };
        Self {
            ir_version: IR_VERSION,
            opset_import: vec![default],
            graph: Some(graph),
            functions: Vec::new(),
        }
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

impl GraphProto {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// With another input.
    pub fn with_input(mut self, name: &str, dtype: DType, dims: &[Dim]) -> Self {
        let dim = dims.iter().map(|dim| DimensionProto { value: Some(dim.clone()) }).collect();
        self.input.push(value_info(name, dtype, Some(TensorShapeProto { dim })));
        self
    }

    /// With another output, whose shape is left open.
    pub fn with_output(mut self, name: &str, dtype: DType) -> Self {
        self.output.push(value_info(name, dtype, None));
        self
    }

    /// With another constant.
    pub fn with_constant(mut self, constant: TensorProto) -> Self {
        self.initializer.push(constant);
        self
    }

    /// With another node.
    pub fn with_node(mut self, node: NodeProto) -> Self {
        self.node.push(node);
        self
    }
}

impl NodeProto {
    /// A node without attributes. The empty string stands for an omitted operand or result.
    pub fn new(op_type: &str, input: &[&str], output: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self { op_type: op_type.to_owned(), input: owned(input), output: owned(output), ..Self::default() }
    }

    /// With an integer attribute.
    pub fn with_int(self, name: &str, i: i64) -> Self {
        self.with(AttributeProto { i, ..attribute(name, AttributeType::Int) })
    }

    /// With a list of integers.
    pub fn with_ints(self, name: &str, ints: &[i64]) -> Self {
        self.with(AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) })
    }

    /// With a float attribute.
    pub fn with_float(self, name: &str, f: f32) -> Self {
        self.with(AttributeProto { f, ..attribute(name, AttributeType::Float) })
    }

    /// With a string attribute.
    pub fn with_string(self, name: &str, s: &str) -> Self {
        self.with(AttributeProto { s: s.as_bytes().to_vec(), ..attribute(name, AttributeType::String) })
    }

    /// With a tensor attribute.
    pub fn with_tensor(self, name: &str, tensor: &Tensor) -> Self {
        let t = Some(TensorProto::new("", tensor));
        self.with(AttributeProto { t, ..attribute(name, AttributeType::Tensor) })
    }

    fn with(mut self, attribute: AttributeProto) -> Self {
        self.attribute.push(attribute);
        self
    }
}

impl TensorProto {
    /// A constant.
    pub fn new(name: &str, tensor: &Tensor) -> Self {
        Self {
            name: name.to_owned(),
            data_type: code(tensor.dtype()),
            dims: tensor.shape().iter().map(|&extent| extent as i64).collect(),
            raw_data: tensor.bytes().to_vec(),
            ..Self::default()
        }
    }
}

impl From<usize> for Dim {
    fn from(extent: usize) -> Self {
        Self::DimValue(extent as i64)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::DimParam(name.to_owned())
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

fn value_info(name: &str, dtype: DType, shape: Option<TensorShapeProto>) -> ValueInfoProto {
    let tensor_type = Some(TensorTypeProto { elem_type: code(dtype), shape });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}

/// The ONNX code of an element type.
fn code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => data_type::FLOAT,
        DType::F16 => data_type::FLOAT16,
        DType::I8 => data_type::INT8,
        DType::U8 => data_type::UINT8,
        DType::I16 => data_type::INT16,
        DType::I32 => data_type::INT32,
        DType::I64 => data_type::INT64,
        DType::Bool => data_type::BOOL,
        // The enumeration is open; a type without a code is refused when read back.
        _ => 0,
    }
}

/// The version of the file format that came with opset 13.
const IR_VERSION: i64 = 7;
