//! A small int8 network built in code, with its training schedule.
//!
//! stem 1×1 (frozen) → point 1×1 → depth 3×3 depthwise → add(point, depth) →
//! mix 3×3, stride 2×1, two groups → global average → classifier (f32 logits).

use ingraft_kernel::attrs::{PoolAttrs, QBinaryAttrs, QConvAttrs, Window};
use ingraft_kernel::{OpCode, SiteDesc, SiteKind};
use ingraft_plan::{
    ClipRule, IoSpec, Phase, PlanBuilder, PlanFacts, Role, SiteSpec, SiteTensors, StepSpec, TensorId,
    TensorSpec, TensorStorage,
};
use ingraft_tensor::bytes::{self, Plain};
use ingraft_tensor::{DType, QParams, Rng, Shape};

/// Sites in order, and the index of each.
pub(crate) const STEM: u32 = 0;
pub(crate) const POINT: u32 = 1;
pub(crate) const DEPTH: u32 = 2;
pub(crate) const MIX: u32 = 3;
pub(crate) const CLASSIFIER: u32 = 4;
/// Extents `[H, W, C]` of the activations.
pub(crate) const INPUT: [usize; 3] = [5, 4, 2];
pub(crate) const INNER: [usize; 3] = [5, 4, 4];
pub(crate) const MIXED: [usize; 3] = [3, 4, 6];
/// Bytes of a patch, of one behind the frozen stem, and number of features.
pub(crate) const PATCH: usize = 40;
pub(crate) const CUT: usize = 80;
pub(crate) const FEATURES: usize = 6;

/// Bytes that start at a 16-byte boundary.
pub(crate) struct Aligned {
    words: Vec<u128>,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(source: &[u8]) -> Self {
        let mut aligned = Self::zeroed(source.len());
        aligned.bytes_mut().copy_from_slice(source);
        aligned
    }

    pub(crate) fn zeroed(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(16)], len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &bytes::of(&self.words)[..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytes::of_mut(&mut self.words)[..self.len]
    }
}

/// One layer with its real and integer parameters.
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) kind: SiteKind,
    pub(crate) window: Window,
    pub(crate) groups: usize,
    pub(crate) inputs: usize,
    pub(crate) out: usize,
    /// `[out, row]`.
    pub(crate) codes: Vec<i8>,
    pub(crate) scales: Vec<f32>,
    /// In steps of sx·sw.
    pub(crate) bias: Vec<i32>,
    pub(crate) input: QParams,
    /// `None` for an f32 output.
    pub(crate) output: Option<QParams>,
}

/// The network.
pub(crate) struct Net {
    pub(crate) layers: [Layer; 5],
    pub(crate) add: QParams,
    pub(crate) pool: QParams,
}

impl Layer {
    pub(crate) fn row(&self) -> usize {
        (self.window.kernel[0] * self.window.kernel[1]) as usize * self.inputs
    }

    pub(crate) fn weight(&self, out: usize, position: usize) -> f64 {
        f64::from(self.codes[out * self.row() + position]) * f64::from(self.scales[out])
    }

    /// Where the kernel stores that weight.
    pub(crate) fn offset(&self, out: usize, position: usize) -> usize {
        match self.kind {
            SiteKind::Depthwise => position * self.out + out,
            _ => out * self.row() + position,
        }
    }

    pub(crate) fn bias(&self, out: usize) -> f64 {
        f64::from(self.bias[out]) * f64::from(self.input.scale) * f64::from(self.scales[out])
    }

