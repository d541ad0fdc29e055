//! Recognizes layer normalization that the exporter wrote out.

use super::super::{Graph, NodeId, Tensor, Uses, ValueId};
use crate::op::{Binary, Op, ReduceKind, Unary};

/// Replaces written-out layer normalizations by one node, and takes a following scale and bias into it. Gives the
/// number of edits.
pub(super) fn run(graph: &mut Graph) -> usize {
    let uses = Uses::of(graph);
    let mut edits = 0;
    for id in graph.node_ids() {
        let view = View { graph, uses: &uses };
        let Some(norm) =
            view.plain(id).or_else(|| view.scale(id)).or_else(|| view.bias(id)).or_else(|| view.fused(id))
        else {
            continue;
        };
        let Some(&y) = graph[id].outputs.first() else { continue };
        // A scale or bias of another shape would change the result's.
        if graph[norm.x].shape != graph[y].shape {
            continue;
        }
        edits += 1;
        let scale = norm.scale.unwrap_or_else(|| ones(graph, norm.x, norm.axis));
        let node = &mut graph.nodes[id.index()];
        node.op = Op::LayerNorm { axis: norm.axis, epsilon: norm.epsilon };
        node.inputs = vec![Some(norm.x), Some(scale)];
        node.inputs.extend(norm.bias.map(Some));
    }
    graph.remove_dead();
    edits
}

/// A layer normalization; without a scale it is one.
struct Norm {
    x: ValueId,
    axis: usize,
    epsilon: f32,
    scale: Option<ValueId>,
    bias: Option<ValueId>,
}

/// What `√(variance + ε)` is taken of.
struct Deviation {
    x: ValueId,
    mean: ValueId,
    axis: usize,
    epsilon: f32,
}

fn ones(graph: &mut Graph, x: ValueId, axis: usize) -> ValueId {
    let shape = graph[x].shape.get(axis..).unwrap_or_default().to_vec();
    let ones = vec![1.0; shape.iter().product()];
    let tensor = Tensor::from_f32(&shape, &ones).unwrap_or_else(|| Tensor::scalar_f32(1.0));
    graph.add_constant("ones", tensor)
}

struct View<'a> {
    graph: &'a Graph,
    uses: &'a Uses,
}

