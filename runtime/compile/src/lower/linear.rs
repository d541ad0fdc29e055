//! Convolutions and linear layers: the operators that carry sites.

use ingraft_kernel::attrs::{Attrs, ConvAttrs, QConvAttrs, Window};
use ingraft_kernel::{OpCode, SiteKind};
use ingraft_tensor::{DType, QParams};

use super::pattern::{Chain, Codes, Patterns, code_bounds};
use super::select::{Selector, plan_shape};
use super::{LowerError, ProgSite, TensorRef};
use crate::graph::{Node, NodeId, ValueId};
use crate::op::{Binary, Layout, Op};
use crate::quantize::Quantization;

/// Whether `node` is a product of an activation with a constant matrix.
pub(super) fn is_linear(uses: &Patterns<'_>, node: &Node) -> bool {
    let graph = uses.graph;
    let constant = |value: Option<ValueId>| value.is_some_and(|v| is_constant(uses, v));
    match node.op {
        Op::MatMul => {
            let matrix = node.input(1).is_some_and(|w| graph[w].shape.len() == 2 && is_real(graph[w].dtype));
            let rows = node.input(0).is_some_and(|x| !graph[x].shape.is_empty());
            matrix && rows && constant(node.input(1)) && !constant(node.input(0))
        }
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            let out = node.input(1).and_then(|w| graph[w].shape.get(usize::from(!trans_b)).copied());
            let bias = node.input(2).is_none_or(|c| {
                let count = graph[c].elements();
                is_constant(uses, c)
                    && (count == 1 || (Some(count) == out && graph[c].shape.last() == Some(&count)))
            });
            let real = node.input(0).is_some_and(|x| is_real(graph[x].dtype));
            alpha == 1.0 && beta == 1.0 && !trans_a && real && bias && constant(node.input(1))
        }
        _ => false,
    }
}

fn is_real(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}

/// Whether `value` is a constant, or dequantized from one.
fn is_constant(uses: &Patterns<'_>, value: ValueId) -> bool {
    let graph = uses.graph;
    let dequantized = uses.producer(value).is_some_and(|id| {
        matches!(graph[id].op, Op::DequantizeLinear { .. }) && graph.konst_input(&graph[id], 0).is_some()
    });
    graph.konst(value).is_some() || dequantized
}

/// What a convolution and a linear layer have in common.
struct Linear {
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    window: Window,
    groups: usize,
    /// Output channels, input channels per group, kernel.
    out: usize,
    inputs: usize,
    kernel: [usize; 2],
    /// Axis of the output channels in the ONNX weight.
    out_axis: usize,
    kind: SiteKind,
    chain: Chain,
}

impl Linear {
    /// Weights per output channel.
    fn row_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.inputs
    }

    /// First element and stride of a channel's weights in plan order.
    fn row(&self, channel: usize) -> (usize, usize) {
        match self.kind {
            SiteKind::Depthwise => (channel, self.out),
            _ => (channel * self.row_len(), 1),
        }
    }

    fn site(&self, name: &str, dtype: DType, step: usize) -> ProgSite {
        ProgSite {
            name: name.to_owned(),
            kind: self.kind,
            dtype,
            out: self.out,
            inputs: self.inputs,
            kernel: self.kernel,
            groups: self.groups,
            transposed: self.out_axis == 1,
            step,
            stride: self.window.stride.into_iter().max().unwrap_or(1),
        }
    }

    /// Calls `visit` with the index of every weight of `channel` in plan order.
    fn for_each_in_row(&self, channel: usize, visit: impl FnMut(usize)) {
        let (start, step) = self.row(channel);
        (start..).step_by(step).take(self.row_len()).for_each(visit);
    }
}

