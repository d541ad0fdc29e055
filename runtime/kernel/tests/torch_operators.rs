//! Gradients of operators without parameters against PyTorch.
//!
//! `tests/gradients/torch_operators.py` says what is computed and writes the values.

use std::collections::BTreeMap;

use ingraft_kernel::attrs::{
    Attrs, ConvAttrs, CopyAttrs, GatherAttrs, QSoftmaxAttrs, RecurrentBackwardAttrs, ReduceAttrs,
    ResizeAttrs, WhereBackwardAttrs, Window,
};
use ingraft_kernel::recurrent::BOTH;
use ingraft_kernel::reduce::ReduceFn;
use ingraft_kernel::resize::{FLOOR, HALF_DOWN, LINEAR, NEAREST};
use ingraft_kernel::softmax::exp_table;
use ingraft_kernel::{
    Factors, Host, OpCode, Operand, Place, SiteGrads, SiteTerms, Span, Step, Target, TwoFactor,
};
use ingraft_tensor::arrays::arrays;
use ingraft_tensor::bytes::{self, Element};
use ingraft_tensor::{DType, MAX_RANK, Shape};
use zerocopy::IntoBytes;

/// Largest deviation accepted, relative to the largest value of the same gradient.
const TOLERANCE: f64 = 1e-5;

struct Golden(BTreeMap<&'static str, Vec<f32>>);

impl Golden {
    fn new() -> Self {
        let lines = include_str!("../../../tests/gradients/golden/operators.csv").lines();
        let tensor = |line: &'static str| {
            let (name, values) = line.split_once(',').unwrap();
            (name, values.split(',').map(|v| v.parse().unwrap()).collect())
        };
        Self(lines.map(tensor).collect())
    }

    fn get(&self, name: &str) -> &[f32] {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    fn reals(&self, name: &str, dims: &[u32]) -> Tensor {
        Tensor::new(dims, self.get(name))
    }

    fn codes(&self, name: &str, dims: &[u32]) -> Tensor {
        Tensor::new(dims, &self.get(name).iter().map(|v| *v as i8).collect::<Vec<_>>())
    }

    fn indices(&self, name: &str, dims: &[u32]) -> Tensor {
        Tensor::new(dims, &self.get(name).iter().map(|v| *v as i64).collect::<Vec<_>>())
    }

    fn compare(&self, name: &str, have: &[f32]) {
        let want = self.get(name);
        assert_eq!(have.len(), want.len(), "{name}");
        let most = want.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs())));
        let error =
            have.iter().zip(want).fold(0.0f64, |m, (h, w)| m.max((f64::from(*h) - f64::from(*w)).abs()));
        println!(
            "{name}: {} values up to {most:.3}, largest relative deviation {:.1e}",
            want.len(),
            error / most
        );
        assert!(error <= TOLERANCE * most, "{name}: {have:?} is not {want:?}");
    }
}

/// A constant operand.
struct Tensor {
    dtype: DType,
    shape: Shape,
    words: Vec<u128>,
}

impl Tensor {
    fn new<T: Element>(dims: &[u32], values: &[T]) -> Self {
        let shape = Shape::new(dims).unwrap();
        assert_eq!(shape.elements(), values.len());
        let bytes = bytes::of(values);
        let mut words = vec![0u128; bytes.len().div_ceil(16)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self { dtype: T::DTYPE, shape, words }
    }

    fn operand(&self) -> Operand<'_> {
        let len = self.shape.elements() * self.dtype.size();
        let place = Place::Plan(&self.words.as_bytes()[..len]);
        Operand { dtype: self.dtype, shape: self.shape, place }
    }
}

/// Runs `op` on the scalar reference; the bytes of its outputs.
fn run<A: Attrs>(
    op: OpCode,
    attrs: &A,
    inputs: &[&Tensor],
    outputs: &[(DType, &[u32])],
    (terms, grads): (SiteTerms<'_>, SiteGrads<'_>),
) -> Vec<Vec<u8>> {
    let mut step = Step::new(op, attrs.as_bytes());
    inputs.iter().for_each(|input| step.push_input(input.operand()).unwrap());
    let mut end = 0;
    let mut spans = Vec::new();
    for (dtype, dims) in outputs {
        let shape = Shape::new(dims).unwrap();
        let span = Span { offset: end, len: shape.elements() * dtype.size() };
        step.push_output(Operand { dtype: *dtype, shape, place: Place::Memory(span) }).unwrap();
        spans.push(span);
        end = bytes::align_up(span.end());
    }
    step.workspace = Span { offset: end, len: Host::SCALAR.workspace_bytes(&step) };
    let mut memory = vec![0u128; (end + step.workspace.len).div_ceil(16)];
    Host::SCALAR.kernel_name(&step).unwrap();
    Host::SCALAR.run_backward(memory.as_mut_bytes(), &step, terms, grads, 0).unwrap();
    spans.iter().map(|span| memory.as_bytes()[span.offset..span.end()].to_vec()).collect()
}

