//! Recognizes activation functions that the exporter wrote out.

use ingraft_tensor::DType;

use super::super::{Graph, Uses, ValueId};
use crate::op::{Binary, Op, Unary};

/// Replaces chains that compute a known function of one value by that function. Gives the number of edits.
pub(super) fn run(graph: &mut Graph) -> usize {
    let uses = Uses::of(graph);
    let mut edits = 0;
    for id in graph.node_ids() {
        let node = &graph[id];
        let (Op::Binary(Binary::Mul | Binary::Div), Some(&y)) = (&node.op, node.outputs.first()) else {
            continue;
        };
        let Some((unary, x)) = recognize(&View { graph, uses: &uses }, y) else { continue };
        // A factor that broadcasts would change the shape; integers have no such functions.
        if graph[x].shape != graph[y].shape || !matches!(graph[y].dtype, DType::F32 | DType::F16) {
            continue;
        }
        edits += 1;
        let node = &mut graph.nodes[id.index()];
        node.op = Op::Unary(unary);
        node.inputs = vec![Some(x)];
    }
    graph.remove_dead();
    edits
}

struct View<'a> {
    graph: &'a Graph,
    uses: &'a Uses,
}

/// The function that makes `y`, and its operand.
fn recognize(view: &View<'_>, y: ValueId) -> Option<(Unary, ValueId)> {
    let mut product = Product { scalar: 1.0, factors: Vec::new() };
    view.factor(y, PRODUCT_DEPTH, &mut product);
    let scalar = product.scalar;
    match product.factors.as_slice() {
        [only] => hard_sigmoid(view, *only, scalar),
        [a, b] => gated(view, *a, *b, scalar).or_else(|| gated(view, *b, *a, scalar)),
        _ => None,
    }
}

/// `scalar·clamp(a·x + b, 0, 1/scalar)`.
fn hard_sigmoid(view: &View<'_>, gate: ValueId, scalar: f64) -> Option<(Unary, ValueId)> {
    let (Unary::Clip { min: 0.0, max }, inner) = view.uses.unary(view.graph, gate)? else { return None };
    let x = view.core(inner, POLYNOMIAL_DEPTH);
    let [b, a, 0.0, 0.0] = view.polynomial(inner, x, POLYNOMIAL_DEPTH)? else { return None };
    let found = near(max * scalar, 1.0) && a != 0.0;
    found.then_some((Unary::HardSigmoid { alpha: (a * scalar) as f32, beta: (b * scalar) as f32 }, x))
}

/// `scalar·x·gate(x)`.
fn gated(view: &View<'_>, x: ValueId, gate: ValueId, scalar: f64) -> Option<(Unary, ValueId)> {
    let core = view.core(gate, POLYNOMIAL_DEPTH);
    let (unary, inner) = view.uses.unary(view.graph, core)?;
    let [offset, slope, 0.0, 0.0] = view.polynomial(gate, core, POLYNOMIAL_DEPTH)? else { return None };
    let (offset, slope) = (offset * scalar, slope * scalar);
    let argument = || view.polynomial(inner, x, POLYNOMIAL_DEPTH);
    let plain = near(slope, 1.0) && offset == 0.0;
    let function = match unary {
        Unary::Sigmoid if plain => match argument()? {
            [0.0, alpha, 0.0, 0.0] if alpha != 0.0 => Unary::Swish { alpha: alpha as f32 },
            _ => return None,
        },
        Unary::HardSigmoid { alpha, beta } if plain && inner == x => {
            let known = near(f64::from(alpha), 1.0 / 6.0) && near(f64::from(beta), 0.5);
            known.then_some(Unary::HardSwish)?
        }
        Unary::Clip { min: 0.0, max: 6.0 } if near(slope, 1.0 / 6.0) && offset == 0.0 => {
            matches!(argument()?, [b, a, 0.0, 0.0] if near(b, 3.0) && near(a, 1.0))
                .then_some(Unary::HardSwish)?
        }
        Unary::Tanh if plain => match view.uses.unary(view.graph, inner)? {
            (Unary::Softplus, source) if source == x => Unary::Mish,
            _ => return None,
        },
        Unary::Erf | Unary::Tanh if near(slope, 0.5) && near(offset, 0.5) => gelu(unary, argument()?)?,
        _ => return None,
    };
    Some((function, x))
}

