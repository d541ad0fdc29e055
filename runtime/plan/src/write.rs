//! Writing a plan.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use ingraft_kernel::attrs::Attrs;
use ingraft_kernel::{OpCode, SiteDesc};
use ingraft_tensor::{DType, MAX_RANK, QParams, Shape, bytes, hash};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::record::{
    FORMAT_VERSION, HASH_END, Header, IoRecord, MAGIC, SiteRecord, StepRecord, Table, TensorRecord, Text,
};
use crate::{ClipRule, NONE, Phase, RECIPE_WORDS, Role, SiteTensors};

/// Index of a tensor in the plan being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub u32);

/// Where a tensor being written lives.
#[derive(Clone, Debug)]
pub enum TensorStorage {
    /// At this offset of the arena.
    Arena(u32),
    /// In the file.
    Blob(Vec<u8>),
}

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// ONNX name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
    /// Quantization, where codes stand for reals.
    pub qparams: Option<QParams>,
    /// Location.
    pub storage: TensorStorage,
}

/// A step to write.
#[derive(Clone, Debug)]
pub struct StepSpec {
    /// Operator.
    pub op: OpCode,
    /// Attribute record as bytes ([`StepSpec::new`] converts).
    pub attrs: Vec<u8>,
    /// Inputs.
    pub inputs: Vec<TensorId>,
    /// Outputs.
    pub outputs: Vec<TensorId>,
    /// Site index.
    pub site: Option<u32>,
    /// Forward step of a backward step.
    pub forward: Option<u32>,
    /// ONNX node name.
    pub name: String,
}

impl StepSpec {
    /// A step without a site.
    pub fn new<A: Attrs>(
        op: OpCode,
        attrs: &A,
        inputs: Vec<TensorId>,
        outputs: Vec<TensorId>,
        name: &str,
    ) -> Self {
        let attrs = attrs.as_bytes().to_vec();
        Self { op, attrs, inputs, outputs, site: None, forward: None, name: name.to_string() }
    }
}

/// A site to write.
#[derive(Clone, Debug)]
pub struct SiteSpec<'a> {
    /// What an adapter needs to know.
    pub desc: SiteDesc<'a>,
    /// Whether the site lies in the `late` part.
    pub late: bool,
    /// Position in the inference schedule.
    pub infer: Option<SiteTensors>,
    /// Position in the training schedule.
    pub train: Option<SiteTensors>,
    /// diag(o) with W_plan = diag(o)·W·diag(i).
    pub out_diagonal: Option<Vec<f32>>,
    /// diag(i).
    pub in_diagonal: Option<Vec<f32>>,
}

/// An input or output to write.
#[derive(Clone, Debug)]
pub struct IoSpec {
    /// ONNX name.
    pub name: String,
    /// Input or output.
    pub role: Role,
    /// The tensor.
    pub tensor: TensorId,
    /// Class names.
    pub labels: Vec<String>,
    /// Clip rule.
    pub clip: ClipRule,
    /// Samples between patches; 0 for the recipe's own.
    pub hop: u32,
    /// Recipe words, at most [`RECIPE_WORDS`].
    pub recipe: Vec<u32>,
}

/// Facts of the header.
#[derive(Clone, Debug, Default)]
pub struct PlanFacts {
    /// Model name.
    pub model_name: String,
    /// Node, operator and reason of what stayed float.
    pub float_nodes: Vec<[String; 3]>,
    /// Arena bytes per phase.
    pub arena_bytes: [u32; 2],
    /// Lower bounds per phase.
    pub lower_bound_bytes: [u32; 2],
    /// Default head tensor and its step, per phase.
    pub features: [Option<(TensorId, u32)>; 2],
    /// Logits tensor and its step, per phase.
    pub logits: [Option<(TensorId, u32)>; 2],
    /// First training step that depends on a trained site.
    pub train_cut: u32,
    /// First backward step.
    pub train_backward: u32,
    /// Room for a head.
    pub head_classes: u32,
}

