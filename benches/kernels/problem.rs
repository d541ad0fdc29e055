//! A step with its operands in memory, ready to be run again and again.

use ingraft::kernel::attrs::{Attrs, ConvAttrs, MatMulBackwardAttrs, QConvAttrs};
use ingraft::kernel::{Call, Kernel, OpCode, Operand, Place, SiteGrads, SiteTerms, Span, Step};
use ingraft::tensor::bytes;
use ingraft::tensor::{DType, View, ViewMut};

use crate::buffer::Buffer;
use crate::shape::{self, Layer, Product};

/// One step on one shape.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The shape's name.
    pub(crate) name: &'static str,
    /// Multiply-accumulates of one run.
    pub(crate) macs: u64,
    op: OpCode,
    attrs: Vec<u32>,
    inputs: Vec<Buffer>,
    output: Buffer,
}

/// The problems of an operator that multiplies, on every shape of its file; none for other operators.
pub(crate) fn of(op: OpCode) -> Vec<Problem> {
    let layers = |of: &dyn Fn(&Layer) -> Vec<Problem>| shape::dense().iter().flat_map(of).collect();
    let depthwise = |of: &dyn Fn(&Layer) -> Vec<Problem>| shape::depthwise().iter().flat_map(of).collect();
    match op {
        OpCode::Conv => layers(&|layer| vec![real(op, layer)]),
        OpCode::QConv => {
            layers(&|layer| [DType::I8, DType::F32, DType::I32].map(|to| integer(op, layer, to)).into())
        }
        OpCode::DynamicConv => layers(&|layer| vec![dynamic(layer)]),
        OpCode::ConvBackward => layers(&|layer| backward(op, layer)),
        OpCode::Depthwise => depthwise(&|layer| vec![real(op, layer)]),
        OpCode::QDepthwise => depthwise(&|layer| vec![integer(op, layer, DType::I8)]),
        OpCode::DepthwiseBackward => depthwise(&|layer| backward(op, layer)),
        OpCode::MatMulBackward => shape::products().iter().flat_map(product_backward).collect(),
        OpCode::MatMul | OpCode::MatMulInteger => shape::products().iter().map(|p| product(op, p)).collect(),
        _ => Vec::new(),
    }
}

impl Problem {
    /// Whether `row` computes this step.
    pub(crate) fn suits(&self, row: &Kernel) -> bool {
        let step = self.step();
        row.matches(&step) && (row.check)(&step).is_ok()
    }

    /// Whether it is a 1×1 layer over more than one pixel.
    pub(crate) fn is_pointwise(&self) -> bool {
        let (weight, pixels) = (self.inputs.get(1), &self.output.shape.dims()[1..3]);
        weight.is_some_and(|w| w.shape.dims()[1..3] == [1, 1]) && pixels != [1, 1]
    }

    /// Packs the step for `row`, then hands `measure` the call to repeat.
    pub(crate) fn run(&self, row: &Kernel, measure: impl FnOnce(&mut dyn FnMut())) {
        let step = self.step();
        let mut packed = Buffer::zeros(DType::U8, &[(row.packed)(&step) as u32]);
        let mut workspace = Buffer::zeros(DType::U8, &[(row.workspace)(&step) as u32]);
        (row.pack)(&step, packed.bytes_mut()).expect("the memory has the size asked for");
        let inputs: Vec<View<'_>> = self.inputs.iter().map(Buffer::view).collect();
        let mut output = self.output.clone();
        // Rows take the workspace out of their call, so each run gets a call of its own.
        measure(&mut || {
            let Buffer { dtype, shape, .. } = output;
            let view = ViewMut::new(dtype, shape, output.bytes_mut()).expect("lengths agree");
            let mut call = Call {
                op: self.op,
                attrs: bytes::of(&self.attrs),
                inputs: &inputs,
                outputs: &mut [view],
                workspace: workspace.bytes_mut(),
                packed: packed.bytes(),
                terms: SiteTerms::NONE,
                grads: SiteGrads::default(),
                accumulate: 0,
            };
            (row.run)(&mut call).expect("the row accepted the step");
        });
    }

    /// The inputs as constants of a plan, so that a row may pack any of them.
    fn step(&self) -> Step<'_> {
        let mut step = Step::new(self.op, bytes::of(&self.attrs));
        for buffer in &self.inputs {
            let place = Place::Plan(buffer.bytes());
            step.push_input(Operand { dtype: buffer.dtype, shape: buffer.shape, place }).expect("few inputs");
        }
        let Buffer { dtype, shape, .. } = self.output;
        let place = Place::Memory(Span { offset: 0, len: self.output.bytes().len() });
        step.push_output(Operand { dtype, shape, place }).expect("one output");
        step
    }
}

/// The extents of a layer's operands.
struct Extents {
    input: [u32; 4],
    output: [u32; 4],
    /// `[out, kh, kw, in]`, or `[kh, kw, out]` for depthwise.
    weight: Vec<u32>,
    macs: u64,
}

