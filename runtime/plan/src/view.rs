//! Reading a checked plan.

use ingraft_kernel::{KernelError, OpCode, Operand, Place, SiteDesc, SiteKind, Sites, Span, Step};
use ingraft_tensor::{DType, QParams, Shape, bytes};

use crate::record::{Header, IoRecord, SiteRecord, StepRecord, TensorRecord, Text};
use crate::{ClipRule, Limits, NONE, Phase, PlanError, Role, check};

/// A plan whose every offset, count, type and hash has been checked.
///
/// Copying a view copies references only. No accessor panics; an index past the
/// end gives `None`.
#[derive(Clone, Copy, Debug)]
pub struct PlanView<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) header: &'a Header,
    pub(crate) tensors: &'a [TensorRecord],
    pub(crate) operands: &'a [u32],
    pub(crate) phases: [&'a [StepRecord]; 2],
    pub(crate) sites: &'a [SiteRecord],
    pub(crate) io: &'a [IoRecord],
    pub(crate) attrs: &'a [u8],
    pub(crate) strings: &'a str,
}

/// One tensor of a plan.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The ONNX name of the value, or of the weight.
    pub name: &'a str,
    /// Type, shape and location.
    pub operand: Operand<'a>,
    /// Quantization, where codes stand for reals.
    pub qparams: Option<QParams>,
    /// The tensor holding this one's gradient in the training schedule.
    pub grad: Option<u32>,
}

/// One step of a plan.
#[derive(Clone, Copy, Debug)]
pub struct StepView<'a> {
    /// The operator.
    pub op: OpCode,
    /// Its attribute record.
    pub attrs: &'a [u8],
    /// Tensor indices of the inputs.
    pub inputs: &'a [u32],
    /// Tensor indices of the outputs.
    pub outputs: &'a [u32],
    /// The site whose terms act here.
    pub site: Option<u32>,
    /// For a backward step, its forward step.
    pub forward: Option<u32>,
    /// The ONNX node it came from.
    pub name: &'a str,
}

/// Where a site sits in one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteTensors {
    /// The step that applies the site's weight.
    pub step: u32,
    /// The tensor it reads.
    pub input: u32,
    /// The tensor it writes.
    pub output: u32,
}

/// One input or output of a plan.
#[derive(Clone, Copy, Debug)]
pub struct IoView<'a> {
    /// The ONNX name.
    pub name: &'a str,
    /// Input or output.
    pub role: Role,
    /// The tensor.
    pub tensor: u32,
    /// Class names of an output, one per line; empty when unknown.
    pub labels: &'a str,
    /// How patch outputs become a clip's output.
    pub clip: ClipRule,
    /// Samples between the patches of a clip, or `None` for the recipe's own.
    pub hop: Option<u32>,
    /// Words of the front-end recipe of an input; empty for none.
    pub recipe: &'a [u32],
}

impl<'a> PlanView<'a> {
    /// Checks `bytes` and borrows them as a plan, in time linear in their number.
    ///
    /// # Errors
    /// The first [`PlanError`] found.
    pub fn new(bytes: &'a [u8]) -> Result<Self, PlanError> {
        Self::within(bytes, &Limits::NONE)
    }

    /// As [`Self::new`], of a plan that declares no more than `limits`: one that does is refused by its header.
    ///
    /// # Errors
    /// [`PlanError::Limit`], or another [`PlanError`].
    pub fn within(bytes: &'a [u8], limits: &Limits) -> Result<Self, PlanError> {
        check::plan(bytes, limits)
    }

