//! Reading an ONNX file into a [`Graph`].

mod input;
mod node;
mod operator;
mod order;
pub mod proto;
mod tensor;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};

use ingraft_tensor::DType;
use prost::Message;

pub(crate) use self::node::NodeReader;
pub use self::operator::operators;
use self::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::error::{Fault, ImportError, InputFault, TensorFault};
use crate::graph::{Builder, Graph, Tensor, ValueId};

/// The oldest default operator set understood.
pub const OPSET_MIN: i64 = 7;

/// The newest default operator set understood.
pub const OPSET_MAX: i64 = 28;

/// What the file leaves open.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Extents of named dimensions (`--dim N=1`); a name that no input has is refused.
    pub dims: BTreeMap<String, usize>,
    /// Shapes of graph inputs (`--shapes IN.npz`); they go before `dims`, and a name that is no input is refused.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of graph inputs (`--shapes IN.npz`), used where an operator needs one at compile time: a shape, an axis, a
    /// scale. Such an input is then constant and listed in [`Graph::frozen`]; the others stay inputs.
    pub operands: BTreeMap<String, Tensor>,
}

/// Reads a model.
///
/// Every value of the result has a static shape, shape arithmetic and other
/// constant expressions are evaluated, and quantized weights stay in their
/// stored type behind `DequantizeLinear`. Time and memory are linear in the
/// size of the file.
///
/// # Errors
/// An [`ImportError`] that names the input, tensor or node and the reason.
///
/// # Examples
/// ```
/// use ingraft_compile::{ImportError, ImportOptions, import};
///
/// assert_eq!(import(&[], &ImportOptions::default()).unwrap_err(), ImportError::NoGraph);
/// ```
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Graph, ImportError> {
    let model = ModelProto::decode(bytes).map_err(|e| ImportError::Decode { reason: e.to_string() })?;
    import_model(&model, options)
}

/// The initializers of a model that hold f32 values, by name, as the file has them: before anything is folded.
///
/// # Errors
/// [`ImportError::Decode`], [`ImportError::NoGraph`]; a tensor that cannot be read is left out.
pub fn initializers(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, ImportError> {
    let model = ModelProto::decode(bytes).map_err(|e| ImportError::Decode { reason: e.to_string() })?;
    let graph = model.graph.as_ref().ok_or(ImportError::NoGraph)?;
    let read = |proto: &proto::TensorProto| Some((proto.name.clone(), tensor::read(proto).ok()?));
    Ok(graph.initializer.iter().filter_map(read).filter(|(_, held)| held.dtype() == DType::F32).collect())
}

/// Reads a model that is already decoded, or was built in memory.
///
/// # Errors
/// As [`import`].
pub fn import_model(model: &ModelProto, options: &ImportOptions) -> Result<Graph, ImportError> {
    let graph = model.graph.as_ref().ok_or(ImportError::NoGraph)?;
    if let Some(function) = model.functions.first() {
        return Err(ImportError::LocalFunction { function: function.name.clone() });
    }
    let default = model.opset_import.iter().find(|set| is_standard(&set.domain));
    let found = default.map(|set| set.version);
    let opset = found.filter(|v| (OPSET_MIN..=OPSET_MAX).contains(v)).ok_or(ImportError::Opset { found })?;
    let mut importer = Importer { builder: Builder::new(model.encoded_len()), scope: HashMap::new(), opset };
    importer.read_constants(graph)?;
    importer.read_inputs(graph, options)?;
    let wanted = wanted_names(graph);
    for node in order::sorted(graph, |name| importer.scope.contains_key(name))? {
        importer.read_node(node, &wanted)?;
    }
    importer.finish(graph)
}

struct Importer<'a> {
    builder: Builder,
    scope: HashMap<&'a str, ValueId>,
    opset: i64,
}

