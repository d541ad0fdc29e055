//! Convolutions and linear layers: odd tails, strides, dilation, groups,
//! asymmetric padding, extreme codes and accumulators, every kind of term.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::{ConvAttrs, QConvAttrs, Window};
use ingraft::tensor::DType;

use super::terms::{Delta, Extents, LowRank};
use super::{Case, Random, Tensor, Terms, Tolerance};

/// Extents of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub(crate) input: Vec<usize>,
    pub(crate) output: Vec<usize>,
    pub(crate) window: Window,
    pub(crate) groups: usize,
}

impl Geometry {
    fn new(input: &[usize], out: usize, groups: usize, window: Window) -> Self {
        let mut output = input.to_vec();
        if let [_, h, w, _] = &mut output[..] {
            *h = window.output(0, *h).expect("the window fits");
            *w = window.output(1, *w).expect("the window fits");
        }
        *output.last_mut().expect("rank 2 or more") = out;
        Self { input: input.to_vec(), output, window, groups }
    }

    pub(crate) fn channels(&self) -> usize {
        self.input[self.input.len() - 1]
    }

    pub(crate) fn extents(&self) -> Extents {
        let [kh, kw] = self.window.kernel.map(|k| k as usize);
        let out = self.output[self.output.len() - 1];
        Extents { out, groups: self.groups, row: kh * kw * self.channels() / self.groups }
    }

    /// Weight extents: `[out, kh, kw, in/groups]`, or `[kh, kw, C]`.
    pub(crate) fn weight(&self, depthwise: bool) -> Vec<usize> {
        let [kh, kw] = self.window.kernel.map(|k| k as usize);
        let Extents { out, groups, .. } = self.extents();
        if depthwise { vec![kh, kw, out] } else { vec![out, kh, kw, self.channels() / groups] }
    }
}

const UNIT: Window = Window::UNIT;

fn window(kernel: [u32; 2], stride: [u32; 2], dilation: [u32; 2], pad: [u32; 4]) -> Window {
    Window { kernel, stride, dilation, pad }
}

/// Dense and grouped geometries.
pub(crate) fn dense() -> Vec<Geometry> {
    let square = |k: u32, s: u32, p: u32| window([k; 2], [s; 2], [1; 2], [p; 4]);
    vec![
        Geometry::new(&[1, 1, 1, 1], 1, 1, UNIT),
        Geometry::new(&[1, 1, 1, 16], 4, 1, UNIT),
        Geometry::new(&[1, 3, 3, 15], 3, 1, UNIT),
        Geometry::new(&[1, 1, 7, 17], 65, 1, UNIT),
        Geometry::new(&[2, 5, 3, 40], 12, 1, UNIT),
        Geometry::new(&[1, 13, 1, 64], 70, 1, UNIT),
        Geometry::new(&[1, 1, 1, 257], 130, 1, UNIT),
        Geometry::new(&[6, 20], 11, 1, UNIT),
        Geometry::new(&[0, 2, 2, 3], 4, 1, UNIT),
        Geometry::new(&[1, 5, 6, 24], 10, 1, square(1, 2, 0)),
        Geometry::new(&[1, 3, 4, 9], 6, 1, square(1, 1, 1)),
        Geometry::new(&[1, 7, 6, 5], 9, 1, square(3, 1, 1)),
        Geometry::new(&[2, 9, 8, 8], 16, 1, window([3; 2], [2; 2], [1; 2], [0, 1, 1, 0])),
        Geometry::new(&[1, 9, 11, 6], 5, 1, window([3, 2], [1; 2], [2, 3], [0, 2, 1, 0])),
        Geometry::new(&[1, 13, 10, 1], 8, 1, window([10, 4], [2; 2], [1; 2], [4, 1, 5, 1])),
        Geometry::new(&[1, 2, 2, 3], 7, 1, square(5, 1, 2)),
        Geometry::new(&[1, 1, 30, 3], 6, 1, window([1, 7], [1, 3], [1, 2], [0, 5, 0, 2])),
        Geometry::new(&[1, 5, 5, 6], 9, 3, square(3, 1, 1)),
        // Of one size on both sides: gradients can be written over each other.
        Geometry::new(&[2, 4, 3, 20], 20, 1, UNIT),
        Geometry::new(&[2, 6, 5, 8], 8, 1, square(3, 1, 1)),
        Geometry::new(&[1, 7, 4, 6], 6, 2, window([2, 3], [1; 2], [3, 1], [2, 1, 1, 1])),
        Geometry::new(&[1, 4, 4, 16], 8, 4, UNIT),
        Geometry::new(&[1, 4, 5, 5], 10, 5, square(3, 2, 1)),
    ]
}

