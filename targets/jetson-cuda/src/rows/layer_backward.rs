//! Gradients of layers and of the terms at their sites.

use ingraft_kernel::attrs::{ConvAttrs, QConvAttrs};
use ingraft_kernel::window::ConvShape;
use ingraft_kernel::{Factors, KernelError, Place, SparseValues, Step};
use ingraft_tensor::DType;

use super::conv;
use crate::launch::{Launch, int};
use crate::params::{LayerBackward, QConv, SumParts, Window, is_linear};

/// Threads of a block whose warps share pixels out, and of one whose warps share a patch.
const SLICES: u32 = 256;
const SHARERS: u32 = 128;
/// Rank rows, or weight rows, of a thread.
const RANKS: usize = 8;
/// Columns of a block: a lane each.
const LANES: usize = 32;
/// Input pixels of a block, and elements of the sum that a warp takes at once.
const COVER: usize = 16;
const CHUNK: usize = 32;
/// Pixels of a part of a sum, and most parts.
const PART: usize = 512;
const MOST_PARTS: usize = 32;
/// Entries of a block of the sparse gradient.
const ENTRIES: usize = 4;

/// Launches the gradient of a dense int8 layer.
pub(crate) fn conv_quantized(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    Layer::quantized(launch, false)?.run(launch)
}

/// Launches the gradient of a dense f32 layer.
pub(crate) fn conv_real(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    Layer::real(launch, false)?.run(launch)
}

/// Launches the gradient of a dense layer on codes quantized at run time.
pub(crate) fn conv_dynamic(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    Layer::dynamic(launch)?.run(launch)
}

/// Launches the gradient of a depthwise int8 layer.
pub(crate) fn depthwise_quantized(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    Layer::quantized(launch, true)?.run(launch)
}

/// Launches the gradient of a depthwise f32 layer.
pub(crate) fn depthwise_real(launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
    Layer::real(launch, true)?.run(launch)
}

/// One layer: its extents, its record, and what of its terms decides what is launched.
struct Layer<'s> {
    shape: ConvShape,
    record: LayerBackward,
    /// The forward attributes of an int8 layer.
    attrs: Option<&'s QConvAttrs>,
    depthwise: bool,
    /// Output pixels.
    pixels: usize,
    rank: usize,
    parts: usize,
    has_delta: bool,
    keeps_input: bool,
}

impl<'s> Layer<'s> {
    fn quantized(launch: &mut Launch<'_, 's>, depthwise: bool) -> Result<Self, KernelError> {
        let attrs: &'s QConvAttrs = launch.step.attrs()?;
        let mut layer = Self::new(launch, &attrs.window, attrs.groups, depthwise)?;
        let first = operands(launch.step);
        layer.record.multiplier = launch.input(first + 3)?;
        layer.record.codes = 1;
        layer.record.zero_point = attrs.in_zero_point;
        (layer.record.in_scale, layer.record.out_scale) = (attrs.in_scale, attrs.out_scale);
        layer.attrs = Some(attrs);
        Ok(layer)
    }

    fn real(launch: &mut Launch<'_, 's>, depthwise: bool) -> Result<Self, KernelError> {
        if launch.terms.patched.is_some() {
            return Err(KernelError::Terms(launch.step.op));
        }
        let attrs: &'s ConvAttrs = launch.step.attrs()?;
        let mut layer = Self::new(launch, &attrs.window, attrs.groups, depthwise)?;
        (layer.record.in_scale, layer.record.out_scale) = (1.0, 1.0);
        Ok(layer)
    }

    /// Inputs behind the incoming gradient: codes, weight, sums of its rows, multiplier, bias, scale and zero point.
    fn dynamic(launch: &mut Launch<'_, 's>) -> Result<Self, KernelError> {
        let mut layer = Self::real(launch, false)?;
        let first = operands(launch.step);
        let record = &mut layer.record;
        record.row_sums = launch.input(first + 2)?;
        record.multiplier = launch.input(first + 3)?;
        record.bias = launch.input(first + 4)?;
        record.run_scale = launch.input(first + 5)?;
        record.run_zero = launch.input(first + 6)?;
        record.codes = 1;
        Ok(layer)
    }

