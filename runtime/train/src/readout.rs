//! The tensor a loss looks at, and the way into and out of it.

use ingraft_kernel::attrs::HeadAttrs;
use ingraft_kernel::head::{Features, POOL_HEIGHT, POOL_WIDTH, feature_count};
use ingraft_kernel::{Place, SiteKind, Sites};
use ingraft_plan::{Phase, PlanView};
use ingraft_tensor::{DType, View};

use crate::{Method, TermLayout, TrainError};

/// What turns a clip into logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readout {
    /// A linear head, trained along, on the pooled features of a tensor.
    Head {
        /// Site whose output it reads; [`ingraft_kernel::NO_SITE`] for the input of the last linear layer.
        site: u32,
        /// Axes averaged ([`ingraft_kernel::head`]).
        pool: u32,
        /// Number of classes or outputs.
        classes: u32,
    },
    /// The model's own logits.
    Logits,
}

impl Readout {
    /// The sites that training for it reaches: from the cut of the training schedule of `plan` to what it reads, ascending.
    /// Tables that rows are looked up in are not trained.
    pub fn sites<'p>(&self, plan: &'p PlanView<'_>) -> impl Iterator<Item = u32> + 'p {
        let source = match *self {
            Self::Head { site, .. } => plan.head_source(Phase::Train, site),
            Self::Logits => plan.logits(Phase::Train),
        };
        let (cut, end) = (plan.train_cut(), source.map_or(u32::MAX, |(_, step)| step));
        (0..plan.site_count() as u32).filter(move |site| {
            let table = plan.site(*site as usize).is_some_and(|site| site.kind == SiteKind::Embedding);
            let place = plan.site_tensors(Phase::Train, *site as usize);
            !table && place.is_some_and(|place| place.step as usize >= cut && place.step <= end)
        })
    }

    /// Those of [`Self::sites`] that `method` adapts, or says why not.
    pub fn adapted<'p>(
        &self,
        plan: &'p PlanView<'_>,
        method: &'p dyn Method,
    ) -> impl Iterator<Item = u32> + 'p {
        self.sites(plan).filter(move |site| adapts(plan, method, *site))
    }
}

/// Whether `method` has terms at site `index` of `plan`, or says why it cannot: what is left out without a word is not adapted.
pub fn adapts(plan: &PlanView<'_>, method: &dyn Method, index: u32) -> bool {
    plan.site(index as usize).is_some_and(|site| method.layout(&site) != Ok(TermLayout::NONE))
}

/// A readout found in a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tap {
    /// The tensor read.
    pub(crate) tensor: u32,
    /// The forward step that completes it.
    pub(crate) step: usize,
    /// The tensor holding its gradient.
    pub(crate) grad: Option<u32>,
    /// Extents `[N, H, W, C]`.
    dims: [usize; 4],
    attrs: HeadAttrs,
}

impl Tap {
    /// Finds `readout` in schedule `phase` of `plan`.
    pub(crate) fn new(plan: &PlanView<'_>, phase: Phase, readout: Readout) -> Result<Self, TrainError> {
        let (source, pool) = match readout {
            Readout::Head { site, pool, .. } => (plan.head_source(phase, site), pool),
            Readout::Logits => (plan.logits(phase), 0),
        };
        let (tensor, step) = source.ok_or(TrainError::NoReadout)?;
        let view = plan.tensor(tensor).ok_or(TrainError::NoReadout)?;
        let operand = view.operand;
        let dims = ingraft_kernel::head::sample_dims(operand.shape).ok_or(TrainError::NoReadout)?;
        let known =
            matches!(operand.dtype, DType::I8 | DType::F32) && matches!(operand.place, Place::Memory(_));
        let end = match phase {
            Phase::Infer => plan.step_count(phase),
            Phase::Train => plan.train_backward(),
        };
        if !known || step as usize >= end {
            return Err(TrainError::NoReadout);
        }
        if dims[0] != 1 {
            return Err(TrainError::Batch(dims[0]));
        }
        let attrs = HeadAttrs {
            pool,
            scale: view.qparams.map_or(1.0, |q| q.scale),
            zero_point: view.qparams.map_or(0, |q| q.zero_point),
        };
        Ok(Self { tensor, step: step as usize, grad: view.grad, dims, attrs })
    }

    /// Elements of the tensor.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().fold(1, |product, extent| product.saturating_mul(*extent))
    }

    /// Number of features.
    pub(crate) fn features(&self) -> usize {
        feature_count(self.dims, self.attrs.pool)
    }

    /// Adds the features of `tensor`, times `share`, to `sum`; `None` when they do not fit.
    pub(crate) fn pool(&self, tensor: View<'_>, share: f32, sum: &mut [f32]) -> Option<()> {
        Features::new(&self.attrs, tensor)?.for_each(0, |feature, value| {
            if let Some(sum) = sum.get_mut(feature) {
                *sum += value * share;
            }
        })
    }

    /// Writes the gradient of the tensor, `[H, W, C]`, from the gradient of its
    /// features times `share`: each feature is the mean of the elements pooled into it.
    pub(crate) fn spread(&self, features: &[f32], share: f32, grad: &mut [f32]) {
        let [_, h, w, c] = self.dims;
        let pooled = |axis: u32| self.attrs.pool & axis != 0;
        let (pool_h, pool_w) = (pooled(POOL_HEIGHT), pooled(POOL_WIDTH));
        let count = if pool_h { h } else { 1 }.wrapping_mul(if pool_w { w } else { 1 });
        let share = share / count as f32;
        let columns = if pool_w { 1 } else { w };
        let mut pixels = grad.chunks_exact_mut(c.max(1));
        for y in 0..h {
            for x in 0..w {
                let row = if pool_h { 0 } else { y };
                let pixel = row.wrapping_mul(columns).wrapping_add(if pool_w { 0 } else { x });
                let values = features.get(pixel.wrapping_mul(c)..).unwrap_or(&[]);
                let Some(pixel) = pixels.next() else { return };
                pixel.iter_mut().zip(values).for_each(|(g, v)| *g = v * share);
            }
        }
    }
}

/// The number of logits of `readout` and of head parameters, on `features` features.
pub(crate) fn head_sizes(
    plan: &PlanView<'_>,
    readout: Readout,
    features: usize,
) -> Result<(usize, usize), TrainError> {
    let Readout::Head { classes, .. } = readout else { return Ok((features, 0)) };
    let reserved = plan.head_classes() as u32;
    if classes == 0 || classes > reserved {
        return Err(TrainError::HeadClasses { wanted: classes, reserved });
    }
    let row = features.checked_add(1).ok_or(TrainError::TooLarge)?;
    Ok((classes as usize, row.checked_mul(classes as usize).ok_or(TrainError::TooLarge)?))
}