/// The form of GELU whose bell function has this polynomial as its argument.
fn gelu(bell: Unary, [constant, linear, square, cube]: [f64; 4]) -> Option<Unary> {
    let tanh_slope = (2.0 / core::f64::consts::PI).sqrt();
    let (want_linear, want_cube) = match bell {
        Unary::Erf => (core::f64::consts::FRAC_1_SQRT_2, 0.0),
        _ => (tanh_slope, tanh_slope * 0.044715),
    };
    let fits = constant == 0.0 && square == 0.0 && near(linear, want_linear) && near(cube, want_cube);
    fits.then_some(Unary::Gelu { tanh: bell == Unary::Tanh })
}

/// A product taken apart: a number, and what is not one.
struct Product {
    scalar: f64,
    factors: Vec<ValueId>,
}

impl View<'_> {
    /// Takes `id` apart into numbers and other factors.
    fn factor(&self, id: ValueId, depth: usize, product: &mut Product) {
        if let Some(number) = self.graph.uniform(id) {
            product.scalar *= f64::from(number);
            return;
        }
        if depth > 0 {
            if let Some((a, b)) = self.uses.binary(self.graph, id, Binary::Mul) {
                self.factor(a, depth - 1, product);
                self.factor(b, depth - 1, product);
                return;
            }
            if let Some((a, b)) = self.uses.binary(self.graph, id, Binary::Div)
                && let Some(number) = self.graph.uniform(b)
            {
                product.scalar /= f64::from(number);
                return self.factor(a, depth - 1, product);
            }
        }
        product.factors.push(id);
    }

    /// What is left of `id` when sums, differences, products and quotients with numbers are peeled off.
    fn core(&self, id: ValueId, depth: usize) -> ValueId {
        let Some(node) = self.uses.made_by(self.graph, id).filter(|_| depth > 0) else { return id };
        let (Op::Binary(binary), Some(lhs), Some(rhs)) = (&node.op, node.input(0), node.input(1)) else {
            return id;
        };
        let (lhs_number, rhs_number) = (self.graph.uniform(lhs).is_some(), self.graph.uniform(rhs).is_some());
        match binary {
            Binary::Add | Binary::Sub | Binary::Mul if lhs_number => self.core(rhs, depth - 1),
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Div if rhs_number => self.core(lhs, depth - 1),
            _ => id,
        }
    }

    /// The coefficients of `id` as a polynomial in `x` of at most degree 3, constant first.
    fn polynomial(&self, id: ValueId, x: ValueId, depth: usize) -> Option<[f64; 4]> {
        if id == x {
            return Some([0.0, 1.0, 0.0, 0.0]);
        }
        if let Some(number) = self.graph.uniform(id) {
            return Some([f64::from(number), 0.0, 0.0, 0.0]);
        }
        let node = self.uses.made_by(self.graph, id).filter(|_| depth > 0)?;
        let operand = |i: usize| self.polynomial(node.input(i)?, x, depth - 1);
        match node.op {
            Op::Unary(Unary::Neg) => Some(operand(0)?.map(|c| -c)),
            Op::Binary(Binary::Add) => Some(combine(operand(0)?, operand(1)?, 1.0)),
            Op::Binary(Binary::Sub) => Some(combine(operand(0)?, operand(1)?, -1.0)),
            Op::Binary(Binary::Mul) => multiply(operand(0)?, operand(1)?),
            Op::Binary(Binary::Div) => match operand(1)? {
                [divisor, 0.0, 0.0, 0.0] => Some(operand(0)?.map(|c| c / divisor)),
                _ => None,
            },
            Op::Binary(Binary::Pow) => {
                let base = operand(0)?;
                match self.graph.uniform(node.input(1)?)? {
                    2.0 => multiply(base, base),
                    3.0 => multiply(base, multiply(base, base)?),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn combine(a: [f64; 4], b: [f64; 4], sign: f64) -> [f64; 4] {
    core::array::from_fn(|i| a[i] + sign * b[i])
}

/// The product of two polynomials, where its degree is at most 3.
fn multiply(a: [f64; 4], b: [f64; 4]) -> Option<[f64; 4]> {
    let mut product = [0.0; 7];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            product[i + j] += x * y;
        }
    }
    match product {
        [c0, c1, c2, c3, 0.0, 0.0, 0.0] => Some([c0, c1, c2, c3]),
        _ => None,
    }
}

/// Whether two numbers agree as well as decimal constants in a file do.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}

/// How deep products are taken apart.
const PRODUCT_DEPTH: usize = 3;

/// How deep polynomials are looked through. Each level may double the work.
const POLYNOMIAL_DEPTH: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Tensor};
    use crate::reference::assert_same;

    /// Builds expressions over one input.
    struct Writer {
        b: Builder,
        x: ValueId,
    }

    impl Writer {
        fn number(&mut self, v: f32) -> ValueId {
            self.b.constant("c", Tensor::scalar_f32(v))
        }
        fn binary(&mut self, op: Binary, a: ValueId, b: ValueId) -> ValueId {
            self.b.add("y", Op::Binary(op), &[a, b]).unwrap()
        }
        fn with(&mut self, op: Binary, a: ValueId, v: f32) -> ValueId {
            let v = self.number(v);
            self.binary(op, a, v)
        }
        fn unary(&mut self, op: Unary, a: ValueId) -> ValueId {
            self.b.add("u", Op::Unary(op), &[a]).unwrap()
        }
    }

    type Spelling = fn(&mut Writer) -> ValueId;

    fn gelu_erf(w: &mut Writer) -> ValueId {
        let half = w.with(Binary::Mul, w.x, 0.5);
        let t = w.with(Binary::Div, w.x, core::f32::consts::SQRT_2);
        let t = w.unary(Unary::Erf, t);
        let t = w.with(Binary::Add, t, 1.0);
        w.binary(Binary::Mul, half, t)
    }

    fn gelu_erf_half_last(w: &mut Writer) -> ValueId {
        let t = w.with(Binary::Mul, w.x, core::f32::consts::FRAC_1_SQRT_2);
        let t = w.unary(Unary::Erf, t);
        let t = w.with(Binary::Add, t, 1.0);
        let t = w.binary(Binary::Mul, t, w.x);
        w.with(Binary::Mul, t, 0.5)
    }

    fn gelu_tanh(w: &mut Writer) -> ValueId {
        let cube = w.with(Binary::Pow, w.x, 3.0);
        let cube = w.with(Binary::Mul, cube, 0.044715);
        let t = w.binary(Binary::Add, w.x, cube);
        let t = w.with(Binary::Mul, t, 0.797_884_6);
        let t = w.unary(Unary::Tanh, t);
        let t = w.with(Binary::Add, t, 1.0);
        let half = w.with(Binary::Mul, w.x, 0.5);
        w.binary(Binary::Mul, half, t)
    }

    fn gelu_tanh_factored(w: &mut Writer) -> ValueId {
        let square = w.binary(Binary::Mul, w.x, w.x);
        let t = w.with(Binary::Mul, square, 0.044715);
        let t = w.with(Binary::Add, t, 1.0);
        let u = w.with(Binary::Mul, w.x, 0.797_884_6);
        let t = w.binary(Binary::Mul, u, t);
        let t = w.unary(Unary::Tanh, t);
        let t = w.with(Binary::Mul, t, 0.5);
        let t = w.with(Binary::Add, t, 0.5);
        w.binary(Binary::Mul, t, w.x)
    }

    fn hard_swish(w: &mut Writer) -> ValueId {
        let t = w.with(Binary::Add, w.x, 3.0);
        let t = w.unary(Unary::Clip { min: 0.0, max: 6.0 }, t);
        let t = w.binary(Binary::Mul, w.x, t);
        w.with(Binary::Div, t, 6.0)
    }

    fn hard_swish_by_gate(w: &mut Writer) -> ValueId {
        let t = w.unary(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, w.x);
        w.binary(Binary::Mul, t, w.x)
    }

    fn hard_sigmoid_alone(w: &mut Writer) -> ValueId {
        let t = w.with(Binary::Add, w.x, 3.0);
        let t = w.unary(Unary::Clip { min: 0.0, max: 6.0 }, t);
        w.with(Binary::Div, t, 6.0)
    }

    fn swish_steep(w: &mut Writer) -> ValueId {
        let t = w.with(Binary::Mul, w.x, 1.702);
        let t = w.unary(Unary::Sigmoid, t);
        w.binary(Binary::Mul, w.x, t)
    }

    fn mish(w: &mut Writer) -> ValueId {
        let t = w.unary(Unary::Softplus, w.x);
        let t = w.unary(Unary::Tanh, t);
        w.binary(Binary::Mul, w.x, t)
    }

    #[test]
    fn recognizes_every_spelling() {
        let cases: [(Spelling, Unary); 9] = [
            (gelu_erf, Unary::Gelu { tanh: false }),
            (gelu_erf_half_last, Unary::Gelu { tanh: false }),
            (gelu_tanh, Unary::Gelu { tanh: true }),
            (gelu_tanh_factored, Unary::Gelu { tanh: true }),
            (hard_swish, Unary::HardSwish),
            (hard_swish_by_gate, Unary::HardSwish),
            (hard_sigmoid_alone, Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }),
            (swish_steep, Unary::Swish { alpha: 1.702 }),
            (mish, Unary::Mish),
        ];
        for (write, want) in cases {
            let mut b = Builder::new(0);
            let x = b.input("x", DType::F32, vec![4, 5]).unwrap();
            let mut writer = Writer { b, x };
            let y = write(&mut writer);
            let before = writer.b.finish(&[y]);
            let mut after = before.clone();
            while run(&mut after) > 0 {}
            assert_eq!(after.nodes.iter().map(|n| n.op.clone()).collect::<Vec<_>>(), [Op::Unary(want)]);
            assert_same(&before, &after, 1e-6);
        }
    }

    #[test]
    fn leaves_other_functions_alone() {
        let cases: [Spelling; 3] = [
            |w| {
                let t = w.with(Binary::Add, w.x, 2.5);
                let t = w.unary(Unary::Clip { min: 0.0, max: 6.0 }, t);
                let t = w.binary(Binary::Mul, w.x, t);
                w.with(Binary::Div, t, 6.0)
            },
            |w| {
                let t = w.with(Binary::Div, w.x, 1.5);
                let t = w.unary(Unary::Erf, t);
                let t = w.with(Binary::Add, t, 1.0);
                let t = w.binary(Binary::Mul, t, w.x);
                w.with(Binary::Mul, t, 0.5)
            },
            |w| {
                let t = w.unary(Unary::Sigmoid, w.x);
                let t = w.with(Binary::Add, t, 0.1);
                w.binary(Binary::Mul, w.x, t)
            },
        ];
        for write in cases {
            let mut b = Builder::new(0);
            let x = b.input("x", DType::F32, vec![4]).unwrap();
            let mut writer = Writer { b, x };
            let y = write(&mut writer);
            assert_eq!(run(&mut writer.b.finish(&[y])), 0);
        }
    }
}