    fn new(
        launch: &mut Launch<'_, 's>,
        window: &ingraft_kernel::attrs::Window,
        groups: u32,
        depthwise: bool,
    ) -> Result<Self, KernelError> {
        let (step, terms) = (launch.step, launch.terms);
        let refused = KernelError::Terms(step.op);
        let rank = match terms.two_factor.map(|term| (term.rank, term.factors)) {
            Some((rank, Factors::F32 { .. })) if !depthwise => rank,
            Some(_) => return Err(refused),
            None => 0,
        };
        let entries = match terms.sparse.map(|sparse| sparse.values) {
            Some(SparseValues::F32(values)) => values.len(),
            Some(SparseValues::I16(_)) => return Err(refused),
            None => 0,
        };
        let first = operands(step);
        let (x, dy) = (step.input(first)?, step.input(0)?);
        let wanted = step.outputs().first();
        let keeps_input = x.shape.elements() != 0;
        let input = if keeps_input { x.shape } else { wanted.map_or(x.shape, |dx| dx.shape) };
        let shape = ConvShape::new(window, groups as usize, input, dy.shape);
        let shape = shape.ok_or(KernelError::Operands(step.op))?;
        if launch.sums.read_input() && !keeps_input && dy.shape.elements() != 0 {
            return Err(KernelError::Operands(step.op));
        }
        let ([n, h, w, c], [_, oh, ow, o]) = (shape.input, shape.output);
        let pixels = n.saturating_mul(oh).saturating_mul(ow);
        let parts = (pixels / PART).clamp(1, MOST_PARTS);
        // Every extent that a kernel multiplies out.
        for count in [pixels.saturating_mul(o), n.saturating_mul(h).saturating_mul(w).saturating_mul(c)] {
            int(step, count)?;
        }
        let [n, h, w, c, oh, ow, o] = [n, h, w, c, oh, ow, o].map(|extent| extent as i32);
        let sums = launch.sums;
        let record = LayerBackward {
            dy: launch.input(0)?,
            mask: if first == 2 { launch.input(1)? } else { 0 },
            input: if keeps_input { launch.input(first)? } else { 0 },
            weight: launch.input(first + 1)?,
            bias: launch.input(first + 2)?,
            dx: if wanted.is_some() { launch.output(0)? } else { 0 },
            terms: launch.terms()?,
            down: sums.down,
            up: sums.up,
            sparse: sums.sparse,
            scale: sums.scale,
            shift: sums.shift,
            dense: sums.dense,
            n,
            h,
            w,
            c,
            oh,
            ow,
            o,
            window: Window::from(window),
            groups: shape.groups as i32,
            in_group: shape.in_group as i32,
            out_group: shape.out_group as i32,
            row: shape.row() as i32,
            value_scale: 1.0,
            linear: i32::from(is_linear(&shape)),
            depthwise: i32::from(depthwise),
            accumulate: (launch.accumulate & 1) as i32,
            rank: rank as i32,
            entries: int(step, entries)?,
            splits: parts as i32,
            ..LayerBackward::default()
        };
        let has_delta = terms.has_delta();
        Ok(Self { shape, record, attrs: None, depthwise, pixels, rank, parts, has_delta, keeps_input })
    }

    fn run(mut self, launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
        if self.shape.input[0] == 0 {
            return Ok(());
        }
        self.lay_out(launch)?;
        if self.rank != 0 {
            let rows = self.shape.groups.saturating_mul(self.rank.div_ceil(RANKS));
            launch.grid(
                "conv_backward_latents",
                (self.pixels as u32, rows as u32, 2),
                SHARERS,
                &self.record,
            )?;
        }
        self.affine(launch)?;
        self.factors(launch)?;
        self.deltas(launch)?;
        if self.record.stage != 0 {
            launch.elements("layer_backward_stage", self.outputs(), &self.record)?;
            self.record.dy = self.record.stage;
            (self.record.mask, self.record.staged) = (0, 1);
        }
        if self.record.dx == 0 { Ok(()) } else { self.input(launch) }
    }

