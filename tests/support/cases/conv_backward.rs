//! Backward steps of convolutions: which gradients are wanted, masks, accumulation.

use ingraft::kernel::OpCode;
use ingraft::kernel::attrs::ConvAttrs;
use ingraft::tensor::DType;

use super::conv::{Geometry, Kind, Layer, dense, depthwise, dynamic};
use super::terms::{Extents, LowRank, Values};
use super::{Case, Parameter, Random, Tensor, Terms, Tolerance};

const KINDS: &[Kind] =
    &[Kind::Base, Kind::RealLowRank, Kind::RealSparse, Kind::Dense, Kind::Affine, Kind::AllReal];

pub(crate) fn cases(op: OpCode, random: &mut Random) -> Vec<Case> {
    let geometries = if op == OpCode::DepthwiseBackward { depthwise() } else { dense() };
    let mut cases = Vec::new();
    let layers: &[Numbers] = match op {
        OpCode::DepthwiseBackward => &[Numbers::Real, Numbers::Integer],
        _ => &[Numbers::Real, Numbers::Integer, Numbers::Dynamic],
    };
    for (geometry, numbers) in geometries.iter().flat_map(|g| layers.iter().map(move |n| (g, n))) {
        for kind in KINDS {
            let Some(terms) = kind.terms(op, geometry, random) else { continue };
            let name = format!("{op} {:?} {kind:?}", geometry.weight(op == OpCode::DepthwiseBackward));
            let case = match numbers {
                Numbers::Real => real(op, name, geometry, random),
                Numbers::Integer => integer(op, name, geometry, random),
                Numbers::Dynamic => on_dynamic(name, geometry, random),
            };
            if *kind == Kind::Base {
                cases.push(frozen(case.clone(), geometry, random));
            }
            cases.push(with_grads(case, geometry, terms, random));
        }
    }
    cases
}

/// The gradient of the input alone, of a layer that keeps none.
fn frozen(mut case: Case, geometry: &Geometry, random: &mut Random) -> Case {
    case.name.push_str(" frozen");
    let kept = case.inputs.iter_mut().skip(1).find(|input| input.dtype != DType::U8);
    let input = kept.expect("a layer has an input");
    *input = Tensor::filled(input.dtype, &[0], 0);
    case.outputs.push(Tensor::random(DType::F32, &geometry.input, random));
    case
}

/// What a layer computes on.
enum Numbers {
    Real,
    Integer,
    /// Codes quantized at run time.
    Dynamic,
}

/// The forward operator's case, run backwards.
fn on_dynamic(name: String, geometry: &Geometry, random: &mut Random) -> Case {
    let forward = dynamic(name, geometry, Terms::default(), random);
    let case = Case { op: OpCode::ConvBackward, inputs: Vec::new(), outputs: Vec::new(), ..forward.clone() };
    let case = Case { name: format!("{} dynamic", forward.name), tolerance: Tolerance::Real, ..case };
    forward.inputs.into_iter().fold(incoming(case, geometry, random), Case::input)
}

/// `dy` and, on every other case, its mask.
fn incoming(case: Case, geometry: &Geometry, random: &mut Random) -> Case {
    let case = case.input(Tensor::random(DType::F32, &geometry.output, random));
    let elements = geometry.output.iter().product();
    if random.int(0, 1) == 1 { case.input(Tensor::mask(elements, random)) } else { case }
}

fn real(op: OpCode, name: String, geometry: &Geometry, random: &mut Random) -> Case {
    let Extents { out, row, .. } = geometry.extents();
    let groups = geometry.groups as u32;
    let attrs = ConvAttrs { window: geometry.window, groups, lo: 0.0, hi: 1.0 };
    let width = 1.0 / (row as f32).sqrt();
    incoming(Case::new(op, name, &attrs), geometry, random)
        .input(Tensor::random(DType::F32, &geometry.input, random))
        .input(Tensor::new(
            &geometry.weight(op == OpCode::DepthwiseBackward),
            &random.floats(out * row, -width, width),
        ))
        .input(Tensor::new(&[out], &random.floats(out, -0.5, 0.5)))
}

fn integer(op: OpCode, name: String, geometry: &Geometry, random: &mut Random) -> Case {
    let layer = Layer::new(geometry, op == OpCode::DepthwiseBackward, random);
    incoming(Case::new(op, format!("{name} int8"), &layer.attrs), geometry, random)
        .input(layer.input)
        .input(layer.weight)
        .input(layer.bias)
        .input(layer.multiplier)
}

/// Adds the terms, accumulators of their gradients, and the gradient of the
/// input: absent, overwritten, or added to.
fn with_grads(mut case: Case, geometry: &Geometry, terms: Terms, random: &mut Random) -> Case {
    let Extents { out, row, .. } = geometry.extents();
    let mut lengths = Vec::new();
    if let Some(LowRank::Real { down, up, .. }) = &terms.two_factor {
        lengths.extend([(Parameter::Down, down.len()), (Parameter::Up, up.len())]);
    }
    if let Some(Values::Real(values)) = terms.sparse.as_ref().map(|delta| &delta.values) {
        lengths.push((Parameter::Sparse, values.len()));
    }
    if terms.affine.is_some() {
        lengths.extend([(Parameter::Scale, out), (Parameter::Shift, out)]);
    }
    if terms.dense.is_some() || random.int(0, 2) == 0 {
        lengths.push((Parameter::Dense, out * row));
    }
    case.grads = lengths.into_iter().map(|(p, len)| (p, random.floats(len, -1.0, 1.0))).collect();
    case.accumulate = random.int(0, 1) as u32;
    if random.int(0, 3) != 0 || case.grads.is_empty() {
        case.outputs.push(Tensor::random(DType::F32, &geometry.input, random));
    }
    case.terms(terms)
}
