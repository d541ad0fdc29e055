//! Which elements a step adds to which, and with what factor.

use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::attrs::{
    Attrs, BinaryAttrs, ConvAttrs, CopyAttrs, PoolAttrs, QConvAttrs, ReduceAttrs, UnaryAttrs, Window,
};
use ingraft_kernel::elementwise::{BinaryFn, UnaryFn};
use ingraft_kernel::pool::{Images, MAX};
use ingraft_kernel::reduce::ReduceFn;
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{OpCode, Place};
use ingraft_plan::{PlanView, StepView, TensorView};
use ingraft_tensor::{DType, Shape, bytes};
use ingraft_train::FrozenSite;

/// How the elements of one value come of another's.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Link {
    /// Each of the one in its place.
    Same,
    /// Output, input, factor.
    Pairs(Vec<(u32, u32, f64)>),
    /// Of the pairs of an output only the one whose input is largest, the first of equals.
    Largest(Vec<(u32, u32, f64)>),
    /// A convolution or linear layer by magnitudes, as the base stores them.
    Conv { shape: ConvShape, depthwise: bool, weight: Vec<f64>, site: u32 },
}

/// A link and the value it comes from.
pub(super) struct Arc {
    pub(super) input: usize,
    pub(super) link: Link,
}

/// An operand of a step.
pub(super) enum Source<'p> {
    Constant(TensorView<'p>),
    Value(usize, Shape),
}

impl Link {
    /// Elements of its weight.
    pub(super) fn weights(&self) -> usize {
        if let Self::Conv { weight, .. } = self { weight.len() } else { 0 }
    }

    pub(super) fn site(&self) -> Option<u32> {
        if let Self::Conv { site, .. } = self { Some(*site) } else { None }
    }

    /// Calls `visit(output, input, factor, place of the weight)`, the place past the end where there is none.
    pub(super) fn each(&self, input: &[f64], mut visit: impl FnMut(usize, usize, f64, usize)) {
        match self {
            Self::Same => (0..input.len()).for_each(|i| visit(i, i, 1.0, usize::MAX)),
            Self::Pairs(pairs) => {
                pairs
                    .iter()
                    .for_each(|(out, at, factor)| visit(*out as usize, *at as usize, *factor, usize::MAX));
            }
            Self::Largest(pairs) => {
                let outputs = pairs.iter().map(|pair| pair.0 as usize + 1).max().unwrap_or(0);
                let mut best: Vec<Option<usize>> = vec![None; outputs];
                for (out, at, _) in pairs {
                    let (best, at) = (&mut best[*out as usize], *at as usize);
                    if best.is_none_or(|best| input[at] > input[best]) {
                        *best = Some(at);
                    }
                }
                let found = best.into_iter().enumerate().filter_map(|(out, at)| Some((out, at?)));
                found.for_each(|(out, at)| visit(out, at, 1.0, usize::MAX));
            }
            Self::Conv { shape, depthwise, weight, .. } => conv(shape, *depthwise, weight, visit),
        }
    }
}

fn conv(shape: &ConvShape, depthwise: bool, weight: &[f64], mut visit: impl FnMut(usize, usize, f64, usize)) {
    let ([_, _, _, inputs], [_, height, width, outputs]) = (shape.input, shape.output);
    let row = shape.row();
    for pixel in 0..shape.output[0] * height * width {
        let Some(place) = shape.pixel(pixel) else { continue };
        for tap in 0..shape.kernel[0] * shape.kernel[1] {
            let Some(at) = shape.tap(place, tap / shape.kernel[1], tap % shape.kernel[1]) else { continue };
            for channel in 0..outputs {
                let out = pixel * outputs + channel;
                if depthwise {
                    let place = tap * outputs + channel;
                    visit(out, at * inputs + channel, weight[place], place);
                    continue;
                }
                let first = at * inputs + channel / shape.out_group * shape.in_group;
                let place = channel * row + tap * shape.in_group;
                for i in 0..shape.in_group {
                    visit(out, first + i, weight[place + i], place + i);
                }
            }
        }
    }
}

