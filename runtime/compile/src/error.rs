//! Why a model was refused.

use ingraft_tensor::DType;

/// Why an ONNX file is not a [`Graph`](crate::Graph).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are not a protobuf message of the ONNX schema.
    Decode {
        /// The decoder's account of the first fault.
        reason: String,
    },
    /// The file holds no graph.
    NoGraph,
    /// The default operator set is older or newer than what is understood, or absent.
    Opset {
        /// The version declared, where there is one.
        found: Option<i64>,
    },
    /// The file defines operators of its own.
    LocalFunction {
        /// Name of the first one.
        function: String,
    },
    /// A graph input's dimension has no fixed extent and none was given.
    UnknownDim {
        /// Name of the input.
        input: String,
        /// Position of the dimension.
        axis: usize,
        /// Its name in the file, or `?`.
        dim: String,
    },
    /// An extent was given for a dimension that no graph input has.
    SuperfluousDim {
        /// The name given.
        dim: String,
        /// The names there are.
        named: Vec<String>,
    },
    /// A shape was given for something that is no graph input.
    SuperfluousShape {
        /// The name given.
        input: String,
        /// The inputs there are.
        inputs: Vec<String>,
    },
    /// A graph input cannot be taken as declared or as asked for.
    Input {
        /// Name of the input.
        input: String,
        /// What is wrong.
        fault: InputFault,
    },
    /// A graph output is declared with an element type it cannot have here.
    Output {
        /// Name of the output.
        output: String,
        /// The ONNX code of the type declared.
        declared: i32,
        /// The type it is computed in.
        found: DType,
    },
    /// A constant in the file cannot be read.
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        fault: TensorFault,
    },
    /// Two values have the same name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node or the graph's output list names a value that nothing defines.
    Undefined {
        /// The node, or `graph output`.
        node: String,
        /// The name.
        value: String,
    },
    /// Nodes depend on each other in a circle.
    Cycle {
        /// A node of the circle.
        node: String,
    },
    /// A node cannot be imported.
    Node {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a graph input.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum InputFault {
    /// The file does not say that it is a tensor.
    NotATensor,
    /// Its element type is not one a plan can hold; the ONNX code.
    DType(i32),
    /// The file does not even fix the number of dimensions, and no shape was given.
    NoShape,
    /// The shape given contradicts the file.
    Mismatch {
        /// The shape given.
        given: Vec<usize>,
    },
    /// More elements than a plan can hold.
    TooLarge,
}

/// What is wrong with a constant tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TensorFault {
    /// The data lies in another file.
    ExternalData,
    /// It is a sparse tensor.
    Sparse,
    /// Its element type is not one a plan can hold; the ONNX code.
    DType(i32),
    /// A dimension is negative or the element count is above 2³¹−1.
    Dims(Vec<i64>),
    /// There is more or less data than its dimensions ask for.
    Length {
        /// Elements its dimensions ask for.
        expected: usize,
        /// Elements or bytes found.
        found: usize,
    },
    /// A value is out of range for the element type it is stored in.
    Range,
}

