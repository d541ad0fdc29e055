//! Gradients through an int8 chain against PyTorch's fake quantization.
//!
//! `tests/gradients/torch_goldens.py` describes the chain and writes the
//! values; they are read here in the same order. Forward steps save the masks
//! the backward steps use, and codes must agree with PyTorch's to the bit, so
//! that the gradients are taken at the same point.

use ingraft_kernel::attrs::{QConvAttrs, Window};
use ingraft_kernel::{
    Affine, Factors, Host, OpCode, Operand, Place, SiteGrads, SiteTerms, Span, Sparse, SparseValues, Step,
    Target, TwoFactor,
};
use ingraft_tensor::arrays::arrays;
use ingraft_tensor::{DType, Shape, bytes};
use zerocopy::IntoBytes;

/// Largest deviation accepted, relative to the largest gradient of the same parameter.
const TOLERANCE: f64 = 1e-5;
const X: [u32; 4] = [1, 9, 8, 5];

/// A layer of the chain; extents of the square kernel, of the output and of the terms.
struct Recipe {
    kernel: u32,
    stride: u32,
    pad: [u32; 4],
    output: [u32; 4],
    rank: usize,
    deltas: usize,
    relu: bool,
    depthwise: bool,
}

const LAYERS: [Recipe; 3] = [
    Recipe {
        kernel: 3,
        stride: 2,
        pad: [0, 1, 1, 1],
        output: [1, 4, 4, 8],
        rank: 3,
        deltas: 4,
        relu: true,
        depthwise: false,
    },
    Recipe {
        kernel: 3,
        stride: 1,
        pad: [1; 4],
        output: [1, 4, 4, 8],
        rank: 0,
        deltas: 3,
        relu: true,
        depthwise: true,
    },
    Recipe {
        kernel: 1,
        stride: 1,
        pad: [0; 4],
        output: [1, 4, 4, 10],
        rank: 2,
        deltas: 2,
        relu: false,
        depthwise: false,
    },
];

/// The golden file, read front to back.
struct Golden(Vec<f32>);

impl Golden {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/gradients/golden/int8_chain.f32");
        let bytes = std::fs::read(path).expect("the golden file is part of the repository");
        let values = arrays(&bytes).0.iter().map(|b| f32::from_le_bytes(*b));
        Self(values.rev().collect())
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.0.pop().expect("the golden file is too short")).collect()
    }

    fn codes(&mut self, n: usize) -> Vec<i8> {
        self.floats(n).iter().map(|v| *v as i8).collect()
    }
}

/// One layer with its constants, terms and what PyTorch computed from them.
struct Layer {
    recipe: &'static Recipe,
    attrs: QConvAttrs,
    row: usize,
    weight: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    down: Vec<f32>,
    up: Vec<f32>,
    indptr: Vec<u32>,
    indices: Vec<u16>,
    values: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    output: Vec<i8>,
}

impl Layer {
    fn read(golden: &mut Golden, recipe: &'static Recipe, channels: u32, input: (f32, i32)) -> Self {
        let quantization = golden.floats(2);
        let (out_scale, out_zero_point) = (quantization[0], quantization[1] as i32);
        let window = Window {
            kernel: [recipe.kernel; 2],
            stride: [recipe.stride; 2],
            dilation: [1; 2],
            pad: recipe.pad,
        };
        let lowest = (-128 - out_zero_point) as f32;
        let attrs = QConvAttrs {
            window,
            groups: if recipe.depthwise { channels } else { 1 },
            in_zero_point: input.1,
            out_zero_point,
            lo: if recipe.relu { lowest.max(0.0) } else { lowest },
            hi: (127 - out_zero_point) as f32,
            in_scale: input.0,
            out_scale,
        };
        let out = recipe.output[3] as usize;
        let row = (recipe.kernel * recipe.kernel * channels / attrs.groups) as usize;
        Self {
            recipe,
            attrs,
            row,
            weight: golden.codes(out * row),
            bias: golden.floats(out).iter().map(|v| *v as i32).collect(),
            multiplier: golden.floats(out),
            down: golden.floats(recipe.rank * row),
            up: golden.floats(out * recipe.rank),
            indptr: (0..=out).map(|o| (o * recipe.deltas) as u32).collect(),
            indices: golden.floats(out * recipe.deltas).iter().map(|v| *v as u16).collect(),
            values: golden.floats(out * recipe.deltas),
            scale: golden.floats(out),
            shift: golden.floats(out),
            output: golden.codes(recipe.output.iter().product::<u32>() as usize),
        }
    }

