//! Backward steps that write the gradient of their input over the gradient of their output.
//!
//! Of two gradients of one size only one has to be in memory: each row is read before it is written. The step's own
//! kernel computes it, row by row, into a window of as many rows as it reaches over; a row leaves the window once no
//! later one adds to it. Sums are in the order of the whole step, so the bits are the same.

use core::ops::Range;

use ingraft_tensor::{Shape, View, ViewMut, bytes};
use zerocopy::IntoBytes;

use crate::attrs::Window;
use crate::requantize::bit;
use crate::{Call, Kernel, KernelError, MAX_INPUTS, OpCode, Place, SiteGrads, SiteTerms, Step};

/// Whether a backward step of this kind could write `dx` over `dy`.
pub fn possible(op: OpCode, attrs: &[u8], dy: Shape, dx: Shape) -> bool {
    Pace::new(op, attrs, dy, dx).is_some()
}

/// Whether `step` writes its first output over its first input.
pub(crate) fn asked(step: &Step<'_>) -> bool {
    let (Some(dy), [dx]) = (step.inputs().first(), step.outputs()) else { return false };
    matches!((dy.place, dx.place), (Place::Memory(from), Place::Memory(to)) if from == to && from.len != 0)
}

/// Replaces the gradient of the output in the first bytes by that of the input, in the scratch of the second.
type Run = fn(&mut Work<'_, '_>, &mut [u8], &mut [u8]) -> Result<(), KernelError>;

/// What a row of such an operator has beside its kernel. Dispatch reaches it through the row alone: firmware without
/// backward rows links none of it.
#[derive(Clone, Copy, Debug)]
pub struct InPlace {
    /// Scratch bytes that a step needs before those of its kernel.
    pub(crate) workspace: fn(&Step<'_>) -> usize,
    /// Runs it.
    pub(crate) run: Run,
}

impl InPlace {
    /// What rows of `op` have.
    pub(crate) const fn of(op: OpCode) -> Option<Self> {
        match op {
            OpCode::AddBackward
            | OpCode::UnaryBackward
            | OpCode::LookupBackward
            | OpCode::ConvBackward
            | OpCode::DepthwiseBackward => {
                Some(Self { workspace, run: |work, held, workspace| work.run(held, workspace) })
            }
            _ => None,
        }
    }
}

fn workspace(step: &Step<'_>) -> usize {
    let pace = || Pace::new(step.op, step.attrs, step.input(0).ok()?.shape, step.output(0).ok()?.shape);
    if asked(step) { pace().map_or(0, |pace| pace.workspace()) } else { 0 }
}

/// How a step advances.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// By rows of images `[N, H, W, C]` of equal size, each reaching over some rows of the input.
    Rows { samples: usize, height: usize, row: usize, reach: usize, top: usize },
    /// By pieces of elements that have nothing to do with each other.
    Pieces,
}

impl Pace {
    fn new(op: OpCode, attrs: &[u8], dy: Shape, dx: Shape) -> Option<Self> {
        match op {
            OpCode::AddBackward | OpCode::UnaryBackward | OpCode::LookupBackward => {
                return (dy.elements() == dx.elements()).then_some(Self::Pieces);
            }
            OpCode::ConvBackward | OpCode::DepthwiseBackward => {}
            _ => return None,
        }
        // Every record of a window begins with it.
        let window: Window = zerocopy::FromBytes::read_from_prefix(attrs).ok()?.0;
        let ([n, oh, ow, o], [samples, height, w, c]) = (dy.nhwc()?, dx.nhwc()?);
        let row = w.checked_mul(c)?;
        let reach = (window.kernel[0] as usize).checked_sub(1)?.checked_mul(window.dilation[0] as usize)?;
        let same = n == samples && oh == height && ow.checked_mul(o)? == row && window.stride[0] == 1;
        let top = window.pad[0] as usize;
        (same && top <= reach).then_some(Self::Rows {
            samples,
            height,
            row,
            reach: reach.checked_add(1)?,
            top,
        })
    }

    fn workspace(&self) -> usize {
        let values = match *self {
            Self::Rows { row, reach, .. } => reach.saturating_mul(row),
            Self::Pieces => PIECE,
        };
        bytes::align_up(values.saturating_mul(size_of::<f32>()))
    }
}

/// What a step works on: operands beside the gradient, terms and their gradients.
pub(crate) struct Work<'w, 'c> {
    pub(crate) step: &'w Step<'w>,
    pub(crate) row: &'static Kernel,
    /// The operands; the first, which is written, is not read.
    pub(crate) inputs: &'w [View<'c>],
    pub(crate) terms: SiteTerms<'w>,
    pub(crate) grads: SiteGrads<'w>,
    pub(crate) packed: &'w [u8],
}

