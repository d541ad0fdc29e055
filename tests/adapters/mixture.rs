//! Methods that choose by what sites are, on graphs built for them: experts and their routers, tables of token types.

use ingraft::adapter::{Adapter, Base, TermSource};
use ingraft::compile::lower::train::TrainFrom;
use ingraft::compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use ingraft::compile::{CompileOptions, Tensor, compile};
use ingraft::kernel::{Host, Sites};
use ingraft::method::{ExportOptions, FactorFormat, Full, Saliency, build, build_on, export, score_for};
use ingraft::plan::PlanView;
use ingraft::tensor::DType;
use ingraft::train::{Clip, LearningRate, Method, Setup, TermLayout, Trainer, Truth};

use crate::methods;
use crate::support::{AlignedBytes, Lcg, as_bytes, floats, infer};

const TOKENS: usize = 5;
const WIDE: usize = 6;
const EXPERTS: usize = 4;
const CLASSES: usize = 3;

/// A graph being written.
pub(crate) struct Writer {
    graph: GraphProto,
    random: Lcg,
}

impl Writer {
    pub(crate) fn new(graph: GraphProto) -> Self {
        Self { graph, random: Lcg::new(4) }
    }

    pub(crate) fn constant(&mut self, name: &str, dims: &[usize], scale: f32) {
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|_| scale * (2.0 * self.random.real() - 1.0)).collect();
        let tensor = Tensor::from_f32(dims, &values).expect("as many values");
        self.graph = core::mem::take(&mut self.graph).with_constant(TensorProto::new(name, &tensor));
    }

    /// From a half to one and a half.
    pub(crate) fn positive(&mut self, name: &str, dims: &[usize]) {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.random.real() + 0.5).collect();
        let tensor = Tensor::from_f32(dims, &values).expect("as many values");
        self.graph = core::mem::take(&mut self.graph).with_constant(TensorProto::new(name, &tensor));
    }

    pub(crate) fn node(&mut self, node: NodeProto) {
        self.graph = core::mem::take(&mut self.graph).with_node(node);
    }

    /// `to = from · weight`.
    pub(crate) fn linear(&mut self, from: &str, weight: &str, dims: [usize; 2], to: &str) {
        self.constant(weight, &dims, 0.8);
        self.node(NodeProto::new("MatMul", &[from, weight], &[to]));
    }

    /// The plan of the graph, in this version of the operators, trainable from its first site on.
    pub(crate) fn plan(self, opset: i64) -> AlignedBytes {
        let graph = self.graph.with_output("logits", DType::F32);
        let options = CompileOptions { train_from: Some(TrainFrom::All), ..CompileOptions::default() };
        let compiled = compile(&ModelProto::new(opset, graph).to_bytes(), &options).expect("it compiles");
        AlignedBytes::copy_of(&compiled.plan)
    }
}

/// Two layers of a mixture: a router weighs the experts, every expert sees every token.
fn mixture() -> AlignedBytes {
    let graph = GraphProto::new("mixture").with_input("x", DType::F32, &[TOKENS.into(), WIDE.into()]);
    let mut it = Writer::new(graph);
    let mut from = "x".to_owned();
    for layer in 0..2 {
        let name = |rest: &str| format!("layers.{layer}.{rest}");
        it.linear(&from, &name("gate.weight"), [WIDE, EXPERTS], &name("logits"));
        it.node(NodeProto::new("Softmax", &[&name("logits")], &[&name("gates")]).with_int("axis", 1));
        let mut sum = from.clone();
        for expert in 0..EXPERTS {
            let own = |rest: &str| name(&format!("experts.{expert}.{rest}"));
            it.linear(&from, &own("up.weight"), [WIDE, 4], &own("wide"));
            it.node(NodeProto::new("Relu", &[&own("wide")], &[&own("active")]));
            it.linear(&own("active"), &own("down.weight"), [4, WIDE], &own("out"));
            // One gate for every channel of the expert's output.
            let ones: Vec<f32> =
                (0..EXPERTS * WIDE).map(|i| f32::from(u8::from(i / WIDE == expert))).collect();
            let column = Tensor::from_f32(&[EXPERTS, WIDE], &ones).expect("as many values");
            let picks = name(&format!("column{expert}"));
            it.graph = core::mem::take(&mut it.graph).with_constant(TensorProto::new(&picks, &column));
            it.node(NodeProto::new("MatMul", &[&name("gates"), &picks], &[&own("gate")]));
            it.node(NodeProto::new("Mul", &[&own("out"), &own("gate")], &[&own("weighed")]));
            it.node(NodeProto::new("Add", &[&sum, &own("weighed")], &[&own("sum")]));
            sum = own("sum");
        }
        from = sum;
    }
    finish(&mut it, &from);
    it.plan(13)
}