impl<'a> Importer<'a> {
    fn read_constants(&mut self, graph: &'a GraphProto) -> Result<(), ImportError> {
        if let Some(sparse) = graph.sparse_initializer.first() {
            let tensor = sparse.values.as_ref().map(|v| v.name.clone()).unwrap_or_default();
            return Err(ImportError::Tensor { tensor, fault: TensorFault::Sparse });
        }
        for proto in &graph.initializer {
            let fault = |fault| ImportError::Tensor { tensor: proto.name.clone(), fault };
            let id = self.builder.constant(&proto.name, tensor::read(proto).map_err(fault)?);
            self.define(&proto.name, id)?;
        }
        Ok(())
    }

    fn read_inputs(&mut self, graph: &'a GraphProto, options: &ImportOptions) -> Result<(), ImportError> {
        // Old files list their constants among the inputs, too.
        let constants: HashSet<&str> = self.scope.keys().copied().collect();
        let inputs = graph.input.iter().filter(|info| !constants.contains(info.name.as_str()));
        input::check_dims(inputs.clone(), options)?;
        input::check_shapes(&graph.input, options)?;
        for info in inputs {
            let (dtype, shape) = input::resolve(info, options)?;
            let refused = |_| ImportError::Input { input: info.name.clone(), fault: InputFault::TooLarge };
            let id = self.builder.input(&info.name, dtype, shape).map_err(refused)?;
            if let Some(tensor) = options.operands.get(&info.name) {
                self.builder.hint(id, tensor.clone());
            }
            self.define(&info.name, id)?;
        }
        Ok(())
    }

    fn read_node(&mut self, proto: &'a NodeProto, wanted: &HashSet<&str>) -> Result<(), ImportError> {
        let refused = |fault| ImportError::Node {
            node: node::name_of(proto).to_owned(),
            op: proto.op_type.clone(),
            fault,
        };
        let inputs = proto.input.iter().map(|name| self.scope.get(name.as_str()).copied()).collect();
        let reader = operator::find(&proto.op_type).filter(|_| is_standard(&proto.domain));
        let mut node = NodeReader::new(proto, self.opset, &mut self.builder, inputs).map_err(refused)?;
        let domain = if is_standard(&proto.domain) { String::new() } else { proto.domain.clone() };
        let reader = reader.ok_or(Fault::UnknownOperator { domain }).map_err(refused)?;
        reader(&mut node).map_err(refused)?;
        for (index, (name, result)) in proto.output.iter().zip(node.into_results()).enumerate() {
            match result {
                Some(id) => self.define(name, id)?,
                None if wanted.contains(name.as_str()) => {
                    return Err(refused(Fault::UnsupportedOutput { index }));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn define(&mut self, name: &'a str, id: ValueId) -> Result<(), ImportError> {
        match self.scope.insert(name, id) {
            None => Ok(()),
            Some(_) => Err(ImportError::DuplicateName { name: name.to_owned() }),
        }
    }

    fn finish(self, graph: &'a GraphProto) -> Result<Graph, ImportError> {
        let mut outputs = Vec::with_capacity(graph.output.len());
        for info in &graph.output {
            let id = self.scope.get(info.name.as_str()).copied();
            let undefined =
                ImportError::Undefined { node: "graph output".to_owned(), value: info.name.clone() };
            let id = id.ok_or(undefined)?;
            self.check_output(info, id)?;
            outputs.push(id);
        }
        Ok(self.builder.finish(&outputs))
    }

    /// Refuses an output whose declared element type is not the one it is computed in, such as double.
    fn check_output(&self, info: &ValueInfoProto, id: ValueId) -> Result<(), ImportError> {
        let declared = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).map_or(0, |t| t.elem_type);
        let found = self.builder.value_type(id).dtype;
        if declared == 0 || tensor::dtype(declared) == Some(found) {
            return Ok(());
        }
        Err(ImportError::Output { output: info.name.clone(), declared, found })
    }
}

/// The names that some node or the graph's output list asks for.
fn wanted_names(graph: &GraphProto) -> HashSet<&str> {
    let operands = graph.node.iter().flat_map(|node| &node.input).map(String::as_str);
    let outputs = graph.output.iter().map(|info| info.name.as_str());
    operands.chain(outputs).filter(|name| !name.is_empty()).collect()
}

fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}
