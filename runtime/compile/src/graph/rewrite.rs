//! Edits that keep a graph well formed.

use super::{Graph, Node, Tensor, Value, ValueId};

impl Graph {
    /// Adds a constant with a name derived from `name`.
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        let name = format!("{name}#{}", id.0);
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        self.values.push(Value { name, dtype, shape, konst: Some(tensor) });
        id
    }

    /// Adds a value of the type of `like` with a name derived from `name`.
    pub fn add_like(&mut self, name: &str, like: ValueId) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        let Value { dtype, shape, .. } = self[like].clone();
        self.values.push(Value { name: format!("{name}#{}", id.0), dtype, shape, konst: None });
        id
    }

    /// Exchanges the names of two values.
    pub fn swap_names(&mut self, a: ValueId, b: ValueId) {
        let name = core::mem::take(&mut self.values[a.index()].name);
        self.values[a.index()].name = core::mem::replace(&mut self.values[b.index()].name, name);
    }

    /// Removes nodes none of whose results are needed for an output, and the constants that only they used.
    /// Graph inputs stay. Value ids stay valid: a value that is gone keeps its place, without data.
    pub fn remove_dead(&mut self) {
        let mut live = vec![false; self.values.len()];
        for output in &self.outputs {
            live[output.index()] = true;
        }
        let mut kept: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for node in core::mem::take(&mut self.nodes).into_iter().rev() {
            if node.outputs.iter().any(|output| live[output.index()]) {
                for input in node.inputs.iter().flatten() {
                    live[input.index()] = true;
                }
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        for (value, live) in self.values.iter_mut().zip(live) {
            if !live {
                value.konst = None;
            }
        }
    }
}