impl Work<'_, '_> {
    /// Replaces the gradient of the output in `held` by that of the input.
    ///
    /// # Errors
    /// [`KernelError::Operands`] for a step that cannot be run so; those of its kernel.
    fn run(&mut self, held: &mut [u8], workspace: &mut [u8]) -> Result<(), KernelError> {
        let error = KernelError::Operands(self.step.op);
        let (dy, dx) = (self.step.input(0)?.shape, self.step.output(0)?.shape);
        let pace = Pace::new(self.step.op, self.step.attrs, dy, dx).ok_or(error)?;
        let memory = KernelError::Memory(self.step.op);
        let (own, rest) = workspace.split_at_mut_checked(pace.workspace()).ok_or(memory)?;
        let (own, held) = (bytes::cast_mut::<f32>(own).ok_or(memory)?, bytes::cast_mut(held).ok_or(memory)?);
        match pace {
            Pace::Rows { .. } => self.rows(&pace, held, own, rest),
            Pace::Pieces => self.pieces(held, own, rest),
        }
    }

    /// The elements of `held` from `start`, masked ones as 0.
    fn read(&self, held: &[f32], start: usize, to: &mut [f32]) -> Option<()> {
        let source = held.get(start..)?.get(..to.len())?;
        match mask(self.inputs) {
            None => to.iter_mut().zip(source).for_each(|(t, s)| *t = *s),
            Some(mask) => {
                for (i, (t, s)) in (start..).zip(to.iter_mut().zip(source)) {
                    *t = if bit(mask, i) { *s } else { 0.0 };
                }
            }
        }
        Some(())
    }

    /// Sets to 0 what the mask does not let pass, in `dy` from element `start` on.
    fn close(&self, start: usize, dy: &mut [f32]) {
        let Some(mask) = mask(self.inputs) else { return };
        for (_, dy) in (start..).zip(dy).filter(|(i, _)| !bit(mask, *i)) {
            *dy = 0.0;
        }
    }

    fn rows(
        &mut self,
        pace: &Pace,
        held: &mut [f32],
        own: &mut [f32],
        rest: &mut [u8],
    ) -> Result<(), KernelError> {
        let error = KernelError::Operands(self.step.op);
        let Pace::Rows { samples, height, row, reach, top } = *pace else { return Err(error) };
        let window = own.get_mut(..reach.wrapping_mul(row)).ok_or(error)?;
        for n in 0..samples {
            let first = n.wrapping_mul(height);
            window.fill(0.0);
            let mut from = 0usize;
            for y in 0..height {
                let at = |y: usize| first.wrapping_add(y).wrapping_mul(row);
                let dy = held.get_mut(at(y)..).and_then(|h| h.get_mut(..row)).ok_or(error)?;
                self.close(at(y), dy);
                let to = y.saturating_add(reach).saturating_sub(top).min(height);
                let band = Band { n, from, to, above: from.saturating_add(top).saturating_sub(y), reach };
                let covered = to.saturating_sub(from).wrapping_mul(row);
                self.band(&band, dy, window.get_mut(..covered).ok_or(error)?, rest)?;
                // Rows that no later one reaches.
                let last = y.saturating_add(1) == height;
                let next = if last { to } else { y.saturating_add(1).saturating_sub(top) };
                while from < next {
                    let target = held.get_mut(at(from)..).and_then(|h| h.get_mut(..row)).ok_or(error)?;
                    target.iter_mut().zip(&*window).for_each(|(t, w)| *t = *w);
                    shift(window, row);
                    from = from.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// One row of the output's gradient, added to the rows of the input's that it reaches.
    fn band(
        &mut self,
        band: &Band,
        dy: &[f32],
        window: &mut [f32],
        workspace: &mut [u8],
    ) -> Result<(), KernelError> {
        let error = KernelError::Operands(self.step.op);
        let rows = band.to.saturating_sub(band.from);
        let below = band.reach.saturating_sub(rows).saturating_sub(band.above);
        let record = self.step.attrs;
        let mut words = [0u32; WORDS];
        let attrs = words.as_mut_bytes().get_mut(..record.len()).ok_or(error)?;
        attrs.iter_mut().zip(record).for_each(|(w, b)| *w = *b);
        let [_, _, _, _, _, _, top_word, _, bottom_word, ..] = &mut words;
        (*top_word, *bottom_word) = (band.above as u32, below as u32);
        let image = |shape: Shape, rows: usize| {
            let &[_, _, w, c] = shape.dims() else { return Err(error) };
            Shape::new(&[1, rows as u32, w, c]).map_err(|_| error)
        };
        let dy_shape = image(self.step.input(0)?.shape, 1)?;
        let dx_shape = image(self.step.output(0)?.shape, rows)?;
        let mut inputs = [View::EMPTY; MAX_INPUTS];
        let operands = operands(self.inputs);
        let count = operands.len().saturating_add(1);
        let (x, constants) = operands.split_first().ok_or(error)?;
        let x = if x.shape().elements() == 0 { Some(*x) } else { rows_of(x, band.n, band.from..band.to) };
        let cut = [View::of(dy, dy_shape).ok_or(error)?, x.ok_or(error)?];
        inputs.iter_mut().zip(cut.iter().chain(constants)).for_each(|(slot, view)| *slot = *view);
        let dx = ViewMut::new(ingraft_tensor::DType::F32, dx_shape, bytes::of_mut(window)).ok_or(error)?;
        let attrs = words.as_bytes().get(..record.len()).ok_or(error)?;
        let call = &mut Call {
            op: self.step.op,
            attrs,
            inputs: inputs.get(..count).ok_or(error)?,
            outputs: &mut [dx],
            workspace,
            packed: self.packed,
            terms: self.terms,
            grads: again(&mut self.grads),
            accumulate: 1,
        };
        (self.row.run)(call)
    }

    fn pieces(&mut self, held: &mut [f32], own: &mut [f32], rest: &mut [u8]) -> Result<(), KernelError> {
        let error = KernelError::Operands(self.step.op);
        let all = held.len();
        let mut start = 0usize;
        while start < all {
            let len = all.saturating_sub(start).min(PIECE);
            let dy = own.get_mut(..len).ok_or(error)?;
            self.read(held, start, dy).ok_or(error)?;
            let shape = Shape::new(&[len as u32]).map_err(|_| error)?;
            let mut inputs = [View::EMPTY; MAX_INPUTS];
            let operands = operands(self.inputs);
            let count = operands.len().saturating_add(1);
            let first = View::of(&*dy, shape).ok_or(error)?;
            let mut slots = inputs.iter_mut();
            slots.next().into_iter().for_each(|slot| *slot = first);
            for (slot, operand) in slots.zip(operands) {
                *slot = piece(operand, start, len, all).ok_or(error)?;
            }
            let out = held.get_mut(start..).and_then(|h| h.get_mut(..len)).ok_or(error)?;
            let dx = ViewMut::new(ingraft_tensor::DType::F32, shape, bytes::of_mut(out)).ok_or(error)?;
            let call = &mut Call {
                op: self.step.op,
                attrs: self.step.attrs,
                inputs: inputs.get(..count).ok_or(error)?,
                outputs: &mut [dx],
                workspace: &mut *rest,
                packed: self.packed,
                terms: self.terms,
                grads: again(&mut self.grads),
                accumulate: 0,
            };
            (self.row.run)(call)?;
            start = start.saturating_add(len);
        }
        Ok(())
    }
}

/// Rows `rows` of image `n` of `x`.
fn rows_of<'c>(x: &View<'c>, n: usize, rows: Range<usize>) -> Option<View<'c>> {
    let &[_, height, w, c] = x.shape().dims() else { return None };
    let stride = (w as usize).checked_mul(c as usize)?.checked_mul(x.dtype().size())?;
    let start = n.checked_mul(height as usize)?.checked_add(rows.start)?.checked_mul(stride)?;
    let bytes = x.bytes().get(start..)?.get(..rows.len().checked_mul(stride)?)?;
    View::new(x.dtype(), Shape::new(&[1, rows.len() as u32, w, c]).ok()?, bytes)
}

/// The mask among a step's inputs, if there is one.
fn mask<'c>(inputs: &[View<'c>]) -> Option<&'c [u8]> {
    let mask = inputs.get(1)?;
    (mask.dtype() == ingraft_tensor::DType::U8).then_some(mask.bytes())
}