/// Geometries with one filter per channel.
pub(crate) fn depthwise() -> Vec<Geometry> {
    let of = |h, w, c, window| Geometry::new(&[1, h, w, c], c, c, window);
    let mut all = vec![
        of(1, 1, 1, UNIT),
        of(5, 4, 16, window([3; 2], [1; 2], [1; 2], [1; 4])),
        of(6, 7, 17, window([3; 2], [2; 2], [1; 2], [0, 0, 1, 1])),
        of(4, 4, 40, window([2; 2], [1; 2], [1; 2], [1, 0, 0, 1])),
        of(9, 8, 7, window([3, 5], [1, 2], [2, 1], [2, 2, 1, 3])),
        of(3, 3, 70, window([5; 2], [1; 2], [1; 2], [2; 4])),
        of(1, 12, 3, window([1, 4], [1, 3], [1, 2], [0, 3, 0, 0])),
        of(4, 3, 8, window([3; 2], [1; 2], [1; 2], [1; 4])),
        of(3, 5, 13, window([3; 2], [2; 2], [1; 2], [1; 4])),
        of(4, 4, 27, window([4, 3], [1; 2], [1; 2], [1; 4])),
        // Lines of several tiles, with every remainder.
        of(4, 21, 33, window([3; 2], [1; 2], [1; 2], [1; 4])),
        of(5, 30, 16, window([3; 2], [2; 2], [1; 2], [0, 0, 1, 1])),
        of(6, 27, 32, window([5; 2], [1; 2], [1; 2], [2; 4])),
        of(9, 29, 20, window([5; 2], [2; 2], [1; 2], [1, 1, 2, 2])),
        of(4, 19, 18, window([7; 2], [1; 2], [1; 2], [3; 4])),
        of(1, 40, 16, window([1, 9], [1; 2], [1, 2], [0, 8, 0, 8])),
        // One line, windows lower than wide, and all their columns but one in the padding.
        of(1, 6, 11, window([3; 2], [1; 2], [1; 2], [1; 4])),
        of(5, 2, 9, window([2, 3], [1; 2], [1; 2], [1, 2, 0, 1])),
        of(4, 3, 12, window([1, 5], [1; 2], [1; 2], [0, 4, 0, 1])),
    ];
    all.push(Geometry::new(&[2, 4, 3, 33], 33, 33, window([3; 2], [1; 2], [1; 2], [1; 4])));
    all
}

/// Which terms a case has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Base,
    IntegerLowRank,
    RealLowRank,
    IntegerSparse,
    RealSparse,
    Dense,
    Affine,
    Patched,
    AllInteger,
    AllReal,
    Mixed,
}

const KINDS: &[Kind] = &[
    Kind::Base,
    Kind::IntegerLowRank,
    Kind::RealLowRank,
    Kind::IntegerSparse,
    Kind::RealSparse,
    Kind::Dense,
    Kind::Affine,
    Kind::Patched,
    Kind::AllInteger,
    Kind::AllReal,
    Kind::Mixed,
];