    /// Elements of the forward output.
    fn outputs(&self) -> usize {
        self.pixels.saturating_mul(self.shape.output[3])
    }

    /// Elements of the weight.
    fn weights(&self) -> usize {
        self.shape.output[3].saturating_mul(self.shape.row())
    }

    /// Elements of both factors.
    fn factor_lengths(&self) -> (usize, usize) {
        let downs = self.shape.groups.saturating_mul(self.rank).saturating_mul(self.shape.row());
        (downs, self.shape.output[3].saturating_mul(self.rank))
    }

    /// Places everything that is only needed within the step.
    fn lay_out(&mut self, launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
        let latents = self.pixels.saturating_mul(self.shape.groups).saturating_mul(self.rank);
        let (downs, ups) = self.factor_lengths();
        let dense = if self.record.dense == 0 { 0 } else { self.weights() };
        let most = downs.saturating_add(ups).max(dense).max(self.shape.output[3].saturating_mul(2));
        let record = &mut self.record;
        let in_place = record.dx != 0 && same_place(launch.step);
        let sizes = [
            (&mut record.latents, if self.keeps_input { latents } else { 0 }),
            (&mut record.dlatents, latents),
            (
                &mut record.weights,
                if self.has_delta && record.dx != 0 && !self.depthwise {
                    self.shape.output[3].saturating_mul(self.shape.row())
                } else {
                    0
                },
            ),
            (
                &mut record.values,
                if record.scale == 0 { 0 } else { self.pixels.saturating_mul(self.shape.output[3]) },
            ),
            (&mut record.parts, if self.parts == 1 { 0 } else { most.saturating_mul(self.parts) }),
            (&mut record.stage, if in_place { self.pixels.saturating_mul(self.shape.output[3]) } else { 0 }),
        ];
        let bytes = |count: usize| count.saturating_mul(4).next_multiple_of(256);
        let total = sizes.iter().fold(0usize, |total, (_, count)| total.saturating_add(bytes(*count)));
        let mut at = if total == 0 { 0 } else { launch.scratch(total)? };
        for (address, count) in sizes {
            *address = if count == 0 { 0 } else { at };
            at = at.saturating_add(bytes(count) as u64);
        }
        Ok(())
    }

    /// Gradients of scale and shift.
    fn affine(&mut self, launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
        if self.record.scale == 0 && self.record.shift == 0 {
            return Ok(());
        }
        match self.attrs.filter(|_| !self.depthwise) {
            _ if self.record.scale == 0 => {}
            Some(attrs) => {
                // The forward kernel, stopped before scale and shift, in output steps.
                let LayerBackward { input, weight, bias, multiplier, values, terms, .. } = self.record;
                let base = QConv::new(attrs, &self.shape);
                let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
                let output = values;
                let record = QConv {
                    input,
                    weight,
                    bias,
                    multiplier,
                    output,
                    terms,
                    lo,
                    hi,
                    out_kind: 1,
                    raw: 1,
                    ..base
                };
                conv::dense(launch, &record, &self.shape)?;
                self.record.value_scale = attrs.out_scale;
            }
            None => launch.elements("layer_backward_values", self.outputs(), &self.record)?,
        }
        let channels = self.shape.output[3];
        let blocks = channels.div_ceil(LANES) as u32;
        launch.grid("layer_backward_affine", (blocks, self.parts as u32, 1), SLICES, &self.record)?;
        let first = self.parts.saturating_mul(channels);
        self.sum(launch, self.record.shift, 0, channels)?;
        self.sum(launch, self.record.scale, first, channels)
    }