/// How `output`, the first of `step`, comes of its operands; `None` where it is no sum of values, by constants.
pub(super) fn arcs<'p>(
    plan: &PlanView<'_>,
    step: &StepView<'_>,
    source: impl Fn(usize) -> Option<Source<'p>>,
    output: Shape,
) -> Option<Vec<Arc>> {
    let value = |at: usize| match source(at)? {
        Source::Value(value, shape) => Some((value, shape)),
        Source::Constant(_) => None,
    };
    let one = |input: usize, link: Link| Some(vec![Arc { input, link }]);
    let same = || {
        let (input, shape) = value(0)?;
        (shape.elements() == output.elements()).then_some(())?;
        one(input, Link::Same)
    };
    match step.op {
        OpCode::Conv | OpCode::Depthwise | OpCode::QConv | OpCode::QDepthwise | OpCode::DynamicConv => {
            let (input, shape) = value(0)?;
            one(input, layer(plan, step, shape, output)?)
        }
        OpCode::Unary => {
            activates(UnaryFn::from_code(UnaryAttrs::read(step.attrs)?.function)?).then_some(())?;
            same()
        }
        OpCode::Lookup
        | OpCode::Quantize
        | OpCode::Dequantize
        | OpCode::DynamicQuantize
        | OpCode::Requantize => same(),
        OpCode::Fill => Some(Vec::new()),
        OpCode::Copy => {
            let (input, _) = value(0)?;
            one(input, Link::Pairs(copied(CopyAttrs::read(step.attrs)?)?))
        }
        OpCode::Pool | OpCode::QPool => {
            let (input, shape) = value(0)?;
            one(input, pooled(PoolAttrs::read(step.attrs)?, shape, output)?)
        }
        OpCode::Reduce => {
            let (input, shape) = value(0)?;
            one(input, reduced(ReduceAttrs::read(step.attrs)?, shape, output)?)
        }
        OpCode::QAdd => combined(BinaryFn::Add, [source(0)?, source(1)?], output),
        OpCode::QMul => combined(BinaryFn::Mul, [source(0)?, source(1)?], output),
        OpCode::Binary => {
            let function = BinaryFn::from_code(BinaryAttrs::read(step.attrs)?.function)?;
            combined(function, [source(0)?, source(1)?], output)
        }
        _ => None,
    }
}

/// Whether it is used as an activation, not as arithmetic.
fn activates(function: UnaryFn) -> bool {
    !matches!(
        function,
        UnaryFn::Exp
            | UnaryFn::Log
            | UnaryFn::Sqrt
            | UnaryFn::Erf
            | UnaryFn::Abs
            | UnaryFn::Neg
            | UnaryFn::Reciprocal
            | UnaryFn::Floor
            | UnaryFn::Ceil
            | UnaryFn::Round
            | UnaryFn::Sign
            | UnaryFn::Sin
            | UnaryFn::Cos
    )
}

fn layer(plan: &PlanView<'_>, step: &StepView<'_>, input: Shape, output: Shape) -> Option<Link> {
    let site = step.site?;
    let frozen = FrozenSite::new(plan, site as usize)?;
    let (window, groups): (Window, u32) = match step.op {
        OpCode::QConv | OpCode::QDepthwise => {
            let attrs = QConvAttrs::read(step.attrs)?;
            (attrs.window, attrs.groups)
        }
        _ => {
            let attrs = ConvAttrs::read(step.attrs)?;
            (attrs.window, attrs.groups)
        }
    };
    let depthwise = matches!(step.op, OpCode::Depthwise | OpCode::QDepthwise);
    let groups = if depthwise { *input.dims().last()? as usize } else { groups as usize };
    let shape = ConvShape::new(&window, groups, input, output)?;
    let (out, row) = (frozen.desc.out, frozen.desc.row());
    (shape.output[3] == out && shape.row() == row).then_some(())?;
    let mut weight = vec![0.0; out * row];
    for channel in 0..out {
        for position in 0..row {
            weight[frozen.offset(channel, position)] = f64::from(frozen.weight(channel, position).abs());
        }
    }
    Some(Link::Conv { shape, depthwise, weight, site })
}

