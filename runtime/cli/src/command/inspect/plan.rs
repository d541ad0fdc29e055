//! The report on a plan.

use core::fmt;
use std::collections::BTreeMap;

use ingraft_exec::MemoryNeeds;
use ingraft_kernel::{Host, SiteDesc, SiteKind, Sites, Target};
use ingraft_method::build;
use ingraft_plan::{ClipRule, IoView, Phase, PlanView};
use ingraft_signal::Recipe;
use ingraft_train::Readout;
use serde::Serialize;

use crate::command::train::MemoryReport as TrainMemoryReport;
use crate::error::FloatNode;
use crate::report::{self, Table, hex};
use crate::training::{self, Course, HeadChoice};
use crate::{CliError, cost, target};

/// What `inspect BASE.plan --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct PlanReport {
    /// `plan`.
    kind: &'static str,
    /// The model's name.
    model: String,
    /// Content hash: the name of this base, which adapters refer to.
    base_hash: String,
    /// Bytes of the file.
    file_bytes: usize,
    /// Activation bytes by phase.
    arena_bytes: ArenaBytes,
    /// Largest sum of tensors alive at once in inference: no placement needs less.
    lower_bound_bytes: usize,
    /// The same for training; null without a training schedule.
    train_lower_bound_bytes: Option<usize>,
    /// Multiply-accumulates of one inference.
    macs: u64,
    /// Number of steps by phase.
    steps: Steps,
    /// Inference steps by operator.
    ops: BTreeMap<&'static str, usize>,
    /// The inputs.
    inputs: Vec<InputReport>,
    /// The outputs.
    outputs: Vec<OutputReport>,
    /// Classes there is room for in a head; 0 takes no head.
    head_classes: usize,
    /// Where adapters attach.
    sites: Vec<SiteReport>,
    /// What was left in float, and why.
    float_nodes: Vec<FloatNode>,
    /// What a session needs on each target, in all.
    memory: Vec<MemoryReport>,
    /// What a trainer needs on each target, with `--method`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    training: Vec<TrainingReport>,
}

/// Activation bytes by phase, the same on every target.
#[derive(Debug, Serialize)]
struct ArenaBytes {
    /// Inference.
    infer: usize,
    /// Switching adapters: always 0, since one index changes and terms are used in place.
    switch: usize,
    /// Training; null without a training schedule.
    train: Option<usize>,
}

/// Number of steps by phase.
#[derive(Debug, Serialize)]
struct Steps {
    /// Inference.
    infer: usize,
    /// Training, forward and backward; 0 without a training schedule.
    train: usize,
}

/// One site.
#[derive(Debug, Serialize)]
struct SiteReport {
    /// ONNX name of the weight.
    name: String,
    /// `linear`, `conv`, `depthwise`, `embedding` or `norm`.
    kind: &'static str,
    /// Shape of the weight as ONNX has it.
    shape: Vec<usize>,
    /// NumPy's name of the element type in the plan.
    dtype: &'static str,
    /// Number of groups.
    groups: usize,
    /// Whether it is pointwise and behind the last but one stage of stride 2.
    late: bool,
    /// Whether the training schedule reaches it.
    trainable: bool,
}

/// One input.
#[derive(Debug, Serialize)]
struct InputReport {
    /// Its ONNX name.
    name: String,
    /// NumPy's name of its element type.
    dtype: &'static str,
    /// Its extents.
    shape: Vec<usize>,
    /// What feeds it with recordings or pictures; null for arrays only.
    front_end: Option<FrontEndReport>,
}

/// The front end of an input.
#[derive(Debug, Serialize)]
struct FrontEndReport {
    /// `waveform`, `log-mel`, `mfcc` or `image`.
    kind: &'static str,
    /// Samples a second; null for pictures.
    sample_rate: Option<u32>,
    /// Samples in a patch, or bytes of a picture.
    patch: usize,
    /// Samples from one patch to the next; 0 for pictures.
    hop: usize,
}