    fn constants(&self) -> [Operand<'_>; 3] {
        [
            constant(&self.weight, &[self.weight.len() as u32]),
            constant(&self.bias, &[self.bias.len() as u32]),
            constant(&self.multiplier, &[self.multiplier.len() as u32]),
        ]
    }

    fn terms(&self) -> SiteTerms<'_> {
        let factors = Factors::F32 { down: &self.down, up: &self.up };
        let values = SparseValues::F32(&self.values);
        SiteTerms {
            two_factor: (self.recipe.rank > 0).then_some(TwoFactor { rank: self.recipe.rank, factors }),
            sparse: Some(Sparse { indptr: &self.indptr, indices: &self.indices, values }),
            dense: None,
            affine: Some(Affine { scale: &self.scale, shift: &self.shift }),
            ..SiteTerms::NONE
        }
    }

    /// The forward and the backward operator.
    fn ops(&self) -> (OpCode, OpCode) {
        match self.recipe.depthwise {
            true => (OpCode::QDepthwise, OpCode::DepthwiseBackward),
            false => (OpCode::QConv, OpCode::ConvBackward),
        }
    }
}

fn constant<'a, T: bytes::Element>(values: &'a [T], dims: &[u32]) -> Operand<'a> {
    Operand { dtype: T::DTYPE, shape: Shape::new(dims).unwrap(), place: Place::Plan(bytes::of(values)) }
}

/// Memory handed out front to back.
struct Arena {
    words: Vec<u128>,
    used: usize,
}

impl Arena {
    fn tensor(&mut self, dtype: DType, dims: &[u32]) -> Operand<'static> {
        let shape = Shape::new(dims).unwrap();
        let place = Place::Memory(self.span(shape.elements() * dtype.size()));
        Operand { dtype, shape, place }
    }

    fn span(&mut self, len: usize) -> Span {
        let span = Span { offset: self.used, len };
        self.used = bytes::align_up(self.used + len);
        span
    }

    fn values<T: bytes::Element>(&self, operand: &Operand<'_>) -> Vec<T> {
        let Place::Memory(span) = operand.place else { unreachable!() };
        bytes::cast(&self.words.as_bytes()[span.offset..span.end()]).unwrap().to_vec()
    }
}

/// Runs the forward step of `layer` on `x`: output and mask.
fn forward(arena: &mut Arena, layer: &Layer, x: Operand<'static>) -> [Operand<'static>; 2] {
    let y = arena.tensor(DType::I8, &layer.recipe.output);
    let mask = arena.tensor(DType::U8, &[y.shape.elements().div_ceil(8) as u32]);
    let mut step = Step::new(layer.ops().0, layer.attrs.as_bytes());
    [x].into_iter().chain(layer.constants()).for_each(|input| step.push_input(input).unwrap());
    [y, mask].into_iter().for_each(|output| step.push_output(output).unwrap());
    step.workspace = arena.span(Host::SCALAR.workspace_bytes(&step));
    Host::SCALAR.run(arena.words.as_mut_bytes(), &step, layer.terms()).unwrap();
    assert_eq!(arena.values::<i8>(&y), layer.output, "codes of {}", step.op);
    [y, mask]
}

/// Runs the backward step of `layer` on gradient, mask and input: the gradient of the input.
fn backward<'a>(
    arena: &mut Arena,
    layer: &'a Layer,
    inputs: [Operand<'a>; 3],
    grads: &mut Grads,
) -> Operand<'static> {
    let dx = arena.tensor(DType::F32, inputs[2].shape.dims());
    let mut step = Step::new(layer.ops().1, layer.attrs.as_bytes());
    inputs.into_iter().chain(layer.constants()).for_each(|input| step.push_input(input).unwrap());
    step.push_output(dx).unwrap();
    step.workspace = arena.span(Host::SCALAR.workspace_bytes(&step));
    let memory = arena.words.as_mut_bytes();
    Host::SCALAR.run_backward(memory, &step, layer.terms(), grads.accumulators(), 0).unwrap();
    dx
}