impl Kind {
    /// The terms, of the kinds that `op` takes; `None` when none is left.
    pub(crate) fn terms(self, op: OpCode, geometry: &Geometry, random: &mut Random) -> Option<Terms> {
        let low_rank =
            matches!(op, OpCode::Conv | OpCode::QConv | OpCode::DynamicConv | OpCode::ConvBackward);
        let integer = matches!(op, OpCode::QConv | OpCode::QDepthwise);
        let has = |kinds: &[Kind]| kinds.contains(&self);
        let extents = geometry.extents();
        let rank = random.pick(&[1, 3, 4, 8, 16, 17, 70]);
        let mut terms = Terms::default();
        if integer && low_rank && has(&[Kind::IntegerLowRank, Kind::AllInteger, Kind::Mixed]) {
            terms.two_factor = Some(LowRank::integer(extents, rank, 1.0, random));
        }
        if low_rank && has(&[Kind::RealLowRank, Kind::AllReal]) {
            terms.two_factor = Some(LowRank::real(extents, rank, 1.0, random));
        }
        if integer && has(&[Kind::IntegerSparse, Kind::AllInteger]) {
            terms.sparse = Some(Delta::integer(extents, random));
        }
        if has(&[Kind::RealSparse, Kind::AllReal, Kind::Mixed]) {
            terms.sparse = Some(Delta::real(extents, 0.5 / (extents.row as f32).sqrt(), random));
        }
        if has(&[Kind::Dense, Kind::AllReal]) {
            let width = 0.5 / (extents.row as f32).sqrt();
            terms.dense = Some(random.floats(extents.out * extents.row, -width, width));
        }
        if has(&[Kind::Affine, Kind::AllInteger, Kind::AllReal]) {
            terms.affine =
                Some([random.floats(extents.out, 0.5, 1.5), random.floats(extents.out, -1.0, 1.0)]);
        }
        if integer && has(&[Kind::Patched, Kind::AllInteger, Kind::AllReal]) {
            let bias = (0..extents.out).map(|_| random.int(-2000, 2000) as i32).collect();
            terms.patched = Some((random.codes(extents.out * extents.row), bias));
        }
        (self == Kind::Base || !terms.site().is_none()).then_some(terms)
    }
}

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    let geometries = if matches!(op, OpCode::Depthwise | OpCode::QDepthwise) { depthwise() } else { dense() };
    let mut cases = Vec::new();
    for geometry in &geometries {
        for kind in KINDS {
            let Some(terms) = kind.terms(op, geometry, random) else { continue };
            let filters = geometry.weight(matches!(op, OpCode::Depthwise | OpCode::QDepthwise));
            let name = format!("{op} {filters:?} {kind:?}");
            cases.extend(match op {
                OpCode::Conv | OpCode::Depthwise => real(op, name, geometry, terms, random),
                OpCode::DynamicConv => {
                    let plain = dynamic(name.clone(), geometry, terms.clone(), random);
                    let masked = dynamic(format!("{name} masked"), geometry, terms, random).mask();
                    vec![plain, masked]
                }
                _ => quantized(op, name, geometry, terms, random),
            });
        }
    }
    if op == OpCode::QConv {
        cases.extend(geometries.iter().flat_map(|geometry| small_ranks(op, geometry, random)));
    }
    cases
}

/// Low-rank terms of every layer, of the ranks that some targets add up together with the codes: with latents that saturate,
/// and a part of their size.
fn small_ranks(op: OpCode, geometry: &Geometry, random: &mut Random) -> [Case; 6] {
    [(2, 1.0), (4, 1.0), (3, 0.25), (4, 0.25), (8, 0.25), (17, 0.25)].map(|(rank, size)| {
        let two_factor = Some(LowRank::integer(geometry.extents(), rank, size, random));
        let name = format!("{op} {:?} rank {rank}, {size} of the latents", geometry.weight(false));
        let layer = Layer::new(geometry, false, random);
        layer.case(op, name, DType::I8, geometry).terms(Terms { two_factor, ..Terms::default() })
    })
}

fn real(op: OpCode, name: String, geometry: &Geometry, terms: Terms, random: &mut Random) -> Vec<Case> {
    let Extents { out, row, .. } = geometry.extents();
    let width = 1.0 / (row as f32).sqrt();
    let (lo, hi) = random.pick(&[(f32::NEG_INFINITY, f32::INFINITY), (0.0, 1.0), (0.0, f32::INFINITY)]);
    let attrs = ConvAttrs { window: geometry.window, groups: geometry.groups as u32, lo, hi };
    let weight = random.floats(out * row, -width, width);
    let case = Case::new(op, name, &attrs)
        .input(Tensor::random(DType::F32, &geometry.input, random))
        .input(Tensor::new(&geometry.weight(op == OpCode::Depthwise), &weight))
        .input(Tensor::new(&[out], &random.floats(out, -0.5, 0.5)))
        .output(DType::F32, &geometry.output);
    vec![if random.int(0, 1) == 1 { case.mask() } else { case }.terms(terms)]
}

/// The operands of an int8 layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) attrs: QConvAttrs,
    pub(crate) input: Tensor,
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) multiplier: Tensor,
}