/// One output.
#[derive(Debug, Serialize)]
struct OutputReport {
    /// Its ONNX name.
    name: String,
    /// NumPy's name of its element type.
    dtype: &'static str,
    /// Its extents.
    shape: Vec<usize>,
    /// How a clip's patches are joined: `mean` or `max`.
    clip: &'static str,
    /// Class names; empty where unknown.
    labels: Vec<String>,
}

/// The bytes of a session on one target.
#[derive(Debug, Serialize)]
struct MemoryReport {
    /// The target's name.
    target: &'static str,
    /// `infer` or `train`.
    phase: &'static str,
    /// Activations.
    arena: usize,
    /// Scratch of the hungriest step.
    workspace: usize,
    /// Logits of a head.
    head: usize,
    /// Weights as the target packs them; 0 where they are used in place.
    packed: usize,
    /// The sum.
    total: usize,
}

/// The bytes of a trainer on one target.
#[derive(Debug, Serialize)]
struct TrainingReport {
    /// The target's name.
    target: &'static str,
    /// The method's name.
    method: String,
    /// Sites it trains.
    sites: usize,
    /// The bytes.
    memory: TrainMemoryReport,
}

impl PlanReport {
    /// The report, with the memory of `target` or of every target of this machine, and that of training by `method`.
    pub(crate) fn new(
        plan: &PlanView<'_>,
        target: Option<&str>,
        method: Option<&str>,
    ) -> Result<Self, CliError> {
        let targets: Vec<Host> = match target {
            Some(name) => vec![target::find(name)?],
            None => target::available().collect(),
        };
        let trainable = plan.can_train();
        Ok(Self {
            kind: "plan",
            model: plan.model_name().to_owned(),
            base_hash: hex(plan.hash()),
            file_bytes: plan.bytes().len(),
            arena_bytes: ArenaBytes {
                infer: plan.arena_bytes(Phase::Infer),
                switch: 0,
                train: trainable.then(|| plan.arena_bytes(Phase::Train)),
            },
            lower_bound_bytes: plan.lower_bound_bytes(Phase::Infer),
            train_lower_bound_bytes: trainable.then(|| plan.lower_bound_bytes(Phase::Train)),
            macs: cost::plan_macs(plan),
            steps: Steps { infer: plan.step_count(Phase::Infer), train: plan.step_count(Phase::Train) },
            ops: ops(plan),
            inputs: plan.inputs().map(|io| InputReport::new(plan, &io)).collect(),
            outputs: plan.outputs().map(|io| OutputReport::new(plan, &io)).collect(),
            head_classes: plan.head_classes(),
            sites: (0..plan.site_count()).filter_map(|index| SiteReport::new(plan, index)).collect(),
            float_nodes: plan.float_nodes().lines().map(float_node).collect(),
            memory: memory(plan, &targets)?,
            training: match method {
                Some(method) => training(plan, &targets, method)?,
                None => Vec::new(),
            },
        })
    }

    /// A line for each fact, without the lists.
    pub(crate) fn summary(&self) -> String {
        let arena = &self.arena_bytes;
        let train = arena.train.map_or("no".to_owned(), report::bytes);
        let ops: Vec<String> = self.ops.iter().map(|(op, count)| format!("{op} {count}")).collect();
        let bound = report::bytes(self.lower_bound_bytes);
        [
            format!("model    {}", self.model),
            format!("base     {}", self.base_hash),
            format!("file     {}", report::bytes(self.file_bytes)),
            format!(
                "arena    infer {} (lower bound {bound}), switch 0 B, train {train}",
                report::bytes(arena.infer)
            ),
            format!("macs     {}", self.macs),
            format!("steps    {} ({})", self.steps.infer, ops.join(", ")),
            format!("sites    {}", self.sites.len()),
            format!("head     up to {} classes", self.head_classes),
            format!("float    {} nodes", self.float_nodes.len()),
        ]
        .join("\n")
    }