    /// The file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Content hash: the name of this base.
    pub fn hash(&self) -> &'a [u8; 32] {
        &self.header.hash
    }

    /// The name given at compile time.
    pub fn model_name(&self) -> &'a str {
        self.text(self.header.model_name)
    }

    /// Lines of `node<TAB>op<TAB>reason` for what stayed float.
    pub fn float_nodes(&self) -> &'a str {
        self.text(self.header.float_nodes)
    }

    /// Bytes of activations `phase` needs.
    pub fn arena_bytes(&self, phase: Phase) -> usize {
        self.header.arena_bytes[phase.index()] as usize
    }

    /// Largest sum of simultaneously live tensors in `phase`: no plan needs less.
    pub fn lower_bound_bytes(&self, phase: Phase) -> usize {
        self.header.lower_bound_bytes[phase.index()] as usize
    }

    /// Number of steps in `phase`; 0 when the plan has none.
    pub fn step_count(&self, phase: Phase) -> usize {
        self.phases[phase.index()].len()
    }

    /// Whether the plan was compiled with a training schedule.
    pub fn can_train(&self) -> bool {
        !self.phases[1].is_empty()
    }

    /// First step of the training schedule that depends on a trained site.
    pub fn train_cut(&self) -> usize {
        self.header.train_cut as usize
    }

    /// First backward step of the training schedule.
    pub fn train_backward(&self) -> usize {
        self.header.train_backward as usize
    }

    /// The tensor a default head reads in `phase`, and the step producing it.
    pub fn features(&self, phase: Phase) -> Option<(u32, u32)> {
        let (tensor, step) = (self.header.features[phase.index()], self.header.features_step[phase.index()]);
        (tensor != NONE).then_some((tensor, step))
    }

    /// The tensor holding the logits in `phase`, and the step producing it.
    pub fn logits(&self, phase: Phase) -> Option<(u32, u32)> {
        let (tensor, step) = (self.header.logits[phase.index()], self.header.logits_step[phase.index()]);
        (tensor != NONE).then_some((tensor, step))
    }

    /// Step `index` of `phase`.
    pub fn step(&self, phase: Phase, index: usize) -> Option<StepView<'a>> {
        let record = self.phases[phase.index()].get(index)?;
        let operands = self.operands.get(record.operands as usize..)?;
        let (inputs, rest) = operands.split_at_checked(record.inputs as usize)?;
        let start = record.attrs as usize;
        Some(StepView {
            op: OpCode::from_code(record.op)?,
            attrs: self.attrs.get(start..start.checked_add(record.attrs_bytes as usize)?)?,
            inputs,
            outputs: rest.get(..record.outputs as usize)?,
            site: (record.site != NONE).then_some(record.site),
            forward: (record.forward != NONE).then_some(record.forward),
            name: self.text(record.name),
        })
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// Tensor `index`.
    pub fn tensor(&self, index: u32) -> Option<TensorView<'a>> {
        let record = self.tensors.get(index as usize)?;
        let qparams = QParams { scale: record.scale, zero_point: record.zero_point };
        Some(TensorView {
            name: self.text(record.name),
            operand: self.operand(record)?,
            qparams: (record.quantized == 1).then_some(qparams),
            grad: (record.grad != NONE).then_some(record.grad),
        })
    }

    /// Step `index` of `phase` with its operands, ready for a target; workspace
    /// and packed weights are left empty.
    ///
    /// # Errors
    /// [`KernelError::Operands`] when the step does not exist or has too many operands.
    pub fn resolve(&self, phase: Phase, index: usize) -> Result<Step<'a>, KernelError> {
        let mut step = Step::new(OpCode::Copy, &[]);
        self.resolve_into(phase, index, &mut step)?;
        Ok(step)
    }

    /// As [`Self::resolve`], into a step that is used again: a step is too large to be moved in every run.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_into(&self, phase: Phase, index: usize, step: &mut Step<'a>) -> Result<(), KernelError> {
        let view = self.step(phase, index).ok_or(KernelError::Operands(OpCode::Copy))?;
        let error = KernelError::Operands(view.op);
        let operand = |i: &u32| self.tensors.get(*i as usize).and_then(|t| self.operand(t)).ok_or(error);
        step.begin(view.op, view.attrs);
        for input in view.inputs {
            step.push_input(operand(input)?)?;
        }
        for output in view.outputs {
            step.push_output(operand(output)?)?;
        }
        Ok(())
    }

    /// Where site `index` sits in `phase`.
    pub fn site_tensors(&self, phase: Phase, index: usize) -> Option<SiteTensors> {
        let (record, p) = (self.sites.get(index)?, phase.index());
        let tensors = SiteTensors { step: record.step[p], input: record.input[p], output: record.output[p] };
        (tensors.step != NONE).then_some(tensors)
    }

    /// Whether site `index` lies after the last but one stride-2 stage and is pointwise.
    pub fn site_is_late(&self, index: usize) -> bool {
        self.sites.get(index).is_some_and(|site| site.late == 1)
    }

    /// The diagonals compilation applied to a site: `W_plan = diag(o)·W·diag(i)`.
    pub fn site_diagonals(&self, index: usize) -> (Option<&'a [f32]>, Option<&'a [f32]>) {
        let Some(site) = self.sites.get(index) else { return (None, None) };
        let read = |offset: u32, count: u32| {
            let start = (offset != NONE).then_some(offset as usize)?;
            let end = start.checked_add((count as usize).checked_mul(4)?)?;
            bytes::cast(self.bytes.get(start..end)?)
        };
        (read(site.out_diagonal, site.out), read(site.in_diagonal, site.inputs))
    }

    /// The inputs and outputs.
    pub fn io(&self) -> impl Iterator<Item = IoView<'a>> + '_ {
        self.io.iter().map(|record| IoView {
            name: self.text(record.name),
            role: if record.role == 0 { Role::Input } else { Role::Output },
            tensor: record.tensor,
            labels: self.text(record.labels),
            clip: ClipRule::from_code(record.clip).unwrap_or(ClipRule::Mean),
            hop: (record.hop != 0).then_some(record.hop),
            recipe: record.recipe.get(..record.recipe_len as usize).unwrap_or(&[]),
        })
    }

    /// The inputs.
    pub fn inputs(&self) -> impl Iterator<Item = IoView<'a>> + '_ {
        self.io().filter(|io| io.role == Role::Input)
    }

    /// The outputs.
    pub fn outputs(&self) -> impl Iterator<Item = IoView<'a>> + '_ {
        self.io().filter(|io| io.role == Role::Output)
    }

    /// The tensor and producing step a head reads at `site` ([`ingraft_kernel::NO_SITE`]: the default features).
    pub fn head_source(&self, phase: Phase, site: u32) -> Option<(u32, u32)> {
        if site == ingraft_kernel::NO_SITE {
            return self.features(phase);
        }
        self.site_tensors(phase, site as usize).map(|t| (t.output, t.step))
    }

    pub(crate) fn text(&self, text: Text) -> &'a str {
        let start = text.offset as usize;
        self.strings.get(start..start.saturating_add(text.len as usize)).unwrap_or("")
    }

    pub(crate) fn operand(&self, record: &TensorRecord) -> Option<Operand<'a>> {
        let dtype = DType::from_code(record.dtype)?;
        let shape = Shape::new(record.dims.get(..record.rank as usize)?).ok()?;
        let len = shape.elements().checked_mul(dtype.size())?;
        let offset = record.offset as usize;
        let place = match record.storage {
            0 => Place::Memory(Span { offset, len }),
            _ => Place::Plan(self.bytes.get(offset..offset.checked_add(len)?)?),
        };
        Some(Operand { dtype, shape, place })
    }
}

impl Sites for PlanView<'_> {
    fn base_hash(&self) -> [u8; 32] {
        self.header.hash
    }

    fn site_count(&self) -> usize {
        self.sites.len()
    }

    fn site(&self, index: usize) -> Option<SiteDesc<'_>> {
        let record = self.sites.get(index)?;
        Some(SiteDesc {
            name: self.text(record.name),
            kind: SiteKind::from_code(record.kind)?,
            dtype: DType::from_code(record.dtype)?,
            out: record.out as usize,
            inputs: record.inputs as usize,
            kernel: record.kernel.map(|k| k as usize),
            groups: record.groups as usize,
            transposed: record.transposed == 1,
        })
    }

    fn head_features(&self, site: u32, pool: u32) -> Option<usize> {
        let (tensor, _) = self.head_source(Phase::Infer, site)?;
        let dims = ingraft_kernel::head::sample_dims(self.tensor(tensor)?.operand.shape)?;
        Some(ingraft_kernel::head::feature_count(dims, pool))
    }

    fn head_classes(&self) -> usize {
        self.header.head_classes as usize
    }
}