/// Lowers a convolution, `MatMul` or `Gemm` with constant weight, with the bias,
/// activation and rounding behind it.
pub(super) fn lower(selector: &mut Selector<'_>, id: NodeId) -> Result<(), LowerError> {
    let graph = selector.graph;
    let node = &graph[id];
    let mut linear = match &node.op {
        Op::Conv(_) => convolution(selector, node)?,
        _ => product(selector, node)?,
    };
    let codes = selector.uses.codes(linear.x);
    let mut weight = WeightCodes::of(selector, &linear);
    // Depthwise steps round their result; one that the file leaves real is a convolution with a group per channel.
    if linear.kind == SiteKind::Depthwise
        && linear.chain.qparams.is_none()
        && codes.is_some()
        && weight.is_some()
    {
        linear.kind = SiteKind::Conv;
        weight = WeightCodes::of(selector, &linear);
    }
    match (codes, weight) {
        (Some(codes), Some(weight)) => integer(selector, node, &linear, codes, &weight),
        (None, Some(_)) => {
            selector.stays_float(node, "its input is not quantized in the file");
            real(selector, node, &linear)
        }
        (Some(_), None) => {
            selector.stays_float(node, "its weight is not int8 codes in the file");
            real(selector, node, &linear)
        }
        (None, None) => {
            selector.stays_float(node, "the file holds it in float");
            real(selector, node, &linear)
        }
    }
}

fn convolution(selector: &Selector<'_>, node: &Node) -> Result<Linear, LowerError> {
    let graph = selector.graph;
    let Op::Conv(conv) = &node.op else { return Err(selector.unsupported(node, "is not a convolution")) };
    let (Some(x), Some(weight)) = (node.input(0), node.input(1)) else {
        return Err(selector.unsupported(node, "lacks an operand"));
    };
    if conv.layout != Layout::ChannelsLast {
        return Err(selector.unsupported(node, "is not channels-last"));
    }
    let window = plan_window(&conv.window)
        .ok_or_else(|| selector.unsupported(node, "has more than two spatial dimensions"))?;
    let shape = &graph[weight].shape;
    let (out, inputs) = (shape[0], shape[1]);
    let channels = graph[x].shape.last().copied().unwrap_or(0);
    let kind = match conv.groups {
        1 => SiteKind::Conv,
        g if g == channels && g == out && inputs == 1 => SiteKind::Depthwise,
        _ => SiteKind::Conv,
    };
    let kernel = window.kernel.map(|k| k as usize);
    let chain = selector.uses.chain(node.outputs[0]);
    let (groups, bias) = (conv.groups, node.input(2));
    Ok(Linear { x, weight, bias, window, groups, out, inputs, kernel, out_axis: 0, kind, chain })
}

fn product(selector: &Selector<'_>, node: &Node) -> Result<Linear, LowerError> {
    let graph = selector.graph;
    let (Some(x), Some(weight)) = (node.input(0), node.input(1)) else {
        return Err(selector.unsupported(node, "lacks an operand"));
    };
    let out_axis = usize::from(!matches!(node.op, Op::Gemm { trans_b: true, .. }));
    let shape = &graph[weight].shape;
    let (out, inputs) = (shape[out_axis], shape[1 - out_axis]);
    let mut end = node.outputs[0];
    let mut nodes = Vec::new();
    let mut bias = node.input(2);
    if matches!(node.op, Op::MatMul)
        && let Some((add, value)) = bias_behind(&selector.uses, end, out)
    {
        nodes.push(add);
        bias = Some(value);
        end = graph[add].outputs[0];
    }
    let mut chain = selector.uses.chain(end);
    nodes.append(&mut chain.nodes);
    chain.nodes = nodes;
    Ok(Linear {
        x,
        weight,
        bias,
        window: Window::UNIT,
        groups: 1,
        out,
        inputs,
        kernel: [1, 1],
        out_axis,
        kind: SiteKind::Linear,
        chain,
    })
}

/// An addition of a constant vector of `out` elements that alone reads `value`.
pub(super) fn bias_behind(uses: &Patterns<'_>, value: ValueId, out: usize) -> Option<(NodeId, ValueId)> {
    let id = uses.reader(value)?;
    let add = &uses.graph[id];
    if !matches!(add.op, Op::Binary(Binary::Add)) {
        return None;
    }
    let other = add.inputs.iter().flatten().copied().find(|v| *v != value)?;
    let shape = &uses.graph[other].shape;
    let vector = shape.last() == Some(&out) && shape.iter().product::<usize>() == out;
    (vector && is_constant(uses, other)).then_some((id, other))
}

/// Weight codes and scales, one scale per output channel.
struct WeightCodes {
    /// `[out, kh, kw, inputs]`, or `[kh, kw, out]` for depthwise.
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// The ONNX name of the codes.
    name: String,
}