impl Layer {
    /// Codes over the whole range, results over the whole range of the output.
    pub(crate) fn new(geometry: &Geometry, depthwise: bool, random: &mut Random) -> Self {
        let Extents { out, row, .. } = geometry.extents();
        let (zx, zy) = (random.pick(&[-128, 127, 0, -3]), random.pick(&[-128, 127, 0, 5]));
        let lo = if random.int(0, 1) == 1 { 0.0 } else { (-128 - zy) as f32 };
        let attrs = QConvAttrs {
            window: geometry.window,
            groups: geometry.groups as u32,
            in_zero_point: zx,
            out_zero_point: zy,
            lo,
            hi: (127 - zy) as f32,
            in_scale: random.float(0.01, 0.03),
            out_scale: random.float(0.03, 0.07),
        };
        let weight = Tensor::new(&geometry.weight(depthwise), &random.codes(out * row));
        let bias = (0..out).map(|_| random.int(-2000, 2000) as i32).collect();
        let bias = folded(bias, &weight, depthwise, zx);
        let spread = 60.0 / ((row as f32).sqrt() * 74.0 * 74.0);
        Self {
            attrs,
            input: Tensor::random(DType::I8, &geometry.input, random),
            weight,
            bias: Tensor::new(&[out], &bias),
            multiplier: Tensor::new(&[out], &random.floats(out, 0.3 * spread, 1.5 * spread)),
        }
    }

    /// Accumulators close to the ends of int32 and past them: weights and inputs of −128, multipliers to match.
    fn extreme(mut self, random: &mut Random) -> Self {
        let zy = self.attrs.out_zero_point;
        (self.attrs.lo, self.attrs.hi) = ((-128 - zy) as f32, (127 - zy) as f32);
        let out = self.bias.shape.elements();
        let bias: Vec<i32> =
            (0..out).map(|_| random.pick(&[i32::MAX - 70_000, i32::MIN + 3, i32::MAX])).collect();
        self.bias = Tensor::new(&[out], &bias);
        self.multiplier = Tensor::new(&[out], &random.floats(out, 2e-8, 8e-8));
        self.weight.bytes_mut().fill(0x80);
        self.input.bytes_mut().fill(0x80);
        self
    }

    /// No weight of −128, many of ±127, inputs of −128: the largest products that two to an int16 hold.
    fn narrow(mut self, depthwise: bool, random: &mut Random) -> Self {
        let zx = self.attrs.in_zero_point;
        let out = self.bias.shape.elements();
        self.weight.bytes_mut().fill_with(|| random.pick(&[-127i8, -127, 127, 5]) as u8);
        self.input.bytes_mut().fill_with(|| random.pick(&[-128i8, -128, 127]) as u8);
        let bias = (0..out).map(|_| random.int(-2000, 2000) as i32).collect();
        self.bias = Tensor::new(&[out], &folded(bias, &self.weight, depthwise, zx));
        self
    }

    /// Small sums times one half: values on ties of the rounding and on the bounds of the clamp.
    fn ties(mut self, depthwise: bool, random: &mut Random) -> Self {
        let QConvAttrs { in_zero_point: zx, out_zero_point: zy, .. } = self.attrs;
        let out = self.bias.shape.elements();
        (self.attrs.lo, self.attrs.hi) = ((-128 - zy).max(-4) as f32, (127 - zy).min(4) as f32);
        for byte in self.input.bytes_mut() {
            *byte = random.int(-2, 2).saturating_add(zx.into()).clamp(-128, 127) as i8 as u8;
        }
        self.weight.bytes_mut().fill_with(|| random.int(-1, 1) as u8);
        let bias: Vec<i32> = (0..out).map(|_| random.int(-3, 3) as i32).collect();
        self.bias = Tensor::new(&[out], &folded(bias, &self.weight, depthwise, zx));
        self.multiplier = Tensor::new(&[out], &vec![0.5f32; out]);
        self
    }

    fn case(&self, op: OpCode, name: String, output: DType, geometry: &Geometry) -> Case {
        let mut attrs = self.attrs;
        if output == DType::F32 {
            attrs.out_scale = 1.0;
        }
        let inputs = [&self.input, &self.weight, &self.bias, &self.multiplier];
        let case = Case::new(op, name, &attrs).output(output, &geometry.output);
        inputs.into_iter().fold(case, |case, tensor| case.input(tensor.clone()))
    }
}