    /// Gradients of the two factors.
    fn factors(&self, launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
        if self.record.down == 0 && self.record.up == 0 {
            return Ok(());
        }
        let columns = self.shape.row().max(self.shape.out_group).div_ceil(LANES);
        let rows = self.shape.groups.saturating_mul(self.rank.div_ceil(RANKS));
        let grid = (columns as u32, rows as u32, 2 * self.parts as u32);
        launch.grid("conv_backward_factors", grid, SLICES, &self.record)?;
        let (downs, ups) = self.factor_lengths();
        self.sum(launch, self.record.down, 0, downs)?;
        self.sum(launch, self.record.up, self.parts.saturating_mul(downs), ups)
    }

    /// Gradients of dense and sparse deltas.
    fn deltas(&self, launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
        let (parts, row) = (self.parts as u32, self.shape.row());
        if self.record.dense != 0 {
            if self.depthwise {
                let blocks = self.shape.input[3].div_ceil(LANES) as u32;
                launch.grid("depthwise_backward_dense", (blocks, row as u32, parts), SLICES, &self.record)?;
            } else {
                let rows = self.shape.groups.saturating_mul(self.shape.out_group.div_ceil(RANKS));
                let grid = (row.div_ceil(LANES) as u32, rows as u32, parts);
                launch.grid("conv_backward_dense", grid, SLICES, &self.record)?;
            }
            self.sum(launch, self.record.dense, 0, self.weights())?;
        }
        if self.record.sparse == 0 {
            return Ok(());
        }
        let blocks = (self.record.entries as usize).div_ceil(ENTRIES);
        launch.grid("layer_backward_sparse", (blocks as u32, 1, 1), 32 * ENTRIES as u32, &self.record)
    }

    /// The gradient of the layer's input.
    fn input(&self, launch: &mut Launch<'_, '_>) -> Result<(), KernelError> {
        let [n, h, w, c] = self.shape.input;
        let pixels = n.saturating_mul(h).saturating_mul(w);
        if self.depthwise {
            let kernel = match self.shape.kernel {
                [3, 3] => "depthwise_backward_input_three",
                [5, 5] => "depthwise_backward_input_five",
                _ => "depthwise_backward_input",
            };
            return launch.elements(kernel, pixels.saturating_mul(c), &self.record);
        }
        if self.record.weights != 0 {
            launch.elements("conv_backward_weights", self.weights(), &self.record)?;
        }
        let [kh, kw] = self.shape.kernel;
        let per_tap = self.shape.out_group.div_ceil(CHUNK).saturating_add(self.rank.div_ceil(CHUNK));
        let warps = kh.saturating_mul(kw).saturating_mul(per_tap).clamp(1, SLICES as usize / LANES);
        let real = self.record.codes == 0 || self.record.weights != 0;
        let kernel = if real { "conv_backward_input_f32" } else { "conv_backward_input_qc8w" };
        let columns = self.shape.in_group.div_ceil(LANES);
        let grid = (pixels.div_ceil(COVER) as u32, columns as u32, self.shape.groups as u32);
        launch.grid(kernel, grid, (warps * LANES) as u32, &self.record)
    }

    /// Adds the parts of gradient `sums` up, `count` in each, from part `first` on.
    fn sum(
        &self,
        launch: &mut Launch<'_, '_>,
        sums: u64,
        first: usize,
        count: usize,
    ) -> Result<(), KernelError> {
        if self.parts == 1 || sums == 0 {
            return Ok(());
        }
        let parts = self.record.parts.saturating_add(first.saturating_mul(4) as u64);
        let record = SumParts { parts, sums, count: int(launch.step, count)?, splits: self.parts as i32 };
        launch.elements("sum_parts", count, &record)
    }
}

/// The number of inputs before the forward step's own: the gradient and, if there is one, the mask.
pub(super) fn operands(step: &Step<'_>) -> usize {
    if step.input_dtype(1) == Some(DType::U8) { 2 } else { 1 }
}

/// Whether the first output stands where the first input does.
pub(super) fn same_place(step: &Step<'_>) -> bool {
    let (Some(dy), [dx]) = (step.inputs().first(), step.outputs()) else { return false };
    matches!((dy.place, dx.place), (Place::Memory(from), Place::Memory(to)) if from == to)
}