impl WeightCodes {
    /// The codes behind the weight, when it is `DequantizeLinear` of a constant and, less their zero points, they
    /// are int8.
    fn of(selector: &Selector<'_>, linear: &Linear) -> Option<Self> {
        let graph = selector.graph;
        let node = &graph[selector.uses.producer(linear.weight)?];
        let Op::DequantizeLinear { axis } = node.op else { return None };
        let source = node.input(0)?;
        let konst = graph.konst(source)?;
        let quantization = Quantization::of(graph, node, axis)?;
        matches!(konst.dtype(), DType::I8 | DType::U8).then_some(())?;
        let per_channel = quantization.scales.len() == 1 || axis == linear.out_axis;
        let inner: usize = konst.shape().get(axis + 1..).unwrap_or(&[]).iter().product();
        let extent = konst.shape().get(axis).copied().unwrap_or(1).max(1);
        let steps = |(i, code): (usize, &i64)| {
            i8::try_from(code - quantization.zero_point(i / inner.max(1) % extent)).ok()
        };
        let codes: Option<Vec<i8>> = konst.to_i64().iter().enumerate().map(steps).collect();
        let codes = codes.filter(|_| per_channel)?;
        Some(Self {
            codes: permute(&codes, linear),
            scales: (0..linear.out).map(|o| quantization.scale(o)).collect(),
            name: graph[source].name.clone(),
        })
    }

    fn row(&self, linear: &Linear, channel: usize) -> impl Iterator<Item = i32> {
        let (start, step) = linear.row(channel);
        self.codes.iter().skip(start).step_by(step).take(linear.row_len()).map(|c| i32::from(*c))
    }
}

/// ONNX weight order to plan order.
fn permute<T: Copy>(values: &[T], linear: &Linear) -> Vec<T> {
    let (out, inputs, [kh, kw]) = (linear.out, linear.inputs, linear.kernel);
    let taps = kh * kw;
    let at = |o: usize, i: usize, t: usize| match (linear.kind, linear.out_axis) {
        (SiteKind::Linear, 1) => values[i * out + o],
        _ => values[(o * inputs + i) * taps + t],
    };
    match linear.kind {
        SiteKind::Depthwise => {
            (0..taps).flat_map(|t| (0..out).map(move |o| (o, 0, t))).map(|(o, i, t)| at(o, i, t)).collect()
        }
        _ => (0..out)
            .flat_map(|o| (0..taps).flat_map(move |t| (0..inputs).map(move |i| (o, i, t))))
            .map(|(o, i, t)| at(o, i, t))
            .collect(),
    }
}

fn weight_shape(linear: &Linear) -> Vec<usize> {
    let [kh, kw] = linear.kernel;
    match linear.kind {
        SiteKind::Depthwise => vec![kh, kw, linear.out],
        _ => vec![linear.out, kh, kw, linear.inputs],
    }
}

fn integer(
    selector: &mut Selector<'_>,
    node: &Node,
    linear: &Linear,
    codes: Codes,
    weight: &WeightCodes,
) -> Result<(), LowerError> {
    let sx = codes.qparams.scale;
    let sy = linear.chain.qparams.map_or(1.0, |q| q.scale);
    // Each step rounds to f32, as the kernels' contract says.
    let bias = bias_codes(selector, linear, weight, sx);
    let folded = fold_bias(selector, linear, weight, codes.qparams, &bias);
    let scales = weight.scales.iter().zip(&folded.growth).map(|(sw, growth)| sw * growth);
    let multipliers: Vec<f32> = scales.map(|sw| (sx * sw) / sy).collect();
    let bounds = match linear.chain.qparams {
        Some(q) => code_bounds(linear.chain.bounds, q),
        None => linear.chain.bounds,
    };
    let attrs = QConvAttrs {
        window: linear.window,
        groups: linear.groups as u32,
        in_zero_point: codes.qparams.zero_point,
        out_zero_point: linear.chain.qparams.map_or(0, |q| q.zero_point),
        lo: bounds[0],
        hi: bounds[1],
        in_scale: sx,
        out_scale: sy,
    };
    let shape = plan_shape(&weight.name, &weight_shape(linear))?;
    let vector = plan_shape(&weight.name, &[linear.out])?;
    let x = selector.codes(codes)?;
    let operands = vec![
        x,
        selector.program.constant(&weight.name, shape, &folded.codes),
        selector.program.constant(&format!("{}.bias", weight.name), vector, &folded.bias),
        selector.program.constant(&format!("{}.multiplier", weight.name), vector, &multipliers),
    ];
    let output = selector.result(&linear.chain)?;
    let op = if linear.kind == SiteKind::Depthwise { OpCode::QDepthwise } else { OpCode::QConv };
    let step = selector.push_rows(op, &attrs, operands, output, &node.name)?;
    add_site(selector, linear.site(&weight.name, DType::I8, step));
    Ok(())
}