    /// Clamp in output steps: a rectifier where the output is quantized.
    pub(crate) fn clamp(&self) -> (f32, f32) {
        match self.output {
            Some(q) => (0.0f32.max((-128 - q.zero_point) as f32), (127 - q.zero_point) as f32),
            None => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// Calls `visit(output index, channel, [(position in the row, input index or padding)])`
    /// for every output element, in order.
    pub(crate) fn for_each(
        &self,
        dims: [usize; 3],
        mut visit: impl FnMut(usize, usize, &[(usize, Option<usize>)]),
    ) {
        let [h, w, c] = dims;
        let Window { kernel, stride, pad, .. } = self.window;
        let extent = |axis: usize, n: usize| {
            (n + (pad[axis] + pad[axis + 2]) as usize - kernel[axis] as usize) / stride[axis] as usize + 1
        };
        let mut index = 0;
        for y in 0..extent(0, h) {
            for x in 0..extent(1, w) {
                for channel in 0..self.out {
                    let group = channel / (self.out / self.groups);
                    let mut taps = Vec::new();
                    for ky in 0..kernel[0] as usize {
                        for kx in 0..kernel[1] as usize {
                            let iy =
                                (y * stride[0] as usize + ky).checked_sub(pad[0] as usize).filter(|i| *i < h);
                            let ix =
                                (x * stride[1] as usize + kx).checked_sub(pad[1] as usize).filter(|i| *i < w);
                            for i in 0..self.inputs {
                                let at = iy.zip(ix).map(|(y, x)| (y * w + x) * c + group * self.inputs + i);
                                taps.push((taps.len(), at));
                            }
                        }
                    }
                    visit(index, channel, &taps);
                    index += 1;
                }
            }
        }
    }

    /// Real pre-activation values without terms.
    fn real(&self, dims: [usize; 3], x: &[f64]) -> Vec<f64> {
        let mut out = Vec::new();
        self.for_each(dims, |_, channel, taps| {
            let sum: f64 =
                taps.iter().filter_map(|(p, at)| at.map(|at| self.weight(channel, *p) * x[at])).sum();
            out.push(sum + self.bias(channel));
        });
        out
    }

    fn attrs(&self) -> QConvAttrs {
        let (lo, hi) = self.clamp();
        QConvAttrs {
            window: self.window,
            groups: self.groups as u32,
            in_zero_point: self.input.zero_point,
            out_zero_point: self.output.map_or(0, |q| q.zero_point),
            lo,
            hi,
            in_scale: self.input.scale,
            out_scale: self.output.map_or(1.0, |q| q.scale),
        }
    }

    fn desc(&self) -> SiteDesc<'static> {
        SiteDesc {
            name: self.name,
            kind: self.kind,
            dtype: DType::I8,
            out: self.out,
            inputs: self.inputs,
            kernel: self.window.kernel.map(|k| k as usize),
            groups: self.groups,
            transposed: false,
        }
    }
}

/// A patch of random codes.
pub(crate) fn patch(rng: &mut Rng) -> Vec<u8> {
    (0..PATCH).map(|_| rng.next_u64() as u8).collect()
}

/// Clips of one to three patches whose class shows in where the input is bright.
pub(crate) fn clips(seed: u64) -> Vec<(Vec<u8>, usize)> {
    let mut rng = Rng::new(seed);
    (0..18)
        .map(|i| {
            let class = i % 3;
            let patches = (0..i % 3 + 1).flat_map(|_| {
                let mut codes = patch(&mut rng);
                for (at, code) in codes.iter_mut().enumerate() {
                    let bright = at % 2 == usize::from(class == 0) && (class != 2 || at < PATCH / 2);
                    *code = (*code as i8 / 4 + if bright { 60 } else { -40 }) as u8;
                }
                codes
            });
            (patches.collect(), class)
        })
        .collect()
}

/// The real value of stored input codes.
pub(crate) fn dequantize(codes: &[u8], q: QParams) -> Vec<f64> {
    codes.iter().map(|c| f64::from(*c as i8 as i32 - q.zero_point) * f64::from(q.scale)).collect()
}

impl Net {
    /// A random network whose ranges fit its activations, save a few percent that are clipped.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let input = QParams::new(0.02, 5).unwrap();
        let samples: Vec<Vec<f64>> = (0..8).map(|_| dequantize(&patch(&mut rng), input)).collect();
        let square = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [1; 4] };
        let strided = Window { stride: [2, 1], ..square };
        let draw = |layer: Layer, rng: &mut Rng, dims, xs: &[Vec<f64>]| layer.fit(rng, dims, xs);
        let (stem, xs) =
            draw(layer("stem", SiteKind::Conv, Window::UNIT, 1, 2, 4, input), &mut rng, INPUT, &samples);
        let q = stem.output.unwrap();
        let (point, xs) =
            draw(layer("point", SiteKind::Conv, Window::UNIT, 1, 4, 4, q), &mut rng, INNER, &xs);
        let q = point.output.unwrap();
        let (depth, ys) = draw(layer("depth", SiteKind::Depthwise, square, 4, 1, 4, q), &mut rng, INNER, &xs);
        let sums: Vec<Vec<f64>> =
            xs.iter().zip(&ys).map(|(x, y)| x.iter().zip(y).map(|(a, b)| a + b).collect()).collect();
        let add = range(&sums);
        let (mix, ms) = draw(layer("mix", SiteKind::Conv, strided, 2, 2, 6, add), &mut rng, INNER, &sums);
        let means: Vec<Vec<f64>> = ms.iter().map(|m| mean(m)).collect();
        let pool = range(&means);
        let (mut classifier, _) = draw(
            layer("classifier", SiteKind::Linear, Window::UNIT, 1, 6, 3, pool),
            &mut rng,
            [1, 1, 6],
            &means,
        );
        classifier.output = None;
        Self { layers: [stem, point, depth, mix, classifier], add, pool }
    }

    /// The plan of this network with both schedules.
    pub(crate) fn plan(&self) -> Aligned {
        self.lower(true)
    }

    /// The plan of this network without a training schedule.
    pub(crate) fn inference_plan(&self) -> Aligned {
        self.lower(false)
    }

    fn lower(&self, trains: bool) -> Aligned {
        let mut draft = Draft { builder: PlanBuilder::new(), arena: 0 };
        let input = draft.tensor("input", DType::I8, &[1, 5, 4, 2], Some(self.layers[0].input));
        let forward = Forward::new(&mut draft, self, input);
        forward.steps(&mut draft, self, Phase::Infer);
        if trains {
            forward.steps(&mut draft, self, Phase::Train);
            forward.backward(&mut draft, self);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let at = |index: usize| SiteTensors {
                step: STEP_OF_SITE[index],
                input: forward.inputs[index].0,
                output: forward.outputs[index].0,
            };
            draft.builder.site(&SiteSpec {
                desc: layer.desc(),
                late: index > 0,
                infer: Some(at(index)),
                train: trains.then(|| at(index)),
                out_diagonal: None,
                in_diagonal: None,
            });
        }
        for (name, role, tensor) in
            [("input", Role::Input, input), ("logits", Role::Output, forward.outputs[CLASSIFIER as usize])]
        {
            let labels = Vec::new();
            let name = name.to_string();
            draft.builder.io(&IoSpec {
                name,
                role,
                tensor,
                labels,
                clip: ClipRule::Mean,
                hop: 0,
                recipe: Vec::new(),
            });
        }
        let arena = draft.arena as u32;
        Aligned::new(&draft.builder.finish(&PlanFacts {
            model_name: "tiny".to_string(),
            arena_bytes: [arena; 2],
            lower_bound_bytes: [arena; 2],
            features: [true, trains].map(|has| has.then_some((forward.pool, 5))),
            logits: [true, trains].map(|has| has.then_some((forward.outputs[CLASSIFIER as usize], 6))),
            train_cut: u32::from(trains),
            train_backward: if trains { 7 } else { 0 },
            head_classes: 4,
            ..PlanFacts::default()
        }))
    }
}