/// Codes whose scale and zero point are operands.
pub(super) fn dynamic(name: String, geometry: &Geometry, terms: Terms, random: &mut Random) -> Case {
    let Extents { out, row, .. } = geometry.extents();
    let lo = random.pick(&[f32::NEG_INFINITY, 0.0]);
    let attrs = ConvAttrs { window: geometry.window, groups: geometry.groups as u32, lo, hi: f32::INFINITY };
    let codes = random.codes(out * row);
    let sums: Vec<i32> = codes.chunks(row).map(|row| row.iter().map(|w| i32::from(*w)).sum()).collect();
    let tolerance = if terms.is_real() { Tolerance::Real } else { Tolerance::Exact };
    let case = Case::new(OpCode::DynamicConv, name, &attrs)
        .input(Tensor::random(DType::I8, &geometry.input, random))
        .input(Tensor::new(&geometry.weight(false), &codes))
        .input(Tensor::new(&[out], &sums))
        .input(Tensor::new(&[out], &random.floats(out, 0.005, 0.02)))
        .input(Tensor::new(&[out], &random.floats(out, -1.0, 1.0)))
        .input(Tensor::new(&[1], &[random.float(0.005, 0.02)]))
        .input(Tensor::new(&[1], &random.codes(1)))
        .output(DType::F32, &geometry.output);
    Case { tolerance, ..case.terms(terms) }
}

/// `bias − zx·Σw`.
fn folded(bias: Vec<i32>, weight: &Tensor, depthwise: bool, zx: i32) -> Vec<i32> {
    let (codes, out): (&[i8], usize) = (weight.values(), bias.len());
    let row = codes.len() / out.max(1);
    let sum = |o: usize| -> i32 {
        let at = |i: usize| if depthwise { i * out + o } else { o * row + i };
        (0..row).map(|i| i32::from(codes[at(i)])).sum()
    };
    bias.into_iter().enumerate().map(|(o, b)| b - zx * sum(o)).collect()
}

fn quantized(op: OpCode, name: String, geometry: &Geometry, terms: Terms, random: &mut Random) -> Vec<Case> {
    let depthwise = op == OpCode::QDepthwise;
    let layer = Layer::new(geometry, depthwise, random);
    let mut cases = vec![layer.case(op, name.clone(), DType::I8, geometry)];
    let fitted = terms.sparse.as_ref().and_then(|sparse| sparse.fitted(layer.weight.values(), depthwise));
    let fitted = fitted.map(|sparse| {
        let terms = Terms { sparse: Some(sparse), ..terms.clone() };
        layer.case(op, format!("{name} fitted"), DType::I8, geometry).terms(terms)
    });
    cases.push(layer.case(op, format!("{name} masked"), DType::I8, geometry).mask());
    if op == OpCode::QConv {
        cases.push(layer.case(op, format!("{name} to f32"), DType::F32, geometry));
    }
    if terms.site().is_none() {
        let narrow = layer.clone().narrow(op == OpCode::QDepthwise, random);
        cases.push(narrow.case(op, format!("{name} narrow"), DType::I8, geometry));
    }
    if !terms.is_real() {
        let layer = layer.ties(op == OpCode::QDepthwise, random);
        cases.push(layer.case(op, format!("{name} on ties"), DType::I8, geometry).mask());
        cases.push(layer.case(op, format!("{name} on ties, without mask"), DType::I8, geometry));
        if op == OpCode::QConv {
            cases.push(layer.case(op, format!("{name} on bounds"), DType::F32, geometry).mask());
        }
        let extreme = layer.extreme(random);
        cases.push(extreme.case(op, format!("{name} extreme"), DType::I8, geometry));
        if op == OpCode::QConv && terms.site().is_none() {
            cases.push(extreme.case(op, format!("{name} to i32"), DType::I32, geometry));
        }
    }
    let tolerance = if terms.is_real() { Tolerance::Real } else { Tolerance::Exact };
    let with_terms = cases.into_iter().map(|case| case.terms(terms.clone()));
    with_terms.chain(fitted).map(|case| Case { tolerance, ..case }).collect()
}