    /// The summary, then every list as a table.
    pub(crate) fn details(&self) -> impl fmt::Display {
        let mut parts = vec![self.summary(), self.io_table().to_string()];
        if !self.sites.is_empty() {
            parts.push(self.site_table().to_string());
        }
        if !self.float_nodes.is_empty() {
            let mut table = Table::new(["in float", "op", "reason"]);
            for FloatNode { name, op, reason } in &self.float_nodes {
                table.row([name.clone(), op.clone(), reason.clone()]);
            }
            parts.push(table.to_string());
        }
        parts.push(self.memory_table().to_string());
        if !self.training.is_empty() {
            parts.push(self.training_table().to_string());
        }
        parts.join("\n\n")
    }

    fn io_table(&self) -> Table {
        let mut table = Table::new(["input/output", "type", "shape", "front end, clip rule"]);
        for input in &self.inputs {
            let front_end = input.front_end.as_ref().map_or("arrays".to_owned(), |front_end| match front_end
                .sample_rate
            {
                Some(rate) => {
                    format!(
                        "{} at {rate} Hz, patches of {} every {}",
                        front_end.kind, front_end.patch, front_end.hop
                    )
                }
                None => front_end.kind.to_owned(),
            });
            table.row([input.name.clone(), input.dtype.to_owned(), report::shape(&input.shape), front_end]);
        }
        for output in &self.outputs {
            let labels = match output.labels.len() {
                0 => String::new(),
                count => format!(", {count} labels"),
            };
            let rule = format!("{}{labels}", output.clip);
            table.row([output.name.clone(), output.dtype.to_owned(), report::shape(&output.shape), rule]);
        }
        table
    }

    fn site_table(&self) -> Table {
        let mut table = Table::new(["index", "site", "kind", "shape", "type", "trainable"]);
        for (index, site) in self.sites.iter().enumerate() {
            let trainable = match (site.trainable, site.late) {
                (true, true) => "late",
                (true, false) => "yes",
                (false, _) => "no",
            };
            table.row([
                index.to_string(),
                site.name.clone(),
                site.kind.to_owned(),
                report::shape(&site.shape),
                site.dtype.to_owned(),
                trainable.to_owned(),
            ]);
        }
        table
    }

    fn memory_table(&self) -> Table {
        let mut table = Table::new(["target", "phase", "arena", "workspace", "head", "packed", "total"]);
        for memory in &self.memory {
            let [arena, workspace, head, packed, total] =
                [memory.arena, memory.workspace, memory.head, memory.packed, memory.total]
                    .map(|bytes| bytes.to_string());
            table.row([
                memory.target.to_owned(),
                memory.phase.to_owned(),
                arena,
                workspace,
                head,
                packed,
                total,
            ]);
        }
        table
    }

    fn training_table(&self) -> Table {
        let mut table = Table::new([
            "target",
            "training",
            "sites",
            "session",
            "packed",
            "parameters",
            "gradients",
            "optimizer",
            "total",
        ]);
        for TrainingReport { target, method, sites, memory } in &self.training {
            let [session, packed, parameters] =
                [memory.session, memory.packed, memory.parameters].map(|n| n.to_string());
            let [gradients, optimizer, total] =
                [memory.gradients, memory.optimizer, memory.total].map(|n| n.to_string());
            let sites = sites.to_string();
            table.row([
                (*target).to_owned(),
                method.clone(),
                sites,
                session,
                packed,
                parameters,
                gradients,
                optimizer,
                total,
            ]);
        }
        table
    }
}

impl SiteReport {
    fn new(plan: &PlanView<'_>, index: usize) -> Option<Self> {
        let site = plan.site(index)?;
        let cut = plan.train_cut();
        let place = plan.site_tensors(Phase::Train, index);
        Some(Self {
            name: site.name.to_owned(),
            kind: site.kind.name(),
            shape: onnx_shape(&site),
            dtype: site.dtype.name(),
            groups: site.groups,
            late: plan.site_is_late(index),
            trainable: place.is_some_and(|place| place.step as usize >= cut),
        })
    }
}

