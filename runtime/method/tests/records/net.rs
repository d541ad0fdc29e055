//! The two-layer net of a case whose score is of a whole net: `logits = W2·tanh(W1·x)`, in f32, with its training schedule.

use ingraft_kernel::attrs::{ConvAttrs, UnaryAttrs, Window};
use ingraft_kernel::elementwise::UnaryFn;
use ingraft_kernel::{Host, OpCode, SiteDesc, SiteKind};
use ingraft_method::{Full, MeasureError, Saliency, Score};
use ingraft_plan::{
    ClipRule, IoSpec, Phase, PlanBuilder, PlanFacts, PlanView, Role, SiteSpec, SiteTensors, StepSpec,
    TensorId, TensorSpec, TensorStorage,
};
use ingraft_tensor::{DType, Shape, bytes};
use ingraft_train::{Clip, LearningRate, Loss, Moves, Readout, Schedule, Setup, Trainer, Truth, optimizer};

use crate::case::{Array, Case};

/// What the case's examples say of both layers, the first of them the case's site, as the command measures it; `bends` stands in
/// the place of tanh.
pub(crate) fn measured(
    case: &Case,
    site: SiteDesc<'static>,
    score: Score,
    bends: UnaryFn,
) -> Result<Saliency, MeasureError> {
    let (plan, len) = plan(case, site, bends);
    let plan = PlanView::new(&bytes::of(&plan)[..len]).expect("the plan is whole");
    let still = LearningRate { rate: 0.0, weight_decay: 0.0 };
    let setup = Setup {
        method: &Full,
        sites: &[0, 1],
        readout: Readout::Logits,
        loss: Loss::CrossEntropy { smoothing: 0.0 },
        optimizer: optimizer("sgd").expect("in the list"),
        moves: Moves::PLAIN,
        adapter: still,
        head: still,
        schedule: Schedule::CONSTANT,
        clip_norm: None,
        seed: 1,
    };
    let needed = Trainer::memory(&plan, &Host::SCALAR, &setup).expect("the plan trains").total();
    let mut memory = vec![0u128; needed.div_ceil(16)];
    let mut trainer =
        Trainer::bind(plan, &Host::SCALAR, setup, bytes::of_mut(&mut memory)).expect("enough memory");
    let mut saliency = Saliency::new(&plan, &[0, 1], score);
    let inputs = reals(&case.constants["inputs"]);
    for pass in 0..score.passes() {
        if pass > 0 {
            saliency.again();
        }
        for (x, label) in inputs.chunks(site.inputs).zip(&case.constants["labels"].data) {
            let (clip, truth) = (Clip::Inputs(bytes::of(x)), Truth::Class(*label as usize));
            assert!(saliency.measure(&mut trainer, clip, truth)?, "the trainer's sites are those measured");
        }
    }
    Ok(saliency)
}

fn reals(array: &Array) -> Vec<f32> {
    array.data.iter().map(|v| *v as f32).collect()
}

struct Draft {
    builder: PlanBuilder,
    arena: usize,
}

impl Draft {
    fn tensor(&mut self, name: &str, width: usize) -> TensorId {
        let storage = TensorStorage::Arena(self.arena as u32);
        self.arena += bytes::align_up(4 * width);
        self.add(name, width, storage)
    }

    fn constant(&mut self, values: &[f32]) -> TensorId {
        self.add("", values.len(), TensorStorage::Blob(bytes::of(values).to_vec()))
    }

    fn add(&mut self, name: &str, width: usize, storage: TensorStorage) -> TensorId {
        let dims: &[u32] = if name.is_empty() { &[width as u32] } else { &[1, width as u32] };
        let shape = Shape::new(dims).expect("a small shape");
        let (name, dtype) = (name.to_string(), DType::F32);
        self.builder.tensor(&TensorSpec { name, dtype, shape, qparams: None, storage })
    }
}