/// Forward step of each site.
const STEP_OF_SITE: [u32; 5] = [0, 1, 2, 4, 6];

fn layer(
    name: &'static str,
    kind: SiteKind,
    window: Window,
    groups: usize,
    inputs: usize,
    out: usize,
    input: QParams,
) -> Layer {
    let (codes, scales, bias) = (Vec::new(), Vec::new(), Vec::new());
    Layer { name, kind, window, groups, inputs, out, codes, scales, bias, input, output: None }
}

impl Layer {
    /// Draws weights and gives the layer an output range that fits `xs`; also its outputs.
    fn fit(mut self, rng: &mut Rng, dims: [usize; 3], xs: &[Vec<f64>]) -> (Self, Vec<Vec<f64>>) {
        let count = self.out * self.row();
        self.codes = (0..count).map(|_| rng.uniform(-127.0, 128.0).floor() as i8).collect();
        let size = 1.5 / (self.row() as f64).sqrt() / 127.0;
        self.scales = (0..self.out).map(|_| (size * rng.uniform(0.7, 1.3)) as f32).collect();
        self.bias = (0..self.out).map(|_| rng.uniform(-2000.0, 6000.0) as i32).collect();
        let mut ys: Vec<Vec<f64>> = xs.iter().map(|x| self.real(dims, x)).collect();
        ys.iter_mut().flatten().for_each(|y| *y = y.max(0.0));
        self.output = Some(range(&ys));
        (self, ys)
    }
}

/// A range that clips the largest few percent of non-negative values.
fn range(values: &[Vec<f64>]) -> QParams {
    let largest = values.iter().flatten().copied().fold(0.0, f64::max);
    QParams::new((0.8 * largest.max(0.1) / 255.0) as f32, -128).unwrap()
}

fn mean(mixed: &[f64]) -> Vec<f64> {
    let [h, w, c] = MIXED;
    (0..c).map(|i| mixed.iter().skip(i).step_by(c).sum::<f64>() / (h * w) as f64).collect()
}