/// The operands behind the gradient and its mask.
fn operands<'i, 'c>(inputs: &'i [View<'c>]) -> &'i [View<'c>] {
    inputs.get(if mask(inputs).is_some() { 2 } else { 1 }..).unwrap_or(&[])
}

/// One output row and the input rows `from..to` that it reaches, `above` of its taps being in the padding over them.
struct Band {
    n: usize,
    from: usize,
    to: usize,
    above: usize,
    reach: usize,
}

/// Elements `start..start + len` of an operand with as many as the gradient; another, such as a table, whole.
fn piece<'c>(operand: &View<'c>, start: usize, len: usize, all: usize) -> Option<View<'c>> {
    if operand.shape().elements() != all {
        return Some(*operand);
    }
    let size = operand.dtype().size();
    let bytes = operand.bytes().get(start.checked_mul(size)?..)?.get(..len.checked_mul(size)?)?;
    View::new(operand.dtype(), Shape::new(&[len as u32]).ok()?, bytes)
}

/// Drops the first `row` elements and fills up with zeros.
fn shift(window: &mut [f32], row: usize) {
    let len = window.len();
    let mut at = 0usize;
    while at < len {
        let next = window.get(at.saturating_add(row)).copied().unwrap_or(0.0);
        if let Some(slot) = window.get_mut(at) {
            *slot = next;
        }
        at = at.saturating_add(1);
    }
}

/// The same accumulators for one more call.
fn again<'g>(grads: &'g mut SiteGrads<'_>) -> SiteGrads<'g> {
    SiteGrads {
        down: grads.down.as_deref_mut(),
        up: grads.up.as_deref_mut(),
        sparse: grads.sparse.as_deref_mut(),
        scale: grads.scale.as_deref_mut(),
        shift: grads.shift.as_deref_mut(),
        dense: grads.dense.as_deref_mut(),
    }
}

/// Elements of a piece.
const PIECE: usize = 256;
/// Words of the longest record of a step run so.
const WORDS: usize = 20;