impl View<'_> {
    fn operands(&self, id: NodeId, op: Binary) -> Option<(ValueId, ValueId)> {
        let node = &self.graph[id];
        (node.op == Op::Binary(op)).then_some((node.input(0)?, node.input(1)?))
    }

    /// Both orders of the operands of a binary function that commutes.
    fn either_order(&self, id: NodeId, op: Binary) -> Option<[(ValueId, ValueId); 2]> {
        self.operands(id, op).map(|(a, b)| [(a, b), (b, a)])
    }

    /// `(x − mean)/σ`.
    fn plain(&self, id: NodeId) -> Option<Norm> {
        let quotient = self.operands(id, Binary::Div).and_then(|(d, s)| Some((d, self.deviation(s)?)));
        let product = || {
            let orders = self.either_order(id, Binary::Mul)?;
            orders.into_iter().find_map(|(d, r)| Some((d, self.reciprocal(r)?)))
        };
        let (centered, deviation) = quotient.or_else(product)?;
        let (x, mean) = self.uses.binary(self.graph, centered, Binary::Sub)?;
        let Deviation { axis, epsilon, .. } = deviation;
        (x == deviation.x && mean == deviation.mean).then_some(Norm {
            x,
            axis,
            epsilon,
            scale: None,
            bias: None,
        })
    }

    /// A normalization without a scale, times a constant.
    fn scale(&self, id: NodeId) -> Option<Norm> {
        let orders = self.either_order(id, Binary::Mul)?;
        let (norm, scale) = orders.into_iter().find_map(|(y, c)| Some((self.normalized(y, c)?, c)))?;
        let unscaled =
            norm.bias.is_none() && self.graph.konst(norm.scale?)?.to_f32().iter().all(|&v| v == 1.0);
        unscaled.then_some(Norm { scale: Some(scale), ..norm })
    }

    /// A normalization without a bias, plus a constant.
    fn bias(&self, id: NodeId) -> Option<Norm> {
        let orders = self.either_order(id, Binary::Add)?;
        let (norm, bias) = orders.into_iter().find_map(|(y, c)| Some((self.normalized(y, c)?, c)))?;
        norm.bias.is_none().then_some(Norm { bias: Some(bias), ..norm })
    }

    /// The normalization that makes `y`, where `c` is a constant that could be its scale or bias and nothing else reads `y`.
    fn normalized(&self, y: ValueId, c: ValueId) -> Option<Norm> {
        self.uses.only_consumer(y)?;
        let node = self.uses.made_by(self.graph, y)?;
        let Op::LayerNorm { axis, epsilon } = node.op else { return None };
        let x = node.input(0)?;
        self.is_parameter(c, x, axis).then_some(Norm {
            x,
            axis,
            epsilon,
            scale: node.input(1),
            bias: node.input(2),
        })
    }

    /// Whether `c` is a constant shaped as the dimensions of `x` from `axis` on.
    fn is_parameter(&self, c: ValueId, x: ValueId, axis: usize) -> bool {
        self.graph.konst(c).is_some_and(|c| Some(c.shape()) == self.graph[x].shape.get(axis..))
    }

    /// `x·g + (bias − mean·g)` with `g = scale/σ`.
    fn fused(&self, id: NodeId) -> Option<Norm> {
        let orders = self.either_order(id, Binary::Add)?;
        orders.into_iter().find_map(|(scaled, shift)| {
            let (bias, moved) = self.uses.binary(self.graph, shift, Binary::Sub)?;
            let (a, b) = self.uses.binary(self.graph, scaled, Binary::Mul)?;
            let (mean, gain) = self.uses.binary(self.graph, moved, Binary::Mul)?;
            let x = if b == gain { a } else { b };
            let (r, scale) = self.uses.binary(self.graph, gain, Binary::Mul)?;
            let Deviation { x: source, mean: center, axis, epsilon } = self.reciprocal(r)?;
            let fits = (a == gain || b == gain) && x == source && mean == center;
            let parameters = self.is_parameter(scale, x, axis) && self.is_parameter(bias, x, axis);
            (fits && parameters).then_some(Norm { x, axis, epsilon, scale: Some(scale), bias: Some(bias) })
        })
    }

    /// `1/√(variance + ε)`.
    fn reciprocal(&self, id: ValueId) -> Option<Deviation> {
        match self.uses.unary(self.graph, id) {
            Some((Unary::Reciprocal, root)) => self.deviation(root),
            _ => {
                let (one, root) = self.uses.binary(self.graph, id, Binary::Div)?;
                (self.graph.uniform(one)? == 1.0).then(|| self.deviation(root))?
            }
        }
    }

    /// `√(mean((x − mean)²) + ε)`.
    fn deviation(&self, id: ValueId) -> Option<Deviation> {
        let sum = match self.uses.unary(self.graph, id) {
            Some((Unary::Sqrt, sum)) => sum,
            _ => {
                let (sum, half) = self.uses.binary(self.graph, id, Binary::Pow)?;
                (self.graph.uniform(half)? == 0.5).then_some(sum)?
            }
        };
        let (a, b) = self.uses.binary(self.graph, sum, Binary::Add)?;
        let (variance, epsilon) = match self.graph.uniform(b) {
            Some(epsilon) => (a, epsilon),
            None => (b, self.graph.uniform(a)?),
        };
        let (squares, axis) = self.mean(variance)?;
        let centered = self.squared(squares)?;
        let (x, mean) = self.uses.binary(self.graph, centered, Binary::Sub)?;
        let (source, mean_axis) = self.mean(mean)?;
        (source == x && mean_axis == axis).then_some(Deviation { x, mean, axis, epsilon })
    }

    /// The operand of a mean over the last dimensions, which stay with extent 1, and the first of them.
    fn mean(&self, id: ValueId) -> Option<(ValueId, usize)> {
        let node = self.uses.made_by(self.graph, id)?;
        let Op::Reduce { kind: ReduceKind::Mean, axes, keep_dims: true } = &node.op else { return None };
        let x = node.input(0)?;
        let first = *axes.first()?;
        (first..self.graph[x].shape.len()).eq(axes.iter().copied()).then_some((x, first))
    }

    /// What is squared to make `id`.
    fn squared(&self, id: ValueId) -> Option<ValueId> {
        if let Some((a, b)) = self.uses.binary(self.graph, id, Binary::Mul) {
            return (a == b).then_some(a);
        }
        let (base, two) = self.uses.binary(self.graph, id, Binary::Pow)?;
        (self.graph.uniform(two)? == 2.0).then_some(base)
    }
}