/// Tokens of three types, told apart by a table, before two layers.
fn typed_tokens() -> AlignedBytes {
    let graph = GraphProto::new("tokens")
        .with_input("x", DType::F32, &[TOKENS.into(), WIDE.into()])
        .with_input("types", DType::F32, &[TOKENS.into(), 3.into()]);
    let mut it = Writer { graph, random: Lcg::new(5) };
    it.linear("x", "embed.weight", [WIDE, WIDE], "embedded");
    it.linear("types", "token_types.weight", [3, WIDE], "typed");
    it.node(NodeProto::new("Add", &["embedded", "typed"], &["tokens"]));
    it.linear("tokens", "block.weight", [WIDE, WIDE], "wide");
    it.node(NodeProto::new("Relu", &["wide"], &["active"]));
    finish(&mut it, "active");
    it.plan(13)
}

/// The mean over tokens, classified.
fn finish(it: &mut Writer, from: &str) {
    it.node(NodeProto::new("ReduceMean", &[from], &["mean"]).with_ints("axes", &[0]).with_int("keepdims", 1));
    it.linear("mean", "classes.weight", [WIDE, CLASSES], "logits");
}

fn setup<'a>(method: &'a dyn Method, sites: &'a [u32]) -> Setup<'a> {
    let rate = LearningRate { rate: 1e-2, weight_decay: 0.0 };
    Setup { adapter: rate, head: rate, clip_norm: None, ..methods::setup(method, sites) }
}

/// Clips of one class each: what the tokens are like depends on it.
fn clips(typed: bool) -> Vec<(Vec<f32>, usize)> {
    let mut random = Lcg::new(6);
    let mut clip = |class: usize| {
        let mut values: Vec<f32> = (0..TOKENS * WIDE)
            .map(|i| 2.0 * random.real() - 1.0 + if i % CLASSES == class { 1.0 } else { 0.0 })
            .collect();
        if typed {
            values.extend((0..TOKENS * 3).map(|i| f32::from(u8::from(i % 3 == i / 3 % 3))));
        }
        (values, class)
    };
    (0..12).map(|i| clip(i % CLASSES)).collect()
}

/// Trains `method`, and gives the adapter and the names of the sites it has terms at.
fn trained(
    file: &AlignedBytes,
    method: &dyn Method,
    clips: &[(Vec<f32>, usize)],
) -> (AlignedBytes, Vec<String>) {
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let adapts = |site: &u32| {
        let desc = plan.site(*site as usize).expect("index is below the count");
        method.layout(&desc).expect("it was measured") != TermLayout::NONE
    };
    let sites: Vec<u32> = (0..plan.site_count() as u32).filter(adapts).collect();
    let setup = setup(method, &sites);
    let memory = Trainer::memory(&plan, &Host::SCALAR, &setup).expect("every site can be trained");
    let mut arena = AlignedBytes::zeroed(memory.total());
    let mut trainer = Trainer::bind(plan, &Host::SCALAR, setup, arena.as_mut()).expect("memory suffices");
    let mut losses = Vec::new();
    for _ in 0..30 {
        let mut sum = 0.0;
        for (clip, class) in clips {
            sum += trainer.accumulate(Clip::Inputs(as_bytes(clip)), Truth::Class(*class)).expect("one clip");
        }
        trainer.step().expect("gradients are finite");
        losses.push(sum);
    }
    assert!(losses[29] < 0.9 * losses[0], "{}: {losses:?}", method.name());
    let options = ExportOptions { factors: FactorFormat::F32, parameters: true, ..ExportOptions::default() };
    let written = export(&mut trainer, &options).expect("finite");
    // What was trained is what runs.
    let bytes = AlignedBytes::copy_of(&written.bytes);
    let adapter = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
    for (clip, _) in clips {
        let wanted = trainer.logits(Clip::Inputs(as_bytes(clip))).expect("one clip").to_vec();
        let found = floats(&run(&plan, clip, &adapter));
        let near = found.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-4);
        assert!(near, "{}: {found:?} {wanted:?}", method.name());
    }
    let name = |site: &u32| plan.site(*site as usize).expect("it is there").name.to_owned();
    (bytes, sites.iter().map(name).collect())
}

/// The logits of a clip, whose inputs stand one behind the other.
fn run<S: TermSource>(plan: &PlanView<'_>, clip: &[f32], source: &S) -> Vec<u8> {
    let (x, types) = clip.split_at(TOKENS * WIDE);
    let inputs = [as_bytes(x), as_bytes(types)];
    let count = plan.inputs().count();
    infer(*plan, &Host::SCALAR, &inputs[..count], source).remove(0)
}