struct Draft {
    builder: PlanBuilder,
    arena: usize,
}

impl Draft {
    fn tensor(&mut self, name: &str, dtype: DType, dims: &[u32], qparams: Option<QParams>) -> TensorId {
        let shape = Shape::new(dims).unwrap();
        let storage = TensorStorage::Arena(self.arena as u32);
        self.arena += bytes::align_up(shape.elements() * dtype.size());
        self.builder.tensor(&TensorSpec { name: name.to_string(), dtype, shape, qparams, storage })
    }

    /// The tensor made last under another shape, as behind a reshape.
    fn reshaped(&mut self, name: &str, dtype: DType, dims: &[u32], qparams: Option<QParams>) -> TensorId {
        let shape = Shape::new(dims).unwrap();
        self.arena -= bytes::align_up(shape.elements() * dtype.size());
        self.tensor(name, dtype, dims, qparams)
    }

    fn blob<T: Plain>(&mut self, dtype: DType, values: &[T]) -> TensorId {
        let shape = Shape::new(&[values.len() as u32]).unwrap();
        let storage = TensorStorage::Blob(bytes::of(values).to_vec());
        self.builder.tensor(&TensorSpec { name: String::new(), dtype, shape, qparams: None, storage })
    }

    /// An f32 tensor declared to hold the gradient of `tensor`.
    fn gradient(&mut self, tensor: TensorId, dims: &[u32]) -> TensorId {
        let gradient = self.tensor("gradient", DType::F32, dims, None);
        self.builder.set_grad(tensor, gradient);
        gradient
    }
}

/// The tensors of the forward pass.
struct Forward {
    inputs: [TensorId; 5],
    outputs: [TensorId; 5],
    /// Weight, bias, multiplier.
    constants: [[TensorId; 3]; 5],
    /// Masks of the steps, by step.
    masks: [Option<TensorId>; 7],
    add: TensorId,
    pool: TensorId,
}

impl Forward {
    fn new(draft: &mut Draft, net: &Net, input: TensorId) -> Self {
        let inner = [1, 5, 4, 4];
        let mixed = [1, 3, 4, 6];
        let mut codes = |name: &str, dims: &[u32], q| draft.tensor(name, DType::I8, dims, q);
        let [stem, point, depth] = [0, 1, 2].map(|i| codes(net.layers[i].name, &inner, net.layers[i].output));
        let add = codes("add", &inner, Some(net.add));
        let mix = codes("mix", &mixed, net.layers[3].output);
        let pool = codes("pool", &[1, 1, 1, 6], Some(net.pool));
        let flat = draft.reshaped("flat", DType::I8, &[1, 6], Some(net.pool));
        let logits = draft.tensor("logits", DType::F32, &[1, 3], None);
        let masks = [0, 80, 80, 80, 72, 6, 0].map(|elements: u32| {
            (elements != 0).then(|| draft.tensor("mask", DType::U8, &[elements.div_ceil(8)], None))
        });
        let constants = net.layers.each_ref().map(|layer| constants(draft, layer));
        let inputs = [input, stem, point, add, flat];
        Self { inputs, outputs: [stem, point, depth, mix, logits], constants, masks, add, pool }
    }

    fn steps(&self, draft: &mut Draft, net: &Net, phase: Phase) {
        for step in 0..7u32 {
            let mask = self.masks[step as usize].filter(|_| phase == Phase::Train);
            let with_mask = |output: TensorId| [Some(output), mask].into_iter().flatten().collect::<Vec<_>>();
            let spec = match step {
                3 => {
                    let [a, b] = [self.outputs[1], self.outputs[2]];
                    StepSpec::new(OpCode::QAdd, &add_attrs(net), vec![a, b], with_mask(self.add), "add")
                }
                5 => {
                    let mixed = vec![self.outputs[3]];
                    StepSpec::new(OpCode::QPool, &pool_attrs(net), mixed, with_mask(self.pool), "pool")
                }
                _ => {
                    let site = STEP_OF_SITE.iter().position(|s| *s == step).unwrap();
                    let layer = &net.layers[site];
                    let op =
                        if layer.kind == SiteKind::Depthwise { OpCode::QDepthwise } else { OpCode::QConv };
                    let [weight, bias, multiplier] = self.constants[site];
                    let inputs = vec![self.inputs[site], weight, bias, multiplier];
                    let outputs = with_mask(self.outputs[site]);
                    let spec = StepSpec::new(op, &layer.attrs(), inputs, outputs, layer.name);
                    StepSpec { site: Some(site as u32), ..spec }
                }
            };
            draft.builder.step(phase, &spec);
        }
    }