#[test]
fn int8_chain_with_terms_agrees_with_fake_quantization() {
    let mut golden = Golden::open();
    let codes = golden.codes(X.iter().product::<u32>() as usize);
    let quantization = golden.floats(2);
    let mut layers = Vec::new();
    let mut input = (X[3], (quantization[0], quantization[1] as i32));
    for recipe in &LAYERS {
        let layer = Layer::read(&mut golden, recipe, input.0, input.1);
        input = (recipe.output[3], (layer.attrs.out_scale, layer.attrs.out_zero_point));
        layers.push(layer);
    }
    let mut arena = Arena { words: vec![0; 1 << 13], used: 0 };
    let x = arena.tensor(DType::I8, &X);
    arena.words.as_mut_bytes()[..codes.len()].copy_from_slice(bytes::of(&codes));
    let mut tensors = vec![[x, x]];
    for layer in &layers {
        let [x, _] = tensors[tensors.len() - 1];
        tensors.push(forward(&mut arena, layer, x));
    }

    let output = LAYERS[2].output;
    let seed = golden.floats(output.iter().product::<u32>() as usize);
    let mut dy = constant(&seed, &output);
    let mut grads = Vec::new();
    for (i, layer) in layers.iter().enumerate().rev() {
        let ([x, _], [_, mask]) = (tensors[i], tensors[i + 1]);
        let mut layer_grads = Grads::new(layer);
        dy = backward(&mut arena, layer, [dy, mask, x], &mut layer_grads);
        if layer.recipe.depthwise {
            layer_grads.dense = rows(&layer_grads.dense, layer.row);
        }
        grads.push(layer_grads);
    }

    compare("input", &arena.values::<f32>(&dy), &mut golden);
    for (i, grads) in grads.iter().rev().enumerate() {
        for (name, values) in grads.in_order() {
            compare(&format!("layer {i}, {name}"), values, &mut golden);
        }
    }
    assert!(golden.0.is_empty(), "the golden file is too long");
}

/// `[taps, channels]` as `[channels, taps]`.
fn rows(stored: &[f32], taps: usize) -> Vec<f32> {
    let channels = stored.len() / taps;
    (0..stored.len()).map(|i| stored[i % taps * channels + i / taps]).collect()
}

/// Accumulators of every parameter of a layer.
struct Grads {
    dense: Vec<f32>,
    down: Vec<f32>,
    up: Vec<f32>,
    sparse: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Grads {
    fn new(layer: &Layer) -> Self {
        Self {
            dense: vec![0.0; layer.row * layer.scale.len()],
            down: vec![0.0; layer.down.len()],
            up: vec![0.0; layer.up.len()],
            sparse: vec![0.0; layer.values.len()],
            scale: vec![0.0; layer.scale.len()],
            shift: vec![0.0; layer.shift.len()],
        }
    }

    fn accumulators(&mut self) -> SiteGrads<'_> {
        let low_rank = !self.down.is_empty();
        SiteGrads {
            down: low_rank.then_some(&mut self.down),
            up: low_rank.then_some(&mut self.up),
            sparse: Some(&mut self.sparse),
            scale: Some(&mut self.scale),
            shift: Some(&mut self.shift),
            dense: Some(&mut self.dense),
        }
    }

    /// As the script writes them.
    fn in_order(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        [
            ("weight", &self.dense[..]),
            ("down", &self.down),
            ("up", &self.up),
            ("sparse values", &self.sparse),
            ("scale", &self.scale),
            ("shift", &self.shift),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
    }
}

fn compare(name: &str, have: &[f32], golden: &mut Golden) {
    let want = golden.floats(have.len());
    let most = want.iter().fold(0.0f64, |m, w| m.max(w.abs() as f64));
    let error = have.iter().zip(&want).fold(0.0f64, |m, (h, w)| m.max((*h as f64 - *w as f64).abs()));
    println!(
        "{name}: {} values up to {most:.3}, largest relative deviation {:.1e}",
        want.len(),
        error / most
    );
    assert!(error <= TOLERANCE * most, "{name}");
}