/// Sums of values; products and quotients of a value and a constant, by the constant's magnitude; a constant
/// that is added or bounds is left out.
fn combined(function: BinaryFn, [left, right]: [Source<'_>; 2], output: Shape) -> Option<Vec<Arc>> {
    let placed = |shape: Shape| places(output, shape);
    let plain = |input: usize, shape: Shape| {
        if shape.elements() == output.elements() {
            return Some(Arc { input, link: Link::Same });
        }
        let pairs = (0..).zip(placed(shape)?).map(|(out, at)| (out, at, 1.0)).collect();
        Some(Arc { input, link: Link::Pairs(pairs) })
    };
    match (function, left, right) {
        (BinaryFn::Add, Source::Value(a, of), Source::Value(b, with)) => {
            Some(vec![plain(a, of)?, plain(b, with)?])
        }
        (BinaryFn::Mul, Source::Value(input, shape), Source::Constant(constant))
        | (BinaryFn::Mul, Source::Constant(constant), Source::Value(input, shape)) => {
            scaled(input, placed(shape)?, &constant, placed, f64::abs)
        }
        (BinaryFn::Div, Source::Value(input, shape), Source::Constant(constant)) => {
            scaled(input, placed(shape)?, &constant, placed, |divisor| 1.0 / divisor.abs())
        }
        (
            BinaryFn::Add | BinaryFn::Sub | BinaryFn::Max | BinaryFn::Min | BinaryFn::Prelu,
            Source::Value(input, shape),
            Source::Constant(_),
        )
        | (
            BinaryFn::Add | BinaryFn::Sub | BinaryFn::Max | BinaryFn::Min,
            Source::Constant(_),
            Source::Value(input, shape),
        ) => Some(vec![plain(input, shape)?]),
        _ => None,
    }
}

fn scaled(
    input: usize,
    at: Vec<u32>,
    constant: &TensorView<'_>,
    placed: impl Fn(Shape) -> Option<Vec<u32>>,
    factor: impl Fn(f64) -> f64,
) -> Option<Vec<Arc>> {
    let values = reals(constant)?;
    let factors = placed(constant.operand.shape)?;
    let pairs = (0..).zip(at.into_iter().zip(factors));
    let pairs: Option<Vec<_>> =
        pairs.map(|(out, (at, place))| Some((out, at, factor(*values.get(place as usize)?)))).collect();
    let pairs = pairs.filter(|pairs| pairs.iter().all(|(_, _, factor)| factor.is_finite()))?;
    Some(vec![Arc { input, link: Link::Pairs(pairs) }])
}

fn reals(constant: &TensorView<'_>) -> Option<Vec<f64>> {
    let Place::Plan(held) = constant.operand.place else { return None };
    match (constant.operand.dtype, constant.qparams) {
        (DType::F32, _) => Some(bytes::cast::<f32>(held)?.iter().map(|v| f64::from(*v)).collect()),
        (DType::I8, Some(q)) => {
            let real = |code: &i8| f64::from(i32::from(*code) - q.zero_point) * f64::from(q.scale);
            Some(bytes::cast::<i8>(held)?.iter().map(real).collect())
        }
        _ => None,
    }
}

/// For each element of `output` the one of an operand of `shape` that is broadcast there.
fn places(output: Shape, shape: Shape) -> Option<Vec<u32>> {
    let (dims, own) = (output.dims(), shape.dims());
    let missing = dims.len().checked_sub(own.len())?;
    let strides = shape.strides();
    let mut steps = vec![0; dims.len()];
    for (axis, extent) in own.iter().enumerate() {
        match *extent {
            1 => {}
            extent if extent == dims[missing + axis] => steps[missing + axis] = *strides.get(axis)?,
            _ => return None,
        }
    }
    Some(
        digits(dims)
            .map(|at| at.iter().zip(&steps).map(|(i, step)| i * step).sum::<usize>() as u32)
            .collect(),
    )
}

/// All positions in a tensor of extents `dims`, the last axis fastest.
fn digits(dims: &[u32]) -> impl Iterator<Item = Vec<usize>> {
    let all: usize = dims.iter().map(|d| *d as usize).product();
    (0..all).map(move |mut index| {
        let mut at = vec![0; dims.len()];
        for (digit, extent) in at.iter_mut().zip(dims).rev() {
            *digit = index % *extent as usize;
            index /= *extent as usize;
        }
        at
    })
}

fn copied(attrs: &CopyAttrs) -> Option<Vec<(u32, u32, f64)>> {
    let rank = attrs.rank as usize;
    let at = |digits: &[usize], first: u32, strides: &[i64]| {
        let moved: i64 = digits.iter().zip(strides).map(|(i, stride)| *i as i64 * stride).sum();
        u32::try_from(i64::from(first) + moved).ok()
    };
    let inputs = attrs.in_strides.map(i64::from);
    let outputs = attrs.out_strides.map(i64::from);
    let pair = |digits: Vec<usize>| {
        Some((at(&digits, attrs.out_offset, &outputs)?, at(&digits, attrs.in_offset, &inputs)?, 1.0))
    };
    digits(attrs.extents.get(..rank)?).map(pair).collect()
}

fn pooled(attrs: &PoolAttrs, input: Shape, output: Shape) -> Option<Link> {
    let images = Images::new(input, output, attrs.window)?;
    let every: Vec<u32> = (0..input.elements() as u32).collect();
    let mut outputs: Vec<u32> = (0..output.elements() as u32).collect();
    let mut pairs = Vec::new();
    images.pool(&every, &mut outputs, |region, out| {
        let factor = if attrs.kind == MAX { 1.0 } else { 1.0 / region.count(attrs.kind).max(1) as f64 };
        region.each(0, out.len(), |taps| pairs.extend(out.iter().zip(taps).map(|(o, i)| (*o, *i, factor))));
    });
    Some(if attrs.kind == MAX { Link::Largest(pairs) } else { Link::Pairs(pairs) })
}

fn reduced(attrs: &ReduceAttrs, input: Shape, output: Shape) -> Option<Link> {
    let function = ReduceFn::from_code(attrs.function)?;
    let (dims, kept) = (input.dims(), |axis: usize| attrs.axes >> axis & 1 == 0);
    let count: usize =
        dims.iter().enumerate().filter(|(axis, _)| !kept(*axis)).map(|(_, d)| *d as usize).product();
    let out = |at: Vec<usize>| {
        let held = at.iter().zip(dims).enumerate().filter(|(axis, _)| kept(*axis));
        held.fold(0, |sum, (_, (i, extent))| sum * *extent as usize + i) as u32
    };
    let factor = if function == ReduceFn::Mean { 1.0 / count.max(1) as f64 } else { 1.0 };
    let pairs: Vec<_> = (0..).zip(digits(dims)).map(|(from, at)| (out(at), from, factor)).collect();
    (output.elements() * count == input.elements()).then_some(())?;
    match function {
        ReduceFn::Sum | ReduceFn::Mean => Some(Link::Pairs(pairs)),
        ReduceFn::Max => Some(Link::Largest(pairs)),
        _ => None,
    }
}