impl Extents {
    fn of(layer: &Layer) -> Self {
        let ([h, w, c], [kh, kw], out) = (layer.input, layer.window.kernel, layer.out);
        let [oh, ow] = layer.pixels();
        let weight = if layer.depthwise { vec![kh, kw, out] } else { vec![out, kh, kw, c] };
        let weights: u64 = weight.iter().map(|d| u64::from(*d)).product();
        let macs = u64::from(oh * ow) * weights;
        Self { input: [1, h, w, c], output: [1, oh, ow, out], weight, macs }
    }
}

fn record<A: Attrs + 'static>(attrs: &A) -> Vec<u32> {
    let words = bytes::cast(bytes::of(core::slice::from_ref(attrs)));
    words.expect("records are rows of words").to_vec()
}

fn groups(layer: &Layer) -> u32 {
    if layer.depthwise { layer.out } else { 1 }
}

/// f32 to f32.
fn real(op: OpCode, layer: &Layer) -> Problem {
    let Extents { input, output, weight, macs } = Extents::of(layer);
    let (window, groups) = (layer.window, groups(layer));
    Problem {
        name: layer.name,
        macs,
        op,
        attrs: record(&ConvAttrs { window, groups, lo: f32::NEG_INFINITY, hi: f32::INFINITY }),
        inputs: [&input[..], &weight, &[layer.out]].map(|dims| Buffer::random(DType::F32, dims)).into(),
        output: Buffer::zeros(DType::F32, &output),
    }
}

/// int8 to `to`.
fn integer(op: OpCode, layer: &Layer, to: DType) -> Problem {
    let Extents { input, output, weight, macs } = Extents::of(layer);
    let attrs = QConvAttrs {
        window: layer.window,
        groups: groups(layer),
        in_zero_point: -1,
        out_zero_point: 1,
        lo: -129.0,
        hi: 126.0,
        in_scale: 0.05,
        out_scale: if to == DType::I8 { 0.1 } else { 1.0 },
    };
    let inputs = vec![
        Buffer::random(DType::I8, &input),
        Buffer::random(DType::I8, &weight),
        Buffer::random(DType::I32, &[layer.out]),
        Buffer::filled(&[layer.out], 1e-3f32),
    ];
    Problem { name: layer.name, macs, op, attrs: record(&attrs), inputs, output: Buffer::zeros(to, &output) }
}

/// int8 to f32 with the input's parameters as operands.
fn dynamic(layer: &Layer) -> Problem {
    let Problem { mut inputs, output, .. } = integer(OpCode::QConv, layer, DType::F32);
    inputs.push(Buffer::random(DType::F32, &[layer.out]));
    inputs.push(Buffer::filled(&[1], 0.05f32));
    inputs.push(Buffer::filled(&[1], -1i8));
    Problem { inputs, output, ..real(OpCode::DynamicConv, layer) }
}

/// The gradient of the input, through a float and through an int8 layer.
fn backward(op: OpCode, layer: &Layer) -> Vec<Problem> {
    let forward = |problem: Problem| {
        let output = Buffer::zeros(DType::F32, &Extents::of(layer).input);
        let dy = Buffer::random(DType::F32, problem.output.shape.dims());
        let inputs = core::iter::once(dy).chain(problem.inputs).collect();
        Problem { op, inputs, output, ..problem }
    };
    vec![forward(real(op, layer)), forward(integer(op, layer, DType::I8))]
}

/// Two activations, in f32 or in int8 with one zero point each.
fn product(op: OpCode, product: &Product) -> Problem {
    let Product { name, batch, m, k, n } = *product;
    let (from, to) = if op == OpCode::MatMul { (DType::F32, DType::F32) } else { (DType::I8, DType::I32) };
    let mut inputs = vec![Buffer::random(from, &[batch, m, k]), Buffer::random(from, &[batch, k, n])];
    if op == OpCode::MatMulInteger {
        inputs.extend([Buffer::filled(&[1], 3i8), Buffer::filled(&[1], -5i8)]);
    }
    let macs = [batch, m, k, n].map(u64::from).iter().product();
    Problem { name, macs, op, attrs: Vec::new(), inputs, output: Buffer::zeros(to, &[batch, m, n]) }
}

/// The gradients of both operands of an f32 product.
fn product_backward(product: &Product) -> [Problem; 2] {
    let Product { name, batch, m, k, n } = *product;
    let matrices = [[batch, m, k], [batch, k, n]];
    [(0, "left"), (1, "right")].map(|(operand, side)| {
        let (wanted, other) = (matrices[operand], matrices[1 - operand]);
        Problem {
            name: format!("{name}/{side}").leak(),
            macs: [batch, m, k, n].map(u64::from).iter().product(),
            op: OpCode::MatMulBackward,
            attrs: record(&MatMulBackwardAttrs { operand: operand as u32 }),
            inputs: vec![Buffer::random(DType::F32, &[batch, m, n]), Buffer::random(DType::F32, &other)],
            output: Buffer::zeros(DType::F32, &wanted),
        }
    })
}