/// The gradients that a step without a site writes.
fn gradients<A: Attrs>(op: OpCode, attrs: &A, inputs: &[&Tensor], dims: &[&[u32]]) -> Vec<Vec<f32>> {
    let outputs: Vec<_> = dims.iter().map(|dims| (DType::F32, *dims)).collect();
    let bytes = run(op, attrs, inputs, &outputs, (SiteTerms::NONE, SiteGrads::default()));
    bytes.iter().map(|bytes| arrays(bytes).0.iter().map(|b| f32::from_le_bytes(*b)).collect()).collect()
}

#[test]
fn recurrent_layers() {
    let golden = Golden::new();
    for (kind, op, gates, outputs) in [
        ("lstm", OpCode::LstmBackward, 4, &["all", "hidden", "cell"][..]),
        ("gru", OpCode::GruBackward, 3, &["all", "hidden"]),
    ] {
        let (t, b, i, h) = (4, 2, 3, 5);
        let get = |name: &str, dims: &[u32]| golden.reals(&format!("{kind}.{name}"), dims);
        let mut operands = vec![
            get("x", &[t, b, i]),
            get("weight", &[2, gates * h, i]),
            get("recurrent", &[2, gates * h, h]),
            get("bias", &[2, 2 * gates * h]),
            get("h", &[2, b, h]),
        ];
        let lstm = op == OpCode::LstmBackward;
        if lstm {
            operands.push(get("c", &[2, b, h]));
        }
        for (incoming, output) in (0u32..).zip(outputs) {
            let wanted = if lstm { 0b111 } else { 0b11 };
            let attrs = RecurrentBackwardAttrs { direction: BOTH, linear_before_reset: 1, incoming, wanted };
            let dims: &[u32] = if incoming == 0 { &[t, 2, b, h] } else { &[2, b, h] };
            let dy = get(&format!("{output}.dy"), dims);
            let inputs: Vec<&Tensor> = core::iter::once(&dy).chain(&operands).collect();
            let state: &[u32] = &[2, b, h];
            let dims = [&[t, b, i][..], state, state];
            let found = gradients(op, &attrs, &inputs, &dims[..if lstm { 3 } else { 2 }]);
            for (name, found) in ["x", "h", "c"].iter().zip(&found) {
                golden.compare(&format!("{kind}.{output}.d{name}"), found);
            }
        }
    }
}

#[test]
fn picks_and_choices() {
    let golden = Golden::new();
    let attrs = GatherAttrs { axis: 1 };
    let inputs = [&golden.reals("gather.dy", &[3, 7, 5]), &golden.indices("gather.indices", &[7])];
    let found = gradients(OpCode::GatherBackward, &attrs, &inputs, &[&[3, 4, 5]]);
    golden.compare("gather.dx", &found[0]);
    let dims = [3, 6, 5];
    let inputs = [&golden.reals("elements.dy", &dims), &golden.indices("elements.indices", &dims)];
    let found = gradients(OpCode::GatherElementsBackward, &attrs, &inputs, &[&[3, 4, 5]]);
    golden.compare("elements.dx", &found[0]);
    let mut condition = golden.codes("where.condition", &[3, 1, 7]);
    condition.dtype = DType::Bool;
    let dy = golden.reals("where.dy", &[3, 5, 7]);
    for (operand, name, dims) in [(0, "where.da", &[5u32, 1][..]), (1, "where.db", &[3, 5, 7])] {
        let attrs = WhereBackwardAttrs { operand };
        let found = gradients(OpCode::WhereBackward, &attrs, &[&dy, &condition], &[dims]);
        golden.compare(name, &found[0]);
    }
}

#[test]
fn interpolation() {
    let golden = Golden::new();
    let base = ResizeAttrs {
        mode: LINEAR,
        rounding: HALF_DOWN,
        before: [0.0; 2],
        numerator: [1.0; 2],
        denominator: [1.0; 2],
        after: [0.0; 2],
    };
    let half = ResizeAttrs { before: [0.5; 2], after: [-0.5; 2], denominator: [2.0, 2.2], ..base };
    let corners = ResizeAttrs { numerator: [3.0, 4.0], denominator: [6.0, 8.0], ..base };
    let nearest = ResizeAttrs { mode: NEAREST, rounding: FLOOR, denominator: [2.0; 2], ..base };
    for (name, attrs, size) in
        [("half", half, [8, 11]), ("corners", corners, [7, 9]), ("nearest", nearest, [8, 10])]
    {
        let dy = golden.reals(&format!("resize.{name}.dy"), &[2, size[0], size[1], 3]);
        let found = gradients(OpCode::ResizeBackward, &attrs, &[&dy], &[&[2, 4, 5, 3]]);
        golden.compare(&format!("resize.{name}.dx"), &found[0]);
    }
}