/// The plan, at a boundary of 16 bytes, and how long it is.
fn plan(case: &Case, site: SiteDesc<'static>, bends: UnaryFn) -> (Vec<u128>, usize) {
    let (inner, next) = (site.out, &case.constants["next_weight"]);
    let classes = next.shape[0];
    let sites =
        [site, SiteDesc { name: "next", kind: SiteKind::Linear, out: classes, inputs: inner, ..site }];
    let mut draft = Draft { builder: PlanBuilder::new(), arena: 0 };
    let input = draft.tensor("input", site.inputs);
    let forward = ["hidden", "bent", "logits"]
        .map(|name| draft.tensor(name, if name == "logits" { classes } else { inner }));
    let [hidden, bent, logits] = forward;
    let slopes = [hidden, bent, logits].map(|of| {
        let slope = draft.tensor("slope", if of == logits { classes } else { inner });
        draft.builder.set_grad(of, slope);
        slope
    });
    let layers = [(&case.weight, inner), (next, classes)];
    let constants =
        layers.map(|(weight, out)| [draft.constant(&reals(weight)), draft.constant(&vec![0.0; out])]);
    let linear = ConvAttrs { window: Window::UNIT, groups: 1, lo: f32::NEG_INFINITY, hi: f32::INFINITY };
    let bending = UnaryAttrs { function: bends as u32, alpha: 0.0, beta: 0.0 };
    let ends = [(input, hidden), (bent, logits)];
    let layer = |at: usize| {
        let inputs = vec![ends[at].0, constants[at][0], constants[at][1]];
        let spec = StepSpec::new(OpCode::Conv, &linear, inputs, vec![ends[at].1], "layer");
        StepSpec { site: Some(at as u32), ..spec }
    };
    let back = |at: usize, slope: TensorId, below: Vec<TensorId>| {
        let inputs = vec![slope, ends[at].0, constants[at][0], constants[at][1]];
        let spec = StepSpec::new(OpCode::ConvBackward, &linear, inputs, below, "layer");
        StepSpec { site: Some(at as u32), forward: Some(2 * at as u32), ..spec }
    };
    let bend = StepSpec::new(OpCode::Unary, &bending, vec![hidden], vec![bent], "bend");
    let unbend =
        StepSpec::new(OpCode::UnaryBackward, &bending, vec![slopes[1], hidden], vec![slopes[0]], "bend");
    let forward = || [layer(0), bend.clone(), layer(1)];
    let backward = [
        back(1, slopes[2], vec![slopes[1]]),
        StepSpec { forward: Some(1), ..unbend },
        back(0, slopes[0], Vec::new()),
    ];
    for step in &forward() {
        draft.builder.step(Phase::Infer, step);
    }
    for step in forward().iter().chain(&backward) {
        draft.builder.step(Phase::Train, step);
    }
    for (at, desc) in sites.into_iter().enumerate() {
        let tensors = SiteTensors { step: 2 * at as u32, input: ends[at].0.0, output: ends[at].1.0 };
        draft.builder.site(&SiteSpec {
            desc,
            late: true,
            infer: Some(tensors),
            train: Some(tensors),
            out_diagonal: None,
            in_diagonal: None,
        });
    }
    for (name, role, tensor) in [("input", Role::Input, input), ("logits", Role::Output, logits)] {
        let (name, labels, recipe) = (name.to_string(), Vec::new(), Vec::new());
        draft.builder.io(&IoSpec { name, role, tensor, labels, clip: ClipRule::Mean, hop: 0, recipe });
    }
    let arena = draft.arena as u32;
    let file = draft.builder.finish(&PlanFacts {
        model_name: "two layers".to_string(),
        arena_bytes: [arena; 2],
        lower_bound_bytes: [arena; 2],
        logits: [Some((logits, 2)); 2],
        train_backward: 3,
        ..PlanFacts::default()
    });
    let mut words = vec![0u128; file.len().div_ceil(16)];
    bytes::of_mut(&mut words)[..file.len()].copy_from_slice(&file);
    (words, file.len())
}