impl InputReport {
    fn new(plan: &PlanView<'_>, io: &IoView<'_>) -> Self {
        let (dtype, shape) = tensor(plan, io);
        let recipe = Recipe::from_words(io.recipe).filter(|recipe| *recipe != Recipe::None);
        let front_end = recipe.map(|recipe| FrontEndReport {
            kind: recipe.kind(),
            sample_rate: recipe.sample_rate(),
            patch: recipe.patch_len(),
            hop: io.hop.map_or(recipe.hop(), |hop| hop as usize),
        });
        Self { name: io.name.to_owned(), dtype, shape, front_end }
    }
}

impl OutputReport {
    fn new(plan: &PlanView<'_>, io: &IoView<'_>) -> Self {
        let (dtype, shape) = tensor(plan, io);
        let clip = match io.clip {
            ClipRule::Mean => "mean",
            ClipRule::Max => "max",
        };
        Self {
            name: io.name.to_owned(),
            dtype,
            shape,
            clip,
            labels: io.labels.lines().map(str::to_owned).collect(),
        }
    }
}

fn tensor(plan: &PlanView<'_>, io: &IoView<'_>) -> (&'static str, Vec<usize>) {
    let operand = plan.tensor(io.tensor).map(|tensor| tensor.operand);
    operand.map_or(("none", Vec::new()), |operand| {
        (operand.dtype.name(), operand.shape.dims().iter().map(|&extent| extent as usize).collect())
    })
}

fn onnx_shape(site: &SiteDesc<'_>) -> Vec<usize> {
    let [height, width] = site.kernel;
    match (site.kind, site.transposed) {
        (SiteKind::Conv | SiteKind::Depthwise, _) => vec![site.out, site.inputs, height, width],
        (kind, _) if kind.is_norm() => vec![site.out],
        (_, false) => vec![site.out, site.inputs],
        (_, true) => vec![site.inputs, site.out],
    }
}

fn float_node(line: &str) -> FloatNode {
    let mut parts = line.splitn(3, '\t').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    FloatNode { name: next(), op: next(), reason: next() }
}

/// Steps of inference by operator.
fn ops(plan: &PlanView<'_>) -> BTreeMap<&'static str, usize> {
    let mut ops = BTreeMap::new();
    for step in (0..plan.step_count(Phase::Infer)).filter_map(|index| plan.step(Phase::Infer, index)) {
        *ops.entry(step.op.name()).or_default() += 1;
    }
    ops
}

fn memory(plan: &PlanView<'_>, targets: &[Host]) -> Result<Vec<MemoryReport>, CliError> {
    let phases = [("infer", Phase::Infer), ("train", Phase::Train)];
    let mut reports = Vec::new();
    for target in targets {
        for (name, phase) in
            phases.into_iter().filter(|(_, phase)| *phase == Phase::Infer || plan.can_train())
        {
            let needs = MemoryNeeds::new(plan, phase, target)?;
            reports.push(MemoryReport {
                target: target.name(),
                phase: name,
                arena: needs.arena,
                workspace: needs.workspace,
                head: needs.head,
                packed: needs.packed,
                total: needs.total(),
            });
        }
    }
    Ok(reports)
}

fn training(plan: &PlanView<'_>, targets: &[Host], name: &str) -> Result<Vec<TrainingReport>, CliError> {
    let method = build(name, &[])?;
    let readout = match plan.head_classes() {
        0 => Readout::Logits,
        classes => HeadChoice::LAST.resolve(plan, classes)?,
    };
    let sites = training::sites(plan, readout, &*method, None)?;
    let course = Course::new(&*method, &sites, readout);
    let report = |target: &Host| {
        let memory = TrainMemoryReport::new(&course.memory(plan, target)?);
        Ok(TrainingReport { target: target.name(), method: name.to_owned(), sites: sites.len(), memory })
    };
    targets.iter().map(report).collect()
}