/// Bias codes on the scale sx·sw of each channel.
fn bias_codes(selector: &mut Selector<'_>, linear: &Linear, weight: &WeightCodes, sx: f32) -> Vec<f64> {
    let Some(value) = linear.bias else { return vec![0.0; linear.out] };
    let graph = selector.graph;
    let wanted = |o: usize| sx * weight.scales[o];
    let given = selector.uses.producer(value).map(|id| &graph[id]).and_then(|n| match n.op {
        Op::DequantizeLinear { axis } => {
            let codes = graph.konst_input(n, 0).filter(|k| k.dtype() == DType::I32)?;
            Some((codes.to_i64(), Quantization::of(graph, n, axis)?))
        }
        _ => None,
    });
    if let Some((codes, quantization)) = given {
        let same =
            (0..linear.out).all(|o| quantization.scale(o) == wanted(o) && quantization.zero_point(o) == 0);
        if same && codes.len() == linear.out {
            return codes.iter().map(|c| *c as f64).collect();
        }
        selector.program.notes.requantized_biases.push(weight.name.clone());
    }
    let reals = selector.constant_f32(value).unwrap_or_else(|| vec![0.0; linear.out]);
    let on_scale = |(o, b): (usize, &f32)| f64::from(*b) / f64::from(wanted(o));
    // Rounded when folded, after any change of scale.
    reals.iter().cycle().take(linear.out).enumerate().map(on_scale).collect()
}

/// A weight whose accumulators provably stay in i32, with `−zx·Σw` folded into the bias.
struct Folded {
    codes: Vec<i8>,
    bias: Vec<i32>,
    /// Power of two by which each channel's scale grew.
    growth: Vec<f32>,
}

/// Folds `−zx·Σw` into the bias and proves that no accumulator can leave i32:
/// |bias| + Σ|w|·255 < 2³¹ bounds every partial sum, however it is ordered.
///
/// Exporters give nearly dead channels a scale so small that their bias breaks
/// the bound. Such a channel's codes are halved until it holds, its scale doubled
/// as often: the weights that lose bits are far below the bias's own resolution.
fn fold_bias(
    selector: &mut Selector<'_>,
    linear: &Linear,
    weight: &WeightCodes,
    x: QParams,
    bias: &[f64],
) -> Folded {
    let mut folded = Folded { codes: weight.codes.clone(), bias: Vec::new(), growth: Vec::new() };
    let limit = f64::from(i32::MAX);
    for (o, b) in bias.iter().enumerate() {
        let mut growth = 1.0f64;
        let halved = |w: i32, growth: f64| (f64::from(w) / growth).round_ties_even() as i64;
        let magnitude = |growth: f64| -> f64 {
            weight.row(linear, o).map(|w| halved(w, growth).abs() as f64 * 255.0).sum()
        };
        while (b / growth).abs() + magnitude(growth) >= limit && growth < GROWTH_MAX {
            growth *= 2.0;
        }
        if growth > 1.0 {
            selector.program.notes.rescaled_channels.push((weight.name.clone(), o));
            linear.for_each_in_row(o, |i| folded.codes[i] = halved(i32::from(weight.codes[i]), growth) as i8);
        }
        let sum: i64 = weight.row(linear, o).map(|w| halved(w, growth)).sum();
        let kept = (b / growth).round_ties_even().clamp(-limit, limit) as i64;
        folded.bias.push((kept - i64::from(x.zero_point) * sum) as i32);
        folded.growth.push(growth as f32);
    }
    folded
}

/// 2³²: beyond it a weight code is zero and the bias fits whatever it was.
const GROWTH_MAX: f64 = 4_294_967_296.0;