#[test]
fn softmax_through_rounding() {
    let golden = Golden::new();
    let attrs = QSoftmaxAttrs { out_zero_point: -128, inv_scale: 256.0 };
    let dims = [4, 9];
    let table = Tensor::new(&[256], &exp_table(0.11));
    let inputs = [&golden.reals("softmax.dy", &dims), &golden.codes("softmax.codes", &dims), &table];
    golden.compare("softmax.dx", &gradients(OpCode::SoftmaxBackward, &attrs, &inputs, &[&dims])[0]);
}

#[test]
fn products_along_an_axis() {
    let golden = Golden::new();
    let attrs = ReduceAttrs {
        function: ReduceFn::Prod.code(),
        axes: 0b10,
        in_zero_point: 0,
        out_zero_point: 0,
        ratio: 1.0,
        lo: f32::NEG_INFINITY,
        hi: f32::INFINITY,
    };
    let inputs = [&golden.reals("product.dy", &[3, 5]), &golden.reals("product.x", &[3, 4, 5])];
    golden.compare("product.dx", &gradients(OpCode::ReduceBackward, &attrs, &inputs, &[&[3, 4, 5]])[0]);
}

/// Forward for its mask, then backward.
#[test]
fn a_layer_on_codes_quantized_at_run_time() {
    let golden = Golden::new();
    let attrs = ConvAttrs { window: Window::UNIT, groups: 1, lo: 0.0, hi: f32::INFINITY };
    let codes: Vec<i32> = golden.get("dynamic.weight").iter().map(|v| *v as i32).collect();
    let sums: Vec<i32> = codes.chunks(5).map(|row| row.iter().sum()).collect();
    let forward = [
        &golden.codes("dynamic.codes", &[6, 1, 1, 5]),
        &golden.codes("dynamic.weight", &[4, 1, 1, 5]),
        &Tensor::new(&[4], &sums),
        &golden.reals("dynamic.scales", &[4]),
        &golden.reals("dynamic.bias", &[4]),
        &golden.reals("dynamic.scale", &[1]),
        &golden.codes("dynamic.zero", &[1]),
    ];
    let (down, up) = (golden.get("dynamic.down"), golden.get("dynamic.up"));
    let two_factor = Some(TwoFactor { rank: 2, factors: Factors::F32 { down, up } });
    let terms = SiteTerms { two_factor, ..SiteTerms::NONE };
    let outputs = [(DType::F32, &[6u32, 1, 1, 4][..]), (DType::U8, &[3])];
    let results = run(OpCode::DynamicConv, &attrs, &forward, &outputs, (terms, SiteGrads::default()));
    let mask = Tensor::new(&[3], &results[1]);
    let dy = golden.reals("dynamic.dy", &[6, 1, 1, 4]);
    let inputs: Vec<&Tensor> = [&dy, &mask].into_iter().chain(forward).collect();
    let (mut ddown, mut dup) = (vec![0.0; down.len()], vec![0.0; up.len()]);
    let grads = SiteGrads { down: Some(&mut ddown), up: Some(&mut dup), ..SiteGrads::default() };
    let outputs = [(DType::F32, &[6u32, 1, 1, 5][..])];
    let dx = run(OpCode::ConvBackward, &attrs, &inputs, &outputs, (terms, grads));
    let dx: Vec<f32> = arrays(&dx[0]).0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    golden.compare("dynamic.dx", &dx);
    golden.compare("dynamic.ddown", &ddown);
    golden.compare("dynamic.dup", &dup);
}

#[test]
fn strided_copies() {
    let golden = Golden::new();
    let copy = |extents: [u32; 3], reads: [i32; 3], writes: [u32; 3], [from, to]: [u32; 2]| {
        let mut attrs = CopyAttrs {
            rank: 3,
            extents: [1; MAX_RANK],
            in_strides: [0; MAX_RANK],
            out_strides: [0; MAX_RANK],
            in_offset: from,
            out_offset: to,
        };
        attrs.extents[..3].copy_from_slice(&extents);
        attrs.in_strides[..3].copy_from_slice(&reads);
        attrs.out_strides[..3].copy_from_slice(&writes);
        attrs
    };
    let all = [3, 4, 5];
    for (name, dims, attrs) in [
        ("slice", [2, 4, 3], copy([2, 4, 3], [20, 5, 2], [12, 3, 1], [20, 0])),
        ("transpose", [5, 3, 4], copy([5, 3, 4], [1, 20, 5], [12, 4, 1], [0, 0])),
        ("pad", [3, 7, 8], copy(all, [20, 5, 1], [56, 8, 1], [0, 1])),
        ("concat", [3, 6, 5], copy(all, [20, 5, 1], [30, 5, 1], [0, 10])),
        ("reverse", all, copy(all, [20, -5, 1], [20, 5, 1], [15, 0])),
    ] {
        let dy = golden.reals(&format!("{name}.dy"), &dims);
        let found = gradients(OpCode::CopyBackward, &attrs, &[&dy], &[&all]);
        golden.compare(&format!("{name}.dx"), &found[0]);
    }
}