#[cfg(test)]
mod tests {
    use ingraft_tensor::DType;

    use super::*;
    use crate::graph::Builder;
    use crate::reference::{assert_same, noise};

    struct Parts {
        b: Builder,
        x: ValueId,
        mean: ValueId,
        centered: ValueId,
        root: ValueId,
        scale: ValueId,
        bias: ValueId,
    }

    /// Mean, centered input and standard deviation over the last dimension; the square by `Mul` or `Pow`.
    fn parts(by_power: bool) -> Parts {
        let mut b = Builder::new(0);
        let x = b.input("x", DType::F32, vec![2, 3, 8]).unwrap();
        let mean_op = Op::Reduce { kind: ReduceKind::Mean, axes: vec![2], keep_dims: true };
        let mean = b.add("mean", mean_op.clone(), &[x]).unwrap();
        let centered = b.add("centered", Op::Binary(Binary::Sub), &[x, mean]).unwrap();
        let two = b.constant("two", Tensor::scalar_f32(2.0));
        let square = match by_power {
            true => b.add("square", Op::Binary(Binary::Pow), &[centered, two]),
            false => b.add("square", Op::Binary(Binary::Mul), &[centered, centered]),
        };
        let variance = b.add("variance", mean_op, &[square.unwrap()]).unwrap();
        let epsilon = b.constant("epsilon", Tensor::scalar_f32(1e-5));
        let sum = b.add("sum", Op::Binary(Binary::Add), &[variance, epsilon]).unwrap();
        let root = b.add("root", Op::Unary(Unary::Sqrt), &[sum]).unwrap();
        let (scale, bias) = (b.constant("scale", noise(&[8], 1)), b.constant("bias", noise(&[8], 2)));
        Parts { b, x, mean, centered, root, scale, bias }
    }

    fn divided() -> (Builder, ValueId) {
        let Parts { mut b, centered, root, scale, bias, .. } = parts(true);
        let y = b.add("norm", Op::Binary(Binary::Div), &[centered, root]).unwrap();
        let y = b.add("scaled", Op::Binary(Binary::Mul), &[scale, y]).unwrap();
        let y = b.add("y", Op::Binary(Binary::Add), &[y, bias]).unwrap();
        (b, y)
    }

    fn by_reciprocal() -> (Builder, ValueId) {
        let Parts { mut b, x, mean, root, scale, bias, .. } = parts(false);
        let r = b.add("r", Op::Unary(Unary::Reciprocal), &[root]).unwrap();
        let gain = b.add("gain", Op::Binary(Binary::Mul), &[r, scale]).unwrap();
        let scaled = b.add("scaled", Op::Binary(Binary::Mul), &[x, gain]).unwrap();
        let moved = b.add("moved", Op::Binary(Binary::Mul), &[mean, gain]).unwrap();
        let shift = b.add("shift", Op::Binary(Binary::Sub), &[bias, moved]).unwrap();
        let y = b.add("y", Op::Binary(Binary::Add), &[scaled, shift]).unwrap();
        (b, y)
    }

    fn without_parameters() -> (Builder, ValueId) {
        let Parts { mut b, centered, root, .. } = parts(false);
        let r = b.add("r", Op::Unary(Unary::Reciprocal), &[root]).unwrap();
        let y = b.add("y", Op::Binary(Binary::Mul), &[r, centered]).unwrap();
        (b, y)
    }

    #[test]
    fn recognizes_every_spelling() {
        for (write, inputs) in [(divided as fn() -> _, 3), (by_reciprocal, 3), (without_parameters, 2)] {
            let (b, y): (Builder, ValueId) = write();
            let before = b.finish(&[y]);
            let mut after = before.clone();
            while run(&mut after) > 0 {}
            let [node] = after.nodes.as_slice() else { panic!("{:?}", after.census()) };
            assert!(matches!(node.op, Op::LayerNorm { axis: 2, .. }));
            assert_eq!(node.inputs.len(), inputs);
            assert_same(&before, &after, 2e-6);
        }
    }

    #[test]
    fn leaves_other_chains_alone() {
        let Parts { mut b, x, root, .. } = parts(false);
        // Not centered: x/σ.
        let y = b.add("y", Op::Binary(Binary::Div), &[x, root]).unwrap();
        assert_eq!(run(&mut b.finish(&[y])), 0);
    }
}