fn real(selector: &mut Selector<'_>, node: &Node, linear: &Linear) -> Result<(), LowerError> {
    let Some(values) = selector.constant_f32(linear.weight) else {
        return Err(selector.unsupported(node, "its weight is not constant"));
    };
    let weight_name = weight_name(selector, linear.weight);
    let bias = match linear.bias {
        Some(value) => selector
            .constant_f32(value)
            .ok_or_else(|| selector.unsupported(node, "its bias is not constant"))?,
        None => vec![0.0],
    };
    let bias: Vec<f32> = bias.iter().copied().cycle().take(linear.out).collect();
    // A rounding behind a float operator is a step of its own.
    let chain = linear.chain.clone().without_rounding(selector.graph);
    let x = selector.tensor(linear.x)?;
    let attrs = ConvAttrs {
        window: linear.window,
        groups: linear.groups as u32,
        lo: chain.bounds[0],
        hi: chain.bounds[1],
    };
    let shape = plan_shape(&weight_name, &weight_shape(linear))?;
    let vector = plan_shape(&weight_name, &[linear.out])?;
    let operands = vec![
        x,
        selector.program.constant(&weight_name, shape, &permute(&values, linear)),
        selector.program.constant(&format!("{weight_name}.bias"), vector, &bias),
    ];
    let output = selector.result(&chain)?;
    let op = if linear.kind == SiteKind::Depthwise { OpCode::Depthwise } else { OpCode::Conv };
    let step = selector.push_rows(op, &attrs, operands, output, &node.name)?;
    add_site(selector, linear.site(&weight_name, DType::F32, step));
    Ok(())
}

/// The name a user knows the weight by: that of the codes where it is quantized.
pub(super) fn weight_name(selector: &Selector<'_>, value: ValueId) -> String {
    let graph = selector.graph;
    let source = selector.uses.producer(value).and_then(|id| match graph[id].op {
        Op::DequantizeLinear { .. } => graph[id].input(0),
        _ => None,
    });
    graph[source.unwrap_or(value)].name.clone()
}

/// Adds a site. A weight used twice makes two; names must tell them apart.
pub(super) fn add_site(selector: &mut Selector<'_>, mut site: ProgSite) {
    let sites = &mut selector.program.sites;
    let same = |s: &&ProgSite| s.name == site.name || s.name.starts_with(&format!("{}@", site.name));
    let repeats = sites.iter().filter(same).count();
    if repeats > 0 {
        site.name = format!("{}@{repeats}", site.name);
    }
    selector.program.steps[site.step].site = Some(sites.len());
    sites.push(site);
}

impl Selector<'_> {
    /// A step over the rows of its first operand; more dimensions than an image has are one.
    pub(super) fn push_rows<A: Attrs>(
        &mut self,
        op: OpCode,
        attrs: &A,
        mut operands: Vec<TensorRef>,
        mut output: TensorRef,
        name: &str,
    ) -> Result<usize, LowerError> {
        for tensor in operands.first_mut().into_iter().chain([&mut output]) {
            let shape = self.program.tensor(*tensor).shape;
            if shape.rank() > IMAGE_RANK {
                let channels = shape.dim(shape.rank() - 1);
                let (rows, name) =
                    (shape.elements() / channels.max(1), self.program.tensor(*tensor).name.clone());
                *tensor = self.alias(*tensor, &name, &[rows, channels])?;
            }
        }
        Ok(self.program.push(op, attrs, operands, vec![output], name))
    }
}

/// Dimensions of a channels-last image: batch, height, width, channels.
const IMAGE_RANK: usize = 4;

/// A window over one or two spatial dimensions as a plan holds it.
pub(super) fn plan_window(window: &crate::op::Window) -> Option<Window> {
    let pair = |values: &[usize], missing: u32| match *values {
        [w] => Some([missing, u32::try_from(w).ok()?]),
        [h, w] => Some([u32::try_from(h).ok()?, u32::try_from(w).ok()?]),
        _ => None,
    };
    let (begin, end) = (pair(&window.pads_begin, 0)?, pair(&window.pads_end, 0)?);
    Some(Window {
        kernel: pair(&window.kernel, 1)?,
        stride: pair(&window.strides, 1)?,
        dilation: pair(&window.dilations, 1)?,
        pad: [begin[0], begin[1], end[0], end[1]],
    })
}