/// Collects the parts of a plan and lays them out.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    tensors: Vec<TensorRecord>,
    operands: Vec<u32>,
    phases: [Vec<StepRecord>; 2],
    sites: Vec<SiteRecord>,
    io: Vec<IoRecord>,
    attrs: Vec<u8>,
    strings: String,
    interned: BTreeMap<String, Text>,
    blobs: Vec<u8>,
}

impl PlanBuilder {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor. Blob offsets are relative until [`Self::finish`].
    pub fn tensor(&mut self, spec: &TensorSpec) -> TensorId {
        let mut dims = [0u32; MAX_RANK];
        dims.iter_mut().zip(spec.shape.dims()).for_each(|(d, s)| *d = *s);
        let (storage, offset) = match &spec.storage {
            TensorStorage::Arena(offset) => (0, *offset),
            TensorStorage::Blob(data) => (1, self.blob(data)),
        };
        let name = self.text(&spec.name);
        self.tensors.push(TensorRecord {
            dtype: spec.dtype as u8,
            rank: spec.shape.rank() as u8,
            storage,
            quantized: spec.qparams.is_some().into(),
            dims,
            offset,
            scale: spec.qparams.map_or(0.0, |q| q.scale),
            zero_point: spec.qparams.map_or(0, |q| q.zero_point),
            grad: NONE,
            name,
        });
        TensorId(self.tensors.len() as u32 - 1)
    }

    /// Declares `grad` to hold the gradient of `tensor`.
    pub fn set_grad(&mut self, tensor: TensorId, grad: TensorId) {
        if let Some(record) = self.tensors.get_mut(tensor.0 as usize) {
            record.grad = grad.0;
        }
    }

    /// Adds a step to the end of `phase` and gives its index.
    pub fn step(&mut self, phase: Phase, spec: &StepSpec) -> u32 {
        let operands = self.operands.len() as u32;
        self.operands.extend(spec.inputs.iter().chain(&spec.outputs).map(|t| t.0));
        let attrs = self.attrs.len() as u32;
        self.attrs.extend_from_slice(&spec.attrs);
        let name = self.text(&spec.name);
        let steps = &mut self.phases[phase.index()];
        steps.push(StepRecord {
            op: spec.op as u16,
            inputs: spec.inputs.len() as u8,
            outputs: spec.outputs.len() as u8,
            operands,
            attrs,
            attrs_bytes: spec.attrs.len() as u32,
            site: spec.site.unwrap_or(NONE),
            forward: spec.forward.unwrap_or(NONE),
            name,
        });
        steps.len() as u32 - 1
    }

    /// Adds a site and gives its index.
    pub fn site(&mut self, spec: &SiteSpec<'_>) -> u32 {
        let name = self.text(spec.desc.name);
        let place = [spec.infer, spec.train];
        let field = |f: fn(SiteTensors) -> u32| place.map(|p| p.map_or(NONE, f));
        let mut diagonal = |d: &Option<Vec<f32>>| d.as_ref().map_or(NONE, |d| self.blob(bytes::of(d)));
        let (out_diagonal, in_diagonal) = (diagonal(&spec.out_diagonal), diagonal(&spec.in_diagonal));
        self.sites.push(SiteRecord {
            name,
            kind: spec.desc.kind as u8,
            dtype: spec.desc.dtype as u8,
            transposed: spec.desc.transposed.into(),
            late: spec.late.into(),
            out: spec.desc.out as u32,
            inputs: spec.desc.inputs as u32,
            kernel: spec.desc.kernel.map(|k| k as u32),
            groups: spec.desc.groups as u32,
            step: field(|p| p.step),
            input: field(|p| p.input),
            output: field(|p| p.output),
            out_diagonal,
            in_diagonal,
        });
        self.sites.len() as u32 - 1
    }