    fn backward(&self, draft: &mut Draft, net: &Net) {
        let inner = [1, 5, 4, 4];
        let logits = draft.gradient(self.outputs[4], &[1, 3]);
        let pool = draft.gradient(self.pool, &[1, 1, 1, 6]);
        let flat = draft.reshaped("gradient", DType::F32, &[1, 6], None);
        let mix = draft.gradient(self.outputs[3], &[1, 3, 4, 6]);
        let add = draft.gradient(self.add, &inner);
        let depth = draft.gradient(self.outputs[2], &inner);
        let point = draft.gradient(self.outputs[1], &inner);
        let mask = |step: usize| self.masks[step].into_iter();
        let through =
            |gradient: TensorId, step: usize| [gradient].into_iter().chain(mask(step)).collect::<Vec<_>>();
        let site = |index: usize, gradient: TensorId, outputs: Vec<TensorId>| {
            let layer = &net.layers[index];
            let op = match layer.kind {
                SiteKind::Depthwise => OpCode::DepthwiseBackward,
                _ => OpCode::ConvBackward,
            };
            let mut inputs = through(gradient, STEP_OF_SITE[index] as usize);
            inputs.push(self.inputs[index]);
            inputs.extend(self.constants[index]);
            let spec = StepSpec::new(op, &layer.attrs(), inputs, outputs, layer.name);
            StepSpec { site: Some(index as u32), forward: Some(STEP_OF_SITE[index]), ..spec }
        };
        let plain = |op, attrs: &[u8], inputs, output, forward| StepSpec {
            op,
            attrs: attrs.to_vec(),
            inputs,
            outputs: vec![output],
            site: None,
            forward: Some(forward),
            name: String::new(),
        };
        let pooling = [pool_attrs(net)];
        for spec in [
            site(4, logits, vec![flat]),
            plain(OpCode::PoolBackward, bytes::of(&pooling), through(pool, 5), mix, 5),
            site(3, mix, vec![add]),
            plain(OpCode::AddBackward, &[], through(add, 3), depth, 3),
            plain(OpCode::AddBackward, &[], through(add, 3), point, 3),
            site(2, depth, vec![point]),
            site(1, point, Vec::new()),
        ] {
            draft.builder.step(Phase::Train, &spec);
        }
    }
}

fn constants(draft: &mut Draft, layer: &Layer) -> [TensorId; 3] {
    let row = layer.row();
    let stored: Vec<i8> = match layer.kind {
        SiteKind::Depthwise => {
            (0..row * layer.out).map(|i| layer.codes[i % layer.out * row + i / layer.out]).collect()
        }
        _ => layer.codes.clone(),
    };
    let folded: Vec<i32> = layer
        .bias
        .iter()
        .zip(layer.codes.chunks(row))
        .map(|(bias, codes)| bias - layer.input.zero_point * codes.iter().map(|c| i32::from(*c)).sum::<i32>())
        .collect();
    let out_scale = layer.output.map_or(1.0, |q| q.scale);
    let multiplier: Vec<f32> = layer.scales.iter().map(|s| layer.input.scale * s / out_scale).collect();
    [draft.blob(DType::I8, &stored), draft.blob(DType::I32, &folded), draft.blob(DType::F32, &multiplier)]
}

fn add_attrs(net: &Net) -> QBinaryAttrs {
    let [a, b] = [1, 2].map(|i| net.layers[i].output.unwrap());
    QBinaryAttrs {
        zero_points: [a.zero_point, b.zero_point],
        factors: [a.scale / net.add.scale, b.scale / net.add.scale],
        out_zero_point: net.add.zero_point,
        lo: (-128 - net.add.zero_point) as f32,
        hi: (127 - net.add.zero_point) as f32,
    }
}

fn pool_attrs(net: &Net) -> PoolAttrs {
    let mix = net.layers[3].output.unwrap();
    PoolAttrs {
        window: Window { kernel: [3, 4], stride: [1; 2], dilation: [1; 2], pad: [0; 4] },
        kind: 1,
        in_zero_point: mix.zero_point,
        out_zero_point: net.pool.zero_point,
        ratio: mix.scale / net.pool.scale,
        lo: (-128 - net.pool.zero_point) as f32,
        hi: (127 - net.pool.zero_point) as f32,
    }
}