/// What is wrong with one node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// No such operator is known.
    UnknownOperator {
        /// Its domain; empty for the standard's own.
        domain: String,
    },
    /// The operator's form changed with this opset, and the older one is not supported.
    OldForm {
        /// The first opset with the form that is.
        since: i64,
    },
    /// The operator carries a graph of its own (`If`, `Loop`, `Scan`).
    Subgraph,
    /// An attribute this operator is not known to have.
    UnknownAttribute {
        /// Its name.
        attribute: String,
    },
    /// A required attribute is absent.
    MissingAttribute {
        /// Its name.
        attribute: &'static str,
    },
    /// An attribute has the wrong type or a value that is not supported.
    Attribute {
        /// Its name.
        attribute: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A required operand is absent.
    MissingInput {
        /// Its position.
        index: usize,
    },
    /// More operands or results than the operator has.
    Arity {
        /// How many there are.
        found: usize,
    },
    /// An operand decides a shape or a quantization, so it must be known at compile time.
    NotConstant {
        /// Its position.
        index: usize,
    },
    /// An operand has a value that is not supported.
    Operand {
        /// Its position.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An operand's element type is not one the operator takes.
    DType {
        /// Its position.
        index: usize,
        /// The type found.
        dtype: DType,
    },
    /// The operands' shapes do not fit each other or the attributes.
    Shape {
        /// What does not fit.
        reason: &'static str,
        /// The shapes of all operands present.
        shapes: Vec<Vec<usize>>,
    },
    /// A result is used that is not supported.
    UnsupportedOutput {
        /// Its position.
        index: usize,
    },
    /// A result has more elements than a plan, or constants more bytes than the import, may hold.
    TooLarge,
    /// A constant among its attributes cannot be read.
    Tensor(TensorFault),
}

impl Fault {
    /// A shape fault; the shapes are filled in where they are known.
    pub(crate) fn shape(reason: &'static str) -> Self {
        Self::Shape { reason, shapes: Vec::new() }
    }
}

impl core::fmt::Display for ImportError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Decode { reason } => write!(f, "not an ONNX file: {reason}"),
            Self::NoGraph => f.write_str("the file holds no graph"),
            Self::Opset { found: Some(v) } => {
                let (lo, hi) = (crate::onnx::OPSET_MIN, crate::onnx::OPSET_MAX);
                write!(f, "opset {v} is outside {lo}..={hi}; convert the model with onnx.version_converter")
            }
            Self::Opset { found: None } => {
                f.write_str("the file declares no version of the default operator set")
            }
            Self::LocalFunction { function } => {
                write!(f, "function '{function}' is defined in the file; inline it with onnx.inliner")
            }
            Self::UnknownDim { input, axis, dim } => {
                let flag =
                    if dim == "?" { "--shapes IN.npz".to_owned() } else { format!("--dim {dim}=<extent>") };
                write!(f, "input '{input}': dimension {axis} ('{dim}') is not fixed; give {flag}")
            }
            Self::SuperfluousDim { dim, named } if named.is_empty() => {
                write!(f, "no input has a dimension '{dim}', or any that has a name; leave --dim {dim} out")
            }
            Self::SuperfluousDim { dim, named } => {
                write!(f, "no input has a dimension '{dim}'; those with a name are '{}'", named.join("', '"))
            }
            Self::SuperfluousShape { input, inputs } => {
                let inputs = inputs.join("', '");
                write!(f, "the model has no input '{input}' for the array of --shapes; it has '{inputs}'")
            }
            Self::Input { input, fault } => write!(f, "input '{input}': {fault}"),
            Self::Output { output, declared, found } => {
                let declared = onnx_dtype(*declared);
                write!(
                    f,
                    "output '{output}' is {declared} in the file and {found} here; cast it in the model"
                )
            }
            Self::Tensor { tensor, fault } => write!(f, "constant '{tensor}': {fault}"),
            Self::DuplicateName { name } => write!(f, "value '{name}' is defined twice"),
            Self::Undefined { node, value } => write!(f, "{node}: value '{value}' is not defined"),
            Self::Cycle { node } => write!(f, "node '{node}' depends on its own result"),
            Self::Node { node, op, fault } => write!(f, "node '{node}' ({op}): {fault}"),
        }
    }
}

impl core::fmt::Display for InputFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotATensor => f.write_str("is not a tensor"),
            Self::DType(code) => write!(f, "element type {} is not supported", onnx_dtype(*code)),
            Self::NoShape => f.write_str("has no shape; give --shapes IN.npz"),
            Self::Mismatch { given } => write!(f, "shape {given:?} contradicts the model"),
            Self::TooLarge => f.write_str("has more than 2^31-1 elements"),
        }
    }
}

impl core::fmt::Display for TensorFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::ExternalData => {
                f.write_str("its data is in another file; save the model with save_as_external_data=False")
            }
            Self::Sparse => f.write_str("sparse tensors are not supported; store it dense"),
            Self::DType(code) => write!(f, "element type {} is not supported", onnx_dtype(*code)),
            Self::Dims(dims) => write!(f, "dimensions {dims:?} are negative or too large"),
            Self::Length { expected, found } => write!(f, "expected {expected} elements, found {found}"),
            Self::Range => f.write_str("a value does not fit its element type"),
        }
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownOperator { domain } if domain.is_empty() => f.write_str("operator is not supported"),
            Self::UnknownOperator { domain } => write!(f, "operators of domain '{domain}' are not supported"),
            Self::OldForm { since } => {
                write!(f, "its form before opset {since} is not supported; use onnx.version_converter")
            }
            Self::Subgraph => f.write_str("control flow is not supported"),
            Self::UnknownAttribute { attribute } => write!(f, "attribute '{attribute}' is not supported"),
            Self::MissingAttribute { attribute } => write!(f, "attribute '{attribute}' is missing"),
            Self::Attribute { attribute, reason } => write!(f, "attribute '{attribute}' {reason}"),
            Self::MissingInput { index } => write!(f, "input {index} is missing"),
            Self::Arity { found } => write!(f, "{found} inputs or outputs are too many"),
            Self::NotConstant { index } => {
                write!(f, "input {index} must be known at compile time; give its value with --shapes IN.npz")
            }
            Self::Operand { index, reason } => write!(f, "input {index} {reason}"),
            Self::DType { index, dtype } => write!(f, "input {index} has element type {dtype}"),
            Self::Shape { reason, shapes } => write!(f, "{reason}; input shapes {shapes:?}"),
            Self::UnsupportedOutput { index } => write!(f, "output {index} is not supported"),
            Self::TooLarge => f.write_str("the result is too large"),
            Self::Tensor(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for ImportError {}
impl core::error::Error for Fault {}

/// The name of an ONNX element type code.
fn onnx_dtype(code: i32) -> &'static str {
    let names = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
        "float8e4m3fn",
        "float8e4m3fnuz",
        "float8e5m2",
        "float8e5m2fnuz",
        "uint4",
        "int4",
        "float4e2m1",
        "float8e8m0",
    ];
    usize::try_from(code).ok().and_then(|i| names.get(i)).copied().unwrap_or("unknown")
}