    /// Adds an input or output.
    pub fn io(&mut self, spec: &IoSpec) {
        let (name, labels) = (self.text(&spec.name), self.text(&spec.labels.join("\n")));
        let mut recipe = [0u32; RECIPE_WORDS];
        recipe.iter_mut().zip(&spec.recipe).for_each(|(r, w)| *r = *w);
        self.io.push(IoRecord {
            name,
            tensor: spec.tensor.0,
            role: matches!(spec.role, Role::Output).into(),
            labels,
            clip: spec.clip as u32,
            hop: spec.hop,
            recipe_len: spec.recipe.len().min(RECIPE_WORDS) as u32,
            recipe,
            reserved: 0,
        });
    }

    /// Lays the parts out and hashes them.
    pub fn finish(mut self, facts: &PlanFacts) -> Vec<u8> {
        let mut header = Header::new_zeroed();
        let lines: Vec<String> = facts.float_nodes.iter().map(|line| line.join("\t")).collect();
        header.model_name = self.text(&facts.model_name);
        header.float_nodes = self.text(&lines.join("\n"));
        header.magic = MAGIC;
        header.version = FORMAT_VERSION;
        header.arena_bytes = facts.arena_bytes;
        header.lower_bound_bytes = facts.lower_bound_bytes;
        header.features = facts.features.map(|f| f.map_or(NONE, |(t, _)| t.0));
        header.features_step = facts.features.map(|f| f.map_or(NONE, |(_, s)| s));
        header.logits = facts.logits.map(|f| f.map_or(NONE, |(t, _)| t.0));
        header.logits_step = facts.logits.map(|f| f.map_or(NONE, |(_, s)| s));
        header.train_cut = facts.train_cut;
        header.train_backward = facts.train_backward;
        header.head_classes = facts.head_classes;
        let tables_bytes = size_of_val(&*self.tensors)
            + size_of_val(&*self.operands)
            + self.phases.iter().map(|p| size_of_val(&**p)).sum::<usize>()
            + size_of_val(&*self.sites)
            + size_of_val(&*self.io)
            + self.attrs.len()
            + self.strings.len();
        // Each table is padded to the alignment at most once.
        let blob_base = bytes::align_up(size_of::<Header>() + tables_bytes + 9 * bytes::ALIGN) as u32;
        self.rebase(blob_base);
        let mut out = vec![0u8; bytes::align_up(size_of::<Header>())];
        header.tensors = append(&mut out, &self.tensors);
        header.operands = append(&mut out, &self.operands);
        header.infer = append(&mut out, &self.phases[0]);
        header.train = append(&mut out, &self.phases[1]);
        header.sites = append(&mut out, &self.sites);
        header.io = append(&mut out, &self.io);
        header.attrs = append(&mut out, &self.attrs);
        header.strings = append(&mut out, self.strings.as_bytes());
        out.resize(blob_base as usize, 0);
        out.extend_from_slice(&self.blobs);
        header.file_bytes = out.len() as u32;
        out[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        header.hash = hash::blake3(&out[HASH_END..]);
        out[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        out
    }

    fn rebase(&mut self, base: u32) {
        for tensor in self.tensors.iter_mut().filter(|t| t.storage == 1) {
            tensor.offset += base;
        }
        for site in &mut self.sites {
            for offset in [&mut site.out_diagonal, &mut site.in_diagonal] {
                if *offset != NONE {
                    *offset += base;
                }
            }
        }
    }

    fn blob(&mut self, data: &[u8]) -> u32 {
        let offset = self.blobs.len() as u32;
        self.blobs.extend_from_slice(data);
        self.blobs.resize(bytes::align_up(self.blobs.len()), 0);
        offset
    }

    fn text(&mut self, text: &str) -> Text {
        if let Some(found) = self.interned.get(text) {
            return *found;
        }
        let entry = Text { offset: self.strings.len() as u32, len: text.len() as u32 };
        self.strings.push_str(text);
        self.interned.insert(text.to_string(), entry);
        entry
    }
}

fn append<T: IntoBytes + Immutable>(out: &mut Vec<u8>, records: &[T]) -> Table {
    let table = Table { offset: out.len() as u32, count: records.len() as u32 };
    out.extend_from_slice(records.as_bytes());
    out.resize(bytes::align_up(out.len()), 0);
    table
}
