//! The part of the ONNX protobuf schema this crate reads, declared by hand so that a build needs no `protoc`.
//!
//! Field numbers are those of `onnx.proto3`. Repeated scalars are read packed or
//! unpacked and written packed. Fields that carry no meaning for inference
//! (documentation, producer, training) are skipped by the decoder; fields that
//! change the meaning of a model are declared even where they are refused, so
//! that they can be refused by name. With their `new` and `with_…` functions the
//! same types write small models.

/// A model file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelProto {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Operator sets used.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operators defined in the file.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// A domain and the version of its operator set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSetIdProto {
    /// Empty or `ai.onnx` for the standard's own.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// An operator defined in the file; only its name, to refuse it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FunctionProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// A graph.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GraphProto {
    /// Nodes, in an order in which they can run.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name of the graph.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Inputs, and in old files also the constants.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Sparse constants.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
}

/// One application of an operator.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeProto {
    /// Names of the operands; empty for an omitted one.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the results; empty for an unwanted one.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name, may be empty.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Domain of the operator.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
}

/// A named attribute: exactly one of the value fields is set, as `type` says.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Which field holds the value, an [`AttributeType`].
    #[prost(enumeration = "AttributeType", tag = "20")]
    pub r#type: i32,
    /// A float.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// An integer.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// A string.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// Floats.
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
}

/// The kinds of attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    /// Not declared.
    Undefined = 0,
    /// `f`.
    Float = 1,
    /// `i`.
    Int = 2,
    /// `s`.
    String = 3,
    /// `t`.
    Tensor = 4,
    /// A subgraph, not read.
    Graph = 5,
    /// `floats`.
    Floats = 6,
    /// `ints`.
    Ints = 7,
    /// `strings`.
    Strings = 8,
    /// Tensors, not read.
    Tensors = 9,
    /// Subgraphs, not read.
    Graphs = 10,
    /// A sparse tensor, not read.
    SparseTensor = 11,
    /// Sparse tensors, not read.
    SparseTensors = 12,
    /// A type, not read.
    TypeProto = 13,
    /// Types, not read.
    TypeProtos = 14,
}

/// A dense constant.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    /// Extents.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// Element type, a code of [`data_type`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Data of a float tensor.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Data of integer tensors of at most 32 bits, booleans, and the bits of half floats.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Data of a 64-bit integer tensor.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Data of any type, little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    /// Data of a double tensor.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Data of unsigned 32 and 64 bit tensors.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Where data in another file lies; only whether there is any.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1 where the data lies in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// A pair of strings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StringStringEntryProto {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A sparse constant; only its values' name, to refuse it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SparseTensorProto {
    /// The nonzero values; their name is the tensor's.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
}

/// Element type codes of [`TensorProto::data_type`].
pub mod data_type {
    /// binary32.
    pub const FLOAT: i32 = 1;
    /// Unsigned 8 bit.
    pub const UINT8: i32 = 2;
    /// Signed 8 bit.
    pub const INT8: i32 = 3;
    /// Unsigned 16 bit.
    pub const UINT16: i32 = 4;
    /// Signed 16 bit.
    pub const INT16: i32 = 5;
    /// Signed 32 bit.
    pub const INT32: i32 = 6;
    /// Signed 64 bit.
    pub const INT64: i32 = 7;
    /// One byte, zero or one.
    pub const BOOL: i32 = 9;
    /// binary16.
    pub const FLOAT16: i32 = 10;
    /// binary64.
    pub const DOUBLE: i32 = 11;
    /// Unsigned 32 bit.
    pub const UINT32: i32 = 12;
    /// Unsigned 64 bit.
    pub const UINT64: i32 = 13;
}

/// A name and a type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfoProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// The type of a value; only tensors are read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypeProto {
    /// Set where the value is a dense tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// The type of a dense tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorTypeProto {
    /// Element type, a code of [`data_type`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Shape, absent where even the rank is open.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape that may have open dimensions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {
    /// Dimensions, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One dimension.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DimensionProto {
    /// Its extent or name; absent where it is open and nameless.
    #[prost(oneof = "dimension_proto::Value", tags = "1, 2")]
    pub value: Option<dimension_proto::Value>,
}

/// The choice inside [`DimensionProto`].
pub mod dimension_proto {
    /// An extent or a name.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        /// A fixed extent.
        #[prost(int64, tag = "1")]
        DimValue(i64),
        /// An open dimension's name.
        #[prost(string, tag = "2")]
        DimParam(String),
    }
}