#[test]
fn experts_that_a_task_uses_are_trained_and_no_others() {
    let (file, clips) = (mixture(), clips(false));
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let logits = |layer: usize| -> Vec<Vec<f64>> {
        // Of the first layer, whose router sees the clips themselves.
        let site = (0..plan.site_count())
            .find(|site| plan.site(*site).is_some_and(|s| s.name == format!("layers.{layer}.gate.weight")))
            .expect("a router");
        let frozen = ingraft::train::FrozenSite::new(&plan, site).expect("it has a weight");
        let tokens = clips.iter().flat_map(|(clip, _)| clip.chunks(WIDE));
        let gate = |token: &[f32], e: usize| {
            token.iter().enumerate().map(|(i, x)| f64::from(*x) * f64::from(frozen.weight(e, i))).sum::<f64>()
        };
        tokens.map(|token| (0..EXPERTS).map(|e| gate(token, e)).collect()).collect()
    };
    for (score, p) in [("gate", "0.2"), ("gate", "0.6"), ("token", "0.5")] {
        let settings = [("score", score), ("p", p), ("top_k", "2")];
        let unmeasured = build("esft", &settings).expect("a method of the list");
        let wanted = score_for("esft", &settings).expect("it has these").expect("it is measured");
        let sites: Vec<u32> = (0..plan.site_count() as u32).collect();
        let full = setup(&Full, &sites);
        let memory = Trainer::memory(&plan, &Host::SCALAR, &full).expect("every site can be trained");
        let mut arena = AlignedBytes::zeroed(memory.total());
        let mut trainer = Trainer::bind(plan, &Host::SCALAR, full, arena.as_mut()).expect("memory suffices");
        let mut saliency = Saliency::new(&plan, &sites, wanted);
        for (clip, class) in &clips {
            let clip = Clip::Inputs(as_bytes(clip));
            assert!(saliency.measure(&mut trainer, clip, Truth::Class(*class)).expect("one clip"));
        }
        let method = build_on("esft", &settings, &saliency).expect("what it chooses by was measured");
        let (bytes, sites) = trained(&file, &*method, &clips);
        // By hand, the first layer: relevance, then the shortest prefix.
        let mut relevance = [0.0f64; EXPERTS];
        for token in logits(0) {
            let sum: f64 = token.iter().map(|v| v.exp()).sum();
            let mut order: Vec<usize> = (0..EXPERTS).collect();
            order.sort_by(|a, b| token[*b].total_cmp(&token[*a]));
            for expert in &order[..2] {
                relevance[*expert] += if score == "gate" { token[*expert].exp() / sum } else { 0.5 };
            }
        }
        let tokens = (clips.len() * TOKENS) as f64;
        let mut order: Vec<usize> = (0..EXPERTS).collect();
        order.sort_by(|a, b| relevance[*b].total_cmp(&relevance[*a]));
        let (mut sum, mut by_hand) = (0.0, Vec::new());
        for expert in order {
            by_hand.push(expert);
            sum += relevance[expert] / tokens;
            if sum >= p.parse::<f64>().expect("a number") {
                break;
            }
        }
        by_hand.sort_unstable();
        let first = sites.iter().filter_map(|name| name.strip_prefix("layers.0.experts."));
        let mut found: Vec<usize> =
            first.filter_map(|rest| rest.strip_suffix(".up.weight")?.parse().ok()).collect();
        found.sort_unstable();
        assert_eq!(found, by_hand, "{score} {p}");
        assert!(sites.iter().all(|name| name.contains("experts.")), "{sites:?}");
        assert!(
            sites.iter().any(|name| name.starts_with("layers.1.")),
            "every layer has a choice: {sites:?}"
        );
        // The file holds the chosen experts' terms and no others; without it the base is the base.
        let adapter = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
        assert!(adapter.sites().eq(sites.iter().map(String::as_str)));
        let before = run(&plan, &clips[0].0, &Base);
        assert_ne!(run(&plan, &clips[0].0, &adapter), before);
        assert_eq!(run(&plan, &clips[0].0, &Base), before);
        assert_eq!(unmeasured.name(), adapter.method());
    }
}

#[test]
fn token_types_are_trained_whole_beside_factors_elsewhere() {
    let (file, clips) = (typed_tokens(), clips(true));
    let plan = PlanView::new(file.as_slice()).expect("a plan we wrote is valid");
    let method = build("lorat", &[("rank", "2"), ("alpha", "2")]).expect("a method of the list");
    let (bytes, sites) = trained(&file, &*method, &clips);
    assert_eq!(sites.len(), 4, "{sites:?}");
    let adapter = Adapter::attach(bytes.as_slice(), &plan).expect("it was written for this base");
    let section = adapter.parameters().expect("a section we wrote is valid");
    for (index, name) in sites.iter().enumerate() {
        let tensors: Vec<(&str, Vec<u32>)> =
            section.site(index).map(|tensor| (tensor.name, tensor.dims.to_vec())).collect();
        let table = name == "token_types.weight";
        assert_eq!(tensors[0].0, if table { "token_types" } else { "lora_A" }, "{name}");
        assert_eq!(table, tensors == [("token_types", vec![3, WIDE as u32])], "{tensors:?}");
    }
}
